/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/checks.h"

static void journal_check(
                const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata) {
        static const Event events[] = {
                [CHECK_PASSED] = EVENT_CHECK_PASSED,
                [CHECK_WARNED] = EVENT_CHECK_WARNED,
                [CHECK_REFUSED] = EVENT_CHECK_REFUSED,
        };
        const Context *c = userdata;

        if (outcome == CHECK_NOT_MADE)
                return;
        journal_event(&c->journal, events[outcome],
                        &(JournalFields){ .step = c->step,
                                        .check = name,
                                        .error = outcome == CHECK_REFUSED ? text : NULL },
                        "%s: %s%s%s", name, text, advice ? ". " : "", advice ?: "");
}

int inspect_apply(Context *c, Error *reterr) {
        return checks_run(c, journal_check, c, reterr);
}

static void journal_refusal(
                const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata) {
        if (outcome == CHECK_REFUSED)
                journal_check(name, outcome, text, advice, userdata);
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
        r = checks_run_again(&again, journal_refusal, c, reterr);
        if (r >= 0)
                r = plan_changed(c->plan, now, &changed);
        return r > 0 ? error_set(reterr, -ECANCELED, "Start the upgrade again; it will go by what is there now.",
                                       "The node was changed while the upgrade was prepared: %s", changed)
                     : r;
}
