/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "base/size.h"
#include "txn/progress.h"

#define MIB (UINT64_C(1) << 20)

static void note(Progress *p, uint64_t done_mib, usec_t at_sec) {
        progress_note(p, &(StepProgress){ done_mib * MIB, 1000 * MIB }, at_sec * USEC_PER_SEC);
}

static const char *text_of(const Progress *p) {
        static char buf[PROGRESS_TEXT_MAX];

        return progress_text(buf, p);
}

static void tells_only_what_it_knows(void **state) {
        Progress p = { 0 };

        (void) state;
        assert_string_equal(text_of(&p), "");
        note(&p, 100, 50);
        assert_string_equal(text_of(&p), "10 % of 1000.0 MiB");
        note(&p, 150, 51);
        assert_string_equal(text_of(&p), "15 % of 1000.0 MiB, 50.0 MiB/s");
        assert_int_equal(p.left_usec, 0);
        note(&p, 200, 52);
        assert_string_equal(text_of(&p), "20 % of 1000.0 MiB, 50.0 MiB/s, 16 s left");
        assert_int_equal(p.left_usec, 16 * USEC_PER_SEC);
}

static void rate_is_that_of_the_last_seconds(void **state) {
        Progress p = { 0 };

        (void) state;
        for (unsigned i = 0; i <= 5; i++)
                note(&p, i * 100, i);
        assert_int_equal(p.bytes_per_sec, 100 * MIB);
        for (unsigned i = 1; i <= 10; i++)
                note(&p, 500 + i, 5 + i);
        assert_int_equal(p.bytes_per_sec, MIB);
}

static void window_is_as_long_however_often_a_step_speaks(void **state) {
        Progress p = { 0 };

        (void) state;
        for (usec_t at = 0; at <= 60 * USEC_PER_SEC; at += 10 * USEC_PER_MSEC)
                progress_note(&p, &(StepProgress){ MIN(at, 40 * USEC_PER_SEC), 60 * USEC_PER_SEC }, at + 1);
        assert_int_equal(p.bytes_per_sec, 0);
        assert_int_equal(p.left_usec, 0);
        assert_string_equal(text_of(&p), "66 % of 57.2 MiB");
}

static void another_count_begins_anew(void **state) {
        Progress p = { 0 };

        (void) state;
        for (unsigned i = 0; i <= 5; i++)
                note(&p, i * 100, i);
        note(&p, 10, 6);
        assert_string_equal(text_of(&p), "1 % of 1000.0 MiB");
        progress_note(&p, &(StepProgress){ 20 * MIB, 50 * MIB }, 8 * USEC_PER_SEC);
        assert_string_equal(text_of(&p), "40 % of 50.0 MiB");
        progress_note(&p, NULL, 9 * USEC_PER_SEC);
        assert_string_equal(text_of(&p), "");
        progress_note(&p, &(StepProgress){ 0, 0 }, 9 * USEC_PER_SEC);
        assert_string_equal(text_of(&p), "");
}

static void more_than_was_measured_is_all(void **state) {
        Progress p = { 0 };

        (void) state;
        for (unsigned i = 0; i <= 3; i++)
                note(&p, i * 400, i);
        assert_int_equal(p.bytes.bytes_done, 1000 * MIB);
        assert_int_equal(p.left_usec, 0);
}

static void numbers_go_through_a_status_text(void **state) {
        char *joined = progress_join("Copying ahead (1)", &(StepProgress){ 7, UINT64_MAX });
        StepProgress bytes = { 0 };

        (void) state;
        assert_string_equal(joined, "Copying ahead (1) (7 of 18446744073709551615 bytes)");
        assert_true(progress_split(joined, &bytes));
        assert_string_equal(joined, "Copying ahead (1)");
        assert_int_equal(bytes.bytes_done, 7);
        assert_true(bytes.bytes_total == UINT64_MAX);
        free(joined);

        joined = progress_join("plain", NULL);
        assert_string_equal(joined, "plain");
        free(joined);
}

static void what_systemd_would_drop_is_made_a_text_that_it_carries(void **state) {
        char words[8192], *joined = progress_join("Cannot read /x/Gr\366\337e\nERRNO=1", NULL);
        StepProgress bytes;

        (void) state;
        assert_string_equal(joined, "Cannot read /x/Gr\\xf6\\xdfe\\nERRNO=1");
        free(joined);

        (void) memset(words, 'x', sizeof(words));
        (void) memcpy(words + 3068, "ä", strlen("ä"));
        words[sizeof(words) - 1] = 0;
        joined = progress_join(words, &(StepProgress){ 1, 2 });
        assert_true(progress_split(joined, &bytes));
        assert_int_equal(strspn(joined, "x"), 3068);
        assert_string_equal(joined + 3068, "…");
        free(joined);
}

static void other_texts_stay(void **state) {
        static const char *const texts[] = { "", "(1 of 2 bytes)", "a (1 of 2 bytes) ", "a (1 of 2 bytes",
                "a (-1 of 2 bytes)", "Unpacking emqx (4.4.0) over (4.3.12) ...", "a (1 of 2 MiB)", "a(1 of 2 bytes)" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                char *text = strdup(texts[i]);
                StepProgress bytes;

                assert_false(progress_split(text, &bytes));
                assert_string_equal(text, texts[i]);
                free(text);
        }
}

static void sizes_are_readable(void **state) {
        char buf[SIZE_TEXT_MAX];

        (void) state;
        assert_string_equal(format_size(buf, 0), "0 B");
        assert_string_equal(format_size(buf, 1023), "1023 B");
        assert_string_equal(format_size(buf, 1536), "1.5 KiB");
        assert_string_equal(format_size(buf, 4 << 20), "4.0 MiB");
        assert_string_equal(format_size(buf, UINT64_MAX), "15.9 EiB");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tells_only_what_it_knows),
                cmocka_unit_test(rate_is_that_of_the_last_seconds),
                cmocka_unit_test(window_is_as_long_however_often_a_step_speaks),
                cmocka_unit_test(another_count_begins_anew),
                cmocka_unit_test(more_than_was_measured_is_all),
                cmocka_unit_test(numbers_go_through_a_status_text),
                cmocka_unit_test(what_systemd_would_drop_is_made_a_text_that_it_carries),
                cmocka_unit_test(other_texts_stay),
                cmocka_unit_test(sizes_are_readable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
