/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Control: the broker stopped, and brought up until it is ready, whichever version is installed. For steps that run in
 * the conductor. */

#include "steps/step.h"

/* Holds the node, stops its unit and waits until none of its processes is left. Notes in the plan since when it is
 * down. May be called again. */
int node_stop(Context *c, Error *reterr);

/* Makes PID 1 know the unit as it is on disk, with a start time-out that does not cut ours short. May be done before the
 * node is stopped: node_bring_up() does it again only where something has changed since. */
int prepare_start(Context *c, Error *reterr);

/* Starts what is installed and returns as soon as it is ready: not when its port opens, nor when its start job ends,
 * but when the node says that it runs. A start that cannot succeed is noticed from the node's own log and processes.
 * Puts the unit's enablement back, lifts the hold, notes in the plan since when it is ready. May be called again. */
int node_bring_up(Context *c, const char *version, Error *reterr);

/* Waits for what is left of the start job after readiness, and takes away what only the start needed. */
int node_settle(Context *c, Error *reterr);

/* Waits for whoever runs from the node's files outside of its unit and is not a node: emqx_ctl and the like, which end soon.
 * 1: none is left. 0: *ret_pid still runs, such as a remote console. */
int node_await_commands(Context *c, pid_t *ret_pid, Error *reterr);

/* 1: no process of the node is left, in its unit or elsewhere; commands are waited for as above. 0: some are; *ret_pid
 * (optional) is one of them. */
int node_is_down(Context *c, pid_t *ret_pid, Error *reterr);

/* The broker's VM, 0: none. */
int node_vm(const Plan *p, pid_t *ret_pid);

/* "BOOT PID STARTED" of a process: no other process has it, in no other boot. -ESRCH: it is gone. */
int node_vm_identity(pid_t pid, char **ret);

/* Whether the plan's VM is one of this boot; false also where there is none yet. */
bool node_vm_is_of_this_boot(const Plan *p);
