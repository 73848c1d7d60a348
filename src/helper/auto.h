/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Auto: a release that a package has put into the packages directory begins the upgrade to it, see AutoStart= in
 * emqx-upgrade.conf(5). Logs. */

#include "steps/config.h"

/* Waits for the package manager, and queues the upgrade to the newest release there. That it has, or why it has not, is an
 * event. Whether the upgrade can be made is for it to say. */
void auto_queue(Config *config);
