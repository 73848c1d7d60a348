/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/engine.h"

#include <systemd/sd-daemon.h>

#include "base/mounts.h"
#include "base/process.h"
#include "bus/inhibit.h"
#include "steps/aside.h"
#include "steps/control.h"
#include "steps/hold.h"
#include "steps/packages.h"
#include "steps/places.h"
#include "steps/reserve.h"
#include "txn/finish.h"
#include "txn/predict.h"
#include "txn/room.h"
#include "txn/status.h"
#include "txn/step-unit.h"

#define PROGRESS_USEC USEC_PER_SEC    /* between two entries of the journal */
#define RETRY_USEC (2 * USEC_PER_SEC) /* times the attempts that failed */

char **engine_step_names(bool ahead) {
        _cleanup_strv_ char **names = NULL;

        for (size_t i = 0; i < n_upgrade_steps && !(ahead && i > 0 && upgrade_steps[i - 1].apply == stage_all); i++)
                if (strv_extend(&names, upgrade_steps[i].name) < 0)
                        return NULL;
        return TAKE_PTR(names);
}

bool engine_only_stages(const Txn *t) {
        const Step *last = t->n_steps > 0 ? step_find(t->steps[t->n_steps - 1].name) : NULL;

        return last && last->apply == stage_all;
}

/* --- telling --- */

static bool going_back(const Engine *e) {
        return e->txn->direction == TXN_BACK;
}

/* Progress, from a step here or from a step unit: to systemctl status, status.json, and for the time-out. */
static void on_report(const char *text, const StepProgress *progress, void *userdata) {
        Engine *e = userdata;
        const char *step = e->context.step ?: "";
        usec_t now = now_usec(CLOCK_MONOTONIC);
        _cleanup_free_ char *full = NULL;
        char numbers[PROGRESS_TEXT_MAX];

        progress_note(&e->progress, progress, now);
        if (progress && !going_back(e) && txn_find(e->txn, step) != SIZE_MAX)
                e->txn->steps[txn_find(e->txn, step)].bytes = progress->bytes_done;
        if (progress && asprintf(&full, "%s: %s", text, progress_text(numbers, &e->progress)) >= 0)
                text = full;
        if (now - e->reported_usec >= PROGRESS_USEC) {
                e->reported_usec = now;
                journal_event(&e->context.journal, EVENT_STEP_PROGRESS,
                                &(JournalFields){ .step = e->context.step,
                                                .bytes_done = e->progress.bytes.bytes_done,
                                                .bytes_total = e->progress.bytes.bytes_total },
                                "%s: %s", step, text);
        }
        (void) sd_notifyf(0, "STATUS=%s%s: %s (%u %%)\nEXTEND_TIMEOUT_USEC=%" PRIu64, going_back(e) ? "undoing " : "",
                        step, text, status_percent(e->txn), config_patience_usec(e->context.config));
        status_write(e->txn, e->context.step, text, &e->progress);
}

static void explain(Engine *e, Event event, const char *step, const char *what, const Error *error, int r) {
        const char *why = error_text(error, r);

        journal_event(&e->context.journal, event,
                        &(JournalFields){ .step = step, .result = "failed", .error = why, .error_number = r },
                        "%s: %s%s%s", what, why, error->advice ? ". " : "", error->advice ?: "");
}

/* For the checks, which ask whether packages are whole: they are not while somebody installs some, such as the package
 * whose script has started us. */
static int await_packages(Context *c, Error *reterr) {
        Engine *e = c->userdata;
        bool ours = e->package_lock.fd >= 0;
        int r = package_lock_take(&e->package_lock, c, true, reterr);

        if (!ours)
                package_lock_release(&e->package_lock);
        return r;
}

/* After the point of no return: before it a wait ends with -EINTR. */
static bool asked_to_stop(const Context *c) {
        const Engine *e = c->userdata;

        return e->stop_considered;
}

/* --- one row --- */

/* The hold file is there whenever it has to be, whoever removed it. */
static int prepare_row(Engine *e, const Step *step, Error *reterr) {
        Context *c = &e->context;
        pid_t pid = 0;
        char name[32];
        int r;

        if (step->node != NODE_DOWN) {
                e->inhibitor_fd = safe_close(e->inhibitor_fd);
                return 0;
        }

        /* A shutdown in the middle is lived through, but better not begun. */
        if (e->inhibitor_fd < 0)
                (void) inhibit_shutdown(c->manager, "EMQX is being exchanged", &e->inhibitor_fd);
        r = hold_set(c, reterr);
        if (r >= 0)
                r = node_is_down(c, &pid, reterr);
        if (r == 0)
                return error_set(reterr, -EBUSY, "End it, or stop the node: emqx stop. Then try again.",
                                "Somebody has started the node meanwhile, or a command that does not end: process %i (%s)",
                                pid, process_name(name, pid));
        return r < 0 ? r : 0;
}

static int run_row(Engine *e, const Step *step, bool undo, bool resumed, Error *reterr) {
        Context *c = &e->context;
        int r;

        r = prepare_row(e, step, reterr);
        if (r < 0)
                return r;
        if (step->place == IN_CONDUCTOR)
                return (undo ? step->undo : step->apply)(c, reterr);
        r = step_unit_run(c, step, undo, resumed, reterr);
        if (r == -EINTR && !e->shutting_down) /* the upgrade is to turn back: what runs is not left half done */
                (void) step_unit_clear(c, step, undo, NULL);
        return r;
}

static void tell_begun(Engine *e, const Step *step, bool undo) {
        const char *title = undo ? step->undo_title : step->title;

        e->context.step = step->name;
        journal_event(&e->context.journal, undo ? EVENT_STEP_UNDO_BEGUN : EVENT_STEP_BEGUN,
                        &(JournalFields){ .step = step->name }, "%s: %s", step->name, title);
        e->reported_usec = now_usec(CLOCK_MONOTONIC); /* what follows is not news to the journal */
        on_report(title, NULL, e);
}

static void tell_done(Engine *e, const Step *step, bool undo, usec_t took_usec) {
        char span[TIMESPAN_TEXT_MAX];

        journal_event(&e->context.journal, undo ? EVENT_STEP_UNDONE : EVENT_STEP_DONE,
                        &(JournalFields){ .step = step->name, .result = "done", .usec = took_usec }, "%s: %s in %s",
                        step->name, undo ? "undone" : "done", format_timespan(span, took_usec));
}

static const Step *row_of(Engine *e, size_t i, Error *reterr) {
        const Step *step = step_find(e->txn->steps[i].name);

        if (!step)
                (void) error_set(reterr, -EBADMSG, "Finish it with the version of emqx-upgrade that began it.",
                                "The transaction has a step '%s' that this program does not know",
                                e->txn->steps[i].name);
        return step;
}

/* --- stopping --- */

/* From then on systemd starts no step and no broker, and ends what runs, in any order: what fails then says nothing
 * about the upgrade, which is left where the record has it. */
static bool machine_goes_down(Engine *e) {
        if (!e->shutting_down && manager_shutting_down(e->context.manager, NULL) > 0) {
                e->shutting_down = true;
                journal_event(&e->context.journal, EVENT_INTERRUPTED, &(JournalFields){ .step = e->context.step },
                                "The machine goes down; the upgrade goes on at the next boot");
        }
        return e->shutting_down;
}

/* Whether what is under way is to be broken off: asked after every event of every wait. */
static bool is_interrupted(void *userdata) {
        Engine *e = userdata;
        const Step *step;

        if (!e->stop_requested || e->stop_considered)
                return e->shutting_down;

        e->stop_considered = true;
        if (machine_goes_down(e))
                return true;

        step = e->context.step ? step_find(e->context.step) : NULL;
        journal_event(&e->context.journal, EVENT_STOP_REQUESTED, &(JournalFields){ .step = e->context.step },
                        going_back(e) ? "Asked to stop; the way back is finished first"
                                        : step && step->optional
                                        ? "Asked to stop; this step is broken off, and the upgrade is finished first"
                                        : step && step->committing
                                        ? "Asked to stop after the old version was taken off; the upgrade is finished first"
                                        : "Asked to stop; going back");
        if (going_back(e) || (step && step->committing && !step->optional))
                e->stop_requested = false;
        return e->stop_requested;
}

/* After each step before the stop: each may have learned something. It is in the record with the end of the step. */
static void predict_again(Engine *e) {
        Prediction prediction;

        if (txn_touched_node(e->txn))
                return;
        predict(e->context.manager, e->txn->dir_fd, e->txn->plan, &prediction);
        e->txn->plan->predicted_downtime_usec = prediction.total_usec;
}

/* --- the walks --- */

/* How a walk ends, where it is not a negative errno: cannot go on in this process. */
typedef enum Walk {
        WALK_DONE,
        WALK_TURNED_BACK, /* forward: a row has failed */
        WALK_STUCK,       /* back: an undo has failed */
        WALK_REFUSED,     /* back: told, and the transaction is gone */
} Walk;

/* r is what txn_mark() and the like have returned; only the writing may have failed. Nobody has to make room for the record of
 * what has touched nothing: finish_refused() forgets it. */
static int recorded(Engine *e, int r) {
        if (!is_unwritable(r))
                return r;
        return r == -EROFS || txn_touched_node(e->txn) ? room_await_record(e->txn, &e->context) : 0;
}

/* The record needs room like everything else. While the node is apart, and before, a full disk is a failure like any
 * other: what is reserved is for the way back. Once the new version is up it is the record's, and no reason to go back. */
static int with_room(Engine *e, const Step *step, int r, Error *reterr) {
        if (is_unwritable(r) && step->committing && !txn_needs_hold(e->txn)) {
                (void) reserve_release(&e->context, NULL);
                r = recorded(e, txn_save(e->txn));
        }
        return r < 0 ? error_set(reterr, r, "Make the state directory writable, or make room in it.",
                                       "Cannot write the record %s: %m", STATE_DIR "/transaction")
                     : r;
}

static int give_up(Engine *e, size_t i, const Step *step, const Error *error, int r) {
        Txn *t = e->txn;

        e->stop_requested = false; /* that was this step's */
        explain(e, EVENT_STEP_GIVEN_UP, step->name, "This step is left out, and the upgrade goes on", error, r);
        return recorded(e, with_room(e, step, txn_give_up(t, i, error_text(error, r)), NULL));
}

/* Returns WALK_DONE, WALK_TURNED_BACK, -EALREADY (found by inspect: nothing was done), or another negative errno. */
static int walk_forward(Engine *e) {
        Txn *t = e->txn;

        for (size_t i = 0; i < t->n_steps; i++) {
                _cleanup_(error_done) Error error = ERROR_NULL;
                bool resumed = t->steps[i].state == STEP_BEGUN;
                const Step *step;
                int r = 0;

                if (t->steps[i].state == STEP_DONE || t->steps[i].state == STEP_FAILED)
                        continue;
                step = row_of(e, i, &error);
                if (!step)
                        r = -EBADMSG;

                if (r >= 0 && is_interrupted(e))
                        r = -EINTR;
                if (r >= 0 && t->steps[i].attempts >= e->context.config->attempts)
                        r = error_set(&error, -ELOOP, NULL, "It was interrupted %u times", t->steps[i].attempts);
                if (r >= 0) {
                        tell_begun(e, step, false);
                        r = room_await_mounts(t, &e->context);
                        if (r >= 0 && step->package_lock)
                                r = package_lock_take(&e->package_lock, &e->context, step->node == NODE_UP, &error);
                }
                if (r >= 0)
                        r = with_room(e, step, txn_mark(t, i, STEP_BEGUN), &error);
                if (r >= 0)
                        r = run_row(e, step, false, resumed, &error);
                if (r >= 0 && step->verify && (resumed || !step->checks_itself)) {
                        r = step->verify(&e->context, &error);
                        if (r == 0)
                                r = error_set(&error, -EIO, NULL,
                                                "It ended well, but the machine is not as it should be");
                }
                if (r >= 0) {
                        predict_again(e);
                        r = with_room(e, step, txn_mark(t, i, STEP_DONE), &error);
                        if (r < 0 && !is_unwritable(r))
                                return r;
                }

                if (r == -ECONNRESET) /* the system bus; a new conductor connects anew */
                        return r;
                if (r < 0 && machine_goes_down(e))
                        return -EINTR;
                if (r == -EINTR)
                        (void) error_set(&error, r, NULL, "Stopped by `systemctl stop %s`", t->unit);
                if (r == -EALREADY)
                        return r;
                if (r < 0 && step && step->optional) {
                        r = give_up(e, i, step, &error, r);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (r < 0) {
                        if (step && step->apply != inspect_apply)
                                explain(e, EVENT_STEP_FAILED, step->name, step->name, &error, r);
                        (void) reserve_release(&e->context, NULL); /* for the record, if for nothing else */
                        r = recorded(e, txn_turn_back(t, t->steps[i].name, error_text(&error, r), error.advice));
                        if (step && txn_touched_node(t))
                                journal_event(&e->context.journal, EVENT_UPGRADE_FAILED,
                                                &(JournalFields){ .step = step->name,
                                                                .result = "failed",
                                                                .error = t->cause },
                                                "The upgrade to %s failed at '%s': %s", t->plan->to, t->cause_step,
                                                t->cause);
                        return r < 0 ? r : WALK_TURNED_BACK;
                }

                tell_done(e, step, false, t->steps[i].took_usec);
                if (step->package_lock && (i + 1 == t->n_steps || !upgrade_steps[i + 1].package_lock))
                        package_lock_release(&e->package_lock);
        }
        return 0;
}

/* What was asked for by a person and cannot even begin is refused: the record in the history stays as it is, and so does
 * the node. Only rows that touch nothing but our own directory are optional. */
static bool can_refuse_way_back(const Txn *t, size_t i, const Step *step) {
        if (!step || !step->optional || t->cause_step)
                return false;
        for (size_t k = i + 1; k < t->n_steps; k++) {
                const Step *later = step_find(t->steps[k].name);

                if (!later || later->undo)
                        return false;
        }
        return true;
}

static int check_mounts(const Plan *p, Error *reterr) {
        const char *missing;
        int r = places_are_mounted(p, MOUNTS_OF_MACHINE, &missing);

        return r == 0 ? error_set(reterr, -ENODEV, "Mount it.",
                                        "Nothing is mounted on %s, where files of the node were", missing)
                      : r;
}

static int refuse_way_back(Engine *e, const Error *error, int why) {
        _cleanup_(txn_freep) Txn *before = NULL;
        Txn *t = e->txn;
        int r;

        r = step_units_clear(&e->context);
        if (r >= 0)
                r = txn_forget(t);
        if (r < 0)
                return r;
        explain(e, EVENT_UPGRADE_REFUSED, e->context.step, "Refused, and nothing was touched", error, why);
        if (txn_load_history(t->dir_fd, t->plan->id, &before, NULL) >= 0)
                status_write(before, NULL, "Going back was refused", NULL);
        (void) sd_notifyf(0, "STATUS=Refused: %s", error_text(error, why));
        return WALK_REFUSED;
}

/* Returns WALK_DONE, WALK_STUCK, WALK_REFUSED or a negative errno.
 *
 * Beyond the way back there is only a person. So what fails on it is tried as often as what is interrupted on it, after a
 * while: a program that was killed, or a disk that was full or away for a moment, does not leave the node down. */
static int walk_back(Engine *e) {
        Txn *t = e->txn;

        for (size_t i = t->n_steps; i-- > 0;) {
                _cleanup_(error_done) Error error = ERROR_NULL;
                bool resumed = t->steps[i].state == STEP_UNDO_BEGUN, begun = false;
                const Step *step;
                int r = 0;

                if (t->steps[i].state == STEP_TODO || t->steps[i].state == STEP_UNDONE)
                        continue;
                step = row_of(e, i, &error);
                if (!step)
                        r = -EBADMSG;
                if (step && !step->undo) {
                        r = recorded(e, txn_mark(t, i, STEP_UNDONE));
                        if (r < 0)
                                return r;
                        continue;
                }

                if (r >= 0 && t->steps[i].attempts >= e->context.config->attempts)
                        r = error_set(&error, -ELOOP, NULL, "It was interrupted %u times", t->steps[i].attempts);
                if (r >= 0) {
                        tell_begun(e, step, true);
                        /* Where nothing was touched yet, so that nobody is waited for with the node down. */
                        if (can_refuse_way_back(t, i, step)) {
                                r = check_mounts(t->plan, &error);
                                if (r >= 0)
                                        r = package_lock_take(&e->package_lock, &e->context, true, &error);
                        } else if (txn_touched_node(t)) {
                                r = room_await_mounts(t, &e->context);
                                if (r < 0)
                                        return r;
                        }
                }
                if (r >= 0) {
                        r = recorded(e, txn_mark(t, i, STEP_UNDO_BEGUN));
                        if (r < 0)
                                return r;
                        begun = true; /* and so the attempt is counted */
                        r = step_unit_clear(&e->context, step, false,
                                        &error); /* the way forward may have left it running */
                        if (r >= 0 && step->place == IN_PACKAGES)
                                r = package_lock_take(&e->package_lock, &e->context, step->node == NODE_UP, &error);
                        if (r >= 0)
                                r = run_row(e, step, true, resumed, &error);
                }
                if (r == -ECONNRESET)
                        return r;
                if (r < 0 && machine_goes_down(e))
                        return -EINTR;
                if (r < 0) {
                        explain(e, EVENT_STEP_UNDO_FAILED, t->steps[i].name, t->steps[i].name, &error, r);
                        if (step)
                                (void) step_unit_clear(&e->context, step, true, NULL);
                        if (begun && !can_refuse_way_back(t, i, step)) {
                                int waited = room_await(t, &e->context);

                                if (waited < 0)
                                        return waited;
                                if (waited > 0)
                                        t->steps[i].attempts = 0; /* none of these was one */
                        }
                        if (begun && t->steps[i].attempts < e->context.config->attempts) {
                                r = manager_wait(e->context.manager, NULL, NULL,
                                                usec_from_now(t->steps[i].attempts * RETRY_USEC));
                                if (r < 0)
                                        return r;
                                i++; /* the same once more */
                                continue;
                        }
                        if (can_refuse_way_back(t, i, step))
                                r = refuse_way_back(e, &error, r);
                        else {
                                r = recorded(e, txn_stick(t, t->steps[i].name, error_text(&error, r)));
                                r = r < 0 ? r : WALK_STUCK;
                        }
                        return r;
                }

                r = recorded(e, txn_mark(t, i, STEP_UNDONE));
                if (r < 0)
                        return r;
                tell_done(e, step, true, t->steps[i].undo_took_usec);
        }
        return 0;
}

/* --- there, and back --- */

/* Before the transaction is closed, so that it is done again after a crash. The node is well: it does not fail for this.
 * Returns 0, or a negative errno where another process has to do it. */
static int settle_hold(Engine *e, bool rolled_back) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        Context *c = &e->context;
        int r;

        if (!package_hold_matters(c, rolled_back))
                return 0;
        r = package_lock_take(&e->package_lock, c, true, &error);
        if (r >= 0)
                r = package_settle_hold(c, rolled_back, &error);
        if (r == -ECONNRESET)
                return r;
        if (r < 0 && machine_goes_down(e))
                return -EINTR;
        if (r < 0)
                explain(e, EVENT_PACKAGE_NOT_HELD, NULL, "The package is not on hold", &error, r);
        return 0;
}

/* Returns as walk_forward(). */
static int go_forward(Engine *e) {
        int r;

        if (!txn_touched_node(e->txn))
                reserve_begin();
        r = walk_forward(e);
        if ((r == WALK_DONE || r == -EALREADY) && step_units_clear(&e->context) < 0)
                return -ECONNRESET;
        return r;
}

/* Returns as walk_back(). */
static int go_back(Engine *e) {
        bool touched = txn_touched_node(e->txn);
        Txn *t = e->txn;
        int r;

        (void) reserve_release(&e->context, NULL); /* the way back is what it was for */
        if (touched)
                journal_event(&e->context.journal, EVENT_ROLLBACK_STARTED,
                                &(JournalFields){ .step = t->cause_step, .error = t->cause },
                                "Going back to EMQX %s: %s", t->plan->from, t->cause);
        r = walk_back(e);
        if (r != WALK_DONE)
                return r;
        r = step_units_clear(&e->context);
        if (r < 0)
                return r;
        (void) reserve_release(&e->context, NULL); /* where it could not be removed before */
        return touched && node_settle(&e->context, NULL) == -ECONNRESET ? -ECONNRESET : WALK_DONE;
}

ExitStatus engine_run(Engine *e) {
        Context *c = &e->context;
        Txn *t = e->txn;
        int r = WALK_STUCK;

        e->package_lock = PACKAGE_LOCK_NULL;
        e->inhibitor_fd = -1;
        c->report = on_report;
        c->userdata = e;
        c->await_packages = await_packages;
        c->asked_to_stop = asked_to_stop;
        manager_set_interrupt(c->manager, is_interrupted, e);
        if (!txn_touched_node(t))
                aside_sweep();

        if (t->direction == TXN_FORWARD) {
                r = go_forward(e);
                if (r == -EALREADY)
                        return finish_nothing_to_do(t, c);
                if (r == WALK_DONE && engine_only_stages(t))
                        return finish_staged(t, c);
                if (r == WALK_DONE) {
                        r = settle_hold(e, false);
                        return r < 0 ? finish_unfinished(c, r) : finish_upgraded(t, c);
                }
        }
        if (t->direction == TXN_BACK) { /* whether or not that it turned could be written */
                bool touched = txn_touched_node(t);

                r = go_back(e);
                if (r == WALK_REFUSED)
                        return EXIT_REFUSED;
                if (r == WALK_DONE && !touched)
                        return finish_refused(t, c);
                if (r == WALK_DONE) {
                        r = settle_hold(e, true);
                        return r < 0 ? finish_unfinished(c, r) : finish_rolled_back(t, c);
                }
        }
        return t->direction == TXN_STUCK ? finish_stuck(t, c) : finish_unfinished(c, r);
}
