/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* JSON: json-c with errno, and fields that must have the type they should have. */

#include <json-c/json.h>

#include "base/strv.h"

static inline json_object *json_free(json_object *o) {
        (void) json_object_put(o);
        return NULL;
}
DEFINE_CLEANUP(json_object *, json_free)
#define _cleanup_json_ _cleanup_(json_freep)

/* Takes value over, also on failure; NULL is -ENOMEM. */
int json_add(json_object *o, const char *key, json_object *value);
int json_append(json_object *array, json_object *value);

/* A NULL value is left out. */
int json_add_text(json_object *o, const char *key, const char *value);
int json_add_number(json_object *o, const char *key, uint64_t value);

/* An array of strings from a strv; nothing for an empty one. */
int json_add_list(json_object *o, const char *key, char *const *l);

/* *ret gets a copy, or stays where the field is missing. -EBADMSG: it is no string. */
int json_get_text(json_object *o, const char *key, char **ret);

/* Appends to *l what the array of strings holds; nothing where the field is missing. -EBADMSG: it is no such array. */
int json_get_list(json_object *o, const char *key, char ***l);

/* The string itself, NULL where it is missing or no string. */
const char *json_peek_text(json_object *o, const char *key);

/* -EBADMSG: missing, or no whole number. */
int json_get_number(json_object *o, const char *key, uint64_t *ret);

/* -EBADMSG: not one JSON value and nothing behind it. */
int json_parse(const char *text, size_t size_bytes, json_object **ret);
