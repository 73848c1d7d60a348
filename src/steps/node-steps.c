/* SPDX-License-Identifier: Apache-2.0 */

/* The steps that stop and start the node. */

#include "bus/job.h"
#include "bus/unit.h"
#include "steps/control.h"

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
        return node_stop(c, reterr);
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

/* Hooks for load balancers are not there yet: nothing is taken out, nothing is put back. */
int drain_node(Context *c, Error *reterr) {
        (void) reterr;
        step_report(c, "no load balancer is configured");
        return 0;
}

int undrain_node(Context *c, Error *reterr) {
        (void) reterr;
        step_report(c, "no load balancer is configured");
        return 0;
}

/* What `start` has put up for itself is gone since `verify`; the backup stays. */
int clean_up(Context *c, Error *reterr) {
        return node_settle(c, reterr);
}
