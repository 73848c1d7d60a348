/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* StepUnit: a row of the table that touches files or packages, as a transient unit: emqx-upgrade-step-[undo-]NAME.service. It
 * outlives the conductor, is found by its name, and says in its Result= how it ended. */

#include "txn/engine.h"

/* Runs the row in its unit and waits for its end, telling c->report what it says. resumed: that unit may be there from
 * before; its end counts. -ETIMEDOUT: it was ended, as it got no further. -EINTR: as transient_await(); it still runs. */
int step_unit_run(Context *c, const Step *step, bool undo, bool resumed, Error *reterr);

/* Ends it where it runs, and unloads it. 0 where there is none. */
int step_unit_clear(Context *c, const Step *step, bool undo, Error *reterr);

/* The same of all rows, before the transaction ends: units whose end nobody has asked for, as nobody waits for this while the
 * node is down, and those of a conductor that was killed between two steps. Returns 0, or -ECONNRESET: a new conductor connects
 * anew. */
int step_units_clear(Context *c);

/* What such a unit runs: one row, as the transaction of this moment says. */
ExitStatus step_unit_main(Context *c, const char *name, bool undo);
