/* SPDX-License-Identifier: Apache-2.0 */

#include "node/node.h"
#include "steps/accepting.h"
#include "steps/control.h"

#define RETRY_USEC (500 * USEC_PER_MSEC)
#define WATCH_LOOK_USEC USEC_PER_SEC            /* between two looks at processes and log */
#define WATCH_ROUND_USEC (5 * USEC_PER_SEC)     /* between two times that everything is asked */
#define WATCH_PATIENCE_USEC (15 * USEC_PER_SEC) /* a busy node may be late with an answer */

/* --- asking --- */

static int ask(Acceptance *a, const Question *question, Error *reterr) {
        a->text = mfree(a->text);
        a->warned = false;
        return question->ask(a, reterr);
}

static bool ends_the_conductor(int r) {
        return r == -EINTR || r == -ECONNRESET || r == -ENOMEM;
}

typedef struct Asking {
        Acceptance *a;
        const Question *question;
        usec_t next_usec;
        Error error; /* of the last try */
} Asking;

static int ask_again(void *userdata) {
        Asking *k = userdata;
        int r;

        if (now_usec(CLOCK_MONOTONIC) < k->next_usec)
                return 0;
        error_done(&k->error);
        r = ask(k->a, k->question, &k->error);
        k->a->refresh = r == 0;
        k->next_usec = usec_from_now(RETRY_USEC);
        return r;
}

static int on_retry_time(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) usec;
        (void) userdata;
        return sd_event_source_set_time_relative(s, RETRY_USEC);
}

static int tell_failed(Acceptance *a, const Question *question, int r, const Error *error, Error *reterr) {
        const char *why = error_text(error, r);

        journal_event(&a->c->journal, EVENT_CHECK_FAILED,
                        &(JournalFields){
                                        .step = a->c->step, .check = question->name, .error = why, .error_number = r },
                        "%s: %s%s%s", question->name, why, error->advice ? ". " : "", error->advice ?: "");
        (void) plan_keep_check(a->c->plan, a->c->step, question->name, CHECK_REFUSED, why, error->advice);
        return error_set(reterr, r, error->advice, "%s is not well: %s", a->version, why);
}

static void tell_passed(Acceptance *a, const Question *question) {
        step_check(a->c, question->name, a->warned ? CHECK_WARNED : CHECK_PASSED, a->text ?: question->yes, NULL);
}

static int accept_until(Acceptance *a, usec_t deadline_usec, Error *reterr) {
        Context *c = a->c;
        sd_event_source *retry = NULL;
        int r;

        r = sd_event_add_time_relative(c->event, &retry, CLOCK_MONOTONIC, RETRY_USEC, 0, on_retry_time, NULL);
        if (r >= 0)
                r = sd_event_source_set_enabled(retry, SD_EVENT_ON);
        for (const Question *question = accept_questions; question->name && r >= 0; question++) {
                Asking k = { .a = a, .question = question };

                step_report(c, "asking whether %s", question->yes);
                r = manager_wait(c->manager, ask_again, &k, deadline_usec);
                if (r < 0 && !ends_the_conductor(r)) {
                        if (a->back && question->outside) {
                                a->warned = true;
                                (void) free_and_strdup(&a->text, error_text(&k.error, r));
                                tell_passed(a, question);
                                r = 0;
                        } else
                                r = tell_failed(a, question, r, &k.error, reterr);
                } else if (r >= 0)
                        tell_passed(a, question);
                error_done(&k.error);
        }
        (void) sd_event_source_disable_unref(retry);
        return r < 0 ? r : 0;
}

int accept_node(Context *c, const char *version, Error *reterr) {
        _cleanup_(acceptance_done)
                        Acceptance a = { .c = c, .version = version, .back = streq(version, c->plan->from) };

        return accept_until(&a, usec_from_now(c->config->verify_timeout_usec), reterr);
}

/* --- the watch --- */

typedef struct Watching {
        Acceptance a;
        usec_t until_usec, next_look_usec, next_round_usec;
        usec_t missing_since_usec; /* an answer is, since then; 0: none is */
        const Question *missing;   /* whose */
        Error error;               /* of that question */
} Watching;

/* 1: all that was asked is as it should be. */
static int look(Watching *w, bool round) {
        if (round)
                w->a.refresh = true;
        for (const Question *question = accept_questions; question->name; question++) {
                _cleanup_(error_done) Error error = ERROR_NULL;
                int r;

                if (!question->quick && !round)
                        continue;
                r = ask(&w->a, question, &error);
                if (r > 0)
                        continue;
                w->missing = question;
                error_done(&w->error);
                w->error = error;
                error = ERROR_NULL;
                return r;
        }
        return 1;
}

static int watching(void *userdata) {
        Watching *w = userdata;
        Context *c = w->a.c;
        usec_t now = now_usec(CLOCK_MONOTONIC);
        char span[TIMESPAN_TEXT_MAX];
        bool round;
        int r;

        if (c->asked_to_stop && c->asked_to_stop(c))
                w->until_usec = MIN(w->until_usec, now);
        if (now < w->next_look_usec && now < w->until_usec)
                return 0;
        if (w->missing_since_usec != 0 && now < w->next_look_usec)
                return 0;
        round = now >= w->next_round_usec || now >= w->until_usec || w->missing_since_usec != 0;
        if (round || w->next_look_usec == 0)
                step_report(c, "watching for another %s", format_timespan(span, usec_left(w->until_usec)));
        r = look(w, round);
        now = now_usec(CLOCK_MONOTONIC);
        w->next_look_usec = now + WATCH_LOOK_USEC;
        if (round)
                w->next_round_usec = now + WATCH_ROUND_USEC;
        if (r < 0)
                return r;
        if (r > 0) {
                w->missing_since_usec = 0;
                return round && now >= w->until_usec;
        }
        if (w->missing_since_usec == 0)
                w->missing_since_usec = now;
        return now - w->missing_since_usec >= WATCH_PATIENCE_USEC ? -ECANCELED : 0;
}

/* The node is booting with the machine, or has to be started where nobody else does. */
static int wait_for_reboot(Watching *w, Error *reterr) {
        Context *c = w->a.c;
        usec_t ready_usec = c->plan->ready_since_realtime_usec;
        int r;

        r = node_bring_up(c, w->a.version, reterr);
        c->plan->ready_since_realtime_usec = ready_usec; /* the reboot is not the upgrade's */
        return r < 0 ? r : accept_until(&w->a, usec_from_now(c->config->verify_timeout_usec), reterr);
}

int accept_watch(Context *c, Error *reterr) {
        Watching w = { .a = { .c = c, .version = c->plan->to } };
        usec_t now = now_usec(CLOCK_MONOTONIC);
        sd_event_source *tick = NULL;
        int r = 0;

        if (!node_vm_is_of_this_boot(c->plan))
                r = wait_for_reboot(&w, reterr);
        if (r >= 0)
                r = sd_event_add_time_relative(c->event, &tick, CLOCK_MONOTONIC,
                                MIN(WATCH_LOOK_USEC / 2, c->config->watch_usec), 0, on_retry_time, NULL);
        if (r >= 0)
                r = sd_event_source_set_enabled(tick, SD_EVENT_ON);
        if (r >= 0) {
                now = now_usec(CLOCK_MONOTONIC);
                w.until_usec = now + c->config->watch_usec;
                w.next_round_usec = now + WATCH_ROUND_USEC; /* everything has just been asked */
                r = manager_wait(c->manager, watching, &w,
                                w.until_usec + WATCH_PATIENCE_USEC + c->config->verify_timeout_usec);
                if (r < 0 && !ends_the_conductor(r))
                        r = tell_failed(&w.a, w.missing, r, &w.error, reterr);
        }
        (void) sd_event_source_disable_unref(tick);
        error_done(&w.error);
        acceptance_done(&w.a);
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

int watch_node(Context *c, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        char span[TIMESPAN_TEXT_MAX];
        int r;

        if (c->config->watch_usec == 0)
                return 0;
        r = accept_watch(c, &why);
        if (r >= 0) {
                step_report(c, "it was well for %s", format_timespan(span, c->config->watch_usec));
                return 0;
        }
        if (c->config->watch_goes_back || ends_the_conductor(r))
                return error_set(reterr, r, why.advice, "%s", error_text(&why, r));
        journal_event(&c->journal, EVENT_WATCH_FAILED,
                        &(JournalFields){ .step = c->step, .error = error_text(&why, r), .error_number = r },
                        "%s. WatchFailure=report leaves it at that; to go back: emqx-upgrade rollback",
                        error_text(&why, r));
        return 0;
}
