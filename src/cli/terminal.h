/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Terminal: how what we print looks. Colours only where they are wanted and understood, characters beyond ASCII only where
 * the locale has them, lines no longer than the terminal is wide. What comes from records, packages and logs goes through
 * printable() before it reaches a terminal; print_wrapped() and print_cell() do that themselves.
 *
 * The locale must have been set: setlocale(LC_CTYPE, ""). */

#include "base/macro.h"
#include "base/time.h"

typedef enum Style {
        STYLE_PLAIN,
        STYLE_STRONG, /* headings, names */
        STYLE_DIM,    /* what is read second */
        STYLE_GOOD,
        STYLE_WARNING,
        STYLE_BAD,
        _STYLE_MAX,
} Style;

typedef enum Glyph {
        GLYPH_ARROW, /* from → to */
        GLYPH_DOT,   /* ● before a headline */
        GLYPH_DONE,
        GLYPH_FAILED,
        GLYPH_UNDONE,
        GLYPH_WARNING,
        GLYPH_RUNS,
        GLYPH_BAR_FULL, /* of a progress bar */
        GLYPH_BAR_REST,
        GLYPH_ELLIPSIS,
        _GLYPH_MAX,
} Glyph;

/* Whether out is a terminal on which the cursor can be moved. */
bool terminal_is(FILE *out);

/* Columns of out's terminal; elsewhere $COLUMNS where it is set, else UINT_MAX: programs read long lines best. */
unsigned terminal_columns(FILE *out);

/* Rows of out's terminal, UINT_MAX elsewhere. */
unsigned terminal_rows(FILE *out);

/* Sequences that begin a style and end any; "" where out is no terminal, or NO_COLOR is set (https://no-color.org). */
const char *style_begin(FILE *out, Style style);
const char *style_end(FILE *out);

/* In UTF-8 or ASCII; each but GLYPH_ELLIPSIS and, in ASCII, GLYPH_ARROW, is one column wide. */
const char *glyph(Glyph g);

/* text as one line without control characters, in the locale's characters; the caller's to free. NULL: out of memory. */
char *printable(const char *text);

/* Columns that text takes, which is printable. */
unsigned text_columns(const char *text);

/* Prints text, cut where it is longer than columns, padded where it is shorter. */
void print_cell(FILE *out, Style style, const char *text, unsigned columns);

/* Prints text and a newline, broken between words. The cursor is in column at (0: the first one); further lines are
 * indented by indent columns. A word that is longer than a line stays whole. */
void print_wrapped(FILE *out, Style style, unsigned at, unsigned indent, const char *text);

/* "2026-11-24 21:05:33 UTC", in the zone of the reader. Returns buf. */
const char *format_local(char buf[static TIMESPAN_TEXT_MAX], usec_t realtime_usec);
