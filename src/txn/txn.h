/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Transaction: what this upgrade set out to do, and how far it got.
 *
 *                      ┌───────────── txn_mark() ─────────────┐
 *                      ▼                                      │
 *     NONE ──create──▶ FORWARD ──txn_turn_back()──▶ BACK ─────┤──close(done, refused, rolled-back)──▶ NONE + history
 *                                                    │        │
 *                                            txn_stick()      │
 *                                                    ▼        │
 *                                                  STUCK ──txn_turn_back() by an operator──▶ BACK
 *
 * One JSON file, STATE_DIR/transaction, replaced whole by every call that changes it: once the call has returned 0 the
 * fact is on disk, and only then may the work that it announces begin. After an error the file holds the old fact or
 * the new one; the caller ends, and whoever comes next reads which, or, where the disk is full, it writes the same again
 * (txn/room.h). The first record is none after an error: it is removed. Where nothing was touched and the disk is full,
 * the way back goes on with the old fact on disk: whoever came next would try the step again, and be refused again.
 *
 * Invariants, at every moment and so after every crash:
 *
 *  1. A step is BEGUN on disk before any of its work, DONE only after all of it is on disk. Going back, the same for
 *     UNDO_BEGUN and UNDONE. So what is TODO has changed nothing, and what is DONE needs not be done again.
 *  2. At most the last step that is not TODO is BEGUN. So of one step at most the work may be half there: going forward
 *     the last one begun, going back the first one that is not UNDONE, from the end.
 *  3. Each BEGUN counts an attempt, on disk before the work: a step that takes the machine down with it ends after
 *     Attempts=, forwards by turning back, backwards by STUCK.
 *  4. BACK never becomes FORWARD again. A crash between a failure and txn_turn_back() is an interruption: the step is
 *     tried again, and fails again or does not.
 *  5. The hold file is there from before `stop` does anything until a start of our own (txn_needs_hold(); whoever
 *     resumes at boot sees to it before emqx.service may start).
 *  6. Nothing of the node is changed before all manifests of the backup are on disk: `remove` is the first to change
 *     any, and `backup` is DONE before it is BEGUN.
 *  7. FAILED is an optional step that was given up: the ones behind it go on, and the way back undoes what there is of
 *     it.
 *  8. The result reads `interrupted` until the transaction is closed. The first cause and a failure of the way back are
 *     two fields, and neither is ever overwritten by the other.
 *
 * What makes each step fit for that (again: run once more after a crash in it; durable: why its work is on disk at
 * DONE; undo: why that copes with half of it). A row that is added adds its lines here.
 *
 *     inspect  changes nothing; what it has found is written with DONE
 *     stage    writes below backups/<id> alone, and beside_dir, which appears by a rename. again: packages are copied
 *              anew, data from the last pass that is sealed. durable: fsync of packages, syncfs after each pass. undo:
 *              removes it all, what vouches for a copy first; a backup with its manifests stays
 *     drain    hooks: they are told to be fit to run again. undo: the opposite hooks
 *     refresh  more passes of `stage`, and as these
 *     recheck  looks, reserves room (steps/reserve.h), which is given back on the way back and by `commit`, and marks the
 *              node in its cluster's eyes (steps/cluster.h). undo: takes that mark away; nothing where there is none
 *     stop     hold first, then the stop; both are nothing where they are done. undo: starts what is there, and lifts
 *              the hold last; by then the undoing of all below has put the old version there
 *     backup   again: first the manifests go, durably, then all is copied that the sealed ones of `stage` do not vouch
 *              for. durable: syncfs of the copies, then the manifest, by fsync and rename. undo: where a manifest is
 *              missing, nothing was touched (6), so nothing is restored; else all is made as the manifests say, by
 *              digest, which comes to the same end from any state between
 *     remove   again: what is gone is gone, half of it is removed again once the package manager is mended. durable:
 *              syncfs of all file systems with files of the program. undo: installs the old one; a mark on disk says
 *              that this has begun: after a power cut the package manager's records may be ahead of the files
 *     install  again: over whatever is there. durable: as `remove`; a zip's exchange is one rename, synced. undo:
 *              removes it; half an unpacking is unpacked again first, so that no file is left without an owner
 *     restore  again, durable: as the undoing of `backup`; what is kept aside appears in the backup by a rename, before
 *              it is dropped. undo: copies what differs from the manifests into backups/<id>/after, anew each time, and
 *              changes nothing of the node: that is for the undoing of `backup`
 *     start    again: a node that runs is waited for, not started twice. undo: hold first, then the stop
 *     verify   looks
 *     undrain  hooks, as `drain`; where one fails that is told, and goes no way back. undo: the hooks of `drain`
 *     watch    looks
 *     archive  writes below backups/<id> alone: the archive has its name when it has been read back and is on disk, and
 *              only then tree/ loses its. again: an archive that has its name is not made anew. undo: extracts it beside,
 *              and tree/ has its name when all is on disk; a tree/ that is there is all of it
 *     commit   removes what is volatile or reserved, and what an archive that was given up has left; all of it is nothing
 *              where it is gone
 *
 * Closed, it becomes STATE_DIR/history/<id>.json, written before the transaction is removed: a crash between the two
 * leaves a transaction whose result is set, which txn_load() finishes closing.
 *
 * Does not log. One writer at a time: the caller holds LOCK_PATH. */

#include "base/error.h"
#include "steps/plan.h"

#define TXN_FORMAT 1

typedef enum StepState {
        STEP_TODO,
        STEP_BEGUN,
        STEP_DONE,
        STEP_UNDO_BEGUN,
        STEP_UNDONE,
        STEP_FAILED,
        _STEP_STATE_MAX,
} StepState;

typedef enum TxnDirection {
        TXN_FORWARD,
        TXN_BACK,
        TXN_STUCK, /* the way back failed too: only an operator goes on from here */
        _TXN_DIRECTION_MAX,
} TxnDirection;

typedef enum TxnResult {
        TXN_INTERRUPTED, /* cause unknown: what the record says until it is closed */
        TXN_DONE,
        TXN_REFUSED,     /* by a check; the node was not touched */
        TXN_ROLLED_BACK, /* failed, and the old version is back */
        _TXN_RESULT_MAX,
} TxnResult;

typedef struct TxnStep {
        char *name;
        StepState state;
        unsigned attempts; /* how often it was begun, in the present direction */
        usec_t begun_realtime_usec;
        usec_t took_usec;                                /* 0 while it is not over */
        usec_t undo_begun_realtime_usec, undo_took_usec; /* the same of its undoing */
        uint64_t bytes; /* that it has worked through, where it counts them; for the next save */
        char *why;      /* it FAILED; else NULL */
} TxnStep;

typedef struct Txn {
        int dir_fd;
        Plan *plan;
        char *unit; /* that conducts: what to start to go on */
        TxnDirection direction;
        TxnResult result;
        usec_t started_realtime_usec;
        usec_t ended_realtime_usec;         /* 0: open */
        char *cause_step, *cause, *advice;  /* why it did not succeed; NULL: it has, or may yet */
        char *back_cause_step, *back_cause; /* why the way back failed */
        TxnStep *steps;
        size_t n_steps;
} Txn;

/* Opens a transaction for plan (taken over, also on failure) and names, a strv, and writes it. -EEXIST: one is open. */
int txn_create(int dir_fd, Plan *plan, const char *unit, char *const *names, Txn **ret);

/* Borrows dir_fd. Returns 1 if a transaction is open, 0 if none is, -EBADMSG with reterr if the file is damaged or not
 * ours; *ret is set only on 1, and is then the caller's to free. */
int txn_load(int dir_fd, Txn **ret, Error *reterr);

/* Whether one is open that unit conducts, or may be: the file cannot be read. Changes nothing, so it takes no lock. */
bool txn_may_be_of(int dir_fd, const char *unit);

/* For those who find t open, and may not go on with it: returns -EBUSY, reterr says what it is and who may. */
int txn_other_is_open(const Txn *t, Error *reterr);

/* The same as txn_load() from history/<id>.json: 0, -ENOENT, -EBADMSG. id may be "last". */
int txn_load_history(int dir_fd, const char *id, Txn **ret, Error *reterr);

/* The newest upgrade in the history that was made, whatever became of it; one that was refused has touched nothing, and has no
 * backup. Records that are damaged are passed over, here and below. 0, -ENOENT, or another errno: the history cannot be read. */
int txn_load_last_made(int dir_fd, Txn **ret);

/* The newest upgrade that was done, and has not been taken back since: 0, -ENOENT. */
int txn_load_last_done(int dir_fd, Txn **ret);

/* Of the upgrades that were taken back, one to the highest release: 0, -ENOENT. */
int txn_load_highest_rolled_back(int dir_fd, Txn **ret);

/* Opens a closed upgrade that was done again, to take it back: all its steps are DONE, its direction is BACK.
 * cause says who asked. -EINVAL: it was not done. -EEXIST: a transaction is open. */
int txn_reopen(Txn *t, const char *unit, const char *cause);

Txn *txn_free(Txn *t);
DEFINE_CLEANUP(Txn *, txn_free)

/* Writes the plan as it now is. */
int txn_save(Txn *t);

/* Step i gets state. BEGUN and UNDO_BEGUN count an attempt and start the clock, DONE and UNDONE stop it. */
int txn_mark(Txn *t, size_t i, StepState state);

/* Step i becomes FAILED, for why. */
int txn_give_up(Txn *t, size_t i, const char *why);

/* FORWARD or STUCK becomes BACK; the cause is kept if none was there yet. step and advice may be NULL. */
int txn_turn_back(Txn *t, const char *step, const char *cause, const char *advice);

/* BACK becomes STUCK, with the cause of that. */
int txn_stick(Txn *t, const char *step, const char *cause);

/* Writes the history with result, then removes the transaction. With TXN_REFUSED cause and advice must be set by
 * txn_set_cause() before. */
int txn_close(Txn *t, TxnResult result);

/* Keeps cause if none is there yet; in memory, for the next write. */
int txn_set_cause(Txn *t, const char *step, const char *cause, const char *advice);

/* Removes the transaction without a trace: for an upgrade that had nothing to do. */
int txn_forget(Txn *t);

/* Whether emqx.service must not be started by anyone but the conductor: from the begin of `stop` until the new version
 * has been started, or the old one again. */
bool txn_needs_hold(const Txn *t);

/* Index of a step, SIZE_MAX: no such step. */
size_t txn_find(const Txn *t, const char *name);

/* Whether anything outside our own directory was changed for it. */
bool txn_touched_node(const Txn *t);

/* The whole record, for status.json and `status --json`. *ret is the caller's to put. */
int txn_to_json(const Txn *t, json_object **ret);

/* The reverse; what else is in o is passed over. *ret has no directory to be saved in. -EBADMSG: no such record. */
int txn_from_json(json_object *o, Txn **ret);

const char *step_state_name(StepState s);       /* "todo", "begun", "done", "undo-begun", "undone", "failed" */
const char *txn_direction_name(TxnDirection d); /* "forward", "back", "stuck" */
const char *txn_result_name(TxnResult r);       /* "interrupted", "done", "refused", "rolled-back" */
