/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Ask: what the node that runs is asked, by its own commands, and how a client of ours reaches it. For steps and checks that
 * run in the conductor. */

#include "node/probe.h"
#include "node/survey.h"
#include "steps/step.h"

/* --- by commands --- */

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

/* --- as a client --- */

/* Where and as whom a client of ours connects to the node: as the plan and the configuration say. *ret_password is the
 * caller's to free, and owns what *ret borrows. -EPERM, -ENOENT and others: the file with the password is not as it
 * should be. */
int mqtt_target(Context *c, MqttTarget *ret, char **ret_password, Error *reterr);
