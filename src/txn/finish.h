/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Finish: the ends that an upgrade comes to. Each closes the transaction or forgets it, is told to the journal, to
 * systemctl status and to status.json, and has an exit status; a record that cannot be written is waited for. */

#include "txn/engine.h"

/* Tells that this process ends before the upgrade does, because of r (negative errno), which may be over in a moment.
 * step and error may be NULL. */
ExitStatus finish_interrupted(const JournalContext *context, const char *step, const Error *error, int r);

/* The same; with -EINTR it was told to end, and has said so. */
ExitStatus finish_unfinished(const Context *c, int r);

/* Found by inspect, and forgotten: nothing was done. */
ExitStatus finish_nothing_to_do(Txn *t, Context *c);

/* Forgotten, too: it is no upgrade that anybody could go back from. */
ExitStatus finish_staged(Txn *t, Context *c);

ExitStatus finish_upgraded(Txn *t, Context *c);
ExitStatus finish_rolled_back(Txn *t, Context *c);

/* Nothing was touched: where a full disk has no room for the record, it is not waited for but forgotten. */
ExitStatus finish_refused(Txn *t, Context *c);

/* Not closed: a person goes on with it. */
ExitStatus finish_stuck(Txn *t, Context *c);
