/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Call: one method call to PID 1, its error kept in words. For bus/ only. */

#include <systemd/sd-bus.h>

#include "bus/manager.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"
#define UNIT_INTERFACE "org.freedesktop.systemd1.Unit"
#define SERVICE_INTERFACE "org.freedesktop.systemd1.Service"

/* Names an entity of the manager's connection. */
sd_bus *manager_bus(Manager *m);
sd_event *manager_event(Manager *m);

/* 0, or the error that the connection is in, said in *reterr. */
int manager_check(Manager *m, Error *reterr);

/* Calls MANAGER_INTERFACE.member with arguments of the D-Bus signature types. what completes the sentence "Failed to
 * …". *ret_reply (optional) is the caller's to unref. */
int bus_call(Manager *m, const char *what, const char *member, sd_bus_message **ret_reply, Error *reterr,
                const char *types, ...);

/* Sends a message made by the caller. */
int bus_send(Manager *m, const char *what, sd_bus_message *message, sd_bus_message **ret_reply, Error *reterr);

/* Turns a D-Bus error into errno (see manager.h) and "Failed to WHAT: MESSAGE (NAME)". Returns that errno. */
int bus_error_set(Error *reterr, const char *what, const sd_bus_error *error, int r);

/* Says "Failed to WHAT: strerror"; returns r. For errors that are not a reply. */
int bus_fail(Error *reterr, const char *what, int r);

/* /org/freedesktop/systemd1/unit/… of unit, the caller's to free; NULL: out of memory. */
char *unit_object_path(const char *unit);
