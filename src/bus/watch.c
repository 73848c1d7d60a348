/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/watch.h"

#include "bus/call.h"

struct UnitWatch {
        Manager *manager;
        UnitWatch *next;
        char *unit;
        char *path;
        UnitWatchFunc func;
        void *userdata;
        sd_bus_slot *slot;
};

/* PropertiesChanged: s interface, a{sv} changed, as invalidated. */
static int read_changes(sd_bus_message *message, UnitChange *change) {
        int r;

        r = sd_bus_message_skip(message, "s");
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                const char *name, **value = NULL;

                r = sd_bus_message_read(message, "s", &name);
                if (r < 0)
                        return r;

                if (streq(name, "ActiveState"))
                        value = &change->active_state;
                else if (streq(name, "SubState"))
                        value = &change->sub_state;
                else if (streq(name, "StatusText"))
                        value = &change->status_text;

                r = value ? sd_bus_message_read(message, "v", "s", value) : sd_bus_message_skip(message, "v");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        return r;
}

static int on_properties_changed(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *reterr) {
        UnitWatch *w = userdata;
        UnitChange change = { .unit = w->unit };

        if (read_changes(message, &change) >= 0 && (change.active_state || change.sub_state || change.status_text))
                w->func(&change, w->userdata);
        return 0;
}

static int arm(UnitWatch *w) {
        w->slot = sd_bus_slot_unref(w->slot);
        return sd_bus_match_signal(manager_bus(w->manager), &w->slot, SYSTEMD_NAME, w->path,
                        "org.freedesktop.DBus.Properties", "PropertiesChanged", on_properties_changed, w);
}

int unit_watch_rearm(UnitWatch *watches) {
        int r;

        for (UnitWatch *w = watches; w; w = w->next) {
                r = arm(w);
                if (r < 0)
                        return r;
        }
        return 0;
}

int unit_watch_new(Manager *m, const char *unit, UnitWatchFunc func, void *userdata, UnitWatch **ret, Error *reterr) {
        _cleanup_(unit_watch_freep) UnitWatch *w = NULL;
        int r;

        assert(func);
        assert(ret);

        r = manager_check(m, reterr);
        if (r < 0)
                return r;

        w = calloc(1, sizeof(UnitWatch));
        if (!w)
                return error_set(reterr, -ENOMEM, NULL, "Out of memory");
        w->manager = m;
        w->func = func;
        w->userdata = userdata;
        w->next = *manager_watches(m);
        *manager_watches(m) = w;

        w->unit = strdup(unit);
        r = w->unit ? unit_object_path(unit, &w->path) : -ENOMEM;
        if (r >= 0)
                r = arm(w);
        if (r < 0)
                return bus_fail(m, reterr, "watch a unit", NULL, r);

        *ret = TAKE_PTR(w);
        return 0;
}

UnitWatch *unit_watch_free(UnitWatch *w) {
        if (!w)
                return NULL;

        for (UnitWatch **p = manager_watches(w->manager); *p; p = &(*p)->next)
                if (*p == w) {
                        *p = w->next;
                        break;
                }
        sd_bus_slot_unref(w->slot);
        free(w->unit);
        free(w->path);
        return mfree(w);
}
