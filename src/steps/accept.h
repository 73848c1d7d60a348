/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Acceptance: whether the node that runs is really well: one table of questions (accept-questions.c), to systemd, the node, its
 * log and its listeners, in the order of Facts 9.4. What it is compared with is the plan's baseline. Each answer is an
 * event CHECK_PASSED, CHECK_WARNED or CHECK_FAILED with the question's name. */

#include "steps/step.h"

/* Asks until each question has its answer or VerifyTimeoutSec= is over. 0: all is well. version is what has to run; if it
 * is the old one, on the way back, then what it cannot help (alarms, its log, what it is connected with) is a warning. */
int accept_node(Context *c, const char *version, Error *reterr);

/* Asks again and again for WatchSec=, without events while all is well. 0: it was all the time; -ECANCELED: reterr says
 * what was not. After a reboot it waits until the node is up again. Ends early where c->asked_to_stop(). */
int accept_watch(Context *c, Error *reterr);
