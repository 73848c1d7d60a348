/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/checks.h"
#include "steps/cluster.h"
#include "steps/reserve.h"

static void tell_check(const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata) {
        if (outcome != CHECK_NOT_MADE)
                step_check(userdata, name, outcome, text, advice);
}

int inspect_apply(Context *c, Error *reterr) {
        return checks_run(c, tell_check, c, reterr);
}

static void tell_refusal(
                const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata) {
        if (outcome == CHECK_REFUSED)
                step_check(userdata, name, outcome, text, advice);
}

/* What the node is like when it is stopped is what it is compared with; how many its clients are was truer before they
 * were drained. */
static void take_newer_baseline(Plan *p, Plan *now) {
        Baseline newer = now->baseline;

        newer.connections = p->baseline.connections;
        newer.sessions = p->baseline.sessions;
        newer.subscriptions = p->baseline.subscriptions;
        newer.retained = p->baseline.retained;
        now->baseline = p->baseline;
        p->baseline = newer;
}

/* Copying much data and draining take hours: whoever has changed the node meanwhile has not asked us. */
int recheck_apply(Context *c, Error *reterr) {
        _cleanup_(plan_freep) Plan *now = NULL;
        _cleanup_free_ char *changed = NULL;
        Context again = *c;
        int r;

        r = plan_new(c->plan->to, &now);
        if (r < 0)
                return r;
        memcpy(now->id, c->plan->id, PLAN_ID_SIZE); /* the name of what lies beside is made of it */
        again.plan = now;
        r = checks_run_again(&again, tell_refusal, c, reterr);
        if (r >= 0)
                r = plan_changed(c->plan, now, &changed);
        if (r > 0)
                return error_set(reterr, -ECANCELED, "Start the upgrade again; it will go by what is there now.",
                                "The node was changed while the upgrade was prepared: %s", changed);
        if (r < 0)
                return r;
        take_newer_baseline(c->plan, now);
        r = reserve_make(c, reterr);
        return r < 0 ? r : cluster_claim(c, reterr);
}
