/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Conf: emqx.conf and plugins/NAME.conf, read as the node reads them (cuttlefish's grammar: one `key = value` a line,
 * no quoting, comments on lines of their own, `include FILE`, $(other.key), a variable EMQX_KEY in front of it all).
 * Values are text: what type a key has is the node's business. Does not log. */

#include "base/error.h"

typedef struct Conf Conf;

/* Reads path. root_dir is where the node runs, hence what a relative `include` starts from; NULL: includes are not
 * followed, as bin/emqx does where it looks up the node's name. -EBADMSG: a syntax error, *reterr names file and
 * line; -EFBIG, -EINVAL (no regular file) and what open(2) says otherwise. */
int conf_load(const char *path, const char *root_dir, Conf **ret, Error *reterr);
Conf *conf_free(Conf *c);
DEFINE_CLEANUP(Conf *, conf_free)

/* The value of key as in the file ("node.name"; an escaped dot is written `\.`), EMQX_ variables of environment first
 * (NULL: none), $(…) substituted. 1: *ret is the caller's; 0: not set, or removed by an empty variable; -EBADMSG: a
 * $(…) that leads nowhere or in a circle. */
int conf_value(const Conf *c, const char *key, char **environment, char **ret, Error *reterr);

/* Where the file, or one that it includes, sets key; the one that counts. file is c's. False: nowhere. */
bool conf_where(const Conf *c, const char *key, const char **ret_file, unsigned *ret_line);

/* The i-th value there is, of whichever key: what may have to be hidden. NULL behind the last. */
const char *conf_next_value(const Conf *c, size_t i);

/* The i-th file that was read, the one itself first. NULL behind the last. */
const char *conf_file(const Conf *c, size_t i);

/* One line that sets a key. Borrowed from the Conf. */
typedef struct ConfSetting {
        const char *key, *value; /* as written */
        const char *file;
        unsigned line;
        bool included; /* by emqx.conf, so of another file */
} ConfSetting;

/* The i-th of them, in the order in which they were read. False behind the last. */
bool conf_setting(const Conf *c, size_t i, ConfSetting *ret);

/* text, a configuration file, with every line that sets one of keys made a comment, and before each a line "# " and what
 * stands at the same place in notes. Both are strvs. All other bytes stay. *ret_text is the caller's. */
int conf_comment_out(const char *text, char *const *keys, char *const *notes, char **ret_text);

/* conf_load() and conf_value(): the common case. */
int conf_get(const char *path, const char *root_dir, const char *key, char **environment, char **ret, Error *reterr);
