/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/terminal.h"

#include <iconv.h>
#include <langinfo.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <wchar.h>

#include "journal/log.h"

#define COLUMNS_DEFAULT 80
#define COLUMNS_MIN 20 /* narrower than that nothing can be laid out */
#define SIZE_MAX_SANE 10000

static bool is_utf8(void) {
        return streq(nl_langinfo(CODESET), "UTF-8");
}

bool terminal_is(FILE *out) {
        const char *term = getenv("TERM");

        return isatty(fileno(out)) && term && *term && !streq(term, "dumb");
}

static unsigned columns_of_environment(void) {
        const char *text = getenv("COLUMNS");
        unsigned long n = text && *text && !text[strspn(text, "0123456789")] ? strtoul(text, NULL, 10) : 0;

        return n > 0 && n < SIZE_MAX_SANE ? MAX((unsigned) n, COLUMNS_MIN) : 0;
}

unsigned terminal_columns(FILE *out) {
        struct winsize size;

        if (!isatty(fileno(out)))
                return columns_of_environment() ?: UINT_MAX;
        if (ioctl(fileno(out), TIOCGWINSZ, &size) >= 0 && size.ws_col > 0)
                return MAX((unsigned) size.ws_col, COLUMNS_MIN);
        return columns_of_environment() ?: COLUMNS_DEFAULT;
}

unsigned terminal_rows(FILE *out) {
        struct winsize size;

        return isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &size) >= 0 && size.ws_row > 0 ? size.ws_row
                                                                                                    : UINT_MAX;
}

static bool has_colours(FILE *out) {
        const char *no = getenv("NO_COLOR");

        return terminal_is(out) && !(no && *no);
}

const char *style_begin(FILE *out, Style style) {
        static const char *const sequences[_STYLE_MAX] = {
                [STYLE_PLAIN] = "",
                [STYLE_STRONG] = "\x1b[1m",
                [STYLE_DIM] = "\x1b[2m",
                [STYLE_GOOD] = "\x1b[32m",
                [STYLE_WARNING] = "\x1b[33m",
                [STYLE_BAD] = "\x1b[1;31m",
        };

        return has_colours(out) ? sequences[style] : "";
}

const char *style_end(FILE *out) {
        return has_colours(out) ? "\x1b[0m" : "";
}

const char *glyph(Glyph g) {
        static const struct {
                const char *utf8, *ascii;
        } glyphs[_GLYPH_MAX] = {
                [GLYPH_ARROW] = { "→", "->" },
                [GLYPH_DOT] = { "●", "*" },
                [GLYPH_DONE] = { "✓", "+" },
                [GLYPH_FAILED] = { "✗", "x" },
                [GLYPH_UNDONE] = { "↶", "<" },
                [GLYPH_WARNING] = { "!", "!" },
                [GLYPH_RUNS] = { "▸", ">" },
                [GLYPH_BAR_FULL] = { "█", "#" },
                [GLYPH_BAR_REST] = { "░", "." },
                [GLYPH_ELLIPSIS] = { "…", "..." },
        };

        return is_utf8() ? glyphs[g].utf8 : glyphs[g].ascii;
}

/* To the locale's characters, or what comes near them. NULL: that cannot be done. */
static char *to_locale(char *text) {
        _cleanup_free_ char *code = NULL, *converted = NULL;
        size_t in_left = strlen(text), out_left = 4 * in_left;
        char *in = text, *out;
        iconv_t cd;

        if (asprintf(&code, "%s//TRANSLIT", nl_langinfo(CODESET)) < 0)
                return NULL;
        converted = out = malloc(out_left + 1);
        cd = converted ? iconv_open(code, "UTF-8") : (iconv_t) -1;
        if (cd == (iconv_t) -1)
                return NULL;
        while (in_left > 0 && iconv(cd, &in, &in_left, &out, &out_left) == (size_t) -1) {
                if (errno != EILSEQ || out_left == 0)
                        break;
                *out++ = '?';
                out_left--;
                do { /* over the character that has no counterpart */
                        in++;
                        in_left--;
                } while (in_left > 0 && ((unsigned char) *in & 0xc0) == 0x80);
        }
        (void) iconv_close(cd);
        *out = '\0';
        return TAKE_PTR(converted);
}

char *printable(const char *text) {
        _cleanup_free_ char *line = journal_escape(text);

        return !line || is_utf8() ? TAKE_PTR(line) : to_locale(line);
}

/* Bytes of the character at s, and its columns. */
static size_t character(const char *s, unsigned *ret_columns) {
        mbstate_t state = { 0 };
        wchar_t c;
        size_t n = mbrtowc(&c, s, MB_CUR_MAX, &state);
        int width;

        if (n == 0 || n == (size_t) -1 || n == (size_t) -2) {
                *ret_columns = 1;
                return 1;
        }
        width = wcwidth(c);
        *ret_columns = width > 0 ? (unsigned) width : 0;
        return n;
}

unsigned text_columns(const char *text) {
        unsigned sum = 0, columns;

        for (; *text; text += character(text, &columns), sum += columns)
                ;
        return sum;
}

/* Bytes at the begin of s that fit into columns. */
static size_t fitting(const char *s, unsigned columns) {
        size_t n = 0;

        while (s[n]) {
                unsigned width;
                size_t size = character(s + n, &width);

                if (width > columns)
                        break;
                columns -= width;
                n += size;
        }
        return n;
}

void print_cell(FILE *out, Style style, const char *text, unsigned columns) {
        _cleanup_free_ char *line = printable(text);
        unsigned width = line ? text_columns(line) : 0;
        const char *more = glyph(GLYPH_ELLIPSIS);

        if (width > columns && columns > text_columns(more))
                (void) fprintf(out, "%s%.*s%s%s", style_begin(out, style),
                                (int) fitting(line, columns - text_columns(more)), line, more, style_end(out));
        else if (width > columns)
                (void) fprintf(out, "%.*s", (int) columns, "........");
        else
                (void) fprintf(out, "%s%s%s%*s", style_begin(out, style), line ?: "", style_end(out),
                                (int) (columns - width), "");
}

void print_wrapped(FILE *out, Style style, unsigned at, unsigned indent, const char *text) {
        _cleanup_free_ char *line = printable(text);
        unsigned columns = terminal_columns(out);
        bool first = true; /* on its line */

        (void) fputs(style_begin(out, style), out);
        for (char *next = line, *word; (word = strsep(&next, " "));) {
                unsigned width = text_columns(word);

                if (!first && at + 1 + width > columns) {
                        (void) fprintf(out, "\n%*s", (int) indent, "");
                        at = indent;
                        first = true;
                }
                (void) fprintf(out, "%s%s", first ? "" : " ", word);
                at += width + !first;
                first = false;
        }
        (void) fprintf(out, "%s\n", style_end(out));
}

const char *format_local(char buf[static TIMESPAN_TEXT_MAX], usec_t realtime_usec) {
        time_t t = (time_t) (realtime_usec / USEC_PER_SEC);
        struct tm tm;

        if (!localtime_r(&t, &tm) || strftime(buf, TIMESPAN_TEXT_MAX, "%Y-%m-%d %H:%M:%S %Z", &tm) == 0)
                return format_realtime(buf, realtime_usec);
        return buf;
}
