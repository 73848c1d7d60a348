/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/tarball.h"

#include <archive.h>
#include <fcntl.h>

#include "archive/acl.h"
#include "archive/metadata.h"
#include "archive/walk.h"
#include "archive/where.h"
#include "base/fileio.h"

#define BUFFER_BYTES ((size_t) 64 * 1024)
#define TICK_BYTES ((uint64_t) 8 * 1024 * 1024)

static char zeros[65536]; /* never written to */

/* --- both ways --- */

typedef struct Progress {
        const TreeProgress *progress; /* may be NULL */
        uint64_t bytes_done, bytes_total, told_bytes;
} Progress;

static Progress progress_of(const TreeProgress *progress, const TarballTree *trees, size_t n_trees) {
        Progress p = { .progress = progress };

        for (size_t i = 0; i < n_trees; i++)
                p.bytes_total += manifest_n_bytes(trees[i].manifest);
        return p;
}

/* Less than 0: an end is wanted. */
static int tick(Progress *p, uint64_t bytes, const char *path, bool file_ends) {
        p->bytes_done += bytes;
        if (!p->progress || (!file_ends && p->bytes_done - p->told_bytes < TICK_BYTES))
                return 0;
        p->told_bytes = p->bytes_done;
        return p->progress->func(p->bytes_done, p->bytes_total, path, p->progress->userdata);
}

static int name_in_archive(const TarballTree *t, const char *path, char **ret) {
        int n = streq(path, ".") ? asprintf(ret, "%s", t->name) : asprintf(ret, "%s/%s", t->name, path);

        return n < 0 ? -ENOMEM : 0;
}

static int library_errno(struct archive *a, int fallback) {
        int e = archive_errno(a);

        return e == ENOMEM || e == ENOSPC || e == EIO || e == EDQUOT ? -e : fallback;
}

/* --- writing --- */

typedef struct Writer {
        struct archive *archive;
        struct archive_entry *entry;
        const TarballTree *tree;
        int fd;
        uint64_t written_bytes, synced_bytes;
        int write_errno; /* negative; of the file, which libarchive hands on in words alone */
        Sha256 *digest;
        Owners *owners;
        char *buffer;
        Progress progress;
        Error *reterr;
} Writer;

static void writer_done(Writer *w) {
        (void) archive_write_free(w->archive);
        archive_entry_free(w->entry);
        (void) sha256_free(w->digest);
        (void) owners_free(w->owners);
        free(w->buffer);
}

static la_ssize_t on_write(struct archive *a, void *userdata, const void *data, size_t size) {
        Writer *w = userdata;
        int r;

        r = write_all(w->fd, data, size);
        if (r >= 0)
                r = sha256_add(w->digest, data, size);
        if (r < 0) {
                w->write_errno = r;
                archive_set_error(a, -r, "%s", strerror(-r));
                return -1;
        }
        w->written_bytes += size;
        if (w->written_bytes - w->synced_bytes >= TICK_BYTES) { /* so that fsync() has little left to do */
                (void) sync_file_range(w->fd, (off_t) w->synced_bytes, (off_t) (w->written_bytes - w->synced_bytes),
                                SYNC_FILE_RANGE_WRITE);
                w->synced_bytes = w->written_bytes;
        }
        return (la_ssize_t) size;
}

static int write_error(Writer *w) {
        int r = w->write_errno < 0 ? w->write_errno : library_errno(w->archive, -EIO);

        return where_error(w->reterr, r, w->fd, ".", "cannot be written: %s",
                        archive_error_string(w->archive) ?: strerror(-r));
}

/* What libarchive would run another program for is refused. */
static int set_format(Writer *w, const TarballOptions *o) {
        char level[16], threads[16];
        int r;

        (void) snprintf(level, sizeof(level), "%u", o->level);
        (void) snprintf(threads, sizeof(threads), "%u", o->n_threads);
        r = archive_write_add_filter_zstd(w->archive);
        if (r != ARCHIVE_OK)
                return where_error(w->reterr, -EOPNOTSUPP, w->fd, ".", "libarchive cannot compress with zstd here");
        if (archive_write_set_filter_option(w->archive, "zstd", "compression-level", level) != ARCHIVE_OK ||
                        archive_write_set_format_pax(w->archive) != ARCHIVE_OK ||
                        archive_write_set_format_option(w->archive, "pax", "xattrheader", "SCHILY") != ARCHIVE_OK ||
                        archive_write_set_bytes_per_block(w->archive, (int) BUFFER_BYTES) != ARCHIVE_OK ||
                        archive_write_set_bytes_in_last_block(w->archive, 1) != ARCHIVE_OK)
                return write_error(w);
        /* Asked for one thread, zstd would have one beside ours, with jobs of several windows waiting for it. Before libarchive
         * 3.6 there is no such option. */
        if (o->n_threads > 1)
                (void) archive_write_set_filter_option(w->archive, "zstd", "threads", threads);
        return archive_write_open(w->archive, w, NULL, on_write, NULL) == ARCHIVE_OK ? 0 : write_error(w);
}

static int add_holes(Writer *w, int fd, const struct stat *st) {
        bool any = false;
        off_t start = 0, end;

        if ((uint64_t) st->st_blocks * 512 >= (uint64_t) st->st_size) /* stat(2) */
                return 0;
        while (start < st->st_size) {
                start = lseek(fd, start, SEEK_DATA);
                if (start < 0 && errno == ENXIO)
                        break;
                end = start < 0 ? -1 : lseek(fd, start, SEEK_HOLE);
                if (end < 0)
                        return errno == EINVAL || errno == EOPNOTSUPP ? 0 : -errno;
                archive_entry_sparse_add_entry(w->entry, start, MIN(end, st->st_size) - start);
                any = true;
                start = end;
        }
        if (!any)
                archive_entry_sparse_add_entry(w->entry, 0, 0); /* nothing but a hole */
        return 0;
}

/* All of e but its content, and its holes. */
static int fill_entry(Writer *w, const ManifestEntry *e) {
        _cleanup_free_ char *name = NULL, *link = NULL;
        struct archive_entry *entry = w->entry;
        int r;

        archive_entry_clear(entry);
        r = name_in_archive(w->tree, e->path, &name);
        if (r >= 0 && e->link_to)
                r = name_in_archive(w->tree, e->link_to->path, &link);
        if (r < 0)
                return r;
        archive_entry_set_pathname(entry, name);
        archive_entry_set_mode(entry, e->mode);
        archive_entry_set_uid(entry, e->uid);
        archive_entry_set_gid(entry, e->gid);
        archive_entry_set_uname(entry, e->uname);
        archive_entry_set_gname(entry, e->gname);
        archive_entry_set_mtime(entry, e->mtime.tv_sec, e->mtime.tv_nsec);
        if (S_ISLNK(e->mode))
                archive_entry_set_symlink(entry, e->target);
        archive_entry_set_size(entry, S_ISREG(e->mode) && !e->link_to ? (int64_t) e->size_bytes : 0);
        if (e->link_to) {
                archive_entry_set_hardlink(entry, link);
                return 0;
        }
        for (size_t i = 0; i < e->n_xattrs; i++) {
                const Xattr *x = e->xattrs + i;

                if (!acl_is_xattr(x))
                        archive_entry_xattr_add_entry(entry, x->name, x->value, x->size_bytes);
                else {
                        r = acl_to_entry(x, w->owners, entry);
                        if (r < 0)
                                return where_error(w->reterr, r, w->tree->dir_fd, e->path, "its ACL cannot be read:");
                }
        }
        return 0;
}

static int put(Writer *w, const char *data, uint64_t size) {
        while (size > 0) {
                size_t n = (size_t) MIN(size, data == zeros ? sizeof(zeros) : BUFFER_BYTES);
                la_ssize_t done = archive_write_data(w->archive, data, n);

                if (done != (la_ssize_t) n)
                        return write_error(w);
                size -= n;
        }
        return 0;
}

static int put_content(Writer *w, int fd, const ManifestEntry *e) {
        uint64_t offset = 0;
        int r;

        while (offset < e->size_bytes) {
                off_t data = lseek(fd, (off_t) offset, SEEK_DATA);
                uint64_t hole = data < 0 ? (errno == ENXIO ? e->size_bytes - offset : 0)
                                         : MIN((uint64_t) data, e->size_bytes) - offset;
                ssize_t n = 0;

                if (hole == 0) {
                        n = TEMP_FAILURE_RETRY(pread(fd, w->buffer, (size_t) MIN(BUFFER_BYTES, e->size_bytes - offset),
                                        (off_t) offset));
                        if (n < 0)
                                return where_error(w->reterr, -errno, w->tree->dir_fd, e->path, "cannot be read:");
                        if (n == 0)
                                return where_error(w->reterr, -EBADMSG, w->tree->dir_fd, e->path,
                                                "is shorter than its manifest says");
                }
                r = hole > 0 ? put(w, zeros, hole) : put(w, w->buffer, (uint64_t) n);
                if (r < 0)
                        return r;
                offset += hole > 0 ? hole : (uint64_t) n;
                r = tick(&w->progress, hole > 0 ? hole : (uint64_t) n, e->path, offset == e->size_bytes);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int write_entry(Writer *w, const WalkNode *n) {
        const ManifestEntry *e = n->entry;
        bool content = S_ISREG(e->mode) && !e->link_to;
        _cleanup_close_ int fd = -1;
        int r;

        r = fill_entry(w, e);
        if (r >= 0 && content) {
                fd = open_regular(n->parent->fd, n->name, &n->st);
                r = fd < 0 ? fd : add_holes(w, fd, &n->st);
                if (r < 0)
                        return where_error(w->reterr, r, w->tree->dir_fd, e->path, "cannot be read:");
        }
        if (r < 0)
                return r;
        /* A warning is of a name that is no ASCII: its header is of bytes then (hdrcharset=BINARY), of which tar warns too;
         * so it is not asked for where it is not needed. */
        if (archive_write_header(w->archive, w->entry) < ARCHIVE_WARN)
                return where_error(w->reterr, library_errno(w->archive, -EIO), w->tree->dir_fd, e->path,
                                "cannot be archived: %s", archive_error_string(w->archive) ?: "?");
        r = content ? put_content(w, fd, e) : 0;
        if (r >= 0 && archive_write_finish_entry(w->archive) != ARCHIVE_OK)
                r = write_error(w);
        return r;
}

static int write_visit(WalkNode *n, void *userdata) {
        const ManifestEntry *e = n->entry;
        Writer *w = userdata;
        int r;

        if (e && is_special(e->mode) && !n->exists)
                return WALK_SKIP;
        if (!e || !n->exists || (e->mode & S_IFMT) != (n->st.st_mode & S_IFMT) ||
                        (S_ISREG(e->mode) && (uint64_t) n->st.st_size != e->size_bytes))
                return where_error(w->reterr, -EBADMSG, w->tree->dir_fd, n->path, "is not what the manifest says");
        r = write_entry(w, n);
        return r < 0 ? r : S_ISDIR(e->mode) ? WALK_DESCEND : WALK_SKIP;
}

static int write_trees(Writer *w, const TarballTree *trees, size_t n_trees, const TarballOptions *o,
                char ret_sha256[static SHA256_HEX_SIZE]) {
        int r;

        w->archive = archive_write_new();
        w->entry = archive_entry_new();
        w->buffer = malloc(BUFFER_BYTES);
        if (!w->archive || !w->entry || !w->buffer)
                return -ENOMEM;
        r = sha256_new(&w->digest);
        if (r >= 0)
                r = owners_new(&w->owners);
        if (r >= 0)
                r = set_format(w, o);
        for (size_t i = 0; i < n_trees && r >= 0; i++) {
                w->tree = &trees[i];
                r = walk(&(Walk){ .root_fd = trees[i].dir_fd,
                                .manifest = trees[i].manifest,
                                .visit = write_visit,
                                .userdata = w,
                                .reterr = w->reterr });
        }
        if (r < 0)
                return r;
        if (archive_write_close(w->archive) != ARCHIVE_OK)
                return write_error(w);
        if (fsync(w->fd) < 0)
                return where_error(w->reterr, -errno, w->fd, ".", "cannot be written to disk:");
        return sha256_finish(w->digest, ret_sha256);
}

int tarball_write(const TarballTree *trees, size_t n_trees, const TarballOptions *options, int dir_fd,
                const char *name, const TreeProgress *progress, char ret_sha256[static SHA256_HEX_SIZE],
                Error *reterr) {
        _cleanup_close_ int fd = open_child(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC);
        Writer w = { .fd = fd, .progress = progress_of(progress, trees, n_trees), .reterr = reterr };
        int r;

        if (fd < 0)
                return where_error(reterr, fd, dir_fd, name, "cannot be made:");
        r = write_trees(&w, trees, n_trees, options, ret_sha256);
        writer_done(&w);
        if (r < 0)
                (void) unlinkat(dir_fd, name, 0);
        return r;
}

/* --- reading --- */

typedef struct Reader {
        struct archive *archive;
        const TarballTree *tree;
        int fd;
        Sha256 *digest; /* of the file; NULL: it is not asked for */
        char *buffer;
        bool extract;
        MetadataContext metadata;
        Progress progress;
        Error *reterr;
} Reader;

static void reader_done(Reader *d) {
        (void) archive_read_free(d->archive);
        (void) sha256_free(d->digest);
        (void) owners_free(d->metadata.owners);
        free(d->buffer);
}

static ssize_t read_file(Reader *d) {
        ssize_t n = TEMP_FAILURE_RETRY(read(d->fd, d->buffer, BUFFER_BYTES));
        int r;

        if (n < 0)
                return -errno;
        r = d->digest ? sha256_add(d->digest, d->buffer, (size_t) n) : 0;
        return r < 0 ? r : n;
}

static la_ssize_t on_read(struct archive *a, void *userdata, const void **ret) {
        Reader *d = userdata;
        ssize_t n = read_file(d);

        *ret = d->buffer;
        if (n < 0)
                archive_set_error(a, (int) -n, "%s", strerror((int) -n));
        return n < 0 ? -1 : n;
}

static int open_reader(Reader *d) {
        d->archive = archive_read_new();
        d->buffer = malloc(BUFFER_BYTES);
        if (!d->archive || !d->buffer)
                return -ENOMEM;
        if (archive_read_support_filter_zstd(d->archive) != ARCHIVE_OK ||
                        archive_read_support_format_tar(d->archive) != ARCHIVE_OK)
                return where_error(d->reterr, -EOPNOTSUPP, d->fd, ".", "libarchive cannot read zstd here");
        if (archive_read_open(d->archive, d, NULL, on_read, NULL) != ARCHIVE_OK)
                return where_error(d->reterr, library_errno(d->archive, -EBADMSG), d->fd, ".", "is damaged: %s",
                                archive_error_string(d->archive) ?: "no archive");
        return 0;
}

static int damaged(Reader *d, const char *path, const char *why) {
        const char *in_words = archive_error_string(d->archive);

        return where_error(d->reterr, library_errno(d->archive, -EBADMSG), d->fd, path ?: ".", "is damaged: %s",
                        why ?: in_words ?: "not what it should be");
}

static bool owner_name_is(const char *name, const char *expected) {
        return streq(name ?: "", expected ?: "");
}

static bool xattrs_are(struct archive_entry *entry, const ManifestEntry *e) {
        unsigned n_acls = 0, n_plain = 0, n = 0;
        const char *name;
        const void *value;
        size_t size;

        for (size_t i = 0; i < e->n_xattrs; i++)
                if (!acl_is_xattr(e->xattrs + i))
                        n_plain++;
                else if (acl_equals_entry(e->xattrs + i, entry))
                        n_acls++;
                else
                        return false;
        (void) archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
                bool found = false;

                for (size_t i = 0; i < e->n_xattrs && !found; i++)
                        found = streq(e->xattrs[i].name, name) && e->xattrs[i].size_bytes == size &&
                                        (size == 0 || memcmp(e->xattrs[i].value, value, size) == 0);
                if (!found)
                        return false;
                n++;
        }
        return n == n_plain && n_acls == acl_count(entry);
}

/* TREE_… bits: how entry is not e, but for its content. */
static unsigned header_differences(struct archive_entry *entry, const ManifestEntry *e) {
        mode_t bits = archive_entry_acl_count(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS) > 0
                        ? 07000 /* the others are of the ACL, and compared with it */
                        : 07777;
        unsigned d = 0;

        if ((archive_entry_filetype(entry) & S_IFMT) != (e->mode & S_IFMT) || archive_entry_hardlink(entry))
                d |= TREE_TYPE;
        if (archive_entry_uid(entry) != e->uid || archive_entry_gid(entry) != e->gid ||
                        !owner_name_is(archive_entry_uname(entry), e->uname) ||
                        !owner_name_is(archive_entry_gname(entry), e->gname))
                d |= TREE_OWNER;
        if (!S_ISLNK(e->mode) && (archive_entry_perm(entry) & bits) != (e->mode & bits))
                d |= TREE_MODE;
        if (archive_entry_mtime(entry) != e->mtime.tv_sec || archive_entry_mtime_nsec(entry) != e->mtime.tv_nsec)
                d |= TREE_TIME;
        if ((S_ISLNK(e->mode) && !streq_ptr(archive_entry_symlink(entry), e->target)) ||
                        (S_ISREG(e->mode) && (uint64_t) archive_entry_size(entry) != e->size_bytes))
                d |= TREE_CONTENT;
        if (!xattrs_are(entry, e))
                d |= TREE_XATTRS;
        return d;
}

/* entry is the one that e stands for, and has all of its metadata. */
static int check_header(Reader *d, struct archive_entry *entry, const ManifestEntry *e, const char *name) {
        const char *found = archive_entry_pathname(entry), *rest = found ? startswith(found, name) : NULL;
        char text[TREE_DIFFERENCE_TEXT_MAX];
        _cleanup_free_ char *link = NULL;
        unsigned differences;
        int r;

        if (!rest || (*rest && !(S_ISDIR(e->mode) && streq(rest, "/"))))
                return where_error(d->reterr, -EBADMSG, d->fd, name, "is missing: %s is in its place", found ?: "?");
        if (e->link_to) {
                r = name_in_archive(d->tree, e->link_to->path, &link);
                if (r < 0)
                        return r;
                differences = streq_ptr(archive_entry_hardlink(entry), link) ? 0 : TREE_LINKS;
        } else
                differences = header_differences(entry, e);
        if (differences != 0)
                return where_error(d->reterr, -EBADMSG, d->fd, name, "is not what the manifest says: %s",
                                tree_difference_text(text, differences));
        return 0;
}

static int add_zeros(Sha256 *h, uint64_t bytes) {
        int r = 0;

        for (; bytes > 0 && r >= 0; bytes -= MIN(bytes, sizeof(zeros)))
                r = sha256_add(h, zeros, (size_t) MIN(bytes, sizeof(zeros)));
        return r;
}

/* out_fd -1: it is only looked at. */
static int read_content(Reader *d, const ManifestEntry *e, const char *name, int out_fd) {
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        char sha256[SHA256_HEX_SIZE];
        uint64_t at = 0;
        int r, s;

        r = sha256_new(&h);
        if (r < 0)
                return r;
        for (;;) {
                const void *block;
                int64_t offset;
                size_t size;

                s = archive_read_data_block(d->archive, &block, &size, &offset);
                if (s != ARCHIVE_OK)
                        break;
                if (offset < 0 || (uint64_t) offset < at || (uint64_t) offset > e->size_bytes ||
                                size > e->size_bytes - (uint64_t) offset)
                        return damaged(d, name, "more content than its size");
                r = add_zeros(h, (uint64_t) offset - at);
                if (r >= 0)
                        r = sha256_add(h, block, size);
                if (r < 0)
                        return r;
                r = out_fd >= 0 ? pwrite_all(out_fd, block, size, offset) : 0;
                if (r < 0)
                        return where_error(d->reterr, r, d->tree->dir_fd, e->path, "cannot be written:");
                r = tick(&d->progress, (uint64_t) offset + size - at, e->path, false);
                if (r < 0)
                        return r;
                at = (uint64_t) offset + size;
        }
        if (s != ARCHIVE_EOF)
                return damaged(d, name, NULL);
        r = add_zeros(h, e->size_bytes - at);
        if (r >= 0)
                r = sha256_finish(h, sha256);
        if (r >= 0 && !streq(sha256, e->sha256))
                return where_error(d->reterr, -EBADMSG, d->fd, name, "is not what the manifest says: content");
        return r < 0 ? r : tick(&d->progress, e->size_bytes - at, e->path, true);
}

static int make_link(int root_fd, const ManifestEntry *first, int parent_fd, const char *name) {
        _cleanup_close_ int dir_fd = -1;
        const char *first_name;

        dir_fd = open_parent_at(root_fd, first->path, &first_name);
        if (dir_fd < 0)
                return dir_fd;
        return linkat(dir_fd, first_name, parent_fd, name, 0) < 0 ? -errno : 0;
}

/* All but what directories have beside a name: files are still to be made in them. */
static int make(Reader *d, const ManifestEntry *e, const char *full_name) {
        _cleanup_close_ int parent_fd = -1, fd = -1;
        const char *name;
        int r;

        if (streq(e->path, "."))
                return 0;
        parent_fd = open_parent_at(d->tree->dir_fd, e->path, &name);
        if (parent_fd < 0)
                r = parent_fd;
        else if (S_ISDIR(e->mode))
                r = mkdirat(parent_fd, name, 0700) < 0 ? -errno : 0;
        else if (e->link_to)
                r = make_link(d->tree->dir_fd, e->link_to, parent_fd, name);
        else if (S_ISLNK(e->mode))
                r = symlinkat(e->target, parent_fd, name) < 0 ? -errno : (fd = open_child(parent_fd, name, O_PATH));
        else {
                r = fd = open_child(parent_fd, name, O_RDWR | O_CREAT | O_EXCL);
                if (fd >= 0 && ftruncate(fd, (off_t) e->size_bytes) < 0)
                        r = -errno;
        }
        if (r < 0)
                return where_error(d->reterr, r, d->tree->dir_fd, e->path, "cannot be made:");
        if (S_ISREG(e->mode) && !e->link_to)
                r = read_content(d, e, full_name, fd);
        return r < 0 || fd < 0 ? r : metadata_apply(&d->metadata, fd, e);
}

static int read_entry(Reader *d, const ManifestEntry *e) {
        _cleanup_free_ char *name = NULL;
        struct archive_entry *entry;
        int r;

        r = name_in_archive(d->tree, e->path, &name);
        if (r < 0)
                return r;
        r = archive_read_next_header(d->archive, &entry);
        if (r == ARCHIVE_EOF)
                return damaged(d, name, "the archive ends before it");
        if (r != ARCHIVE_OK)
                return damaged(d, name, NULL);
        r = check_header(d, entry, e, name);
        if (r < 0)
                return r;
        if (d->extract)
                return make(d, e, name);
        return S_ISREG(e->mode) && !e->link_to ? read_content(d, e, name, -1) : 0;
}

/* Nothing is made in a directory any more, so its time stays. */
static int finish_directories(Reader *d) {
        _cleanup_(manifest_reader_freep) ManifestReader *reader = NULL;
        const ManifestEntry *e;
        int r;

        r = manifest_reader_new(d->tree->manifest, &reader);
        while (r >= 0 && (r = manifest_read(reader, &e)) > 0) {
                _cleanup_close_ int parent_fd = -1, fd = -1;
                const char *name = ".";

                if (!S_ISDIR(e->mode))
                        continue;
                parent_fd = open_parent_at(d->tree->dir_fd, e->path, &name);
                fd = parent_fd < 0 ? parent_fd : open_child(parent_fd, name, O_RDONLY | O_DIRECTORY);
                if (fd < 0)
                        return where_error(d->reterr, fd, d->tree->dir_fd, e->path, "cannot be opened:");
                r = metadata_apply(&d->metadata, fd, e);
        }
        if (r < 0)
                return r;
        return syncfs(d->tree->dir_fd) < 0
                        ? where_error(d->reterr, -errno, d->tree->dir_fd, ".", "cannot be written to disk:")
                        : 0;
}

/* Behind the last entry, to the end of the file. */
static int read_rest(Reader *d, const char *sha256) {
        struct archive_entry *entry;
        char hex[SHA256_HEX_SIZE];
        ssize_t n;
        int r;

        r = archive_read_next_header(d->archive, &entry);
        if (r == ARCHIVE_OK)
                return damaged(d, archive_entry_pathname(entry), "the manifest does not have it");
        if (r != ARCHIVE_EOF)
                return damaged(d, NULL, NULL);
        if (!sha256)
                return 0;
        do
                n = read_file(d);
        while (n > 0);
        if (n < 0)
                return where_error(d->reterr, (int) n, d->fd, ".", "cannot be read:");
        r = sha256_finish(d->digest, hex);
        if (r >= 0 && !streq(hex, sha256))
                return damaged(d, NULL, "its digest is not the one that was recorded");
        return r;
}

static int read_tree(Reader *d) {
        _cleanup_(manifest_reader_freep) ManifestReader *reader = NULL;
        const ManifestEntry *e;
        int r;

        r = manifest_reader_new(d->tree->manifest, &reader);
        while (r >= 0 && (r = manifest_read(reader, &e)) > 0)
                r = is_special(e->mode) ? 0 : read_entry(d, e);
        return r;
}

static int read_trees(Reader *d, const TarballTree *trees, size_t n_trees, const char *sha256) {
        int r;

        r = sha256 ? sha256_new(&d->digest) : 0;
        if (r >= 0)
                r = owners_new(&d->metadata.owners);
        if (r >= 0)
                r = open_reader(d);
        for (size_t i = 0; i < n_trees && r >= 0; i++) {
                d->tree = &trees[i];
                d->metadata.root_fd = trees[i].dir_fd;
                r = read_tree(d);
        }
        if (r >= 0)
                r = read_rest(d, sha256);
        for (size_t i = 0; i < n_trees && r >= 0 && d->extract; i++) {
                d->tree = &trees[i];
                d->metadata.root_fd = trees[i].dir_fd;
                r = finish_directories(d);
        }
        return r;
}

int tarball_read(int fd, const TarballTree *trees, size_t n_trees, const char *sha256, bool extract,
                const TreeProgress *progress, Error *reterr) {
        Reader d = { .fd = fd,
                .extract = extract,
                .metadata = { .root_fd = -1, .reterr = reterr },
                .progress = progress_of(progress, trees, n_trees),
                .reterr = reterr };
        int r = read_trees(&d, trees, n_trees, sha256);

        reader_done(&d);
        return r;
}
