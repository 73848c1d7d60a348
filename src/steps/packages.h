/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Packages: what the steps ask of the package that the node is. */

#include "steps/step.h"

/* 1: installed and whole, in that version; NULL: not installed at all. */
int package_is_installed(Context *c, const char *version, Error *reterr);

/* At the end of an upgrade: dpkg forgets a hold when it removes a package. What was on hold before is so again; after a
 * rollback it is on hold with HoldAfterRollback=yes, until an upgrade succeeds. c->plan->hold says which. Tells the journal. The lock
 * of the package manager is the caller's. Can be done again. */
int package_settle_hold(Context *c, bool rolled_back, Error *reterr);

/* Whether the hold that there is, is one after a rollback, and no person's. */
bool package_hold_is_ours(void);

/* There is no hold any more: the next one that is seen is a person's. */
void package_hold_forget(void);

/* Whether package_settle_hold() has anything to do. */
bool package_hold_matters(const Context *c, bool rolled_back);
