/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>
#include <fts.h>

#include "archive/walk.h"
#include "steps/adapt.h"
#include "steps/backup.h"
#include "steps/carry.h"
#include "steps/places.h"

typedef struct Carrying {
        Context *c;
        const PlanTree *tree;
        bool tell;
        uint64_t n_aside;
} Carrying;

static TreeVerdict carry(const char *path, const ManifestEntry *entry, void *userdata) {
        Carrying *k = userdata;
        const CarryRule *rule = carry_rule(k->c->plan, k->tree, path, entry);

        if (adapted_find(k->c->plan, k->tree, path))
                return TREE_LEAVE; /* for the pass after this one */
        if (!rule)
                return TREE_CARRY;
        if (rule->tell && k->tell)
                journal_event(&k->c->journal, rule->keep_aside ? EVENT_NEW_DEFAULT_KEPT_ASIDE : EVENT_NOT_CARRIED,
                                &(JournalFields){ .step = k->c->step },
                                "%s/%s is not taken over (%s); it is kept in the backup", k->tree->path, path,
                                rule->reason);
        return rule->verdict;
}

/* Only what is to be kept aside, and the directories of the old version on the way to it. */
static TreeVerdict aside(const char *path, const ManifestEntry *entry, void *userdata) {
        Carrying *k = userdata;
        const CarryRule *rule = carry_rule(k->c->plan, k->tree, path, entry);

        if (rule)
                return rule->keep_aside ? TREE_CARRY : TREE_LEAVE;
        return entry && S_ISDIR(entry->mode) ? TREE_CARRY : TREE_LEAVE;
}

/* Into the backup before the restore drops it from the node. Once: a second attempt would find it dropped. */
static int keep_defaults_aside(Context *c, int backup_fd, const BackupTree *t, Error *reterr) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *part = NULL, *from = NULL, *to = NULL;
        Carrying k = { .c = c, .tree = t->tree };
        int r;

        if (asprintf(&part, "%s.part", t->tree->name) < 0 || asprintf(&from, "defaults/%s", part) < 0 ||
                        asprintf(&to, "defaults/%s", t->tree->name) < 0)
                return -ENOMEM;
        if (faccessat(backup_fd, to, F_OK, 0) >= 0)
                return 0;
        /* Data are many files, and have none of these: their names alone are quickly read. */
        r = tree_has_name(t->live_fd, carry_keeps_aside, reterr);
        if (r <= 0)
                return r;
        r = backup_side_open(c->plan, backup_fd, "defaults", part, &fd, reterr);
        if (r >= 0)
                r = tree_save_differences(t->manifest, t->live_fd, fd, &(TreeRules){ .decide = aside, .userdata = &k },
                                NULL, NULL, reterr);
        if (r < 0)
                return r;
        if (renameat(backup_fd, from, backup_fd, to) < 0 || syncfs(backup_fd) < 0)
                return error_set(reterr, -errno, NULL, "Cannot keep %s in the backup %s: %m", to, c->plan->id);
        return 0;
}

static int carry_adapted(Context *c, int backup_fd, const BackupTree *t, Error *reterr) {
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        r = adapted_open(c->plan, backup_fd, t, &m, &fd, reterr);
        if (r > 0)
                r = tree_restore(m, fd, t->live_fd, NULL, NULL, NULL, reterr);
        for (size_t i = 0; i < c->plan->n_adapted && r >= 0; i++)
                if (streq(c->plan->adapted[i].tree, t->tree->name))
                        STRV_FOREACH (key, c->plan->adapted[i].dropped)
                                journal_event(&c->journal, EVENT_SETTING_DROPPED, &(JournalFields){ .step = c->step },
                                                "%s has no setting %s, and is without it as the configuration says: it is a comment in %s now",
                                                c->plan->to, *key, c->plan->adapted[i].file);
        return r;
}

static int adapted_is_live(Context *c, int backup_fd, const BackupTree *t, Error *reterr) {
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        r = adapted_open(c->plan, backup_fd, t, &m, &fd, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = tree_compare(m, t->live_fd, NULL, NULL, NULL, NULL, reterr);
        return r < 0 ? r : r == 0;
}

static int carry_tree(Context *c, int backup_fd, size_t i, Error *reterr) {
        _cleanup_(backup_tree_done) BackupTree t = BACKUP_TREE_NULL;
        BackupProgress progress = { .c = c, .what = "Restoring" };
        TreeProgress tree_progress;
        TreeCounts counts;
        Carrying k;
        int r;

        r = backup_tree_open(c->plan, backup_fd, i, &t, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(reterr, -ENOENT, NULL, "The backup %s has no manifest of %s", c->plan->id,
                                t.tree->path);

        r = keep_defaults_aside(c, backup_fd, &t, reterr);
        if (r < 0)
                return r;

        k = (Carrying){ .c = c, .tree = t.tree };
        k.tell = true;
        tree_progress = backup_progress(&progress, manifest_n_bytes(t.manifest));
        r = tree_restore(t.manifest, t.copy_fd, t.live_fd,
                        &(TreeRules){ .decide = carry, .userdata = &k, .trust_inode = true }, &tree_progress, &counts,
                        reterr);
        if (r >= 0)
                r = carry_adapted(c, backup_fd, &t, reterr);
        if (r < 0)
                return r;
        step_report(c, "%s is back: %" PRIu64 " written, %" PRIu64 " put right, %" PRIu64 " removed", t.tree->path,
                        counts.n_written, counts.n_fixed, counts.n_removed);
        return 0;
}

int carry_over(Context *c, Error *reterr) {
        _cleanup_close_ int backup_fd = -1;
        int r;

        r = places_restore(c, false, reterr);
        if (r >= 0)
                r = backup_open(c->plan, &backup_fd, reterr);
        for (size_t i = 0; i < c->plan->n_trees && r >= 0; i++)
                r = carry_tree(c, backup_fd, i, reterr);
        return r;
}

int note_kept_aside(Context *c, Error *reterr) {
        _cleanup_free_ char *path = backup_path(c->plan, "/defaults");
        FTSENT *e;
        FTS *walk;
        int r = 0;

        if (!path)
                return -ENOMEM;
        c->plan->kept_aside = strv_free(c->plan->kept_aside);
        if (access(path, F_OK) < 0)
                return 0;
        walk = fts_open(STRV_MAKE(path), FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        if (!walk)
                return error_set(reterr, -errno, NULL, "Cannot look into %s: %m", path);
        while (r >= 0 && (e = fts_read(walk))) {
                if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS)
                        r = error_set(reterr, -e->fts_errno, NULL, "Cannot look into %s: %m", e->fts_path);
                else if (e->fts_info != FTS_D && e->fts_info != FTS_DP)
                        r = strv_extend(&c->plan->kept_aside, e->fts_path + strlen(path) + 1);
        }
        (void) fts_close(walk);
        return r;
}

int carried_over(Context *c, Error *reterr) {
        _cleanup_close_ int backup_fd = -1;
        int r;

        r = backup_open(c->plan, &backup_fd, reterr);
        for (size_t i = 0; i < c->plan->n_trees && r >= 0; i++) {
                _cleanup_(backup_tree_done) BackupTree t = BACKUP_TREE_NULL;
                BackupProgress progress = { .c = c, .what = "Checking what was restored" };
                Carrying k = { .c = c };
                TreeProgress tree_progress;

                r = backup_tree_open(c->plan, backup_fd, i, &t, reterr);
                if (r <= 0)
                        return r;
                k.tree = t.tree;
                tree_progress = backup_progress(&progress, manifest_n_bytes(t.manifest));
                r = tree_compare(t.manifest, t.live_fd,
                                &(TreeRules){ .decide = carry, .userdata = &k, .trust_inode = true }, &tree_progress,
                                NULL, NULL, reterr);
                if (r > 0)
                        return 0;
                if (r >= 0)
                        r = adapted_is_live(c, backup_fd, &t, reterr);
                if (r == 0)
                        return 0;
        }
        return r < 0 ? r : 1;
}

/* --- its undoing --- */

static TreeVerdict all_but_pipes(const char *path, const ManifestEntry *entry, void *userdata) {
        Carrying *k = userdata;
        const CarryRule *rule = carry_rule(k->c->plan, k->tree, path, entry);

        return rule && rule->verdict == TREE_LEAVE ? TREE_LEAVE : TREE_CARRY;
}

/* What keep_defaults_aside() was killed in. */
static int discard_part(Context *c, int backup_fd, const PlanTree *tree, Error *reterr) {
        _cleanup_close_ int fd = open_child(backup_fd, "defaults", O_RDONLY | O_DIRECTORY);
        _cleanup_free_ char *part = NULL;

        if (fd < 0)
                return fd == -ENOENT ? 0
                                     : error_set(reterr, fd, NULL, "Cannot open defaults/ of the backup %s: %m",
                                                       c->plan->id);
        return asprintf(&part, "%s.part", tree->name) < 0 ? -ENOMEM : tree_remove(fd, part, reterr);
}

int set_aside(Context *c, Error *reterr) {
        _cleanup_close_ int backup_fd = -1;
        int r;

        if (backup_complete(c->plan) == 0)
                return 0;

        r = backup_open(c->plan, &backup_fd, reterr);
        for (size_t i = 0; i < c->plan->n_trees && r >= 0; i++) {
                _cleanup_(backup_tree_done) BackupTree t = BACKUP_TREE_NULL;
                _cleanup_close_ int after_fd = -1;
                BackupProgress progress = { .c = c, .what = "Looking for what was written" };
                Carrying k = { .c = c };
                TreeProgress tree_progress;
                uint64_t n;

                r = backup_tree_open(c->plan, backup_fd, i, &t, reterr);
                if (r <= 0)
                        return r;
                k.tree = t.tree;
                r = discard_part(c, backup_fd, t.tree, reterr);
                if (r >= 0)
                        r = backup_side_open(c->plan, backup_fd, "after", t.tree->name, &after_fd, reterr);
                tree_progress = backup_progress(&progress, manifest_n_bytes(t.manifest));
                if (r >= 0)
                        r = tree_save_differences(t.manifest, t.live_fd, after_fd,
                                        &(TreeRules){ .decide = all_but_pipes, .userdata = &k }, &tree_progress, &n,
                                        reterr);
                if (r >= 0)
                        step_report(c, "%" PRIu64 " entries that %s wrote into %s are kept in after/%s of backup %s",
                                        n, c->plan->to, t.tree->path, t.tree->name, c->plan->id);
        }
        return r;
}
