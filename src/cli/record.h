/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Record: an upgrade as the operator's command sees it, from wherever it can be read: status.json, which anyone may read and
 * which is gone after a reboot; the open transaction, and the history, which only root may read. */

#include "steps/step.h"
#include "txn/txn.h"

typedef enum RecordState {
        RECORD_RUNS,        /* open, and a conductor is at it */
        RECORD_INTERRUPTED, /* open, and nobody is at it */
        RECORD_STUCK,
        RECORD_DONE,
        RECORD_REFUSED,
        RECORD_ROLLED_BACK,
} RecordState;

typedef struct Record {
        json_object *json; /* as `--json` prints it */
        Txn *txn;
        const char *step, *text;        /* of json: the running step, and its words; NULL: none */
        unsigned percent;               /* of the steps */
        usec_t predicted_downtime_usec; /* 0: not known */
        StepProgress progress;          /* of the running step; bytes_total 0: it is not counted */
} Record;

Record *record_free(Record *r);
DEFINE_CLEANUP(Record *, record_free)

/* Takes json over, also on failure. -EBADMSG: it is no record. */
int record_from_json(json_object *json, Record **ret);

/* id: of an upgrade, or NULL or "last" for the one that runs, or ran last. -ENOENT: there is none (without reterr's being
 * set). -EACCES: only root may look further than status.json. */
int record_load(const char *id, Record **ret, Error *reterr);

/* All that are over, the latest first; the caller's. -EACCES, -EBADMSG with reterr. */
int record_load_history(Record ***ret, size_t *ret_n, Error *reterr);
Record **records_free(Record **records, size_t n);

/* How long the step took, or takes so far, in the direction in which it was made last; 0: it was not. */
usec_t step_took_usec(const TxnStep *s);

/* Asks systemd whether an open one is conducted; where it cannot be asked, it is taken to be. */
RecordState record_state(const Record *r);

/* Exit status of what has ended as state says: 0, 3, 4, 5; 1 for an open one. */
int record_exit_status(RecordState state);

/* What to do now, for the operator: full sentences, the caller's to free; NULL: out of memory. */
char *record_what_now(const Record *r, RecordState state);

/* "EMQX 4.3.12 → 4.4.0: done": one line, the caller's to free; NULL: out of memory. */
char *record_headline(const Record *r, RecordState state);
