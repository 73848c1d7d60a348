/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Status: what emqx_ctl prints, understood. White space and what stands around the facts do not matter. */

#include "base/macro.h"

/* "Node 'emqx@127.0.0.1' 4.4.0 is started" of `emqx_ctl status`. 0; -EBADMSG: no such line in there (the command is
 * not known yet, an RPC failed). *ret_started is false for starting and stopping. Each ret_ is optional. */
int status_parse(const char *output, char **ret_node, char **ret_version, bool *ret_started);

/* The "version   : 4.4.0" of `emqx_ctl broker`. 0 or -EBADMSG. */
int broker_version_parse(const char *output, char **ret_version);
