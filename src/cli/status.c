/* SPDX-License-Identifier: Apache-2.0 */

#include <stdarg.h>

#include "cli/terminal.h"
#include "cli/verbs.h"

#define LABEL_WIDTH 10
#define INDENT (LABEL_WIDTH + 2)

void print_json(json_object *o) {
        (void) puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

ExitStatus say_error(const Error *error, int r, ExitStatus status) {
        static const Error none = ERROR_NULL;
        _cleanup_free_ char *text = printable(error_text(error ?: &none, r));

        (void) fprintf(stderr, "emqx-upgrade: %s\n", text ?: "out of memory");
        if (error && error->advice) {
                _cleanup_free_ char *advice = printable(error->advice);

                (void) fprintf(stderr, "%s\n", advice ?: "");
        }
        return status;
}

static void print_label(const char *label) {
        (void) printf("%s%*s%s%s ", style_begin(stdout, STYLE_DIM), LABEL_WIDTH, label, *label ? ":" : " ",
                        style_end(stdout));
}

static void print_text(const char *label, Style style, const char *text) {
        if (!text)
                return;
        print_label(label);
        print_wrapped(stdout, style, INDENT, INDENT, text);
}

static void print_textf(const char *label, Style style, const char *format, ...) _printf_(3, 4);

static void print_textf(const char *label, Style style, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = format_text(format, ap);
        va_end(ap);
        print_text(label, style, text);
}

static Style state_style(RecordState state) {
        static const Style styles[] = {
                [RECORD_RUNS] = STYLE_STRONG,
                [RECORD_INTERRUPTED] = STYLE_WARNING,
                [RECORD_STUCK] = STYLE_BAD,
                [RECORD_DONE] = STYLE_GOOD,
                [RECORD_REFUSED] = STYLE_WARNING,
                [RECORD_ROLLED_BACK] = STYLE_BAD,
        };

        return styles[state];
}

static void print_times(const Record *r) {
        char when[TIMESPAN_TEXT_MAX], span[TIMESPAN_TEXT_MAX], predicted[TIMESPAN_TEXT_MAX];
        const Txn *t = r->txn;
        usec_t down = plan_downtime_usec(t->plan);

        print_text("Began", STYLE_PLAIN, format_local(when, t->started_realtime_usec));
        if (t->ended_realtime_usec > t->started_realtime_usec)
                print_textf("Ended", STYLE_PLAIN, "%s, after %s", format_local(when, t->ended_realtime_usec),
                                format_timespan(span, t->ended_realtime_usec - t->started_realtime_usec));
        if (down == 0 && r->predicted_downtime_usec > 0)
                print_textf("Down", STYLE_PLAIN, "not yet; predicted are %s",
                                format_timespan(predicted, r->predicted_downtime_usec));
        else if (down > 0)
                print_textf("Down", STYLE_PLAIN, "%s%s%s%s%s", format_timespan(span, down),
                                t->plan->ready_since_realtime_usec ? "" : " so far",
                                r->predicted_downtime_usec > 0 ? " (predicted: " : "",
                                r->predicted_downtime_usec > 0 ? format_timespan(predicted, r->predicted_downtime_usec)
                                                               : "",
                                r->predicted_downtime_usec > 0 ? ")" : "");
}

static void print_present(const Record *r) {
        if (r->step)
                print_textf("Step", STYLE_STRONG, "%s, %u %% of the steps are over", r->step, r->percent);
        print_text("Status", STYLE_PLAIN, r->text);
}

/* Those that say something; of the others only how many there are. */
static void print_checks(const Plan *p) {
        size_t n[_CHECK_KEPT_MAX] = { 0 };
        const char *label = "Checks";

        for (size_t i = 0; i < p->n_checks; i++) {
                const PlanCheck *k = &p->checks[i];

                n[k->outcome]++;
                if (k->outcome == CHECK_PASSED)
                        continue;
                print_textf(label, k->outcome == CHECK_REFUSED ? STYLE_BAD : STYLE_WARNING, "%s %s (%s): %s%s%s",
                                glyph(k->outcome == CHECK_REFUSED ? GLYPH_FAILED : GLYPH_WARNING), k->name, k->step,
                                k->text, k->advice ? ". " : "", k->advice ?: "");
                label = "";
        }
        if (p->n_checks > 0)
                print_textf(label, STYLE_PLAIN, "%zu passed, %zu warned, %zu refused", n[CHECK_PASSED],
                                n[CHECK_WARNED], n[CHECK_REFUSED]);
}

static void print_steps(const Txn *t) {
        static const struct {
                Glyph glyph;
                Style style;
                const char *words;
        } states[] = {
                [STEP_TODO] = { GLYPH_BAR_REST, STYLE_DIM, "" },
                [STEP_BEGUN] = { GLYPH_RUNS, STYLE_STRONG, "begun" },
                [STEP_DONE] = { GLYPH_DONE, STYLE_GOOD, "done" },
                [STEP_UNDO_BEGUN] = { GLYPH_RUNS, STYLE_STRONG, "being undone" },
                [STEP_UNDONE] = { GLYPH_UNDONE, STYLE_WARNING, "undone" },
                [STEP_FAILED] = { GLYPH_WARNING, STYLE_WARNING, "failed" },
        };

        for (size_t i = 0; i < t->n_steps; i++) {
                const TxnStep *s = &t->steps[i];
                usec_t took = step_took_usec(s);
                char span[TIMESPAN_TEXT_MAX];

                print_label(i == 0 ? "Steps" : "");
                if (s->state == STEP_TODO)
                        (void) printf("%s  %s%s\n", style_begin(stdout, STYLE_DIM), s->name, style_end(stdout));
                else
                        (void) printf("%s%s%s %-10s %-13s%s\n", style_begin(stdout, states[s->state].style),
                                        glyph(states[s->state].glyph), style_end(stdout), s->name,
                                        states[s->state].words, took > 0 ? format_timespan(span, took) : "");
                if (s->why)
                        print_text("", STYLE_WARNING, s->why);
        }
}

static void print_dropped(const Plan *p) {
        const char *label = "Dropped";

        for (size_t i = 0; i < p->n_adapted; i++)
                STRV_FOREACH (key, p->adapted[i].dropped) {
                        print_textf(label, STYLE_PLAIN, "%s in %s", *key, p->adapted[i].file);
                        label = "";
                }
}

void print_record(const Record *r) {
        RecordState state = record_state(r);
        _cleanup_free_ char *headline = record_headline(r, state), *now = record_what_now(r, state);
        const Txn *t = r->txn;

        (void) printf("%s%s%s ", style_begin(stdout, state_style(state)), glyph(GLYPH_DOT), style_end(stdout));
        print_wrapped(stdout, STYLE_STRONG, 2, 2, headline ?: "");
        print_text("Upgrade", STYLE_PLAIN, t->plan->id);
        print_text("Unit", STYLE_PLAIN, t->unit);
        if (state != RECORD_RUNS) /* it has none yet */
                print_text("Result", state_style(state), state == RECORD_STUCK ? "stuck" : txn_result_name(t->result));
        print_times(r);
        if (state == RECORD_RUNS || state == RECORD_INTERRUPTED)
                print_present(r);
        if (t->cause)
                print_textf("Cause", STYLE_BAD, "%s%s%s", t->cause_step ?: "", t->cause_step ? ": " : "", t->cause);
        if (t->back_cause)
                print_textf("Way back", STYLE_BAD, "failed at %s: %s", t->back_cause_step ?: "?", t->back_cause);
        print_checks(t->plan);
        print_dropped(t->plan);
        for (char **path = t->plan->kept_aside; path && *path; path++)
                print_textf(path == t->plan->kept_aside ? "Aside" : "", STYLE_PLAIN,
                                STATE_DIR "/backups/%s/defaults/%s", t->plan->id, *path);
        if (t->plan->hold)
                print_textf("Hold", STYLE_PLAIN, "%s is on hold, %s", t->plan->package,
                                streq(t->plan->hold, "operator") ? "as it was before" : "because it was rolled back");
        print_steps(t);
        print_text("What now", STYLE_STRONG, now);
}

ExitStatus verb_status(char **args) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(record_freep) Record *record = NULL;
        int r;

        (void) args;
        r = record_load(NULL, &record, &error);
        if (r == -ENOENT ||
                        (r == -EACCES &&
                                        geteuid() != 0)) { /* since boot there was none, and who asks may see no more */
                (void) puts(arg_json ? "{}"
                                                : r == -ENOENT
                                                ? "No upgrade has been made on this host."
                                                : "No upgrade was made since boot; those before it, only root may see.");
                return EXIT_DONE;
        }
        if (r < 0)
                return say_error(&error, r, EXIT_INTERRUPTED);
        if (arg_json)
                print_json(record->json);
        else
                print_record(record);
        return EXIT_DONE;
}

bool is_upgrade_id(const char *id) {
        if (streq(id, "last") || plan_is_id(id))
                return true;
        (void) fprintf(stderr, "emqx-upgrade: '%.64s' is not the id of an upgrade. See: emqx-upgrade history\n", id);
        return false;
}

/* systemctl shows what happens and asks polkit for those who are not root. */
ExitStatus verb_rollback(char **args) {
        const char *id = args[0] ?: "last";
        char unit[128];

        if (!is_upgrade_id(id))
                return EXIT_USAGE;
        (void) snprintf(unit, sizeof(unit), "emqx-upgrade-rollback@%s.service", id);
        (void) execlp("systemctl", "systemctl", "start", unit, (char *) NULL);
        (void) fprintf(stderr, "emqx-upgrade: cannot run systemctl: %m\n");
        return EXIT_INTERRUPTED;
}
