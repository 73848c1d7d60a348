/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Walk: one pass over a live tree and a manifest side by side, in manifest order. Each path in either is visited once,
 * a directory before and (if descended into) after its children. Only descriptors are followed, never a symlink. */

#include "archive/manifest.h"

/* Bounds the stack; each level also holds a descriptor or two. Whatever a manifest can hold can be walked, and removed
 * from a few directories above it. */
#define WALK_DEPTH_MAX (2 * MANIFEST_DEPTH_MAX)

enum {
        WALK_SKIP = 0,
        WALK_DESCEND = 1, /* only for what is now a directory in live */
};

typedef struct WalkNode WalkNode;

struct WalkNode {
        WalkNode *parent; /* NULL: the tree itself */
        const char *path; /* of the node at hand; what parent->path pointed to may have moved */
        const char *name;
        const ManifestEntry *entry; /* the walk's, while it is at the node or below; NULL: not in the manifest */
        bool exists;                /* in live; st is set then */
        struct stat st;
        int fd;      /* the directory in live, set while it is descended into; the entry's own is parent->fd */
        int peer_fd; /* what visit() or a child sets for its own use, -1 at first; closed after leave() */
        void *peer;  /* the same, NULL at first */
        unsigned depth;
};

typedef struct Walk {
        int root_fd;
        const Manifest *manifest; /* NULL: live alone */
        int (*visit)(WalkNode *n,
                        void *userdata); /* WALK_DESCEND, WALK_SKIP, or a negative errno, which ends the walk */
        int (*leave)(WalkNode *n, void *userdata); /* after the children; n->fd and n->peer_fd are open. May be NULL */
        void *userdata;
        bool serving;  /* a directory that goes away before it is descended into is passed over */
        Error *reterr; /* set for errors of the walk itself */
} Walk;

int walk(const Walk *w);

static inline bool is_special(mode_t mode) {
        return S_ISFIFO(mode) || S_ISSOCK(mode);
}

static inline bool is_device(mode_t mode) {
        return S_ISCHR(mode) || S_ISBLK(mode);
}

/* Opens the directory that holds path, component by component, and points *ret_name at path's last component. */
int open_parent_at(int root_fd, const char *path, const char **ret_name);

/* openat() of one component without following a symlink; O_CLOEXEC and O_NOFOLLOW are added. Errors as -errno. */
int open_child(int dir_fd, const char *name, int flags);

/* The same of a directory, for readdir(3). */
int opendir_child(int dir_fd, const char *name, DIR **ret);

/* Opens the regular file that st describes for reading, its atime left alone where we may. Never waits for a FIFO in
 * its place. -EBUSY: another file is there now, or none. */
int open_regular(int dir_fd, const char *name, const struct stat *st);
