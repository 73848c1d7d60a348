/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Macros: scope-bound owners and the few words the language lacks. Every owner type has a `_free` (frees it all,
 * accepts NULL, returns NULL) or a `_done` (frees the content), and DEFINE_CLEANUP makes it usable as
 * `_cleanup_(foo_freep) Foo *foo = NULL;`. */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _sentinel_ __attribute__((sentinel))
#define _unused_ __attribute__((unused))
#define _warn_unused_ __attribute__((warn_unused_result))

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

#define DEFINE_CLEANUP(type, func)                                                                                    \
        static inline void func##p(type *p) {                                                                         \
                if (*p)                                                                                               \
                        *p = func(*p);                                                                                \
        }

static inline void *mfree(void *p) {
        free(p);
        return NULL;
}

static inline void freep(void *p) {
        free(*(void **) p);
}

static inline int safe_close(int fd) {
        if (fd >= 0) {
                int saved = errno;

                (void) close(fd);
                errno = saved;
        }
        return -1;
}

static inline void closep(int *fd) {
        *fd = safe_close(*fd);
}

static inline void fclosep(FILE **f) {
        if (*f)
                (void) fclose(*f);
}

static inline void closedirp(DIR **d) {
        if (*d)
                (void) closedir(*d);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)

#define TAKE_PTR(p)                                                                                                   \
        ({                                                                                                            \
                typeof(p) _taken = (p);                                                                               \
                (p) = NULL;                                                                                           \
                _taken;                                                                                               \
        })

#define TAKE_FD(fd)                                                                                                   \
        ({                                                                                                            \
                int _taken = (fd);                                                                                    \
                (fd) = -1;                                                                                            \
                _taken;                                                                                               \
        })

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

/* NULL equals only NULL. */
static inline bool streq_ptr(const char *a, const char *b) {
        return a && b ? strcmp(a, b) == 0 : a == b;
}

/* The rest of s behind prefix, or NULL where s does not begin with it. */
static inline const char *startswith(const char *s, const char *prefix) {
        size_t n = strlen(prefix);

        return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

static inline bool endswith(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* Stores a copy of s (NULL stays NULL), freeing what was there. 0 or -ENOMEM. */
static inline int free_and_strdup(char **p, const char *s) {
        char *t = NULL;

        if (s) {
                t = strdup(s);
                if (!t)
                        return -ENOMEM;
        }
        free(*p);
        *p = t;
        return 0;
}

/* The formatted text, or NULL without memory. */
static inline char *format_text(const char *format, va_list ap) __attribute__((format(printf, 1, 0)));

static inline char *format_text(const char *format, va_list ap) {
        char *text;

        return vasprintf(&text, format, ap) < 0 ? NULL : text;
}
