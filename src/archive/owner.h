/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Owners: user and group names to ids and back, each asked of NSS once. */

#include <sys/types.h>

#include "base/macro.h"

typedef struct Owners Owners;

int owners_new(Owners **ret);
Owners *owners_free(Owners *o);
DEFINE_CLEANUP(Owners *, owners_free)

/* *ret is the name, borrowed; NULL where the id has none. An error is one of looking. */
int owners_user_name(Owners *o, uid_t uid, const char **ret);
int owners_group_name(Owners *o, gid_t gid, const char **ret);

/* The id of name on this machine; fallback where name is NULL or unknown here. */
int owners_uid(Owners *o, const char *name, uid_t fallback, uid_t *ret);
int owners_gid(Owners *o, const char *name, gid_t fallback, gid_t *ret);
