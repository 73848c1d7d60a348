/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Copy: one file, its content by the quickest way its two file systems know, holes kept.
 *
 *     FICLONE ─▶ copy_file_range(2) ─▶ read and write      after a refusal the next, for this pair of file systems
 *
 * The digest is never assumed: it is that of the bytes read back from the copy, or of those written. */

#include "archive/metadata.h"
#include "archive/tree.h"
#include "archive/walk.h"

typedef struct Copier {
        int root_fd; /* for messages: the tree that path is below */
        const char *path;
        const TreeProgress *progress; /* may be NULL */
        uint64_t bytes_total;         /* handed to progress */
        uint64_t bytes_done;          /* goes up as files are copied or digested; the caller's to set and to add to */
        bool over;    /* the copy is there, of an earlier pass or half-made: only what differs in it is written */
        bool serving; /* the source may be written to by a mapping: its next change shall show in its times */
        Error *reterr;
        /* private: zero at first */
        int method;
        dev_t src_dev, dst_dev;
        char *buffer;
} Copier;

void copier_done(Copier *c);

/* Copies src_fd, which st describes, into dst_fd (opened O_RDWR; empty, but for c->over, where a hole in src_fd is none). -EBUSY: the file is not as in st
 * any more, before or after (size, mtime, ctime). */
int copy_file(Copier *c, int src_fd, const struct stat *st, int dst_fd, char ret_sha256[static SHA256_HEX_SIZE]);

/* Copies the regular file or symlink of n (which exists) with all its metadata to dst_dir_fd/n->name, which must not
 * exist (c->over: must be a regular file), and fills in e but for its path and link_to. c->path is set. Errors also of metadata. */
int copy_node(Copier *c, const MetadataContext *metadata, const WalkNode *n, int dst_dir_fd, ManifestEntry *e);

/* The digest of fd, from its beginning. c->path is the caller's to set. */
int digest_file(Copier *c, int fd, char ret_sha256[static SHA256_HEX_SIZE]);

/* Neither changed nor replaced in between: inode, size, mtime and ctime. */
bool same_file_state(const struct stat *a, const struct stat *b);

/* The target of a symlink, the caller's. */
int read_target(int dir_fd, const char *name, char **ret);

/* Tells progress that bytes more are done. Less than 0: it wants an end. */
int copier_tick(Copier *c, uint64_t bytes);
