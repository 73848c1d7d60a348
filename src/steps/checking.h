/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Checking: what the checks hand on to each other, beside the plan. For checks*.c alone. */

#include "node/setup.h"
#include "node/survey.h"
#include "steps/checks.h"

typedef struct Checking {
        Context *c;
        const PackageKind *kind;
        Package *target;
        Package *old;
        bool has_cookie;
        Survey survey;      /* of the node as it serves */
        char *running_name; /* what the node says its name is; NULL: it does not say */
        Setup *setup;
        char **missing_plugins; /* active ones that the target has not */
        char *text;             /* of the check that runs: what it found */
        const char *advice;     /* of a warning; static */
} Checking;

/* Sets text. */
void found(Checking *k, const char *format, ...) _printf_(2, 3);

/* The same for a warning: returns 0. */
int warned(Checking *k, const char *advice, const char *format, ...) _printf_(3, 4);

/* Rows of the table, as described there (checks.c): those of checks-node.c, on what EMQX alone makes of its files. */
int check_node_name(Checking *k, Error *reterr);
int check_cookie(Checking *k, Error *reterr);
int check_emqx_vars(Checking *k, Error *reterr);
int check_default_file(Checking *k, Error *reterr);
int check_unit_file(Checking *k, Error *reterr);
int check_patches(Checking *k, Error *reterr);
int check_external_plugins(Checking *k, Error *reterr);
int check_plugins(Checking *k, Error *reterr);
int check_erlang_terms(Checking *k, Error *reterr);
int check_referenced_files(Checking *k, Error *reterr);
int check_platform(Checking *k, Error *reterr);
int check_needrestart(Checking *k, Error *reterr);

/* That of checks-baseline.c. */
int check_baseline(Checking *k, Error *reterr);

/* That of checks-space.c. */
int check_space(Checking *k, Error *reterr);
