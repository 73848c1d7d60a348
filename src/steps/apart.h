/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Apart: what the conductor has no right to change, or may not even write to, the helper changes in a unit of its own. */

#include "steps/step.h"

/* Runs argv (of the helper, whose exit status is an errno), which may write at path alone, there to files of anybody, and
 * waits for its end for so long. quick: somebody waits for it. Returns that errno, negative, or that of systemd. */
int run_apart(Context *c, const char *unit_name, const char *description, char *const *argv, const char *path,
                bool quick, usec_t timeout_usec, Error *reterr);
