/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/plan.h"

#include <systemd/sd-id128.h>

#include "journal/log.h"

#define CHECKS_MAX 128
#define CHECK_TEXT_BYTES_MAX 1024

static const struct {
        const char *key;
        size_t offset;
        json_type type; /* json_type_string: char *, json_type_int: uint64_t */
        bool optional;  /* a number that is 0 where it is missing */
} plan_fields[] = {
#define TEXT(field)                                                                                                   \
        { #field, offsetof(Plan, field), json_type_string }
#define NUMBER(field)                                                                                                 \
        { #field, offsetof(Plan, field), json_type_int }
#define OPTIONAL_NUMBER(field)                                                                                        \
        { #field, offsetof(Plan, field), json_type_int, .optional = true }
        TEXT(id),
        TEXT(from),
        TEXT(to),
        TEXT(settings),
        TEXT(kind),
        TEXT(package),
        TEXT(arch),
        TEXT(target_path),
        TEXT(target_sha256),
        TEXT(old_path),
        TEXT(old_sha256),
        TEXT(hold),
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
        TEXT(vm),
        TEXT(mqtt_host),
        TEXT(management_host),
        TEXT(configuration_sha256),
        OPTIONAL_NUMBER(held),
        NUMBER(mqtt_port),
        NUMBER(management_port),
        NUMBER(ctl_works),
        OPTIONAL_NUMBER(old_program_bytes),
        NUMBER(tree_bytes),
        OPTIONAL_NUMBER(program_bytes),
        OPTIONAL_NUMBER(predicted_downtime_usec),
        NUMBER(down_since_realtime_usec),
        NUMBER(ready_since_realtime_usec),
        NUMBER(adapted_realtime_usec),
#undef TEXT
#undef NUMBER
#undef OPTIONAL_NUMBER
};

static char **text_field(const Plan *p, size_t i) {
        return (char **) ((char *) p + plan_fields[i].offset);
}

static uint64_t *number_field(const Plan *p, size_t i) {
        return (uint64_t *) ((char *) p + plan_fields[i].offset);
}

static const char *const outcome_names[_CHECK_KEPT_MAX] = {
        [CHECK_PASSED] = "passed",
        [CHECK_WARNED] = "warned",
        [CHECK_REFUSED] = "refused",
};

const char *check_outcome_name(CheckOutcome outcome) {
        return outcome_names[outcome];
}

static void plan_check_done(PlanCheck *k) {
        free(k->step);
        free(k->name);
        free(k->text);
        free(k->advice);
}

static void adapted_done(PlanAdapted *a) {
        free(a->file);
        free(a->tree);
        free(a->path);
        free(a->sha256);
        free(a->sha256_adapted);
        strv_free(a->dropped);
}

void plan_forget_adapted(Plan *p) {
        for (size_t i = 0; i < p->n_adapted; i++)
                adapted_done(&p->adapted[i]);
        p->adapted = mfree(p->adapted);
        p->n_adapted = 0;
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
        for (size_t i = 0; i < p->n_checks; i++)
                plan_check_done(&p->checks[i]);
        free(p->checks);
        strv_free(p->mounts);
        strv_free(p->members);
        plan_forget_adapted(p);
        plan_clear_reserves(p);
        strv_free(p->kept_aside);
        strv_free(p->log_marks);
        baseline_done(&p->baseline);
        return mfree(p);
}

bool plan_is_id(const char *s) {
        return strlen(s) == PLAN_ID_SIZE - 1 && s[strspn(s, "0123456789abcdef")] == 0;
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

/* 1 with *ret; 0: there is no room for one more. */
static int place_for_check(Plan *p, const char *step, const char *name, PlanCheck **ret) {
        PlanCheck *larger;

        for (size_t i = 0; i < p->n_checks; i++)
                if (streq(p->checks[i].step, step) && streq(p->checks[i].name, name)) {
                        *ret = &p->checks[i];
                        return 1;
                }
        if (p->n_checks >= CHECKS_MAX)
                return 0;
        larger = reallocarray(p->checks, p->n_checks + 1, sizeof(PlanCheck));
        if (!larger)
                return -ENOMEM;
        p->checks = larger;
        *ret = &p->checks[p->n_checks++];
        **ret = (PlanCheck){ .step = NULL };
        return 1;
}

int plan_keep_check(Plan *p, const char *step, const char *name, CheckOutcome outcome, const char *text,
                const char *advice) {
        PlanCheck *place,
                        k = { strdup(step), strdup(name), outcome, journal_line(text, CHECK_TEXT_BYTES_MAX),
                                advice ? journal_line(advice, CHECK_TEXT_BYTES_MAX) : NULL };
        int r = -ENOMEM;

        assert(outcome < _CHECK_KEPT_MAX);

        if (k.step && k.name && k.text && (k.advice || !advice))
                r = place_for_check(p, step, name, &place);
        if (r <= 0) {
                plan_check_done(&k);
                return r;
        }
        plan_check_done(place);
        *place = k;
        return 0;
}

int plan_add_adapted(Plan *p, const PlanAdapted *adapted) {
        PlanAdapted *larger, *a;

        larger = reallocarray(p->adapted, p->n_adapted + 1, sizeof(PlanAdapted));
        if (!larger)
                return -ENOMEM;
        p->adapted = larger;

        a = &p->adapted[p->n_adapted++];
        *a = (PlanAdapted){ .file = strdup(adapted->file),
                .tree = strdup(adapted->tree),
                .path = strdup(adapted->path),
                .sha256 = strdup(adapted->sha256),
                .sha256_adapted = strdup(adapted->sha256_adapted),
                .dropped = strv_copy(adapted->dropped) };
        return a->file && a->tree && a->path && a->sha256 && a->sha256_adapted && a->dropped ? 0 : -ENOMEM;
}

int plan_add_reserve(Plan *p, const char *path, uint64_t bytes) {
        PlanReserve *larger = reallocarray(p->reserves, p->n_reserves + 1, sizeof(PlanReserve));

        if (!larger)
                return -ENOMEM;
        p->reserves = larger;
        p->reserves[p->n_reserves] = (PlanReserve){ strdup(path), bytes };
        return p->reserves[p->n_reserves++].path ? 0 : -ENOMEM;
}

void plan_clear_reserves(Plan *p) {
        for (size_t i = 0; i < p->n_reserves; i++)
                free(p->reserves[i].path);
        p->reserves = mfree(p->reserves);
        p->n_reserves = 0;
}

static int say_changed(const char *what, const char *was, const char *is, char **ret) {
        return asprintf(ret, "%s was %s and is %s now", what, was ?: "not there", is) < 0 ? -ENOMEM : 1;
}

int plan_changed(const Plan *p, const Plan *now, char **ret) {
        for (size_t i = 0; i < ELEMENTSOF(plan_fields); i++) {
                const char *was, *is;

                if (plan_fields[i].type != json_type_string ||
                                plan_fields[i].offset == offsetof(Plan, configuration_sha256))
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
        STRV_FOREACH (mount, p->mounts)
                if (!strv_contains(now->mounts, *mount))
                        return say_changed(*mount, "a mount point", "none", ret);
        /* Last: whatever of it has a name of its own has been named. */
        if (now->configuration_sha256 && !streq_ptr(p->configuration_sha256, now->configuration_sha256))
                return (*ret = strdup("the configuration, as it was when the new version was asked about it, was edited"))
                                ? 1
                                : -ENOMEM;
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
                        r = json_add_number(tree, "entries", p->trees[i].entries);
                if (r >= 0)
                        r = json_add_text(tree, "why", p->trees[i].why);
        }
        return r;
}

static int checks_to_json(const Plan *p, json_object *o) {
        json_object *list = json_object_new_array();
        int r;

        r = json_add(o, "checks", list);
        for (size_t i = 0; i < p->n_checks && r >= 0; i++) {
                json_object *check = json_object_new_object();

                r = json_append(list, check);
                if (r >= 0)
                        r = json_add_text(check, "step", p->checks[i].step);
                if (r >= 0)
                        r = json_add_text(check, "name", p->checks[i].name);
                if (r >= 0)
                        r = json_add_text(check, "outcome", outcome_names[p->checks[i].outcome]);
                if (r >= 0)
                        r = json_add_text(check, "text", p->checks[i].text);
                if (r >= 0)
                        r = json_add_text(check, "advice", p->checks[i].advice);
        }
        return r;
}

static int reserves_to_json(const Plan *p, json_object *o) {
        json_object *list = json_object_new_array();
        int r;

        r = json_add(o, "reserves", list);
        for (size_t i = 0; i < p->n_reserves && r >= 0; i++) {
                json_object *reserve = json_object_new_object();

                r = json_append(list, reserve);
                if (r >= 0)
                        r = json_add_text(reserve, "path", p->reserves[i].path);
                if (r >= 0)
                        r = json_add_number(reserve, "bytes", p->reserves[i].bytes);
        }
        return r;
}

static int baseline_add(const Plan *p, json_object *o) {
        json_object *baseline;
        int r;

        r = baseline_to_json(&p->baseline, &baseline);
        return r < 0 ? r : json_add(o, "baseline", baseline);
}

static int adapted_to_json(const Plan *p, json_object *o) {
        json_object *list;
        int r;

        if (p->n_adapted == 0)
                return 0;
        list = json_object_new_array();
        r = json_add(o, "adapted", list);
        for (size_t i = 0; i < p->n_adapted && r >= 0; i++) {
                const PlanAdapted *a = &p->adapted[i];
                json_object *file = json_object_new_object();

                r = json_append(list, file);
                if (r >= 0)
                        r = json_add_text(file, "file", a->file);
                if (r >= 0)
                        r = json_add_text(file, "tree", a->tree);
                if (r >= 0)
                        r = json_add_text(file, "path", a->path);
                if (r >= 0)
                        r = json_add_text(file, "sha256", a->sha256);
                if (r >= 0)
                        r = json_add_text(file, "sha256_adapted", a->sha256_adapted);
                if (r >= 0)
                        r = json_add_list(file, "dropped", a->dropped);
        }
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
                r = checks_to_json(p, o);
        if (r >= 0)
                r = reserves_to_json(p, o);
        if (r >= 0)
                r = adapted_to_json(p, o);
        if (r >= 0)
                r = baseline_add(p, o);
        if (r >= 0)
                r = json_add_list(o, "log_marks", p->log_marks);
        if (r >= 0)
                r = json_add_list(o, "members", p->members);
        if (r >= 0)
                r = json_add_list(o, "mounts", p->mounts);
        if (r >= 0)
                r = json_add_list(o, "kept_aside", p->kept_aside);
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
                if (r >= 0)
                        r = json_get_number(tree, "entries", &p->trees[i].entries);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int checks_from_json(Plan *p, json_object *o) {
        json_object *list;

        if (!json_object_object_get_ex(o, "checks", &list)) /* a record from before they were kept */
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *check = json_object_array_get_idx(list, i);
                const char *step = json_peek_text(check, "step"), *name = json_peek_text(check, "name"),
                           *word = json_peek_text(check, "outcome"), *text = json_peek_text(check, "text");
                CheckOutcome outcome = 0;
                int r;

                while (word && outcome < _CHECK_KEPT_MAX && !streq(word, outcome_names[outcome]))
                        outcome++;
                if (!step || !name || !word || !text || outcome == _CHECK_KEPT_MAX)
                        return -EBADMSG;
                r = plan_keep_check(p, step, name, outcome, text, json_peek_text(check, "advice"));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int reserves_from_json(Plan *p, json_object *o) {
        json_object *list;

        if (!json_object_object_get_ex(o, "reserves", &list))
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *reserve = json_object_array_get_idx(list, i);
                const char *path = json_peek_text(reserve, "path");
                uint64_t bytes;
                int r;

                if (!path || path[0] != '/' || json_get_number(reserve, "bytes", &bytes) < 0)
                        return -EBADMSG;
                r = plan_add_reserve(p, path, bytes);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int adapted_from_json(Plan *p, json_object *o) {
        json_object *list;

        if (!json_object_object_get_ex(o, "adapted", &list))
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *file = json_object_array_get_idx(list, i);
                PlanAdapted a = { .file = (char *) json_peek_text(file, "file"),
                        .tree = (char *) json_peek_text(file, "tree"),
                        .path = (char *) json_peek_text(file, "path"),
                        .sha256 = (char *) json_peek_text(file, "sha256"),
                        .sha256_adapted = (char *) json_peek_text(file, "sha256_adapted") };
                int r;

                /* The path is one below ours. */
                if (!a.file || !a.tree || !a.path || !a.sha256 || strlen(a.sha256_adapted ?: "") != 64 ||
                                a.path[0] == '/' || strstr(a.path, ".."))
                        return -EBADMSG;
                r = json_get_list(file, "dropped", &a.dropped);
                if (r >= 0)
                        r = a.dropped ? plan_add_adapted(p, &a) : -EBADMSG;
                strv_free(a.dropped);
                if (r < 0)
                        return r;
        }
        return 0;
}

int plan_from_json(json_object *o, Plan **ret) {
        _cleanup_(plan_freep) Plan *p = calloc(1, sizeof(Plan));
        json_object *baseline;
        int r;

        assert(ret);

        if (!p)
                return -ENOMEM;
        if (!json_object_is_type(o, json_type_object))
                return -EBADMSG;

        for (size_t i = 0; i < ELEMENTSOF(plan_fields); i++) {
                if (plan_fields[i].type == json_type_string)
                        r = json_get_text(o, plan_fields[i].key, text_field(p, i));
                else if (plan_fields[i].optional && !json_object_object_get_ex(o, plan_fields[i].key, NULL))
                        r = 0;
                else
                        r = json_get_number(o, plan_fields[i].key, number_field(p, i));
                if (r < 0)
                        return r;
        }

        r = trees_from_json(p, o);
        if (r >= 0)
                r = checks_from_json(p, o);
        if (r >= 0)
                r = reserves_from_json(p, o);
        if (r >= 0)
                r = adapted_from_json(p, o);
        if (r >= 0)
                r = json_get_list(o, "kept_aside", &p->kept_aside);
        if (r >= 0)
                r = json_get_list(o, "log_marks", &p->log_marks);
        if (r >= 0 && json_object_object_get_ex(o, "baseline", &baseline))
                r = baseline_from_json(baseline, &p->baseline);
        if (r >= 0)
                r = json_get_list(o, "members", &p->members);
        if (r >= 0)
                r = json_get_list(o, "mounts", &p->mounts);
        if (r < 0)
                return r;
        if (!p->id || !plan_is_id(p->id) || !p->to)
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
