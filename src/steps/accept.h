/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Acceptance: whether the node that runs is really well. One table of questions (accept.c), to systemd, the node and
 * its listeners, asked until each has its answer or the time is over. */

#include "steps/step.h"

/* 0: all is well. version is what has to run. */
int accept_node(Context *c, const char *version, Error *reterr);
