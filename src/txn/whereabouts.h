/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whereabouts: what a person who goes on by hand has to know once the way back has failed, too. */

#include "steps/step.h"
#include "txn/txn.h"

/* Which version is installed, where configuration and data are, whether the unit can start, and what is still to be done:
 * asked of the machine, as far as it answers. The caller's; NULL: out of memory. */
char *whereabouts(const Txn *t, Context *c);
