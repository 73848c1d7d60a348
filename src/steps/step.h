/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Step: what an upgrade does, as rows of one table (table.c). Reading that table is reading the program.
 *
 * The engine (txn/engine.h) walks it downwards with apply, and upwards with undo. `apply` and `undo` can run again
 * after a crash anywhere inside them and come out the same; `undo` copes with half an `apply`. `verify` asks the
 * machine, not our memory: 1 as apply leaves it, 0 not (yet), negative errno: cannot tell. */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "bus/manager.h"
#include "journal/log.h"
#include "package/package.h"
#include "steps/config.h"
#include "steps/plan.h"

#define STATE_DIR "/var/lib/emqx-upgrade"
#define RUNTIME_DIR "/run/emqx-upgrade"
#define LOCK_PATH STATE_DIR "/lock"
#define HOLD_PATH STATE_DIR "/hold"

/* How far a step is, where that can be counted. */
typedef struct StepProgress {
        uint64_t bytes_done, bytes_total;
} StepProgress;

/* What a step has at hand. */
typedef struct Context {
        const Config *config;
        Plan *plan;
        JournalContext journal;
        const char *step; /* the row that runs; NULL: none */
        sd_event *event;  /* NULL in a step unit, as manager */
        Manager *manager;

        /* Tells how far the step is, in words, and in numbers where progress is not NULL; it keeps the step from being taken
         * for stalled. Never NULL. */
        void (*report)(const char *text, const StepProgress *progress, void *userdata);
        void *userdata;

        /* Waits until nobody else installs packages, within LockTimeoutSec=. NULL: there is nobody to wait. */
        int (*await_packages)(struct Context *c, Error *reterr);

        /* Whether somebody has asked for an end that the step has to come to by itself. NULL: nobody can. */
        bool (*asked_to_stop)(const struct Context *c);

        /* Removes the backups that the configuration does not keep. NULL: none are removed. */
        int (*prune_backups)(struct Context *c, Error *reterr);
} Context;

typedef int (*StepFunc)(Context *c, Error *reterr);

typedef enum StepNode {
        NODE_UP,   /* the node serves while it runs, or may */
        NODE_DOWN, /* the node is down, and the hold file keeps it so */
} StepNode;

typedef enum StepPlace {
        IN_CONDUCTOR, /* talks to systemd, or only looks */
        IN_FILES,     /* a sandboxed transient unit: file work as root */
        IN_PACKAGES,  /* a transient unit without a sandbox: maintainer scripts may do anything */
} StepPlace;

typedef struct Step {
        const char *name;
        const char *title;      /* for people: what it does */
        const char *undo_title; /* NULL where undo is */
        StepNode node;
        StepPlace place;
        bool package_lock; /* the package manager's lock is ours while it runs, in either direction */
        bool committing;   /* from here on `systemctl stop` does not turn the upgrade back */
        bool optional; /* its failure is told and recorded, and the next row follows: it never turns the upgrade round */
        StepFunc apply;
        StepFunc undo;   /* NULL: nothing to undo */
        StepFunc verify; /* NULL: nothing the machine could be asked */

        /* apply digests and compares what it leaves while the node is down: verify, which takes as long again for much data,
         * is asked only where apply was interrupted. */
        bool checks_itself;
} Step;

extern const Step upgrade_steps[];
extern const size_t n_upgrade_steps;

/* NULL: no such row. */
const Step *step_find(const char *name);

/* c->report() with a format, without numbers. */
void step_report(Context *c, const char *format, ...) _printf_(2, 3);

/* Tells the journal what a check of the running step said, and keeps it for the record. text says what was found, or what is
 * wrong; advice may be NULL. */
void step_check(Context *c, const char *name, CheckOutcome outcome, const char *text, const char *advice);

/* backups/<id> of the plan, the caller's to free; suffix NULL or "/…". NULL: out of memory. */
char *backup_path(const Plan *p, const char *suffix);

/* The rows' functions, in the order of the table. */
int inspect_apply(Context *c, Error *reterr); /* -EALREADY: the node runs the target; -ECANCELED: a check refused */
int stage_all(Context *c, Error *reterr);
int stage_discard(Context *c, Error *reterr);
int stage_verify(Context *c, Error *reterr);
/* Copies the trees while the node serves, over again as long as what has changed meanwhile gets less. */
int copy_trees_ahead(Context *c, Error *reterr);
int recheck_apply(Context *c, Error *reterr); /* -ECANCELED: the node is not as the plan has it any more */
int stop_node(Context *c, Error *reterr);
int start_old(Context *c, Error *reterr);
int node_stopped(Context *c, Error *reterr);
int back_up_trees(Context *c, Error *reterr);
int restore_backup(Context *c, Error *reterr);
int backup_holds(Context *c, Error *reterr);
int remove_old(Context *c, Error *reterr);
int install_old(Context *c, Error *reterr);
int old_absent(Context *c, Error *reterr);
int install_target(Context *c, Error *reterr);
int remove_target(Context *c, Error *reterr);
int target_installed(Context *c, Error *reterr);
int carry_over(Context *c, Error *reterr);
int set_aside(Context *c, Error *reterr);
int carried_over(Context *c, Error *reterr);
int start_target(Context *c, Error *reterr);
int stop_target(Context *c, Error *reterr);
int target_ready(Context *c, Error *reterr);
int accept_target(Context *c, Error *reterr);
int drain_node(Context *c, Error *reterr);
int undrain_node(Context *c, Error *reterr);
int drain_again(Context *c, Error *reterr);
int watch_node(Context *c, Error *reterr); /* -ECANCELED: it was not well all the time */
int archive_backup(Context *c, Error *reterr);
int extract_backup(Context *c, Error *reterr);
int clean_up(Context *c, Error *reterr);
