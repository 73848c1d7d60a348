/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Plan: what one upgrade is about, and the facts about this machine that it rests on: found by `inspect`, kept in the
 * transaction, read by every later step, in this process or another. Nothing in it is secret.
 *
 * One table of fields (plan.c) makes JSON of it and reads it back. */

#include "base/json.h"
#include "base/strv.h"
#include "base/time.h"
#include "steps/baseline.h"

#define PLAN_ID_SIZE 33 /* 32 hex digits */

/* Whether s is an id of an upgrade, as plan_new() makes them. */
bool plan_is_id(const char *s);

/* A directory whose content is backed up and restored. */
typedef struct PlanTree {
        char *name;       /* below backups/<id>/tree/: "etc", "data", "node-data", "log" */
        char *path;       /* as the node names it */
        char *real;       /* the same without symbolic links: where the work is done */
        char *link;       /* what path points to where it is a symbolic link itself, else NULL */
        char *why;        /* for the operator: "RUNNER_DATA_DIR in emqx_vars" */
        uint64_t bytes;   /* allocated, when the plan was made */
        uint64_t entries; /* files, directories and all else, the same */
} PlanTree;

typedef enum CheckOutcome {
        CHECK_PASSED,
        CHECK_WARNED,
        CHECK_REFUSED,
        _CHECK_KEPT_MAX,
        CHECK_NOT_MADE = _CHECK_KEPT_MAX, /* one that it rests on was refused; not kept */
} CheckOutcome;

/* What a check said, for who looks at the upgrade when the journal is gone. */
typedef struct PlanCheck {
        char *step; /* that made it: "inspect", "verify", or "stop" where the old version was started again */
        char *name; /* EMQX_UPGRADE_CHECK= */
        CheckOutcome outcome;
        char *text;   /* what was found, or what is wrong; one line of UTF-8 */
        char *advice; /* NULL: none */
} PlanCheck;

/* A configuration file that the new version gets without lines that it does not know, since it behaves as they say. */
typedef struct PlanAdapted {
        char *file;        /* "/etc/emqx/emqx.conf" */
        char *tree, *path; /* name of the tree that it is in, and where in there */
        char *sha256;      /* as it was when the new version was asked */
        char *sha256_adapted;
        char **dropped; /* strv: the keys */
} PlanAdapted;

/* A file that keeps room free while the node is apart: steps/reserve.h. */
typedef struct PlanReserve {
        char *path;
        uint64_t bytes;
} PlanReserve;

typedef struct Plan {
        char *id;   /* sd_id128 in hex */
        char *from; /* "4.3.12"; NULL until inspect has found it */
        char *to;

        char *settings; /* config_text() of what it was begun with; NULL: a record from before that was kept */

        char *kind;    /* of installation: "deb" */
        char *package; /* "emqx" */
        char *arch;
        char *target_path; /* in the packages directory */
        char *target_sha256;
        char *old_path; /* NULL: none, and the configuration allows that */
        char *old_sha256;
        uint64_t old_program_bytes; /* of the old package, unpacked; 0: it does not say, or there is none */
        uint64_t held;              /* 1: a person has told the package manager not to upgrade the package */
        char *hold;                 /* whose hold is on it after the upgrade: "operator", "rollback"; NULL: nobody's */

        char *unit;       /* "emqx.service" */
        char *enablement; /* its word in `systemctl is-enabled` before */
        char *root_dir;   /* the program: /usr/lib/emqx */
        char *beside_dir; /* the other version's, for a kind that exchanges both; else NULL */
        char *etc_dir;
        char *data_dir;
        char *data_real; /* data_dir without symbolic links */
        char *log_dir;
        char *user; /* that the node runs as */
        char *node_name;
        char *mqtt_host;
        uint64_t mqtt_port; /* 0: no plain TCP listener */
        char *management_host;
        uint64_t management_port; /* 0: none, or its plugin is not loaded */
        uint64_t ctl_works;       /* 1: `emqx_ctl status` answered before anything was done */

        uint64_t tree_bytes;               /* of all trees, allocated */
        uint64_t program_bytes;            /* of the new version, unpacked; 0: its package does not say */
        uint64_t predicted_downtime_usec;  /* as it was when the node was stopped, or is now; 0: not yet */
        uint64_t down_since_realtime_usec; /* the stop was asked for; 0: never */
        uint64_t ready_since_realtime_usec; /* the new version, or after a rollback the old one, was ready; 0: not yet */

        PlanTree *trees;
        size_t n_trees;

        char **mounts; /* strv: mount points that trees and program lie on, and those within trees, but "/"; NULL: none noted */

        PlanCheck *checks; /* in the order in which they were first made */
        size_t n_checks;

        char *configuration_sha256; /* of all files that the new version is asked about */
        PlanAdapted *adapted;
        size_t n_adapted;
        uint64_t adapted_realtime_usec; /* when that was decided */

        Baseline baseline; /* of the old version */
        char *vm;          /* the VM that was ready: "BOOT PID STARTED", node_vm_identity(); NULL: none was yet */
        char **log_marks;  /* strv: where the node's log was before that VM wrote to it, node_log_marks() */

        char **members; /* strv: nodes of the cluster, this one too; NULL: it is in none */

        PlanReserve *reserves;
        size_t n_reserves;

        char **kept_aside; /* strv: files of the new package that were not taken over, below backups/<id>/defaults/ */
} Plan;

/* A plan with a new random id. to is a version. */
int plan_new(const char *to, Plan **ret);
Plan *plan_free(Plan *p);
DEFINE_CLEANUP(Plan *, plan_free)

/* link may be NULL. */
int plan_add_tree(Plan *p, const char *name, const char *path, const char *real, const char *link, const char *why);

/* Keeps what a check said, for the next save of the record, in place of what the same one said before in the same step.
 * text and advice (NULL: none) become one line of UTF-8 each, cut where they are longer than 1 KiB; beyond 128 checks none
 * is kept. 0, or -ENOMEM with p as it was. */
int plan_keep_check(Plan *p, const char *step, const char *name, CheckOutcome outcome, const char *text,
                const char *advice);

/* "passed", "warned", "refused". */
const char *check_outcome_name(CheckOutcome outcome);

/* Everything is copied. */
int plan_add_adapted(Plan *p, const PlanAdapted *adapted);

void plan_forget_adapted(Plan *p);

int plan_add_reserve(Plan *p, const char *path, uint64_t bytes);
void plan_clear_reserves(Plan *p);

/* Compares what now says of the node with what p says: 0 the same; 1 with *ret, the caller's: "from was 4.3.12 and is
 * 4.3.13 now". What now does not say is not compared, nor are sizes and what the upgrade itself has noted. */
int plan_changed(const Plan *p, const Plan *now, char **ret);

/* *ret is the caller's to put. */
int plan_to_json(const Plan *p, json_object **ret);

/* -EBADMSG where a field has another type than it should, or a number, id or to is missing. Unknown fields are passed
 * over. */
int plan_from_json(json_object *o, Plan **ret);

/* Time without service so far, or in all: 0 where the node was never stopped. */
usec_t plan_downtime_usec(const Plan *p);
