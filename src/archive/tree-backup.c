/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>
#include <search.h>

#include "archive/copy.h"
#include "archive/tree.h"
#include "archive/where.h"

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
        void *links;
} Measure;

static int measure_visit(WalkNode *n, void *userdata) {
        const ManifestEntry *none;
        Measure *s = userdata;
        int r;

        s->size.n_entries += n->parent ? 1 : 0;
        r = link_seen(&s->links, &n->st, NULL, &none);
        if (r < 0)
                return r;
        if (r == 0 && (S_ISREG(n->st.st_mode) || S_ISDIR(n->st.st_mode) || S_ISLNK(n->st.st_mode)))
                s->size.allocated_bytes += (uint64_t) n->st.st_blocks * 512; /* stat(2) */
        if (r == 0 && S_ISREG(n->st.st_mode))
                s->size.apparent_bytes += (uint64_t) n->st.st_size;
        return S_ISDIR(n->st.st_mode) ? WALK_DESCEND : WALK_SKIP;
}

int tree_measure(int dir_fd, TreeSize *ret, Error *reterr) {
        Measure s = { 0 };
        int r;

        r = walk(&(Walk){ .root_fd = dir_fd, .visit = measure_visit, .userdata = &s, .reterr = reterr });
        tdestroy(s.links, free);
        if (r >= 0)
                *ret = s.size;
        return r;
}

/* --- back up --- */

typedef struct Backup {
        int src_fd, dst_fd;
        Manifest *manifest;
        MetadataContext metadata;
        Copier copier;
        void *links;
        Error *reterr;
} Backup;

static int add_entry(Backup *s, WalkNode *n, ManifestEntry **ret) {
        const char *why = NULL;
        int r;

        r = manifest_add(s->manifest, n->path, ret, &why);
        if (r == -EBADMSG)
                return where_error(s->reterr, -ENAMETOOLONG, s->src_fd, n->path, "cannot be recorded: %s", why);
        if (r < 0)
                return r;
        (*ret)->mode = n->st.st_mode;
        n->entry = *ret;
        return 0;
}

static int backup_directory(Backup *s, WalkNode *n, ManifestEntry *e) {
        _cleanup_close_ int fd = -1;

        if (!n->parent)
                n->peer_fd = fcntl(s->dst_fd, F_DUPFD_CLOEXEC, 3);
        else if (mkdirat(n->parent->peer_fd, n->name, 0700) >= 0)
                n->peer_fd = open_child(n->parent->peer_fd, n->name, O_RDONLY | O_DIRECTORY);
        else
                return where_error(s->reterr, -errno, s->src_fd, n->path, "directory cannot be copied:");
        if (n->peer_fd < 0)
                return where_error(s->reterr, n->parent ? n->peer_fd : -errno, s->src_fd, n->path,
                                "its copy cannot be opened:");

        fd = open_child(n->parent ? n->parent->fd : s->src_fd, n->name, O_PATH | O_DIRECTORY);
        if (fd < 0)
                return where_error(s->reterr, fd, s->src_fd, n->path, "directory cannot be opened:");
        return metadata_read(&s->metadata, fd, &n->st, n->path, e);
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

static int backup_visit(WalkNode *n, void *userdata) {
        const ManifestEntry *first;
        Backup *s = userdata;
        ManifestEntry *e;
        int r;

        if (is_device(n->st.st_mode))
                return where_error(s->reterr, -EOPNOTSUPP, s->src_fd, n->path,
                                "is a device node, which a node's data never has");
        r = add_entry(s, n, &e);
        if (r < 0)
                return r;
        if (is_special(n->st.st_mode)) {
                e->mode &= S_IFMT;
                return WALK_SKIP;
        }
        if (S_ISDIR(n->st.st_mode)) {
                r = backup_directory(s, n, e);
                return r < 0 ? r : WALK_DESCEND;
        }

        r = link_seen(&s->links, &n->st, e, &first);
        if (r > 0)
                r = backup_link(s, n, first, e);
        else if (r == 0)
                r = copy_node(&s->copier, &s->metadata, n, n->parent->peer_fd, e);
        return r < 0 ? r : WALK_SKIP;
}

static int backup_leave(WalkNode *n, void *userdata) {
        Backup *s = userdata;
        struct stat st;

        if (fstat(n->fd, &st) < 0)
                return where_error(s->reterr, -errno, s->src_fd, n->path, "cannot be looked at:");
        /* Something was made, renamed or removed in it: what we have is neither before nor after. */
        if (!same_file_state(&n->st, &st))
                return where_error(s->reterr, -EBUSY, s->src_fd, n->path, "changed while it was copied");
        return metadata_apply(&s->metadata, n->peer_fd, n->entry, true);
}

int tree_backup(int src_fd, int dst_fd, const TreeProgress *progress, Manifest **ret, Error *reterr) {
        _cleanup_(owners_freep) Owners *owners = NULL;
        _cleanup_(manifest_freep) Manifest *m = NULL;
        Backup s;
        int r;

        r = tree_empty(dst_fd, reterr);
        if (r < 0)
                return r;
        r = owners_new(&owners);
        if (r >= 0)
                r = manifest_new(&m);
        if (r < 0)
                return r;

        s = (Backup){
                .src_fd = src_fd,
                .dst_fd = dst_fd,
                .manifest = m,
                .metadata = { .owners = owners, .root_fd = src_fd, .reterr = reterr },
                .copier = { .root_fd = src_fd,
                                .progress = progress,
                                .bytes_total = progress ? progress->bytes_total : 0,
                                .reterr = reterr },
                .reterr = reterr,
        };
        r = walk(&(Walk){ .root_fd = src_fd,
                        .visit = backup_visit,
                        .leave = backup_leave,
                        .userdata = &s,
                        .reterr = reterr });
        copier_done(&s.copier);
        tdestroy(s.links, free);
        if (r < 0)
                return r;

        if (syncfs(dst_fd) < 0)
                return where_error(reterr, -errno, dst_fd, ".", "cannot be written to disk:");
        manifest_seal(m);
        *ret = TAKE_PTR(m);
        return 0;
}
