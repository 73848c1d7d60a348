/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "archive/where.h"

/* --- names of a directory --- */

typedef struct Names {
        char **names;
        size_t n, n_allocated;
} Names;

static void names_done(Names *l) {
        for (size_t i = 0; i < l->n; i++)
                free(l->names[i]);
        free(l->names);
}

static int names_compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static void dir_closep(DIR **d) {
        if (*d)
                (void) closedir(*d);
}

static int names_read(int dir_fd, Names *l) {
        _cleanup_(dir_closep) DIR *d = NULL;
        int fd;

        fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        d = fdopendir(fd);
        if (!d) {
                (void) safe_close(fd);
                return -ENOMEM;
        }

        for (;;) {
                struct dirent *de;

                errno = 0;
                de = readdir(d);
                if (!de) {
                        if (errno != 0)
                                return -errno;
                        break;
                }
                if (streq(de->d_name, ".") || streq(de->d_name, ".."))
                        continue;
                if (l->n == l->n_allocated) {
                        size_t n = l->n_allocated ? l->n_allocated * 2 : 32;
                        char **larger = reallocarray(l->names, n, sizeof(char *));

                        if (!larger)
                                return -ENOMEM;
                        l->names = larger;
                        l->n_allocated = n;
                }
                l->names[l->n] = strdup(de->d_name);
                if (!l->names[l->n])
                        return -ENOMEM;
                l->n++;
        }
        if (l->n > 0)
                qsort(l->names, l->n, sizeof(char *), names_compare);
        return 0;
}

/* --- the walk --- */

typedef struct State {
        const Walk *walk;
        char *path; /* of the node at hand; grows and is cut as the walk goes down and up */
        size_t allocated;
} State;

/* Files of these are made up by the kernel; reading them may block or have effects. */
static bool is_kernel_file_system(int fd) {
        static const unsigned long magics[] = {
                PROC_SUPER_MAGIC,
                SYSFS_MAGIC,
                CGROUP_SUPER_MAGIC,
                CGROUP2_SUPER_MAGIC,
                DEBUGFS_MAGIC,
                TRACEFS_MAGIC,
                SECURITYFS_MAGIC,
                DEVPTS_SUPER_MAGIC,
                BPF_FS_MAGIC,
                PSTOREFS_MAGIC,
                EFIVARFS_MAGIC,
                SELINUX_MAGIC,
        };
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(magics); i++)
                if ((unsigned long) fs.f_type == magics[i])
                        return true;
        return false;
}

/* Makes s->path that of name below the directory whose path takes length bytes. */
static int path_set(State *s, size_t length, const char *name) {
        size_t need = length + 1 + strlen(name) + 1;

        if (need > s->allocated) {
                char *larger = realloc(s->path, need * 2);

                if (!larger)
                        return -ENOMEM;
                s->path = larger;
                s->allocated = need * 2;
        }
        if (length > 0)
                s->path[length++] = '/';
        strcpy(s->path + length, name);
        return 0;
}

static int walk_node(State *s, WalkNode *n);

/* The child that stands next in the manifest, below the directory of entry e; NULL: no more. */
static const ManifestEntry *child_at(const Manifest *m, const ManifestEntry *e, size_t index) {
        return e && index < e->end ? manifest_at(m, index) : NULL;
}

static int walk_children(State *s, WalkNode *n) {
        const Walk *w = s->walk;
        const ManifestEntry *e = w->manifest && n->entry && S_ISDIR(n->entry->mode) ? n->entry : NULL;
        size_t length = n->parent && s->path ? strlen(s->path) : 0, at = e ? e->index + 1 : 0, i = 0;
        _cleanup_(names_done) Names l = { 0 };
        int r;

        r = names_read(n->fd, &l);
        if (r < 0)
                return where_error(w->reterr, r, w->root_fd, n->path, "directory cannot be read:");

        for (;;) {
                const ManifestEntry *next = child_at(w->manifest, e, at);
                const char *recorded = next ? next->path + (length > 0 ? length + 1 : 0) : NULL;
                int order = i == l.n ? 1 : !next ? -1 : strcmp(l.names[i], recorded);
                WalkNode child = { .parent = n, .fd = -1, .peer_fd = -1, .depth = n->depth + 1 };

                if (i == l.n && !next)
                        return 0;
                if (order >= 0) {
                        child.entry = next;
                        at = next->end;
                }
                child.name = order <= 0 ? l.names[i++] : recorded;

                r = path_set(s, length, child.name);
                if (r < 0)
                        return r;
                child.path = s->path;
                if (order <= 0) {
                        if (fstatat(n->fd, child.name, &child.st, AT_SYMLINK_NOFOLLOW) >= 0)
                                child.exists = true;
                        else if (errno != ENOENT)
                                return where_error(w->reterr, -errno, w->root_fd, s->path, "cannot be looked at:");
                }
                if (child.exists || child.entry) {
                        r = walk_node(s, &child);
                        if (r < 0)
                                return r;
                }
                if (length > 0)
                        s->path[length] = 0;
                n->path = n->parent ? s->path : "."; /* it may have moved */
        }
}

static int walk_node(State *s, WalkNode *n) {
        const Walk *w = s->walk;
        int r;

        if (n->depth > WALK_DEPTH_MAX)
                return where_error(w->reterr, -ENAMETOOLONG, w->root_fd, n->path, "more than %i directories deep",
                                WALK_DEPTH_MAX);

        r = w->visit(n, w->userdata);
        if (r != WALK_DESCEND)
                goto finish;

        n->fd = n->parent ? open_child(n->parent->fd, n->name, O_RDONLY | O_DIRECTORY)
                          : fcntl(w->root_fd, F_DUPFD_CLOEXEC, 3);
        if ((n->fd == -ENOENT || n->fd == -ENOTDIR || n->fd == -ELOOP) && n->parent && w->serving) {
                r = WALK_SKIP;
                goto finish;
        }
        if (n->fd < 0) {
                r = where_error(w->reterr, n->parent ? n->fd : -errno, w->root_fd, n->path,
                                "directory cannot be opened:");
                goto finish;
        }
        if (is_kernel_file_system(n->fd)) {
                r = where_error(w->reterr, -EOPNOTSUPP, w->root_fd, n->path,
                                "a file system of the kernel's own (proc, sysfs or the like) is mounted there");
                goto finish;
        }

        r = walk_children(s, n);
        if (r >= 0 && w->leave)
                r = w->leave(n, w->userdata);
finish:
        n->fd = safe_close(n->fd);
        n->peer_fd = safe_close(n->peer_fd);
        return r;
}

int walk(const Walk *w) {
        _cleanup_free_ char *path = NULL;
        State s = { .walk = w };
        WalkNode root = { .path = ".", .name = ".", .exists = true, .fd = -1, .peer_fd = -1 };
        int r;

        root.entry = w->manifest ? manifest_at(w->manifest, 0) : NULL;
        if (fstat(w->root_fd, &root.st) < 0)
                return where_error(w->reterr, -errno, w->root_fd, ".", "cannot be looked at:");
        if (!S_ISDIR(root.st.st_mode))
                return where_error(w->reterr, -ENOTDIR, w->root_fd, ".", "no directory");
        r = walk_node(&s, &root);
        path = s.path;
        return r < 0 ? r : 0;
}

/* --- descriptors --- */

int open_child(int dir_fd, const char *name, int flags) {
        int fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);

        return fd < 0 ? -errno : fd;
}

int open_regular(int dir_fd, const char *name, const struct stat *st) {
        _cleanup_close_ int fd = -1;
        struct stat now;

        fd = open_child(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOATIME);
        if (fd == -EPERM) /* not ours, and no CAP_FOWNER */
                fd = open_child(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
        if (fd == -ENOENT || fd == -ELOOP || fd == -ENXIO)
                return -EBUSY;
        if (fd < 0)
                return fd;
        if (fstat(fd, &now) < 0)
                return -errno;
        if (!S_ISREG(now.st_mode) || now.st_dev != st->st_dev || now.st_ino != st->st_ino)
                return -EBUSY;
        return TAKE_FD(fd);
}

int open_parent_at(int root_fd, const char *path, const char **ret_name) {
        _cleanup_close_ int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
        const char *slash;

        if (fd < 0)
                return -errno;
        for (; (slash = strchr(path, '/')); path = slash + 1) {
                char name[NAME_MAX + 1];
                int child;

                if (slash - path > NAME_MAX)
                        return -ENAMETOOLONG;
                memcpy(name, path, (size_t) (slash - path));
                name[slash - path] = 0;
                child = open_child(fd, name, O_PATH | O_DIRECTORY);
                if (child < 0)
                        return child;
                (void) safe_close(fd);
                fd = child;
        }
        *ret_name = path;
        return TAKE_FD(fd);
}
