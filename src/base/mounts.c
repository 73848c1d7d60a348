/* SPDX-License-Identifier: Apache-2.0 */

#include "base/mounts.h"

#include <fcntl.h>

#include "base/fileio.h"

#define MOUNTS_BYTES_MAX (16 * 1024 * 1024)

/* proc(5): white space and backslashes are \040 and the like. */
static void decode_octal(char *s) {
        char *to = s;

        for (; *s; s++) {
                size_t n = *s == '\\' ? strspn(s + 1, "01234567") : 0;

                if (n >= 3) {
                        *to++ = (char) ((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
                        s += 3;
                } else
                        *to++ = *s;
        }
        *to = 0;
}

static bool says_read_only(const char *options) {
        return options && startswith(options, "ro") && strchr(", ", options[2]);
}

static char *next_field(char *s) {
        char *space = s ? strchr(s, ' ') : NULL;

        return space ? space + 1 : NULL;
}

/* proc(5): id parent device root where options … - type source options. *rest is what is left of the table. */
bool mounts_next(char **rest, Mount *ret) {
        for (char *line; (line = strsep(rest, "\n"));) {
                char *type = strstr(line, " - "), *where = line;
                bool read_only;

                for (size_t i = 0; i < 4; i++)
                        where = next_field(where);
                if (!type || !where || where > type)
                        continue;
                type += strlen(" - ");
                read_only = says_read_only(next_field(where)) || says_read_only(next_field(next_field(type)));
                where[strcspn(where, " ")] = 0;
                type[strcspn(type, " ")] = 0;
                decode_octal(where);
                *ret = (Mount){ where, type, read_only };
                return true;
        }
        return false;
}

int mounts_read(const char *table, char **ret) {
        return read_file_at(AT_FDCWD, table, MOUNTS_BYTES_MAX, ret, NULL);
}

int mounts_find(const char *table, const char *real, char **ret_text, Mount *ret) {
        _cleanup_free_ char *text = NULL;
        Mount m, best = { NULL, NULL, false };
        char *rest;
        int r;

        r = mounts_read(table, &text);
        if (r < 0)
                return r;
        rest = text;
        while (mounts_next(&rest, &m))
                /* A later mount hides an earlier one. */
                if (path_is_within(real, m.where) && (!best.where || strlen(m.where) >= strlen(best.where)))
                        best = m;
        if (!best.where)
                return -ENOENT;
        *ret_text = TAKE_PTR(text);
        *ret = best;
        return 0;
}
