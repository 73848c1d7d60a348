/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Processes: who runs from the node's files, whoever started it, also when the files are gone by now. */

#include <sys/types.h>

#include "base/macro.h"

typedef struct NodeProcess {
        pid_t pid;
        bool vm;     /* the broker's VM (it has a Mnesia directory), not run_erl, a helper, or the VM of a command */
        bool runner; /* run_erl, which lives as long as the VM that it started */
} NodeProcess;

/* Every process whose executable lies, or lay, below root_dir. *ret is an array for free(), NULL where *ret_n is 0. A
 * process that ends meanwhile is left out, but not the one that it has forked before; zombies and other containers'
 * processes are left out too. One whose executable we may
 * not see counts if its arguments name root_dir. */
int node_processes(const char *root_dir, NodeProcess **ret, size_t *ret_n);
