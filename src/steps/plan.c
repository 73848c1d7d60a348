/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/plan.h"

#include <systemd/sd-id128.h>

static const struct {
        const char *key;
        size_t offset;
        json_type type; /* json_type_string: char *, json_type_int: uint64_t */
} plan_fields[] = {
#define TEXT(field)                                                                                                   \
        { #field, offsetof(Plan, field), json_type_string }
#define NUMBER(field)                                                                                                 \
        { #field, offsetof(Plan, field), json_type_int }
        TEXT(id),
        TEXT(from),
        TEXT(to),
        TEXT(kind),
        TEXT(package),
        TEXT(arch),
        TEXT(target_path),
        TEXT(target_sha256),
        TEXT(old_path),
        TEXT(old_sha256),
        TEXT(unit),
        TEXT(enablement),
        TEXT(root_dir),
        TEXT(beside_dir),
        TEXT(etc_dir),
        TEXT(data_dir),
        TEXT(data_real),
        TEXT(log_dir),
        TEXT(user),
        TEXT(node_name),
        TEXT(mqtt_host),
        TEXT(management_host),
        NUMBER(mqtt_port),
        NUMBER(management_port),
        NUMBER(ctl_works),
        NUMBER(tree_bytes),
        NUMBER(down_since_realtime_usec),
        NUMBER(ready_since_realtime_usec),
#undef TEXT
#undef NUMBER
};

static char **text_field(const Plan *p, size_t i) {
        return (char **) ((char *) p + plan_fields[i].offset);
}

static uint64_t *number_field(const Plan *p, size_t i) {
        return (uint64_t *) ((char *) p + plan_fields[i].offset);
}

Plan *plan_free(Plan *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(plan_fields); i++)
                if (plan_fields[i].type == json_type_string)
                        free(*text_field(p, i));
        for (size_t i = 0; i < p->n_trees; i++) {
                free(p->trees[i].name);
                free(p->trees[i].path);
                free(p->trees[i].real);
                free(p->trees[i].link);
                free(p->trees[i].why);
        }
        free(p->trees);
        strv_free(p->kept_aside);
        return mfree(p);
}

int plan_new(const char *to, Plan **ret) {
        _cleanup_(plan_freep) Plan *p = calloc(1, sizeof(Plan));
        sd_id128_t id;
        int r;

        assert(to);
        assert(ret);

        if (!p)
                return -ENOMEM;
        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        p->id = malloc(PLAN_ID_SIZE);
        p->to = strdup(to);
        if (!p->id || !p->to)
                return -ENOMEM;
        (void) sd_id128_to_string(id, p->id);

        *ret = TAKE_PTR(p);
        return 0;
}

int plan_add_tree(Plan *p, const char *name, const char *path, const char *real, const char *link, const char *why) {
        PlanTree *larger, *t;

        larger = reallocarray(p->trees, p->n_trees + 1, sizeof(PlanTree));
        if (!larger)
                return -ENOMEM;
        p->trees = larger;

        t = &p->trees[p->n_trees++];
        *t = (PlanTree){ .name = strdup(name), .path = strdup(path), .real = strdup(real), .why = strdup(why) };
        return t->name && t->path && t->real && t->why ? free_and_strdup(&t->link, link) : -ENOMEM;
}

static int say_changed(const char *what, const char *was, const char *is, char **ret) {
        return asprintf(ret, "%s was %s and is %s now", what, was ?: "not there", is) < 0 ? -ENOMEM : 1;
}

int plan_changed(const Plan *p, const Plan *now, char **ret) {
        for (size_t i = 0; i < ELEMENTSOF(plan_fields); i++) {
                const char *was, *is;

                if (plan_fields[i].type != json_type_string)
                        continue;
                was = *text_field((Plan *) p, i);
                is = *text_field((Plan *) now, i);
                if (is && (!was || !streq(was, is)))
                        return say_changed(plan_fields[i].key, was, is, ret);
        }
        for (unsigned i = 0; i < 2; i++) {
                uint64_t was = i ? p->management_port : p->mqtt_port, is = i ? now->management_port : now->mqtt_port;

                if (was != is)
                        return asprintf(ret, "%s was %" PRIu64 " and is %" PRIu64 " now",
                                               i ? "management_port" : "mqtt_port", was, is) < 0
                                        ? -ENOMEM
                                        : 1;
        }
        for (size_t i = 0; i < MAX(p->n_trees, now->n_trees); i++) {
                const PlanTree *t = i < p->n_trees ? &p->trees[i] : NULL,
                               *n = i < now->n_trees ? &now->trees[i] : NULL;

                if (!t || !n || !streq(t->name, n->name) || !streq(t->real, n->real))
                        return say_changed(
                                        "a directory with data", t ? t->real : NULL, n ? n->real : "not there", ret);
        }
        return 0;
}

static int trees_to_json(const Plan *p, json_object *o) {
        json_object *list = json_object_new_array();
        int r;

        r = json_add(o, "trees", list);
        for (size_t i = 0; i < p->n_trees && r >= 0; i++) {
                json_object *tree = json_object_new_object();

                r = json_append(list, tree);
                if (r >= 0)
                        r = json_add_text(tree, "name", p->trees[i].name);
                if (r >= 0)
                        r = json_add_text(tree, "path", p->trees[i].path);
                if (r >= 0)
                        r = json_add_text(tree, "real", p->trees[i].real);
                if (r >= 0)
                        r = json_add_text(tree, "link", p->trees[i].link);
                if (r >= 0)
                        r = json_add_number(tree, "bytes", p->trees[i].bytes);
                if (r >= 0)
                        r = json_add_text(tree, "why", p->trees[i].why);
        }
        return r;
}

static int kept_aside_to_json(const Plan *p, json_object *o) {
        json_object *list;
        int r;

        if (!p->kept_aside)
                return 0;
        list = json_object_new_array();
        r = json_add(o, "kept_aside", list);
        STRV_FOREACH (path, p->kept_aside)
                if (r >= 0)
                        r = json_append(list, json_object_new_string(*path));
        return r;
}

int plan_to_json(const Plan *p, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(plan_fields) && r >= 0; i++)
                r = plan_fields[i].type == json_type_int ? json_add_number(o, plan_fields[i].key, *number_field(p, i))
                                                         : json_add_text(o, plan_fields[i].key, *text_field(p, i));
        if (r >= 0)
                r = trees_to_json(p, o);
        if (r >= 0)
                r = kept_aside_to_json(p, o);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int trees_from_json(Plan *p, json_object *o) {
        json_object *list;

        if (!json_object_object_get_ex(o, "trees", &list))
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *tree = json_object_array_get_idx(list, i);
                const char *name = json_peek_text(tree, "name"), *path = json_peek_text(tree, "path"),
                           *real = json_peek_text(tree, "real"), *why = json_peek_text(tree, "why");
                int r;

                /* The name becomes a path below ours. */
                if (!name || !path || !real || !why || strchr(name, '/') || name[0] == '.' || !name[0] ||
                                path[0] != '/' || real[0] != '/')
                        return -EBADMSG;
                r = plan_add_tree(p, name, path, real, json_peek_text(tree, "link"), why);
                if (r >= 0)
                        r = json_get_number(tree, "bytes", &p->trees[i].bytes);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int kept_aside_from_json(Plan *p, json_object *o) {
        json_object *list;

        if (!json_object_object_get_ex(o, "kept_aside", &list))
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *path = json_object_array_get_idx(list, i);

                if (!json_object_is_type(path, json_type_string))
                        return -EBADMSG;
                if (strv_extend(&p->kept_aside, json_object_get_string(path)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

int plan_from_json(json_object *o, Plan **ret) {
        _cleanup_(plan_freep) Plan *p = calloc(1, sizeof(Plan));
        int r;

        assert(ret);

        if (!p)
                return -ENOMEM;
        if (!json_object_is_type(o, json_type_object))
                return -EBADMSG;

        for (size_t i = 0; i < ELEMENTSOF(plan_fields); i++) {
                if (plan_fields[i].type == json_type_string)
                        r = json_get_text(o, plan_fields[i].key, text_field(p, i));
                else
                        r = json_get_number(o, plan_fields[i].key, number_field(p, i));
                if (r < 0)
                        return r;
        }

        r = trees_from_json(p, o);
        if (r >= 0)
                r = kept_aside_from_json(p, o);
        if (r < 0)
                return r;
        if (!p->id || strlen(p->id) != PLAN_ID_SIZE - 1 || p->id[strspn(p->id, "0123456789abcdef")] || !p->to)
                return -EBADMSG;

        *ret = TAKE_PTR(p);
        return 0;
}

usec_t plan_downtime_usec(const Plan *p) {
        usec_t end;

        if (p->down_since_realtime_usec == 0)
                return 0;
        end = p->ready_since_realtime_usec ?: now_usec(CLOCK_REALTIME);
        return end > p->down_since_realtime_usec ? end - p->down_since_realtime_usec : 0;
}
