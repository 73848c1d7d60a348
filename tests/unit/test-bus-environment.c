/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include "base/fileio.h"
#include "base/strv.h"
#include "bus/environment.h"

static void assert_parses(const char *text, const char *joined) {
        _cleanup_strv_ char **env = NULL;
        _cleanup_free_ char *got = NULL;

        assert_int_equal(environment_parse(text, &env), 0);
        got = strv_join(env, "|");
        assert_string_equal(got ?: "", joined);
}

/* What systemd 252 makes of each text was read from `env` in a service with that file. */
static void values_are_parsed_as_systemd_does(void **state) {
        (void) state;

        assert_parses("", "");
        assert_parses("A=1", "A=1");
        assert_parses("A=1\nB=2\n", "A=1|B=2");
        assert_parses("A=1\r\nB=2\r\n", "A=1|B=2");
        assert_parses("A=", "A=");
        assert_parses("A=a b  c", "A=a b  c");
        assert_parses("  A = b  ", "A=b");
        assert_parses("A=b=c", "A=b=c");
        assert_parses("A=$HOME", "A=$HOME");
        assert_parses("A=x#y", "A=x#y");
        assert_parses("A=it's", "A=it's");
}

static void comments_and_lines_that_are_no_assignment_are_passed_over(void **state) {
        (void) state;

        assert_parses("# A=1\n; B=2\n  # C=3\nD=4", "D=4");
        assert_parses("A\nB=1", "B=1");
        assert_parses("export A=1\nB=2", "B=2");
        assert_parses("1A=1\nA-B=2\n=3\nC=4", "C=4");
        assert_parses("# goes on \\\nA=1\nB=2", "B=2");
}

static void quotes_group_and_end(void **state) {
        (void) state;

        assert_parses("A=\"a b \"", "A=a b ");
        assert_parses("A='a b '", "A=a b ");
        assert_parses("A='a'\"b\"c", "A=abc");
        assert_parses("A=\"\"", "A=");
        assert_parses("A=\"line\nline\"", "A=line\nline");
        assert_parses("A='#no comment'", "A=#no comment");
        assert_parses("A=\"never closed\nB=2", "A=never closed\nB=2");
}

static void backslashes_join_lines_and_escape(void **state) {
        (void) state;

        assert_parses("A=a\\\nb", "A=ab");
        assert_parses("A=\"a\\\nb\"", "A=ab");
        assert_parses("A=a\\tb", "A=atb");
        assert_parses("A=\"a\\tb\"", "A=a\\tb");
        assert_parses("A=\"\\\"\\$\\`\\\\\"", "A=\"$`\\");
        assert_parses("A='\\\\'", "A=\\\\");
        assert_parses("A=b\\ ", "A=b ");
}

static void a_later_assignment_wins_in_place(void **state) {
        (void) state;

        assert_parses("A=1\nB=2\nA=3", "A=3|B=2");
        assert_parses("AB=1\nA=2", "AB=1|A=2");
}

static void unset_takes_a_name_or_one_value_of_it(void **state) {
        _cleanup_strv_ char **env = NULL;
        _cleanup_free_ char *got = NULL;

        (void) state;

        assert_int_equal(environment_parse("A=1\nB=2\nC=3\nBC=4", &env), 0);
        environment_unset(env, "B");
        environment_unset(env, "C=other");
        environment_unset(env, "A=1");
        environment_unset(env, "X");
        got = strv_join(env, "|");
        assert_string_equal(got, "C=3|BC=4");
}

static void files_are_found_by_pattern_and_merged_in_order(void **state) {
        _cleanup_free_ char *pattern = NULL;
        _cleanup_strv_ char **env = NULL;
        char *dir = make_tmpdir();
        int fd;

        (void) state;

        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(replace_file_at(fd, "20.env", "A=late\n", 7, 0644), 0);
        assert_int_equal(replace_file_at(fd, "10.env", "A=early\nB=1\n", 12, 0644), 0);
        assert_true(asprintf(&pattern, "%s/*.env", dir) > 0);

        assert_int_equal(environment_read(pattern, false, &env, NULL), 0);
        assert_string_equal(strv_env_get(env, "A"), "late");
        assert_string_equal(strv_env_get(env, "B"), "1");

        close(fd);
        remove_tmpdir(dir);
}

static void a_missing_file_is_an_error_unless_optional(void **state) {
        _cleanup_strv_ char **env = NULL;
        Error error = ERROR_NULL;

        (void) state;

        assert_int_equal(environment_read("/nonexistent/emqx", false, &env, &error), -ENOENT);
        assert_string_equal(error.message, "Environment file /nonexistent/emqx: No such file or directory");
        error_done(&error);
        assert_int_equal(environment_read("/nonexistent/emqx", true, &env, &error), 0);
        assert_null(error.message);
        assert_null(env);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(values_are_parsed_as_systemd_does),
                cmocka_unit_test(comments_and_lines_that_are_no_assignment_are_passed_over),
                cmocka_unit_test(quotes_group_and_end),
                cmocka_unit_test(backslashes_join_lines_and_escape),
                cmocka_unit_test(a_later_assignment_wins_in_place),
                cmocka_unit_test(unset_takes_a_name_or_one_value_of_it),
                cmocka_unit_test(files_are_found_by_pattern_and_merged_in_order),
                cmocka_unit_test(a_missing_file_is_an_error_unless_optional),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
