/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Baseline: what the node was like while the old version served, and what it is compared with afterwards: names and
 * numbers, nothing secret. What the node could not be asked is in not_asked, and is not compared. */

#include "base/json.h"
#include "base/strv.h"
#include "node/survey.h"

typedef struct Baseline {
        char **not_asked;        /* survey_part_name() */
        char **listeners;        /* "mqtt:tcp:external 0.0.0.0:1883" */
        char **plugins;          /* the active ones */
        char **modules;          /* the same */
        char **rules;            /* ids */
        char **rules_enabled;    /* of them */
        char **resources;        /* ids */
        char **resources_alive;  /* of them */
        char **alarms;           /* names of the activated ones */
        char **drop_ins;         /* paths, of the unit */
        char **retained_samples; /* "SHA256 TOPIC" of a few messages that the new version has to have */
        char *retained_why_none; /* why there are none */
        uint64_t connections, sessions, subscriptions, retained;
        uint64_t peers;      /* other nodes of the cluster that ran */
        uint64_t n_restarts; /* by systemd, since somebody started it */
        uint64_t mqtt_reach; /* how far a client of ours came: MqttReach */
} Baseline;

void baseline_done(Baseline *b);

/* Takes what s says over; what it does not say is noted in not_asked. 0 or -ENOMEM. */
int baseline_take(Baseline *b, const Survey *s);

static inline bool baseline_asked(const Baseline *b, SurveyPart part) {
        return !strv_contains(b->not_asked, survey_part_name(part));
}

/* "4 listeners, 7 plugins, …": for people, the caller's. NULL: out of memory. */
char *baseline_text(const Baseline *b);

int baseline_to_json(const Baseline *b, json_object **ret);

/* -EBADMSG: a field has another type than it should. What is missing stays empty. */
int baseline_from_json(json_object *o, Baseline *b);
