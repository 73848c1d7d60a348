/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Diff: the configuration that was carried over, against the defaults of the release that it was carried to. */

#include "base/error.h"
#include "steps/plan.h"

/* A unified diff by diff(1), from the defaults in the package of the plan's upgrade to the node's files as they are now, "" where
 * there is no difference. Only emqx.conf, vm.args and *.conf are shown, with (hidden) for what may be secret; psk.txt,
 * certificates and files in other formats never are. Needs root. *ret is the caller's. -ENOENT: the package is gone. */
int configuration_diff(const Plan *p, char **ret, Error *reterr);

/* line without what may be secret: the value of a setting whose name says so, a password in a URL, what follows such a name in
 * any other line. The caller's; NULL: out of memory. */
char *mask_secrets(const char *line);
