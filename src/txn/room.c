/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/room.h"

#include "base/mounts.h"
#include "steps/places.h"
#include "steps/reserve.h"

#define ROOM_LOOK_USEC (2 * USEC_PER_SEC)
#define ROOM_SAY_USEC (30 * USEC_PER_SEC) /* the journal is on a disk too */

/* What such a disk keeps from being done: is_unwritable() as long as it does, with the file that there is no room for; or
 * -ENODEV, with the mount point of one that is not there. */
typedef int (*RoomFunc)(Txn *t, const char **ret_path);

bool is_unwritable(int r) {
        return r == -ENOSPC || r == -EDQUOT || r == -EROFS;
}

static bool is_waited_for(int r) {
        return is_unwritable(r) || r == -ENODEV;
}

static int await_func(Txn *t, Context *c, RoomFunc func) {
        usec_t since_usec = now_usec(CLOCK_MONOTONIC), said_usec = 0, now;
        char span[TIMESPAN_TEXT_MAX];
        const char *path;
        int r, why = 0;

        for (;;) {
                r = func(t, &path);
                now = now_usec(CLOCK_MONOTONIC);
                if (!is_waited_for(r))
                        break;
                why = r;
                if (said_usec == 0)
                        journal_event(&c->journal, EVENT_WAITING,
                                        &(JournalFields){ .step = c->step, .error_number = why },
                                        "The file system of %s %s: it is waited for, then this goes on", path,
                                        why == -ENODEV                  ? "is not mounted. Mount it"
                                                        : why == -EROFS ? "is read-only. Mend it, or reboot"
                                                                        : "has no room. Make some");
                if (said_usec == 0 || now - said_usec >= ROOM_SAY_USEC) {
                        said_usec = now;
                        step_report(c, "waiting for %s the file system of %s, since %s",
                                        why == -ENODEV                  ? "a mount of"
                                                        : why == -EROFS ? "leave to write to"
                                                                        : "room on",
                                        path, format_timespan(span, now - since_usec));
                }
                r = manager_wait(c->manager, NULL, NULL, usec_from_now(ROOM_LOOK_USEC));
                if (r < 0)
                        return r;
        }
        if (r < 0 || said_usec == 0)
                return r;
        journal_event(&c->journal, EVENT_WAIT_OVER, &(JournalFields){ .step = c->step, .usec = now - since_usec },
                        "%s after %s", why == -ENODEV ? "It is mounted" : "It can be written to again",
                        format_timespan(span, now - since_usec));
        return 1;
}

static int write_record(Txn *t, const char **ret_path) {
        *ret_path = STATE_DIR "/transaction";
        return txn_save(t);
}

int room_await_record(Txn *t, Context *c) {
        return await_func(t, c, write_record);
}

static int close_record(Txn *t, const char **ret_path) {
        *ret_path = STATE_DIR "/history";
        return txn_close(t, t->result);
}

int room_await_end(Txn *t, Context *c) {
        return await_func(t, c, close_record);
}

static int find_room(Txn *t, const char **ret_path) {
        return reserve_has_room(t->plan, ret_path) ? 0 : -ENOSPC;
}

int room_await(Txn *t, Context *c) {
        return await_func(t, c, find_room);
}

static int find_mounts(Txn *t, const char **ret_path) {
        int r = places_are_mounted(t->plan, MOUNTS_OF_MACHINE, ret_path);

        return r == 0 ? -ENODEV : r;
}

int room_await_mounts(Txn *t, Context *c) {
        return await_func(t, c, find_mounts);
}
