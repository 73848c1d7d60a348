/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Configuration: emqx-upgrade.conf(5), in /etc/emqx-upgrade/emqx-upgrade.conf and the *.conf in emqx-upgrade.conf.d
 * beside it, in systemd's spelling. One table of keys (config.c) parses it. Does not log. */

#include "base/error.h"
#include "base/time.h"

typedef struct Config {
        /* [Upgrade] */
        char *packages_dir;
        bool require_old_package;
        bool require_accepted_configuration;
        bool allow_lost_fixes;
        bool drop_defaults; /* ConfigConflicts=drop-defaults */
        bool auto_start;
        bool hold_after_rollback;
        bool refuse_other_upgrades;
        usec_t lock_timeout_usec;
        usec_t stop_timeout_usec;
        usec_t start_timeout_usec;
        usec_t verify_timeout_usec;
        usec_t stall_timeout_usec;
        usec_t hook_timeout_usec;
        usec_t watch_usec; /* 0: not at all */
        bool watch_goes_back;
        bool log_errors_fail;
        uint64_t attempts;

        /* [Backup] */
        bool archive;
        uint64_t compression_level;
        uint64_t compression_threads;
        uint64_t keep_backups;           /* UINT64_MAX: all */
        usec_t keep_backups_for_usec;    /* USEC_INFINITY: for ever */
        uint64_t keep_backups_max_bytes; /* UINT64_MAX: no limit */

        /* [Node] */
        char *unit;
        char *program_dir; /* "": found */
        bool mqtt_probe;
        uint64_t mqtt_port; /* 0: from emqx.conf */
        bool mqtt_tls;
        char *mqtt_ca_file;       /* "": whoever signed the certificate */
        char *mqtt_cert_file;     /* "": no certificate of our own */
        char *mqtt_key_file;      /* "": the same */
        char *mqtt_username;      /* "": none */
        char *mqtt_password_file; /* "": none */

        /* [Metrics] */
        char *textfile_dir; /* "": off */

        /* [Cluster] */
        uint64_t min_peers;

        char **values; /* all of the above as they are written, in the order of config_key() */
} Config;

/* Reads the files below root ("" for the host). Files that are missing are defaults; anything else that is wrong is
 * -EINVAL or the kernel's error, with file, line and what was expected in reterr. */
int config_load(const char *root, Config **ret, Error *reterr);

/* One file that says all of c, defaults too. NULL: out of memory. */
char *config_text(const Config *c);

/* For what was begun with text, of config_text(), whatever has become of the files. Where text is NULL, or of a version of this
 * program with other keys, it is what the files say, or else the defaults. 0 or -ENOMEM. */
int config_restore(const char *root, const char *text, Config **ret);

Config *config_free(Config *c);
DEFINE_CLEANUP(Config *, config_free)

/* Longer than any wait of ours, so that it is always we who give up, and never systemd's time-out for us. */
usec_t config_patience_usec(const Config *c);

/* The i-th key there is, with its default as it is written; false behind the last. For the documentation's sake. */
bool config_key(size_t i, const char **ret_section, const char **ret_key, const char **ret_default);
