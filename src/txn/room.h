/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Room: waits for some on a full disk, for one that is read-only, and for one that is not mounted. Beyond the way back there is
 * only a person, and what a person would do is to make room, to mend the disk, or to mount it: so that is waited for, however
 * long. Tells the journal where.
 *
 * All return -EINTR and -ECONNRESET as manager_wait(). */

#include "steps/step.h"
#include "txn/txn.h"

/* Whether r, a negative errno, says that a disk is full, or a quota is, or that it is read-only. */
bool is_unwritable(int r);

/* Until the record can be written, which it then is: 0 or 1, or another error of txn_save(). */
int room_await_record(Txn *t, Context *c);

/* Until txn_close() with the result that is set succeeds: 0 or 1, or another error of it. */
int room_await_end(Txn *t, Context *c);

/* Until there is room where any was reserved. 0: there was; 1: it was waited for. */
int room_await(Txn *t, Context *c);

/* Until every mount of the plan is there: at boot one may come later than the upgrade, and an empty mount point is not to be
 * taken for the node's data. */
int room_await_mounts(Txn *t, Context *c);
