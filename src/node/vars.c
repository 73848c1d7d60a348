/* SPDX-License-Identifier: Apache-2.0 */

#include "node/vars.h"

#define BLANK " \t"

int vars_get(const char *text, const char *name, char **ret) {
        const char *found = NULL;
        size_t found_len = 0;
        char *value;

        assert(text);
        assert(name);
        assert(ret);

        for (const char *line = text; *line; line += strspn(line, "\r\n")) {
                const char *end = line + strcspn(line, "\r\n"), *p = line + strspn(line, BLANK);
                char quote;

                line = end;
                p = startswith(p, name);
                if (!p || *p != '=')
                        continue;

                quote = *++p;
                if (quote == '"' || quote == '\'') {
                        const char *close = memchr(p + 1, quote, (size_t) (end - p) - 1);

                        if (!close)
                                continue;
                        found = p + 1;
                        found_len = (size_t) (close - found);
                } else {
                        found = p;
                        found_len = MIN(strcspn(p, BLANK "#"), (size_t) (end - p));
                }
        }
        if (!found)
                return 0;

        value = strndup(found, found_len);
        if (!value)
                return -ENOMEM;
        *ret = value;
        return 1;
}
