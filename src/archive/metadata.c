/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/metadata.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/xattr.h>

#include "archive/tree.h"
#include "archive/where.h"

#define XATTR_TRIES 8 /* for one that grows between the question for its size and for its value */

/* fchmod(2) and the f*xattr(2) calls take no O_PATH descriptor, and there is no listxattrat(2) before Linux 6.13. */
typedef struct FdPath {
        char text[32 + NAME_MAX];
        bool follow; /* a magic link, which leads to the file itself, be it a symlink */
} FdPath;

static FdPath fd_path(int fd) {
        FdPath p = { .follow = true };

        (void) snprintf(p.text, sizeof(p.text), "/proc/self/fd/%i", fd);
        return p;
}

static FdPath name_path(int dir_fd, const char *name) {
        FdPath p = { .follow = false };

        (void) snprintf(p.text, sizeof(p.text), "/proc/self/fd/%i/%s", dir_fd, name);
        return p;
}

/* Every file has a label where SELinux is on; it cannot be taken away, and comes by itself where it was not. */
static bool is_label(const char *name) {
        return streq(name, "security.selinux");
}

/* The kernel makes this directory where SELinux is on. Where it is not, or not any more, files may have labels from before:
 * nobody reads them, and to set one takes CAP_SYS_ADMIN, which step units do not have. */
static bool labels_are_in_use(void) {
        return access("/sys/fs/selinux", F_OK) >= 0;
}

/* Whether it is the file's own, and the same on every file system. Not so are what a file system tells of itself
 * (system.nfs4_acl, btrfs.*), what the kernel has measured (security.ima, security.evm), and trusted.*, which only processes
 * with CAP_SYS_ADMIN see: root's shell, where backups are compared and extracted, and no step unit, which makes them. XFS
 * lists each POSIX ACL once more there, as trusted.SGI_ACL_FILE and trusted.SGI_ACL_DEFAULT. */
static bool is_kept(const char *name) {
        return startswith(name, "user.") || startswith(name, "system.posix_acl_") ||
                        streq(name, "security.capability") || (is_label(name) && labels_are_in_use());
}

/* --- xattrs --- */

typedef struct Xattrs {
        Xattr *list;
        size_t n;
} Xattrs;

static void xattrs_done(Xattrs *x) {
        for (size_t i = 0; i < x->n; i++) {
                free(x->list[i].name);
                free(x->list[i].value);
        }
        free(x->list);
}

static int xattr_order(const void *a, const void *b) {
        return strcmp(((const Xattr *) a)->name, ((const Xattr *) b)->name);
}

/* The list of names where name is NULL, else the value. */
static ssize_t get_once(const FdPath *p, const char *name, char *buffer, size_t size) {
        if (!name)
                return p->follow ? listxattr(p->text, buffer, size) : llistxattr(p->text, buffer, size);
        return p->follow ? getxattr(p->text, name, buffer, size) : lgetxattr(p->text, name, buffer, size);
}

/* As get_once(), allocated. -ENODATA: it went away. */
static int get_sized(const FdPath *p, const char *name, char **ret, size_t *ret_size) {
        for (unsigned i = 0; i < XATTR_TRIES; i++) {
                _cleanup_free_ char *buffer = NULL;
                ssize_t n = get_once(p, name, NULL, 0);

                if (n < 0)
                        return -errno;
                buffer = malloc((size_t) n + 1);
                if (!buffer)
                        return -ENOMEM;
                if (n > 0)
                        n = get_once(p, name, buffer, (size_t) n);
                if (n >= 0) {
                        *ret = TAKE_PTR(buffer);
                        *ret_size = (size_t) n;
                        return 0;
                }
                if (errno != ERANGE)
                        return -errno;
        }
        return -EBUSY;
}

static int xattrs_read(const FdPath *p, Xattrs *ret) {
        _cleanup_(xattrs_done) Xattrs x = { 0 };
        _cleanup_free_ char *names = NULL;
        size_t size = 0;
        int r;

        r = get_sized(p, NULL, &names, &size);
        if (r == -EOPNOTSUPP)
                return 0; /* none on this file system */
        if (r < 0)
                return r;

        for (const char *name = names; name < names + size; name += strlen(name) + 1) {
                char *value = NULL;
                Xattr *larger;

                if (!is_kept(name))
                        continue;
                larger = reallocarray(x.list, x.n + 1, sizeof(Xattr));
                if (!larger)
                        return -ENOMEM;
                x.list = larger;
                r = get_sized(p, name, &value, &x.list[x.n].size_bytes);
                if (r == -ENODATA)
                        continue;
                if (r < 0)
                        return r;
                x.list[x.n].value = value;
                x.list[x.n].name = strdup(name);
                if (!x.list[x.n++].name)
                        return -ENOMEM;
        }
        if (x.n > 1)
                qsort(x.list, x.n, sizeof(Xattr), xattr_order);
        *ret = x;
        x = (Xattrs){ 0 };
        return 0;
}

static const Xattr *xattr_find(const Xattr *list, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (streq(list[i].name, name))
                        return list + i;
        return NULL;
}

static bool xattr_equal(const Xattr *a, const Xattr *b) {
        return a && b && a->size_bytes == b->size_bytes && memcmp(a->value, b->value, a->size_bytes) == 0;
}

static bool xattrs_equal(const Xattrs *x, const ManifestEntry *e) {
        for (size_t i = 0; i < x->n; i++)
                if (!is_label(x->list[i].name) && !xattr_find(e->xattrs, e->n_xattrs, x->list[i].name))
                        return false;
        for (size_t i = 0; i < e->n_xattrs; i++)
                if (is_kept(e->xattrs[i].name) &&
                                !xattr_equal(xattr_find(x->list, x->n, e->xattrs[i].name), e->xattrs + i))
                        return false;
        return true;
}

/* --- all of it --- */

int metadata_read(const MetadataContext *c, int fd, const struct stat *st, const char *path, ManifestEntry *e) {
        const FdPath p = fd_path(fd);
        const char *user, *group;
        Xattrs x = { 0 };
        int r;

        r = owners_user_name(c->owners, st->st_uid, &user);
        if (r >= 0)
                r = owners_group_name(c->owners, st->st_gid, &group);
        if (r < 0)
                return where_error(c->reterr, r, c->root_fd, path, "its owner cannot be looked up:");
        r = xattrs_read(&p, &x);
        if (r < 0)
                return where_error(c->reterr, r, c->root_fd, path, "extended attributes cannot be read:");

        e->mode = st->st_mode;
        e->uid = st->st_uid;
        e->gid = st->st_gid;
        e->mtime = st->st_mtim;
        e->xattrs = x.list;
        e->n_xattrs = x.n;
        if (S_ISREG(st->st_mode)) {
                e->size_bytes = (uint64_t) st->st_size;
                e->n_links = (uint64_t) st->st_nlink;
        }
        return free_and_strdup(&e->uname, user) < 0 || free_and_strdup(&e->gname, group) < 0 ? -ENOMEM : 0;
}

static int wanted_owner(const MetadataContext *c, const ManifestEntry *e, uid_t *ret_uid, gid_t *ret_gid) {
        int r;

        r = owners_uid(c->owners, e->uname, e->uid, ret_uid);
        if (r >= 0)
                r = owners_gid(c->owners, e->gname, e->gid, ret_gid);
        return r < 0 ? where_error(c->reterr, r, c->root_fd, e->path, "its owner cannot be looked up:") : 0;
}

int metadata_compare(const MetadataContext *c, int dir_fd, const char *name, const struct stat *st,
                const ManifestEntry *e, unsigned *ret) {
        _cleanup_(xattrs_done) Xattrs x = { 0 };
        unsigned d = 0;
        uid_t uid = 0;
        gid_t gid = 0;
        int r;

        r = wanted_owner(c, e, &uid, &gid);
        if (r < 0)
                return r;
        if (name) {
                const FdPath p = name_path(dir_fd, name);

                r = xattrs_read(&p, &x);
        }
        if (r < 0)
                return where_error(c->reterr, r, c->root_fd, e->path, "extended attributes cannot be read:");

        if (st->st_uid != uid || st->st_gid != gid)
                d |= TREE_OWNER;
        if (!S_ISLNK(e->mode) && (st->st_mode & 07777) != (e->mode & 07777))
                d |= TREE_MODE;
        if (name && !xattrs_equal(&x, e))
                d |= TREE_XATTRS;
        if (st->st_mtim.tv_sec != e->mtime.tv_sec || st->st_mtim.tv_nsec != e->mtime.tv_nsec)
                d |= TREE_TIME;
        *ret = d;
        return 0;
}

int metadata_apply(const MetadataContext *c, int fd, const ManifestEntry *e) {
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, e->mtime };
        _cleanup_(xattrs_done) Xattrs x = { 0 };
        const FdPath p = fd_path(fd);
        uid_t uid = 0;
        gid_t gid = 0;
        int r;

        r = wanted_owner(c, e, &uid, &gid);
        if (r < 0)
                return r;
        r = xattrs_read(&p, &x);
        if (r < 0)
                return where_error(c->reterr, r, c->root_fd, e->path, "extended attributes cannot be read:");

        for (size_t i = 0; i < x.n; i++)
                if (!is_label(x.list[i].name) && !xattr_find(e->xattrs, e->n_xattrs, x.list[i].name) &&
                                removexattr(p.text, x.list[i].name) < 0 && errno != ENODATA)
                        return where_error(c->reterr, -errno, c->root_fd, e->path,
                                        "extended attribute %s cannot be removed:", x.list[i].name);

        if (chown(p.text, uid, gid) < 0)
                return where_error(c->reterr, -errno, c->root_fd, e->path, "owner cannot be set:");
        if (!S_ISLNK(e->mode) && chmod(p.text, e->mode & 07777) < 0)
                return where_error(c->reterr, -errno, c->root_fd, e->path, "mode cannot be set:");
        for (size_t i = 0; i < e->n_xattrs; i++) {
                const Xattr *a = e->xattrs + i;

                /* Written though equal before: the owner and the mode just set may have changed it. */
                if (is_kept(a->name) && setxattr(p.text, a->name, a->value, a->size_bytes, 0) < 0)
                        return where_error(c->reterr, -errno, c->root_fd, e->path,
                                        "extended attribute %s cannot be set:", a->name);
        }
        if (utimensat(AT_FDCWD, p.text, times, 0) < 0)
                return where_error(c->reterr, -errno, c->root_fd, e->path, "time cannot be set:");
        return 0;
}
