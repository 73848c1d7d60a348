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
 * the new one; the caller ends, and whoever comes next reads which.
 *
 * Invariants: a step is BEGUN on disk before any of its work, DONE only after all of it is on disk. Going back, the
 * same for UNDO_BEGUN and UNDONE. At most the last step that is not TODO is BEGUN. The result reads `interrupted`
 * until the transaction is closed. The first cause and a failure of the way back are two fields, and neither is ever
 * overwritten by the other.
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
        usec_t took_usec; /* 0 while it is not over */
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

/* The same from history/<id>.json: 0, -ENOENT, -EBADMSG. id may be "last". */
int txn_load_history(int dir_fd, const char *id, Txn **ret, Error *reterr);

/* Opens a closed upgrade that was done again, to take it back: all its steps are DONE, its direction is BACK.
 * cause says who asked. -EINVAL: it was not done. -EEXIST: a transaction is open. */
int txn_reopen(Txn *t, const char *unit, const char *cause);

Txn *txn_free(Txn *t);
DEFINE_CLEANUP(Txn *, txn_free)

/* Writes the plan as it now is. */
int txn_save(Txn *t);

/* Step i gets state. BEGUN and UNDO_BEGUN count an attempt and start the clock, DONE and UNDONE stop it. */
int txn_mark(Txn *t, size_t i, StepState state);

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

const char *step_state_name(StepState s);       /* "todo", "begun", "done", "undo-begun", "undone" */
const char *txn_direction_name(TxnDirection d); /* "forward", "back", "stuck" */
const char *txn_result_name(TxnResult r);       /* "interrupted", "done", "refused", "rolled-back" */
