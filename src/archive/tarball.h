/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tarball: trees, each with its manifest, as one archive: pax, with everything that a manifest has, compressed by zstd.
 *
 *     tarball_write(trees) ─▶ file, synced        tarball_read(file, trees)         is it what the manifests say?
 *                                                 tarball_read(file, trees, extract) the same, and the trees again
 *
 * Entries are NAME and NAME/PATH, in the order of the manifests, FIFOs and sockets left out. Any tar can read it:
 * `tar --zstd --acls --xattrs --xattrs-include='*' -xpf FILE` (GNU tar takes fractions of seconds before 1970 for others
 * than libarchive does). It is read against the manifests alone, entry by entry:
 * what does not stand next in them (an absolute name, "..", something below a link) is damage, and nothing is made of it.
 *
 * All return 0 or a negative errno with reterr naming file and path: -EBADMSG where archive or tree is not what a
 * manifest says, -ENOSPC, -EIO from the kernel, -EOPNOTSUPP where libarchive was built without zstd. Does not log. */

#include "archive/tree.h"

typedef struct TarballTree {
        const char *name; /* one component */
        const Manifest *manifest;
        int dir_fd; /* of the tree: what is archived, or, empty, extracted to. Not used without extract */
} TarballTree;

typedef struct TarballOptions {
        unsigned level;     /* of zstd, 1…19 */
        unsigned n_threads; /* that compress; 1: the caller's own, with a half to a fifth of the memory that two take */
} TarballOptions;

/* Makes the file dir_fd/name, which is replaced if it exists, and syncs it, but not the directory; after an error it is
 * gone. The metadata are those of the manifests. *ret_sha256 is that of the file as it was written. */
int tarball_write(const TarballTree *trees, size_t n_trees, const TarballOptions *options, int dir_fd,
                const char *name, const TreeProgress *progress, char ret_sha256[static SHA256_HEX_SIZE],
                Error *reterr);

/* Reads the whole of fd, which is at its beginning. sha256 (NULL: not known) is what the file has to have. extract: makes
 * the trees in their dir_fd, of which only names that the manifests have are made, and never through a link; on return
 * they are on disk, after an error what was made stays. */
int tarball_read(int fd, const TarballTree *trees, size_t n_trees, const char *sha256, bool extract,
                const TreeProgress *progress, Error *reterr);
