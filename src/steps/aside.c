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

/* Says that dir is in use: the descriptor with the lock, or a negative errno; -ESTALE: it was swept before that. */
static int use(const char *dir) {
        _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return errno == ENOENT ? -ESTALE : -errno;
        if (flock(fd, LOCK_SH) < 0 || fstat(fd, &st) < 0)
                return -errno;
        return st.st_nlink == 0 ? -ESTALE : TAKE_FD(fd);
}

int aside_extract(const PackageKind *kind, const Package *package, const char *prefix, const char *name, int *ret_fd,
                Error *reterr) {
        _cleanup_free_ char *dir = NULL;
        _cleanup_close_ int fd = -ESTALE;
        int r;

        r = aside_remove(name, reterr); /* an earlier run may have been killed */
        if (r < 0)
                return r;
        if (asprintf(&dir, STATE_DIR "/%s", name) < 0)
                return -ENOMEM;
        while (fd == -ESTALE)
                fd = mkdir(dir, 0755) < 0 ? -errno : use(dir);
        if (fd < 0 || fchmod(fd, 0755) < 0)
                return error_set(reterr, fd < 0 ? fd : -errno, NULL, "Cannot make %s: %m", dir);
        r = kind->extract(package, prefix, fd, reterr);
        if (r >= 0 && ret_fd)
                *ret_fd = TAKE_FD(fd);
        return r;
}

int aside_make_for_diff(char **ret_dir, int *ret_fd, Error *reterr) {
        _cleanup_free_ char *dir = NULL;
        _cleanup_close_ int fd = -ESTALE;

        while (fd == -ESTALE) {
                free(dir);
                dir = strdup(STATE_DIR "/" DIFF "-XXXXXX");
                if (!dir)
                        return -ENOMEM;
                fd = mkdtemp(dir) ? use(dir) : -errno;
        }
        if (fd < 0)
                return error_set(reterr, fd, NULL, "Cannot make a directory %s: %m", dir);
        *ret_dir = TAKE_PTR(dir);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

const char *aside_judge_name(char buf[static ASIDE_NAME_MAX], const Plan *p) {
        (void) snprintf(buf, ASIDE_NAME_MAX, JUDGE "-%.8s", p->id);
        return buf;
}

/* With its place in RUNTIME_DIR; not where somebody uses it. */
static void sweep(int state_fd, int runtime_fd, const char *name) {
        _cleanup_close_ int fd = openat(state_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0 ? errno != ENOENT : flock(fd, LOCK_EX | LOCK_NB) < 0)
                return;
        if (runtime_fd >= 0)
                (void) unlinkat(runtime_fd, name, AT_REMOVEDIR);
        if (fd >= 0)
                (void) tree_remove(state_fd, name, NULL);
}

void aside_sweep(void) {
        static const char *const dirs[] = { STATE_DIR, RUNTIME_DIR };
        _cleanup_close_ int state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                            runtime_fd = open(RUNTIME_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (state_fd < 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(dirs); i++) {
                _cleanup_(closedirp) DIR *dir = opendir(dirs[i]);
                struct dirent *de;

                while (dir && (de = readdir(dir)))
                        if (startswith(de->d_name, JUDGE) || startswith(de->d_name, DIFF))
                                sweep(state_fd, runtime_fd, de->d_name);
        }
}
