/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/aside.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "archive/tree.h"

int aside_remove(const char *name, Error *reterr) {
        _cleanup_close_ int fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? error_set(reterr, -errno, NULL, "Cannot open %s: %m", STATE_DIR)
                      : tree_remove(fd, name, reterr);
}

int aside_extract(
                const PackageKind *kind, const Package *package, const char *prefix, const char *name, Error *reterr) {
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
        if (fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", dir);
        return kind->extract(package, prefix, fd, reterr);
}
