/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* RpmFile: what is in an .rpm file, read with rpm(8). Does not log. */

#include "package/package.h"

/* How a package is described, in one line for rpm_parse_package(). */
#define RPM_PACKAGE_FORMAT                                                                                            \
        "package:<%{NAME}><%{VERSION}><%{RELEASE}><%{ARCH}><%{LONGSIZE}><%|SOURCERPM?{binary}:{source}|>\n"

typedef struct RpmName {
        char *name, *version, *release, *arch;
        uint64_t installed_bytes;
        bool source;
} RpmName;

void rpm_name_done(RpmName *n);

/* -EBADMSG: it is no such line, or has what does not belong into a name or a version. Changes line. */
int rpm_name_parse(char *line, RpmName *ret);

/* Rows of PackageKind. */
int rpm_file_read(const char *path, Package **ret, Error *reterr);
int rpm_file_verify(const char *path, Error *reterr);

/* Removes the temporary files (NAME;0123abcd) of a broken off unpacking of path. 1 where there were any, or any other
 * file of its is there, or a directory of the program, which is all that a removal of the temporary ones may leave; 0
 * where nothing of it is. */
int rpm_file_sweep(const char *path, Error *reterr);

/* PackageKind.extract. */
int rpm_file_extract(const Package *p, const char *root_dir, int dir_fd, Error *reterr);
