/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* File I/O: whole files read, and replaced so that a power cut leaves the old content or the new. Does not log. */

#include <sys/types.h>

#include "base/macro.h"

/* 0 once all size_bytes are written; short writes and EINTR are continued. */
int write_all(int fd, const void *data, size_t size_bytes);
int pwrite_all(int fd, const void *data, size_t size_bytes, off_t offset);

/* Replaces dir_fd/name (AT_FDCWD and a path are fine: the directory of the path is synced then) by size_bytes of
 * data with mode. After 0 the new content survives a power cut; after an error the file holds the old content or the
 * new, never a mix. One writer at a time for each name. Errors are the kernel's (-ENOSPC, -EROFS). */
int replace_file_at(int dir_fd, const char *name, const void *data, size_t size_bytes, mode_t mode);

/* The same by the content of the regular file fd: one without a name (O_TMPFILE) becomes dir_fd/name itself where it is on
 * the same file system, any other is copied. fd's offset does not matter and stays. */
int replace_file_by_fd_at(int dir_fd, const char *name, int fd, mode_t mode);

/* replace_file_at() without any sync, for files below /run that a reader may see at any moment but that need not last. */
int replace_volatile_file_at(int dir_fd, const char *name, const void *data, size_t size_bytes, mode_t mode);

/* Reads a whole regular file, NUL-terminated; *ret_size_bytes (optional) is without the NUL. -EFBIG above max_bytes. */
int read_file_at(int dir_fd, const char *name, size_t max_bytes, char **ret, size_t *ret_size_bytes);

/* Removes what a replacement of name that was killed has left, where no other follows that would take it up. */
void forget_replacement_at(int dir_fd, const char *name);

/* unlink and fsync of the directory. -ENOENT is 0: gone is gone. */
int remove_file_at(int dir_fd, const char *name);

/* mkdir -p below AT_FDCWD; every directory made gets mode and is synced into its parent. */
int mkdir_parents(const char *path, mode_t mode);

/* fsync of the directory path. */
int sync_directory(const char *path);

/* Whether path is dir, or below it. Both are without symbolic links. */
bool path_is_within(const char *path, const char *dir);
