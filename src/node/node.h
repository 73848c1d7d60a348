/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Node: what is installed on this host and how it is set up, from its own files. Runs nothing, does not log. */

#include "base/error.h"

typedef struct Node {
        char *root_dir;
        char *etc_dir;               /* RUNNER_ETC_DIR */
        char *data_dir;              /* RUNNER_DATA_DIR: mnesia/ and configs/ are always here */
        char *log_dir;               /* RUNNER_LOG_DIR: erlang.log.N is always here */
        char *user;                  /* RUNNER_USER; "" where bin/emqx checks no user (zip) */
        char *extra_data_dir;        /* node.data_dir where it is another directory than data_dir, else NULL */
        char *extra_data_dir_source; /* who says so: "EMQX_NODE__DATA_DIR" or "node.data_dir in /etc/emqx/emqx.conf" */
        char *rel_version;           /* REL_VSN: what is on disk, which may not be what runs */
        char *node_name;             /* as the node would boot with: "emqx@127.0.0.1" */
        bool has_cookie;             /* one is set; which is nobody's business */
        char *mqtt_host;             /* where to reach listener.tcp.external: "127.0.0.1", "::1" for a wildcard */
        unsigned mqtt_port;          /* 0: no such listener, mqtt_host is NULL then */
        char *management_host;       /* the same for management.listener.http in plugins/emqx_management.conf */
        unsigned management_port;
} Node;

/* Reads releases/emqx_vars below root_dir ("/usr/lib/emqx"), then the configuration. environment is what the service
 * sees (Environment= of its unit), not ours; NULL: nothing. All paths in *ret are absolute: relative ones are taken
 * from root_dir, as the node does. -ENOENT: no node is installed there; -EBADMSG: a file of it cannot be understood;
 * -EFBIG, -EINVAL: or cannot be what it should. */
int node_read(const char *root_dir, char **environment, Node **ret, Error *reterr);
Node *node_free(Node *n);
DEFINE_CLEANUP(Node *, node_free)

typedef struct NodeDirectories {
        const char *etc_dir, *data_dir, *log_dir; /* absolute */
} NodeDirectories;

/* Has the node that is installed in root_dir keep to these directories: what differs is set at the end of its emqx_vars,
 * where the last assignment wins, since a package brings a new emqx_vars without what was edited in the old one. */
int node_keep_directories(const char *root_dir, const NodeDirectories *d, bool *ret_changed, Error *reterr);

/* "1883", "0.0.0.0:1883", "192.168.1.5:1883", "[::]:1883" to where a client on this host connects: a wildcard becomes
 * the loopback address of its family. 0; -EINVAL: nothing of these, or port 0. */
int node_listener_parse(const char *text, char **ret_host, unsigned *ret_port);
