/* SPDX-License-Identifier: Apache-2.0 */

#include "base/fileio.h"

#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>

#define COPY_BYTES ((size_t) 64 * 1024)

typedef struct TempFile {
        int dir_fd;
        int fd;
        char *name; /* set while the file exists under it */
} TempFile;

#define TEMP_FILE_NULL ((TempFile){ AT_FDCWD, -1, NULL })

static void temp_file_done(TempFile *t) {
        t->fd = safe_close(t->fd);
        if (t->name)
                (void) unlinkat(t->dir_fd, t->name, 0);
        t->name = mfree(t->name);
}

/* `.NAME.tmp` beside the name it is to become, on the same file system. Always the same one: what an interrupted writer
 * has left is taken up by the next, so that nothing stays. */
static char *temp_file_name(const char *name) {
        const char *slash = strrchr(name, '/');
        int dir_len = slash ? (int) (slash - name) + 1 : 0;
        char *path;

        return asprintf(&path, "%.*s.%s.tmp", dir_len, name, name + dir_len) < 0 ? NULL : path;
}

static int temp_file_open(TempFile *t, int dir_fd, const char *name, mode_t mode) {
        _cleanup_free_ char *path = temp_file_name(name);

        if (!path)
                return -ENOMEM;
        t->fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (t->fd < 0)
                return -errno;
        t->dir_fd = dir_fd;
        t->name = TAKE_PTR(path);
        return fchmod(t->fd, mode) < 0 ? -errno : 0;
}

int write_all(int fd, const void *data, size_t size_bytes) {
        const char *p = data;

        while (size_bytes > 0) {
                ssize_t n = TEMP_FAILURE_RETRY(write(fd, p, size_bytes));

                if (n < 0)
                        return -errno;
                p += n;
                size_bytes -= (size_t) n;
        }
        return 0;
}

int pwrite_all(int fd, const void *data, size_t size_bytes, off_t offset) {
        const char *p = data;

        while (size_bytes > 0) {
                ssize_t n = TEMP_FAILURE_RETRY(pwrite(fd, p, size_bytes, offset));

                if (n < 0)
                        return -errno;
                p += n;
                offset += n;
                size_bytes -= (size_t) n;
        }
        return 0;
}

/* The directory that holds dir_fd/name, opened for fsync(2). */
static int open_parent(int dir_fd, const char *name) {
        _cleanup_free_ char *copy = strdup(name);
        int fd;

        if (!copy)
                return -ENOMEM;
        fd = openat(dir_fd, strchr(name, '/') ? dirname(copy) : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int sync_parent(int dir_fd, const char *name) {
        _cleanup_close_ int fd = open_parent(dir_fd, name);

        if (fd < 0)
                return fd;
        return fsync(fd) < 0 ? -errno : 0;
}

/* tmp, which is written, gets its name. */
static int temp_file_place(TempFile *tmp, const char *name, bool durable) {
        if (durable && fsync(tmp->fd) < 0)
                return -errno;
        if (renameat(tmp->dir_fd, tmp->name, tmp->dir_fd, name) < 0)
                return -errno;
        tmp->name = mfree(tmp->name);

        /* Nobody may act on the new content before the rename itself is on disk. */
        return durable ? sync_parent(tmp->dir_fd, name) : 0;
}

static int replace(int dir_fd, const char *name, const void *data, size_t size_bytes, mode_t mode, bool durable) {
        _cleanup_(temp_file_done) TempFile tmp = TEMP_FILE_NULL;
        int r;

        assert(name);

        r = temp_file_open(&tmp, dir_fd, name, mode);
        if (r >= 0)
                r = write_all(tmp.fd, data, size_bytes);
        return r < 0 ? r : temp_file_place(&tmp, name, durable);
}

int replace_file_at(int dir_fd, const char *name, const void *data, size_t size_bytes, mode_t mode) {
        return replace(dir_fd, name, data, size_bytes, mode, true);
}

static int copy_all(int from_fd, int to_fd) {
        _cleanup_free_ char *buffer = malloc(COPY_BYTES);
        off_t offset = 0;
        int r;

        if (!buffer)
                return -ENOMEM;
        for (;;) {
                ssize_t n = TEMP_FAILURE_RETRY(pread(from_fd, buffer, COPY_BYTES, offset));

                if (n <= 0)
                        return n < 0 ? -errno : 0;
                r = write_all(to_fd, buffer, (size_t) n);
                if (r < 0)
                        return r;
                offset += n;
        }
}

/* Gives a file that has no name the temporary one. 0: it is not to be had, for whatever reason. */
static int temp_file_link(TempFile *t, int dir_fd, const char *name, int fd, mode_t mode) {
        _cleanup_free_ char *path = temp_file_name(name);
        char link[32];
        struct stat st;

        if (!path)
                return -ENOMEM;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_nlink != 0 || (unlinkat(dir_fd, path, 0) < 0 && errno != ENOENT))
                return 0;
        (void) snprintf(link, sizeof(link), "/proc/self/fd/%i", fd); /* open(2), O_TMPFILE */
        if (linkat(AT_FDCWD, link, dir_fd, path, AT_SYMLINK_FOLLOW) < 0)
                return 0;
        t->dir_fd = dir_fd;
        t->name = TAKE_PTR(path);
        t->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return t->fd < 0 || fchmod(t->fd, mode) < 0 ? -errno : 1;
}

int replace_file_by_fd_at(int dir_fd, const char *name, int fd, mode_t mode) {
        _cleanup_(temp_file_done) TempFile tmp = TEMP_FILE_NULL;
        int r;

        assert(name);

        r = temp_file_link(&tmp, dir_fd, name, fd, mode);
        if (r == 0) {
                r = temp_file_open(&tmp, dir_fd, name, mode);
                if (r >= 0)
                        r = copy_all(fd, tmp.fd);
        }
        return r < 0 ? r : temp_file_place(&tmp, name, true);
}

int replace_volatile_file_at(int dir_fd, const char *name, const void *data, size_t size_bytes, mode_t mode) {
        return replace(dir_fd, name, data, size_bytes, mode, false);
}

int read_file_at(int dir_fd, const char *name, size_t max_bytes, char **ret, size_t *ret_size_bytes) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *buffer = NULL;
        size_t size = 0, allocated = 0;
        struct stat st;

        assert(name);
        assert(ret);

        /* O_NONBLOCK: a FIFO in the file's place must not hang us. */
        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;

        for (;;) { /* files below /proc say 0 bytes, so the size is not asked for */
                ssize_t n;

                if (allocated - size < 2) {
                        char *larger;

                        allocated = allocated ? allocated * 2 : 4096;
                        larger = realloc(buffer, allocated);
                        if (!larger)
                                return -ENOMEM;
                        buffer = larger;
                }
                n = TEMP_FAILURE_RETRY(read(fd, buffer + size, allocated - size - 1));
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t) n;
                if (size > max_bytes)
                        return -EFBIG;
        }

        buffer[size] = 0;
        if (ret_size_bytes)
                *ret_size_bytes = size;
        *ret = TAKE_PTR(buffer);
        return 0;
}

void forget_replacement_at(int dir_fd, const char *name) {
        _cleanup_free_ char *path = temp_file_name(name);

        if (path)
                (void) unlinkat(dir_fd, path, 0);
}

int remove_file_at(int dir_fd, const char *name) {
        if (unlinkat(dir_fd, name, 0) < 0)
                return errno == ENOENT ? 0 : -errno;
        return sync_parent(dir_fd, name);
}

int mkdir_parents(const char *path, mode_t mode) {
        _cleanup_free_ char *copy = NULL;
        int r;

        assert(path);

        if (mkdir(path, mode) >= 0)
                return sync_parent(AT_FDCWD, path);
        if (errno == EEXIST) {
                struct stat st;

                if (stat(path, &st) < 0)
                        return -errno;
                return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
        }
        if (errno != ENOENT)
                return -errno;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        r = mkdir_parents(dirname(copy), mode);
        if (r < 0)
                return r;
        if (mkdir(path, mode) < 0 && errno != EEXIST)
                return -errno;
        return sync_parent(AT_FDCWD, path);
}

int sync_directory(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        return fsync(fd) < 0 ? -errno : 0;
}

bool path_is_within(const char *path, const char *dir) {
        const char *rest = startswith(path, streq(dir, "/") ? "" : dir);

        return rest && (*rest == 0 || *rest == '/');
}
