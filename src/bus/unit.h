/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Unit: what PID 1 knows about a unit, its processes and its environment. Changes: watch.h. */

#include <sys/types.h>
#include <systemd/sd-id128.h>

#include "base/strv.h"
#include "bus/manager.h"

typedef struct UnitEnvironmentFile {
        char *path;    /* absolute, may be a glob(7) pattern */
        bool optional; /* written with a leading "-": a missing file is no error */
} UnitEnvironmentFile;

/* Everything in here was read in one call, so it is one moment. Strings are never NULL, "" where systemd has none. */
typedef struct UnitState {
        char *load_state;   /* "loaded", "not-found", "masked", "bad-setting", "error" */
        char *active_state; /* "active", "reloading", "inactive", "failed", "activating", "deactivating" */
        char *sub_state;    /* "running", "exited", "dead", "auto-restart", … */
        char *result; /* "success", "exit-code", "timeout", …; means something only while load_state is loaded */
        char *status_text;        /* STATUS= of the service */
        char *control_group;      /* "" while it has none */
        char *fragment_path;      /* the unit file */
        char *user;               /* User=, "" for root */
        char *job_path;           /* "/" where it has no job */
        char **exec_start;        /* strv: arguments of the first ExecStart=, the program first */
        char **drop_in_paths;     /* strv */
        char **environment;       /* Environment=, strv of NAME=VALUE */
        char **pass_environment;  /* PassEnvironment=, names */
        char **unset_environment; /* UnsetEnvironment= */
        UnitEnvironmentFile *environment_files;
        size_t n_environment_files;
        sd_id128_t invocation_id;            /* null before its first start */
        uint64_t active_enter_realtime_usec; /* 0: never active */
        uint64_t inactive_exit_usec;         /* of its last start, CLOCK_MONOTONIC, as the next; 0: none since boot */
        uint64_t active_enter_usec;          /* that start was over */
        uint64_t active_exit_usec;           /* of its last stop */
        uint64_t inactive_enter_usec;        /* that stop was over */
        uint32_t job_id;                     /* 0: no job */
        uint32_t n_restarts;                 /* automatic restarts since it was started by hand */
        pid_t main_pid;                      /* 0: none */
        int status_errno;                    /* ERRNO= of the service, 0: none */
        int exec_main_code;    /* si_code of waitid(2): CLD_EXITED, CLD_KILLED, CLD_DUMPED; 0: has not ended */
        int exec_main_status;  /* exit status or signal, as exec_main_code says */
        bool condition_result; /* of its last start; false also before the first */
        bool need_daemon_reload;
} UnitState;

#define UNIT_STATE_NULL ((UnitState){ 0 })

void unit_state_done(UnitState *s);
#define _cleanup_unit_state_ _cleanup_(unit_state_done)

/* Reads unit, loading its file where needed. A unit that does not exist is no error: load_state is "not-found".
 * *ret is overwritten, not freed. */
int unit_state_get(Manager *m, const char *unit, UnitState *ret, Error *reterr);

static inline bool unit_state_loaded(const UnitState *s) {
        return streq(s->load_state, "loaded");
}

/* Whether PID 1 has the unit in memory, also where its file has become unreadable meanwhile. */
static inline bool unit_state_present(const UnitState *s) {
        return !streq(s->load_state, "not-found");
}

/* Whether the unit runs or is on its way up or down. */
bool unit_state_busy(const UnitState *s);

/* "exited with status 3", "ended by signal 9 (Killed)", "no process ended". Returns buf. */
#define UNIT_EXIT_TEXT_MAX 64
const char *unit_exit_text(char buf[static UNIT_EXIT_TEXT_MAX], const UnitState *s);

/* The processes in the unit's control group and below, as PID 1 sees them (so it works in containers and with either
 * cgroup version). *ret (optional) is the caller's to free. A unit that is not loaded has none. "Stopped" is n == 0,
 * whatever active_state says: a node that stopped cleanly is "failed". */
int unit_processes(Manager *m, const char *unit, pid_t **ret, size_t *ret_n, Error *reterr);

/* Whether pid is one of those n. */
bool pids_contain(const pid_t *pids, size_t n, pid_t pid);

/* The environment as the next start of the service will see it, NAME=VALUE: the manager's environment, Environment=,
 * then EnvironmentFile= in order, later ones winning, less UnsetEnvironment=. PassEnvironment= and what systemd adds
 * itself (HOME, INVOCATION_ID, …) are not in it. -ENOENT and others where a file that is not optional is unreadable.
 * For us to read alone: what is in the files may be secret. *ret is a strv, the caller's to free. */
int unit_environment(Manager *m, const char *unit, char ***ret, Error *reterr);
