/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Rpm: runs rpm(8) so that it asks nothing, waits for its lock, and keeps its reasons when it fails. Does not log. */

#include "package/package.h"

#define RPM "/usr/bin/rpm"

/* Each line goes to run, except for complaints about files that were gone before. There is no time limit: rpm is not
 * broken off in the middle; what hangs in it is found by the unit it runs in. rpm takes its lock itself, and gives up
 * where another process has it (it would wait on a terminal only): it is then run again until it gets it, and run is
 * told who has it. run NULL: nothing is told, and it fails at once.
 *
 * 0, or a negative errno: -EREMOTEIO where rpm failed, with its own error lines in reterr behind what ("rpm -U");
 * -ENOPKG where only dependencies of the package are missing. A scriptlet that failed is a mere warning for rpm where
 * it is not %pre or %preun: 0, and the warning in *ret_warning (NULL: not asked for). */
int rpm_run(char *const *argv, const PackageRun *run, const char *what, char **ret_warning, Error *reterr);

/* Asks something that is answered at once. Returns the exit status with the output, or a negative errno. */
int rpm_ask(char *const *argv, char **ret_output, Error *reterr);

/* What a macro of its configuration expands to: "%{_dbpath}". */
int rpm_eval(const char *macro, char **ret, Error *reterr);

/* 1: there is a database, its directory in *ret (ours; NULL: not asked for); 0: none, and rpm must not be asked for
 * packages, since it would make one. Debian's rpm comes without a database. */
int rpm_database(const char **ret, Error *reterr);

/* 1: this rpm has Debian's --force-debian, which keeps it from saying that it should not be used there. */
int rpm_is_debians(void);
