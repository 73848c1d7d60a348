/* SPDX-License-Identifier: Apache-2.0 */

#include "base/lock.h"

#include <fcntl.h>

static const struct flock whole_file = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
};

int lock_take(const char *path, int *ret_fd, pid_t *ret_holder) {
        _cleanup_close_ int fd = -1;
        struct flock l;

        assert(path);
        assert(ret_fd);
        assert(ret_holder);

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;

        l = whole_file;
        if (fcntl(fd, F_SETLK, &l) >= 0) {
                *ret_fd = TAKE_FD(fd);
                return 1;
        }
        if (errno != EAGAIN && errno != EACCES)
                return -errno;

        /* Gone between the two calls: pid 0, and the caller's next try gets it. */
        l = whole_file;
        if (fcntl(fd, F_GETLK, &l) < 0)
                return -errno;
        *ret_holder = l.l_type == F_UNLCK ? 0 : l.l_pid;
        return 0;
}

pid_t lock_holder(const char *path) {
        _cleanup_close_ int fd = -1;
        struct flock l = whole_file;

        assert(path);

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;

        if (fcntl(fd, F_GETLK, &l) < 0)
                return -errno;
        return l.l_type == F_UNLCK ? 0 : l.l_pid;
}
