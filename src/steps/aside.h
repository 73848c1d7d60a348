/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Aside: a package's files, extracted below our own directory to look at or to ask, never to run the node from. */

#include "steps/step.h"

/* Extracts what target has below prefix ("/usr/lib/emqx"; all of it for a kind without places) into STATE_DIR/name, made
 * anew. Nobody but root comes there. *ret_fd (optional), the caller's to close, is the directory, with a flock(2) that
 * says that it is in use. */
int aside_extract(const PackageKind *kind, const Package *package, const char *prefix, const char *name, int *ret_fd,
                Error *reterr);

/* Removes STATE_DIR/name. Not there is 0. */
int aside_remove(const char *name, Error *reterr);

/* What p alone extracts to be asked, "judge-0123abcd": an upgrade and `emqx-upgrade plan` may do that at the same time. */
#define ASIDE_NAME_MAX 16
const char *aside_judge_name(char buf[static ASIDE_NAME_MAX], const Plan *p);

/* Makes a directory that `emqx-upgrade diff` has for itself: *ret_dir is its path, STATE_DIR/diff-XXXXXX, and *ret_fd it, with
 * such a flock(2). Both are the caller's. */
int aside_make_for_diff(char **ret_dir, int *ret_fd, Error *reterr);

/* Removes what has been left of all these, by who was killed or could not remove it, and spares what is in use. The caller
 * holds LOCK_PATH. */
void aside_sweep(void);
