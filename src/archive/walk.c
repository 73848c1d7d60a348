/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/walk.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "archive/where.h"

/* --- names of a directory --- */

/* Packed: a directory may have a million of them. */
typedef struct Names {
        char *text; /* one behind the other, each with its NUL */
        size_t text_bytes, text_allocated;
        uint32_t *at; /* where in text each begins; in order */
        size_t n, n_allocated;
} Names;

static void names_done(Names *l) {
        free(l->text);
        free(l->at);
}

static const char *name_at(const Names *l, size_t i) {
        return l->text + l->at[i];
}

static int names_compare(const void *a, const void *b, void *text) {
        return strcmp((const char *) text + *(const uint32_t *) a, (const char *) text + *(const uint32_t *) b);
}

static int names_add(Names *l, const char *name) {
        size_t size = strlen(name) + 1;

        if (l->text_bytes + size > UINT32_MAX)
                return -EFBIG;
        if (l->text_bytes + size > l->text_allocated) {
                size_t larger = MAX(l->text_allocated * 2, (size_t) 1024);
                char *text = realloc(l->text, larger);

                if (!text)
                        return -ENOMEM;
                l->text = text;
                l->text_allocated = larger;
        }
        if (l->n == l->n_allocated) {
                size_t larger = MAX(l->n_allocated * 2, (size_t) 32);
                uint32_t *at = reallocarray(l->at, larger, sizeof(uint32_t));

                if (!at)
                        return -ENOMEM;
                l->at = at;
                l->n_allocated = larger;
        }
        memcpy(l->text + l->text_bytes, name, size);
        l->at[l->n++] = (uint32_t) l->text_bytes;
        l->text_bytes += size;
        return 0;
}

static int names_read(int dir_fd, Names *l) {
        _cleanup_(closedirp) DIR *d = NULL;
        int r;

        r = opendir_child(dir_fd, ".", &d);
        if (r < 0)
                return r;

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
                r = names_add(l, de->d_name);
                if (r < 0)
                        return r;
        }
        if (l->n > 0)
                qsort_r(l->at, l->n, sizeof(uint32_t), names_compare, l->text);
        return 0;
}

/* --- the walk --- */

typedef struct State {
        const Walk *walk;
        char *path; /* of the node at hand; grows and is cut as the walk goes down and up */
        size_t allocated;
        ManifestReader *reader;    /* NULL: no manifest */
        const ManifestEntry *next; /* in the manifest, behind what the walk has come to; NULL: nothing */
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

        if (!s->path || need > s->allocated) {
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

static int read_next(State *s) {
        int r = s->reader ? manifest_read(s->reader, &s->next) : 0;

        return r < 0 ? where_error(s->walk->reterr, r, s->walk->root_fd, s->path ?: ".",
                                       "the manifest's next entry cannot be read:")
                     : 0;
}

/* Takes over what stands next, and goes on to what is behind it. */
static int take_next(State *s, ManifestEntry *ret) {
        *ret = manifest_take(s->reader);
        return read_next(s);
}

/* What the walk has not come to below directory, it does not come to any more. */
static int pass_over(State *s, const char *directory) {
        int r = 0;

        while (s->next && r >= 0 && manifest_path_is_below(s->next->path, directory))
                r = read_next(s);
        return r;
}

/* s->path is the child's, which stands next in the directory of n, in the manifest, or in both. name is not in s->path. */
static int walk_child(State *s, WalkNode *n, const char *name, bool in_live, bool recorded) {
        const Walk *w = s->walk;
        _cleanup_(manifest_entry_done) ManifestEntry entry = { 0 };
        WalkNode child = {
                .parent = n, .path = s->path, .name = name, .fd = -1, .peer_fd = -1, .depth = n->depth + 1
        };
        int r = 0;

        if (recorded) {
                r = take_next(s, &entry);
                child.entry = &entry;
        }
        if (r < 0)
                return r;
        if (in_live) {
                if (fstatat(n->fd, name, &child.st, AT_SYMLINK_NOFOLLOW) >= 0)
                        child.exists = true;
                else if (errno != ENOENT)
                        return where_error(w->reterr, -errno, w->root_fd, s->path, "cannot be looked at:");
        }
        if (child.exists || child.entry)
                r = walk_node(s, &child);
        return r >= 0 && recorded ? pass_over(s, entry.path) : r;
}

static int walk_children(State *s, WalkNode *n) {
        const Walk *w = s->walk;
        const ManifestEntry *e = n->entry && S_ISDIR(n->entry->mode) ? n->entry : NULL;
        size_t length = n->parent && s->path ? strlen(s->path) : 0, i = 0;
        _cleanup_(names_done) Names l = { 0 };
        int r;

        r = names_read(n->fd, &l);
        if (r < 0)
                return where_error(w->reterr, r, w->root_fd, n->path, "directory cannot be read:");

        for (;;) {
                const char *recorded = e && s->next && manifest_path_is_below(s->next->path, e->path)
                                ? s->next->path + (length > 0 ? length + 1 : 0)
                                : NULL;
                int order = i == l.n ? 1 : !recorded ? -1 : strcmp(name_at(&l, i), recorded);
                const char *name = order > 0 ? recorded : name_at(&l, i);

                if (!name)
                        return 0;
                r = path_set(s, length, name);
                if (r >= 0)
                        r = walk_child(s, n, name, order <= 0, order >= 0);
                if (r < 0)
                        return r;
                i += order <= 0;
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

static int walk_root(State *s) {
        const Walk *w = s->walk;
        _cleanup_(manifest_entry_done) ManifestEntry entry = { 0 };
        WalkNode root = { .path = ".", .name = ".", .exists = true, .fd = -1, .peer_fd = -1 };
        int r = 0;

        if (fstat(w->root_fd, &root.st) < 0)
                return where_error(w->reterr, -errno, w->root_fd, ".", "cannot be looked at:");
        if (!S_ISDIR(root.st.st_mode))
                return where_error(w->reterr, -ENOTDIR, w->root_fd, ".", "no directory");
        if (s->next) {
                r = take_next(s, &entry);
                root.entry = &entry;
        }
        return r < 0 ? r : walk_node(s, &root);
}

int walk(const Walk *w) {
        State s = { .walk = w };
        int r;

        r = w->manifest ? manifest_reader_new(w->manifest, &s.reader) : 0;
        if (r >= 0)
                r = read_next(&s);
        if (r >= 0)
                r = walk_root(&s);
        (void) manifest_reader_free(s.reader);
        free(s.path);
        return r < 0 ? r : 0;
}

/* --- descriptors --- */

int open_child(int dir_fd, const char *name, int flags) {
        int fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);

        return fd < 0 ? -errno : fd;
}

int opendir_child(int dir_fd, const char *name, DIR **ret) {
        _cleanup_close_ int fd = open_child(dir_fd, name, O_RDONLY | O_DIRECTORY);

        if (fd < 0)
                return fd;
        *ret = fdopendir(fd);
        if (!*ret)
                return -ENOMEM;
        (void) TAKE_FD(fd);
        return 0;
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
