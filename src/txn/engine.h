/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Engine: walks the table of steps, the only loop that does.
 *
 * Downwards: for each row not yet DONE, mark BEGUN, apply, ask verify, mark DONE. A failure turns around. Upwards: for
 * each row that was begun, from the last, mark UNDO_BEGUN, undo, mark UNDONE. A failed undo makes it STUCK.
 * An optional row that fails is told and marked FAILED, and the walk goes on; `systemctl stop` ends that row alone.
 * After an interruption the same walk is made again: a row found BEGUN is first asked for (its unit may still run, or
 * have ended; its verify may say that it is done), then run again, up to Attempts= times; then it has failed.
 *
 * Rows that touch files or packages run as transient units (step-unit.h), which outlive the conductor. What it ends with is
 * finish.h. */

#include "base/strv.h"
#include "steps/step.h"
#include "txn/package-lock.h"
#include "txn/progress.h"
#include "txn/txn.h"

/* Exit statuses: emqx-upgrade(1). */
typedef enum ExitStatus {
        EXIT_DONE = 0,        /* done, or nothing to do */
        EXIT_INTERRUPTED = 1, /* the record says how far; systemd starts the conductor again */
        EXIT_USAGE = 2,
        EXIT_REFUSED = 3,     /* by a check; nothing was touched */
        EXIT_ROLLED_BACK = 4, /* failed, and the old version is back */
        EXIT_STUCK = 5,       /* failed, and so did the way back: a person is needed */
} ExitStatus;

typedef struct Engine {
        Txn *txn;
        Context context; /* of the steps; its plan is the transaction's */
        PackageLock package_lock;
        int inhibitor_fd;     /* of logind, while packages and data are exchanged */
        bool stop_requested;  /* by SIGTERM */
        bool stop_considered; /* it was decided that the upgrade goes on all the same */
        bool shutting_down;
        usec_t reported_usec; /* when a step last spoke in the journal */
        Progress progress;    /* of the step that runs */
} Engine;

/* Names of all steps, for txn_create(); the caller's. ahead: those alone that an upgrade can take over. */
char **engine_step_names(bool ahead);

/* Whether t was begun with those: its end is no upgrade. */
bool engine_only_stages(const Txn *t);

/* Goes on with e->txn from wherever it is, to its end, and closes it. e->context has config, manager and event. */
ExitStatus engine_run(Engine *e);
