/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "node/cluster.h"

static void assert_nodes(char **nodes, const char *expected) {
        _cleanup_free_ char *joined = strv_join(nodes, " ");

        assert_string_equal(joined ?: "", expected);
}

static void status_is_understood(void **state) {
        static const struct {
                const char *output, *running, *stopped;
        } rows[] = {
                { "Cluster status: #{running_nodes => ['emqx@127.0.0.1'],stopped_nodes => []}\n", "emqx@127.0.0.1",
                                "" },
                { "Cluster status: #{running_nodes =>\n                      ['emqx1@10.0.0.1','emqx2@10.0.0.2'],\n"
                  "                  stopped_nodes => ['emqx3@10.0.0.3']}\n",
                                "emqx1@10.0.0.1 emqx2@10.0.0.2", "emqx3@10.0.0.3" },
                { "=CRITICAL REPORT==== can't [tell] running_nodes\r\nCluster status:#{stopped_nodes=>[ ],\r\n\trunning_nodes\n=>\n[\n"
                  "'emqx@n-1.example.org' , emqx_2@host ]}",
                                "emqx@n-1.example.org emqx_2@host", "" },
                { "#{running_nodes => ['emqx@::1'],stopped_nodes => []}", "emqx@::1", "" },
                { "#{running_nodes => [],stopped_nodes => []}", "", "" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(cluster_status_done) ClusterStatus s = CLUSTER_STATUS_NULL;

                assert_int_equal(cluster_status_parse(rows[i].output, &s), 0);
                assert_nodes(s.running, rows[i].running);
                assert_nodes(s.stopped, rows[i].stopped);
        }
}

static void other_output_is_no_status(void **state) {
        static const char *const bad[] = {
                "",
                "Node 'emqx@127.0.0.1' not responding to pings.\n",
                "RPC to 'emqx@127.0.0.1' failed: {'EXIT',{badarg,[{ets,match,[emqx_command,\n",
                "Cluster status: #{running_nodes => ['emqx@127.0.0.1']}",
                "Cluster status: #{running_nodes => ['emqx@127.0.0.1'],stopped_nodes => [",
                "Cluster status: #{running_nodes => ['emqx@127.0.0.1',],stopped_nodes => []}",
                "Cluster status: #{running_nodes => ['emqx@127.0.0.1' 'emqx@b'],stopped_nodes => []}",
                "Cluster status: #{running_nodes => [,'emqx@127.0.0.1'],stopped_nodes => []}",
                "Cluster status: #{running_nodes => 'emqx@127.0.0.1',stopped_nodes => []}",
                "#{running_nodes => ['emqx@a],stopped_nodes => []}",
                "#{running_nodes => ['emqx'],stopped_nodes => []}",
                "#{running_nodes => ['@a'],stopped_nodes => []}",
                "#{running_nodes => ['emqx@'],stopped_nodes => []}",
                "#{running_nodes => ['emqx@a@b'],stopped_nodes => []}",
                "#{running_nodes => ['emqx@a\\'b'],stopped_nodes => []}",
                "#{running_nodes => ['emqx@a\nb'],stopped_nodes => []}",
                "#{running_nodes => ['emqx@a\x1b[2J'],stopped_nodes => []}",
                "#{running_nodes => [emqx@a-b],stopped_nodes => []}",
                "#{running_nodes => [[['emqx@a']]],stopped_nodes => []}",
        };
        char name[400], *output = NULL;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ClusterStatus s = CLUSTER_STATUS_NULL;

                assert_int_equal(cluster_status_parse(bad[i], &s), -EBADMSG);
                assert_null(s.running);
                assert_null(s.stopped);
        }

        memset(name, 'a', sizeof(name));
        name[1] = '@';
        assert_true(asprintf(&output, "#{running_nodes => ['%.*s'],stopped_nodes => []}", (int) sizeof(name), name) >
                        0);
        assert_int_equal(cluster_status_parse(output, &(ClusterStatus){ 0 }), -EBADMSG);
        free(output);
}

static void views_are_understood(void **state) {
        ClusterView *v = NULL;
        size_t n = 0;

        (void) state;
        assert_int_equal(cluster_views_parse(
                                         "[warning] something\n"
                                         "[{'emqx@10.99.0.1',['emqx@10.99.0.1','emqx@10.99.0.2'],\n"
                                         "                   ['emqx@10.99.0.1','emqx@10.99.0.2','emqx@10.99.0.3'],\n"
                                         "                   started,300000,no},\n"
                                         " {'emqx@10.99.0.2',[],[],no,0,'0123456789abcdef0123456789abcdef'}]\n",
                                         &v, &n),
                        0);
        assert_int_equal(n, 2);
        assert_string_equal(v[0].node, "emqx@10.99.0.1");
        assert_nodes(v[0].running, "emqx@10.99.0.1 emqx@10.99.0.2");
        assert_nodes(v[0].members, "emqx@10.99.0.1 emqx@10.99.0.2 emqx@10.99.0.3");
        assert_true(v[0].started);
        assert_int_equal(v[0].autoclean_msec, 300000);
        assert_null(v[0].upgrade);
        assert_string_equal(v[1].node, "emqx@10.99.0.2");
        assert_nodes(v[1].running, "");
        assert_false(v[1].started);
        assert_int_equal(v[1].autoclean_msec, 0);
        assert_string_equal(v[1].upgrade, "0123456789abcdef0123456789abcdef");
        v = cluster_views_free(v, n);
        assert_null(v);
}

static void other_output_is_no_view(void **state) {
        static const char *const bad[] = {
                "",
                "[",
                "[]",
                "Node is not running!\n",
                "[{",
                "[{'a@b',[],[],started,0,no}",
                "[{'a@b',[],[],started,0,no},]",
                "[{'a@b',[],[],started,0}]",
                "[{'a@b',[],[],started,-1,no}]",
                "[{'a@b',[],[],started,1e9,no}]",
                "[{'a@b',[],[],started,9999999999999999999999,no}]",
                "[{'a@b',[],[],started,0,\"text\"}]",
                "[{'a@b',[],[],started,0,'\x1b[31m'}]",
                "[{'a@b',{badrpc,nodedown},[],started,0,no}]",
                "[{'a b@c',[],[],started,0,no}]",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ClusterView *v = NULL;
                size_t n = 0;

                assert_int_equal(cluster_views_parse(bad[i], &v, &n), -EBADMSG);
                assert_null(v);
        }
}

static void query_marks_the_node_first(void **state) {
        static const char id[] = "0123456789abcdef0123456789abcdef";
        _cleanup_free_ char *looks = cluster_views_query(NULL), *marks = cluster_views_query(id);

        (void) state;
        assert_non_null(startswith(
                        marks, "application:set_env(emqx_upgrade, id, '0123456789abcdef0123456789abcdef'), "));
        assert_true(endswith(marks, looks));
        /* systemd would take them for its own. */
        assert_null(strpbrk(marks, "$%\"\\\n"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(status_is_understood),
                cmocka_unit_test(other_output_is_no_status),
                cmocka_unit_test(views_are_understood),
                cmocka_unit_test(other_output_is_no_view),
                cmocka_unit_test(query_marks_the_node_first),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
