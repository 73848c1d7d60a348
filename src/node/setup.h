/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Setup: the configuration files that count for a node: emqx.conf, what it includes, loaded_plugins, and the files of the
 * plugins that are active. Runs nothing, does not log. */

#include "base/sha256.h"
#include "base/strv.h"
#include "node/conf.h"

typedef struct SetupFile {
        char *path;
        char *plugin; /* NULL: emqx.conf */
        Conf *conf;
} SetupFile;

typedef struct Setup {
        char *root_dir;     /* where relative paths begin */
        char **environment; /* as the service sees it */
        char *loaded_file;  /* loaded_plugins, wherever it is */
        char *plugins_dir;  /* where the files of plugins are */
        char **plugins;     /* strv: the active ones */
        SetupFile *files;   /* emqx.conf first; of a plugin only where it has one, and no .config in its place */
        size_t n_files;
} Setup;

/* All directories absolute. No loaded_plugins: none is active. -EBADMSG and others as conf_load(). */
int setup_read(const char *root_dir, const char *etc_dir, const char *data_dir, char **environment, Setup **ret,
                Error *reterr);
Setup *setup_free(Setup *s);
DEFINE_CLEANUP(Setup *, setup_free)

/* value of a setting that is a path, as the node opens it. The caller's; NULL: out of memory. */
char *setup_path(const Setup *s, const char *value);

/* Over names and content of all of them: what changes here changes what the node is. */
int setup_sha256(const Setup *s, char ret_hex[static SHA256_HEX_SIZE], Error *reterr);
