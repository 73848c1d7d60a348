/* SPDX-License-Identifier: Apache-2.0 */

/* The questions themselves; who asks them how often is accept.c's. */

#include "steps/accepting.h"

#include <stdarg.h>

#include "base/process.h"
#include "base/sha256.h"
#include "bus/unit.h"
#include "node/node.h"
#include "node/probe.h"
#include "node/status.h"
#include "steps/ask.h"
#include "steps/control.h"

#define PROBE_TIMEOUT_USEC (5 * USEC_PER_SEC)
#define NAMES_SHOWN_MAX 5

void acceptance_done(Acceptance *a) {
        survey_done(&a->survey);
        baseline_done(&a->now);
        a->log = node_log_free(a->log);
        a->failure = mfree(a->failure);
        a->text = mfree(a->text);
}

static void found(Acceptance *a, const char *format, ...) _printf_(2, 3);

static void found(Acceptance *a, const char *format, ...) {
        va_list ap;

        free(a->text);
        va_start(ap, format);
        a->text = format_text(format, ap);
        va_end(ap);
}

static int no_opinion(Acceptance *a, const char *why) {
        found(a, "not compared: %s", why);
        return 1;
}

/* --- systemd and processes --- */

static int unit_is_active(Acceptance *a, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        const Plan *p = a->c->plan;
        int r;

        r = unit_state_get(a->c->manager, p->unit, &state, reterr);
        if (r < 0)
                return r;
        /* On the way back it may be the old one still, with its past. */
        if (state.n_restarts > (a->back ? p->baseline.n_restarts : 0))
                return error_set(reterr, -ECANCELED, NULL, "systemd had to restart %s", p->unit);
        STRV_FOREACH (path, p->baseline.drop_ins)
                if (startswith(*path, "/etc/") && !strv_contains(state.drop_in_paths, *path)) {
                        /* Nothing of what is backed up, and so nothing that the old version gets back. */
                        if (!a->back)
                                return error_set(reterr, -ECANCELED, NULL, "%s has lost its drop-in %s", p->unit,
                                                *path);
                        a->warned = true;
                        found(a, "the unit is active, but has lost its drop-in %s: put it back", *path);
                }
        if (streq(state.active_state, "active"))
                return 1;
        (void) error_set(reterr, -EAGAIN, NULL, "%s is %s (%s)", p->unit, state.active_state, state.sub_state);
        return streq(state.active_state, "activating") ? 0 : -ECANCELED;
}

/* The VM that was ready, in the unit's control group; after a reboot another one, which may not be there yet. */
static int vm_runs(Acceptance *a, Error *reterr) {
        _cleanup_free_ char *identity = NULL;
        _cleanup_free_ pid_t *pids = NULL;
        Plan *p = a->c->plan;
        bool known = node_vm_is_of_this_boot(p);
        size_t n;
        pid_t vm;
        int r;

        r = node_vm(p, &vm);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look for processes of the node: %m");
        if (vm == 0 || node_vm_identity(vm, &identity) < 0) {
                (void) error_set(reterr, -ECANCELED, NULL,
                                known ? "The node's VM has ended" : "The node's VM does not run");
                return known ? -ECANCELED : 0;
        }
        if (known && !streq(identity, p->vm))
                return error_set(reterr, -ECANCELED, NULL, "The node's VM was restarted");

        r = unit_processes(a->c->manager, p->unit, &pids, &n, reterr);
        if (r < 0)
                return r;
        if (pids_contain(pids, n, vm))
                return free_and_strdup(&p->vm, identity) < 0 ? -ENOMEM : 1;
        return error_set(reterr, -ECANCELED, NULL, "The node's VM (process %i) does not belong to %s", vm, p->unit);
}

/* --- what the node says --- */

/* 1: there is a survey, made anew where the last one was not good enough; 0: not yet. */
static int surveyed(Acceptance *a, Error *reterr) {
        int r;

        if (a->surveyed && !a->refresh)
                return 1;
        survey_done(&a->survey);
        baseline_done(&a->now);
        a->surveyed = a->refresh = false;
        r = node_survey(a->c, &a->survey, reterr);
        if (r == -EAGAIN || r == -ETIMEDOUT)
                return 0;
        if (r >= 0)
                r = baseline_take(&a->now, &a->survey);
        if (r < 0)
                return r;
        a->surveyed = true;
        return 1;
}

/* 1: the node did part; 0: not yet; 2: nor did the old version. *ret_text (optional) is the survey's. */
static int answered(Acceptance *a, SurveyPart part, const char **ret_text, Error *reterr) {
        const char *text;
        int r;

        if (!baseline_asked(&a->c->plan->baseline, part)) {
                (void) no_opinion(a, "the node could not be asked before");
                return 2;
        }
        r = surveyed(a, reterr);
        if (r <= 0)
                return r;
        text = survey_text(&a->survey, part);
        if (!text || !baseline_asked(&a->now, part)) {
                (void) error_set(reterr, -EAGAIN, NULL, "The node does not tell its %s", survey_part_name(part));
                return 0;
        }
        if (ret_text)
                *ret_text = text;
        return 1;
}

static int ctl_says_started(Acceptance *a, Error *reterr) {
        bool started;
        const char *text;
        int r;

        r = answered(a, SURVEY_STATUS, &text, reterr);
        if (r != 1)
                return r;
        if (status_parse(text, NULL, NULL, &started) >= 0 && started)
                return 1;
        (void) error_set(reterr, -EAGAIN, NULL, "`emqx_ctl status` does not say that the node is started");
        return 0;
}

static int broker_has_version(Acceptance *a, Error *reterr) {
        _cleanup_free_ char *version = NULL;
        const char *text;
        int r;

        r = answered(a, SURVEY_BROKER, &text, reterr);
        if (r != 1)
                return r;
        r = broker_version_parse(text, &version);
        if (r < 0) {
                (void) error_set(reterr, -EAGAIN, NULL, "`emqx_ctl broker` does not say its version");
                return 0;
        }
        return streq(version, a->version)
                        ? 1
                        : error_set(reterr, -ECANCELED, NULL, "The node says that it runs %s, not %s", version,
                                          a->version);
}

static int application_runs(Acceptance *a, Error *reterr) {
        int r = answered(a, SURVEY_APPLICATION, NULL, reterr);

        return MIN(r, 1);
}

static int tables_are_loaded(Acceptance *a, Error *reterr) {
        const SurveyAnswer *answer = &a->survey.answers[SURVEY_TABLES];
        int r = answered(a, SURVEY_TABLES, NULL, reterr);

        if (r == 0 && a->surveyed && answer->text && reterr) {
                error_done(reterr);
                (void) error_set(reterr, -EAGAIN, NULL, "These tables are not loaded: %.*s",
                                (int) strcspn(answer->text, "\r\n"), answer->text);
        }
        return MIN(r, 1);
}

/* --- the baseline --- */

/* "a, b and 3 more" of what is in l and not in other; NULL: nothing is, or out of memory. */
static char *only_in(char **l, char **other) {
        _cleanup_strv_ char **names = NULL;
        size_t n = 0;

        STRV_FOREACH (name, l)
                if (!strv_contains(other, *name) && n++ < NAMES_SHOWN_MAX && strv_extend(&names, *name) < 0)
                        return NULL;
        if (n > NAMES_SHOWN_MAX && strv_extendf(&names, "and %zu more", n - NAMES_SHOWN_MAX) < 0)
                return NULL;
        return names ? strv_join(names, ", ") : NULL;
}

/* Anybody can make rules meanwhile, on any member of a cluster; a listener may have been stopped for draining, or be in
 * emqx.conf since before the stop. Plugins and modules are what the restored files say. */
static bool may_grow(SurveyPart part) {
        return part == SURVEY_LISTENERS || part == SURVEY_RULES || part == SURVEY_RESOURCES;
}

/* When the node says that it is started, everything of it is loaded: what is missing then will not come. */
static int same_names(Acceptance *a, SurveyPart part, char **before, char **now, Error *reterr) {
        _cleanup_free_ char *missing = NULL, *added = NULL;
        const char *what = survey_part_name(part);

        missing = only_in(before, now);
        added = only_in(now, before);
        if (!missing && added && may_grow(part)) {
                a->warned = true;
                found(a, "its %s are as before; not there before: %s", what, added);
                return 1;
        }
        if (missing || added)
                return error_set(reterr, -ECANCELED, NULL, "Its %s are not as before%s%s%s%s", what,
                                missing ? "; missing: " : "", missing ?: "", added ? "; not there before: " : "",
                                added ?: "");
        found(a, "its %s are as before (%zu)", what, strv_length(now));
        return 1;
}

/* 1: it accepts; 0: not yet. Whatever it speaks, without a word to it. */
static int accepts_tcp(const char *listener, Error *reterr) {
        static const char *const not_tcp[] = { "udp", "dtls", "quic" };
        const char *address = strchr(listener, ' ');
        _cleanup_(error_done) Error why = ERROR_NULL;
        _cleanup_free_ char *host = NULL;
        unsigned port;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(not_tcp); i++)
                if (strstr(listener, not_tcp[i]))
                        return 1;
        if (!address || node_listener_parse(address + 1, &host, &port) < 0)
                return 1; /* whatever that is, the node is content with it */
        r = probe_tcp(host, port, PROBE_TIMEOUT_USEC, &why);
        if (r >= 0)
                return 1;
        (void) error_set(reterr, r, NULL, "Listener %s accepts no connection: %s", listener, error_text(&why, r));
        return 0;
}

static int listeners_are_same(Acceptance *a, Error *reterr) {
        int r;

        r = answered(a, SURVEY_LISTENERS, NULL, reterr);
        if (r != 1)
                return MIN(r, 1);
        r = same_names(a, SURVEY_LISTENERS, a->c->plan->baseline.listeners, a->now.listeners, reterr);
        STRV_FOREACH (listener, a->now.listeners)
                if (r > 0)
                        r = accepts_tcp(*listener, reterr);
        return r;
}

/* EMQX's upgrade document says of this one that it may have to be activated afterwards. */
static int plugins_are_same(Acceptance *a, Error *reterr) {
        static const char schema_registry[] = "emqx_schema_registry";
        _cleanup_strv_ char **expected = NULL;
        char **before = a->c->plan->baseline.plugins;
        int r;

        r = answered(a, SURVEY_PLUGINS, NULL, reterr);
        if (r != 1)
                return MIN(r, 1);
        STRV_FOREACH (name, before)
                if ((!streq(*name, schema_registry) || strv_contains(a->now.plugins, *name)) &&
                                strv_extend(&expected, *name) < 0)
                        return -ENOMEM;
        r = same_names(a, SURVEY_PLUGINS, expected, a->now.plugins, reterr);
        if (r > 0 && strv_length(expected) < strv_length(before)) {
                a->warned = true;
                found(a, "its plugins are as before, but for %s. Activate it: emqx_ctl plugins load %s",
                                schema_registry, schema_registry);
        }
        return r;
}

static int modules_are_same(Acceptance *a, Error *reterr) {
        int r = answered(a, SURVEY_MODULES, NULL, reterr);

        return r != 1 ? MIN(r, 1)
                      : same_names(a, SURVEY_MODULES, a->c->plan->baseline.modules, a->now.modules, reterr);
}

static int rules_are_same(Acceptance *a, Error *reterr) {
        const Baseline *before = &a->c->plan->baseline;
        _cleanup_free_ char *disabled = NULL;
        int r;

        r = answered(a, SURVEY_RULES, NULL, reterr);
        if (r == 1)
                r = same_names(a, SURVEY_RULES, before->rules, a->now.rules, reterr);
        if (r != 1)
                return MIN(r, 1);
        disabled = only_in(before->rules_enabled, a->now.rules_enabled);
        return disabled ? error_set(reterr, -ECANCELED, NULL, "Rules are not enabled any more: %s", disabled) : 1;
}

/* They connect in the background. */
static int resources_are_same(Acceptance *a, Error *reterr) {
        const Baseline *before = &a->c->plan->baseline;
        _cleanup_free_ char *dead = NULL;
        int r;

        r = answered(a, SURVEY_RESOURCES, NULL, reterr);
        if (r == 1)
                r = same_names(a, SURVEY_RESOURCES, before->resources, a->now.resources, reterr);
        if (r != 1)
                return MIN(r, 1);
        dead = only_in(before->resources_alive, a->now.resources_alive);
        if (!dead)
                return 1;
        (void) error_set(reterr, -EAGAIN, "Look at what they connect to.",
                        "Resources were alive before and are not now: %s", dead);
        return 0;
}

/* One for each connection of some client is that client's affair. */
static int no_alarm_is_new(Acceptance *a, Error *reterr) {
        _cleanup_strv_ char **ours = NULL;
        _cleanup_free_ char *added = NULL;
        int r;

        r = answered(a, SURVEY_ALARMS, NULL, reterr);
        if (r != 1)
                return MIN(r, 1);
        STRV_FOREACH (name, a->now.alarms)
                if (!strstr(*name, "conn_congestion/") && strv_extend(&ours, *name) < 0)
                        return -ENOMEM;
        added = only_in(ours, a->c->plan->baseline.alarms);
        if (!added)
                return 1;
        (void) error_set(reterr, -EAGAIN, "See: emqx eval 'emqx_alarm:get_alarms(activated)'",
                        "Alarms are activated that were not before: %s", added);
        return 0;
}

/* --- its log --- */

static void on_log_line(const char *file, const char *line, void *userdata) {
        NodeLineKind kind = node_line_classify(file, line);
        Acceptance *a = userdata;

        if (!a->failure && (kind == NODE_LINE_FATAL || kind == NODE_LINE_FAILURE) &&
                        asprintf(&a->failure, "%s (%s)", line, file) < 0)
                a->failure = NULL;
}

/* All that this VM has written, also before this process was there. */
static int log_is_clean(Acceptance *a, Error *reterr) {
        int r = 0;

        if (!a->log)
                r = node_log_open(a->c->plan->log_dir, a->c->plan->log_marks, &a->log, reterr);
        if (r < 0)
                return r;
        r = node_log_read(a->log, on_log_line, a);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read the log of the node in %s: %m", a->c->plan->log_dir);
        if (!a->failure)
                return 1;
        if (a->c->config->log_errors_fail)
                return error_set(reterr, -ECANCELED, "LogErrors=warn puts up with such lines.", "It logs: %s",
                                a->failure);
        a->warned = true;
        found(a, "it logs, which LogErrors=warn allows: %s", a->failure);
        return 1;
}

/* --- its clients --- */

static int management_says_running(Acceptance *a, Error *reterr) {
        const Plan *p = a->c->plan;
        int r;

        if (p->management_port == 0)
                return no_opinion(a, "there is no such port");
        r = probe_http_status(p->management_host, (unsigned) p->management_port, PROBE_TIMEOUT_USEC, NULL, reterr);
        if (r == 0)
                (void) error_set(reterr, -EAGAIN, NULL,
                                "http://%s:%" PRIu64 "/status does not say that emqx is running", p->management_host,
                                p->management_port);
        return r < 0 ? 0 : r;
}

static int cluster_has_it_back(Acceptance *a, Error *reterr) {
        return cluster_rejoined(a->c, reterr);
}

/* As far as a client came before, and at least an answer. */
static int mqtt_works(Acceptance *a, Error *reterr) {
        _cleanup_free_ char *password = NULL;
        const Plan *p = a->c->plan;
        MqttTarget target;
        MqttReach reach;
        int r;

        if (!a->c->config->mqtt_probe || p->mqtt_port == 0)
                return no_opinion(a, "there is no listener to ask");
        r = mqtt_target(a->c, &target, &password, reterr);
        if (r < 0)
                return r;
        r = probe_mqtt_round_trip(&target, PROBE_TIMEOUT_USEC, &reach, reterr);
        if (r < 0)
                return 0;
        if (reach < p->baseline.mqtt_reach) {
                (void) error_set(reterr, -EAGAIN, NULL, "Over MQTT %s; before, %s", mqtt_reach_text(reach),
                                mqtt_reach_text((MqttReach) p->baseline.mqtt_reach));
                return 0;
        }
        found(a, "%s", mqtt_reach_text(reach));
        return 1;
}

typedef struct Samples {
        char **expected; /* of the baseline */
        size_t n_there, n_same;
} Samples;

static void compare_sample(const char *topic, const void *payload, size_t size_bytes, void *userdata) {
        char hex[SHA256_HEX_SIZE];
        Samples *s = userdata;

        STRV_FOREACH (sample, s->expected)
                if (strlen(*sample) > SHA256_HEX_SIZE && streq(*sample + SHA256_HEX_SIZE, topic)) {
                        s->n_there++;
                        s->n_same += sha256_buffer(payload, size_bytes, hex) >= 0 &&
                                        strncmp(*sample, hex, SHA256_HEX_SIZE - 1) == 0;
                }
}

/* A client may replace a message or take it away at any time; lost are those of which not one is left. */
static int retained_are_there(Acceptance *a, Error *reterr) {
        Samples s = { .expected = a->c->plan->baseline.retained_samples };
        _cleanup_free_ char *password = NULL;
        _cleanup_strv_ char **topics = NULL;
        MqttTarget target;
        int r;

        STRV_FOREACH (sample, s.expected)
                if (strlen(*sample) > SHA256_HEX_SIZE && strv_extend(&topics, *sample + SHA256_HEX_SIZE) < 0)
                        return -ENOMEM;
        if (!topics || !a->c->config->mqtt_probe)
                return no_opinion(a, a->c->plan->baseline.retained_why_none ?: "none are known");
        r = mqtt_target(a->c, &target, &password, reterr);
        if (r < 0)
                return r;
        r = probe_mqtt_retained(&target, topics, (unsigned) strv_length(topics), PROBE_TIMEOUT_USEC, compare_sample,
                        &s, reterr);
        if (r < 0)
                return 0;
        if (s.n_there == 0) {
                (void) error_set(reterr, -EAGAIN, NULL, "Retained messages from before are lost: '%s'%s", topics[0],
                                topics[1] ? " and others" : "");
                return 0;
        }
        found(a, "of %zu retained messages from before %zu are there, %zu as they were", strv_length(topics),
                        s.n_there, s.n_same);
        return 1;
}

/* --- the table --- */

/* The first one is asked again at the end. */
const Question accept_questions[] = {
        { "vm", "the node's VM runs in its unit", vm_runs, .quick = true },
        { "booted", "emqx_ctl says that the node is started", ctl_says_started },
        { "broker-version", "the broker says its version", broker_has_version },
        { "application", "the application emqx runs", application_runs },
        { "tables", "all tables are loaded", tables_are_loaded },
        { "cluster", "the members of its cluster run as before, and see each other", cluster_has_it_back },
        { "listeners", "the listeners are those from before, and accept", listeners_are_same, .outside = true },
        { "plugins", "the active plugins are those from before", plugins_are_same, .outside = true },
        { "modules", "the active modules are those from before", modules_are_same, .outside = true },
        { "rules", "the rules are those from before", rules_are_same, .outside = true },
        { "resources", "the resources are those from before, and alive", resources_are_same, .outside = true },
        { "alarms", "no alarm is activated that was not before", no_alarm_is_new, .outside = true },
        { "management", "the management port says that emqx runs", management_says_running, .outside = true },
        { "mqtt", "an MQTT client gets as far as before", mqtt_works, .outside = true },
        { "retained", "retained messages from before are there", retained_are_there, .outside = true },
        { "log", "the node's log has no failure since its start", log_is_clean, .quick = true, .outside = true },
        { "unit", "systemd says that the unit is active, and was not restarted", unit_is_active, .quick = true },
        { "same-vm", "it was the same VM all the time", vm_runs },
        { NULL },
};
