/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Metrics: what monitoring wants to know of the last upgrade, in the text format of Prometheus, as a file for the textfile
 * collector of its node exporter. Does not log. */

#include "txn/txn.h"

#define METRICS_NAME "emqx-upgrade.prom"

/* Writes them for t as text. t may be open: it is stuck then. -EIO. */
int metrics_format(const Txn *t, FILE *out);

/* Replaces METRICS_NAME in directory, for anyone to read. Errors are the kernel's. */
int metrics_write(const Txn *t, const char *directory);
