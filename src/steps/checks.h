/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Checks: what must be true before anything is touched. One table (checks.c); each finds some of the plan's facts, and
 * what it finds is what the later ones rest on. They change nothing. */

#include "steps/step.h"

/* text says what was found, or what is wrong; advice may be NULL. */
typedef void (*CheckReport)(
                const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata);

/* Makes every check and fills c->plan. 0: the upgrade may start. -EALREADY: the node runs the target. -ECANCELED: some
 * were refused; reterr has the first. */
int checks_run(Context *c, CheckReport report, void *userdata, Error *reterr);

/* The newest release in the packages directory that a rolling upgrade leads to: 1 with *ret, the caller's; 0: none does. */
int checks_newest_target(Context *c, char **ret, Error *reterr);

/* Makes those checks once more that find out what the node is, into c->plan, a new one. */
int checks_run_again(Context *c, CheckReport report, void *userdata, Error *reterr);
