/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Adapt: lines of the configuration that the new version does not know, and does not need, since it behaves as they say:
 * ConfigConflicts=drop-defaults. The file that the new version gets has them as comments.
 *
 * `inspect` decides, asks the new version again, and puts it into the plan; `backup` makes the files from its own copies
 * and compares their digests with the plan's, so that they are what was accepted; `restore` takes them instead of the copies.
 * The backup itself keeps the original, so that the way back knows nothing of this. */

#include "steps/backup.h"

typedef struct AdaptRule {
        const char *key;
        const char *value;    /* what every 4.4 that does not know key does */
        unsigned known_since; /* the first 4.4.N that knows it */
        const char *without;  /* the same in words: "without it …" */
        const char *source;
} AdaptRule;

/* NULL: it is not known what the new version does without key. */
const AdaptRule *adapt_rule(const char *key);

/* text without dropped, a strv of keys that have a rule; each stays as a comment below one that says by whom, when and
 * why, by the plan's id, to and adapted_realtime_usec, so always the same. */
int adapt_text(const Plan *p, char *const *dropped, const char *text, char **ret);

/* Whether path of tree is adapted. NULL: it is carried as it is. */
const PlanAdapted *adapted_find(const Plan *p, const PlanTree *tree, const char *path);

/* Makes adapted/ of the backup, durably, from its trees. -ESTALE: a file has changed since the new version was asked. */
int adapt_backup(Context *c, int backup_fd, Error *reterr);

/* 1 where adapted/ is as the plan says; 0 where it is not. */
int adapted_holds(const Plan *p, int backup_fd, Error *reterr);

/* What of t is adapted, with the directories above, as a tree of its own: tree_restore(*ret_manifest, *ret_fd, live).
 * 0: nothing is; 1: both are the caller's. */
int adapted_open(const Plan *p, int backup_fd, const BackupTree *t, Manifest **ret_manifest, int *ret_fd,
                Error *reterr);
