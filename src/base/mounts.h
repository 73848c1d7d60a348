/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Mounts: the table of mounts, mountinfo of proc(5). Does not log. */

#include <stdbool.h>

/* The machine's. A sandbox has more mount points: all that it may write to. */
#define MOUNTS_OF_MACHINE "/proc/1/mountinfo"
#define MOUNTS_OF_OURS "/proc/self/mountinfo"

typedef struct Mount {
        char *where, *type; /* in the text that they were read from */
        bool read_only;     /* it, or the file system */
} Mount;

/* The text of table, the caller's to free. */
int mounts_read(const char *table, char **ret);

/* Takes the next line off *rest, what is left of that text. False: there is none. */
bool mounts_next(char **rest, Mount *ret);

/* Which mount of table real, a path without symbolic links, is on. *ret is in *ret_text, the caller's to free. -ENOENT: none. */
int mounts_find(const char *table, const char *real, char **ret_text, Mount *ret);
