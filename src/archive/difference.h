/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Difference: one path of a walk against its manifest entry: what tree-compare.c reports and
 * tree-restore.c puts right. */

#include "archive/copy.h"

typedef struct LinkGroup LinkGroup;

typedef struct Comparison {
        MetadataContext metadata;
        Copier copier;          /* its root_fd is live's */
        const TreeRules *rules; /* not NULL */
        LinkGroup *groups;      /* one for each file of the manifest with more than one link */
        size_t n_groups;
} Comparison;

/* rules may be NULL: carry everything, not exact. progress may be NULL; it is over the bytes of m. owners and progress are
 * borrowed. */
int comparison_init(Comparison *c, const Manifest *m, int live_fd, const TreeRules *rules, Owners *owners,
                const TreeProgress *progress, Error *reterr);
void comparison_done(Comparison *c);

/* What rules say about n; TREE_CARRY for the tree itself. */
TreeVerdict verdict(const Comparison *c, const WalkNode *n);

/* n->entry, or NULL where it is none or says nothing but "FIFO" or "socket". */
const ManifestEntry *node_entry(const WalkNode *n);

/* n has a node_entry(). *ret: TREE_… bits, 0 where it is as its entry says. Of the progress only what has to be read is
 * told. */
int difference(Comparison *c, const WalkNode *n, unsigned *ret);

/* From now on st is the file that n->entry's further links have to be, and differences what was found on it. */
int group_set(Comparison *c, const ManifestEntry *e, const struct stat *st, unsigned differences);

/* The path of the file that e has to be a link to; NULL: none has been set, e is the first. */
const char *group_first(const Comparison *c, const ManifestEntry *e);
