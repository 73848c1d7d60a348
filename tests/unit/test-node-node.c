/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "base/fileio.h"
#include "base/strv.h"
#include "node/node.h"
#include "node/vars.h"

static char *root;

/* A file below root, which stands for /usr/lib/emqx; directories on the way are made. */
static void write_file(const char *name, const char *format, ...) _printf_(2, 3);
static void write_file(const char *name, const char *format, ...) {
        _cleanup_free_ char *path = NULL, *parent = NULL, *text = NULL;
        va_list ap;

        va_start(ap, format);
        assert_true(vasprintf(&text, format, ap) >= 0);
        va_end(ap);
        assert_true(asprintf(&path, "%s/%s", root, name) > 0);
        parent = strndup(path, (size_t) (strrchr(path, '/') - path));
        assert_non_null(parent);
        assert_int_equal(mkdir_parents(parent, 0755), 0);
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static int set_up(void **state) {
        (void) state;
        root = make_tmpdir();
        write_file("releases/emqx_vars",
                        "REL_VSN=\"4.3.22\"\nERTS_VSN=\"11.1\"\nRUNNER_ROOT_DIR=\"%s\"\nRUNNER_LOG_DIR=\"%s/log\"\n"
                        "RUNNER_ETC_DIR=\"%s/etc\"\nRUNNER_DATA_DIR=\"%s/data\"\nRUNNER_USER=\"emqx\"\n",
                        root, root, root, root);
        write_file("etc/emqx.conf",
                        "node.name = emqx@127.0.0.1\nnode.data_dir = %s/data\n"
                        "listener.tcp.external = 0.0.0.0:1883\n",
                        root);
        write_file("etc/plugins/emqx_management.conf", "management.listener.http = 8081\n");
        return 0;
}

static int tear_down(void **state) {
        (void) state;
        remove_tmpdir(root);
        return 0;
}

static Node *read_node(char **environment) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        Node *n = NULL;
        int r;

        r = node_read(root, environment, &n, &e);
        if (r < 0)
                fail_msg("%s", error_text(&e, r));
        return n;
}

static void assert_refused(char **environment, int error, const char *part_of_message) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        Node *n = NULL;

        assert_int_equal(node_read(root, environment, &n, &e), error);
        assert_null(n);
        assert_non_null(e.message);
        if (!strstr(e.message, part_of_message))
                fail_msg("\"%s\" does not say \"%s\"", e.message, part_of_message);
}

/* Below root. */
static void assert_path(const char *path, const char *expected) {
        assert_non_null(path);
        assert_int_equal(strncmp(path, root, strlen(root)), 0);
        assert_string_equal(path + strlen(root), expected);
}

static void vars_are_read_as_a_shell_does(void **state) {
        static const struct {
                const char *text, *value;
        } rows[] = {
                { "A=\"1\"\n", "1" },
                { "A='1 2'", "1 2" },
                { "A=1\n", "1" },
                { "A=1 # comment\n", "1" },
                { "  A=\"1\" # comment\r\n", "1" },
                { "A=\"1\"\nB=\"2\"\nA=\"3\"\n", "3" },
                { "A=\"\"\n", "" },
                { "A=\n", "" },
                { "A=\"1\"\nA=\"2\n", "1" },
                { "A=\"it's\"\n", "it's" },
                { "AA=1\nBA=2\n#A=3\nA =4\n", NULL },
                { "", NULL },
                { "A", NULL },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *value = NULL;

                assert_int_equal(vars_get(rows[i].text, "A", &value), rows[i].value != NULL);
                if (rows[i].value)
                        assert_string_equal(value, rows[i].value);
        }
}

static void an_installed_node_is_read(void **state) {
        _cleanup_(node_freep) Node *n = read_node(NULL);

        (void) state;
        assert_string_equal(n->root_dir, root);
        assert_path(n->etc_dir, "/etc");
        assert_path(n->data_dir, "/data");
        assert_path(n->log_dir, "/log");
        assert_string_equal(n->user, "emqx");
        assert_string_equal(n->rel_version, "4.3.22");
        assert_string_equal(n->node_name, "emqx@127.0.0.1");
        assert_null(n->extra_data_dir);
        assert_null(n->extra_data_dir_source);
        assert_string_equal(n->mqtt_host, "127.0.0.1");
        assert_int_equal(n->mqtt_port, 1883);
        assert_string_equal(n->management_host, "127.0.0.1");
        assert_int_equal(n->management_port, 8081);
}

static void relative_paths_start_at_the_root(void **state) {
        _cleanup_(node_freep) Node *n = NULL;

        (void) state;
        write_file("releases/emqx_vars",
                        "RUNNER_LOG_DIR=log\nRUNNER_ETC_DIR=./etc/\nRUNNER_DATA_DIR=data\n"
                        "RUNNER_USER=\"\"\nREL_VSN=4.3.0\nREL_VSN=\"4.3.12\"\n");
        write_file("etc/emqx.conf", "node.data_dir = .//data/\n");
        n = read_node(NULL);
        assert_path(n->etc_dir, "/etc");
        assert_path(n->data_dir, "/data");
        assert_path(n->log_dir, "/log");
        assert_string_equal(n->user, "");
        assert_string_equal(n->rel_version, "4.3.12");
        assert_null(n->extra_data_dir);
        assert_int_equal(n->mqtt_port, 0);
        assert_null(n->mqtt_host);
}

static void the_node_has_the_name_it_would_boot_with(void **state) {
        static const struct {
                const char *conf, *environment[4], *name;
        } rows[] = {
                { "a = 1\n", { NULL }, "emqx@127.0.0.1" },
                { "node.name = c@h\n", { NULL }, "c@h" },
                { "node.name = c@h\n", { "EMQX_NODE__NAME=env@h" }, "env@h" },
                { "node.name = c@h\n", { "EMQX_NODE__NAME=" }, "emqx@127.0.0.1" },
                { "node.name = c@h\n", { "EMQX_NAME=n" }, "c@h" },
                { "node.name = c@h\n", { "EMQX_NAME=n", "EMQX_HOST=" }, "c@h" },
                { "node.name = c@h\n", { "EMQX_NODE__NAME=env@h", "EMQX_NAME=n", "EMQX_HOST=h2" }, "n@h2" },
                { "node.name = c@h\n", { "EMQX_NAME=n", "EMQX_HOST=h2", "EMQX_NODE_NAME=all@h" }, "all@h" },
                { "node.name = c@h\n", { "EMQX_NODE_NAME=" }, "c@h" },
                { "node.name = c@h\n", { "NAME_ARG=-name arg@h", "EMQX_NODE_NAME=all@h" }, "arg@h" },
                { "include name.conf\n", { NULL }, "emqx@127.0.0.1" },
        };

        (void) state;
        write_file("name.conf", "node.name = included@h\n");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(node_freep) Node *n = NULL;

                write_file("etc/emqx.conf", "%s", rows[i].conf);
                n = read_node((char **) rows[i].environment);
                assert_string_equal(n->node_name, rows[i].name);
        }
}

static void a_second_data_directory_is_found(void **state) {
        _cleanup_(node_freep) Node *n = NULL;
        _cleanup_free_ char *source = NULL, *same = NULL;

        (void) state;
        write_file("etc/emqx.conf", "node.data_dir = /srv/emqx\n");
        n = read_node(NULL);
        assert_path(n->data_dir, "/data");
        assert_string_equal(n->extra_data_dir, "/srv/emqx");
        assert_true(asprintf(&source, "node.data_dir in %s/etc/emqx.conf", root) > 0);
        assert_string_equal(n->extra_data_dir_source, source);

        n = node_free(n);
        n = read_node(STRV_MAKE("EMQX_NODE__DATA_DIR=other"));
        assert_path(n->extra_data_dir, "/other");
        assert_string_equal(n->extra_data_dir_source, "EMQX_NODE__DATA_DIR");

        n = node_free(n);
        assert_true(asprintf(&same, "EMQX_NODE__DATA_DIR=%s//data/.", root) > 0);
        n = read_node(STRV_MAKE(same));
        assert_null(n->extra_data_dir);
}

static void listeners_are_where_a_client_reaches_them(void **state) {
        static const struct {
                const char *text, *host;
                unsigned port;
        } rows[] = {
                { "1883", "127.0.0.1", 1883 },
                { "0.0.0.0:1883", "127.0.0.1", 1883 },
                { "192.168.1.5:1884", "192.168.1.5", 1884 },
                { "[::]:1883", "::1", 1883 },
                { ":::1883", "::1", 1883 },
                { "[fd00::5]:65535", "fd00::5", 65535 },
        };
        static const char *const bad[] = { "", ":", "0", "65536", "99999999999", "-1", "1883x", "host:1883", ":1883",
                "1.2.3:1", "1.2.3.4:", "1.2.3.4:0", "[::]", "[]:1883", "[::1883", "on", " 1883", "0x10" };
        char *host = NULL;
        unsigned port = 7;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                assert_int_equal(node_listener_parse(rows[i].text, &host, &port), 0);
                assert_string_equal(host, rows[i].host);
                assert_int_equal(port, rows[i].port);
                host = mfree(host);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(node_listener_parse(bad[i], &host, &port), -EINVAL);
        assert_null(host);
}

static void listeners_may_be_absent_or_elsewhere(void **state) {
        _cleanup_(node_freep) Node *n = NULL;
        _cleanup_free_ char *path = NULL;

        (void) state;
        n = read_node(STRV_MAKE("EMQX_LISTENER__TCP__EXTERNAL=", "EMQX_MANAGEMENT__LISTENER__HTTP=10.0.0.1:9000"));
        assert_int_equal(n->mqtt_port, 0);
        assert_string_equal(n->management_host, "10.0.0.1");
        assert_int_equal(n->management_port, 9000);

        n = node_free(n);
        assert_true(asprintf(&path, "%s/etc/plugins/emqx_management.conf", root) > 0);
        assert_int_equal(unlink(path), 0);
        n = read_node(NULL);
        assert_int_equal(n->management_port, 0);
        assert_null(n->management_host);

        assert_refused(STRV_MAKE("EMQX_LISTENER__TCP__EXTERNAL=nowhere"), -EBADMSG, "listener.tcp.external");
}

static void what_is_no_node_is_refused(void **state) {
        static const char binary[] = "\177ELF\0\0REL_VSN=1";
        _cleanup_free_ char *vars = NULL, *conf = NULL;

        (void) state;
        assert_true(asprintf(&vars, "%s/releases/emqx_vars", root) > 0);
        assert_true(asprintf(&conf, "%s/etc/emqx.conf", root) > 0);

        write_file("etc/emqx.conf", "node.name = emqx@127.0.0.1\nnode.name\n");
        assert_refused(NULL, -EBADMSG, "etc/emqx.conf:2: ");
        assert_int_equal(unlink(conf), 0);
        assert_refused(NULL, -ENOENT, "etc/emqx.conf: ");

        write_file("releases/emqx_vars", "REL_VSN=4.3.0\n");
        assert_refused(NULL, -EBADMSG, "RUNNER_ETC_DIR is not set");
        write_file("releases/emqx_vars", "REL_VSN=\n");
        assert_refused(NULL, -EBADMSG, "REL_VSN is not set");
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, vars, binary, sizeof(binary), 0644), 0);
        assert_refused(NULL, -EBADMSG, "not a text file");
        assert_int_equal(truncate(vars, (off_t) 1 << 40), 0);
        assert_refused(NULL, -EFBIG, "emqx_vars");
        assert_int_equal(unlink(vars), 0);
        assert_int_equal(mkfifo(vars, 0600), 0);
        assert_refused(NULL, -EINVAL, "emqx_vars");
        assert_int_equal(unlink(vars), 0);
        assert_refused(NULL, -ENOENT, "No EMQX node is installed in ");
}

static void a_zip_has_its_directories_in_its_root(void **state) {
        _cleanup_(node_freep) Node *n = NULL;

        (void) state;
        write_file("releases/emqx_vars",
                        "REL_VSN=\"4.3.12\"\nRUNNER_ROOT_DIR=\"$(cd $(dirname $(readlink $0 || echo $0))/..; pwd -P)\"\n"
                        "RUNNER_LOG_DIR=\"$RUNNER_ROOT_DIR/log\"\nRUNNER_ETC_DIR=\"${RUNNER_ROOT_DIR}/etc\"\n"
                        "RUNNER_DATA_DIR=\"$RUNNER_ROOT_DIR/data\"\nRUNNER_USER=\"\"\n");
        write_file("etc/emqx.conf", "node.data_dir = data\n");
        n = read_node(NULL);
        assert_path(n->etc_dir, "/etc");
        assert_path(n->data_dir, "/data");
        assert_path(n->log_dir, "/log");
        assert_null(n->extra_data_dir);
        assert_string_equal(n->user, "");

        write_file("releases/emqx_vars",
                        "REL_VSN=1\nRUNNER_LOG_DIR=log\nRUNNER_ETC_DIR=\"$HOME/etc\"\nRUNNER_DATA_DIR=d\nRUNNER_USER=\n");
        assert_refused(NULL, -EBADMSG, "RUNNER_ETC_DIR: \"$HOME/etc\" is more than a path");
}

static void a_cookie_is_known_to_be_there(void **state) {
        static const struct {
                const char *conf;
                const char *variable;
                bool has_cookie;
        } cases[] = {
                { "node.name = a@b", NULL, false },
                { "node.cookie = secret", NULL, true },
                { "node.name = a@b", "EMQX_NODE_COOKIE=secret", true },
                { "node.name = a@b", "EMQX_NODE__COOKIE=secret", true },
                { "node.cookie = secret", "EMQX_NODE__COOKIE=", false },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(node_freep) Node *n = NULL;

                write_file("etc/emqx.conf", "%s\n", cases[i].conf);
                n = read_node(cases[i].variable ? STRV_MAKE(cases[i].variable) : NULL);
                assert_int_equal(n->has_cookie, cases[i].has_cookie);
        }
}

static void edited_directories_are_kept(void **state) {
        _cleanup_free_ char *etc = NULL, *data = NULL, *vars = NULL, *before = NULL, *after = NULL;
        _cleanup_(node_freep) Node *n = NULL;
        NodeDirectories d;
        bool changed;

        (void) state;
        assert_true(asprintf(&etc, "%s/etc", root) > 0);
        assert_true(asprintf(&data, "%s/moved", root) > 0);
        assert_true(asprintf(&vars, "%s/releases/emqx_vars", root) > 0);
        d = (NodeDirectories){ etc, data, "/var/log/elsewhere" };
        assert_int_equal(node_keep_directories(root, &d, &changed, NULL), 0);
        assert_true(changed);
        n = read_node(NULL);
        assert_string_equal(n->data_dir, data);
        assert_string_equal(n->log_dir, "/var/log/elsewhere");
        assert_string_equal(n->etc_dir, etc);

        assert_int_equal(read_file_at(AT_FDCWD, vars, 4096, &before, NULL), 0);
        assert_int_equal(node_keep_directories(root, &d, &changed, NULL), 0);
        assert_false(changed);
        assert_int_equal(read_file_at(AT_FDCWD, vars, 4096, &after, NULL), 0);
        assert_string_equal(after, before);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(vars_are_read_as_a_shell_does),
                cmocka_unit_test(listeners_are_where_a_client_reaches_them),
                cmocka_unit_test_setup_teardown(an_installed_node_is_read, set_up, tear_down),
                cmocka_unit_test_setup_teardown(relative_paths_start_at_the_root, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_node_has_the_name_it_would_boot_with, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_second_data_directory_is_found, set_up, tear_down),
                cmocka_unit_test_setup_teardown(listeners_may_be_absent_or_elsewhere, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_zip_has_its_directories_in_its_root, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_cookie_is_known_to_be_there, set_up, tear_down),
                cmocka_unit_test_setup_teardown(edited_directories_are_kept, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_no_node_is_refused, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
