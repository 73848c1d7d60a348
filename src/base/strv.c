/* SPDX-License-Identifier: Apache-2.0 */

#include "base/strv.h"

#include <stdarg.h>

char **strv_free(char **l) {
        STRV_FOREACH (s, l)
                free(*s);
        free(l);
        return NULL;
}

size_t strv_length(char *const *l) {
        size_t n = 0;

        while (l && l[n])
                n++;
        return n;
}

/* Takes s, also on failure. */
static int strv_consume(char ***l, char *s) {
        size_t n = strv_length(*l);
        char **c;

        if (!s)
                return -ENOMEM;
        c = reallocarray(*l, n + 2, sizeof(char *));
        if (!c) {
                free(s);
                return -ENOMEM;
        }
        c[n] = s;
        c[n + 1] = NULL;
        *l = c;
        return 0;
}

int strv_extend(char ***l, const char *s) {
        assert(l);
        assert(s);

        return strv_consume(l, strdup(s));
}

int strv_extendf(char ***l, const char *format, ...) {
        va_list ap;
        char *s;

        assert(l);

        va_start(ap, format);
        s = format_text(format, ap);
        va_end(ap);
        return strv_consume(l, s);
}

char **strv_copy(char *const *l) {
        _cleanup_strv_ char **c = calloc(1, sizeof(char *));

        if (!c)
                return NULL;
        for (size_t i = 0; l && l[i]; i++)
                if (strv_extend(&c, l[i]) < 0)
                        return NULL;
        return TAKE_PTR(c);
}

char *strv_join(char *const *l, const char *separator) {
        size_t size = 1;
        char *joined, *p;

        assert(separator);

        for (size_t i = 0; l && l[i]; i++)
                size += strlen(l[i]) + strlen(separator);
        joined = p = malloc(size);
        if (!joined)
                return NULL;
        *p = 0;
        for (size_t i = 0; l && l[i]; i++) {
                if (i > 0)
                        p = stpcpy(p, separator);
                p = stpcpy(p, l[i]);
        }
        return joined;
}

static int compare_strings(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

void strv_sort_unique(char **l) {
        size_t n = strv_length(l), kept = 0;

        if (n == 0)
                return;
        qsort(l, n, sizeof(char *), compare_strings);
        for (size_t i = 0; i < n; i++)
                if (kept > 0 && streq(l[kept - 1], l[i]))
                        free(l[i]);
                else
                        l[kept++] = l[i];
        l[kept] = NULL;
}

bool strv_contains(char *const *l, const char *s) {
        for (size_t i = 0; l && l[i]; i++)
                if (streq(l[i], s))
                        return true;
        return false;
}

const char *strv_env_get(char *const *l, const char *name) {
        const char *value = NULL;
        size_t n = strlen(name);

        for (size_t i = 0; l && l[i]; i++)
                if (strncmp(l[i], name, n) == 0 && l[i][n] == '=')
                        value = l[i] + n + 1;
        return value;
}
