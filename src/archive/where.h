/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where: an Error about a file that is known by an open directory and a path below it. */

#include <limits.h>

#include "base/error.h"

/* The path of what fd has open; "?" where that cannot be told. */
typedef struct WherePath {
        char text[PATH_MAX];
} WherePath;

WherePath where_path(int fd);

/* error_set() with "<path of dir_fd>/<path>: " before the text and "<strerror(-r)>" behind it if format ends in ":".
 * Control characters in names are shown as '?'. The advice goes by r. Returns r. */
int where_error(Error *reterr, int r, int dir_fd, const char *path, const char *format, ...) _printf_(5, 6);
