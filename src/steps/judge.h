/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Judge: whether the new release accepts this node's configuration, by its own word: its program is extracted aside,
 * and its runtime runs its check on the live files, as the node's user and with the unit's environment. */

#include "steps/step.h"

/* Changes nothing of the node, and leaves nothing. 0 with *ret_text, the caller's, saying what was accepted. -ECANCELED:
 * refused; reterr names each key, with file and line, and no value of it. -ENOEXEC: its runtime does not run here. */
int judge_configuration(Context *c, const Package *target, char **ret_text, Error *reterr);
