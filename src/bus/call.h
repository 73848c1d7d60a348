/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Call: one method call to PID 1, its error kept in words. For bus/ only. */

#include <systemd/sd-bus.h>

#include "bus/job.h"
#include "bus/watch.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"

/* What the manager owns. The lists hold every Job and UnitWatch that is not freed yet. */
sd_bus *manager_bus(Manager *m);
sd_event *manager_event(Manager *m);
Job **manager_jobs(Manager *m);
UnitWatch **manager_watches(Manager *m);

/* 0, or -ECONNRESET and said so in *reterr. */
int manager_check(Manager *m, Error *reterr);

/* Turns the outcome of a call into errno (see manager.h) and "Failed to WHAT: MESSAGE (NAME)". error may be NULL or
 * unset: the message is strerror's then. Notices a lost connection. Returns that errno. */
int bus_fail(Manager *m, Error *reterr, const char *what, const sd_bus_error *error, int r);

/* Calls MANAGER_INTERFACE.member with arguments of the D-Bus signature types. what completes the sentence "Failed to
 * …". *ret_reply (optional) is the caller's to unref. */
int bus_call(Manager *m, const char *what, const char *member, sd_bus_message **ret_reply, Error *reterr,
                const char *types, ...);

/* Sends a message that the caller has made. */
int bus_send(Manager *m, const char *what, sd_bus_message *message, sd_bus_message **ret_reply, Error *reterr);

/* Reads a property of type "s"; *ret is the caller's to free. */
int bus_get_string(Manager *m, const char *what, const char *path, const char *interface, const char *property,
                char **ret, Error *reterr);

/* /org/freedesktop/systemd1/unit/… of unit. */
int unit_object_path(const char *unit, char **ret);
