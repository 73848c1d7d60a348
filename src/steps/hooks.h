/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Hooks: the operator's programs in /etc/emqx-upgrade/hooks.d, for what is around a node: its load balancer above all. */

#include "steps/step.h"

#define HOOKS_DIR "/etc/emqx-upgrade/hooks.d"

/* Runs each of them in turn, by name, as `NAME event`, in a transient unit with a time limit (HookTimeoutSec=) and the
 * upgrade's id, versions, node name and MQTT listener in its environment; what it prints goes to the journal. One that
 * exits with 75 is asked again within its time. Returns how many were run; -ECANCELED: one failed, or is not to be
 * trusted; the rest is not run then. */
int hooks_run(Context *c, const char *event, Error *reterr);
