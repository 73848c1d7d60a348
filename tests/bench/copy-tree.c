/* SPDX-License-Identifier: Apache-2.0 */

/* One step's work on a tree, for what it costs: copy-tree MODE SOURCE BACKUP
 *
 *     first    the first pass, as `stage` makes it
 *     last     the last one, as `backup` does, on top of a first
 *     restore  the tree put back from the backup, as `restore` does; there is nothing to put back
 *     archive  the backup made one archive, as `archive` does; of SOURCE nothing is read
 *     verify   and that read back against its manifest
 *
 * Prints {"sec", "peak_kib", "entries", "bytes"}: how long it took, all on disk, and VmHWM of proc(5). */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "archive/tarball.h"
#include "archive/tree.h"
#include "base/fileio.h"
#include "base/time.h"

static int open_directory(const char *path) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

static uint64_t peak_kib(void) {
        _cleanup_free_ char *text = NULL;
        const char *line;

        if (read_file_at(AT_FDCWD, "/proc/self/status", 65536, &text, NULL) < 0)
                return 0;
        line = strstr(text, "VmHWM:");
        return line ? strtoull(line + strlen("VmHWM:"), NULL, 10) : 0;
}

static int copy(int live_fd, int copy_fd, int backup_fd, bool first, Manifest **ret, Error *reterr) {
        _cleanup_(manifest_freep) Manifest *earlier = NULL;
        TreePass pass = { .serving = first };
        TreeSize size;
        int r;

        r = first ? tree_measure(live_fd, &size, reterr) : manifest_load_at(backup_fd, "first", &earlier, reterr);
        if (r < 0)
                return r;
        pass.earlier = earlier;
        r = tree_backup(live_fd, copy_fd, &pass, NULL, ret, reterr);
        return r < 0 ? r : manifest_write_at(*ret, backup_fd, first ? "first" : "last", reterr);
}

static int restore(int live_fd, int copy_fd, int backup_fd, Manifest **ret, Error *reterr) {
        int r = manifest_load_at(backup_fd, "last", ret, reterr);

        return r < 0 ? r
                     : tree_restore(*ret, copy_fd, live_fd, &(TreeRules){ .trust_inode = true }, NULL, NULL, reterr);
}

/* Level and number of threads are the defaults of emqx-upgrade.conf(5). */
static int archive(int copy_fd, int backup_fd, bool make, Manifest **ret, Error *reterr) {
        _cleanup_close_ int fd = -1;
        char sha256[SHA256_HEX_SIZE];
        TarballTree tree;
        int r;

        r = manifest_load_at(backup_fd, "last", ret, reterr);
        if (r < 0)
                return r;
        tree = (TarballTree){ .name = "tree", .manifest = *ret, .dir_fd = copy_fd };
        if (make)
                return tarball_write(&tree, 1, &(TarballOptions){ .level = 1, .n_threads = 1 }, backup_fd, "tar.zst",
                                NULL, sha256, reterr);
        fd = openat(backup_fd, "tar.zst", O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : tarball_read(fd, &tree, 1, NULL, false, NULL, reterr);
}

int main(int argc, char *argv[]) {
        _cleanup_close_ int live_fd = -1, backup_fd = -1, copy_fd = -1;
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        usec_t begin_usec = now_usec(CLOCK_MONOTONIC);
        int r;

        if (argc != 4)
                return 2;
        live_fd = open_directory(argv[2]);
        backup_fd = open_directory(argv[3]);
        if (live_fd < 0 || backup_fd < 0 || (mkdirat(backup_fd, "tree", 0700) < 0 && errno != EEXIST)) {
                fprintf(stderr, "%s, %s: no such directories\n", argv[2], argv[3]);
                return 1;
        }
        copy_fd = openat(backup_fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (streq(argv[1], "archive") || streq(argv[1], "verify"))
                r = archive(copy_fd, backup_fd, streq(argv[1], "archive"), &m, &error);
        else if (streq(argv[1], "restore"))
                r = restore(live_fd, copy_fd, backup_fd, &m, &error);
        else
                r = copy(live_fd, copy_fd, backup_fd, streq(argv[1], "first"), &m, &error);
        if (r < 0) {
                fprintf(stderr, "%s\n", error_text(&error, r));
                return 1;
        }
        printf("{\"sec\": %.6f, \"peak_kib\": %" PRIu64 ", \"entries\": %zu, \"bytes\": %" PRIu64 "}\n",
                        (double) (now_usec(CLOCK_MONOTONIC) - begin_usec) / (double) USEC_PER_SEC, peak_kib(),
                        manifest_n_entries(m), manifest_n_bytes(m));
        return 0;
}
