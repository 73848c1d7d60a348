/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>

#include "archive/tree.h"
#include "archive/walk.h"
#include "archive/where.h"

typedef struct Removal {
        int root_fd;
        Error *reterr;
} Removal;

/* Also a bind mount from the same file system, which st_dev does not show; kernels before 5.8 do not tell. */
static bool is_mount_point(int dir_fd, const char *name, dev_t dir_dev, dev_t dev) {
        struct statx x;

        if (dev != dir_dev)
                return true;
        return statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &x) >= 0 &&
                        (x.stx_attributes & x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT);
}

static int remove_visit(WalkNode *n, void *userdata) {
        Removal *s = userdata;

        if (!n->parent)
                return WALK_DESCEND;
        if (S_ISDIR(n->st.st_mode)) {
                if (is_mount_point(n->parent->fd, n->name, n->parent->st.st_dev, n->st.st_dev))
                        return where_error(s->reterr, -EBUSY, s->root_fd, n->path, "is a mount point, not removed");
                return WALK_DESCEND;
        }
        if (unlinkat(n->parent->fd, n->name, 0) < 0 && errno != ENOENT)
                return where_error(s->reterr, -errno, s->root_fd, n->path, "cannot be removed:");
        return WALK_SKIP;
}

static int remove_leave(WalkNode *n, void *userdata) {
        Removal *s = userdata;

        if (n->parent && unlinkat(n->parent->fd, n->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return where_error(s->reterr, -errno, s->root_fd, n->path, "cannot be removed:");
        return 0;
}

int tree_empty(int dir_fd, Error *reterr) {
        Removal s = { .root_fd = dir_fd, .reterr = reterr };

        return walk(&(Walk){ .root_fd = dir_fd,
                        .visit = remove_visit,
                        .leave = remove_leave,
                        .userdata = &s,
                        .reterr = reterr });
}

int tree_remove(int dir_fd, const char *name, Error *reterr) {
        _cleanup_close_ int fd = -1;
        struct stat st, parent;
        int r;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno == ENOENT)
                        return 0;
                return where_error(reterr, -errno, dir_fd, name, "cannot be looked at:");
        }
        if (S_ISDIR(st.st_mode)) {
                if (fstat(dir_fd, &parent) < 0)
                        return -errno;
                if (is_mount_point(dir_fd, name, parent.st_dev, st.st_dev))
                        return where_error(reterr, -EBUSY, dir_fd, name, "is a mount point, not removed");
                fd = open_child(dir_fd, name, O_RDONLY | O_DIRECTORY);
                if (fd < 0)
                        return where_error(reterr, fd, dir_fd, name, "directory cannot be opened:");
                r = tree_empty(fd, reterr);
                if (r < 0)
                        return r;
        }
        if (unlinkat(dir_fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
                return where_error(reterr, -errno, dir_fd, name, "cannot be removed:");
        return 0;
}
