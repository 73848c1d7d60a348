/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Control: the control data of a .deb (deb-control(5)), read from the file with libarchive. Does not log. */

#include "package/package.h"

/* The fields of a control file that matter here. -EBADMSG: one is missing, doubled or cannot be. */
int control_parse(const char *text, Package *p, Error *reterr);

/* deb(5): an ar archive of debian-binary, control.tar.*, data.tar.*. Reads the control member alone. */
int deb_read(const char *path, Package **ret, Error *reterr);

/* Reads every byte of both members: what was cut off or has changed in a compressed one is found. */
int deb_verify(const char *path, Error *reterr);
