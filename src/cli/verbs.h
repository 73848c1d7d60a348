/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Verbs of emqx-upgrade(1). Each prints, and returns the exit status; args is NULL-terminated. */

#include "cli/record.h"
#include "txn/engine.h"

extern bool arg_json;
extern const char *arg_output; /* NULL: standard output */
extern bool arg_dry_run;

/* One value, for programs. */
void print_json(json_object *o);

/* Says on stderr what error has (NULL: what r means), and what to do about it. Returns status. */
ExitStatus say_error(const Error *error, int r, ExitStatus status);

/* Whether id is one, or "last"; says on stderr if not. */
bool is_upgrade_id(const char *id);

/* What status prints of r. */
void print_record(const Record *r);

ExitStatus verb_plan(char **args);
ExitStatus verb_status(char **args);
ExitStatus verb_history(char **args);
ExitStatus verb_watch(char **args);
ExitStatus verb_diff(char **args);
ExitStatus verb_report(char **args);
ExitStatus verb_rollback(char **args);
ExitStatus verb_backups(char **args);
