/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Lock: whole-file POSIX record locks (fcntl(2)), the kind dpkg, rpm and we use: the kernel names the holder.
 * The lock lives as long as the process, and is dropped when *any* descriptor of that file is closed in it. */

#include <sys/types.h>

#include "base/macro.h"

/* Opens path (created 0600 where missing) and tries to take it. 1 taken: *ret_fd is then the caller's to close;
 * 0 another holds it: *ret_holder is its pid; negative errno. Never waits. */
int lock_take(const char *path, int *ret_fd, pid_t *ret_holder);

/* The pid of who holds path, 0 where nobody does (or the file is missing), negative errno. */
pid_t lock_holder(const char *path);
