/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <limits.h>
#include <locale.h>

#include "cli/terminal.h"

/* What print writes to a pipe's end, which is no terminal. */
static char *written(unsigned columns, unsigned at, unsigned indent, const char *text) {
        char width[16], *s = NULL;
        FILE *file = tmpfile();
        size_t n = 0;

        (void) snprintf(width, sizeof(width), "%u", columns);
        (void) setenv("COLUMNS", width, 1);
        print_wrapped(file, STYLE_BAD, at, indent, text);
        rewind(file);
        assert_true(getdelim(&s, &n, '\0', file) > 0);
        (void) fclose(file);
        (void) unsetenv("COLUMNS");
        return s;
}

static void assert_written(unsigned columns, unsigned at, unsigned indent, const char *text, const char *expected) {
        _cleanup_free_ char *s = written(columns, at, indent, text);

        assert_string_equal(s, expected);
}

static void words_are_wrapped_and_indented(void **state) {
        (void) state;

        assert_written(30, 10, 4, "one two three four five six", "one two three four\n    five six\n");
        assert_written(20, 0, 2, "a /a/path/that/is/longer/than/a/line b",
                        "a\n  /a/path/that/is/longer/than/a/line\n  b\n");
        assert_written(20, 0, 0, "", "\n");
}

static void wide_characters_count_by_their_columns(void **state) {
        (void) state;

        assert_int_equal(text_columns("größer"), 6);
        assert_int_equal(text_columns("節点"), 4);
        assert_written(20, 0, 0, "ääääääää ööööööööö üü", "ääääääää ööööööööö\nüü\n");
}

static void hostile_text_moves_no_cursor(void **state) {
        (void) state;

        assert_written(60, 0, 0, "a\x1b[2Jb\rc\nd\xff", "a\\x1b[2Jb\\x0dc\\nd\\xff\n");
}

static void only_terminals_have_colours_and_a_width(void **state) {
        _cleanup_(fclosep) FILE *file = tmpfile();

        (void) state;

        (void) setenv("TERM", "xterm", 1);
        (void) unsetenv("COLUMNS");
        assert_int_equal(terminal_columns(file), UINT_MAX);
        assert_string_equal(style_begin(file, STYLE_BAD), "");
        assert_false(terminal_is(file));
}

static void without_utf8_there_is_ascii(void **state) {
        _cleanup_free_ char *s = NULL;

        (void) state;

        assert_non_null(setlocale(LC_CTYPE, "C"));
        assert_string_equal(glyph(GLYPH_ARROW), "->");
        s = printable("4.3 → 4.4… größer");
        assert_non_null(s);
        for (const char *c = s; *c; c++)
                assert_true(*c > 0);
        assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
        assert_string_equal(glyph(GLYPH_ARROW), "→");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(words_are_wrapped_and_indented),
                cmocka_unit_test(wide_characters_count_by_their_columns),
                cmocka_unit_test(hostile_text_moves_no_cursor),
                cmocka_unit_test(only_terminals_have_colours_and_a_width),
                cmocka_unit_test(without_utf8_there_is_ascii),
        };

        if (!setlocale(LC_CTYPE, "C.UTF-8"))
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
