/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/aside.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "archive/tree.h"

#define JUDGE "judge"
#define DIFF "diff"

int aside_remove(const char *name, Error *reterr) {
        _cleanup_close_ int fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? error_set(reterr, -errno, NULL, "Cannot open %s: %m", STATE_DIR)
                      : tree_remove(fd, name, reterr);
}

int aside_extract(const PackageKind *kind, const Package *package, const char *prefix, const char *name, int *ret_fd,
                Error *reterr) {
        _cleanup_free_ char *dir = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        r = aside_remove(name, reterr); /* an earlier run may have been killed */
        if (r < 0)
                return r;
        if (asprintf(&dir, STATE_DIR "/%s", name) < 0)
                return -ENOMEM;
        if (mkdir(dir, 0755) < 0 || chmod(dir, 0755) < 0)
                return error_set(reterr, -errno, NULL, "Cannot make %s: %m", dir);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_SH) < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", dir);
        r = kind->extract(package, prefix, fd, reterr);
        if (r >= 0 && ret_fd)
                *ret_fd = TAKE_FD(fd);
        return r;
}

int aside_make_for_diff(char **ret_dir, int *ret_fd, Error *reterr) {
        _cleanup_free_ char *dir = strdup(STATE_DIR "/" DIFF "-XXXXXX");
        _cleanup_close_ int fd = -1;

        if (!dir)
                return -ENOMEM;
        if (!mkdtemp(dir))
                return error_set(reterr, -errno, NULL, "Cannot make a directory %s: %m", dir);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_SH) < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", dir);
        *ret_dir = TAKE_PTR(dir);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

const char *aside_judge_name(char buf[static ASIDE_NAME_MAX], const Plan *p) {
        (void) snprintf(buf, ASIDE_NAME_MAX, JUDGE "-%.8s", p->id);
        return buf;
}

static void sweep(int state_fd, const char *name) {
        _cleanup_close_ int fd = openat(state_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_free_ char *shown = NULL;

        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return;
        if (asprintf(&shown, RUNTIME_DIR "/%s", name) >= 0)
                (void) rmdir(shown);
        (void) tree_remove(state_fd, name, NULL);
}

void aside_sweep(void) {
        DIR *dir = opendir(STATE_DIR);
        struct dirent *de;

        if (!dir)
                return;
        while ((de = readdir(dir)))
                if (startswith(de->d_name, JUDGE) || startswith(de->d_name, DIFF))
                        sweep(dirfd(dir), de->d_name);
        (void) closedir(dir);
}
