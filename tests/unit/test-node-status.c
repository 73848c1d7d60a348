/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "node/status.h"

static void status_is_understood(void **state) {
        static const struct {
                const char *output, *node, *version;
                bool started;
        } rows[] = {
                { "Node 'e@127.0.0.1' 4.4.0 is started\n", "e@127.0.0.1", "4.4.0", true },
                { "Node 'e@127.0.0.1' 4.3.22 is starting\n", "e@127.0.0.1", "4.3.22", false },
                { "Node 'e@127.0.0.1' 4.3.22 is stopping\n", "e@127.0.0.1", "4.3.22", false },
                { "a warning\r\n  Node\t'n1@h.x'\n 4.4.19  is\tstarted", "n1@h.x", "4.4.19", true },
                { "Node 'e@h' is started\nApplication emqx 4.3.0 is running\n", "e@h", "4.3.0", true },
                { "Node 'e@h' 4.3.1 is started\nApplication emqx 4.3.1 is running\n", "e@h", "4.3.1", true },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *node = NULL, *version = NULL;
                bool started;

                assert_int_equal(status_parse(rows[i].output, &node, &version, &started), 0);
                assert_string_equal(node, rows[i].node);
                assert_string_equal(version, rows[i].version);
                assert_int_equal(started, rows[i].started);
                assert_int_equal(status_parse(rows[i].output, NULL, NULL, NULL), 0);
        }
}

static void other_output_is_no_status(void **state) {
        static const char *const bad[] = { "", "\n", "Node", "Node '", "Node 'emqx@127.0.0.1'",
                "Node 'emqx@127.0.0.1' not responding to pings.\n", "Node 'emqx@127.0.0.1' 4.4.0 is",
                "Node 'emqx@127.0.0.1' is started\n", "Node is not running!\n", "Usage: emqx_ctl\n",
                "RPC to 'emqx@127.0.0.1' failed: {'EXIT',{badarg,[{ets,match,[emqx_command,\n" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                char *node = NULL, *version = NULL;
                bool started;

                assert_int_equal(status_parse(bad[i], &node, &version, &started), -EBADMSG);
                assert_null(node);
                assert_null(version);
        }
}

static void broker_says_its_version(void **state) {
        static const char *const bad[] = { "", "version", "version :", "version : \n", "version : unknown\n",
                "the version   : 4.4.0\n", "conversion : 4.4.0\n" };
        char *version = NULL;

        (void) state;
        assert_int_equal(broker_version_parse("sysdescr  : EMQ X Broker\nversion   : 4.4.0\nuptime    : 2 minutes, "
                                              "3 seconds\ndatetime  : 2022-02-18 19:15:53\n",
                                         &version),
                        0);
        assert_string_equal(version, "4.4.0");
        version = mfree(version);
        assert_int_equal(broker_version_parse("\r\n  version:4.3.22", &version), 0);
        assert_string_equal(version, "4.3.22");
        version = mfree(version);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(broker_version_parse(bad[i], &version), -EBADMSG);
        assert_null(version);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(status_is_understood),
                cmocka_unit_test(other_output_is_no_status),
                cmocka_unit_test(broker_says_its_version),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
