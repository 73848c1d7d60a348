/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Control: the text that says what a .deb is (deb-control(5)). Does not log. */

#include "package/package.h"

/* Fills name, version, arch and installed_bytes of p from text. -EBADMSG: a field is missing, doubled or cannot be, or
 * the text is no control data at all; p may then be half filled. */
int control_parse(const char *text, Package *p, Error *reterr);
