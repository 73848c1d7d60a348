/* SPDX-License-Identifier: Apache-2.0 */

/* The check that notes what the node is like, for what comes after to be compared with. */

#include "base/sha256.h"
#include "base/strv.h"
#include "bus/environment.h"
#include "bus/unit.h"
#include "node/conf.h"
#include "node/probe.h"
#include "steps/ask.h"
#include "steps/checking.h"

#define PROBE_TIMEOUT_USEC (5 * USEC_PER_SEC)

/* With more of them, to ask for all would be a burden, and one cannot ask for some. */
#define RETAINED_MAX 10000
#define SAMPLES_MAX 3

static void take_sample(const char *topic, const void *payload, size_t size_bytes, void *userdata) {
        char hex[SHA256_HEX_SIZE];

        if (topic[0] != '$' && !startswith(topic, "emqx-upgrade/") && sha256_buffer(payload, size_bytes, hex) >= 0)
                (void) strv_extendf(userdata, "%s %s", hex, topic);
}

/* Whether retained messages have to be there afterwards: on disc here, or in the memory of a peer (Facts 5.2). */
static int retained_survive(Checking *k, bool *ret, Error *reterr) {
        _cleanup_free_ char *path = NULL, *storage = NULL;
        _cleanup_strv_ char **environment = NULL;
        const Plan *p = k->c->plan;
        int r;

        if (asprintf(&path, "%s/plugins/emqx_retainer.conf", p->etc_dir) < 0)
                return -ENOMEM;
        r = unit_environment(k->c->manager, p->unit, &environment, reterr);
        if (r >= 0)
                r = conf_get(path, p->root_dir, "retainer.storage_type", environment, &storage, NULL);
        if (r < 0 && r != -ENOENT && r != -EBADMSG)
                return r;
        *ret = p->baseline.peers > 0 || (storage && startswith(storage, "disc"));
        return 0;
}

/* NULL: some messages are known that the new version has to have. */
static int choose_samples(Checking *k, const MqttTarget *target, const char **ret_why_none, Error *reterr) {
        Baseline *b = &k->c->plan->baseline;
        bool survive = false;
        int r;

        *ret_why_none = NULL;
        r = retained_survive(k, &survive, reterr);
        if (r < 0)
                return r;
        if (!survive)
                *ret_why_none = "they are in the memory of this node alone";
        else if (b->retained == 0)
                *ret_why_none = "there are none";
        else if (b->retained > RETAINED_MAX)
                *ret_why_none = "there are too many to choose from";
        else if (b->mqtt_reach < MQTT_SUBSCRIBED)
                *ret_why_none = "we may not subscribe";
        else if (probe_mqtt_retained(target, STRV_MAKE("#"), SAMPLES_MAX, PROBE_TIMEOUT_USEC, take_sample,
                                 &b->retained_samples, NULL) < 0 ||
                        !b->retained_samples)
                *ret_why_none = "we get none";
        return 0;
}

static int ask_as_client(Checking *k, Error *reterr) {
        _cleanup_free_ char *password = NULL;
        const char *why_none = "there is no listener to ask";
        Plan *p = k->c->plan;
        MqttTarget target;
        MqttReach reach;
        int r;

        if (k->c->config->mqtt_probe && p->mqtt_port > 0) {
                r = mqtt_target(k->c, &target, &password, reterr);
                if (r < 0)
                        return r;
                if (probe_mqtt_round_trip(&target, PROBE_TIMEOUT_USEC, &reach, NULL) >= 0)
                        p->baseline.mqtt_reach = reach;
                r = choose_samples(k, &target, &why_none, reterr);
                if (r < 0)
                        return r;
        }
        return free_and_strdup(&p->baseline.retained_why_none, why_none);
}

/* What it will be compared with. What cannot be asked is no reason to refuse, and is said. */
int check_baseline(Checking *k, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_free_ char *text = NULL;
        Baseline *b = &k->c->plan->baseline;
        int r;

        r = unit_state_get(k->c->manager, k->c->plan->unit, &state, reterr);
        if (r < 0)
                return r;
        baseline_done(b);
        b->n_restarts = state.n_restarts;
        b->drop_ins = strv_copy(state.drop_in_paths);
        r = baseline_take(b, &k->survey);
        if (r >= 0)
                r = ask_as_client(k, reterr);
        if (r < 0)
                return r;

        text = baseline_text(b);
        if (!text)
                return -ENOMEM;
        found(k, "%s; %s", text, mqtt_reach_text((MqttReach) b->mqtt_reach));
        return b->not_asked ? 0 : 1;
}
