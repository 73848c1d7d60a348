/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inhibit: asks logind to hold a shutdown off, as long as a descriptor is open. */

#include "bus/manager.h"

/* A block inhibitor for shutdown and sleep, with why for the operator. *ret_fd is the caller's to close. It is a request:
 * root's own `systemctl reboot` passes it before systemd 257, and --force always. -EOPNOTSUPP: there is no logind. */
int inhibit_shutdown(Manager *m, const char *why, int *ret_fd);
