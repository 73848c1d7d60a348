/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Deb file: what is in a .deb (deb(5)): an ar archive of debian-binary, control.tar[.gz|.xz|.zst] and data.tar[…],
 * read with libarchive. Does not log. */

#include "package/package.h"

/* Metadata. Reads no more of the file than its control member. -EBADMSG: not a package, or damaged up to there. */
int deb_file_read(const char *path, Package **ret, Error *reterr);

/* The control file itself, as text without NUL. Errors as above. */
int deb_file_control(const char *path, char **ret, Error *reterr);

/* Writes to, whole or not at all, the same package with its data member uncompressed: dpkg --unpack spends most of its
 * time on xz. -EBADMSG as below; of a package that was verified neither the content nor the control member changes. */
int deb_file_repack(const Package *p, const char *to, Error *reterr);

/* PackageKind.extract. */
int deb_file_extract(const Package *p, const char *root_dir, int dir_fd, Error *reterr);

/* Unpacks all of it into nowhere: -EBADMSG where a byte is missing, or has changed in a way that shows. */
int deb_file_verify(const char *path, Error *reterr);
