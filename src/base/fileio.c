/* SPDX-License-Identifier: Apache-2.0 */

#include "base/fileio.h"

#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>

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
static int temp_file_open(TempFile *t, int dir_fd, const char *name, mode_t mode) {
        const char *slash = strrchr(name, '/');
        int dir_len = slash ? (int) (slash - name) + 1 : 0;
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%.*s.%s.tmp", dir_len, name, name + dir_len) < 0)
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
                ssize_t n = write(fd, p, size_bytes);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                p += n;
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

static int replace(int dir_fd, const char *name, const void *data, size_t size_bytes, mode_t mode, bool durable) {
        _cleanup_(temp_file_done) TempFile tmp = TEMP_FILE_NULL;
        int r;

        assert(name);

        r = temp_file_open(&tmp, dir_fd, name, mode);
        if (r < 0)
                return r;

        r = write_all(tmp.fd, data, size_bytes);
        if (r < 0)
                return r;

        if (durable && fsync(tmp.fd) < 0)
                return -errno;
        if (renameat(dir_fd, tmp.name, dir_fd, name) < 0)
                return -errno;
        tmp.name = mfree(tmp.name);

        /* Nobody may act on the new content before the rename itself is on disk. */
        return durable ? sync_parent(dir_fd, name) : 0;
}

int replace_file_at(int dir_fd, const char *name, const void *data, size_t size_bytes, mode_t mode) {
        return replace(dir_fd, name, data, size_bytes, mode, true);
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
                n = read(fd, buffer + size, allocated - size - 1);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
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
