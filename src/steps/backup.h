/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Backup: backups/<id>/, what one upgrade can go back to.
 *
 *     packages/        both packages, verified                               by `stage`
 *     tree/<name>/     the content of each of the plan's trees               by `stage`, completed by `backup`
 *     staged/          manifests of what of them was copied while the node served; until `backup` is done
 *     <name>.manifest  what is in it; written last, so it vouches for the tree
 *     defaults/<name>/ defaults of the new package that were not taken       by `restore`
 *     after/<name>/    what the new version wrote before it was taken back   by undoing `restore` */

#include "archive/tree.h"
#include "steps/step.h"

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

/* 1 where every tree of the plan has its manifest: the backup is complete. */
int backup_complete(const Plan *p);

/* Whether the plan's upgrade can still be taken back: the backup is complete, and the old package is in it. */
int backup_usable(const Plan *p, Error *reterr);

/* Copies the trees while the node serves, over again as long as what has changed meanwhile gets less. */
int copy_trees_ahead(Context *c, Error *reterr);

/* Path of a staged package, given the one in the packages directory; the caller's. NULL: out of memory. */
char *backup_package_path(const Plan *p, const char *path);

/* That of the new version as kind->prepare has made it. The caller's; NULL: out of memory. */
char *backup_prepared_path(const Plan *p);

/* Opens backups/<id>/<kind>/<name>, made if it is missing: for what is kept beside. */
int backup_side_open(const Plan *p, int backup_fd, const char *kind, const char *name, int *ret_fd, Error *reterr);

/* Fills kept_aside of the plan with what `restore` has put into defaults/: for the record, as status shows it. */
int note_kept_aside(Context *c, Error *reterr);

/* Makes a TreeProgress that reports whole percents. */
typedef struct BackupProgress {
        Context *c;
        const char *what; /* "Backing up" */
        unsigned percent;
} BackupProgress;

TreeProgress backup_progress(BackupProgress *p, uint64_t bytes_total);
