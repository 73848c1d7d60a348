/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* PackageLock: the lock of the package manager, taken by the conductor so that nobody installs or removes anything between
 * our `remove` and our `install`. Tells the journal whom it waits for. */

#include "steps/step.h"

typedef struct PackageLock {
        int fd; /* < 0: not ours */
} PackageLock;

#define PACKAGE_LOCK_NULL ((PackageLock){ .fd = -1 })

/* Takes the lock of c->plan->kind; 0 where it is ours already, or the kind has none. Waits for at most LockTimeoutSec=, then
 * -ETIMEDOUT: reterr says who has it. Where it is not one that a package manager can be told of, it is given back at once, and
 * not waited for unless node_serves. -EINTR, -ECONNRESET as manager_wait(). */
int package_lock_take(PackageLock *lock, Context *c, bool node_serves, Error *reterr);
void package_lock_release(PackageLock *lock);
