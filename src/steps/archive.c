/* SPDX-License-Identifier: Apache-2.0 */

/* The step that makes one archive of a backup, and its undoing. */

#include "steps/archive.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "archive/tarball.h"
#include "archive/walk.h"
#include "base/fileio.h"
#include "base/size.h"
#include "steps/apart.h"
#include "steps/backup.h"

#define PART_NAME ARCHIVE_NAME ".part"
#define SETTLE_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define SPARE_BYTES ((uint64_t) 16 << 20) /* for what directories and the file system itself take */

/* --- the trees of a backup, with their manifests --- */

typedef struct Trees {
        TarballTree *items;
        Manifest **manifests;
        size_t n;
        uint64_t n_bytes;
} Trees;

static void trees_done(Trees *t) {
        for (size_t i = 0; i < t->n; i++) {
                (void) safe_close(t->items[i].dir_fd);
                (void) manifest_free(t->manifests[i]);
        }
        free(t->items);
        free(t->manifests);
}

static int trees_load(const Plan *p, int backup_fd, Trees *ret, Error *reterr) {
        _cleanup_(trees_done) Trees t = { .items = calloc(p->n_trees + 1, sizeof(TarballTree)),
                .manifests = calloc(p->n_trees + 1, sizeof(Manifest *)) };
        int r;

        if (!t.items || !t.manifests)
                return -ENOMEM;
        for (; t.n < p->n_trees; t.n++) {
                _cleanup_free_ char *name = NULL;

                if (asprintf(&name, "%s.manifest", p->trees[t.n].name) < 0)
                        return -ENOMEM;
                r = manifest_load_at(backup_fd, name, &t.manifests[t.n], reterr);
                if (r < 0)
                        return r;
                t.items[t.n] = (TarballTree){ .name = p->trees[t.n].name, .manifest = t.manifests[t.n], .dir_fd = -1 };
                t.n_bytes += manifest_n_bytes(t.manifests[t.n]);
        }
        *ret = t;
        t = (Trees){ NULL, NULL, 0, 0 };
        return 0;
}

/* Those in tree/ of the backup. */
static int trees_open(const Plan *p, int backup_fd, Trees *t, Error *reterr) {
        int r = 0;

        for (size_t i = 0; i < t->n && r >= 0; i++)
                r = backup_copy_open(p, backup_fd, t->items[i].name, &t->items[i].dir_fd, reterr);
        return r;
}

/* New ones in dir_fd. */
static int trees_make(int dir_fd, Trees *t, Error *reterr) {
        for (size_t i = 0; i < t->n; i++) {
                int fd = mkdirat(dir_fd, t->items[i].name, 0700) < 0
                                ? -errno
                                : open_child(dir_fd, t->items[i].name, O_RDONLY | O_DIRECTORY);

                if (fd < 0)
                        return error_set(reterr, fd, NULL, "Cannot make a directory %s to extract to: %m",
                                        t->items[i].name);
                t->items[i].dir_fd = fd;
        }
        return 0;
}

static int trees_compare(
                const Trees *t, const TreeProgress *progress, TreeDifferenceFunc func, void *userdata, Error *reterr) {
        int r, found = 0;

        for (size_t i = 0; i < t->n; i++) {
                r = tree_compare(t->items[i].manifest, t->items[i].dir_fd, &(TreeRules){ .exact = true }, progress,
                                func, userdata, reterr);
                if (r < 0)
                        return r;
                found |= r;
        }
        return found;
}

/* --- the archive --- */

/* The first word of the file that sha256sum(1) would read. */
static int load_digest(const Plan *p, int backup_fd, char ret[static SHA256_HEX_SIZE], Error *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_file_at(backup_fd, ARCHIVE_DIGEST_NAME, 4096, &text, &size);
        if (r >= 0 && strspn(text, "0123456789abcdef") != SHA256_HEX_SIZE - 1)
                r = -EBADMSG;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s of the backup %s: %m", ARCHIVE_DIGEST_NAME, p->id);
        memcpy(ret, text, SHA256_HEX_SIZE - 1);
        ret[SHA256_HEX_SIZE - 1] = 0;
        return 0;
}

static int read_archive(int backup_fd, const char *name, const Trees *t, const char *sha256, bool extract,
                const TreeProgress *progress, Error *reterr) {
        _cleanup_close_ int fd = open_child(backup_fd, name, O_RDONLY);

        if (fd < 0)
                return error_set(reterr, fd, NULL, "Cannot open the archive %s: %m", name);
        /* What is read is what is on the disk, not what was just written. */
        (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        return tarball_read(fd, t->items, t->n, sha256, extract, progress, reterr);
}

/* Until it has its name, which it gets when it has been read back. */
static int make_archive(Context *c, int backup_fd, const Trees *t, Error *reterr) {
        TarballOptions options = { (unsigned) c->config->compression_level,
                (unsigned) c->config->compression_threads };
        BackupProgress writing = { .c = c, .what = "Archiving" },
                       reading = { .c = c, .what = "Reading the archive back" };
        TreeProgress write_progress = backup_progress(&writing, t->n_bytes),
                     read_progress = backup_progress(&reading, t->n_bytes);
        char sha256[SHA256_HEX_SIZE], line[SHA256_HEX_SIZE + sizeof("  " ARCHIVE_NAME "\n")], content[SIZE_TEXT_MAX],
                        size[SIZE_TEXT_MAX];
        struct stat st;
        int r;

        r = tarball_write(t->items, t->n, &options, backup_fd, PART_NAME, &write_progress, sha256, reterr);
        if (r < 0)
                return r;
        r = read_archive(backup_fd, PART_NAME, t, sha256, false, &read_progress, reterr);
        if (r < 0)
                return r;
        (void) snprintf(line, sizeof(line), "%s  " ARCHIVE_NAME "\n", sha256);
        r = replace_file_at(backup_fd, ARCHIVE_DIGEST_NAME, line, strlen(line), 0600);
        if (r >= 0 &&
                        (fstatat(backup_fd, PART_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                                        renameat(backup_fd, PART_NAME, backup_fd, ARCHIVE_NAME) < 0 ||
                                        fsync(backup_fd) < 0))
                r = -errno;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot finish the archive of the backup %s: %m", c->plan->id);
        journal_event(&c->journal, EVENT_BACKUP_ARCHIVED,
                        &(JournalFields){ .step = c->step,
                                        .bytes_done = (uint64_t) st.st_size,
                                        .bytes_total = t->n_bytes },
                        "The backup is one archive, read back against its manifests: %s in " BACKUPS_DIR
                        "/%s/" ARCHIVE_NAME ", %s",
                        format_size(content, t->n_bytes), c->plan->id, format_size(size, (uint64_t) st.st_size));
        return 0;
}

/* Half of a tree must not be called one. */
static int remove_tree(const Plan *p, int backup_fd, Error *reterr) {
        int r = tree_remove(backup_fd, ARCHIVE_GONE_NAME, reterr);

        if (r >= 0 && renameat(backup_fd, "tree", backup_fd, ARCHIVE_GONE_NAME) < 0 && errno != ENOENT)
                r = -errno;
        if (r >= 0 && fsync(backup_fd) < 0)
                r = -errno;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot remove tree/ of the backup %s: %m", p->id);
        return tree_remove(backup_fd, ARCHIVE_GONE_NAME, reterr);
}

static int archive_tree(Context *c, Error *reterr) {
        _cleanup_(trees_done) Trees t = { NULL, NULL, 0, 0 };
        _cleanup_close_ int backup_fd = -1;
        int r;

        r = backup_open(c->plan, &backup_fd, reterr);
        if (r < 0)
                return r;
        r = backup_form(c->plan);
        if (r == BACKUP_INCOMPLETE)
                return error_set(reterr, -ENOENT, NULL, "The backup %s is incomplete", c->plan->id);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look at the backup %s: %m", c->plan->id);
        if (r == BACKUP_TREE && faccessat(backup_fd, ARCHIVE_NAME, F_OK, 0) < 0) {
                r = trees_load(c->plan, backup_fd, &t, reterr);
                if (r >= 0)
                        r = trees_open(c->plan, backup_fd, &t, reterr);
                if (r >= 0)
                        r = make_archive(c, backup_fd, &t, reterr);
                if (r < 0) {
                        (void) unlinkat(backup_fd, PART_NAME, 0);
                        return r;
                }
        }
        return remove_tree(c->plan, backup_fd, reterr);
}

/* --- the step --- */

/* What is kept is decided when it is known how large the new one is, and where there was no room for that, too. */
int archive_backup(Context *c, Error *reterr) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        int r = c->config->archive ? archive_tree(c, reterr) : 0, q;

        q = c->prune_backups ? c->prune_backups(c, &error) : 0;
        if (q < 0 && r >= 0)
                r = error_set(reterr, q, error.advice, "%s", error_text(&error, q));
        return r;
}

/* What half-made or half-removed things there are; a whole tree/ or archive is none. */
static int forget_unfinished(const Plan *p) {
        _cleanup_free_ char *path = backup_path(p, NULL);
        _cleanup_close_ int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;

        if (fd < 0)
                return path ? -errno : -ENOMEM;
        (void) unlinkat(fd, PART_NAME, 0);
        forget_replacement_at(fd, ARCHIVE_DIGEST_NAME);
        if (faccessat(fd, ARCHIVE_NAME, F_OK, 0) < 0 && errno == ENOENT)
                (void) unlinkat(fd, ARCHIVE_DIGEST_NAME, 0);
        return tree_remove(fd, ARCHIVE_GONE_NAME, NULL);
}

int archive_forget(const Plan *p) {
        _cleanup_close_ int fd = -1;
        int r = forget_unfinished(p);

        if (r >= 0 && backup_form(p) == BACKUP_TREE)
                r = backup_open(p, &fd, NULL);
        if (r >= 0 && fd >= 0 && faccessat(fd, ARCHIVE_NAME, F_OK, 0) >= 0)
                r = remove_tree(p, fd, NULL);
        return r < 0 ? r : 0;
}

static bool is_unfinished(const Plan *p) {
        _cleanup_free_ char *path = backup_path(p, NULL);
        _cleanup_(closedirp) DIR *dir = path ? opendir(path) : NULL;
        bool tree = false, archive = false, gone = false;
        struct dirent *de;

        while (dir && (de = readdir(dir))) {
                tree = tree || streq(de->d_name, "tree");
                archive = archive || strstr(de->d_name, ARCHIVE_NAME);
                gone = gone || streq(de->d_name, ARCHIVE_GONE_NAME);
        }
        return gone || (tree && archive);
}

void archive_settle(Context *c) {
        static const char helper[] = LIBEXECDIR "/emqx-upgrade-helper";
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r;

        if (!is_unfinished(c->plan))
                return;
        r = run_apart(c, "emqx-upgrade-step-settle.service", "EMQX Upgrade: remove what is left of an archive",
                        STRV_MAKE(helper, "settle"), STATE_DIR, false, SETTLE_TIMEOUT_USEC, &why);
        if (r < 0)
                step_report(c, "what is left of the archive stays until backups are pruned: %s", error_text(&why, r));
}

/* --- and back --- */

static int check_room(int fd, uint64_t bytes, const char *what, const char *where, Error *reterr) {
        struct statvfs v;
        uint64_t free_bytes;

        if (fstatvfs(fd, &v) < 0)
                return error_set(reterr, -errno, NULL, "Cannot tell how much room there is in %s: %m", where);
        free_bytes = (uint64_t) v.f_bavail * v.f_frsize;
        if (free_bytes >= bytes + SPARE_BYTES)
                return 0;
        return error_set(reterr, -ENOSPC, "Make room on that file system and try again.",
                        "%s takes %" PRIu64 " MiB in %s, where %" PRIu64 " MiB are free", what,
                        (bytes + SPARE_BYTES) >> 20, where, free_bytes >> 20);
}

/* What the trees took on disk when they were looked at: their sizes may be mostly holes. */
int archive_check_room(const Plan *p, Error *reterr) {
        _cleanup_close_ int backup_fd = -1;
        uint64_t bytes = 0;
        int r;

        for (size_t i = 0; i < p->n_trees; i++)
                bytes += p->trees[i].bytes;
        r = backup_open(p, &backup_fd, reterr);
        return r < 0 ? r : check_room(backup_fd, bytes, "Extracting the backup", BACKUPS_DIR, reterr);
}

/* What one tree will take beside the backup, where what the new version has written is kept, and in its own place, where
 * what the new version has dropped comes back. */
static int measure_way_back(
                const PlanTree *tree, const Manifest *m, dev_t backup_dev, uint64_t *beside_bytes, Error *reterr) {
        _cleanup_close_ int fd = open(tree->real, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        TreeSize size = { 0 };
        uint64_t changed_bytes = 0, growth_bytes;
        struct stat st;
        int r;

        if (fd < 0 && errno == ENOENT) {
                *beside_bytes += tree->bytes;
                return 0;
        }
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", tree->real);
        r = tree_measure_changed(m, fd, &size, &changed_bytes, reterr);
        if (r < 0)
                return r;
        *beside_bytes += changed_bytes;
        growth_bytes = tree->bytes > size.allocated_bytes ? tree->bytes - size.allocated_bytes : 0;
        if (st.st_dev != backup_dev)
                return growth_bytes > 0 ? check_room(fd, growth_bytes, "Going back", tree->real, reterr) : 0;
        *beside_bytes += growth_bytes;
        return 0;
}

/* The node still serves, and does not go down for a way back that has to wait for room. */
static int check_room_for_way_back(const Plan *p, int backup_fd, const Trees *t, bool extract, Error *reterr) {
        uint64_t bytes = 0;
        struct stat st;
        int r = fstat(backup_fd, &st) < 0 ? -errno : 0;

        for (size_t i = 0; i < p->n_trees && r >= 0; i++) {
                bytes += extract ? p->trees[i].bytes : 0;
                r = measure_way_back(&p->trees[i], t->manifests[i], st.st_dev, &bytes, reterr);
        }
        return r < 0 ? r : check_room(backup_fd, bytes, "Going back", BACKUPS_DIR, reterr);
}

static int extract_archive(const Plan *p, int backup_fd, int dir_fd, Trees *t, const TreeProgress *progress,
                const TreeProgress *check_progress, Error *reterr) {
        char sha256[SHA256_HEX_SIZE];
        int r;

        r = load_digest(p, backup_fd, sha256, reterr);
        if (r >= 0)
                r = trees_make(dir_fd, t, reterr);
        if (r >= 0)
                r = read_archive(backup_fd, ARCHIVE_NAME, t, sha256, true, progress, reterr);
        if (r < 0)
                return r;
        r = trees_compare(t, check_progress, NULL, NULL, reterr);
        if (r > 0)
                r = error_set(reterr, -EIO, NULL, "The backup %s was extracted, but is not as its manifests say",
                                p->id);
        if (r >= 0 && syncfs(dir_fd) < 0)
                r = error_set(reterr, -errno, NULL, "What was extracted cannot be written to disk: %m");
        return r;
}

/* The copies may have been there for long: what is wrong with them is found before anything of the node is touched. */
static int check_copies(const Plan *p, int backup_fd, Trees *t, const TreeProgress *progress, Error *reterr) {
        int r = trees_open(p, backup_fd, t, reterr);

        if (r >= 0)
                r = trees_compare(t, progress, NULL, NULL, reterr);
        return r > 0 ? error_set(reterr, -EBADMSG, "See which files are not: emqx-upgrade backups verify ID.",
                                       "The backup %s is not as its manifests say", p->id)
                     : r;
}

static int extract_to_tree(const Plan *p, int backup_fd, Trees *t, const TreeProgress *progress,
                const TreeProgress *check_progress, Error *reterr) {
        _cleanup_close_ int part_fd = -1;
        int r;

        part_fd = mkdirat(backup_fd, "tree.part", 0700) < 0
                        ? -errno
                        : open_child(backup_fd, "tree.part", O_RDONLY | O_DIRECTORY);
        if (part_fd < 0)
                return error_set(reterr, part_fd, NULL, "Cannot make tree.part in the backup %s: %m", p->id);
        r = extract_archive(p, backup_fd, part_fd, t, progress, check_progress, reterr);
        if (r >= 0 && (renameat(backup_fd, "tree.part", backup_fd, "tree") < 0 || fsync(backup_fd) < 0))
                r = error_set(reterr, -errno, NULL, "Cannot finish tree/ of the backup %s: %m", p->id);
        if (r < 0)
                (void) tree_remove(backup_fd, "tree.part", NULL);
        return r;
}

/* Before anything of the node is touched. */
int extract_backup(Context *c, Error *reterr) {
        _cleanup_(trees_done) Trees t = { NULL, NULL, 0, 0 };
        _cleanup_close_ int backup_fd = -1;
        BackupProgress extracting = { .c = c, .what = "Extracting the backup" },
                       checking = { .c = c, .what = "Checking the backup" };
        TreeProgress extract_progress, check_progress;
        int r, form = backup_form(c->plan);

        if (form < 0)
                return error_set(reterr, form, NULL, "Cannot look at the backup %s: %m", c->plan->id);
        if (form == BACKUP_INCOMPLETE)
                return error_set(reterr, -ENOENT, NULL, "The backup %s is gone or incomplete", c->plan->id);
        (void) forget_unfinished(c->plan);

        r = backup_open(c->plan, &backup_fd, reterr);
        if (r >= 0)
                r = tree_remove(backup_fd, "tree.part", reterr);
        if (r >= 0)
                r = trees_load(c->plan, backup_fd, &t, reterr);
        if (r >= 0)
                r = check_room_for_way_back(c->plan, backup_fd, &t, form == BACKUP_ARCHIVED, reterr);
        if (r < 0)
                return r;
        extract_progress = backup_progress(&extracting, t.n_bytes);
        check_progress = backup_progress(&checking, t.n_bytes);
        return form == BACKUP_ARCHIVED
                        ? extract_to_tree(c->plan, backup_fd, &t, &extract_progress, &check_progress, reterr)
                        : check_copies(c->plan, backup_fd, &t, &check_progress, reterr);
}

/* --- for people --- */

int backup_check(const Plan *p, const TreeProgress *progress, TreeDifferenceFunc func, void *userdata, Error *reterr) {
        _cleanup_(trees_done) Trees t = { NULL, NULL, 0, 0 };
        _cleanup_close_ int backup_fd = -1;
        char sha256[SHA256_HEX_SIZE];
        int r, form = backup_form(p);

        if (form < 0)
                return error_set(reterr, form, NULL, "Cannot look at the backup %s: %m", p->id);
        if (form == BACKUP_INCOMPLETE)
                return error_set(reterr, -ENOENT, NULL, "The backup %s is gone or incomplete", p->id);
        r = backup_open(p, &backup_fd, reterr);
        if (r >= 0)
                r = trees_load(p, backup_fd, &t, reterr);
        if (r >= 0 && form == BACKUP_ARCHIVED) {
                r = load_digest(p, backup_fd, sha256, reterr);
                return r < 0 ? r : read_archive(backup_fd, ARCHIVE_NAME, &t, sha256, false, progress, reterr);
        }
        if (r >= 0)
                r = trees_open(p, backup_fd, &t, reterr);
        return r < 0 ? r : trees_compare(&t, progress, func, userdata, reterr);
}

static int copy_trees(
                const Plan *p, int backup_fd, int dir_fd, Trees *t, const TreeProgress *progress, Error *reterr) {
        int r = trees_make(dir_fd, t, reterr);

        for (size_t i = 0; i < t->n && r >= 0; i++) {
                _cleanup_close_ int copy_fd = -1;

                r = backup_copy_open(p, backup_fd, t->items[i].name, &copy_fd, reterr);
                if (r >= 0)
                        r = tree_restore(t->items[i].manifest, copy_fd, t->items[i].dir_fd,
                                        &(TreeRules){ .exact = true }, progress, NULL, reterr);
        }
        return r;
}

int backup_extract(const Plan *p, int dir_fd, const TreeProgress *progress, Error *reterr) {
        _cleanup_(trees_done) Trees t = { NULL, NULL, 0, 0 };
        _cleanup_close_ int backup_fd = -1;
        uint64_t bytes = 0;
        int r, form = backup_form(p);

        if (form < 0)
                return error_set(reterr, form, NULL, "Cannot look at the backup %s: %m", p->id);
        if (form == BACKUP_INCOMPLETE)
                return error_set(reterr, -ENOENT, NULL, "The backup %s is gone or incomplete", p->id);
        for (size_t i = 0; i < p->n_trees; i++)
                bytes += p->trees[i].bytes;
        r = check_room(dir_fd, bytes, "Extracting the backup", "the directory to extract to", reterr);
        if (r >= 0)
                r = backup_open(p, &backup_fd, reterr);
        if (r >= 0)
                r = trees_load(p, backup_fd, &t, reterr);
        if (r < 0)
                return r;
        return form == BACKUP_ARCHIVED ? extract_archive(p, backup_fd, dir_fd, &t, progress, progress, reterr)
                                       : copy_trees(p, backup_fd, dir_fd, &t, progress, reterr);
}
