/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Dpkg: runs dpkg(1) so that it asks nothing and prints plain lines, and keeps its reasons when it fails. Does not
 * log. */

#include "package/package.h"

#define DPKG "/usr/bin/dpkg"
#define DPKG_QUERY "/usr/bin/dpkg-query"
#define DPKG_DIR "/var/lib/dpkg"

/* Each line goes to run (NULL: dropped). Says to dpkg that its frontend lock is ours. There is no time limit: dpkg is
 * not broken off in the middle; what hangs in it is found by the unit it runs in. 0, or a negative errno: -EREMOTEIO
 * where dpkg failed, with its own error lines in reterr behind what ("dpkg --install"). */
int dpkg_run(char *const *argv, const PackageRun *run, const char *what, Error *reterr);

/* Asks something that is answered at once. Returns the exit status with the output, or a negative errno. */
int dpkg_ask(char *const *argv, char **ret_output, Error *reterr);

/* Whether dpkg was killed: it has files of a journal that are still to be taken over into its status file. */
bool dpkg_interrupted(void);

/* 0 where everything that p depends on is installed, and in the right version: dpkg itself says so, of a copy of its
 * status in which p is unpacked. (A trial run of an installation does not look at dependencies.) Needs no lock.
 * -ENOPKG: something is missing, reterr lists it. */
int dpkg_check_depends(const Package *p, Error *reterr);
