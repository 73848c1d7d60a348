/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Carry-over: which of the old version's files go into the new one. One table (carry.c), with the reason beside each;
 * what it does not name is carried. */

#include "archive/tree.h"
#include "steps/plan.h"

typedef struct CarryRule {
        bool in_data;        /* pattern is of the path in RUNNER_DATA_DIR, FNM_PATHNAME; else of any path */
        const char *pattern; /* fnmatch(3); of any path: "*" and an ending */
        bool new_only;       /* only for what the old version did not have */
        TreeVerdict verdict;
        bool keep_aside; /* copied into the backup before it is dropped: it is not there yet */
        bool tell;       /* its drop is named in the journal */
        const char *reason;
} CarryRule;

/* The first rule that fits path in tree and has it otherwise than carried, NULL: it is carried. old: the path is in the
 * manifest. On the way back there are no rules: all is what the manifest says, and what came since goes into after/. */
const CarryRule *carry_rule(const Plan *p, const PlanTree *tree, const char *path, bool old);

/* Whether a path with this last component may be one to keep aside. */
bool carry_keeps_aside(const char *name);

/* The i-th row, NULL behind the last. For the documentation's sake. */
const CarryRule *carry_rule_at(size_t i);
