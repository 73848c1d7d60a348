/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Judge: whether the new release accepts this node's configuration, by its own word: its program is extracted aside,
 * and its runtime runs its check on the live files, as the node's user and with the unit's environment. */

#include "steps/step.h"

/* Changes nothing of the node, and leaves nothing. 1 with *ret_text, the caller's, saying what was accepted; 0 the same,
 * but without lines that it does not need (ConfigConflicts=drop-defaults), which the plan names then. -ECANCELED: refused;
 * reterr names each key, with file and line, and no value of it. -ENOEXEC: its runtime does not run here.
 * *ret_missing_plugins, set as soon as it is known: a strv of the active plugins that the new release has not. */
int judge_configuration(
                Context *c, const Package *target, char **ret_text, char ***ret_missing_plugins, Error *reterr);
