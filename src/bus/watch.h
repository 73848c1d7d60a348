/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Watch: told by PID 1 when a unit changes. */

#include "bus/manager.h"

/* What one PropertiesChanged of the unit said; NULL: that property was not in it. */
typedef struct UnitChange {
        const char *unit;
        const char *active_state;
        const char *sub_state;
        const char *status_text;
} UnitChange;

typedef struct UnitWatch UnitWatch;
typedef void (*UnitWatchFunc)(const UnitChange *change, void *userdata);

/* Calls func from the event loop at every change of active state, sub state or status text, until it is freed. func
 * may neither wait nor free the watch. PID 1 merges changes that follow each other closely. */
int unit_watch_new(Manager *m, const char *unit, UnitWatchFunc func, void *userdata, UnitWatch **ret, Error *reterr);
UnitWatch *unit_watch_free(UnitWatch *w);
DEFINE_CLEANUP(UnitWatch *, unit_watch_free)

/* For bus/ only: sets all of the list up again on a new connection. */
int unit_watch_rearm(UnitWatch *watches);
