/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Backup: backups/<id>/, what one upgrade can go back to.
 *
 *     packages/        both packages, verified                               by `stage`
 *     tree/<name>/     the content of each of the plan's trees               by `stage`, completed by `backup`
 *     staged/          manifests of what of them was copied while the node served, and how long the last pass took (`usec`);
 *                      until `backup` is done
 *     <name>.manifest  what is in it; written last, so it vouches for the tree
 *     adapted/<name>/  files that the new version gets otherwise than they are in tree/   by `backup`
 *     defaults/<name>/ defaults of the new package that were not taken       by `restore`
 *     backup.tar.zst   all of tree/, which is removed then, see steps/archive.h; by `archive`
 *     after/<name>/    what the new version wrote before it was taken back   by undoing `restore` */

#include "archive/tree.h"
#include "steps/step.h"

#define BACKUPS_DIR STATE_DIR "/backups"

/* One tree of the plan, opened. */
typedef struct BackupTree {
        const PlanTree *tree; /* borrowed from the plan */
        int live_fd;
        int copy_fd;        /* -1 unless it exists or was asked to be made */
        Manifest *manifest; /* NULL unless it exists */
} BackupTree;

#define BACKUP_TREE_NULL ((BackupTree){ NULL, -1, -1, NULL })

void backup_tree_done(BackupTree *t);

/* Opens backups/<id>, made durable if it is missing. *ret_fd is the caller's. */
int backup_open(const Plan *p, int *ret_fd, Error *reterr);

/* Opens tree i. 1: with its manifest; 0: there is no manifest, so no complete copy; negative errno. */
int backup_tree_open(const Plan *p, int backup_fd, size_t i, BackupTree *ret, Error *reterr);

/* Where the content of the trees is. */
typedef enum BackupForm {
        BACKUP_INCOMPLETE, /* nowhere, or not all of it */
        BACKUP_STAGED,     /* copied ahead for an upgrade to come, which completes it: nothing to go back to */
        BACKUP_TREE,       /* in tree/ */
        BACKUP_ARCHIVED,   /* in backup.tar.zst alone */
} BackupForm;

/* A BackupForm, or a negative errno; of an upgrade, so never BACKUP_STAGED. */
int backup_form(const Plan *p);

/* 1: backups/<id> was staged for an upgrade that has not come to its `backup`, and another one can take it over. */
int backup_is_staged(const char *id);

/* 1 with *ret_id, the caller's: that of the one backup that is staged; 0: there is none. */
int backup_find_staged(char **ret_id);

/* Of the copies in it, which the next upgrade takes over; all 0 where there is none. */
int backup_measure_staged(TreeSize *ret, Error *reterr);

/* Opens tree/<name>, which has to exist. */
int backup_copy_open(const Plan *p, int backup_fd, const char *name, int *ret_fd, Error *reterr);

/* 1 where every tree of the plan has its manifest: the backup is complete. */
int backup_complete(const Plan *p);

/* Whether the plan's upgrade can still be taken back: the backup is complete, there is room to extract it where it is
 * archived, and the old package is in it, as it was. */
int backup_usable(const Plan *p, Error *reterr);

/* How long the last pass over all trees took while the node served, that of the upgrade or of what is staged for it: 1 with
 * *ret_usec; 0: there is none, or not any more. */
int backup_last_pass(const Plan *p, usec_t *ret_usec);

/* Path of a staged package, given the one in the packages directory; the caller's. NULL: out of memory. */
char *backup_package_path(const Plan *p, const char *path);

/* That of the new version as kind->prepare has made it. The caller's; NULL: out of memory. */
char *backup_prepared_path(const Plan *p);

/* Opens backups/<id>/<kind>/<name>, made if it is missing: for what is kept beside. */
int backup_side_open(const Plan *p, int backup_fd, const char *kind, const char *name, int *ret_fd, Error *reterr);

/* Fills kept_aside of the plan with what `restore` has put into defaults/: for the record, as status shows it. */
int note_kept_aside(Context *c, Error *reterr);

/* Makes a TreeProgress that reports, not more often than somebody could read it. */
typedef struct BackupProgress {
        Context *c;
        const char *what; /* "Backing up" */
        usec_t reported_usec;
} BackupProgress;

TreeProgress backup_progress(BackupProgress *p, uint64_t bytes_total);
