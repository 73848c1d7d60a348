/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Places: which directories hold the node's configuration and data, so which are backed up and restored. */

#include "node/node.h"
#include "steps/step.h"

/* Adds the trees of n to p, each directory once: one that lies in another goes with it, whatever way leads there. Sets
 * data_real of p. Needs kind, root_dir of p. A directory that cannot be carried safely is refused, with the reason. */
int places_find(Plan *p, const Node *n, Error *reterr);

/* Makes a place as it was, where the package manager has removed it or has put a directory where a link was: an empty
 * directory, the link. What stood in the link's way is in the backup's defaults/ by then, or is the package's. */
int place_restore(const PlanTree *t, Error *reterr);

/* What a step has to be allowed to write to for place_restore() and for the trees, as ReadWritePaths=. */
int places_write_paths(const Plan *p, char ***ret);

/* Type of the file system that path is on ("ext4"), "?" where that cannot be told. The caller's; NULL: out of memory. */
char *place_filesystem(const char *path);
