/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Backups: those that there are below STATE_DIR/backups, each with its record, and which of them may go, and are to.
 *
 * The rules of the configuration (number, age, space) never remove the backup of the upgrade that is open, the newest one,
 * that of an upgrade that was not done (failed, rolled back, interrupted, without a record), one that was staged for an
 * upgrade to come, nor the only copy of an old package. A person may name those that were not done, or staged. */

#include "steps/backup.h"
#include "txn/txn.h"

typedef struct Backup {
        char id[PLAN_ID_SIZE];
        Txn *txn;                     /* its record; NULL: it has none */
        BackupForm form;              /* without a record BACKUP_INCOMPLETE, or BACKUP_STAGED */
        usec_t started_realtime_usec; /* the upgrade; without a record its directory was changed */
        uint64_t bytes;               /* on disk, with what lies beside the program and belongs to it */
        const char *kept;             /* why no rule removes it; NULL: one may */
        bool by_name;                 /* a person who names it may all the same */
        char *goes;                   /* by which rule; NULL: it stays */
} Backup;

/* The newest first. */
typedef struct Backups {
        Backup *items;
        size_t n;
} Backups;

void backups_done(Backups *l);

/* Loads all there are. Borrows state_fd, that of STATE_DIR. */
int backups_load(int state_fd, Backups *ret, Error *reterr);

/* Says of each whether it goes, by the rules of config, at now. */
int backups_choose(Backups *l, const Config *config, usec_t now_realtime_usec);

/* -ENOENT: there is none. id may be "last". */
int backups_find(const Backups *l, const char *id, const Backup **ret, Error *reterr);

/* Whether a person who names b may have it removed: 0; -EPERM, and reterr says why not. */
int backup_may_go(const Backups *l, const Backup *b, const Config *config, Error *reterr);

/* Removes b with all that belongs to it, and says so in the journal with the reason why; what an earlier removal has left
 * goes with it. Interrupted, it is no backup any more, and the rest goes with the next removal. */
int backup_remove(const Backup *b, const char *why, const JournalContext *journal, Error *reterr);

/* Context.prune_backups: those that go by the rules, with what removals that were interrupted have left. */
int backups_prune(Context *c, Error *reterr);

/* What removals that were interrupted have left. */
int backups_sweep(Error *reterr);
