/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Manager: our connection to PID 1, org.freedesktop.systemd1(5) on the system bus.
 *
 *     manager_new() ──▶ CONNECTED ──bus or its daemon gone──▶ LOST ──manager_reconnect()──▶ CONNECTED
 *
 * It is attached to the caller's event loop, subscribed, and matches JobRemoved before it makes any other call, so
 * that no job of ours can end unseen. Every call has a time limit (BUS_CALL_TIMEOUT_USEC) and every wait a deadline.
 * Once LOST, every call and wait returns -ECONNRESET; jobs and watches stay valid and go on after manager_reconnect().
 * A daemon-reexec or daemon-reload of PID 1 is not a loss: it is noticed, subscribed to again, and the jobs that are
 * waited for are looked up anew.
 *
 * The functions that wait (here, in job.h and transient.h) run the event loop themselves, so that the caller's other
 * sources (signals, timers, the watchdog) are served meanwhile. They must therefore not be called from an event
 * source's callback: -EBUSY.
 *
 * A shutdown stops the bus as well, and early, unless the calling unit has After=dbus.service: dbus outlives it then.
 *
 * Errors are -errno, with PID 1's own words and its D-Bus error name in *reterr:
 * -ENOENT no such unit, -EEXIST already loaded, -EDEADLK a shutdown is queued ("Transaction is destructive"), -ERFKILL
 * masked, -EACCES refused by polkit, -ETIMEDOUT no answer in time, -ECONNRESET connection lost. Does not log. */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/time.h"

#define BUS_CALL_TIMEOUT_USEC (60 * USEC_PER_SEC) /* a daemon-reload in between can take long */

typedef struct Manager Manager;

/* Asked at the begin and after every event of every wait: true ends it with -EINTR. One that stays true ends all later
 * waits too: unset it before the waits of an orderly end. */
typedef bool (*ManagerInterruptedFunc)(void *userdata);

/* Takes a reference on event. Fails with -ENOENT or -ECONNREFUSED where no system bus runs. */
int manager_new(sd_event *event, Manager **ret, Error *reterr);
Manager *manager_free(
                Manager *m); /* after every Job and UnitWatch made from it is freed; accepts NULL, returns NULL */
DEFINE_CLEANUP(Manager *, manager_free)

/* Connects again after a loss; 0 and nothing done where the connection is fine. Waits up to deadline_usec for the bus
 * to come back. */
int manager_reconnect(Manager *m, usec_t deadline_usec, Error *reterr);

/* func == NULL: waits are not interrupted any more. */
void manager_set_interrupt(Manager *m, ManagerInterruptedFunc func, void *userdata);

/* Runs the event loop until done(userdata) is not 0, which is asked first and after every event; done == NULL: until
 * the deadline, which is then no error. Returns what done returned (negative errno included), 0 for a reached
 * deadline with done == NULL, -ETIMEDOUT, -EINTR (interrupted), -ECONNRESET. */
typedef int (*ManagerDoneFunc)(void *userdata);
int manager_wait(Manager *m, ManagerDoneFunc done, void *userdata, usec_t deadline_usec);

/* systemctl daemon-reload. Returns once PID 1 has reloaded. */
int manager_reload(Manager *m, Error *reterr);

/* When PID 1 last read unit files, CLOCK_REALTIME; 0 where it does not tell (before v250). If the clock was set since,
 * the earlier of what it was then and of what it would be by the clock of now: a file changed later is never older. */
int manager_units_loaded_usec(Manager *m, usec_t *ret, Error *reterr);

/* "initializing", "starting", "running", "degraded", "maintenance", "stopping". *ret is the caller's to free. */
int manager_system_state(Manager *m, char **ret, Error *reterr);

/* 1 once the system is going down or such a job is queued (from then on PID 1 starts nothing new), else 0. */
int manager_shutting_down(Manager *m, Error *reterr);

/* "enabled", "disabled", "masked", "static", …: the word of `systemctl is-enabled`; -ENOENT: no such unit file.
 * *ret is the caller's to free. */
int manager_get_enablement(Manager *m, const char *unit, char **ret, Error *reterr);

/* Makes manager_get_enablement() answer enablement again, and reloads where that changed files. Takes "enabled",
 * "enabled-runtime", "disabled", "masked", "masked-runtime"; for what no package takes away ("static", "indirect",
 * "generated", "alias", "transient", "linked", "linked-runtime") it does nothing; -EOPNOTSUPP for any other. */
int manager_set_enablement(Manager *m, const char *unit, const char *enablement, Error *reterr);

/* systemctl reset-failed UNIT; a unit that is not loaded has nothing to reset: 0. */
int manager_reset_failed(Manager *m, const char *unit, Error *reterr);

/* Major version of the running systemd, e.g. 252. */
unsigned manager_version(const Manager *m);
