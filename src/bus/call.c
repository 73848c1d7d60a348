/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/call.h"

#include <stdarg.h>

/* libsystemd maps only the standard names; the others would all be -EIO. */
/* clang-format off */
static const struct {
        const char *name;
        int error;
} error_map[] = {
        { "org.freedesktop.systemd1.NoSuchUnit",                 -ENOENT },
        { "org.freedesktop.systemd1.NoSuchJob",                  -ENOENT },
        { "org.freedesktop.systemd1.UnitExists",                 -EEXIST },
        { "org.freedesktop.systemd1.UnitMasked",                 -ERFKILL },
        { "org.freedesktop.systemd1.TransactionIsDestructive",   -EDEADLK },
        { "org.freedesktop.systemd1.TransactionJobsConflicting", -EDEADLK },
        { "org.freedesktop.systemd1.ShuttingDown",               -EDEADLK },
        { SD_BUS_ERROR_FILE_NOT_FOUND,                           -ENOENT },
        { SD_BUS_ERROR_UNKNOWN_OBJECT,                           -ENOENT },
        { SD_BUS_ERROR_ACCESS_DENIED,                            -EACCES },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,       -EACCES },
        { SD_BUS_ERROR_NO_REPLY,                                 -ETIMEDOUT },
        { SD_BUS_ERROR_TIMEOUT,                                  -ETIMEDOUT },
        { SD_BUS_ERROR_DISCONNECTED,                             -ECONNRESET },
};
/* clang-format on */

int bus_fail(Manager *m, Error *reterr, const char *what, const sd_bus_error *error, int r) {
        assert(r < 0);

        if (r == -ENOTCONN || r == -EPIPE || r == -ESHUTDOWN)
                r = -ECONNRESET;

        if (error && error->name)
                for (size_t i = 0; i < ELEMENTSOF(error_map); i++)
                        if (streq(error->name, error_map[i].name))
                                r = error_map[i].error;

        if (r == -ECONNRESET) {
                (void) manager_check(m, NULL); /* a closed bus makes the manager LOST at once */
                return error_set(reterr, r, NULL, "Failed to %s: the connection to systemd was lost", what);
        }
        if (error && error->message)
                return error_set(reterr, r, NULL, "Failed to %s: %s (%s)", what, error->message, error->name);

        return error_set(reterr, r, NULL, "Failed to %s: %m", what);
}

int bus_send(Manager *m, const char *what, sd_bus_message *message, sd_bus_message **ret_reply, Error *reterr) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = manager_check(m, reterr);
        if (r < 0)
                return r;

        r = sd_bus_call(manager_bus(m), message, BUS_CALL_TIMEOUT_USEC, &error, ret_reply);
        return r < 0 ? bus_fail(m, reterr, what, &error, r) : 0;
}

int bus_call(Manager *m, const char *what, const char *member, sd_bus_message **ret_reply, Error *reterr,
                const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        va_list ap;
        int r;

        r = manager_check(m, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_new_method_call(
                        manager_bus(m), &message, SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, member);
        if (r < 0)
                return bus_fail(m, reterr, what, NULL, r);

        if (types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(message, types, ap);
                va_end(ap);
                if (r < 0)
                        return bus_fail(m, reterr, what, NULL, r);
        }
        return bus_send(m, what, message, ret_reply, reterr);
}

int bus_get_string(Manager *m, const char *what, const char *path, const char *interface, const char *property,
                char **ret, Error *reterr) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = manager_check(m, reterr);
        if (r < 0)
                return r;

        r = sd_bus_get_property_string(manager_bus(m), SYSTEMD_NAME, path, interface, property, &error, ret);
        return r < 0 ? bus_fail(m, reterr, what, &error, r) : 0;
}

int unit_object_path(const char *unit, char **ret) {
        return sd_bus_path_encode(SYSTEMD_PATH "/unit", unit, ret);
}
