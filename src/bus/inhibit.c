/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/inhibit.h"

#include <fcntl.h>

#include "bus/call.h"

int inhibit_shutdown(Manager *m, const char *why, int *ret_fd) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL, *reply = NULL;
        int r, fd;

        assert(ret_fd);

        r = manager_check(m, NULL);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(manager_bus(m), &message, "org.freedesktop.login1",
                        "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "Inhibit");
        if (r >= 0)
                r = sd_bus_message_append(message, "ssss", "shutdown:sleep", "emqx-upgrade", why, "block");
        if (r >= 0)
                r = bus_send(m, "inhibit a shutdown", message, &reply, NULL);
        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd);
        if (r < 0)
                return r == -ECONNRESET ? r : -EOPNOTSUPP;
        *ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the message's own goes with it */
        return *ret_fd < 0 ? -errno : 0;
}
