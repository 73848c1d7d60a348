/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/lines.h"

#define PIECE_BYTES ((size_t) 64 * 1024)

struct Lines {
        int fd;
        uint64_t offset, size_bytes; /* what is to be read next, and where reading ends */
        char *buffer;                /* begin to end are read and not yet handed out; there is room for a NUL behind */
        size_t begin, end, allocated;
};

int lines_new(int fd, uint64_t size_bytes, Lines **ret) {
        Lines *l = malloc(sizeof(Lines));

        if (!l)
                return -ENOMEM;
        *l = (Lines){ .fd = fd, .size_bytes = size_bytes };
        *ret = l;
        return 0;
}

Lines *lines_free(Lines *l) {
        if (l)
                free(l->buffer);
        return mfree(l);
}

/* Makes room for a piece more, moves what is left to the beginning, and reads. 0: there is no more. */
static ssize_t fill(Lines *l) {
        size_t n_left = l->end - l->begin;
        ssize_t n;

        if (n_left > 0 && l->begin > 0)
                memmove(l->buffer, l->buffer + l->begin, n_left);
        l->begin = 0;
        l->end = n_left;
        if (l->allocated - n_left < PIECE_BYTES / 2 + 1) {
                size_t larger = MAX(l->allocated * 2, PIECE_BYTES);
                char *buffer = realloc(l->buffer, larger);

                if (!buffer)
                        return -ENOMEM;
                l->buffer = buffer;
                l->allocated = larger;
        }
        n = TEMP_FAILURE_RETRY(pread(l->fd, l->buffer + n_left,
                        (size_t) MIN(l->allocated - n_left - 1, l->size_bytes - l->offset), (off_t) l->offset));
        if (n < 0)
                return -errno;
        l->offset += (uint64_t) n;
        l->end += (size_t) n;
        return n;
}

int lines_next(Lines *l, char **ret) {
        size_t n_looked_at = 0;
        char *line, *end;

        for (;;) {
                ssize_t n;

                end = l->begin + n_looked_at < l->end
                                ? memchr(l->buffer + l->begin + n_looked_at, '\n', l->end - l->begin - n_looked_at)
                                : NULL;
                if (end)
                        break;
                n_looked_at = l->end - l->begin;
                n = fill(l);
                if (n < 0)
                        return (int) n;
                if (n == 0 && n_looked_at == 0)
                        return 0;
                if (n == 0) {
                        end = l->buffer + l->end++;
                        break;
                }
        }
        line = l->buffer + l->begin;
        l->begin = (size_t) (end - l->buffer) + 1;
        *end = 0;
        if (strlen(line) != (size_t) (end - line))
                return -EBADMSG;
        *ret = line;
        return 1;
}
