/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Status: RUNTIME_DIR/status.json, what anyone may read about the upgrade that runs, or ran last. The transaction's
 * record, with the step, its words, a percentage and the time down so far. */

#include "txn/progress.h"
#include "txn/txn.h"

#define STATUS_PATH "/run/emqx-upgrade/status.json"

/* step, text and progress may be NULL. Best effort: nothing depends on it. */
void status_write(const Txn *t, const char *step, const char *text, const Progress *progress);

/* For an upgrade that left no record: shows the one before, or none. Best effort. */
void status_forget(int state_dir_fd);

/* Steps that are over, in percent of all; going back, of those that had been begun. */
unsigned status_percent(const Txn *t);

/* The content of the file. *ret is the caller's. -ENOENT: nothing ran since boot. */
int status_read(json_object **ret, Error *reterr);
