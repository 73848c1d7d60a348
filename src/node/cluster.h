/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Cluster: what the members of a cluster say of it, understood. White space and what stands around the facts do not
 * matter. A name that no node can have is no fact: names are shown to people. */

#include "base/strv.h"

/* What one node sees. Both strv. */
typedef struct ClusterStatus {
        char **running;
        char **stopped;
} ClusterStatus;

#define CLUSTER_STATUS_NULL ((ClusterStatus){ NULL, NULL })

/* "Cluster status: #{running_nodes => ['emqx@127.0.0.1'],stopped_nodes => []}" of `emqx_ctl cluster status`. 0;
 * -EBADMSG: nothing of the kind in there. *ret is the caller's. */
int cluster_status_parse(const char *output, ClusterStatus *ret);
void cluster_status_done(ClusterStatus *s);

/* What one member that runs has answered. */
typedef struct ClusterView {
        char *node;
        char **running;          /* that it sees; empty: it did not answer in time */
        char **members;          /* that it knows of, running or not */
        bool started;            /* it has booted wholly */
        uint64_t autoclean_msec; /* it drops a member that is down for that long; 0: never, or no answer */
        char *upgrade;           /* id of the upgrade that it is under; NULL: none */
} ClusterView;

/* Expressions for `emqx eval`: of an upgrade that marks its node first, so that two that look at the same time cannot
 * miss each other; of one that only looks (id NULL). The mark is in the memory of the node's VM, and ends with it. NULL:
 * out of memory. */
char *cluster_views_query(const char *id);
#define CLUSTER_UNMARK_QUERY "application:unset_env(emqx_upgrade, id)."

/* The answers: of the node itself, and of each member that it sees running. 0; -EBADMSG. *ret is the caller's. */
int cluster_views_parse(const char *output, ClusterView **ret, size_t *ret_n);
ClusterView *cluster_views_free(ClusterView *views, size_t n);
