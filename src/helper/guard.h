/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Guard: what apt is about to do, as it tells its DPkg::Pre-Install-Pkgs hooks (apt.conf(5), version 3), and whether that
 * takes EMQX past this service. Does not log. */

#include <stdio.h>

#include "base/error.h"

/* Reads all of in. 0: nothing of that kind, or switched off by EmqxUpgrade::Guard=no; -EPERM: reterr says what would be
 * exchanged, and what to do instead. Lines that are not understood are passed over: it is not for us to fail apt. */
int guard_read(FILE *in, Error *reterr);
