/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/step-unit.h"

#include <systemd/sd-daemon.h>

#include "bus/job.h"
#include "bus/transient.h"
#include "steps/places.h"
#include "txn/backups.h"
#include "txn/progress.h"

#define CLEAR_TIMEOUT_USEC (30 * USEC_PER_SEC) /* beyond what a unit has to stop */
#define STEP_NOFILE 65536                      /* two descriptors for each level of a tree */

static char *unit_name(const Step *step, bool undo) {
        char *name;

        return asprintf(&name, "emqx-upgrade-step-%s%s.service", undo ? "undo-" : "", step->name) < 0 ? NULL : name;
}

static int start_unit(Context *c, const Step *step, bool undo, const char *name, Job **ret, Error *reterr) {
        /* What backing up and restoring files of any owner takes. */
        static char *const file_capabilities[] = { (char *) "CAP_CHOWN", (char *) "CAP_DAC_OVERRIDE",
                (char *) "CAP_DAC_READ_SEARCH", (char *) "CAP_FOWNER", (char *) "CAP_FSETID", (char *) "CAP_SETFCAP",
                NULL };
        _cleanup_strv_ char **fields = NULL, **paths = NULL;
        _cleanup_free_ char *description = NULL;
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        char *argv[] = { (char *) LIBEXECDIR "/emqx-upgrade-helper", (char *) "step", (char *) step->name,
                (char *) (undo ? "--undo" : NULL), NULL };

        if (asprintf(&description, "EMQX Upgrade to %s: %s", c->plan->to, undo ? step->undo_title : step->title) < 0 ||
                        strv_extendf(&fields, "EMQX_UPGRADE_ID=%s", c->plan->id) < 0 ||
                        strv_extendf(&fields, "EMQX_UPGRADE_STEP=%s", step->name) < 0 ||
                        places_write_paths(c->plan, &paths) < 0 || strv_extend(&paths, STATE_DIR) < 0)
                return -ENOMEM;

        unit.name = name;
        unit.description = description;
        unit.argv = argv;
        unit.log_extra_fields = fields;
        unit.slice = "emqx-upgrade.slice";
        unit.timeout_start_usec = config_patience_usec(c->config);
        unit.timeout_stop_usec = config_patience_usec(c->config);
        unit.limit_nofile = STEP_NOFILE;
        unit.requires_mounts_for = c->plan->mounts; /* so a shutdown unmounts them after it */
        if (step->place == IN_FILES) {
                unit.sandboxed = true;
                unit.read_write_paths = paths;
                unit.private_network = true;
                unit.capabilities = file_capabilities;
                unit.idle = step->node == NODE_UP;
                unit.quick = step->node == NODE_DOWN;
        } else
                /* A shutdown must not break dpkg off: only the helper is told, and it lets dpkg finish. */
                unit.kill_mode = "mixed";
        return transient_start(c->manager, &unit, ret, reterr);
}

/* Stops it where it runs, and unloads it. It has as long as its TimeoutStopSec=: dpkg is not left at work behind our back. */
static int clear_unit(Context *c, const char *name, Error *reterr) {
        usec_t timeout_usec = config_patience_usec(c->config) + CLEAR_TIMEOUT_USEC;

        (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, timeout_usec + USEC_PER_MINUTE);
        return transient_clear(c->manager, name, usec_from_now(timeout_usec), reterr);
}

static void on_status(const char *text, void *userdata) {
        _cleanup_free_ char *words = strdup(text);
        StepProgress progress;
        Context *c = userdata;

        if (words && progress_split(words, &progress))
                c->report(words, &progress, c->userdata);
        else
                c->report(text, NULL, c->userdata);
}

int step_unit_run(Context *c, const Step *step, bool undo, bool resumed, Error *reterr) {
        _cleanup_free_ char *name = unit_name(step, undo);
        _cleanup_(job_freep) Job *job = NULL;
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        int r;

        if (!name)
                return -ENOMEM;

        if (resumed) {
                r = transient_find(c->manager, name, &state, reterr);
                if (r < 0)
                        return r;
                if (r == TRANSIENT_DONE)
                        return 0;
                if (r == TRANSIENT_FAILED)
                        return transient_explain(name, &state, reterr);
                if (r == TRANSIENT_RUNNING) {
                        r = job_find(c->manager, name, &job, reterr);
                        if (r < 0)
                                return r;
                }
        }
        if (!job) {
                r = clear_unit(c, name, reterr);
                if (r >= 0)
                        r = start_unit(c, step, undo, name, &job, reterr);
                if (r < 0)
                        return r;
        }

        r = transient_await(job, c->config->stall_timeout_usec, on_status, c, reterr);
        if (r == -ETIMEDOUT)
                (void) clear_unit(c, name, NULL);
        return r;
}

int step_unit_clear(Context *c, const Step *step, bool undo, Error *reterr) {
        _cleanup_free_ char *name = unit_name(step, undo);

        return name && step->place != IN_CONDUCTOR ? clear_unit(c, name, reterr) : 0;
}

int step_units_clear(Context *c) {
        for (size_t i = 0; i < n_upgrade_steps; i++) {
                const Step *step = &upgrade_steps[i];
                int r = step_unit_clear(c, step, false, NULL);

                if (r != -ECONNRESET && step->undo)
                        r = step_unit_clear(c, step, true, NULL);
                if (r == -ECONNRESET)
                        return r;
        }
        return 0;
}

/* --- and inside of it --- */

static void report_to_conductor(const char *text, const StepProgress *progress, void *userdata) {
        _cleanup_free_ char *joined = progress_join(text, progress);
        const Context *c = userdata;

        (void) sd_notifyf(0, "STATUS=%s\nEXTEND_TIMEOUT_USEC=%" PRIu64, joined ?: "", config_patience_usec(c->config));
}

static void fail_to_conductor(const Error *error, int r) {
        _cleanup_free_ char *text = NULL, *line = NULL;

        if (asprintf(&text, "%s%s%s", error_text(error, r), error->advice ? ". " : "", error->advice ?: "") >= 0)
                line = progress_join(text, NULL);
        (void) sd_notifyf(0, "STATUS=%s\nERRNO=%i", line ?: "", -r);
}

ExitStatus step_unit_main(Context *c, const char *name, bool undo) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        const Step *step = step_find(name);
        int r;

        if (!step || step->place == IN_CONDUCTOR || (undo && !step->undo))
                return EXIT_USAGE;
        c->step = step->name;
        c->report = report_to_conductor;
        c->userdata = c;
        c->prune_backups = backups_prune;

        r = (undo ? step->undo : step->apply)(c, &error);
        if (r < 0)
                fail_to_conductor(&error, r);
        (void) sd_notify_barrier(0, 5 * USEC_PER_SEC);
        return r < 0 ? EXIT_INTERRUPTED : EXIT_DONE;
}
