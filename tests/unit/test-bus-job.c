/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <signal.h>

#include "bus/transient.h"

static void every_result_of_systemd_is_known_and_no_other(void **state) {
        const char *words[] = { "done", "canceled", "timeout", "failed", "dependency", "invalid", "skipped", "assert",
                "unsupported", "collected", "once" };

        (void) state;

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                assert_string_equal(job_result_word(words[i]), words[i]);
        assert_string_equal(job_result_word("frozen"), "unknown");
        assert_string_equal(job_result_word(""), "unknown");
}

static void the_end_of_a_process_is_said_in_words(void **state) {
        char buf[UNIT_EXIT_TEXT_MAX];

        (void) state;

        assert_string_equal(unit_exit_text(buf, &(UnitState){ .exec_main_code = CLD_EXITED, .exec_main_status = 3 }),
                        "exited with status 3");
        assert_string_equal(
                        unit_exit_text(buf, &(UnitState){ .exec_main_code = CLD_KILLED, .exec_main_status = SIGKILL }),
                        "ended by signal 9 (Killed)");
        assert_string_equal(
                        unit_exit_text(buf, &(UnitState){ .exec_main_code = CLD_DUMPED, .exec_main_status = SIGSEGV }),
                        "dumped core on signal 11 (Segmentation fault)");
        assert_string_equal(unit_exit_text(buf, &(UnitState){ .exec_main_code = 0 }), "no process ended");
}

static char *explain(int code, int status, const char *said) {
        UnitState s = { .exec_main_code = code,
                .exec_main_status = status,
                .status_text = (char *) said,
                .result = (char *) "exit-code" };
        Error error = ERROR_NULL;

        assert_int_equal(transient_explain("x.service", &s, &error), -ECANCELED);
        free(error.advice);
        return error.message;
}

static void a_step_that_exits_is_explained_by_its_own_words(void **state) {
        _cleanup_free_ char *own = explain(CLD_EXITED, 1, "No space left for the backup");
        _cleanup_free_ char *silent = explain(CLD_EXITED, 1, "");
        _cleanup_free_ char *killed = explain(CLD_KILLED, SIGTERM, "Copied 30 %");

        (void) state;

        assert_string_equal(own, "No space left for the backup");
        assert_string_equal(silent, "x.service: exited with status 1 (result \"exit-code\")");
        assert_string_equal(killed,
                        "x.service: ended by signal 15 (Terminated) (result \"exit-code\"), its last words: Copied 30 %");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_result_of_systemd_is_known_and_no_other),
                cmocka_unit_test(the_end_of_a_process_is_said_in_words),
                cmocka_unit_test(a_step_that_exits_is_explained_by_its_own_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
