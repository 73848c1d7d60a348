/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/manager.h"

#include "base/strv.h"
#include "bus/call.h"

#define LOCAL_NAME "org.freedesktop.DBus.Local" /* sd-bus itself speaks under it */
#define RECONNECT_INTERVAL_USEC (200 * USEC_PER_MSEC)

struct Manager {
        sd_event *event;
        sd_bus *bus; /* NULL only between two connections */
        bool lost;
        unsigned version;
        ManagerInterruptedFunc interrupted;
        void *interrupted_userdata;
        Job *jobs;
        UnitWatch *watches;
};

sd_bus *manager_bus(Manager *m) {
        return m->bus;
}

sd_event *manager_event(Manager *m) {
        return m->event;
}

Job **manager_jobs(Manager *m) {
        return &m->jobs;
}

UnitWatch **manager_watches(Manager *m) {
        return &m->watches;
}

unsigned manager_version(const Manager *m) {
        return m->version;
}

int manager_check(Manager *m, Error *reterr) {
        if (!m->lost && m->bus && sd_bus_is_open(m->bus) > 0)
                return 0;

        m->lost = true;
        return error_set(reterr, -ECONNRESET, NULL, "The connection to systemd was lost");
}

void manager_set_interrupt(Manager *m, ManagerInterruptedFunc func, void *userdata) {
        m->interrupted = func;
        m->interrupted_userdata = userdata;
}

static int on_job_removed(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *reterr) {
        Manager *m = userdata;
        const char *path, *result;

        if (sd_bus_message_read(message, "uoss", NULL, &path, NULL, &result) >= 0)
                job_removed(m->jobs, path, result);
        return 0;
}

/* Only has to wake up manager_wait(), whose condition looks for itself. */
static int on_unit_removed(_unused_ sd_bus_message *message, _unused_ void *userdata, _unused_ sd_bus_error *reterr) {
        return 0;
}

static int on_reloading(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *reterr) {
        Manager *m = userdata;
        int begins;

        if (sd_bus_message_read(message, "b", &begins) >= 0 && !begins)
                job_doubt(m->jobs);
        return 0;
}

/* A reexecuted PID 1 is a new client of the bus, and may not remember ours. "Already subscribed" is fine. */
static int on_name_owner_changed(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *reterr) {
        Manager *m = userdata;
        const char *new_owner;

        if (sd_bus_message_read(message, "sss", NULL, NULL, &new_owner) < 0 || new_owner[0] == '\0')
                return 0;

        (void) sd_bus_call_method_async(
                        m->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, "Subscribe", NULL, NULL, NULL);
        job_doubt(m->jobs);
        return 0;
}

static int on_disconnected(_unused_ sd_bus_message *message, void *userdata, _unused_ sd_bus_error *reterr) {
        Manager *m = userdata;

        m->lost = true;
        return 0;
}

static int add_matches(Manager *m) {
        /* clang-format off */
        static const struct {
                const char *sender, *path, *interface, *member;
                sd_bus_message_handler_t handler;
        } matches[] = {
                { SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, "JobRemoved",  on_job_removed  },
                { SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, "UnitRemoved", on_unit_removed },
                { SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, "Reloading",   on_reloading    },
                { LOCAL_NAME,   NULL,         LOCAL_NAME,        "Disconnected", on_disconnected },
        };
        /* clang-format on */
        int r;

        for (size_t i = 0; i < ELEMENTSOF(matches); i++) {
                r = sd_bus_match_signal(m->bus, NULL, matches[i].sender, matches[i].path, matches[i].interface,
                                matches[i].member, matches[i].handler, m);
                if (r < 0)
                        return r;
        }

        return sd_bus_add_match(m->bus, NULL,
                        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                        "member='NameOwnerChanged',arg0='" SYSTEMD_NAME "'",
                        on_name_owner_changed, m);
}

static void disconnect(Manager *m) {
        if (m->bus)
                (void) sd_bus_detach_event(m->bus);
        m->bus = sd_bus_close_unref(m->bus);
        m->lost = true;
}

static int connect_bus(Manager *m, Error *reterr) {
        _cleanup_free_ char *version = NULL;
        int r;

        disconnect(m);

        r = sd_bus_open_system(&m->bus);
        if (r < 0)
                return error_set(reterr, r, "Is systemd running as PID 1, and is dbus.socket active?",
                                "Failed to connect to the system bus: %m");

        r = sd_bus_set_method_call_timeout(m->bus, BUS_CALL_TIMEOUT_USEC);
        if (r < 0)
                return bus_fail(m, reterr, "set up the system bus", NULL, r);

        r = sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return bus_fail(m, reterr, "set up the system bus", NULL, r);

        r = add_matches(m);
        if (r < 0)
                return bus_fail(m, reterr, "match signals of systemd", NULL, r);

        m->lost = false;

        r = bus_call(m, "subscribe to systemd", "Subscribe", NULL, reterr, NULL);
        if (r < 0)
                return r;

        r = bus_get_string(m, "read the version of systemd", SYSTEMD_PATH, MANAGER_INTERFACE, "Version", &version,
                        reterr);
        if (r < 0)
                return r;
        m->version = (unsigned) strtoul(version, NULL, 10); /* "252.39-1~deb12u1" */
        return 0;
}

int manager_new(sd_event *event, Manager **ret, Error *reterr) {
        _cleanup_(manager_freep) Manager *m = NULL;
        int r;

        assert(event);
        assert(ret);

        m = calloc(1, sizeof(Manager));
        if (!m)
                return error_set(reterr, -ENOMEM, NULL, "Out of memory");
        m->event = sd_event_ref(event);

        r = connect_bus(m, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

Manager *manager_free(Manager *m) {
        if (!m)
                return NULL;

        assert(!m->jobs && !m->watches);
        disconnect(m);
        sd_event_unref(m->event);
        return mfree(m);
}

int manager_reconnect(Manager *m, usec_t deadline_usec, Error *reterr) {
        int r;

        if (manager_check(m, NULL) >= 0)
                return 0;

        for (;;) {
                Error error = ERROR_NULL;

                r = connect_bus(m, &error);
                if (r >= 0 || usec_left(deadline_usec) == 0) {
                        if (r < 0)
                                (void) error_set(reterr, r, error.advice, "%s", error_text(&error, r));
                        error_done(&error);
                        break;
                }
                error_done(&error);

                /* There is nothing to wait for: who offers the bus again is not known until it does. */
                disconnect(m);
                r = sd_event_run(m->event, MIN(RECONNECT_INTERVAL_USEC, usec_left(deadline_usec)));
                if (r < 0)
                        return error_set(reterr, r, NULL, "Failed to wait for the system bus: %m");
                if (m->interrupted && m->interrupted(m->interrupted_userdata))
                        return error_set(reterr, -EINTR, NULL, "Interrupted while waiting for the system bus");
        }
        if (r < 0)
                return r;

        job_doubt(m->jobs);
        r = unit_watch_rearm(m->watches);
        return r < 0 ? bus_fail(m, reterr, "match signals of systemd", NULL, r) : 0;
}

int manager_wait(Manager *m, ManagerDoneFunc done, void *userdata, usec_t deadline_usec) {
        int r;

        for (;;) {
                usec_t left;

                r = done ? done(userdata) : 0;
                if (r != 0)
                        return r;
                r = manager_check(m, NULL);
                if (r < 0)
                        return r;
                if (m->interrupted && m->interrupted(m->interrupted_userdata))
                        return -EINTR;

                left = usec_left(deadline_usec);
                if (left == 0)
                        return done ? -ETIMEDOUT : 0;

                r = sd_event_run(m->event, left);
                if (r == -ESTALE) /* the caller has ended the loop */
                        return -EINTR;
                if (r < 0)
                        return r;
        }
}

int manager_reload(Manager *m, Error *reterr) {
        return bus_call(m, "reload systemd", "Reload", NULL, reterr, NULL);
}

int manager_units_loaded_usec(Manager *m, usec_t *ret, Error *reterr) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        uint64_t realtime = 0, monotonic = 0;
        usec_t by_the_clock_of_now;
        int r;

        r = manager_check(m, reterr);
        if (r < 0)
                return r;
        *ret = 0;
        if (manager_version(m) < 250)
                return 0;
        r = sd_bus_get_property_trivial(m->bus, SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, "UnitsLoadTimestamp",
                        &error, 't', &realtime);
        if (r >= 0)
                r = sd_bus_get_property_trivial(m->bus, SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE,
                                "UnitsLoadTimestampMonotonic", &error, 't', &monotonic);
        if (r < 0)
                return bus_fail(m, reterr, "read when units were loaded", &error, r);
        by_the_clock_of_now = now_usec(CLOCK_REALTIME) - (now_usec(CLOCK_MONOTONIC) - monotonic);
        *ret = MIN(realtime, by_the_clock_of_now);
        return 0;
}

int manager_system_state(Manager *m, char **ret, Error *reterr) {
        return bus_get_string(m, "read the state of the system", SYSTEMD_PATH, MANAGER_INTERFACE, "SystemState", ret,
                        reterr);
}

int manager_shutting_down(Manager *m, Error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ char *state = NULL;
        const char *unit, *verb;
        int r;

        r = manager_system_state(m, &state, reterr);
        if (r < 0)
                return r;
        if (streq(state, "stopping"))
                return 1;

        r = bus_call(m, "list jobs", "ListJobs", &reply, reterr, NULL);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "(usssoo)");
        if (r < 0)
                return bus_fail(m, reterr, "list jobs", NULL, r);
        while ((r = sd_bus_message_read(reply, "(usssoo)", NULL, &unit, &verb, NULL, NULL, NULL)) > 0)
                if (streq(verb, "start") &&
                                strv_contains(STRV_MAKE("shutdown.target", "reboot.target", "poweroff.target",
                                                              "halt.target", "kexec.target", "soft-reboot.target",
                                                              "exit.target"),
                                                unit))
                        return 1;
        return r < 0 ? bus_fail(m, reterr, "list jobs", NULL, r) : 0;
}

int manager_get_enablement(Manager *m, const char *unit, char **ret, Error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *state;
        char *copy;
        int r;

        r = bus_call(m, "read whether a unit is enabled", "GetUnitFileState", &reply, reterr, "s", unit);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &state);
        if (r < 0)
                return bus_fail(m, reterr, "read whether a unit is enabled", NULL, r);

        copy = strdup(state);
        if (!copy)
                return error_set(reterr, -ENOMEM, NULL, "Out of memory");
        *ret = copy;
        return 0;
}

static int change_enablement(Manager *m, const char *unit, const char *enablement, Error *reterr) {
        bool runtime = endswith(enablement, "-runtime");

        if (startswith(enablement, "enabled"))
                return bus_call(m, "enable a unit", "EnableUnitFiles", NULL, reterr, "asbb", 1, unit, runtime, true);
        if (startswith(enablement, "masked"))
                return bus_call(m, "mask a unit", "MaskUnitFiles", NULL, reterr, "asbb", 1, unit, runtime, true);

        return bus_call(m, "disable a unit", "DisableUnitFiles", NULL, reterr, "asb", 1, unit, false);
}

/* Takes away what a unit of that enablement has too much to be set to another. */
static int clear_enablement(Manager *m, const char *unit, const char *enablement, Error *reterr) {
        bool runtime = endswith(enablement, "-runtime");

        if (startswith(enablement, "masked"))
                return bus_call(m, "unmask a unit", "UnmaskUnitFiles", NULL, reterr, "asb", 1, unit, runtime);
        if (startswith(enablement, "enabled"))
                return bus_call(m, "disable a unit", "DisableUnitFiles", NULL, reterr, "asb", 1, unit, runtime);
        return 0;
}

int manager_set_enablement(Manager *m, const char *unit, const char *enablement, Error *reterr) {
        _cleanup_free_ char *now = NULL;
        int r;

        if (strv_contains(STRV_MAKE("static", "indirect", "generated", "alias", "transient", "linked",
                                          "linked-runtime"),
                            enablement))
                return 0;
        if (!strv_contains(STRV_MAKE("enabled", "enabled-runtime", "disabled", "masked", "masked-runtime"),
                            enablement))
                return error_set(reterr, -EOPNOTSUPP, NULL, "%s: cannot be made \"%s\"", unit, enablement);

        r = manager_get_enablement(m, unit, &now, reterr);
        if (r < 0)
                return r;
        assert(now);
        if (streq(now, enablement))
                return 0;

        r = clear_enablement(m, unit, now, reterr);
        if (r < 0)
                return r;
        r = change_enablement(m, unit, enablement, reterr);
        if (r < 0)
                return r;
        return manager_reload(m, reterr);
}

int manager_reset_failed(Manager *m, const char *unit, Error *reterr) {
        Error error = ERROR_NULL;
        int r;

        r = bus_call(m, "forget the failure of a unit", "ResetFailedUnit", NULL, &error, "s", unit);
        if (r < 0 && r != -ENOENT)
                (void) error_set(reterr, r, NULL, "%s: %s", unit, error_text(&error, r));
        error_done(&error);
        return r == -ENOENT ? 0 : r;
}
