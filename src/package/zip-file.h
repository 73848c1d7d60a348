/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Zip file: a release of EMQX as a zip archive, read with libarchive: one directory with bin, etc, lib, releases and so
 * on in it. What such an archive should not hold is refused by name, whatever is done with it: names that are absolute,
 * have "..", control characters or no UTF-8, or stand there twice; links out of the archive; hard links, devices,
 * set-user-id bits; encrypted entries; more than it says, or far more than it is itself. Does not log. */

#include "package/package.h"

/* Metadata, from releases/emqx_vars and from the header of the runtime. -EBADMSG: no such release, or refused. */
int zip_file_read(const char *path, Package **ret, Error *reterr);

/* Reads all of it to its end, checksums included. */
int zip_file_verify(const char *path, Error *reterr);

/* Extracts the content of its one directory into dir_fd, which is empty, with owner and group; modes are 0755 and 0644.
 * Nothing is synced. */
int zip_file_extract(const char *path, int dir_fd, uid_t uid, gid_t gid, Error *reterr);

/* NAME="value" in the text of an emqx_vars; the last one counts. NULL with 0: none. */
int release_var(const char *text, const char *name, char **ret);

/* The architecture that an ELF header of size_bytes is for, in uname(2)'s words; NULL: none that is known. */
const char *elf_machine(const unsigned char *header, size_t size_bytes);
