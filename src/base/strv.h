/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Strv: a NULL-terminated array of strings, each and itself on the heap. NULL is an empty one. */

#include "base/macro.h"

#define STRV_FOREACH(s, l) for (char **s = (l); s && *s; s++)
#define STRV_MAKE(...) ((char **) (const char *[]){ __VA_ARGS__, NULL })

char **strv_free(char **l);
DEFINE_CLEANUP(char **, strv_free)
#define _cleanup_strv_ _cleanup_(strv_freep)

size_t strv_length(char *const *l);

/* Appends a copy of s. 0 or -ENOMEM (l unchanged). */
int strv_extend(char ***l, const char *s);
int strv_extendf(char ***l, const char *format, ...) _printf_(2, 3);
char **strv_copy(char *const *l);

/* Concatenation with separator between; NULL on out of memory. */
char *strv_join(char *const *l, const char *separator);

/* In the order of strcmp(3), each once. */
void strv_sort_unique(char **l);
bool strv_contains(char *const *l, const char *s);

/* The value of NAME in a list of NAME=VALUE; the last one wins, as in environ(7) of a unit. NULL: not there. */
const char *strv_env_get(char *const *l, const char *name);
