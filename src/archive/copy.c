/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/copy.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include "archive/where.h"
#include "base/fileio.h"

#define BUFFER_BYTES ((size_t) 256 * 1024)
#define TICK_BYTES ((uint64_t) 8 * 1024 * 1024)
#define LARGE_BYTES ((uint64_t) 1024 * 1024)
#define ZFS_SUPER_MAGIC 0x2fc12fc1UL

enum {
        METHOD_CLONE,
        METHOD_RANGE,
        METHOD_READ_WRITE,
};

void copier_done(Copier *c) {
        c->buffer = mfree(c->buffer);
}

static int allocate_buffer(Copier *c) {
        if (!c->buffer)
                c->buffer = malloc(2 * BUFFER_BYTES);
        return c->buffer ? 0 : -ENOMEM;
}

int copier_tick(Copier *c, uint64_t bytes) {
        c->bytes_done += bytes;
        if (!c->progress || !c->progress->func)
                return 0;
        return c->progress->func(c->bytes_done, c->bytes_total, c->path, c->progress->userdata);
}

/* "Not this way"; everything else is a failure. */
static bool is_refusal(int error) {
        return error == EOPNOTSUPP || error == ENOTTY || error == EXDEV || error == EINVAL || error == ENOSYS ||
                        error == ETXTBSY;
}

bool same_file_state(const struct stat *a, const struct stat *b) {
        return a->st_size == b->st_size && a->st_ino == b->st_ino && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
                        a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
                        a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* A page that is mapped and dirty already is written to without a trace; once it is clean, the next write shows in the
 * times. sync_file_range(2), which commits no journal and flushes no disk, does not reach through an overlay. */
static int clean_pages(int fd, unsigned long file_system) {
        if (file_system == OVERLAYFS_SUPER_MAGIC)
                return fdatasync(fd) < 0 ? -errno : 0;
        return sync_file_range(fd, 0, 0,
                               SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) < 0
                        ? -errno
                        : 0;
}

static int check_unchanged(Copier *c, int src_fd, const struct stat *st) {
        struct stat now;

        if (fstat(src_fd, &now) < 0)
                return where_error(c->reterr, -errno, c->root_fd, c->path, "cannot be looked at:");
        if (!same_file_state(st, &now))
                return where_error(c->reterr, -EBUSY, c->root_fd, c->path, "changed while it was copied");
        return 0;
}

/* Starts again with the best method where the pair of file systems is another. */
static int choose_method(Copier *c, int src_fd, int dst_fd) {
        struct stat src, dst;
        struct statfs fs;

        if (fstat(src_fd, &src) < 0 || fstat(dst_fd, &dst) < 0 || fstatfs(src_fd, &fs) < 0)
                return -errno;
        if (src.st_dev != c->src_dev || dst.st_dev != c->dst_dev) {
                c->src_dev = src.st_dev;
                c->dst_dev = dst.st_dev;
                c->method = METHOD_CLONE;
        }
        /* ZFS lost data silently through cloning, and through SEEK_HOLE in files not yet written out
         * (openzfs issues 15526, 15933). */
        if ((unsigned long) fs.f_type == ZFS_SUPER_MAGIC) {
                c->method = METHOD_READ_WRITE;
                if (fsync(src_fd) < 0)
                        return -errno;
        }
        return c->serving ? clean_pages(src_fd, (unsigned long) fs.f_type) : 0;
}

/* The next stretch of data at or behind offset; both are size where only a hole is left. */
static int next_data(int fd, uint64_t offset, uint64_t size, uint64_t *ret_start, uint64_t *ret_end) {
        off_t start, end;

        start = lseek(fd, (off_t) offset, SEEK_DATA);
        if (start < 0 && errno == ENXIO) {
                *ret_start = *ret_end = size;
                return 0;
        }
        end = start < 0 ? -1 : lseek(fd, start, SEEK_HOLE);
        if (start < 0 || end < 0) {
                if (errno != EINVAL && errno != EOPNOTSUPP)
                        return -errno;
                start = (off_t) offset; /* a file system that tells nothing of holes */
                end = (off_t) size;
        }
        *ret_start = MIN((uint64_t) start, size);
        *ret_end = MIN((uint64_t) end, size);
        return 0;
}

static int digest_zeros(Copier *c, Sha256 *h, uint64_t bytes) {
        static const char zeros[65536];
        uint64_t since_tick = 0;
        int r = 0;

        while (bytes > 0 && r >= 0) {
                size_t n = (size_t) MIN(bytes, sizeof(zeros));

                r = sha256_add(h, zeros, n);
                bytes -= n;
                since_tick += n;
                if (r >= 0 && (since_tick >= TICK_BYTES || bytes == 0)) {
                        r = copier_tick(c, since_tick);
                        since_tick = 0;
                }
        }
        return r;
}

/* Reads both, and trusts neither: whatever the copy holds, it holds the source's bytes afterwards. */
static ssize_t update_piece(Copier *c, Sha256 *h, int src_fd, int dst_fd, uint64_t offset, size_t size) {
        char *there = c->buffer + BUFFER_BYTES;
        ssize_t n, m;
        int r = 0;

        n = TEMP_FAILURE_RETRY(pread(src_fd, c->buffer, size, (off_t) offset));
        if (n <= 0)
                return n < 0 ? -errno : 0;
        m = TEMP_FAILURE_RETRY(pread(dst_fd, there, (size_t) n, (off_t) offset));
        if (m < 0)
                return -errno;
        if (m != n || memcmp(c->buffer, there, (size_t) n) != 0)
                r = pwrite_all(dst_fd, c->buffer, (size_t) n, (off_t) offset);
        if (r >= 0)
                r = sha256_add(h, c->buffer, (size_t) n);
        return r < 0 ? r : n;
}

/* Copies up to size bytes at offset by c->method and digests them. Returns how many; 0: the source ends here. */
static ssize_t copy_piece(Copier *c, Sha256 *h, int src_fd, int dst_fd, uint64_t offset, size_t size) {
        ssize_t n;
        int r = 0;

        if (c->method == METHOD_RANGE) {
                off_t from = (off_t) offset, to = (off_t) offset;

                n = copy_file_range(src_fd, &from, dst_fd, &to, size, 0);
                if (n < 0 && !is_refusal(errno))
                        return -errno;
                if (n <= 0) /* some file systems say 0 for "not this way", too */
                        c->method = METHOD_READ_WRITE;
                else
                        size = (size_t) n;
        }

        n = TEMP_FAILURE_RETRY(
                        pread(c->method == METHOD_READ_WRITE ? src_fd : dst_fd, c->buffer, size, (off_t) offset));
        if (n < 0)
                return -errno;
        if (c->method == METHOD_READ_WRITE)
                r = pwrite_all(dst_fd, c->buffer, (size_t) n, (off_t) offset);
        if (r >= 0)
                r = sha256_add(h, c->buffer, (size_t) n);
        return r < 0 ? r : n;
}

static int copy_content(Copier *c, Sha256 *h, int src_fd, uint64_t size, int dst_fd) {
        uint64_t offset = 0, start = 0, end = 0, since_tick = 0;
        ssize_t (*copy)(Copier *, Sha256 *, int, int, uint64_t, size_t);
        int r;

        if (c->over && ftruncate(dst_fd, (off_t) size) < 0) /* or a clone leaves what is longer */
                return -errno;
        if (c->method == METHOD_CLONE && ioctl(dst_fd, FICLONE, src_fd) < 0) {
                if (!is_refusal(errno))
                        return -errno;
                c->method = METHOD_RANGE;
        }
        /* First, so that a hole at the end stays one. */
        if (c->method != METHOD_CLONE && ftruncate(dst_fd, (off_t) size) < 0)
                return -errno;

        copy = c->over && c->method != METHOD_CLONE ? update_piece : copy_piece;
        while (offset < size) {
                end = size;
                r = copy == update_piece ? 0 : next_data(src_fd, offset, size, &start, &end);
                if (r >= 0)
                        r = digest_zeros(c, h, start - offset);
                if (r < 0)
                        return r;

                for (offset = start; offset < end;) {
                        ssize_t n = copy(c, h, src_fd, dst_fd, offset, (size_t) MIN(BUFFER_BYTES, end - offset));

                        if (n < 0)
                                return (int) n;
                        if (n == 0)
                                return -EBUSY; /* it became shorter */
                        offset += (uint64_t) n;
                        since_tick += (uint64_t) n;
                        if (since_tick < TICK_BYTES && offset < size)
                                continue;
                        /* The disk is not to be left idle now and swamped by one sync at the end. Small files are better
                         * written together: alone, each waits for the disk. */
                        if (since_tick >= LARGE_BYTES)
                                (void) sync_file_range(dst_fd, (off_t) (offset - since_tick), (off_t) since_tick,
                                                SYNC_FILE_RANGE_WRITE);
                        r = copier_tick(c, since_tick);
                        if (r < 0)
                                return r;
                        since_tick = 0;
                }
        }
        return since_tick > 0 || size == 0 ? copier_tick(c, since_tick) : 0;
}

int copy_file(Copier *c, int src_fd, const struct stat *st, int dst_fd, char ret_sha256[static SHA256_HEX_SIZE]) {
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        int r;

        r = check_unchanged(c, src_fd, st);
        if (r < 0)
                return r;
        r = allocate_buffer(c);
        if (r >= 0)
                r = sha256_new(&h);
        if (r >= 0)
                r = choose_method(c, src_fd, dst_fd);
        if (r >= 0)
                r = copy_content(c, h, src_fd, (uint64_t) st->st_size, dst_fd);
        if (r >= 0)
                r = sha256_finish(h, ret_sha256);
        if (r == -EBUSY)
                return where_error(c->reterr, r, c->root_fd, c->path, "changed while it was copied");
        if (r < 0)
                return where_error(
                                c->reterr, r, c->root_fd, c->path, "cannot be copied to %s:", where_path(dst_fd).text);
        return check_unchanged(c, src_fd, st);
}

int read_target(int dir_fd, const char *name, char **ret) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);

        if (n < 0)
                return -errno;
        target[n] = 0;
        *ret = strdup(target);
        return *ret ? 0 : -ENOMEM;
}

/* Makes dst_dir_fd/n->name with the content of n, and opens both ends as metadata wants them. */
static int copy_data(Copier *c, const WalkNode *n, int dst_dir_fd, ManifestEntry *e, int *ret_src, int *ret_dst) {
        int r;

        if (S_ISLNK(n->st.st_mode)) {
                r = read_target(n->parent->fd, n->name, &e->target);
                if (r >= 0 && symlinkat(e->target, dst_dir_fd, n->name) < 0)
                        r = -errno;
                if (r >= 0)
                        r = *ret_src = open_child(n->parent->fd, n->name, O_PATH);
                if (r >= 0)
                        r = *ret_dst = open_child(dst_dir_fd, n->name, O_PATH);
        } else {
                r = *ret_src = open_regular(n->parent->fd, n->name, &n->st);
                if (r >= 0)
                        r = *ret_dst = open_child(dst_dir_fd, n->name, c->over ? O_RDWR : O_RDWR | O_CREAT | O_EXCL);
                if (r >= 0)
                        r = copy_file(c, *ret_src, &n->st, *ret_dst, e->sha256);
        }
        if (r == -EBUSY)
                return where_error(c->reterr, r, c->root_fd, n->path, "changed while it was copied");
        if (r < 0)
                return where_error(c->reterr, r, c->root_fd, n->path,
                                "cannot be copied to %s:", where_path(dst_dir_fd).text);
        return 0;
}

int copy_node(Copier *c, const MetadataContext *metadata, const WalkNode *n, int dst_dir_fd, ManifestEntry *e) {
        _cleanup_close_ int src = -1, dst = -1;
        int r;

        c->path = n->path;
        r = copy_data(c, n, dst_dir_fd, e, &src, &dst);
        if (r < 0)
                return r;
        r = metadata_read(metadata, src, &n->st, n->path, e);
        if (r < 0)
                return r;
        return metadata_apply(metadata, dst, e);
}

static int digest_content(Copier *c, Sha256 *h, int fd) {
        uint64_t offset = 0, since_tick = 0;
        ssize_t n;
        int r = 0;

        do {
                n = TEMP_FAILURE_RETRY(pread(fd, c->buffer, BUFFER_BYTES, (off_t) offset));
                if (n < 0)
                        return -errno;
                r = sha256_add(h, c->buffer, (size_t) n);
                offset += (uint64_t) n;
                since_tick += (uint64_t) n;
                if (r >= 0 && since_tick > 0 && (since_tick >= TICK_BYTES || n == 0)) {
                        r = copier_tick(c, since_tick);
                        since_tick = 0;
                }
        } while (n > 0 && r >= 0);
        return r;
}

int digest_file(Copier *c, int fd, char ret_sha256[static SHA256_HEX_SIZE]) {
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        int r;

        r = allocate_buffer(c);
        if (r >= 0)
                r = sha256_new(&h);
        if (r >= 0)
                r = digest_content(c, h, fd);
        if (r >= 0)
                r = sha256_finish(h, ret_sha256);
        return r < 0 ? where_error(c->reterr, r, c->root_fd, c->path, "cannot be read:") : 0;
}
