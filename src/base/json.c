/* SPDX-License-Identifier: Apache-2.0 */

#include "base/json.h"

int json_add(json_object *o, const char *key, json_object *value) {
        if (!o || !value || json_object_object_add(o, key, value) < 0) {
                (void) json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_append(json_object *array, json_object *value) {
        if (!array || !value || json_object_array_add(array, value) < 0) {
                (void) json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_add_text(json_object *o, const char *key, const char *value) {
        return value ? json_add(o, key, json_object_new_string(value)) : 0;
}

int json_add_number(json_object *o, const char *key, uint64_t value) {
        return json_add(o, key, json_object_new_uint64(value));
}

int json_add_list(json_object *o, const char *key, char *const *l) {
        json_object *list;
        int r;

        if (strv_length(l) == 0)
                return 0;
        list = json_object_new_array();
        r = json_add(o, key, list);
        STRV_FOREACH (item, (char **) l)
                if (r >= 0)
                        r = json_append(list, json_object_new_string(*item));
        return r;
}

int json_get_list(json_object *o, const char *key, char ***l) {
        json_object *list;

        if (!json_object_object_get_ex(o, key, &list))
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *item = json_object_array_get_idx(list, i);

                if (!json_object_is_type(item, json_type_string))
                        return -EBADMSG;
                if (strv_extend(l, json_object_get_string(item)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

const char *json_peek_text(json_object *o, const char *key) {
        json_object *value;

        if (!json_object_object_get_ex(o, key, &value) || !json_object_is_type(value, json_type_string))
                return NULL;
        return json_object_get_string(value);
}

int json_get_text(json_object *o, const char *key, char **ret) {
        json_object *value;

        if (!json_object_object_get_ex(o, key, &value))
                return 0;
        if (!json_object_is_type(value, json_type_string))
                return -EBADMSG;
        return free_and_strdup(ret, json_object_get_string(value));
}

int json_get_number(json_object *o, const char *key, uint64_t *ret) {
        json_object *value;

        if (!json_object_object_get_ex(o, key, &value) || !json_object_is_type(value, json_type_int) ||
                        json_object_get_int64(value) < 0)
                return -EBADMSG;
        *ret = json_object_get_uint64(value);
        return 0;
}

/* json-c 0.18, of Debian 13, where it is strict takes the bytes of a letter beyond ASCII for control characters. */
static int strict_where_letters_pass(void) {
        static const char letter[] = "\"ä\"";
        json_tokener *tokener = json_tokener_new();
        json_object *o;

        if (!tokener)
                return 0;
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
        o = json_tokener_parse_ex(tokener, letter, (int) strlen(letter));
        (void) json_tokener_free(tokener);
        if (!o)
                return 0;
        (void) json_object_put(o);
        return JSON_TOKENER_STRICT;
}

int json_parse(const char *text, size_t size_bytes, json_object **ret) {
        json_tokener *tokener;
        json_object *o;
        size_t end;

        if (size_bytes > INT32_MAX)
                return -EBADMSG;
        tokener = json_tokener_new();
        if (!tokener)
                return -ENOMEM;
        json_tokener_set_flags(tokener, strict_where_letters_pass());
        o = json_tokener_parse_ex(tokener, text, (int) size_bytes);
        end = json_tokener_get_parse_end(tokener);
        (void) json_tokener_free(tokener);
        if (!o || strspn(text + end, " \n") != size_bytes - end) {
                (void) json_object_put(o);
                return -EBADMSG;
        }
        *ret = o;
        return 0;
}
