/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>
#include <linux/magic.h>
#include <search.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "archive/copy.h"
#include "archive/tree.h"
#include "archive/where.h"

#define UPDATED_BYTES_MIN ((uint64_t) 1024 * 1024)

/* --- files with more than one link --- */

typedef struct Link {
        dev_t dev;
        ino_t ino;
        const ManifestEntry *first;
} Link;

static int link_order(const void *a, const void *b) {
        const Link *x = a, *y = b;

        if (x->dev != y->dev)
                return x->dev < y->dev ? -1 : 1;
        return x->ino < y->ino ? -1 : x->ino > y->ino;
}

/* 1: seen before, *ret_first is what was given then; 0: first time, or the only link. links is a tsearch(3) tree. */
static int link_seen(void **links, const struct stat *st, const ManifestEntry *e, const ManifestEntry **ret_first) {
        Link *l;
        Link **at;

        if (!S_ISREG(st->st_mode) || st->st_nlink < 2)
                return 0;
        l = malloc(sizeof(Link));
        if (!l)
                return -ENOMEM;
        *l = (Link){ st->st_dev, st->st_ino, e };
        at = tsearch(l, links, link_order);
        if (!at || *at != l)
                free(l);
        if (!at)
                return -ENOMEM;
        *ret_first = (*at)->first;
        return *at != l;
}

/* --- measure --- */

typedef struct Measure {
        TreeSize size;
        uint64_t changed_bytes;
        void *links;
        int dir_fd;
        const Manifest *manifest; /* or NULL */
        bool changeable;
        Error *reterr;
} Measure;

static int check_changeable(const Measure *s, const WalkNode *n) {
        int dir_fd = n->parent ? n->parent->fd : s->dir_fd;
        const char *what;
        struct statx sx;

        if (!S_ISREG(n->st.st_mode) && !S_ISDIR(n->st.st_mode))
                return 0;
        if (statx(dir_fd, n->name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0, &sx) < 0) /* it has vanished */
                return 0;
        what = sx.stx_attributes & STATX_ATTR_IMMUTABLE         ? "immutable"
                        : sx.stx_attributes & STATX_ATTR_APPEND ? "append-only"
                                                                : NULL;
        return what ? where_error(s->reterr, -EPERM, s->dir_fd, n->path, "is %s, so it cannot be replaced", what) : 0;
}

static bool is_changed(const WalkNode *n) {
        const ManifestEntry *e = n->entry;

        return !e || !S_ISREG(e->mode) || e->size_bytes != (uint64_t) n->st.st_size ||
                        e->mtime.tv_sec != n->st.st_mtim.tv_sec || e->mtime.tv_nsec != n->st.st_mtim.tv_nsec;
}

static int measure_visit(WalkNode *n, void *userdata) {
        const ManifestEntry *none;
        Measure *s = userdata;
        int r;

        if (!n->exists)
                return WALK_SKIP;
        s->size.n_entries += n->parent ? 1 : 0;
        r = s->changeable ? check_changeable(s, n) : 0;
        if (r >= 0)
                r = link_seen(&s->links, &n->st, NULL, &none);
        if (r < 0)
                return r;
        if (r == 0 && (S_ISREG(n->st.st_mode) || S_ISDIR(n->st.st_mode) || S_ISLNK(n->st.st_mode)))
                s->size.allocated_bytes += (uint64_t) n->st.st_blocks * 512; /* stat(2) */
        if (r == 0 && S_ISREG(n->st.st_mode))
                s->size.apparent_bytes += (uint64_t) n->st.st_size;
        if (r == 0 && S_ISREG(n->st.st_mode) && is_changed(n))
                s->changed_bytes += (uint64_t) n->st.st_blocks * 512;
        return S_ISDIR(n->st.st_mode) ? WALK_DESCEND : WALK_SKIP;
}

static int measure(Measure *s, TreeSize *ret) {
        int r;

        r = walk(&(Walk){ .root_fd = s->dir_fd,
                        .manifest = s->manifest,
                        .visit = measure_visit,
                        .userdata = s,
                        .serving = true,
                        .reterr = s->reterr });
        tdestroy(s->links, free);
        if (r >= 0)
                *ret = s->size;
        return r;
}

int tree_measure(int dir_fd, TreeSize *ret, Error *reterr) {
        return measure(&(Measure){ .dir_fd = dir_fd, .reterr = reterr }, ret);
}

int tree_measure_changeable(int dir_fd, TreeSize *ret, Error *reterr) {
        return measure(&(Measure){ .dir_fd = dir_fd, .changeable = true, .reterr = reterr }, ret);
}

int tree_measure_changed(const Manifest *m, int dir_fd, TreeSize *ret, uint64_t *ret_changed_bytes, Error *reterr) {
        Measure s = { .dir_fd = dir_fd, .manifest = m, .reterr = reterr };
        int r = measure(&s, ret);

        if (r >= 0)
                *ret_changed_bytes = s.changed_bytes;
        return r;
}

/* --- names --- */

typedef struct Search {
        bool (*func)(const char *name);
        Error *reterr;
} Search;

/* -ENOTDIR, -ELOOP: it is no directory. */
static int search_directory(const Search *s, int dir_fd, const char *name, unsigned depth) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r;

        r = depth > WALK_DEPTH_MAX ? -ENAMETOOLONG : opendir_child(dir_fd, name, &d);
        if (r == -ENOTDIR || r == -ELOOP)
                return r;
        if (r < 0)
                return where_error(s->reterr, r, dir_fd, name, "directory cannot be opened:");

        while ((errno = 0, de = readdir(d))) {
                if (streq(de->d_name, ".") || streq(de->d_name, ".."))
                        continue;
                if (s->func(de->d_name))
                        return 1;
                if (de->d_type != DT_DIR && de->d_type != DT_UNKNOWN)
                        continue;
                r = search_directory(s, dirfd(d), de->d_name, depth + 1);
                if (r != 0 && r != -ENOTDIR && r != -ELOOP)
                        return r;
        }
        return errno != 0 ? where_error(s->reterr, -errno, dir_fd, name, "directory cannot be read:") : 0;
}

int tree_has_name(int dir_fd, bool (*func)(const char *name), Error *reterr) {
        return search_directory(&(Search){ func, reterr }, dir_fd, ".", 0);
}

/* The headers of Debian 11, of Linux 5.10, do not have these. */
#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#ifndef CEPH_SUPER_MAGIC
#define CEPH_SUPER_MAGIC 0x00c36400
#endif

#define GFS2_MAGIC 0x01161970 /* of no header */

/* --- back up --- */

typedef struct Backup {
        int src_fd, dst_fd;
        TreePass *pass;
        Manifest *manifest;
        MetadataContext metadata;
        Copier copier;
        void *links;
        dev_t dst_dev;
        dev_t local_dev; /* the last file system whose times can be relied on; 0: none yet */
        Error *reterr;
} Backup;

/* The times of a file that another machine may write to are by another clock, and seen late; those in memory are not
 * set by writing to a mapping. */
static bool times_tell_changes(int fd) {
        static const unsigned long magics[] = {
                NFS_SUPER_MAGIC,
                SMB_SUPER_MAGIC,
                CIFS_SUPER_MAGIC,
                SMB2_SUPER_MAGIC,
                FUSE_SUPER_MAGIC,
                V9FS_MAGIC,
                CEPH_SUPER_MAGIC,
                AFS_SUPER_MAGIC,
                OCFS2_SUPER_MAGIC,
                GFS2_MAGIC,
                TMPFS_MAGIC,
                RAMFS_MAGIC,
        };
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(magics); i++)
                if ((unsigned long) fs.f_type == magics[i])
                        return false;
        return true;
}

static int add_entry(Backup *s, WalkNode *n, ManifestEntry **ret) {
        const char *why = NULL;
        int r;

        r = manifest_add(s->manifest, n->path, ret, &why);
        if (r == -EBADMSG && why)
                return where_error(s->reterr, -ENAMETOOLONG, s->src_fd, n->path, "cannot be recorded: %s", why);
        if (r < 0)
                return where_error(s->reterr, r, s->dst_fd, ".", "its manifest cannot be written:");
        (*ret)->mode = n->st.st_mode;
        n->peer = *ret;
        return 0;
}

/* Whatever an earlier pass has put where n is to be. */
static int clear_copy(Backup *s, WalkNode *n) {
        return n->parent && s->pass->earlier ? tree_remove(n->parent->peer_fd, n->name, s->reterr) : 0;
}

static int open_copy_of_directory(Backup *s, WalkNode *n) {
        int r;

        if (!n->parent) {
                n->peer_fd = fcntl(s->dst_fd, F_DUPFD_CLOEXEC, 3);
                return n->peer_fd < 0 ? -errno : 0;
        }
        if (mkdirat(n->parent->peer_fd, n->name, 0700) >= 0 || errno == EEXIST)
                n->peer_fd = open_child(n->parent->peer_fd, n->name, O_RDONLY | O_DIRECTORY);
        else
                return -errno;
        if ((n->peer_fd == -ENOTDIR || n->peer_fd == -ELOOP) && s->pass->earlier) {
                r = clear_copy(s, n);
                if (r < 0)
                        return r;
                n->peer_fd = mkdirat(n->parent->peer_fd, n->name, 0700) < 0
                                ? -errno
                                : open_child(n->parent->peer_fd, n->name, O_RDONLY | O_DIRECTORY);
        }
        return n->peer_fd < 0 ? n->peer_fd : 0;
}

static int backup_directory(Backup *s, WalkNode *n) {
        _cleanup_close_ int fd = -1;
        ManifestEntry *e;
        int r;

        fd = open_child(n->parent ? n->parent->fd : s->src_fd, n->name, O_PATH | O_DIRECTORY);
        if (fd < 0)
                return where_error(s->reterr, fd, s->src_fd, n->path, "directory cannot be opened:");
        if (n->st.st_dev != s->local_dev && times_tell_changes(fd))
                s->local_dev = n->st.st_dev;
        r = add_entry(s, n, &e);
        if (r >= 0)
                r = metadata_read(&s->metadata, fd, &n->st, n->path, e);
        if (r < 0)
                return r;
        r = open_copy_of_directory(s, n);
        if (r < 0)
                return where_error(s->reterr, r, s->src_fd, n->path, "directory cannot be copied:");
        return WALK_DESCEND;
}

/* n is the same file as first, which has been copied. */
static int backup_link(Backup *s, WalkNode *n, const ManifestEntry *first, ManifestEntry *e) {
        _cleanup_close_ int fd = -1, dir_fd = -1;
        const char *name;
        int r;

        if ((uint64_t) n->st.st_size != first->size_bytes || n->st.st_mtim.tv_sec != first->mtime.tv_sec ||
                        n->st.st_mtim.tv_nsec != first->mtime.tv_nsec)
                return where_error(s->reterr, -EBUSY, s->src_fd, n->path, "changed while it was copied");

        fd = open_child(n->parent->fd, n->name, O_PATH);
        if (fd < 0)
                return where_error(s->reterr, fd, s->src_fd, n->path, "cannot be opened:");
        dir_fd = open_parent_at(s->dst_fd, first->path, &name);
        if (dir_fd < 0 || linkat(dir_fd, name, n->parent->peer_fd, n->name, 0) < 0)
                return where_error(s->reterr, dir_fd < 0 ? dir_fd : -errno, s->src_fd, n->path,
                                "hard link cannot be made:");

        r = metadata_read(&s->metadata, fd, &n->st, n->path, e);
        e->link_to = first;
        memcpy(e->sha256, first->sha256, sizeof(e->sha256));
        return r;
}

static int copy_anew(Backup *s, WalkNode *n, ManifestEntry *e) {
        struct timespec now;
        int r;

        if (clock_gettime(CLOCK_REALTIME_COARSE, &now) < 0)
                return -errno;
        r = copy_node(&s->copier, &s->metadata, n, n->parent->peer_fd, e);
        if (r < 0)
                return r;
        if (n->st.st_dev == s->local_dev)
                manifest_note_untouched(e, &n->st, &now);
        s->pass->n_copied++;
        s->pass->copied_bytes += e->size_bytes;
        return 0;
}

/* That it is what it was is the file system's to keep; that nobody has removed it is quickly seen. */
static bool copy_is_there(const WalkNode *n, const ManifestEntry *was) {
        struct stat st;

        return fstatat(n->parent->peer_fd, n->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                        (st.st_mode & S_IFMT) == (was->mode & S_IFMT) &&
                        (S_ISLNK(was->mode) || (uint64_t) st.st_size == was->size_bytes);
}

/* What is large is often what grows at its end or changes here and there. To read twice is less than to write once and wait for
 * it; but a hole is not to be read. */
static bool can_be_updated(const WalkNode *n) {
        struct stat st;

        return S_ISREG(n->st.st_mode) && n->st.st_nlink == 1 &&
                        (uint64_t) n->st.st_blocks * 512 >= (uint64_t) n->st.st_size &&
                        fstatat(n->parent->peer_fd, n->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISREG(st.st_mode) &&
                        st.st_nlink == 1 && (uint64_t) st.st_size >= UPDATED_BYTES_MIN;
}

/* A regular file or a symlink. */
static int backup_file(Backup *s, WalkNode *n, ManifestEntry *e) {
        const ManifestEntry *was = n->entry, *first;
        int r;

        if (was && manifest_untouched(was, &n->st) && copy_is_there(n, was)) {
                r = manifest_entry_copy(e, was);
                s->copier.path = n->path;
                return r < 0 ? r : copier_tick(&s->copier, e->size_bytes);
        }
        s->copier.over = s->pass->earlier && can_be_updated(n);
        r = s->copier.over ? 0 : clear_copy(s, n);
        if (r >= 0)
                r = link_seen(&s->links, &n->st, e, &first);
        if (r < 0)
                return r;
        return r > 0 ? backup_link(s, n, first, e) : copy_anew(s, n, e);
}

/* What of a serving node went away or changed under the copy; the next pass comes to it. */
static int leave_for_next_pass(Backup *s, WalkNode *n) {
        if (s->reterr)
                error_done(s->reterr);
        return clear_copy(s, n);
}

static int backup_visit(WalkNode *n, void *userdata) {
        Backup *s = userdata;
        ManifestEntry *e;
        int r;

        if (!n->exists) {
                r = clear_copy(s, n);
                return r < 0 ? r : WALK_SKIP;
        }
        if (is_device(n->st.st_mode))
                return where_error(s->reterr, -EOPNOTSUPP, s->src_fd, n->path,
                                "is a device node, which a node's data never has");
        if (S_ISDIR(n->st.st_mode)) {
                r = backup_directory(s, n);
                if ((r == -ENOENT || r == -ENOTDIR || r == -ELOOP) && s->pass->serving && n->parent && !n->peer)
                        r = leave_for_next_pass(s, n);
                return r;
        }
        if (is_special(n->st.st_mode)) {
                r = clear_copy(s, n);
                if (r >= 0)
                        r = add_entry(s, n, &e);
                if (r < 0)
                        return r;
                e->mode &= S_IFMT;
                return WALK_SKIP;
        }

        if (s->pass->serving && n->st.st_nlink > 1) {
                r = clear_copy(s, n);
                return r < 0 ? r : WALK_SKIP;
        }
        r = add_entry(s, n, &e);
        if (r < 0)
                return r;
        r = backup_file(s, n, e);
        if ((r == -EBUSY || r == -ENOENT) && s->pass->serving) {
                manifest_take_back(s->manifest);
                r = leave_for_next_pass(s, n);
        }
        return r < 0 ? r : WALK_SKIP;
}

/* What a pass that was interrupted has copied and is gone from the source since: no manifest tells of it. Names alone are
 * looked at, which are all still at hand. */
static int remove_strangers(Backup *s, const WalkNode *n) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r;

        r = opendir_child(n->peer_fd, ".", &d);
        if (r < 0)
                return where_error(s->reterr, r, n->peer_fd, ".", "directory cannot be opened:");
        while ((errno = 0, de = readdir(d))) {
                struct stat st;

                if (streq(de->d_name, ".") || streq(de->d_name, "..") ||
                                fstatat(n->fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                        continue;
                if (errno != ENOENT)
                        return where_error(s->reterr, -errno, n->fd, de->d_name, "cannot be looked at:");
                r = tree_remove(n->peer_fd, de->d_name, s->reterr);
                if (r < 0)
                        return r;
        }
        return errno != 0 ? where_error(s->reterr, -errno, n->peer_fd, ".", "directory cannot be read:") : 0;
}

static int backup_leave(WalkNode *n, void *userdata) {
        Backup *s = userdata;
        struct stat st;
        int r;

        if (fstat(n->fd, &st) < 0)
                return where_error(s->reterr, -errno, s->src_fd, n->path, "cannot be looked at:");
        /* Something was made, renamed or removed in it: what we have is neither before nor after. */
        if (!same_file_state(&n->st, &st) && !s->pass->serving)
                return where_error(s->reterr, -EBUSY, s->src_fd, n->path, "changed while it was copied");
        /* What is vouched for as untouched has to be so after a power cut, too. */
        if (!s->pass->serving && (!n->parent || st.st_dev != n->parent->st.st_dev) && st.st_dev != s->dst_dev &&
                        syncfs(n->fd) < 0)
                return where_error(s->reterr, -errno, s->src_fd, n->path, "cannot be written to disk:");
        r = s->pass->earlier ? remove_strangers(s, n) : 0;
        return r < 0 ? r : metadata_apply(&s->metadata, n->peer_fd, n->peer);
}

int tree_backup(int src_fd, int dst_fd, TreePass *pass, const TreeProgress *progress, Manifest **ret, Error *reterr) {
        _cleanup_(owners_freep) Owners *owners = NULL;
        _cleanup_(manifest_freep) Manifest *m = NULL;
        TreePass only_pass = { 0 };
        struct stat st;
        Backup s;
        int r;

        pass = pass ?: &only_pass;
        pass->n_copied = pass->copied_bytes = 0;
        if (fstat(dst_fd, &st) < 0)
                return where_error(reterr, -errno, dst_fd, ".", "cannot be looked at:");
        r = pass->earlier ? 0 : tree_empty(dst_fd, reterr);
        if (r < 0)
                return r;
        r = owners_new(&owners);
        if (r >= 0)
                r = manifest_new(dst_fd, &m);
        if (r < 0)
                return r;

        s = (Backup){
                .src_fd = src_fd,
                .dst_fd = dst_fd,
                .pass = pass,
                .manifest = m,
                .metadata = { .owners = owners, .root_fd = src_fd, .reterr = reterr },
                .copier = { .root_fd = src_fd,
                                .progress = progress,
                                .bytes_total = progress ? progress->bytes_total : 0,
                                .serving = pass->serving,
                                .reterr = reterr },
                .dst_dev = st.st_dev,
                .reterr = reterr,
        };
        r = walk(&(Walk){ .root_fd = src_fd,
                        .manifest = pass->earlier,
                        .visit = backup_visit,
                        .leave = backup_leave,
                        .userdata = &s,
                        .serving = pass->serving,
                        .reterr = reterr });
        copier_done(&s.copier);
        tdestroy(s.links, free);
        if (r < 0)
                return r;

        r = manifest_seal(m);
        if (r < 0)
                return where_error(reterr, r, dst_fd, ".", "its manifest cannot be written:");
        if (syncfs(dst_fd) < 0)
                return where_error(reterr, -errno, dst_fd, ".", "cannot be written to disk:");
        *ret = TAKE_PTR(m);
        return 0;
}
