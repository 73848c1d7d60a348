/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTML: text from records and logs that becomes part of a page, whatever is in it. */

#include "base/macro.h"

/* Writes text as one line of UTF-8 that is no markup, neither between tags nor in a quoted attribute. NULL: nothing. */
void html_text(FILE *out, const char *text);

/* The same from a format. */
void html_textf(FILE *out, const char *format, ...) _printf_(2, 3);
