/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/package-lock.h"

#include "base/lock.h"
#include "base/process.h"

#define LOCK_LOOK_USEC (250 * USEC_PER_MSEC) /* fcntl(2) locks announce nothing */

typedef struct LockWait {
        PackageLock *lock;
        Context *c;
        pid_t said_holder;
        usec_t since_usec;
} LockWait;

static int try_lock(void *userdata) {
        LockWait *w = userdata;
        Context *c = w->c;
        char name[32], span[TIMESPAN_TEXT_MAX];
        pid_t holder = 0;
        int r;

        r = lock_take(package_kind_find(c->plan->kind)->lock_path, &w->lock->fd, &holder);
        if (r == -ENOENT && !package_kind_find(c->plan->kind)->lock_kept)
                return 1; /* its directory is not there, so nobody has it */
        if (r != 0 || holder == 0)
                return r;
        if (holder != w->said_holder) {
                w->said_holder = holder;
                journal_event(&c->journal, EVENT_WAITING, &(JournalFields){ .step = c->step },
                                "Waiting for %s (process %i) to release the lock of the package manager",
                                process_name(name, holder), holder);
        }
        step_report(c, "waiting for %s (process %i) to release the lock of the package manager, since %s",
                        process_name(name, holder), holder,
                        format_timespan(span, now_usec(CLOCK_MONOTONIC) - w->since_usec));
        return 0;
}

static int on_lock_time(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) usec;
        (void) userdata;
        return sd_event_source_set_time_relative(s, LOCK_LOOK_USEC);
}

void package_lock_release(PackageLock *lock) {
        lock->fd = safe_close(lock->fd);
}

int package_lock_take(PackageLock *lock, Context *c, bool node_serves, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        LockWait w = { .lock = lock, .c = c, .since_usec = now_usec(CLOCK_MONOTONIC) };
        sd_event_source *timer = NULL;
        char name[32], span[TIMESPAN_TEXT_MAX];
        int r;

        if (lock->fd >= 0 || !kind->lock_path || (!kind->lock_kept && !node_serves))
                return 0;

        r = sd_event_add_time_relative(c->event, &timer, CLOCK_MONOTONIC, LOCK_LOOK_USEC, 0, on_lock_time, NULL);
        if (r >= 0)
                r = sd_event_source_set_enabled(timer, SD_EVENT_ON);
        if (r >= 0)
                r = manager_wait(c->manager, try_lock, &w, usec_from_now(c->config->lock_timeout_usec));
        (void) sd_event_source_disable_unref(timer);

        if (r == -ETIMEDOUT)
                return error_set(reterr, r, "Let it finish, or end it, then try again.",
                                "%s (process %i) did not release the lock of the package manager within %s",
                                process_name(name, w.said_holder), w.said_holder,
                                format_timespan(span, c->config->lock_timeout_usec));
        if (r == -EINTR || r == -ECONNRESET)
                return r;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot take the lock of the package manager: %m");
        if (w.said_holder != 0)
                journal_event(&c->journal, EVENT_WAIT_OVER,
                                &(JournalFields){ .step = c->step, .usec = now_usec(CLOCK_MONOTONIC) - w.since_usec },
                                "The lock of the package manager is free after %s",
                                format_timespan(span, now_usec(CLOCK_MONOTONIC) - w.since_usec));
        if (!kind->lock_kept)
                package_lock_release(lock);
        return 0;
}
