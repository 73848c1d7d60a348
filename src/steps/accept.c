/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/accept.h"

#include "base/process.h"
#include "base/strv.h"
#include "bus/unit.h"
#include "node/probe.h"
#include "node/status.h"
#include "steps/control.h"

#define COMMAND_TIMEOUT_USEC (60 * USEC_PER_SEC) /* nodetool's own limit for an RPC */
#define PROBE_TIMEOUT_USEC (5 * USEC_PER_SEC)
#define RETRY_USEC (200 * USEC_PER_MSEC)

typedef struct Acceptance {
        Context *c;
        const char *version;
        pid_t vm; /* that all answers must come from */
} Acceptance;

/* What one question returns: 1 yes, 0 not yet (reterr says what is missing), negative errno: no, for good. */
typedef int (*AcceptFunc)(Acceptance *a, Error *reterr);

static int unit_is_active(Acceptance *a, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        const Plan *p = a->c->plan;
        int r;

        r = unit_state_get(a->c->manager, p->unit, &state, reterr);
        if (r < 0)
                return r;
        if (state.n_restarts > 0)
                return error_set(reterr, -ECANCELED, NULL, "systemd had to restart %s", p->unit);
        if (streq(state.active_state, "active"))
                return 1;
        (void) error_set(reterr, -EAGAIN, NULL, "%s is %s (%s)", p->unit, state.active_state, state.sub_state);
        return streq(state.active_state, "activating") ? 0 : -ECANCELED;
}

/* The same VM all the time, in the unit's control group. */
static int vm_runs(Acceptance *a, Error *reterr) {
        _cleanup_free_ pid_t *pids = NULL;
        size_t n;
        pid_t vm;
        int r;

        r = node_vm(a->c->plan, &vm);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look for processes of the node: %m");
        if (vm == 0)
                return error_set(reterr, -ECANCELED, NULL, "The node's VM has ended");
        if (a->vm != 0 && a->vm != vm)
                return error_set(reterr, -ECANCELED, NULL, "The node's VM was restarted");
        a->vm = vm;

        r = unit_processes(a->c->manager, a->c->plan->unit, &pids, &n, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                if (pids[i] == vm)
                        return 1;
        return error_set(reterr, -ECANCELED, NULL, "The node's VM (process %i) does not belong to %s", vm,
                        a->c->plan->unit);
}

static int ctl_says_started(Acceptance *a, Error *reterr) {
        _cleanup_free_ char *output = NULL, *version = NULL;
        bool started;
        int r;

        if (!a->c->plan->ctl_works) /* nor did it before: its plugin is not loaded */
                return 1;
        r = node_command(a->c, "emqx_ctl", "status", COMMAND_TIMEOUT_USEC, &output, reterr);
        if (r < 0)
                return r;
        if (r > 0 || status_parse(output, NULL, &version, &started) < 0 || !started) {
                (void) error_set(reterr, -EAGAIN, NULL,
                                "`emqx_ctl status` does not say that the node is started (exit %i)", r);
                return 0;
        }
        if (!streq(version, a->version))
                return error_set(reterr, -ECANCELED, NULL, "The node says that it runs %s, not %s", version,
                                a->version);
        return 1;
}

static int management_says_running(Acceptance *a, Error *reterr) {
        const Plan *p = a->c->plan;
        int r;

        if (p->management_port == 0)
                return 1;
        r = probe_http_status(p->management_host, (unsigned) p->management_port, PROBE_TIMEOUT_USEC, NULL, reterr);
        if (r == 0)
                (void) error_set(reterr, -EAGAIN, NULL,
                                "http://%s:%" PRIu64 "/status does not say that emqx is running", p->management_host,
                                p->management_port);
        return r < 0 ? 0 : r;
}

static int mqtt_answers(Acceptance *a, Error *reterr) {
        const Plan *p = a->c->plan;
        int connack;

        if (!a->c->config->mqtt_probe || p->mqtt_port == 0)
                return 1;
        return probe_mqtt(p->mqtt_host, (unsigned) p->mqtt_port, PROBE_TIMEOUT_USEC, &connack, reterr) < 0 ? 0 : 1;
}

/* In the order in which a node comes up (what the first ones need is what the later ones ask), the first ones again
 * at the end. */
static const struct {
        const char *name; /* EMQX_UPGRADE_CHECK= */
        const char *yes;
        AcceptFunc ask;
} questions[] = {
        { "vm", "the node's VM runs in its unit", vm_runs },
        { "mqtt", "an MQTT client gets its CONNACK", mqtt_answers },
        { "management", "the management port says that emqx runs", management_says_running },
        { "ctl", "emqx_ctl says that the version is started", ctl_says_started },
        { "unit", "systemd says that the unit is active", unit_is_active },
        { "same-vm", "it was the same VM all the time", vm_runs },
};

typedef struct Asking {
        Acceptance *a;
        AcceptFunc ask;
        usec_t next_usec;
        Error error; /* of the last try */
} Asking;

static int ask_again(void *userdata) {
        Asking *k = userdata;

        if (now_usec(CLOCK_MONOTONIC) < k->next_usec)
                return 0;
        k->next_usec = usec_from_now(RETRY_USEC);
        error_done(&k->error);
        return k->ask(k->a, &k->error);
}

static int on_retry_time(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) usec;
        (void) userdata;
        return sd_event_source_set_time_relative(s, RETRY_USEC);
}

int accept_node(Context *c, const char *version, Error *reterr) {
        Acceptance a = { .c = c, .version = version };
        usec_t deadline_usec = usec_from_now(c->config->verify_timeout_usec);
        sd_event_source *retry = NULL;
        int r;

        r = sd_event_add_time_relative(c->event, &retry, CLOCK_MONOTONIC, RETRY_USEC, 0, on_retry_time, NULL);
        if (r >= 0)
                r = sd_event_source_set_enabled(retry, SD_EVENT_ON);

        for (size_t i = 0; i < ELEMENTSOF(questions) && r >= 0; i++) {
                Asking k = { .a = &a, .ask = questions[i].ask };
                JournalFields fields = { .step = c->step, .check = questions[i].name };

                step_report(c, "Asking whether %s", questions[i].yes);
                r = manager_wait(c->manager, ask_again, &k, deadline_usec);
                if (r >= 0)
                        journal_event(&c->journal, EVENT_CHECK_PASSED, &fields, "%s: %s", version, questions[i].yes);
                else if (r == -ETIMEDOUT && k.error.message)
                        r = error_set(reterr, r, NULL, "%s is not well: %s", version, k.error.message);
                else
                        r = error_set(reterr, r, k.error.advice, "%s is not well: %s", version,
                                        error_text(&k.error, r));
                error_done(&k.error);
        }
        (void) sd_event_source_disable_unref(retry);
        return r < 0 ? r : 0;
}

/* --- the steps --- */

int accept_target(Context *c, Error *reterr) {
        int r;

        r = accept_node(c, c->plan->to, reterr);
        return r < 0 ? r : node_settle(c, reterr);
}

int start_old(Context *c, Error *reterr) {
        int r;

        r = node_bring_up(c, c->plan->from, reterr);
        if (r >= 0)
                r = accept_node(c, c->plan->from, reterr);
        return r < 0 ? r : node_settle(c, reterr);
}
