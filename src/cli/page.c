/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/page.h"

#include <syslog.h>

#include "base/size.h"
#include "cli/html.h"
#include "cli/terminal.h"
#include "steps/step.h"

#define ROW_PX 38
#define BAR_TOP_PX 20
#define BAR_PX 10
#define AXIS_PX 26
#define TICKS_MAX 6
#define DIFF_LINES_MAX 1000

static const char style[] =
                ":root{color-scheme:light dark;--bg:#fbfbfc;--panel:#fff;--text:#1c2430;--soft:#5b6676;--line:#dfe3e9;--good:#12805c;"
                "--warn:#a15c00;--bad:#c02b3c;--run:#2b62c9;--bar:#3f76d6;--down:#c02b3c;--code:#f1f3f6}"
                "@media (prefers-color-scheme:dark){:root{--bg:#12161c;--panel:#1a2029;--text:#e4e9f0;--soft:#9aa7b8;--line:#2d3643;"
                "--good:#4cc38f;--warn:#e5a643;--bad:#ff7b86;--run:#7fb0ff;--bar:#6d9ff0;--down:#ff7b86;--code:#232b36}}"
                "*{box-sizing:border-box}"
                "body{margin:0;background:var(--bg);color:var(--text);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;"
                "-webkit-text-size-adjust:100%}"
                "main{max-width:64rem;margin:0 auto;padding:2rem 1.25rem 3rem}"
                "h1{font-size:1.75rem;line-height:1.2;margin:.25rem 0 .5rem;letter-spacing:-.01em;overflow-wrap:anywhere}"
                "h2{font-size:1.1rem;margin:2.25rem 0 .6rem}"
                "h3{font-size:.95rem;margin:1.25rem 0 .4rem;color:var(--soft);font-weight:600}"
                "p{margin:.4rem 0;overflow-wrap:anywhere}.panel>:last-child{margin-bottom:0}.soft{color:var(--soft)}.small{font-size:.875rem}"
                "code,.mono{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}"
                "code{background:var(--code);padding:.1em .35em;border-radius:.25rem}"
                "pre{background:var(--code);padding:.75rem 1rem;border-radius:.5rem;overflow-x:auto;margin:.5rem 0}pre code{padding:0;background:none}"
                ".badge{display:inline-block;padding:.15rem .7rem;border-radius:1rem;font-weight:600;font-size:.875rem;border:1px solid currentColor}"
                ".good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.run{color:var(--run)}"
                ".panel{background:var(--panel);border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.15rem;margin:.75rem 0}"
                ".panel.bad,.panel.warn{color:inherit}.panel.bad{border-left:4px solid var(--bad)}.panel.warn{border-left:4px solid var(--warn)}"
                ".panel.good{color:inherit;border-left:4px solid var(--good)}.panel.run{color:inherit;border-left:4px solid var(--run)}"
                ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.25rem 0}"
                ".figure{background:var(--panel);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}"
                ".figure b{display:block;font-size:1.4rem;line-height:1.25;font-variant-numeric:tabular-nums}"
                ".figure span{color:var(--soft);font-size:.875rem}"
                "svg{display:block;width:100%;overflow:visible;font:13px system-ui,sans-serif}"
                "svg text{fill:var(--text)}svg .t{fill:var(--soft)}svg .d{fill:var(--down);font-weight:600}"
                "svg .grid{stroke:var(--line)}svg .track{fill:var(--line);opacity:.55}"
                "svg .bar{fill:var(--bar)}svg .bar.warn{fill:var(--warn)}svg .bar.bad{fill:var(--bad)}svg .bar.run{fill:var(--run)}"
                "svg .band{fill:var(--down);opacity:.1}svg .edge{stroke:var(--down);stroke-dasharray:3 3}"
                "table{border-collapse:collapse;width:100%;font-size:.9375rem}"
                "th{text-align:left;font-weight:600;color:var(--soft);font-size:.8125rem}"
                "th,td{padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}"
                "tr:last-child td{border-bottom:0}td.n{white-space:nowrap;font-variant-numeric:tabular-nums}"
                ".log td{font:.8125rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;padding:.15rem .75rem .15rem 0;border:0}"
                ".log td.n{color:var(--soft)}.log .bad td:last-child{color:var(--bad)}.log .warn td:last-child{color:var(--warn)}.log .note td:last-child{font-weight:600}"
                "ul{margin:.4rem 0;padding-left:1.25rem}li{margin:.2rem 0;overflow-wrap:anywhere}"
                "summary{cursor:pointer;color:var(--soft)}footer{margin-top:3rem;color:var(--soft);font-size:.8125rem}"
                "@media (max-width:48rem){svg .wide{display:none}}"
                "@media (max-width:40rem){main{padding:1.25rem .9rem 2rem}h1{font-size:1.4rem}.wide{display:none}"
                ".checks td:first-child{padding-right:.5rem}}"
                "@media print{.panel,.figure{break-inside:avoid}details{display:block}}";

void page_entry_done(PageEntry *e) {
        free(e->event);
        free(e->step);
        free(e->message);
}

void page_done(Page *p) {
        for (size_t i = 0; i < p->n_entries; i++)
                page_entry_done(&p->entries[i]);
        p->entries = mfree(p->entries);
        p->n_entries = 0;
}

static const char *state_class(RecordState state) {
        static const char *const classes[] = {
                [RECORD_RUNS] = "run",
                [RECORD_INTERRUPTED] = "warn",
                [RECORD_STUCK] = "bad",
                [RECORD_DONE] = "good",
                [RECORD_REFUSED] = "warn",
                [RECORD_ROLLED_BACK] = "bad",
        };

        return classes[state];
}

static const char *state_word(RecordState state) {
        static const char *const words[] = {
                [RECORD_RUNS] = "running",
                [RECORD_INTERRUPTED] = "interrupted",
                [RECORD_STUCK] = "stuck: a person is needed",
                [RECORD_DONE] = "done",
                [RECORD_REFUSED] = "refused, nothing was touched",
                [RECORD_ROLLED_BACK] = "rolled back",
        };

        return words[state];
}

/* --- the head --- */

static void write_head(const Page *p, FILE *out) {
        const Plan *plan = p->record->txn->plan;
        char when[TIMESPAN_TEXT_MAX];

        (void) fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
                     "<meta name=\"generator\" content=\"emqx-upgrade " PACKAGE_VERSION "\">\n<title>EMQX ",
                        out);
        html_textf(out, "%s → %s on %s: %s", plan->from ?: "?", plan->to, p->host, state_word(p->state));
        (void) fprintf(out,
                        "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n<p class=\"soft small\">Upgrade report · ",
                        style);
        html_text(out, p->host);
        if (plan->node_name) {
                (void) fputs(" · ", out);
                html_text(out, plan->node_name);
        }
        (void) fputs("</p>\n<h1>EMQX ", out);
        html_textf(out, "%s → %s", plan->from ?: "?", plan->to);
        (void) fprintf(out, "</h1>\n<p><span class=\"badge %s\">%s</span></p>\n<p class=\"soft small\">",
                        state_class(p->state), state_word(p->state));
        html_textf(out, "Began %s", format_local(when, p->record->txn->started_realtime_usec));
        if (p->record->txn->ended_realtime_usec > 0)
                html_textf(out, ", ended %s", format_local(when, p->record->txn->ended_realtime_usec));
        (void) fprintf(out, " · <span class=\"mono\">%s</span></p>\n", plan->id);
}

static void write_why(const Page *p, FILE *out) {
        const Txn *t = p->record->txn;
        _cleanup_free_ char *now = record_what_now(p->record, p->state);

        if (t->cause) {
                (void) fprintf(out, "<div class=\"panel %s\"><strong>%s", state_class(p->state),
                                p->state == RECORD_REFUSED ? "Why it was refused" : "Why it did not succeed");
                if (t->cause_step) {
                        (void) fputs(", at <code>", out);
                        html_text(out, t->cause_step);
                        (void) fputs("</code>", out);
                }
                (void) fputs("</strong><p>", out);
                html_text(out, t->cause);
                (void) fputs("</p>", out);
                if (t->advice && p->state != RECORD_REFUSED &&
                                p->state != RECORD_ROLLED_BACK) { /* they have it below */
                        (void) fputs("<p class=\"soft\">", out);
                        html_text(out, t->advice);
                        (void) fputs("</p>", out);
                }
                (void) fputs("</div>\n", out);
        }
        if (t->back_cause) {
                (void) fputs("<div class=\"panel bad\"><strong>Why the way back failed, at <code>", out);
                html_text(out, t->back_cause_step ?: "?");
                (void) fputs("</code></strong><p>", out);
                html_text(out, t->back_cause);
                (void) fputs("</p></div>\n", out);
        }
        (void) fprintf(out, "<div class=\"panel %s\"><strong>What to do now</strong><p>", state_class(p->state));
        html_text(out, now);
        (void) fputs("</p></div>\n", out);
}

static void write_figure(FILE *out, const char *label, const char *value, const char *beside) {
        (void) fputs("<div class=\"figure\"><b>", out);
        html_text(out, value);
        (void) fputs("</b><span>", out);
        html_text(out, label);
        if (beside) {
                (void) fputs("<br>", out);
                html_text(out, beside);
        }
        (void) fputs("</span></div>\n", out);
}

static void write_figures(const Page *p, FILE *out) {
        const Txn *t = p->record->txn;
        const Plan *plan = t->plan;
        char span[TIMESPAN_TEXT_MAX], predicted[TIMESPAN_TEXT_MAX], bytes[SIZE_TEXT_MAX], checks[64], beside[128] = "";
        usec_t down = plan_downtime_usec(plan), end = t->ended_realtime_usec ?: p->written_realtime_usec;
        size_t n[_CHECK_KEPT_MAX] = { 0 };

        for (size_t i = 0; i < plan->n_checks; i++)
                n[plan->checks[i].outcome]++;
        (void) fputs("<div class=\"figures\">\n", out);
        if (down > 0 && p->record->predicted_downtime_usec > 0)
                (void) snprintf(beside, sizeof(beside), "predicted: %s",
                                format_timespan(predicted, p->record->predicted_downtime_usec));
        write_figure(out,
                        down > 0 && plan->ready_since_realtime_usec == 0 ? "the node is down, so far"
                                                                         : "the node was down",
                        down > 0 ? format_timespan(span, down) : "not at all", *beside ? beside : NULL);
        if (end > t->started_realtime_usec)
                write_figure(out, t->ended_realtime_usec ? "from begin to end" : "since it began",
                                format_timespan(span, end - t->started_realtime_usec), NULL);
        if (plan->tree_bytes > 0)
                write_figure(out, "configuration and data", format_size(bytes, plan->tree_bytes), NULL);
        if (plan->n_checks > 0) {
                (void) snprintf(checks, sizeof(checks), "%zu of %zu", n[CHECK_PASSED], plan->n_checks);
                if (n[CHECK_WARNED] + n[CHECK_REFUSED] > 0)
                        (void) snprintf(beside, sizeof(beside), "%zu warned, %zu refused", n[CHECK_WARNED],
                                        n[CHECK_REFUSED]);
                write_figure(out, "checks passed", checks, n[CHECK_WARNED] + n[CHECK_REFUSED] > 0 ? beside : NULL);
        }
        (void) fputs("</div>\n", out);
}

/* --- the timeline --- */

typedef struct Segment {
        const char *name, *title, *class;
        usec_t begin_usec, end_usec;
        uint64_t bytes;
        bool open;
} Segment;

/* Where t lies between begin and end, in percent. */
static double place(usec_t t, usec_t begin, usec_t end) {
        return t <= begin || end <= begin ? 0 : t >= end ? 100 : 100.0 * (double) (t - begin) / (double) (end - begin);
}

/* A step of the axis that gives at most TICKS_MAX: 1, 2 or 5 times a power of ten of milliseconds. */
static usec_t tick_usec(usec_t span) {
        static const unsigned factors[] = { 1, 2, 5 };

        for (usec_t power = USEC_PER_MSEC; power < USEC_INFINITY / 100; power *= 10)
                for (size_t i = 0; i < ELEMENTSOF(factors); i++)
                        if (span / (power * factors[i]) <= TICKS_MAX)
                                return power * factors[i];
        return span;
}

/* down_usec, up_usec: 0 where the node was not down in it. */
static void write_chart(
                FILE *out, const char *title, const Segment *segments, size_t n, usec_t down_usec, usec_t up_usec) {
        usec_t begin = USEC_INFINITY, end = 0, tick;
        char span[TIMESPAN_TEXT_MAX], bytes[SIZE_TEXT_MAX];
        unsigned height;

        for (size_t i = 0; i < n; i++) {
                begin = MIN(begin, segments[i].begin_usec);
                end = MAX(end, segments[i].end_usec);
        }
        if (n == 0 || end <= begin)
                return;
        tick = tick_usec(end - begin);
        height = AXIS_PX + (unsigned) n * ROW_PX;

        (void) fputs("<div class=\"panel\"><svg role=\"img\" aria-label=\"", out);
        html_text(out, title);
        (void) fprintf(out, "\" height=\"%u\">\n", height);
        for (usec_t t = 0; t <= end - begin; t += tick) {
                double x = place(begin + t, begin, end);

                (void) fprintf(out, "<line class=\"grid\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%u\"/>", x, x,
                                AXIS_PX - 6, height);
                (void) fprintf(out, "<text class=\"t\" x=\"%.2f%%\" y=\"12\" text-anchor=\"%s\">", x,
                                t == 0                   ? "start"
                                                : x > 92 ? "end"
                                                         : "middle");
                html_text(out, t == 0 ? "0" : format_timespan(span, t));
                (void) fputs("</text>\n", out);
        }
        if (down_usec > 0 && up_usec > down_usec) {
                double from = place(down_usec, begin, end), to = place(up_usec, begin, end);

                (void) fprintf(out,
                                "<rect class=\"band\" x=\"%.2f%%\" width=\"%.2f%%\" y=\"%d\" height=\"%u\"><title>the node is down</title></rect>"
                                "<line class=\"edge\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%u\"/>"
                                "<line class=\"edge\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%u\"/>\n",
                                from, to - from, AXIS_PX - 6, height - AXIS_PX + 6, from, from, AXIS_PX - 6, height,
                                to, to, AXIS_PX - 6, height);
        }
        for (size_t i = 0; i < n; i++) {
                const Segment *s = &segments[i];
                unsigned y = AXIS_PX + (unsigned) i * ROW_PX;
                double from = place(s->begin_usec, begin, end), to = place(s->end_usec, begin, end);

                (void) fprintf(out, "<text x=\"0\" y=\"%u\"><tspan font-weight=\"600\">", y + 14);
                html_text(out, s->name);
                (void) fputs("</tspan><tspan class=\"t wide\" dx=\"8\">", out);
                html_text(out, s->title);
                (void) fprintf(out, "</tspan></text><text x=\"100%%\" y=\"%u\" text-anchor=\"end\">", y + 14);
                if (s->bytes > 0)
                        html_textf(out, "%s · ", format_size(bytes, s->bytes));
                html_textf(out, "%s%s", format_timespan(span, s->end_usec - s->begin_usec), s->open ? " so far" : "");
                (void) fprintf(out,
                                "</text><rect class=\"track\" x=\"0\" width=\"100%%\" y=\"%u\" height=\"%d\" rx=\"3\"/>"
                                "<rect class=\"bar %s\" x=\"%.2f%%\" width=\"max(3px,%.2f%%)\" style=\"width:max(3px,%.2f%%)\" y=\"%u\" height=\"%d\" rx=\"3\"/>\n",
                                y + BAR_TOP_PX, BAR_PX, s->class, MIN(from, 99.6), to - from, to - from,
                                y + BAR_TOP_PX, BAR_PX);
        }
        (void) fputs("</svg></div>\n", out);
}

static const char *step_title(const TxnStep *s, bool undo) {
        const Step *step = step_find(s->name);

        return step ? (undo ? step->undo_title : step->title) : NULL;
}

static void write_timeline(const Page *p, FILE *out) {
        const Txn *t = p->record->txn;
        const Plan *plan = t->plan;
        usec_t until = t->ended_realtime_usec ?: p->written_realtime_usec;
        usec_t stop = 0, started = 0, back = 0;
        _cleanup_free_ Segment *forth = calloc(t->n_steps + 1, sizeof(Segment)),
                               *undone = calloc(t->n_steps + 1, sizeof(Segment));
        size_t n_forth = 0, n_undone = 0;

        if (!forth || !undone)
                return;
        for (size_t i = 0; i < t->n_steps; i++) {
                const TxnStep *s = &t->steps[i];
                bool open = s->took_usec == 0 && s->state == STEP_BEGUN;

                if (s->begun_realtime_usec == 0)
                        continue;
                forth[n_forth++] = (Segment){ .name = s->name,
                        .title = step_title(s, false),
                        .class = open                                       ? "run"
                                        : s->state == STEP_FAILED           ? "warn"
                                        : streq_ptr(s->name, t->cause_step) ? "bad"
                                                                            : "",
                        .begin_usec = s->begun_realtime_usec,
                        .end_usec = open ? until : s->begun_realtime_usec + s->took_usec,
                        .bytes = s->bytes,
                        .open = open };
                if (streq(s->name, "stop"))
                        stop = s->begun_realtime_usec;
                if (streq(s->name, "start") && s->took_usec > 0)
                        started = s->begun_realtime_usec + s->took_usec;
        }
        for (size_t i = t->n_steps; i-- > 0;) {
                const TxnStep *s = &t->steps[i];
                bool open = s->undo_took_usec == 0 && s->state == STEP_UNDO_BEGUN;

                if (s->undo_begun_realtime_usec == 0)
                        continue;
                undone[n_undone++] = (Segment){ .name = s->name,
                        .title = step_title(s, true),
                        .class = streq_ptr(s->name, t->back_cause_step) ? "bad"
                                        : open                          ? "run"
                                                                        : "warn",
                        .begin_usec = s->undo_begun_realtime_usec,
                        .end_usec = open ? until : s->undo_begun_realtime_usec + s->undo_took_usec,
                        .open = open };
                if (back == 0)
                        back = s->undo_begun_realtime_usec;
        }
        if (n_forth == 0)
                return;

        (void) fputs("<h2>Timeline</h2>\n", out);
        if (stop > 0)
                (void) fputs("<p class=\"soft small\">The shaded part is the time in which the node was down.</p>\n",
                                out);
        /* An upgrade that was taken back later has lost when it was down; its steps have not. */
        if (plan->down_since_realtime_usec >= stop && plan->down_since_realtime_usec > 0 &&
                        (back == 0 || plan->down_since_realtime_usec < back)) {
                stop = plan->down_since_realtime_usec;
                if (plan->ready_since_realtime_usec > stop && back == 0)
                        started = plan->ready_since_realtime_usec;
        }
        write_chart(out, "The upgrade, step by step", forth, n_forth, stop, started ?: until);
        if (n_undone > 0) {
                usec_t down = plan->down_since_realtime_usec, up = plan->ready_since_realtime_usec ?: until;

                (void) fputs("<h3>The way back</h3>\n", out);
                write_chart(out, "The way back, step by step", undone, n_undone, down, down > 0 ? up : 0);
        }
}

/* --- tables --- */

static void write_checks(const Plan *plan, FILE *out) {
        static const struct {
                const char *class, *word;
        } looks[_CHECK_KEPT_MAX] = {
                [CHECK_PASSED] = { "good", "passed" },
                [CHECK_WARNED] = { "warn", "warned" },
                [CHECK_REFUSED] = { "bad", "refused" },
        };

        if (plan->n_checks == 0)
                return;
        (void) fputs("<h2>Checks</h2>\n<div class=\"panel\"><table class=\"checks\">\n", out);
        for (size_t i = 0; i < plan->n_checks; i++) {
                const PlanCheck *k = &plan->checks[i];

                (void) fprintf(out, "<tr><td class=\"n %s\">%s</td><td><strong>", looks[k->outcome].class,
                                looks[k->outcome].word);
                html_text(out, k->name);
                (void) fputs("</strong> <span class=\"soft small\">", out);
                html_text(out, k->step);
                (void) fputs("</span><br>", out);
                html_text(out, k->text);
                if (k->advice) {
                        (void) fputs("<br><span class=\"soft\">", out);
                        html_text(out, k->advice);
                        (void) fputs("</span>", out);
                }
                (void) fputs("</td></tr>\n", out);
        }
        (void) fputs("</table></div>\n", out);
}

static void write_row(FILE *out, const char *label, const char *value) {
        if (!value || !*value)
                return;
        (void) fprintf(out, "<tr><th scope=\"row\">%s</th><td class=\"mono\">", label);
        html_text(out, value);
        (void) fputs("</td></tr>\n", out);
}

static void write_node(const Plan *plan, FILE *out) {
        char bytes[SIZE_TEXT_MAX];

        (void) fputs("<h2>What was upgraded</h2>\n<div class=\"panel\"><table>\n", out);
        write_row(out, "node", plan->node_name);
        write_row(out, "package", plan->package);
        write_row(out, "kind", plan->kind);
        write_row(out, "architecture", plan->arch);
        write_row(out, "program", plan->root_dir);
        write_row(out, "new version from", plan->target_path);
        write_row(out, "SHA-256", plan->target_sha256);
        write_row(out, "way back", plan->old_path);
        write_row(out, "SHA-256", plan->old_sha256);
        for (size_t i = 0; i < plan->n_trees; i++) {
                const PlanTree *t = &plan->trees[i];

                (void) fputs("<tr><th scope=\"row\">", out);
                html_text(out, t->name);
                (void) fputs("</th><td><span class=\"mono\">", out);
                html_text(out, t->path);
                (void) fputs("</span> ", out);
                html_textf(out, "%s", format_size(bytes, t->bytes));
                (void) fputs("<br><span class=\"soft small\">", out);
                html_text(out, t->why);
                (void) fputs("</span></td></tr>\n", out);
        }
        (void) fputs("</table></div>\n", out);
}

static void write_list_of_events(const Page *p, FILE *out, const char *event) {
        for (size_t i = 0; i < p->n_entries; i++)
                if (streq_ptr(p->entries[i].event, event)) {
                        (void) fputs("<li>", out);
                        html_text(out, p->entries[i].message);
                        (void) fputs("</li>\n", out);
                }
}

static bool has_event(const Page *p, const char *event) {
        for (size_t i = 0; i < p->n_entries; i++)
                if (streq_ptr(p->entries[i].event, event))
                        return true;
        return false;
}

static void write_carried(const Page *p, FILE *out) {
        const Plan *plan = p->record->txn->plan;

        if (!plan->kept_aside && !has_event(p, "not-carried"))
                return;
        (void) fputs("<h2>What was carried over, and what was not</h2>\n<div class=\"panel\">"
                     "<p>Configuration and data are those of before, but for:</p>\n<ul>\n",
                        out);
        write_list_of_events(p, out, "not-carried");
        for (char **path = plan->kept_aside; path && *path; path++) {
                (void) fputs("<li>A default of the new package, which your own file stands for: <code>", out);
                html_textf(out, STATE_DIR "/backups/%s/defaults/%s", plan->id, *path);
                (void) fputs("</code></li>\n", out);
        }
        (void) fputs("</ul></div>\n", out);
}

/* A line each, by its first character. */
static void write_diff(const Page *p, FILE *out) {
        _cleanup_free_ char *text = p->diff && *p->diff ? strdup(p->diff) : NULL;
        size_t n = 0;

        if (!text)
                return;
        (void) fputs("<h2>Configuration</h2>\n<p class=\"soft small\">From the defaults of the new version to the node's own files; "
                     "what may be secret is hidden.</p>\n<pre class=\"diff\"><code>",
                        out);
        for (char *next = text, *line; (line = strsep(&next, "\n")) && (*line || next); n++) {
                if (n == DIFF_LINES_MAX) {
                        (void) fputs("<span class=\"soft\">… the rest: emqx-upgrade diff</span>\n", out);
                        break;
                }
                (void) fprintf(out, "<span class=\"%s\">",
                                *line == '+'                   ? "good"
                                                : *line == '-' ? "bad"
                                                : *line == '@' ? "run"
                                                               : "");
                html_text(out, line);
                (void) fputs("</span>\n", out);
        }
        (void) fputs("</code></pre>\n", out);
}

static void write_way_back(const Page *p, FILE *out) {
        const Plan *plan = p->record->txn->plan;

        if (p->state != RECORD_DONE && p->state != RECORD_STUCK)
                return;
        (void) fputs("<h2>How to go back</h2>\n<div class=\"panel\">\n<pre><code>", out);
        html_textf(out,
                        p->state == RECORD_DONE ? "emqx-upgrade rollback %s"
                                                : "systemctl start emqx-upgrade-rollback@%s.service",
                        plan->id);
        (void) fputs("</code></pre>\n<p class=\"soft\">The node becomes what it was before, with its configuration and data; what the new "
                     "version has written meanwhile is kept beside, in <code>",
                        out);
        html_textf(out, STATE_DIR "/backups/%s", plan->id);
        (void) fputs("</code>. By hand: see “WHEN A PERSON IS NEEDED” in <code>man emqx-upgrade@.service</code>.</p></div>\n",
                        out);
}

static const char *priority_class(int priority) {
        return priority <= LOG_ERR ? "bad" : priority == LOG_WARNING ? "warn" : priority == LOG_NOTICE ? "note" : "";
}

static void write_log(const Page *p, FILE *out) {
        const char *id = p->record->txn->plan->id;

        (void) fputs("<h2>Log</h2>\n", out);
        if (p->n_entries == 0) {
                (void) fprintf(out,
                                "<p class=\"soft\">The journal has no entries of this upgrade, or has them no more: <code>journalctl EMQX_UPGRADE_ID=%s</code></p>\n",
                                id);
                return;
        }
        (void) fprintf(out,
                        "<p class=\"soft small\">From the journal: <code>journalctl EMQX_UPGRADE_ID=%s</code></p>\n<div class=\"panel\"><table class=\"log\">\n",
                        id);
        for (size_t i = 0; i < p->n_entries; i++) {
                const PageEntry *e = &p->entries[i];
                time_t t = (time_t) (e->realtime_usec / USEC_PER_SEC);
                char clock[16] = "";
                struct tm tm;

                if (localtime_r(&t, &tm))
                        (void) strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
                if (p->n_left_out > 0 && i == p->n_entries / 2)
                        (void) fprintf(out,
                                        "<tr><td class=\"n\">…</td><td class=\"soft\" colspan=\"2\">%zu entries are left out here</td></tr>\n",
                                        p->n_left_out);
                (void) fprintf(out, "<tr class=\"%s\"><td class=\"n\">%s</td><td class=\"n wide\">",
                                priority_class(e->priority), clock);
                html_text(out, e->step);
                (void) fputs("</td><td>", out);
                html_text(out, e->message);
                (void) fputs("</td></tr>\n", out);
        }
        (void) fputs("</table></div>\n", out);
}

int page_write(const Page *p, FILE *out) {
        char when[TIMESPAN_TEXT_MAX];

        write_head(p, out);
        write_why(p, out);
        write_figures(p, out);
        write_timeline(p, out);
        write_checks(p->record->txn->plan, out);
        write_node(p->record->txn->plan, out);
        write_carried(p, out);
        write_diff(p, out);
        write_way_back(p, out);
        write_log(p, out);
        (void) fputs("<footer>Written by emqx-upgrade " PACKAGE_VERSION " on ", out);
        html_textf(out, "%s, %s.", p->host, format_local(when, p->written_realtime_usec));
        (void) fputs(" The same for programs: <code>emqx-upgrade history --json</code>.</footer>\n</main>\n</body>\n</html>\n",
                        out);
        return ferror(out) ? -ENOMEM : 0;
}
