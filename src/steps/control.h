/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Control: the broker stopped, and brought up until it is ready, whichever version is installed. For steps that run in
 * the conductor. */

#include "node/probe.h"
#include "node/survey.h"
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

/* Runs program (of bin/) with arguments, a strv, as the node's user and with its environment, in a transient unit whose
 * name no other call has. Past timeout_usec it is killed: -ETIMEDOUT. Returns its exit status (for emqx_ctl 0 says only
 * that the function ran, Facts 3.2); *ret_output, the caller's, is what it wrote to stdout and stderr. That may hold
 * secrets: neither it nor arguments are logged. */
int node_command(Context *c, const char *program, char *const *arguments, usec_t timeout_usec, char **ret_output,
                Error *reterr);

/* `emqx eval EXPRESSION`, in the same way: Erlang, run in the node itself. The value stands last in the output. */
int node_eval(Context *c, const char *expression, usec_t timeout_usec, char **ret_output, Error *reterr);

/* The survey of node/survey.h. *ret is the caller's to survey_done(). -EAGAIN: the node did not answer. */
int node_survey(Context *c, Survey *ret, Error *reterr);

/* Enough for a command: nodetool's own limit for an RPC, which later releases do not have, and what is around it. */
#define NODE_COMMAND_TIMEOUT_USEC (70 * USEC_PER_SEC)

/* Where and as whom a client of ours connects to the node: as the plan and the configuration say. *ret_password is the
 * caller's to free, and owns what *ret borrows. -EPERM, -ENOENT and others: the file with the password is not as it
 * should be. */
int mqtt_target(Context *c, MqttTarget *ret, char **ret_password, Error *reterr);
