/* SPDX-License-Identifier: Apache-2.0 */

/* The steps that stage, remove and install packages. */

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "node/node.h"
#include "package/store.h"
#include "steps/backup.h"

#define COPY_BYTES (1024 * 1024)

/* --- stage --- */

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
                ssize_t n = read(source_fd, block, COPY_BYTES);

                if (n < 0 && errno == EINTR)
                        continue;
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

/* suffix: ".part" of an unfinished one, "" of the other version's directory itself. */
static int remove_beside(const Plan *p, const char *suffix, Error *reterr) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int parent_fd = -1;
        char *name;

        if (asprintf(&path, "%s%s", p->beside_dir, suffix) < 0)
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
                r = remove_beside(c->plan, ".part", reterr);
        return r < 0 ? r : kind->unpack(package, c->plan->root_dir, c->plan->beside_dir, reterr);
}

int stage_all(Context *c, Error *reterr) {
        _cleanup_free_ char *dir = backup_path(c->plan, "/packages");
        int r;

        if (!dir)
                return -ENOMEM;
        r = mkdir_parents(dir, 0700);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot make the directory %s: %m", dir);
        r = stage_package(c, c->plan->target_path, c->plan->target_sha256, reterr);
        if (r >= 0 && c->plan->old_path)
                r = stage_package(c, c->plan->old_path, c->plan->old_sha256, reterr);
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

/* 1: installed and whole, in that version; NULL: not installed at all. */
static int is_installed(Context *c, const char *version, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        int r;

        r = package_kind_find(c->plan->kind)->query(STRV_MAKE(c->plan->package), c->plan->root_dir, &list, reterr);
        if (r < 0)
                return r;
        if (!version)
                return list.n == 0;
        return list.n == 1 && list.items[0].complete && streq(list.items[0].version, version);
}

/* The new version's directory goes once the old one is in its place; what the new one has written is in the backup. */
static int discard_beside(Context *c, Error *reterr) {
        int r;

        if (!c->plan->beside_dir)
                return 0;
        r = is_installed(c, c->plan->from, reterr);
        if (r == 0)
                return error_set(reterr, -EUCLEAN, NULL, "%s is not %s, so %s stays", c->plan->root_dir, c->plan->from,
                                c->plan->beside_dir);
        if (r > 0)
                r = remove_beside(c->plan, ".part", reterr);
        return r < 0 ? r : remove_beside(c->plan, "", reterr);
}

/* A backup stays, with the packages that belong to it: it is the last way back of an upgrade that failed. */
int stage_discard(Context *c, Error *reterr) {
        _cleanup_close_ int dir_fd = -1;
        int r;

        r = discard_beside(c, reterr);
        if (r < 0)
                return r;
        r = backup_complete(c->plan);
        if (r != 0)
                return r < 0 ? error_set(reterr, r, NULL, "Cannot look at the backup %s: %m", c->plan->id) : 0;
        dir_fd = open(STATE_DIR "/backups", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot open %s/backups: %m", STATE_DIR);
        return tree_remove(dir_fd, c->plan->id, reterr);
}

/* --- remove and install --- */

static void on_output(const char *line, void *userdata) {
        Context *c = userdata;

        journal_event(&c->journal, EVENT_STEP_OUTPUT, &(JournalFields){ .step = c->step }, "%s", line);
        c->report(line, c->userdata);
}

/* Unpacked files are not always synced (dpkg --force-unsafe-io, rpm): what is recorded as done must be on disk. */
static int sync_program(const Plan *p, Error *reterr) {
        _cleanup_close_ int fd = open(p->root_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
                fd = open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || syncfs(fd) < 0)
                return error_set(reterr, -errno, NULL, "Cannot sync the file system of %s: %m", p->root_dir);
        return 0;
}

/* An unpacking that was broken off leaves files that no package owns, unless it is done again first. */
static int uninstall(Context *c, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        _cleanup_free_ char *copy = backup_package_path(c->plan, c->plan->target_path);
        PackageRun run = { .on_line = on_output, .userdata = c, .repair_path = copy };
        int r;

        if (!copy)
                return -ENOMEM;
        r = kind->mend(&run, reterr);
        if (r >= 0)
                r = kind->remove(c->plan->package, &run, reterr);
        return r < 0 ? r : sync_program(c->plan, reterr);
}

static int keep_directories(Context *c, Error *reterr) {
        const NodeDirectories d = { c->plan->etc_dir, c->plan->data_dir, c->plan->log_dir };
        bool changed;
        int r;

        r = node_keep_directories(c->plan->root_dir, &d, &changed, reterr);
        if (r >= 0 && changed)
                step_report(c, "%s/releases/emqx_vars has the directories of the old one again", c->plan->root_dir);
        return r;
}

static int install(Context *c, const char *path, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        _cleanup_free_ char *copy = backup_package_path(c->plan, path);
        _cleanup_(package_freep) Package *package = NULL;
        PackageRun run = { .on_line = on_output, .userdata = c };
        int r;

        if (!copy)
                return -ENOMEM;
        r = kind->read(copy, &package, reterr);
        if (r >= 0)
                r = kind->mend(&run, reterr);
        if (r >= 0)
                r = kind->install(package, &run, reterr);
        if (r >= 0)
                r = keep_directories(c, reterr);
        return r < 0 ? r : sync_program(c->plan, reterr);
}

/* Of two versions beside each other none is removed: `install` exchanges them at once. */
static int exchange(Context *c, const char *version, Error *reterr) {
        int r;

        step_report(c, "exchanging %s and %s", c->plan->root_dir, c->plan->beside_dir);
        r = package_kind_find(c->plan->kind)->exchange(c->plan->root_dir, c->plan->beside_dir, version, reterr);
        return r < 0 ? r : keep_directories(c, reterr);
}

int remove_old(Context *c, Error *reterr) {
        return c->plan->beside_dir ? 0 : uninstall(c, reterr);
}

int old_absent(Context *c, Error *reterr) {
        return c->plan->beside_dir ? 1 : is_installed(c, NULL, reterr);
}

/* Undoes a removal that was interrupted before it did anything, too: then the old version is there, and stays. */
int install_old(Context *c, Error *reterr) {
        int r;

        r = is_installed(c, c->plan->from, reterr);
        if (r != 0)
                return r < 0 ? r : 0;
        if (c->plan->beside_dir)
                return exchange(c, c->plan->from, reterr);
        if (!c->plan->old_path)
                return error_set(reterr, -ENOENT, "Install it by hand, then try the way back again.",
                                "There is no package of %s to go back to", c->plan->from);
        return install(c, c->plan->old_path, reterr);
}

int install_target(Context *c, Error *reterr) {
        if (c->plan->beside_dir)
                return exchange(c, c->plan->to, reterr);
        return install(c, c->plan->target_path, reterr);
}

int target_installed(Context *c, Error *reterr) {
        return is_installed(c, c->plan->to, reterr);
}

int remove_target(Context *c, Error *reterr) {
        return c->plan->beside_dir ? 0 : uninstall(c, reterr);
}
