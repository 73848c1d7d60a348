/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>

#include "archive/difference.h"
#include "archive/tree.h"
#include "archive/where.h"

typedef struct Restore {
        Comparison comparison;
        int backup_fd, live_fd;
        int *file_systems; /* a directory of each that is mounted below live */
        size_t n_file_systems;
        TreeCounts counts;
        Error *reterr;
} Restore;

static int remove_live(Restore *s, WalkNode *n) {
        int r;

        if (!n->exists)
                return WALK_SKIP;
        r = tree_remove(n->parent->fd, n->name, s->reterr);
        if (r < 0)
                return r;
        s->counts.n_removed++;
        return WALK_SKIP;
}

static int sync_live(Restore *s) {
        for (size_t i = 0; i < s->n_file_systems; i++)
                if (syncfs(s->file_systems[i]) < 0)
                        return where_error(s->reterr, -errno, s->file_systems[i], ".", "cannot be written to disk:");
        if (syncfs(s->live_fd) < 0)
                return where_error(s->reterr, -errno, s->live_fd, ".", "cannot be written to disk:");
        return 0;
}

static int remember_file_system(Restore *s, int fd) {
        int *larger = reallocarray(s->file_systems, s->n_file_systems + 1, sizeof(int));

        if (!larger)
                return -ENOMEM;
        s->file_systems = larger;
        larger[s->n_file_systems] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (larger[s->n_file_systems] < 0)
                return -errno;
        s->n_file_systems++;
        return 0;
}

/* --- one entry --- */

static int restore_directory(Restore *s, WalkNode *n) {
        int r;

        if (!n->parent) {
                n->peer_fd = fcntl(s->backup_fd, F_DUPFD_CLOEXEC, 3);
                return n->peer_fd < 0 ? -errno : WALK_DESCEND;
        }
        if (n->exists && !S_ISDIR(n->st.st_mode)) {
                r = tree_remove(n->parent->fd, n->name, s->reterr);
                if (r < 0)
                        return r;
                n->exists = false;
        }
        if (!n->exists) {
                if (mkdirat(n->parent->fd, n->name, 0700) < 0 ||
                                fstatat(n->parent->fd, n->name, &n->st, AT_SYMLINK_NOFOLLOW) < 0)
                        return where_error(s->reterr, -errno, s->live_fd, n->path, "directory cannot be made:");
                s->counts.n_written++;
        }
        n->peer_fd = open_child(n->parent->peer_fd, n->name, O_RDONLY | O_DIRECTORY);
        if (n->peer_fd < 0)
                return where_error(s->reterr, n->peer_fd, s->backup_fd, n->path, "backup cannot be opened:");
        return WALK_DESCEND;
}

static int write_content(Restore *s, WalkNode *n, int dst) {
        static const char advice[] = "The backup is damaged: look for disk errors.";
        _cleanup_close_ int src = -1;
        char sha256[SHA256_HEX_SIZE];
        struct stat st;
        int r;

        if (fstatat(n->parent->peer_fd, n->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return where_error(s->reterr, -errno, s->backup_fd, n->path, "backup cannot be read:");
        src = S_ISREG(st.st_mode) ? open_regular(n->parent->peer_fd, n->name, &st) : -EBADMSG;
        if (src < 0)
                return where_error(s->reterr, src, s->backup_fd, n->path, "backup cannot be read:");

        s->comparison.copier.path = n->path;
        r = copy_file(&s->comparison.copier, src, &st, dst, sha256);
        if (r < 0)
                return r;
        if ((uint64_t) st.st_size != n->entry->size_bytes || !streq(sha256, n->entry->sha256))
                return error_set(s->reterr, -EBADMSG, advice, "backup of %s is not what the manifest says", n->path);
        return 0;
}

static int write_file(Restore *s, WalkNode *n) {
        _cleanup_close_ int dst = -1;
        int r;

        dst = open_child(n->parent->fd, n->name, O_RDWR | O_CREAT | O_EXCL);
        if (dst < 0)
                return where_error(s->reterr, dst, s->live_fd, n->path, "cannot be made:");
        r = write_content(s, n, dst);
        if (r >= 0)
                r = metadata_apply(&s->comparison.metadata, dst, n->entry);
        if (r < 0) {
                (void) unlinkat(n->parent->fd, n->name, 0);
                return r;
        }
        s->counts.written_bytes += n->entry->size_bytes;
        return 0;
}

static int write_symlink(Restore *s, WalkNode *n) {
        _cleanup_close_ int fd = -1;

        if (symlinkat(n->entry->target, n->parent->fd, n->name) < 0)
                return where_error(s->reterr, -errno, s->live_fd, n->path, "symbolic link cannot be made:");
        fd = open_child(n->parent->fd, n->name, O_PATH);
        if (fd < 0)
                return where_error(s->reterr, fd, s->live_fd, n->path, "cannot be opened:");
        return metadata_apply(&s->comparison.metadata, fd, n->entry);
}

static int write_link(Restore *s, WalkNode *n, const char *first) {
        _cleanup_close_ int dir_fd = -1;
        const char *name;

        dir_fd = open_parent_at(s->live_fd, first, &name);
        if (dir_fd < 0 || linkat(dir_fd, name, n->parent->fd, n->name, 0) < 0)
                return where_error(s->reterr, dir_fd < 0 ? dir_fd : -errno, s->live_fd, n->path,
                                "hard link cannot be made:");
        return 0;
}

static int fix_metadata(Restore *s, WalkNode *n) {
        _cleanup_close_ int fd = -1;
        int r;

        fd = open_child(n->parent->fd, n->name, O_PATH);
        if (fd < 0)
                return where_error(s->reterr, fd, s->live_fd, n->path, "cannot be opened:");
        r = metadata_apply(&s->comparison.metadata, fd, n->entry);
        s->counts.n_fixed++;
        return r;
}

/* A regular file or a symlink. */
static int restore_file(Restore *s, WalkNode *n) {
        Comparison *c = &s->comparison;
        const ManifestEntry *e = n->entry;
        const char *first = group_first(c, e);
        const uint64_t before_bytes = c->copier.bytes_done;
        uint64_t read_bytes;
        unsigned d;
        int r;

        r = difference(c, n, &d);
        if (r < 0)
                return r;
        read_bytes = c->copier.bytes_done - before_bytes;

        /* What has other links is made anew rather than put right: one of them may lie outside the tree. */
        if (d == 0 ||
                        (!(d & (TREE_MISSING | TREE_TYPE | TREE_CONTENT | TREE_LINKS)) &&
                                        (S_ISLNK(e->mode) || n->st.st_nlink == 1))) {
                if (d != 0)
                        r = fix_metadata(s, n);
                c->copier.path = n->path;
                if (r >= 0 && S_ISREG(e->mode) && !first)
                        r = copier_tick(&c->copier, e->size_bytes - MIN(read_bytes, e->size_bytes));
        } else {
                c->copier.bytes_total += read_bytes; /* they are done once more */
                if (n->exists)
                        r = tree_remove(n->parent->fd, n->name, s->reterr);
                if (r >= 0)
                        r = first                          ? write_link(s, n, first)
                                        : S_ISLNK(e->mode) ? write_symlink(s, n)
                                                           : write_file(s, n);
                s->counts.n_written++;
        }
        if (r < 0)
                return r;

        if (S_ISREG(e->mode) && !first && (manifest_is_first_link(e) || e->link_to)) {
                if (fstatat(n->parent->fd, n->name, &n->st, AT_SYMLINK_NOFOLLOW) < 0)
                        return where_error(s->reterr, -errno, s->live_fd, n->path, "cannot be looked at:");
                r = group_set(c, e, &n->st, 0);
        }
        return r < 0 ? r : WALK_SKIP;
}

/* --- the walk --- */

static int restore_visit(WalkNode *n, void *userdata) {
        Restore *s = userdata;
        const ManifestEntry *e = node_entry(n);

        switch (verdict(&s->comparison, n)) {
        case TREE_LEAVE: return WALK_SKIP;
        case TREE_DROP: return remove_live(s, n);
        case TREE_CARRY: break;
        }
        if (e)
                return S_ISDIR(e->mode) ? restore_directory(s, n) : restore_file(s, n);
        if (!n->exists || is_special(n->st.st_mode))
                return WALK_SKIP;
        if (s->comparison.rules->exact)
                return remove_live(s, n);
        return S_ISDIR(n->st.st_mode) ? WALK_DESCEND : WALK_SKIP;
}

static int restore_leave(WalkNode *n, void *userdata) {
        const ManifestEntry *e = node_entry(n);
        Restore *s = userdata;
        struct stat st;
        unsigned d;
        int r;

        if (!e || !S_ISDIR(e->mode)) /* live alone */
                return 0;
        if (fstat(n->fd, &st) < 0)
                return where_error(s->reterr, -errno, s->live_fd, n->path, "cannot be looked at:");
        if (n->parent && st.st_dev != n->parent->st.st_dev) {
                r = remember_file_system(s, n->fd);
                if (r < 0)
                        return where_error(s->reterr, r, s->live_fd, n->path, "cannot be remembered:");
        }
        r = metadata_compare(&s->comparison.metadata, n->fd, ".", &st, e, &d);
        if (r < 0 || d == 0)
                return r;
        if (n->exists)
                s->counts.n_fixed++;
        return metadata_apply(&s->comparison.metadata, n->fd, e);
}

static void restore_done(Restore *s) {
        comparison_done(&s->comparison);
        for (size_t i = 0; i < s->n_file_systems; i++)
                (void) safe_close(s->file_systems[i]);
        free(s->file_systems);
}

int tree_restore(const Manifest *m, int backup_fd, int live_fd, const TreeRules *rules, const TreeProgress *progress,
                TreeCounts *ret, Error *reterr) {
        _cleanup_(owners_freep) Owners *owners = NULL;
        _cleanup_(restore_done) Restore s = { .backup_fd = backup_fd, .live_fd = live_fd, .reterr = reterr };
        int r;

        r = owners_new(&owners);
        if (r >= 0)
                r = comparison_init(&s.comparison, m, live_fd, rules, owners, progress, reterr);
        if (r < 0)
                return r;

        r = walk(&(Walk){ .root_fd = live_fd,
                        .manifest = m,
                        .visit = restore_visit,
                        .leave = restore_leave,
                        .userdata = &s,
                        .reterr = reterr });
        if (r >= 0)
                r = sync_live(&s);
        if (r >= 0 && ret)
                *ret = s.counts;
        return r;
}
