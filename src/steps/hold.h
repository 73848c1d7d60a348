/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Hold: while STATE_DIR/hold exists, nothing starts the broker: our drop-in for its unit has a ConditionPathExists= on
 * it. A condition, not a mask: maintainer scripts may enable the unit, and a start is passed over, not failed. */

#include "steps/step.h"

/* Both are durable and may be called again. */
int hold_set(Context *c, Error *reterr);
int hold_lift(Context *c, Error *reterr);
