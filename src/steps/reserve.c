/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/reserve.h"

#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "steps/apart.h"

#define STATE_RESERVE STATE_DIR "/reserve"
#define OTHER_RESERVE ".emqx-upgrade-reserve"
#define RECORD_BYTES (1 << 20)
#define HELPER_TIMEOUT_USEC (30 * USEC_PER_SEC)

/* --- which --- */

/* Shortens path to the nearest directory that is there, then to the one where its file system is mounted. */
static int to_mount_point(char *path, dev_t *ret_dev) {
        struct stat st, above;

        while (stat(path, &st) < 0) {
                if (errno != ENOENT || streq(path, "/"))
                        return -errno;
                (void) dirname(path);
        }
        *ret_dev = st.st_dev;
        while (!streq(path, "/")) {
                _cleanup_free_ char *parent = strdup(path);

                if (!parent)
                        return -ENOMEM;
                (void) dirname(parent);
                if (stat(parent, &above) < 0)
                        return -errno;
                if (above.st_dev != st.st_dev)
                        break;
                (void) dirname(path);
        }
        return 0;
}

/* What is in a tree is backed up, and compared with its manifest. */
static bool is_in_a_tree(const Plan *p, const char *directory) {
        for (size_t i = 0; i < p->n_trees; i++) {
                const char *rest = startswith(directory, p->trees[i].real);

                if (rest && (*rest == 0 || *rest == '/'))
                        return true;
        }
        return false;
}

static int add(Plan *p, const char *directory, uint64_t bytes, bool at_most_half, dev_t devices[], Error *reterr) {
        _cleanup_free_ char *path = strdup(directory), *file = NULL;
        struct statvfs vfs;
        dev_t dev = 0;
        int r;

        if (!path)
                return -ENOMEM;
        r = to_mount_point(path, &dev);
        if (r < 0 || statvfs(path, &vfs) < 0)
                return error_set(reterr, r < 0 ? r : -errno, NULL, "Cannot look at the file system of %s: %m",
                                directory);
        for (size_t i = 0; i < p->n_reserves; i++)
                if (devices[i] == dev) {
                        /* The first has room for all trees already. */
                        p->reserves[i].bytes += at_most_half && i == 0 ? 0 : bytes;
                        return 0;
                }
        if (is_in_a_tree(p, path))
                return 0;
        if (at_most_half)
                bytes = MIN(bytes, (uint64_t) vfs.f_bavail * vfs.f_frsize / 2);
        if (asprintf(&file, "%s/" OTHER_RESERVE, streq(path, "/") ? "" : path) < 0)
                return -ENOMEM;
        devices[p->n_reserves] = dev;
        return plan_add_reserve(p, p->n_reserves == 0 ? STATE_RESERVE : file, bytes);
}

int reserve_find(Plan *p, Error *reterr) {
        _cleanup_free_ dev_t *devices = calloc(p->n_trees + 2, sizeof(dev_t));
        int r;

        if (!devices)
                return -ENOMEM;
        plan_clear_reserves(p);
        r = add(p, STATE_DIR, RESERVE_SPARE_BYTES + p->tree_bytes, false, devices, reterr);
        if (r >= 0 && p->old_program_bytes > 0)
                r = add(p, p->root_dir, p->old_program_bytes, false, devices, reterr);
        for (size_t i = 0; i < p->n_trees && r >= 0; i++)
                r = add(p, p->trees[i].real, p->trees[i].bytes, true, devices, reterr);
        return r;
}

/* --- made and given back --- */

int reserve_file(const char *path, uint64_t bytes) {
        _cleanup_close_ int fd = -1;
        int r;

        if (unlink(path) < 0 && errno != ENOENT)
                return -errno;
        if (bytes == 0)
                return 0;
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        /* Synced: a file system that allocates late says here that there is no room. */
        if (fallocate(fd, 0, 0, (off_t) bytes) == 0 && fsync(fd) == 0)
                return 0;
        r = -errno;
        (void) unlink(path);
        return r;
}

/* The conductor may write nowhere but in the state directory: a unit that may write there has the helper do it. */
static int reserve_elsewhere(Context *c, const char *path, uint64_t bytes, Error *reterr) {
        static const char helper[] = LIBEXECDIR "/emqx-upgrade-helper";
        _cleanup_free_ char *directory = strdup(path), *size = NULL;

        if (!directory || asprintf(&size, "%" PRIu64, bytes) < 0)
                return -ENOMEM;
        return run_apart(c, "emqx-upgrade-step-reserve.service", "EMQX Upgrade: room for the way back",
                        STRV_MAKE(helper, "reserve", path, size), dirname(directory), true, HELPER_TIMEOUT_USEC,
                        reterr);
}

static int reserve_set(Context *c, const char *path, uint64_t bytes, Error *reterr) {
        return streq(path, STATE_RESERVE) ? reserve_file(path, bytes) : reserve_elsewhere(c, path, bytes, reterr);
}

void reserve_begin(void) {
        (void) reserve_file(STATE_RESERVE, RECORD_BYTES);
}

int reserve_make(Context *c, Error *reterr) {
        for (size_t i = 0; i < c->plan->n_reserves; i++) {
                const PlanReserve *reserve = &c->plan->reserves[i];
                _cleanup_(error_done) Error why = ERROR_NULL;
                int r;

                if (reserve->bytes == 0)
                        continue;
                step_report(c, "reserving %" PRIu64 " MiB for the way back: %s", reserve->bytes >> 20, reserve->path);
                r = reserve_set(c, reserve->path, reserve->bytes, &why);
                if (r == -EOPNOTSUPP) {
                        step_report(c, "the file system of %s cannot reserve room", reserve->path);
                        continue;
                }
                if (r < 0) {
                        (void) reserve_release(c, NULL);
                        return error_set(reterr, r, "Make room there.",
                                        "Cannot reserve %" PRIu64 " MiB for the way back as %s: %s",
                                        reserve->bytes >> 20, reserve->path, error_text(&why, r));
                }
        }
        return 0;
}

static bool has_room(const char *path) {
        _cleanup_free_ char *copy = strdup(path);
        struct statvfs vfs;

        /* What cannot be looked at is not found full. */
        return !copy || statvfs(dirname(copy), &vfs) < 0 ||
                        (uint64_t) vfs.f_bavail * vfs.f_frsize >=
                        MIN(RESERVE_SPARE_BYTES, (uint64_t) vfs.f_blocks * vfs.f_frsize / 20);
}

bool reserve_has_room(const Plan *p, const char **ret_path) {
        for (size_t i = 0; i <= p->n_reserves; i++) {
                *ret_path = i > 0 ? p->reserves[i - 1].path : STATE_RESERVE;
                if (!has_room(*ret_path))
                        return false;
        }
        return true;
}

/* That in the state directory is there before the plan has any. */
int reserve_release(Context *c, Error *reterr) {
        int result = 0;

        for (size_t i = 0; i <= c->plan->n_reserves; i++) {
                const char *path = i > 0 ? c->plan->reserves[i - 1].path : STATE_RESERVE;
                _cleanup_(error_done) Error why = ERROR_NULL;
                int r;

                if (access(path, F_OK) < 0 && errno == ENOENT)
                        continue;
                r = reserve_set(c, path, 0, &why);
                if (r < 0)
                        result = error_set(reterr, r, "Remove it.",
                                        "Cannot give back the room that was reserved as %s: %s", path,
                                        error_text(&why, r));
        }
        return result;
}
