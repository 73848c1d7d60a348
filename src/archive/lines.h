/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Lines: a text file read line by line, of which no more than the present line is in memory. */

#include "base/macro.h"

typedef struct Lines Lines;

/* Borrows fd, whose offset does not matter. Only the first size_bytes are read. */
int lines_new(int fd, uint64_t size_bytes, Lines **ret);
Lines *lines_free(Lines *l);
DEFINE_CLEANUP(Lines *, lines_free)

/* 1: *ret is the next line without its end, which may be written to, until the next one is read. 0: there is none.
 * -EBADMSG: it has a NUL byte in it. Other errors are read(2)'s. What the last line lacks of its end is not missed. */
int lines_next(Lines *l, char **ret);
