/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Metadata: owner, mode, mtime and xattrs of one file, as a manifest entry has them. The xattrs are user.*, POSIX ACLs, file
 * capabilities and labels of SELinux; others are neither read, nor set, nor taken away. Every fd
 * here may be an O_PATH one, of a symlink too. Errors are the kernel's; reterr says what was tried on where_fd/path. */

#include "archive/manifest.h"
#include "archive/owner.h"

typedef struct MetadataContext {
        Owners *owners;
        int root_fd; /* for messages: the tree that paths are below */
        Error *reterr;
} MetadataContext;

/* Fills in all of e that a stat and the xattrs tell: not target, digest and link. */
int metadata_read(const MetadataContext *c, int fd, const struct stat *st, const char *path, ManifestEntry *e);

/* Of name in dir_fd ("." is the directory itself), which st describes, without following a symlink. name NULL: the xattrs
 * are known to be the same, and not looked at. Stores TREE_OWNER, _MODE, _XATTRS and _TIME bits (archive/tree.h) in *ret. */
int metadata_compare(const MetadataContext *c, int dir_fd, const char *name, const struct stat *st,
                const ManifestEntry *e, unsigned *ret);

/* Makes the file's metadata that of e. In this order: xattrs away that e has not, owner (which clears suid and
 * capabilities), mode, xattrs (the ACL after the mode it extends), time. */
int metadata_apply(const MetadataContext *c, int fd, const ManifestEntry *e);
