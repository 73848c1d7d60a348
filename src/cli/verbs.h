/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Verbs of emqx-upgrade(1). Each prints, and returns the exit status; args is NULL-terminated. */

#include "txn/engine.h"

extern bool arg_json;

ExitStatus verb_plan(char **args);
ExitStatus verb_status(char **args);
ExitStatus verb_history(char **args);
ExitStatus verb_rollback(char **args);
