/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/html.h"

#include <stdarg.h>

#include "journal/log.h"

void html_text(FILE *out, const char *text) {
        _cleanup_free_ char *line = text ? journal_escape(text) : NULL;

        for (const char *s = line; s && *s; s++)
                switch (*s) {
                case '&': (void) fputs("&amp;", out); break;
                case '<': (void) fputs("&lt;", out); break;
                case '>': (void) fputs("&gt;", out); break;
                case '"': (void) fputs("&quot;", out); break;
                case '\'': (void) fputs("&#39;", out); break;
                default: (void) fputc(*s, out);
                }
}

void html_textf(FILE *out, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = format_text(format, ap);
        va_end(ap);
        html_text(out, text);
}
