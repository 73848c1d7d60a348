/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/backups.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "archive/walk.h"
#include "base/fileio.h"
#include "base/size.h"
#include "node/processes.h"
#include "steps/archive.h"

#define GONE ".gone"

static const char kept_open[] = "its upgrade is not over";
static const char kept_newest[] = "it is the newest";
static const char kept_not_done[] = "its upgrade was not done";
static const char kept_no_record[] = "it has no record";
static const char kept_staged[] = "it is staged for an upgrade to come";
static const char kept_package[] = "it has the only copy of the old package";

void backups_done(Backups *l) {
        for (size_t i = 0; i < l->n; i++) {
                (void) txn_free(l->items[i].txn);
                free(l->items[i].goes);
        }
        free(l->items);
        *l = (Backups){ NULL, 0 };
}

/* The name of one whose removal may have been interrupted. */
static bool is_gone(const char *name) {
        char id[PLAN_ID_SIZE];

        (void) snprintf(id, sizeof(id), "%.*s", PLAN_ID_SIZE - 1, name);
        return plan_is_id(id) && streq(name + PLAN_ID_SIZE - 1, GONE);
}

/* --- what there is --- */

static int measure(const char *path, uint64_t *bytes, Error *reterr) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        TreeSize size;
        int r;

        if (fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot open %s: %m", path);
        r = tree_measure(fd, &size, reterr);
        if (r >= 0)
                *bytes += size.allocated_bytes;
        return r;
}

/* Only a name that we have given belongs to the backup. */
static const char *beside_of(const Plan *p) {
        const char *rest = p->beside_dir && p->root_dir ? startswith(p->beside_dir, p->root_dir) : NULL, *id;

        id = rest ? startswith(rest, ".emqx-upgrade-") : NULL;
        return id && strlen(id) == 8 && startswith(p->id, id) ? p->beside_dir : NULL;
}

static int look_at(Backup *b, int state_fd, const Txn *open, Error *reterr) {
        _cleanup_free_ char *path = NULL;
        struct stat st;
        int r;

        if (asprintf(&path, BACKUPS_DIR "/%s", b->id) < 0)
                return -ENOMEM;
        if (stat(path, &st) < 0)
                return error_set(reterr, -errno, NULL, "Cannot look at %s: %m", path);
        r = measure(path, &b->bytes, reterr);
        if (r < 0)
                return r;

        if (open && streq(open->plan->id, b->id)) {
                b->kept = kept_open;
                r = txn_load(state_fd, &b->txn, NULL);
        } else
                r = txn_load_history(state_fd, b->id, &b->txn, NULL);
        if (r == -ENOMEM)
                return r;
        b->started_realtime_usec = b->txn ? b->txn->started_realtime_usec : timespec_usec(&st.st_mtim);
        if (b->kept)
                ;
        else if (!b->txn) {
                r = backup_is_staged(b->id);
                if (r < 0)
                        return error_set(reterr, r, NULL, "Cannot look at %s: %m", path);
                b->form = r > 0 ? BACKUP_STAGED : BACKUP_INCOMPLETE;
                b->kept = r > 0 ? kept_staged : kept_no_record;
        } else if (b->txn->result != TXN_DONE)
                b->kept = kept_not_done;
        b->by_name = b->kept && b->kept != kept_open;
        if (!b->txn)
                return 0;

        r = backup_form(b->txn->plan);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look at the backup %s: %m", b->id);
        b->form = (BackupForm) r;
        return beside_of(b->txn->plan) ? measure(b->txn->plan->beside_dir, &b->bytes, reterr) : 0;
}

static int newest_first(const void *a, const void *b) {
        const Backup *x = a, *y = b;

        return (x->started_realtime_usec < y->started_realtime_usec) -
                        (x->started_realtime_usec > y->started_realtime_usec);
}

int backups_load(int state_fd, Backups *ret, Error *reterr) {
        _cleanup_(backups_done) Backups l = { NULL, 0 };
        _cleanup_(closedirp) DIR *dir = NULL;
        _cleanup_(txn_freep) Txn *open = NULL;
        struct dirent *de;
        int r;

        r = txn_load(state_fd, &open, reterr);
        if (r < 0)
                return r;
        dir = opendir(BACKUPS_DIR);
        if (!dir && errno != ENOENT)
                return error_set(reterr, -errno, NULL, "Cannot read %s: %m", BACKUPS_DIR);
        while (dir && (de = readdir(dir))) {
                Backup *larger;

                if (!plan_is_id(de->d_name))
                        continue;
                larger = reallocarray(l.items, l.n + 1, sizeof(Backup));
                if (!larger)
                        return -ENOMEM;
                l.items = larger;
                l.items[l.n] = (Backup){ .form = BACKUP_INCOMPLETE };
                memcpy(l.items[l.n].id, de->d_name, PLAN_ID_SIZE);
                r = look_at(&l.items[l.n++], state_fd, open, reterr);
                if (r < 0)
                        return r;
        }
        if (l.n > 0)
                qsort(l.items, l.n, sizeof(Backup), newest_first);
        for (size_t i = 0; i < l.n; i++)
                if (l.items[i].form >= BACKUP_TREE) {
                        if (!l.items[i].kept)
                                l.items[i].kept = kept_newest;
                        break;
                }
        *ret = l;
        l = (Backups){ NULL, 0 };
        return 0;
}

int backups_find(const Backups *l, const char *id, const Backup **ret, Error *reterr) {
        for (size_t i = 0; i < l->n; i++)
                if (streq(id, "last") || streq(l->items[i].id, id)) {
                        *ret = &l->items[i];
                        return 0;
                }
        return error_set(reterr, -ENOENT, "See: emqx-upgrade backups", "There is no backup '%.64s'", id);
}

/* --- the only copy of an old package --- */

static bool has_digest(const char *path, const char *sha256) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        char hex[SHA256_HEX_SIZE];

        return fd >= 0 && sha256_fd(fd, hex) >= 0 && streq(hex, sha256);
}

static bool has_package(const Backup *b, const char *sha256) {
        const Plan *p = b->txn ? b->txn->plan : NULL;
        _cleanup_free_ char *copy = p && p->old_path && streq_ptr(p->old_sha256, sha256)
                        ? backup_package_path(p, p->old_path)
                        : NULL;

        return copy && access(copy, R_OK) >= 0;
}

/* Where that cannot be told it is the only one. */
static bool has_only_copy(const Backups *l, const Backup *b, const Config *config) {
        const Plan *p = b->txn ? b->txn->plan : NULL;
        _cleanup_free_ char *path = NULL;

        if (!p || !p->old_path || !p->old_sha256 || !has_package(b, p->old_sha256))
                return false;
        for (size_t i = 0; i < l->n; i++)
                if (&l->items[i] != b && !l->items[i].goes && has_package(&l->items[i], p->old_sha256))
                        return false;
        if (has_digest(p->old_path, p->old_sha256))
                return false;
        return asprintf(&path, "%s%s", config->packages_dir, strrchr(p->old_path, '/')) < 0 ||
                        !has_digest(path, p->old_sha256);
}

int backup_may_go(const Backups *l, const Backup *b, const Config *config, Error *reterr) {
        const char *kept = b->by_name ? NULL : b->kept;

        if (!kept && has_only_copy(l, b, config))
                return error_set(reterr, -EPERM,
                                "Copy the package from its packages/ into the packages directory first.",
                                "The backup %s is not removed: %s", b->id, kept_package);
        return kept ? error_set(reterr, -EPERM, NULL, "The backup %s is not removed: %s", b->id, kept) : 0;
}

/* --- which go --- */

static int let_go(Backups *l, Backup *b, const Config *config, const char *why) {
        if (has_only_copy(l, b, config)) {
                b->kept = kept_package;
                return 0;
        }
        b->goes = strdup(why);
        return b->goes ? 0 : -ENOMEM;
}

int backups_choose(Backups *l, const Config *config, usec_t now_realtime_usec) {
        char text[TIMESPAN_TEXT_MAX], size[SIZE_TEXT_MAX], why[128];
        uint64_t bytes = 0;
        int r = 0;

        /* The oldest first, so that of two with the same package the newer one has its copy. */
        for (size_t i = l->n; i-- > 0 && r >= 0;) {
                Backup *b = &l->items[i];
                usec_t age_usec = now_realtime_usec > b->started_realtime_usec
                                ? now_realtime_usec - b->started_realtime_usec
                                : 0;

                bytes += b->bytes;
                if (b->kept)
                        continue;
                if (i >= config->keep_backups) {
                        (void) snprintf(why, sizeof(why), "KeepBackups=%" PRIu64 " newer ones are there",
                                        config->keep_backups);
                        r = let_go(l, b, config, why);
                } else if (age_usec > config->keep_backups_for_usec) {
                        (void) snprintf(why, sizeof(why), "it is older than KeepBackupsForSec=, %s",
                                        format_timespan(text, config->keep_backups_for_usec));
                        r = let_go(l, b, config, why);
                }
                if (b->goes)
                        bytes -= b->bytes;
        }
        for (size_t i = l->n; i-- > 0 && r >= 0 && bytes > config->keep_backups_max_bytes;) {
                Backup *b = &l->items[i];

                if (b->kept || b->goes)
                        continue;
                (void) snprintf(why, sizeof(why), "all take more than KeepBackupsMaxBytes=, %s",
                                format_size(size, config->keep_backups_max_bytes));
                r = let_go(l, b, config, why);
                if (b->goes)
                        bytes -= b->bytes;
        }
        return r;
}

/* --- removal --- */

/* The directory of the other version, unless somebody runs the node from there. */
static int remove_beside(const Plan *p, Error *reterr) {
        _cleanup_free_ char *parent = NULL;
        _cleanup_free_ NodeProcess *processes = NULL;
        _cleanup_close_ int parent_fd = -1;
        const char *beside = beside_of(p);
        size_t n = 0;
        int r;

        if (!beside || access(beside, F_OK) < 0)
                return 0;
        r = node_processes(beside, &processes, &n);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look for processes of %s: %m", beside);
        if (n > 0)
                return error_set(reterr, -EBUSY, NULL, "A node runs from %s, which belongs to the backup %s", beside,
                                p->id);
        parent = strdup(beside);
        if (!parent)
                return -ENOMEM;
        *strrchr(parent, '/') = 0;
        parent_fd = open(*parent ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open the directory of %s: %m", beside);
        return tree_remove(parent_fd, strrchr(beside, '/') + 1, reterr);
}

static int open_backups(int *ret_fd, Error *reterr) {
        *ret_fd = open(BACKUPS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (*ret_fd < 0 && errno != ENOENT)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", BACKUPS_DIR);
        return *ret_fd < 0 ? 0 : 1;
}

int backups_sweep(Error *reterr) {
        _cleanup_(closedirp) DIR *dir = opendir(BACKUPS_DIR);
        struct dirent *de;
        int r = 0;

        while (dir && r >= 0 && (de = readdir(dir)))
                if (is_gone(de->d_name))
                        r = tree_remove(dirfd(dir), de->d_name, reterr);
                else if (plan_is_id(de->d_name)) {
                        _cleanup_close_ int fd = open_child(dirfd(dir), de->d_name, O_RDONLY | O_DIRECTORY);

                        if (fd >= 0)
                                r = tree_remove(fd, ARCHIVE_GONE_NAME, reterr);
                }
        return r;
}

/* Beside first: without a backup nobody knows of it. Then all of the backup at once, by its name. */
int backup_remove(const Backup *b, const char *why, const JournalContext *journal, Error *reterr) {
        char gone[PLAN_ID_SIZE + sizeof(GONE)], when[TIMESPAN_TEXT_MAX], size[SIZE_TEXT_MAX];
        const Plan *p = b->txn ? b->txn->plan : NULL;
        JournalContext about = *journal;
        _cleanup_close_ int fd = -1;
        int r;

        r = backups_sweep(reterr);
        if (r >= 0)
                r = open_backups(&fd, reterr);
        if (r > 0 && p)
                r = remove_beside(p, reterr);
        if (r < 0)
                return r;
        (void) snprintf(gone, sizeof(gone), "%s" GONE, b->id);
        if (fd >= 0 && (renameat(fd, b->id, fd, gone) < 0 || fsync(fd) < 0))
                r = -errno;
        if (fd < 0 || r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot remove the backup %s: %m", b->id);
        about.upgrade_id = b->id;
        about.from = p ? p->from : NULL;
        about.to = p ? p->to : NULL;
        journal_event(&about, EVENT_BACKUP_REMOVED,
                        &(JournalFields){ .bytes_done = b->bytes, .bytes_total = b->bytes },
                        "The backup %s%s%s%s%s of %s, %s, is removed: %s", b->id, p ? ", from " : "",
                        p ? p->from ?: "?" : "", p ? " to " : "", p ? p->to : "",
                        format_realtime(when, b->started_realtime_usec), format_size(size, b->bytes), why);
        return tree_remove(fd, gone, reterr);
}

int backups_prune(Context *c, Error *reterr) {
        _cleanup_(backups_done) Backups l = { NULL, 0 };
        _cleanup_close_ int state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r;

        if (state_fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", STATE_DIR);
        r = backups_sweep(reterr);
        if (r >= 0)
                r = backups_load(state_fd, &l, reterr);
        if (r >= 0)
                r = backups_choose(&l, c->config, now_usec(CLOCK_REALTIME));
        for (size_t i = 0; i < l.n && r >= 0; i++)
                if (l.items[i].goes)
                        r = backup_remove(&l.items[i], l.items[i].goes, &c->journal, reterr);
        return r;
}
