/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Listing: what emqx_ctl lists (Facts 5.3), understood: names and numbers alone, for what stands beside them may be a
 * password. White space and line ends do not matter within an entry, nor does what stands around the entries.
 *
 * Each result is a strv, sorted, each entry once, the caller's; NULL: none. Of entries that cannot be told from what
 * their own text says (an SQL statement with the begin of another entry on a line of its own) what is listed is at
 * least always the same. All return 0; -EBADMSG: there is text, but no entry (the command is not known, an RPC failed);
 * -ENOMEM. */

#include "base/strv.h"

/* `listeners`: "mqtt:tcp:external 0.0.0.0:1883", the id and what it listens on. */
int listeners_parse(const char *output, char ***ret);

/* `plugins list` and `modules list`: the names of those that are active. */
int plugins_parse(const char *output, char ***ret);
int modules_parse(const char *output, char ***ret);

/* `rules list`: all ids, and those of the enabled ones. */
int rules_parse(const char *output, char ***ret_ids, char ***ret_enabled);

/* `resources list`: all ids, and those that are alive on every node. */
int resources_parse(const char *output, char ***ret_ids, char ***ret_alive);

/* The number behind key in `broker stats`: "connections.count". -EBADMSG: it is not there. */
int stat_parse(const char *output, const char *key, uint64_t *ret);
