/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include "base/fileio.h"
#include "base/strv.h"
#include "txn/metrics.h"

typedef struct Fixture {
        char *dir;
        Txn *txn;
        char *text;
} Fixture;

static int set_up(void **state) {
        char **names = STRV_MAKE("inspect", "stage", "stop");
        Fixture *f = calloc(1, sizeof(Fixture));
        int dir_fd;
        Plan *plan;

        f->dir = make_tmpdir();
        dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(plan_new("4.4.0", &plan), 0);
        assert_int_equal(free_and_strdup(&plan->from, "4.3\"\\\n12"), 0);
        plan->tree_bytes = 1234;
        plan->down_since_realtime_usec = 1000000;
        plan->ready_since_realtime_usec = 3500000;
        assert_int_equal(txn_create(dir_fd, plan, "emqx-upgrade@4.4.0.service", names, &f->txn), 0);
        assert_int_equal(txn_mark(f->txn, 0, STEP_BEGUN), 0);
        assert_int_equal(txn_mark(f->txn, 0, STEP_DONE), 0);
        assert_int_equal(txn_mark(f->txn, 1, STEP_BEGUN), 0);
        f->txn->steps[1].bytes = 4096;
        assert_int_equal(txn_mark(f->txn, 1, STEP_DONE), 0);
        assert_int_equal(txn_close(f->txn, TXN_DONE), 0);
        assert_int_equal(metrics_write(f->txn, f->dir), 0);
        assert_int_equal(read_file_at(dir_fd, METRICS_NAME, 65536, &f->text, NULL), 0);
        (void) safe_close(dir_fd);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        (void) txn_free(f->txn);
        free(f->text);
        remove_tmpdir(f->dir);
        free(f);
        return 0;
}

static void assert_line(const Fixture *f, const char *line) {
        _cleanup_free_ char *whole = NULL;

        assert_true(asprintf(&whole, "\n%s\n", line) > 0);
        if (!strstr(f->text, whole))
                fail_msg("no line \"%s\" in:\n%s", line, f->text);
}

static void result_time_down_and_steps_are_told(void **state) {
        const Fixture *f = *state;

        assert_line(f, "emqx_upgrade_last_result{result=\"done\"} 1");
        assert_line(f, "emqx_upgrade_last_result{result=\"stuck\"} 0");
        assert_line(f, "emqx_upgrade_last_downtime_seconds 2.500000");
        assert_line(f, "emqx_upgrade_last_data_bytes 1234");
        assert_line(f, "emqx_upgrade_last_step_bytes{step=\"stage\"} 4096");
        assert_non_null(strstr(f->text, "\nemqx_upgrade_last_step_duration_seconds{step=\"stage\"} "));
        assert_null(strstr(f->text, "{step=\"stop\"}")); /* it never began */
}

static void labels_are_escaped(void **state) {
        assert_non_null(strstr(((Fixture *) *state)->text, ",from=\"4.3\\\"\\\\\\n12\",to=\"4.4.0\"} 1\n"));
}

/* https://prometheus.io/docs/instrumenting/exposition_formats: HELP and TYPE once, before the samples, which stand together. */
static void every_metric_has_help_and_type_and_is_in_one_place(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *current = NULL;
        _cleanup_strv_ char **seen = NULL;
        bool typed = false;

        for (char *next = f->text, *line; (line = strsep(&next, "\n"));) {
                const char *help = startswith(line, "# HELP "), *type = startswith(line, "# TYPE ");
                size_t n = strcspn(help ?: type ?: line, " {");

                if (!*line)
                        continue;
                if (help) {
                        free(current);
                        current = strndup(help, n);
                        assert_false(strv_contains(seen, current));
                        assert_int_equal(strv_extend(&seen, current), 0);
                        assert_true(strlen(help) > n + 1);
                        typed = false;
                        continue;
                }
                assert_non_null(current);
                assert_int_equal(n, strlen(current));
                assert_memory_equal(type ?: line, current, n);
                assert_true(type || typed);
                typed = true;
                if (type)
                        assert_string_equal(type + n, " gauge");
        }
        assert_true(strv_length(seen) >= 8);
}

static void anyone_may_read_the_file(void **state) {
        _cleanup_free_ char *path = NULL;
        struct stat st;

        assert_true(asprintf(&path, "%s/" METRICS_NAME, ((Fixture *) *state)->dir) > 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
}

static void missing_directory_is_an_error(void **state) {
        assert_int_equal(metrics_write(((Fixture *) *state)->txn, "/nonexistent/metrics"), -ENOENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(result_time_down_and_steps_are_told),
                TEST(labels_are_escaped),
                TEST(every_metric_has_help_and_type_and_is_in_one_place),
                TEST(anyone_may_read_the_file),
                TEST(missing_directory_is_an_error),
        };

        (void) umask(0022);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
