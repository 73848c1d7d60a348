/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/backup.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "archive/walk.h"
#include "base/fileio.h"
#include "base/sha256.h"
#include "base/size.h"
#include "steps/adapt.h"
#include "steps/archive.h"
#include "steps/places.h"

#define MANIFEST_SUFFIX ".manifest"

/* Passes over the data of a node that serves: as many as make what is left to do smaller, and no more. */
#define PASSES_MAX 5
#define SMALL_PASS_BYTES (16 * 1024 * 1024)
#define FILE_COST_BYTES (64 * 1024) /* what copying one more file costs, in bytes of a large one */

#define REPORT_USEC (250 * USEC_PER_MSEC)

/* Runs of the same kind of undo may leave files that no manifest knows: FIFOs of run_erl, which are no content. */
static const TreeRules exact_rules = { .exact = true };

/* Of a copy, which is ours alone. */
static const TreeRules copy_rules = { .exact = true, .trust_times = true };

void backup_tree_done(BackupTree *t) {
        t->live_fd = safe_close(t->live_fd);
        t->copy_fd = safe_close(t->copy_fd);
        t->manifest = manifest_free(t->manifest);
}

int backup_open(const Plan *p, int *ret_fd, Error *reterr) {
        _cleanup_free_ char *path = backup_path(p, NULL);
        int r;

        if (!path)
                return -ENOMEM;
        r = mkdir_parents(path, 0700);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot make the directory %s: %m", path);
        *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return *ret_fd < 0 ? error_set(reterr, -errno, NULL, "Cannot open the directory %s: %m", path) : 0;
}

/* mkdir, where it may be there already, and open. */
static int make_directory_at(int dir_fd, const char *name) {
        int fd;

        if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int backup_side_open(const Plan *p, int backup_fd, const char *kind, const char *name, int *ret_fd, Error *reterr) {
        _cleanup_close_ int kind_fd = -1;
        int fd;

        kind_fd = make_directory_at(backup_fd, kind);
        fd = kind_fd < 0 ? kind_fd : make_directory_at(kind_fd, name);
        if (fd < 0)
                return error_set(reterr, fd, NULL, "Cannot make the directory %s/%s in the backup %s: %m", kind, name,
                                p->id);
        *ret_fd = fd;
        return 0;
}

/* 0: there is none. */
static int load_manifest(int dir_fd, const PlanTree *tree, Manifest **ret, Error *reterr) {
        _cleanup_free_ char *name = NULL;
        int r;

        if (asprintf(&name, "%s" MANIFEST_SUFFIX, tree->name) < 0)
                return -ENOMEM;
        r = manifest_load_at(dir_fd, name, ret, reterr);
        if (r == -ENOENT && reterr)
                error_done(reterr);
        return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

int backup_copy_open(const Plan *p, int backup_fd, const char *name, int *ret_fd, Error *reterr) {
        _cleanup_close_ int tree_fd = open_child(backup_fd, "tree", O_RDONLY | O_DIRECTORY);
        int fd = tree_fd < 0 ? tree_fd : open_child(tree_fd, name, O_RDONLY | O_DIRECTORY);

        if (fd < 0)
                return error_set(reterr, fd, NULL, "Cannot open tree/%s of the backup %s: %m", name, p->id);
        *ret_fd = fd;
        return 0;
}

int backup_tree_open(const Plan *p, int backup_fd, size_t i, BackupTree *ret, Error *reterr) {
        _cleanup_(backup_tree_done) BackupTree t = BACKUP_TREE_NULL;
        int r, q;

        t.tree = &p->trees[i];
        t.live_fd = open(t.tree->real, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (t.live_fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open the directory %s (%s): %m", t.tree->real,
                                t.tree->why);
        r = load_manifest(backup_fd, t.tree, &t.manifest, reterr);
        if (r < 0)
                return r;
        /* Made only before there is a manifest: an empty tree must not pass for what the manifest vouches for. */
        if (!t.manifest)
                q = backup_side_open(p, backup_fd, "tree", t.tree->name, &t.copy_fd, reterr);
        else
                q = backup_copy_open(p, backup_fd, t.tree->name, &t.copy_fd, reterr);
        if (q < 0)
                return q;
        *ret = t;
        t = BACKUP_TREE_NULL;
        return r;
}

int backup_complete(const Plan *p) {
        for (size_t i = 0; i < p->n_trees; i++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, BACKUPS_DIR "/%s/%s" MANIFEST_SUFFIX, p->id, p->trees[i].name) < 0)
                        return -ENOMEM;
                if (access(path, F_OK) < 0)
                        return errno == ENOENT ? 0 : -errno;
        }
        return p->n_trees > 0;
}

int backup_form(const Plan *p) {
        _cleanup_free_ char *tree = backup_path(p, "/tree"), *archive = backup_path(p, "/" ARCHIVE_NAME);
        int r = backup_complete(p);

        if (!tree || !archive)
                return -ENOMEM;
        if (r <= 0)
                return r < 0 ? r : BACKUP_INCOMPLETE;
        if (access(tree, F_OK) >= 0)
                return BACKUP_TREE;
        return errno != ENOENT ? -errno : access(archive, F_OK) >= 0 ? BACKUP_ARCHIVED : BACKUP_INCOMPLETE;
}

int backup_is_staged(const char *id) {
        _cleanup_(closedirp) DIR *dir = NULL;
        _cleanup_free_ char *path = NULL;
        struct dirent *de;
        bool staged = false, backup = false;

        if (asprintf(&path, BACKUPS_DIR "/%s", id) < 0)
                return -ENOMEM;
        dir = opendir(path);
        if (!dir)
                return -errno;
        while ((de = readdir(dir))) {
                staged = staged || streq(de->d_name, "staged");
                backup = backup || endswith(de->d_name, MANIFEST_SUFFIX);
        }
        return staged && !backup;
}

int backup_find_staged(char **ret_id) {
        _cleanup_(closedirp) DIR *dir = opendir(BACKUPS_DIR);
        struct dirent *de;
        int r = 0;

        if (!dir)
                return errno == ENOENT ? 0 : -errno;
        while (r == 0 && (de = readdir(dir)))
                if (plan_is_id(de->d_name)) {
                        r = backup_is_staged(de->d_name);
                        if (r > 0 && !(*ret_id = strdup(de->d_name)))
                                r = -ENOMEM;
                }
        return r;
}

int backup_measure_staged(TreeSize *ret, Error *reterr) {
        _cleanup_free_ char *id = NULL, *path = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        *ret = (TreeSize){ 0 };
        r = backup_find_staged(&id);
        if (r <= 0)
                return r < 0 ? error_set(reterr, r, NULL, "Cannot read %s: %m", BACKUPS_DIR) : 0;
        if (asprintf(&path, BACKUPS_DIR "/%s/tree", id) < 0)
                return -ENOMEM;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot open %s: %m", path);
        return tree_measure(fd, ret, reterr);
}

char *backup_package_path(const Plan *p, const char *path) {
        _cleanup_free_ char *suffix = NULL;

        if (asprintf(&suffix, "/packages/%s", strrchr(path, '/') + 1) < 0)
                return NULL;
        return backup_path(p, suffix);
}

char *backup_prepared_path(const Plan *p) {
        return backup_path(p, "/packages/prepared");
}

static int check_package(const char *path, const char *sha256, Error *reterr) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        char hex[SHA256_HEX_SIZE];
        int r;

        r = fd < 0 ? -errno : sha256_fd(fd, hex);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read the package %s: %m", path);
        return !sha256 || streq(hex, sha256) ? 0
                                             : error_set(reterr, -EBADMSG, "Put that package there again.",
                                                               "The package %s has another digest than it had", path);
}

int backup_usable(const Plan *p, Error *reterr) {
        _cleanup_free_ char *package = NULL;
        int r;

        r = backup_form(p);
        if (r == BACKUP_INCOMPLETE)
                return error_set(reterr, -ENOENT, "Without it there is no way back.",
                                "The backup %s is gone or incomplete", p->id);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look at the backup %s: %m", p->id);
        r = r == BACKUP_ARCHIVED ? archive_check_room(p, reterr) : 0;
        if (r < 0)
                return r;
        if (p->beside_dir)
                return access(p->beside_dir, F_OK) < 0
                                ? error_set(reterr, -errno, "Extract the old version there again.",
                                                  "%s, the directory of %s: %m", p->beside_dir, p->from)
                                : 0;
        if (!p->old_path)
                return error_set(reterr, -ENOENT, NULL,
                                "The upgrade %s was made without the package of the old version", p->id);
        package = backup_package_path(p, p->old_path);
        if (!package)
                return -ENOMEM;
        return check_package(package, p->old_sha256, reterr);
}

static int report_bytes(uint64_t bytes_done, uint64_t bytes_total, const char *path, void *userdata) {
        BackupProgress *p = userdata;
        usec_t now = now_usec(CLOCK_MONOTONIC);

        (void) path;
        if (now - p->reported_usec >= REPORT_USEC) {
                p->reported_usec = now;
                p->c->report(p->what, &(StepProgress){ bytes_done, bytes_total }, p->c->userdata);
        }
        return 0;
}

TreeProgress backup_progress(BackupProgress *p, uint64_t bytes_total) {
        p->reported_usec = now_usec(CLOCK_MONOTONIC);
        return (TreeProgress){ report_bytes, p, bytes_total };
}

/* --- the step --- */

static int remove_manifests(const Plan *p, int backup_fd) {
        for (size_t i = 0; i < p->n_trees; i++) {
                _cleanup_free_ char *name = NULL;
                int r;

                if (asprintf(&name, "%s" MANIFEST_SUFFIX, p->trees[i].name) < 0)
                        return -ENOMEM;
                r = remove_file_at(backup_fd, name);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* One pass over tree i. The manifest of one while the node serves goes to staged_fd, for the next pass alone. */
static int copy_tree(Context *c, int backup_fd, int staged_fd, size_t i, TreePass *pass, Error *reterr) {
        _cleanup_(backup_tree_done) BackupTree t = BACKUP_TREE_NULL;
        _cleanup_(manifest_freep) Manifest *earlier = NULL;
        _cleanup_free_ char *name = NULL;
        BackupProgress progress = { .c = c, .what = pass->serving ? "Copying ahead" : "Backing up" };
        char all[SIZE_TEXT_MAX], copied[SIZE_TEXT_MAX];
        TreeProgress tree_progress;
        TreeSize size = { 0 };
        int r;

        r = backup_tree_open(c->plan, backup_fd, i, &t, reterr);
        if (r >= 0 && staged_fd >= 0)
                r = load_manifest(staged_fd, t.tree, &earlier, reterr);
        if (r >= 0 && !earlier)
                r = tree_measure(t.live_fd, &size, reterr);
        if (r < 0)
                return r;
        pass->earlier = earlier;
        tree_progress = backup_progress(&progress, earlier ? manifest_n_bytes(earlier) : size.apparent_bytes);
        t.manifest = manifest_free(t.manifest);
        r = tree_backup(t.live_fd, t.copy_fd, pass, &tree_progress, &t.manifest, reterr);
        if (r < 0)
                return r;
        /* A way back to it would remove what turns up there later. One entry is the tree itself. */
        if (!pass->serving && manifest_n_entries(t.manifest) <= 1 && t.tree->entries > 0)
                return error_set(reterr, -ENODATA, "Look whether its file system is mounted.",
                                "%s is empty, and had %" PRIu64 " entries", t.tree->real, t.tree->entries);
        if (asprintf(&name, "%s" MANIFEST_SUFFIX, t.tree->name) < 0)
                return -ENOMEM;
        r = manifest_write_at(t.manifest, pass->serving ? staged_fd : backup_fd, name, reterr);
        if (r < 0)
                return r;
        journal_event(&c->journal, EVENT_TREE_COPIED,
                        &(JournalFields){ .step = c->step,
                                        .bytes_done = pass->copied_bytes,
                                        .bytes_total = manifest_n_bytes(t.manifest) },
                        "%s is %s: %zu entries, %s; %" PRIu64 " files and %s of them in this pass", t.tree->path,
                        pass->serving ? "copied ahead" : "backed up", manifest_n_entries(t.manifest),
                        format_size(all, manifest_n_bytes(t.manifest)), pass->n_copied,
                        format_size(copied, pass->copied_bytes));
        return 0;
}

/* For a prediction alone: lost in a power cut, it is missed by nobody. */
static void note_pass(int staged_fd, usec_t took_usec) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64 "\n", took_usec);
        (void) replace_volatile_file_at(staged_fd, "usec", text, strlen(text), 0600);
}

static int read_last_pass(const char *id, usec_t *ret_usec) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        int r;

        if (asprintf(&path, BACKUPS_DIR "/%s/staged/usec", id) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, path, 64, &text, NULL);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return sscanf(text, "%" SCNu64, ret_usec) == 1;
}

int backup_last_pass(const Plan *p, usec_t *ret_usec) {
        _cleanup_free_ char *staged = NULL;
        int r;

        r = read_last_pass(p->id, ret_usec);
        if (r == 0)
                r = backup_find_staged(&staged);
        return staged ? read_last_pass(staged, ret_usec) : r;
}

int copy_trees_ahead(Context *c, Error *reterr) {
        _cleanup_close_ int backup_fd = -1, staged_fd = -1;
        uint64_t cost, last_cost = UINT64_MAX;
        int r;

        r = backup_open(c->plan, &backup_fd, reterr);
        if (r < 0)
                return r;
        staged_fd = make_directory_at(backup_fd, "staged");
        if (staged_fd < 0)
                return error_set(reterr, staged_fd, NULL, "Cannot make the directory staged in the backup %s: %m",
                                c->plan->id);
        for (unsigned n = 0; n < PASSES_MAX; n++) {
                usec_t begin_usec = now_usec(CLOCK_MONOTONIC);

                cost = 0;
                for (size_t i = 0; i < c->plan->n_trees; i++) {
                        TreePass pass = { .serving = true };

                        r = copy_tree(c, backup_fd, staged_fd, i, &pass, reterr);
                        if (r < 0)
                                return r;
                        cost += pass.copied_bytes + pass.n_copied * FILE_COST_BYTES;
                }
                note_pass(staged_fd, now_usec(CLOCK_MONOTONIC) - begin_usec);
                if (cost <= SMALL_PASS_BYTES || cost > last_cost / 2)
                        break;
                last_cost = cost;
        }
        return 0;
}

int back_up_trees(Context *c, Error *reterr) {
        _cleanup_close_ int backup_fd = -1, staged_fd = -1;
        int r;

        r = backup_open(c->plan, &backup_fd, reterr);
        if (r < 0)
                return r;
        /* A manifest of an attempt that was interrupted vouches for a copy that is about to be changed. */
        r = remove_manifests(c->plan, backup_fd);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot remove an old manifest from the backup %s: %m", c->plan->id);
        staged_fd = openat(backup_fd, "staged", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (staged_fd < 0 && errno != ENOENT)
                return error_set(reterr, -errno, NULL, "Cannot open the directory staged in the backup %s: %m",
                                c->plan->id);
        for (size_t i = 0; i < c->plan->n_trees; i++) {
                TreePass pass = { .serving = false };

                r = copy_tree(c, backup_fd, staged_fd, i, &pass, reterr);
                if (r < 0)
                        return r;
        }
        r = adapt_backup(c, backup_fd, reterr);
        return r < 0 ? r : tree_remove(backup_fd, "staged", reterr);
}

int backup_holds(Context *c, Error *reterr) {
        _cleanup_close_ int backup_fd = -1;
        int r;

        r = backup_complete(c->plan);
        if (r <= 0)
                return r;
        r = backup_open(c->plan, &backup_fd, reterr);
        for (size_t i = 0; i < c->plan->n_trees && r >= 0; i++) {
                _cleanup_(backup_tree_done) BackupTree t = BACKUP_TREE_NULL;
                BackupProgress progress = { .c = c, .what = "Checking the backup" };
                TreeProgress tree_progress;

                r = backup_tree_open(c->plan, backup_fd, i, &t, reterr);
                if (r <= 0)
                        return r;
                tree_progress = backup_progress(&progress, manifest_n_bytes(t.manifest));
                r = tree_compare(t.manifest, t.copy_fd, &copy_rules, &tree_progress, NULL, NULL, reterr);
                if (r > 0)
                        return 0;
        }
        return r < 0 ? r : adapted_holds(c->plan, backup_fd, reterr);
}

/* --- its undoing --- */

static int restore_tree(Context *c, int backup_fd, size_t i, Error *reterr) {
        _cleanup_(backup_tree_done) BackupTree t = BACKUP_TREE_NULL;
        BackupProgress restoring = { .c = c, .what = "Restoring" },
                       checking = { .c = c, .what = "Checking what was restored" };
        TreeProgress restore_progress, check_progress;
        TreeCounts counts;
        int r;

        r = backup_tree_open(c->plan, backup_fd, i, &t, reterr);
        if (r < 0)
                return r;
        assert(t.manifest); /* complete, as restore_backup() has asked */

        restore_progress = backup_progress(&restoring, manifest_n_bytes(t.manifest));
        r = tree_restore(t.manifest, t.copy_fd, t.live_fd, &exact_rules, &restore_progress, &counts, reterr);
        if (r < 0)
                return r;
        check_progress = backup_progress(&checking, manifest_n_bytes(t.manifest));
        r = tree_compare(t.manifest, t.live_fd, &exact_rules, &check_progress, NULL, NULL, reterr);
        if (r > 0)
                r = error_set(reterr, -EIO, NULL, "%s was restored, but is not as its manifest says", t.tree->path);
        if (r < 0)
                return r;
        step_report(c, "%s is restored: %" PRIu64 " written, %" PRIu64 " put right, %" PRIu64 " removed", t.tree->path,
                        counts.n_written, counts.n_fixed, counts.n_removed);
        return 0;
}

int restore_backup(Context *c, Error *reterr) {
        _cleanup_close_ int backup_fd = -1;
        int r;

        r = backup_complete(c->plan);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look at the backup %s: %m", c->plan->id);
        if (r == 0)
                return 0; /* interrupted while it was made: nothing that it would bring back has been touched */

        r = places_restore(c, true, reterr);
        if (r >= 0)
                r = backup_open(c->plan, &backup_fd, reterr);
        for (size_t i = 0; i < c->plan->n_trees && r >= 0; i++)
                r = restore_tree(c, backup_fd, i, reterr);
        return r;
}
