/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/finish.h"

#include <systemd/sd-daemon.h>

#include "bus/transient.h"
#include "steps/aside.h"
#include "steps/hold.h"
#include "steps/reserve.h"
#include "txn/room.h"
#include "txn/status.h"
#include "txn/whereabouts.h"

#define METRICS_TIMEOUT_USEC (15 * USEC_PER_SEC)

/* --- not yet --- */

ExitStatus finish_interrupted(const JournalContext *context, const char *step, const Error *error, int r) {
        journal_event(context, EVENT_INTERRUPTED, &(JournalFields){ .step = step, .error_number = r },
                        "Cannot go on in this process (%s); the record says how far the upgrade is, and systemd starts it again",
                        error_text(error, r));
        return EXIT_INTERRUPTED;
}

ExitStatus finish_unfinished(const Context *c, int r) {
        return r == -EINTR ? EXIT_INTERRUPTED : finish_interrupted(&c->journal, c->step, NULL, r);
}

/* --- the ends --- */

/* By a unit of its own, which may write there and nowhere else. What fails says nothing about the upgrade. */
static void write_metrics(const Txn *t, Context *c) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_free_ char *output = NULL;
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        int r, status = 0;

        if (!*c->config->textfile_dir)
                return;
        unit.name = "emqx-upgrade-step-metrics.service";
        unit.description = "EMQX Upgrade: write metrics";
        unit.argv = STRV_MAKE(LIBEXECDIR "/emqx-upgrade-helper", "metrics", t->plan->id);
        unit.slice = "emqx-upgrade.slice";
        unit.sandboxed = true;
        unit.private_network = true;
        unit.read_write_paths = STRV_MAKE(c->config->textfile_dir);
        r = transient_capture(c->manager, &unit, METRICS_TIMEOUT_USEC, &output, &status, &error);
        if (r >= 0 && status == 0)
                return;
        if (output)
                output[strcspn(output, "\n")] = 0;
        if (r >= 0)
                r = error_set(&error, -EIO, NULL, "%s", output && *output ? output : "The helper failed");
        journal_event(&c->journal, EVENT_METRICS_FAILED,
                        &(JournalFields){ .error = error_text(&error, r), .error_number = r },
                        "The metrics were not written to %s: %s", c->config->textfile_dir, error_text(&error, r));
}

static ExitStatus finish(Txn *t, Context *c, TxnResult result, ExitStatus status, Event event, const char *message) {
        bool forgotten = false;
        int r;

        (void) hold_lift(c, NULL); /* it is gone, unless somebody has written it meanwhile */
        aside_sweep();
        r = txn_close(t, result);
        if (is_unwritable(r) && result == TXN_REFUSED) /* nobody has to make room for what has touched nothing */
                forgotten = txn_forget(t) >= 0;
        if (is_unwritable(r) && !forgotten)
                r = room_await_end(t, c);
        if (r < 0 && !forgotten)
                return finish_unfinished(c, r);
        if (!forgotten)
                journal_event(&c->journal, EVENT_HISTORY_WRITTEN, NULL, "The record is " STATE_DIR "/history/%s.json",
                                t->plan->id);
        journal_event(&c->journal, event,
                        &(JournalFields){ .result = txn_result_name(result),
                                        .error = t->cause,
                                        .usec = t->ended_realtime_usec - t->started_realtime_usec,
                                        .downtime_usec = plan_downtime_usec(t->plan),
                                        .predicted_usec = event == EVENT_UPGRADE_DONE
                                                        ? t->plan->predicted_downtime_usec
                                                        : 0 },
                        "%s%s%s%s%s", message, t->cause ? ": " : "", t->cause ?: "", t->advice ? ". " : "",
                        t->advice ?: "");
        status_write(t, NULL, message, NULL);
        (void) sd_notifyf(0, "STATUS=%s", message);
        if (!forgotten)
                write_metrics(t, c);
        return status;
}

/* Found by inspect: nothing was done, so nothing is to be remembered. Nor was a node that was only staged for upgraded,
 * and nobody could go back from that. */
static int forget(Txn *t, Context *c) {
        int r;

        (void) reserve_release(c, NULL);
        aside_sweep();
        r = txn_forget(t);
        if (r >= 0)
                status_forget(t->dir_fd);
        return r;
}

ExitStatus finish_nothing_to_do(Txn *t, Context *c) {
        int r;

        r = forget(t, c);
        if (r < 0)
                return finish_unfinished(c, r);
        journal_event(&c->journal, EVENT_NOTHING_TO_DO, NULL, "The node runs EMQX %s already: nothing to do",
                        t->plan->to);
        return EXIT_DONE;
}

ExitStatus finish_staged(Txn *t, Context *c) {
        _cleanup_free_ char *message = NULL;
        const Plan *plan = t->plan;
        int r;

        r = forget(t, c);
        if (r >= 0 && asprintf(&message, "The upgrade to EMQX %s is staged", plan->to) < 0)
                r = -ENOMEM;
        if (r < 0)
                return finish_unfinished(c, r);
        journal_event(&c->journal, EVENT_UPGRADE_STAGED, NULL,
                        "%s: packages and data are copied; systemctl start emqx-upgrade@%s.service goes on from there",
                        message, plan->to);
        (void) sd_notifyf(0, "STATUS=%s", message);
        return EXIT_DONE;
}

ExitStatus finish_upgraded(Txn *t, Context *c) {
        _cleanup_free_ char *message = NULL;
        const Plan *plan = t->plan;
        char span[TIMESPAN_TEXT_MAX];

        if (asprintf(&message, "EMQX %s was upgraded to %s; the node was down for %s", plan->from, plan->to,
                            format_timespan(span, plan_downtime_usec(plan))) < 0)
                return finish_unfinished(c, -ENOMEM);
        return finish(t, c, TXN_DONE, EXIT_DONE, EVENT_UPGRADE_DONE, message);
}

ExitStatus finish_rolled_back(Txn *t, Context *c) {
        _cleanup_free_ char *message = NULL;

        if (asprintf(&message, "Back on EMQX %s, with its configuration and data", t->plan->from) < 0)
                return finish_unfinished(c, -ENOMEM);
        return finish(t, c, TXN_ROLLED_BACK, EXIT_ROLLED_BACK, EVENT_ROLLBACK_DONE, message);
}

ExitStatus finish_refused(Txn *t, Context *c) {
        return finish(t, c, TXN_REFUSED, EXIT_REFUSED, EVENT_UPGRADE_REFUSED, "Refused, and nothing was touched");
}

ExitStatus finish_stuck(Txn *t, Context *c) {
        _cleanup_free_ char *where = whereabouts(t, c);

        journal_event(&c->journal, EVENT_ROLLBACK_FAILED,
                        &(JournalFields){ .step = t->back_cause_step, .result = "stuck", .error = t->back_cause },
                        "The upgrade to %s failed (%s), and so did the way back, at '%s': %s. Nothing is lost: %s. When the reason is "
                        "gone, go on with: systemctl start emqx-upgrade-rollback@%s.service",
                        t->plan->to, t->cause ?: "?", t->back_cause_step ?: "?", t->back_cause ?: "?",
                        where ?: "configuration and data are in their places, or in the backup", t->plan->id);
        status_write(t, t->back_cause_step, where ?: "The way back failed; a person is needed", NULL);
        (void) sd_notify(0, "STATUS=The way back failed; a person is needed");
        write_metrics(t, c);
        return EXIT_STUCK;
}
