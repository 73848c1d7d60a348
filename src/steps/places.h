/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Places: which directories hold the node's configuration and data, so which are backed up and restored. */

#include "node/node.h"
#include "steps/step.h"

/* Adds the trees of n to p, each directory once: one that lies in another goes with it, whatever way leads there. Sets
 * data_real and mounts of p. Needs kind, root_dir, beside_dir of p. A directory that cannot be carried safely is refused, with
 * the reason. */
int places_find(Plan *p, const Node *n, Error *reterr);

/* Makes the places as they were where the package manager has removed one, or has put a directory where a link was: an
 * empty directory, the link. On the way there (back: false) that directory is the package's own, just installed, and
 * goes; on the way back it may be the operator's by now, and is moved aside. */
int places_restore(Context *c, bool back, Error *reterr);

/* What a step has to be allowed to write to for places_restore() and for the trees, as ReadWritePaths=. */
int places_write_paths(const Plan *p, char ***ret);

/* Adds to the mounts of p those of table (base/mounts.h) that its trees and its program lie on, or that lie in its trees. */
int places_find_mounts(Plan *p, const char *table, Error *reterr);

/* Whether they all are in table: 1, or 0 with *ret_missing, borrowed from p. What an empty mount point has in it is not
 * the node's. */
int places_are_mounted(const Plan *p, const char *table, const char **ret_missing);

/* Type of the file system that path is on ("ext4"), "?" where that cannot be told. The caller's; NULL: out of memory. */
char *place_filesystem(const char *path);
