/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/baseline.h"

#include "node/listing.h"

static const struct {
        const char *key;
        size_t offset;
} lists[] = {
#define LIST(field)                                                                                                   \
        { #field, offsetof(Baseline, field) }
        LIST(not_asked),
        LIST(listeners),
        LIST(plugins),
        LIST(modules),
        LIST(rules),
        LIST(rules_enabled),
        LIST(resources),
        LIST(resources_alive),
        LIST(alarms),
        LIST(drop_ins),
        LIST(retained_samples),
#undef LIST
}, numbers[] = {
#define NUMBER(field)                                                                                                 \
        { #field, offsetof(Baseline, field) }
        NUMBER(connections),
        NUMBER(sessions),
        NUMBER(subscriptions),
        NUMBER(retained),
        NUMBER(peers),
        NUMBER(n_restarts),
        NUMBER(mqtt_reach),
#undef NUMBER
};

static char ***list_field(const Baseline *b, size_t i) {
        return (char ***) ((char *) b + lists[i].offset);
}

static uint64_t *number_field(const Baseline *b, size_t i) {
        return (uint64_t *) ((char *) b + numbers[i].offset);
}

void baseline_done(Baseline *b) {
        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                strv_free(*list_field(b, i));
        free(b->retained_why_none);
        *b = (Baseline){ NULL };
}

/* --- from the node --- */

/* One name in a line. */
static int take_alarms(const char *text, char ***ret) {
        _cleanup_strv_ char **list = NULL;

        for (const char *p = text; *p;) {
                size_t n = strcspn(p, "\r\n");

                if (n > 0 && strv_extendf(&list, "%.*s", (int) n, p) < 0)
                        return -ENOMEM;
                p += n;
                p += strspn(p, "\r\n");
        }
        strv_sort_unique(list);
        *ret = TAKE_PTR(list);
        return 0;
}

static int take_statistics(const char *text, Baseline *b) {
        int r;

        r = stat_parse(text, "connections.count", &b->connections);
        if (r >= 0)
                r = stat_parse(text, "sessions.count", &b->sessions);
        if (r >= 0)
                r = stat_parse(text, "subscriptions.count", &b->subscriptions);
        if (r >= 0 && stat_parse(text, "retained.count", &b->retained) < 0)
                b->retained = 0; /* the retainer is not loaded */
        return r;
}

static int take_peers(const char *text, uint64_t *ret) {
        char *end;
        unsigned long n = strtoul(text, &end, 10);

        if (end == text)
                return -EBADMSG;
        *ret = n;
        return 0;
}

static int take_part(Baseline *b, SurveyPart part, const char *text) {
        switch (part) {
        case SURVEY_PEERS: return take_peers(text, &b->peers);
        case SURVEY_ALARMS: return take_alarms(text, &b->alarms);
        case SURVEY_STATS: return take_statistics(text, b);
        case SURVEY_LISTENERS: return listeners_parse(text, &b->listeners);
        case SURVEY_PLUGINS: return plugins_parse(text, &b->plugins);
        case SURVEY_MODULES: return modules_parse(text, &b->modules);
        case SURVEY_RULES: return rules_parse(text, &b->rules, &b->rules_enabled);
        case SURVEY_RESOURCES: return resources_parse(text, &b->resources, &b->resources_alive);
        default: return 0;
        }
}

int baseline_take(Baseline *b, const Survey *s) {
        for (SurveyPart part = 0; part < _SURVEY_PART_MAX; part++) {
                const char *text = survey_text(s, part);
                int r = text ? take_part(b, part, text) : -EBADMSG;

                if (r == -EBADMSG)
                        r = strv_extend(&b->not_asked, survey_part_name(part));
                if (r < 0)
                        return r;
        }
        return 0;
}

char *baseline_text(const Baseline *b) {
        _cleanup_free_ char *not_asked = strv_join(b->not_asked, ", ");
        char *text;

        if (!not_asked)
                return NULL;
        return asprintf(&text,
                               "%zu listeners, %zu plugins, %zu modules, %zu rules, %zu resources (%zu alive), %zu alarms; "
                               "%" PRIu64 " connections, %" PRIu64 " sessions, %" PRIu64 " subscriptions, %" PRIu64
                               " retained messages%s%s%s%s",
                               strv_length(b->listeners), strv_length(b->plugins), strv_length(b->modules),
                               strv_length(b->rules), strv_length(b->resources), strv_length(b->resources_alive),
                               strv_length(b->alarms), b->connections, b->sessions, b->subscriptions, b->retained,
                               b->retained_why_none ? "; retained messages will not be looked for: " : "",
                               b->retained_why_none ?: "", *not_asked ? "; not to be asked: " : "", not_asked) < 0
                        ? NULL
                        : text;
}

/* --- JSON --- */

int baseline_to_json(const Baseline *b, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(lists) && r >= 0; i++)
                r = json_add_list(o, lists[i].key, *list_field(b, i));
        for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                r = json_add_number(o, numbers[i].key, *number_field(b, i));
        if (r >= 0)
                r = json_add_text(o, "retained_why_none", b->retained_why_none);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

int baseline_from_json(json_object *o, Baseline *b) {
        int r = json_object_is_type(o, json_type_object) ? 0 : -EBADMSG;

        for (size_t i = 0; i < ELEMENTSOF(lists) && r >= 0; i++)
                r = json_get_list(o, lists[i].key, list_field(b, i));
        for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                if (json_object_object_get_ex(o, numbers[i].key, NULL))
                        r = json_get_number(o, numbers[i].key, number_field(b, i));
        return r < 0 ? r : json_get_text(o, "retained_why_none", &b->retained_why_none);
}
