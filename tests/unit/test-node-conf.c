/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "base/fileio.h"
#include "base/strv.h"
#include "node/conf.h"

static char *directory, *path;

static int set_up(void **state) {
        (void) state;
        directory = make_tmpdir();
        return asprintf(&path, "%s/emqx.conf", directory) < 0;
}

static int tear_down(void **state) {
        (void) state;
        remove_tmpdir(directory);
        free(path);
        return 0;
}

static void write_conf(const char *text) {
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void write_beside(const char *name, const char *text) {
        _cleanup_free_ char *full = NULL;

        assert_true(asprintf(&full, "%s/%s", directory, name) > 0);
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, full, text, strlen(text), 0644), 0);
}

/* expected NULL: not set. */
static void assert_value(const char *key, char **environment, const char *expected) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        _cleanup_free_ char *value = NULL;
        int r;

        r = conf_get(path, directory, key, environment, &value, &e);
        if (r < 0)
                fail_msg("%s: %s", key, error_text(&e, r));
        assert_int_equal(r, expected != NULL);
        if (expected)
                assert_string_equal(value, expected);
}

static void assert_refused(const char *key, char **environment, int error, const char *part_of_message) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        _cleanup_free_ char *value = NULL;

        assert_int_equal(conf_get(path, directory, key, environment, &value, &e), error);
        assert_null(value);
        assert_non_null(e.message);
        if (!strstr(e.message, part_of_message))
                fail_msg("\"%s\" does not say \"%s\"", e.message, part_of_message);
}

static void settings_are_read_as_cuttlefish_does(void **state) {
        static const struct {
                const char *text, *key, *value;
        } rows[] = {
                { "a = 1\n", "a", "1" },
                { "a=1", "a", "1" },
                { "\t a \t=\t 1 \t\r\n", "a", "1" },
                { "a = 1 \t", "a", "1 \t" },
                { "a = 1\r\nb = 2\r\n", "b", "2" },
                { "a = 1\na = 2\n", "a", "2" },
                { "a.b = one two  three\n", "a.b", "one two  three" },
                { "a = b = c # no comment\n", "a", "b = c # no comment" },
                { "a = \"quoted\"\n", "a", "\"quoted\"" },
                { "# a = 1\n  ## b\n\n \t\na = 3\n", "a", "3" },
                { "# a = 1", "a", NULL },
                { "", "a", NULL },
                { "{{ placeholder }}\na = 4\n", "a", "4" },
                { "a\\.b.c = 5\n", "a\\.b.c", "5" },
                { "a\\.b.c = 5\n", "a.b.c", NULL },
                { "a@b/c:d_e-f.0 = 6\n", "a@b/c:d_e-f.0", "6" },
                { "include = 7\n", "include", "7" },
                { "a = caf\xc3\xa9\n", "a", "caf\xc3\xa9" },
                { "ab = 8\n", "a", NULL },
                { "A = 9\n", "a", NULL },
                { "a = $(b)/$( c )x\nb = 1\nc = 2\n", "a", "1/2x" },
                { "a = $(b)\nb = $(c)\nc = 3\n", "a", "3" },
                { "a = $(b\n", "a", "$(b" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                write_conf(rows[i].text);
                assert_value(rows[i].key, NULL, rows[i].value);
        }
}

static void syntax_errors_name_file_and_line(void **state) {
        static const struct {
                const char *text, *where;
        } rows[] = {
                { "a = 1\nb\n", "emqx.conf:2: expected \"=\"" },
                { "a =\n", "emqx.conf:1: expected a value" },
                { "a = \t \r\n", "emqx.conf:1: expected a value" },
                { "a =", "emqx.conf:1: expected a value" },
                { "\n\n= 1\n", "emqx.conf:3: expected a key" },
                { ".a = 1\n", "emqx.conf:1: expected a key" },
                { "a. = 1\n", "emqx.conf:1: expected a key" },
                { "a..b = 1\n", "emqx.conf:1: expected a key" },
                { "a b = 1\n", "emqx.conf:1: expected \"=\"" },
                { "include\n", "emqx.conf:1: expected \"=\"" },
                { "{{a}} b\n", "emqx.conf:1: expected a key" },
                { "{{}}\n", "emqx.conf:1: expected a key" },
                { "listeners {\n", "emqx.conf:1: expected \"=\"" },
                { "a = \xe2\x82\xac\n", "emqx.conf:1: the value" },
                { "a = \xff\n", "emqx.conf:1: the value" },
                { "a = 1\n\x1b[31mb = 2\n", "emqx.conf:2: expected a key" },
                { "caf\xc3\xa9 = 1\n", "emqx.conf:1: expected \"=\"" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                write_conf(rows[i].text);
                assert_refused("a", NULL, -EBADMSG, rows[i].where);
        }
}

static void included_values_lose(void **state) {
        _cleanup_free_ char *text = NULL, *value = NULL;

        (void) state;
        write_beside("one.conf", "a = included\nb = included\nb = last\ninclude none.conf\n");
        write_beside("two.conf", "c = absolute\n");
        assert_true(asprintf(&text, "a = own\ninclude one.conf \ninclude %s/two.conf\n", directory) > 0);
        write_conf(text);
        assert_value("a", NULL, "own");
        assert_value("b", NULL, "last");
        assert_value("c", NULL, "absolute");

        /* As bin/emqx looks up the node's name. */
        assert_int_equal(conf_get(path, NULL, "b", NULL, &value, NULL), 0);
        assert_int_equal(conf_get(path, NULL, "a", NULL, &value, NULL), 1);
        assert_string_equal(value, "own");

        write_beside("one.conf", "fine = 1\nnot fine\n");
        assert_refused("a", NULL, -EBADMSG, "one.conf:2: ");
        write_conf("include missing.conf\n");
        assert_refused("a", NULL, -ENOENT, "missing.conf: ");
}

static void the_environment_goes_first(void **state) {
        char **environment = STRV_MAKE("EMQX_NODE__DATA_DIR=/first", "EMQX_NODE__DATA_DIR=/data",
                        "EMQX_LOG__DIR=", "EMQX_OTHER=$(base)", "EMQX_BASE=/b", "emqx_node__name=no", "NODE__NAME=no");

        (void) state;
        write_conf("node.data_dir = /var/lib/emqx\nlog.dir = /var/log\nnode.name = n@h\nfile = $(base)/x\n"
                   "gone = $(log.dir)\n");
        assert_value("node.data_dir", environment, "/data");
        assert_value("node.data_dir", NULL, "/var/lib/emqx");
        assert_value("log.dir", environment, NULL);
        assert_value("node.name", environment, "n@h");
        assert_value("other", environment, "/b");
        assert_value("file", environment, "/b/x");
        assert_value("gone", NULL, "/var/log");
        assert_refused("gone", environment, -EBADMSG, "$(log.dir)");
}

static void substitution_ends(void **state) {
        char text[4096] = "", *p = text;

        (void) state;
        write_conf("a = $(b)\nb = $(a)\n");
        assert_refused("a", NULL, -EBADMSG, "itself");
        write_conf("a = x$(a)\n");
        assert_refused("a", NULL, -EBADMSG, "itself");
        write_conf("a = $(nowhere)\n");
        assert_refused("a", NULL, -EBADMSG, "$(nowhere), which is not set");

        p = stpcpy(p, "a0 = xxxxxxxxxxxxxxxx\n");
        for (unsigned i = 1; i < 16; i++)
                p += sprintf(p, "a%u = $(a%u)$(a%u)$(a%u)$(a%u)\n", i, i - 1, i - 1, i - 1, i - 1);
        write_conf(text);
        assert_refused("a15", NULL, -EBADMSG, "too long");
}

static void what_is_no_configuration_is_refused(void **state) {
        static const char nul[] = "a = 1\nb\0 = 2\n";
        _cleanup_close_ int fd = -1;

        (void) state;
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, path, nul, sizeof(nul) - 1, 0644), 0);
        assert_refused("a", NULL, -EBADMSG, "not a text file");

        fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t) 1 << 40), 0);
        assert_refused("a", NULL, -EFBIG, "emqx.conf");

        assert_int_equal(unlink(path), 0);
        assert_refused("a", NULL, -ENOENT, "emqx.conf");
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_refused("a", NULL, -EINVAL, "emqx.conf");
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_refused("a", NULL, -EISDIR, "emqx.conf");
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(symlink("emqx.conf", path), 0);
        assert_refused("a", NULL, -ELOOP, "emqx.conf");
}

static void many_long_lines_are_read(void **state) {
        _cleanup_free_ char *text = malloc(3 * 1024 * 1024), *long_value = NULL;
        char *p = text;

        (void) state;
        assert_non_null(text);
        for (unsigned i = 0; i < 3000; i++)
                p += sprintf(p, "key.%u = value %u of a file that somebody made\n", i, i);
        long_value = malloc(100001);
        assert_non_null(long_value);
        memset(long_value, 'v', 100000);
        long_value[100000] = 0;
        p += sprintf(p, "long = %s\n", long_value);
        write_conf(text);
        assert_value("key.0", NULL, "value 0 of a file that somebody made");
        assert_value("key.2999", NULL, "value 2999 of a file that somebody made");
        assert_value("long", NULL, long_value);
}

static void lines_become_comments_and_all_else_stays(void **state) {
        char *keys[] = { (char *) "auth_order", (char *) "a.b", NULL },
             *notes[] = { (char *) "why", (char *) "because", NULL };
        _cleanup_free_ char *text = NULL;

        (void) state;
        assert_int_equal(
                        conf_comment_out(
                                        "# auth_order = none\r\n auth_order=none \r\nauth_orders = none\n\na.b.c = 1\n"
                                        "x = auth_order = none\n\xff\na.b = 2",
                                        keys, notes, &text),
                        0);
        assert_string_equal(text,
                        "# auth_order = none\r\n# why\r\n# auth_order=none \r\nauth_orders = none\n\na.b.c = 1\n"
                        "x = auth_order = none\n\xff\n# because\n#a.b = 2");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(settings_are_read_as_cuttlefish_does, set_up, tear_down),
                cmocka_unit_test_setup_teardown(syntax_errors_name_file_and_line, set_up, tear_down),
                cmocka_unit_test_setup_teardown(included_values_lose, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_environment_goes_first, set_up, tear_down),
                cmocka_unit_test_setup_teardown(substitution_ends, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_no_configuration_is_refused, set_up, tear_down),
                cmocka_unit_test(lines_become_comments_and_all_else_stays),
                cmocka_unit_test_setup_teardown(many_long_lines_are_read, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
