/* SPDX-License-Identifier: Apache-2.0 */

/* The steps that stop and start the node. */

#include "bus/job.h"
#include "bus/unit.h"
#include "steps/archive.h"
#include "steps/backup.h"
#include "steps/cluster.h"
#include "steps/control.h"
#include "steps/hooks.h"
#include "steps/reserve.h"

/* After a reboot the node may still be starting, when `emqx stop` finds nobody to talk to: it is let come up first. */
int stop_node(Context *c, Error *reterr) {
        _cleanup_(job_freep) Job *starting = NULL;
        int r;

        r = job_find(c->manager, c->plan->unit, &starting, reterr);
        if (r < 0)
                return r;
        if (r > 0) {
                step_report(c, "waiting until %s has started", c->plan->unit);
                r = job_wait(starting, usec_from_now(c->config->start_timeout_usec), NULL, NULL);
                if (r < 0 && r != -ECANCELED && r != -ETIMEDOUT)
                        return r;
        }
        /* Now, since a reload takes its time, and the node is down when it starts the new version. */
        r = prepare_start(c, reterr);
        return r < 0 ? r : node_stop(c, reterr);
}

int node_stopped(Context *c, Error *reterr) {
        return node_is_down(c, NULL, reterr);
}

int start_target(Context *c, Error *reterr) {
        return node_bring_up(c, c->plan->to, reterr);
}

int stop_target(Context *c, Error *reterr) {
        return node_stop(c, reterr);
}

/* Only whether there is something for `verify` to ask: it asks everything else. */
int target_ready(Context *c, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        pid_t vm;
        int r;

        if (c->plan->ready_since_realtime_usec == 0)
                return 0;
        r = unit_state_get(c->manager, c->plan->unit, &state, reterr);
        if (r < 0)
                return r;
        r = node_vm(c->plan, &vm);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look for processes of the node: %m");
        return vm != 0 && unit_state_busy(&state);
}

static int run_hooks(Context *c, const char *event, Error *reterr) {
        int r = hooks_run(c, event, reterr);

        if (r >= 0)
                step_report(c, "%i %s run for %s", r, r == 1 ? "hook has" : "hooks have", event);
        return r;
}

int drain_node(Context *c, Error *reterr) {
        return run_hooks(c, "drain", reterr);
}

/* The node is well: what keeps clients away from it is no reason to take the new version back, but is said loudly. */
int undrain_node(Context *c, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r = run_hooks(c, "undrain", &why);

        if (r < 0 && r != -ECANCELED && r != -EPERM)
                return error_set(reterr, r, why.advice, "%s", error_text(&why, r));
        if (r < 0)
                journal_event(&c->journal, EVENT_HOOK_FAILED,
                                &(JournalFields){ .step = c->step, .error = error_text(&why, r), .error_number = r },
                                "%s. The node serves, but may still be out of the load balancer: put it back by hand",
                                error_text(&why, r));
        return 0;
}

/* Before the new version is stopped on the way back, so that its clients go elsewhere; it is stopped in any case. */
int drain_again(Context *c, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r = run_hooks(c, "drain", &why);

        if (r == -EINTR || r == -ECONNRESET || r == -ENOMEM)
                return error_set(reterr, r, why.advice, "%s", error_text(&why, r));
        if (r < 0)
                journal_event(&c->journal, EVENT_HOOK_FAILED,
                                &(JournalFields){ .step = c->step, .error = error_text(&why, r), .error_number = r },
                                "%s. The node is stopped all the same", error_text(&why, r));
        return 0;
}

/* What `start` has put up for itself goes, and the room for a way back; the backup stays. */
int clean_up(Context *c, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r = node_settle(c, reterr);

        archive_settle(c);
        if (r >= 0)
                r = cluster_release(c, reterr);
        if (r >= 0)
                r = reserve_release(c, &why);
        if (r < 0 && why.message && r != -ECONNRESET) { /* no reason to take a node back that is well */
                step_report(c, "%s", why.message);
                r = 0;
        }
        return r < 0 ? r : note_kept_aside(c, reterr);
}
