/* SPDX-License-Identifier: Apache-2.0 */

/* The step that does what can be done while the node serves. */

#include <fcntl.h>
#include <sys/stat.h>

#include "archive/walk.h"
#include "base/fileio.h"
#include "package/package.h"
#include "steps/backup.h"
#include "steps/packages.h"

#define COPY_BYTES (1024 * 1024)

/* --- packages --- */

/* The digest is of the bytes that were written, so what is staged is what was checked. */
static int copy_package(int source_fd, int copy_fd, char ret_hex[static SHA256_HEX_SIZE]) {
        _cleanup_(sha256_freep) Sha256 *digest = NULL;
        _cleanup_free_ char *block = malloc(COPY_BYTES);
        int r;

        if (!block)
                return -ENOMEM;
        r = sha256_new(&digest);
        if (r < 0)
                return r;
        for (;;) {
                ssize_t n = TEMP_FAILURE_RETRY(read(source_fd, block, COPY_BYTES));

                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                r = sha256_add(digest, block, (size_t) n);
                if (r >= 0)
                        r = write_all(copy_fd, block, (size_t) n);
                if (r < 0)
                        return r;
        }
        if (fsync(copy_fd) < 0)
                return -errno;
        return sha256_finish(digest, ret_hex);
}

static int stage_package(Context *c, const char *path, const char *sha256, Error *reterr) {
        _cleanup_free_ char *copy = backup_package_path(c->plan, path);
        _cleanup_close_ int source_fd = -1, copy_fd = -1;
        char hex[SHA256_HEX_SIZE];
        int r;

        if (!copy)
                return -ENOMEM;
        step_report(c, "Copying %s", path);
        source_fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (source_fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", path);
        copy_fd = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        r = copy_fd < 0 ? -errno : copy_package(source_fd, copy_fd, hex);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot copy %s to %s: %m", path, copy);
        if (!streq(hex, sha256))
                return error_set(reterr, -EBADMSG, NULL, "%s has changed since it was checked", path);
        return 0;
}

static int prepare_target(Context *c, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        _cleanup_free_ char *copy = backup_package_path(c->plan, c->plan->target_path),
                            *prepared = backup_prepared_path(c->plan);
        _cleanup_(package_freep) Package *package = NULL;
        int r;

        if (!kind->prepare)
                return 0;
        if (!copy || !prepared)
                return -ENOMEM;
        step_report(c, "Packing %s again without compression", copy);
        r = kind->read(copy, &package, reterr);
        return r < 0 ? r : kind->prepare(package, prepared, reterr);
}

/* suffix: ".part" of an unfinished one, "" of the other version's directory itself. */
static int remove_beside(const char *beside_dir, const char *suffix, Error *reterr) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int parent_fd = -1;
        char *name;

        if (asprintf(&path, "%s%s", beside_dir, suffix) < 0)
                return -ENOMEM;
        name = strrchr(path, '/');
        *name++ = 0;
        parent_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", path);
        return tree_remove(parent_fd, name, reterr);
}

/* Of a kind that has both versions beside each other, the new one is there before the node goes down. */
static int unpack_beside(Context *c, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        _cleanup_free_ char *copy = backup_package_path(c->plan, c->plan->target_path);
        _cleanup_(package_freep) Package *package = NULL;
        int r;

        if (!kind->unpack)
                return 0;
        if (!copy)
                return -ENOMEM;
        step_report(c, "Unpacking %s to %s", copy, c->plan->beside_dir);
        r = kind->read(copy, &package, reterr);
        if (r >= 0)
                r = remove_beside(c->plan->beside_dir, ".part", reterr);
        return r < 0 ? r : kind->unpack(package, c->plan->root_dir, c->plan->beside_dir, reterr);
}

/* --- what was staged ahead --- */

/* Its packages are staged anew, and so is what lies beside the program: both are quick, and may be of another version.
 * Its copies of the data are what takes long. */
static int take_over(Context *c, int backups_fd, const char *id, Error *reterr) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *beside = NULL;
        int r;

        if (c->plan->beside_dir) {
                const char *root = c->plan->root_dir;

                if (asprintf(&beside, "%s.emqx-upgrade-%.8s", root, id) < 0)
                        return -ENOMEM;
                r = remove_beside(beside, ".part", reterr);
                if (r >= 0)
                        r = remove_beside(beside, "", reterr);
                if (r < 0)
                        return r;
        }
        if (renameat(backups_fd, id, backups_fd, c->plan->id) < 0)
                return error_set(reterr, -errno, NULL, "Cannot take over the staged backup %s: %m", id);
        fd = open_child(backups_fd, c->plan->id, O_RDONLY | O_DIRECTORY);
        if (fd < 0)
                return error_set(reterr, fd, NULL, "Cannot open the staged backup %s: %m", c->plan->id);
        step_report(c, "Taking over what was staged as %s", id);
        return tree_remove(fd, "packages", reterr);
}

/* One at most: staging takes over what was staged before. */
static int take_over_staged(Context *c, Error *reterr) {
        _cleanup_close_ int backups_fd = open(BACKUPS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        _cleanup_free_ char *found = NULL;
        int r;

        if (backups_fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot open %s: %m", BACKUPS_DIR);
        if (faccessat(backups_fd, c->plan->id, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                return 0; /* not the first attempt */
        r = backup_find_staged(&found);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", BACKUPS_DIR);
        return r > 0 ? take_over(c, backups_fd, found, reterr) : 0;
}

/* --- the step --- */

int stage_all(Context *c, Error *reterr) {
        _cleanup_free_ char *dir = backup_path(c->plan, "/packages");
        int r;

        if (!dir)
                return -ENOMEM;
        r = take_over_staged(c, reterr);
        if (r < 0)
                return r;
        r = mkdir_parents(dir, 0700);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot make the directory %s: %m", dir);
        r = stage_package(c, c->plan->target_path, c->plan->target_sha256, reterr);
        if (r >= 0 && c->plan->old_path)
                r = stage_package(c, c->plan->old_path, c->plan->old_sha256, reterr);
        if (r >= 0)
                r = prepare_target(c, reterr);
        if (r < 0)
                return r;
        r = sync_directory(dir);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot sync the directory %s: %m", dir);
        r = unpack_beside(c, reterr);
        return r < 0 ? r : copy_trees_ahead(c, reterr);
}

/* 1: a staged package has its digest. */
static int staged_package_holds(const Plan *p, const char *path, const char *sha256) {
        _cleanup_free_ char *copy = backup_package_path(p, path);
        _cleanup_close_ int fd = -1;
        char hex[SHA256_HEX_SIZE];
        int r;

        if (!copy)
                return -ENOMEM;
        fd = open(copy, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = sha256_fd(fd, hex);
        return r < 0 ? r : streq(hex, sha256);
}

int stage_verify(Context *c, Error *reterr) {
        const Plan *p = c->plan;
        int r;

        r = staged_package_holds(p, p->target_path, p->target_sha256);
        if (r > 0 && p->beside_dir && access(p->beside_dir, F_OK) < 0)
                return 0;
        if (r > 0 && p->old_path)
                r = staged_package_holds(p, p->old_path, p->old_sha256);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot read the staged packages: %m") : r;
}

/* The new version's directory goes once the old one is in its place; what the new one has written is in the backup. */
static int discard_beside(Context *c, Error *reterr) {
        int r;

        if (!c->plan->beside_dir)
                return 0;
        r = package_is_installed(c, c->plan->from, reterr);
        if (r == 0)
                return error_set(reterr, -EUCLEAN, NULL, "%s is not %s, so %s stays", c->plan->root_dir, c->plan->from,
                                c->plan->beside_dir);
        if (r > 0)
                r = remove_beside(c->plan->beside_dir, ".part", reterr);
        return r < 0 ? r : remove_beside(c->plan->beside_dir, "", reterr);
}

/* A backup stays, with the packages that belong to it: it is the last way back of an upgrade that failed. */
int stage_discard(Context *c, Error *reterr) {
        _cleanup_close_ int dir_fd = -1, backup_fd = -1;
        int r;

        r = discard_beside(c, reterr);
        if (r < 0)
                return r;
        r = backup_complete(c->plan);
        if (r != 0)
                return r < 0 ? error_set(reterr, r, NULL, "Cannot look at the backup %s: %m", c->plan->id) : 0;
        dir_fd = open(BACKUPS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot open %s: %m", BACKUPS_DIR);
        /* What vouches for the copies goes before them. */
        backup_fd = open_child(dir_fd, c->plan->id, O_RDONLY | O_DIRECTORY);
        if (backup_fd < 0)
                return backup_fd == -ENOENT
                                ? 0
                                : error_set(reterr, backup_fd, NULL, "Cannot open the backup %s: %m", c->plan->id);
        r = tree_remove(backup_fd, "staged", reterr);
        if (r >= 0 && fsync(backup_fd) < 0)
                r = error_set(reterr, -errno, NULL, "Cannot sync the backup %s: %m", c->plan->id);
        return r < 0 ? r : tree_remove(dir_fd, c->plan->id, reterr);
}
