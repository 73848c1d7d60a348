/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Transient: one command as a service that PID 1 runs for us, with restrictions of its own.
 *
 *     transient_start() ──▶ RUNNING ──exit 0──▶ DONE (active, exited) ──transient_clear()──▶ ABSENT
 *                                   └─else────▶ FAILED ───────────────transient_clear()──▶ ABSENT
 *
 * Type=oneshot, RemainAfterExit=yes, NotifyAccess=main: it outlives us, a later process finds it by its name whether
 * it runs or has ended, and it stays until its end is recorded and transient_clear() is called. What it says with
 * STATUS= (sd_notify(3)) is its progress, and its error text when it fails. */

#include "bus/job.h"
#include "bus/unit.h"

typedef struct TransientUnit {
        const char *name; /* with its suffix: "emqx-upgrade-step-backup.service" */
        const char *description;
        char *const *argv;               /* argv[0] absolute; nothing in it is expanded */
        char *const *environment;        /* NAME=VALUE, for all to see; NULL: none beside systemd's */
        const UnitState *environment_of; /* the unit whose environment it has, too; NULL: none */
        char *const *log_extra_fields;   /* NAME=VALUE on every journal line of its processes; NULL: none */
        const char *user;                /* NULL: root */
        const char *group;               /* NULL: the user's */
        const char *slice;               /* NULL: system.slice */
        const char *working_directory;   /* NULL: / */

        usec_t timeout_start_usec; /* 0: none. The step extends it with EXTEND_TIMEOUT_USEC= while it makes progress */
        usec_t timeout_stop_usec;  /* 0: systemd's default */
        const char *kill_mode;     /* "control-group", "mixed", "process", "none"; NULL: "control-group" */
        bool no_sigkill;           /* SendSIGKILL=no: after SIGTERM it is waited for, never killed (dpkg) */

        /* Sandboxed: no new privileges, the whole file system read-only but for read_write_paths, no devices, no
         * namespaces, AF_UNIX sockets alone, UMask=0077. Not for anything that runs maintainer scripts. quick: without
         * what takes time to set up (filters of system calls, mounts over /proc and /sys), for what is waited for. */
        bool sandboxed, quick;
        char *const *read_write_paths;     /* absolute; "-/path" may be missing */
        char *const *bind_read_only_paths; /* "/from:/to": shown there, to it alone */
        char *const *requires_mounts_for;  /* absolute: it runs only while they are mounted; NULL: wherever */
        bool private_network;              /* no network at all */
        bool private_tmp;                  /* a /tmp of its own, gone with it */
        char *const *capabilities;         /* CapabilityBoundingSet=, "CAP_CHOWN", …; NULL: all; empty: none */
        bool idle; /* runs only when nothing else wants CPU or disk, for what runs beside a serving broker */

        uint64_t limit_nofile; /* 0: systemd's default */
        int stdout_fd;         /* -1: the journal. Borrowed: PID 1 has its own copy after the call */
        int stderr_fd;         /* -1: as stdout */
} TransientUnit;

#define TRANSIENT_UNIT_NULL ((TransientUnit){ .stdout_fd = -1, .stderr_fd = -1 })

typedef enum TransientState {
        TRANSIENT_ABSENT,  /* not loaded: never started, or cleared */
        TRANSIENT_RUNNING, /* job_find() has its job */
        TRANSIENT_DONE,    /* ended well */
        TRANSIENT_FAILED,  /* ended badly; transient_explain() */
} TransientState;

/* Queues its start. -EEXIST: a unit of that name is loaded; look with transient_find(). */
int transient_start(Manager *m, const TransientUnit *unit, Job **ret, Error *reterr);

/* Called with each new STATUS= of the unit; not with an empty one, nor twice with the same. */
typedef void (*TransientStatusFunc)(const char *status_text, void *userdata);

/* Waits for job, the start of a transient unit, from transient_start() or job_find(). stall_usec is how long it may
 * go without a new status text (USEC_INFINITY: for ever). Returns
 *      0          it ran and exited with 0
 *     -ECANCELED  it failed; *reterr has its last status text, else how it ended
 *     -ETIMEDOUT  stalled; it still runs: transient_clear() stops it
 *     -EINTR, -ECONNRESET as job_wait(); it still runs */
int transient_await(Job *job, usec_t stall_usec, TransientStatusFunc func, void *userdata, Error *reterr);

/* Looks for name and reads its state. Returns a TransientState or negative errno. *ret (optional) is set on success,
 * then the caller's to unit_state_done(). */
int transient_find(Manager *m, const char *name, UnitState *ret, Error *reterr);

/* Says in *reterr why the unit in state s failed: its status text, else its result and exit. Returns -ECANCELED. */
int transient_explain(const char *name, const UnitState *s, Error *reterr);

/* Frees the name: stops the unit where it runs, forgets its failure, and waits until PID 1 has unloaded it. Nothing
 * loaded is 0. -ETIMEDOUT where that takes past deadline_usec. */
int transient_clear(Manager *m, const char *name, usec_t deadline_usec, Error *reterr);

/* Runs unit to its end and collects what it writes to stdout and stderr (at most TRANSIENT_OUTPUT_MAX bytes, the rest
 * is dropped; NUL-terminated, NULs within become '?'). What an earlier process left under that name is cleared first;
 * nothing is left afterwards. 0 once it has ended by itself: *ret_exit_status is 0…255 then, 128 + signal where a
 * signal ended it. -ETIMEDOUT: it ran longer than timeout_usec and was killed. Both outputs are optional; *ret_output
 * is the caller's to free. */
#define TRANSIENT_OUTPUT_MAX (1024 * 1024)
int transient_capture(Manager *m, const TransientUnit *unit, usec_t timeout_usec, char **ret_output,
                int *ret_exit_status, Error *reterr);
