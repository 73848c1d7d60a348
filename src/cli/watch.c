/* SPDX-License-Identifier: Apache-2.0 */

/* watch: shows an upgrade while it runs. It only looks: status.json, which is replaced at every change, and the journal. */

#include <limits.h>
#include <signal.h>
#include <sys/inotify.h>
#include <systemd/sd-event.h>
#include <systemd/sd-journal.h>

#include "cli/record.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "txn/status.h"

#define TICK_USEC (250 * USEC_PER_MSEC)
#define JUST_ENDED_USEC                                                                                               \
        (10 * USEC_PER_SEC) /* ended that long before is as good as caught: `start --no-block`, then `watch` */
#define SILENCE_USEC (5 * USEC_PER_SEC) /* without news: ask systemd whether anybody is at it */
#define LINE_USEC (5 * USEC_PER_SEC)    /* between two lines about the same step */
#define SCREEN_ROWS 7                   /* beside the steps */
#define NAME_COLUMNS 11

#define ENTER_SCREEN "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
#define LEAVE_SCREEN "\x1b[?25h\x1b[?1049l"
#define HOME "\x1b[H"
#define CLEAR_REST_OF_LINE "\x1b[K"
#define CLEAR_BELOW "\x1b[J"

typedef struct Watch {
        sd_event *event;
        sd_journal *journal; /* NULL: not open, or not for us to read */
        const char *wanted;  /* ID of the command line, NULL: whatever runs */
        Record *record;      /* NULL: none yet */
        Record *shown;       /* what the lines have told so far */
        char *said;          /* the journal's latest sentence */
        usec_t begun_realtime_usec;
        usec_t news_usec, line_usec; /* when there were some, on CLOCK_MONOTONIC */
        bool screen;                 /* drawn again and again; else lines are written */
        bool entered;                /* the screen is ours */
        bool alone;                  /* at the last look nobody was at it */
        bool vanished;               /* what was followed left no record */
        bool told_waiting;
        int signal; /* that ended the watching */
} Watch;

static void leave_screen(Watch *w) {
        if (w->entered) {
                (void) fputs(LEAVE_SCREEN, stdout);
                (void) fflush(stdout);
        }
        w->entered = false;
}

static void watch_done(Watch *w) {
        leave_screen(w);
        sd_journal_close(w->journal);
        w->record = record_free(w->record);
        w->shown = record_free(w->shown);
        w->said = mfree(w->said);
        w->event = sd_event_unref(w->event);
}

static bool is_open(const Record *r) {
        return r->txn->result == TXN_INTERRUPTED && r->txn->direction != TXN_STUCK;
}

/* --- words --- */

/* The caller's to free; NULL: out of memory. */
static char *describe_present(const Record *r) {
        char *text;

        return asprintf(&text, "%s%s%s%s", r->txn->direction == TXN_FORWARD || !r->step ? "" : "undoing ",
                               r->step ?: "", r->step && r->text ? ": " : "", r->text ?: "") < 0
                        ? NULL
                        : text;
}

static char *describe_downtime(const Record *r) {
        char span[TIMESPAN_TEXT_MAX], predicted[TIMESPAN_TEXT_MAX];
        const Plan *p = r->txn->plan;
        usec_t down = plan_downtime_usec(p);
        const char *words = down == 0                  ? "The node serves"
                        : p->ready_since_realtime_usec ? "The node was down for "
                                                       : "The node is down for ";
        char *text;
        int n;

        (void) format_timespan(predicted, r->predicted_downtime_usec);
        n = asprintf(&text, "%s%s%s%s%s", words, down > 0 ? format_timespan(span, down) : "",
                        r->predicted_downtime_usec == 0 ? ""
                                        : down > 0      ? " (predicted: "
                                                        : "; it will be down for about ",
                        r->predicted_downtime_usec == 0 ? "" : predicted,
                        r->predicted_downtime_usec > 0 && down > 0 ? ")" : "");
        return n < 0 ? NULL : text;
}

/* Of the whole, a running step counted by its bytes. */
static unsigned percent(const Record *r) {
        const StepProgress *p = &r->progress;
        unsigned one = r->txn->n_steps > 0 ? 100 / (unsigned) r->txn->n_steps : 0, part = 0;

        if (p->bytes_total > 0)
                part = (unsigned) (one * (double) MIN(p->bytes_done, p->bytes_total) / (double) p->bytes_total);
        return MIN(r->percent + part, 100U);
}

/* --- the screen --- */

static void end_row(void) {
        (void) fputs(CLEAR_REST_OF_LINE "\n", stdout);
}

static void draw_text(Style style, char *text, unsigned columns) {
        print_cell(stdout, style, text ?: "", columns);
        end_row();
        free(text);
}

static void draw_bar(unsigned of_hundred, unsigned columns) {
        unsigned width = columns > 8 ? columns - 7 : 1, full = width * of_hundred / 100;

        (void) fputs(style_begin(stdout, STYLE_GOOD), stdout);
        for (unsigned i = 0; i < width; i++)
                (void) fputs(glyph(i < full ? GLYPH_BAR_FULL : GLYPH_BAR_REST), stdout);
        (void) printf("%s %3u %%", style_end(stdout), of_hundred);
        end_row();
}

static const char *title_of(const TxnStep *s) {
        const Step *step = step_find(s->name);
        bool back = s->state == STEP_UNDO_BEGUN || s->state == STEP_UNDONE;

        return step ? (back ? step->undo_title ?: "nothing to undo" : step->title) : "";
}

static void draw_step(const TxnStep *s, unsigned columns) {
        static const struct {
                Glyph glyph;
                Style style, text;
        } looks[] = {
                [STEP_TODO] = { _GLYPH_MAX, STYLE_PLAIN, STYLE_DIM },
                [STEP_BEGUN] = { GLYPH_RUNS, STYLE_STRONG, STYLE_STRONG },
                [STEP_DONE] = { GLYPH_DONE, STYLE_GOOD, STYLE_PLAIN },
                [STEP_UNDO_BEGUN] = { GLYPH_RUNS, STYLE_WARNING, STYLE_STRONG },
                [STEP_UNDONE] = { GLYPH_UNDONE, STYLE_WARNING, STYLE_PLAIN },
                [STEP_FAILED] = { GLYPH_WARNING, STYLE_WARNING, STYLE_PLAIN },
        };
        char span[TIMESPAN_TEXT_MAX] = "";
        usec_t took = step_took_usec(s);

        if (took > 0)
                (void) format_timespan(span, took);
        (void) printf(" %s%s%s ", style_begin(stdout, looks[s->state].style),
                        looks[s->state].glyph < _GLYPH_MAX ? glyph(looks[s->state].glyph) : " ", style_end(stdout));
        print_cell(stdout, looks[s->state].text, s->name, NAME_COLUMNS);
        if (columns > NAME_COLUMNS + 3 + 24)
                print_cell(stdout, looks[s->state].text, title_of(s), columns - NAME_COLUMNS - 3 - 12);
        (void) printf(" %11.11s", span);
        end_row();
}

static void draw(Watch *w) {
        unsigned columns = terminal_columns(stdout), rows = terminal_rows(stdout);
        const Txn *t = w->record->txn;
        size_t room = rows > SCREEN_ROWS ? rows - SCREEN_ROWS : 1, first = 0, current = 0;
        bool down = t->plan->down_since_realtime_usec > 0 && t->plan->ready_since_realtime_usec == 0;

        if (!w->entered)
                (void) fputs(ENTER_SCREEN, stdout);
        w->entered = true;

        for (size_t i = 0; i < t->n_steps; i++)
                if (t->steps[i].state == STEP_BEGUN || t->steps[i].state == STEP_UNDO_BEGUN ||
                                (t->direction == TXN_FORWARD && t->steps[i].state != STEP_TODO))
                        current = i;
        if (t->n_steps > room && current >= room / 2)
                first = MIN(current - room / 2, t->n_steps - room);

        (void) fputs(HOME, stdout);
        draw_text(STYLE_STRONG, record_headline(w->record, RECORD_RUNS), columns);
        draw_bar(percent(w->record), columns);
        draw_text(STYLE_PLAIN, describe_present(w->record), columns);
        end_row();
        for (size_t i = first; i < t->n_steps && i < first + room; i++)
                draw_step(&t->steps[i], columns);
        end_row();
        draw_text(down ? STYLE_WARNING : STYLE_PLAIN, describe_downtime(w->record), columns);
        print_cell(stdout, STYLE_DIM, w->said ?: "", columns); /* no newline: the last row may be the terminal's */
        (void) fputs(CLEAR_REST_OF_LINE CLEAR_BELOW, stdout);
        (void) fflush(stdout);
}

/* --- lines --- */

static void write_line(Watch *w, Style style, const char *text) {
        time_t now = (time_t) (now_usec(CLOCK_REALTIME) / USEC_PER_SEC);
        char clock[16] = "";
        struct tm tm;

        if (localtime_r(&now, &tm))
                (void) strftime(clock, sizeof(clock), "%H:%M:%S ", &tm);
        (void) fputs(clock, stdout);
        print_wrapped(stdout, style, (unsigned) strlen(clock), (unsigned) strlen(clock), text);
        (void) fflush(stdout);
        w->line_usec = now_usec(CLOCK_MONOTONIC);
}

static void write_linef(Watch *w, Style style, const char *format, ...) _printf_(3, 4);

static void write_linef(Watch *w, Style style, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = format_text(format, ap);
        va_end(ap);
        if (text)
                write_line(w, style, text);
}

static void write_step(Watch *w, const TxnStep *s) {
        char span[TIMESPAN_TEXT_MAX];

        switch (s->state) {
        case STEP_BEGUN: write_linef(w, STYLE_PLAIN, "%s: %s", s->name, title_of(s)); break;
        case STEP_UNDO_BEGUN: write_linef(w, STYLE_WARNING, "undoing %s: %s", s->name, title_of(s)); break;
        case STEP_DONE:
                write_linef(w, STYLE_GOOD, "%s: done in %s", s->name, format_timespan(span, s->took_usec));
                break;
        case STEP_UNDONE:
                if (s->undo_took_usec > 0)
                        write_linef(w, STYLE_WARNING, "%s: undone in %s", s->name,
                                        format_timespan(span, s->undo_took_usec));
                break;
        case STEP_FAILED:
                write_linef(w, STYLE_WARNING, "%s: failed, and was given up: %s", s->name, s->why ?: "?");
                break;
        default: break;
        }
}

/* What has changed since the last lines. */
static void write_news(Watch *w) {
        const Record *r = w->record, *old = w->shown;
        bool down = r->txn->plan->down_since_realtime_usec > 0, ready = r->txn->plan->ready_since_realtime_usec > 0;
        bool was_down = old && old->txn->plan->down_since_realtime_usec > 0,
             was_ready = old && old->txn->plan->ready_since_realtime_usec > 0;

        if (!old) {
                _cleanup_free_ char *headline = record_headline(r, RECORD_RUNS);

                write_linef(w, STYLE_STRONG, "%s (%s)", headline ?: "", r->txn->plan->id);
        }
        if (old && old->txn->direction == TXN_FORWARD && r->txn->direction == TXN_BACK)
                write_linef(w, STYLE_BAD, "Going back: %s%s%s", r->txn->cause_step ?: "",
                                r->txn->cause_step ? ": " : "", r->txn->cause ?: "");
        for (size_t i = 0; i < r->txn->n_steps; i++)
                if (!old || i >= old->txn->n_steps || old->txn->steps[i].state != r->txn->steps[i].state)
                        write_step(w, &r->txn->steps[i]);
        if ((down && !was_down) || (ready && !was_ready)) {
                _cleanup_free_ char *text = describe_downtime(r);

                write_line(w, ready ? STYLE_GOOD : STYLE_WARNING, text ?: "");
        }
        if (is_open(r) && now_usec(CLOCK_MONOTONIC) - w->line_usec >= LINE_USEC) {
                _cleanup_free_ char *text = describe_present(r);

                write_linef(w, STYLE_PLAIN, "%s (%u %%)", text ?: "", percent(r));
        }
}

/* --- the journal --- */

/* The text of a field of the entry, the caller's to free; NULL: it has none. */
static char *entry_text(sd_journal *j, const char *field) {
        const void *data;
        size_t size, skip = strlen(field) + 1;

        if (sd_journal_get_data(j, field, &data, &size) < 0 || size <= skip)
                return NULL;
        return strndup((const char *) data + skip, size - skip);
}

static void read_journal(Watch *w) {
        while (sd_journal_next(w->journal) > 0) {
                _cleanup_free_ char *text = entry_text(w->journal, "MESSAGE"),
                                    *priority = entry_text(w->journal, "PRIORITY");

                if (!text)
                        continue;
                if (!w->screen && priority && priority[0] >= '0' && priority[0] <= '4')
                        write_line(w, priority[0] < '4' ? STYLE_BAD : STYLE_WARNING, text);
                free(w->said);
                w->said = TAKE_PTR(text);
        }
}

static int on_journal(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Watch *w = userdata;

        (void) s;
        (void) fd;
        (void) revents;
        if (sd_journal_process(w->journal) >= 0)
                read_journal(w);
        return 0;
}

/* From its latest entry on. Who may not read the journal sees less, and no error. */
static void open_journal(Watch *w) {
        _cleanup_free_ char *match = NULL;

        if (w->journal || asprintf(&match, "EMQX_UPGRADE_ID=%s", w->record->txn->plan->id) < 0)
                return;
        if (sd_journal_open(&w->journal, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM) < 0) {
                w->journal = NULL;
                return;
        }
        if (sd_journal_add_match(w->journal, match, 0) >= 0 && sd_journal_seek_tail(w->journal) >= 0 &&
                        sd_journal_previous(w->journal) >= 0)
                (void) sd_event_add_io(w->event, NULL, sd_journal_get_fd(w->journal),
                                (uint32_t) sd_journal_get_events(w->journal), on_journal, w);
}

/* --- looking --- */

static int show(Watch *w) {
        if (w->screen && is_open(w->record)) {
                draw(w);
                return 0;
        }
        if (!w->screen)
                write_news(w);
        return is_open(w->record) ? 0 : sd_event_exit(w->event, 0);
}

/* Reads what there is about the upgrade that is followed, or finds one to follow. */
static int look(Watch *w) {
        _cleanup_(record_freep) Record *now = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        int r;

        r = record_load(w->record ? w->record->txn->plan->id : w->wanted, &now, &error);
        if (r < 0 && w->record) {
                w->vanished = true;
                return sd_event_exit(w->event, 0);
        }
        if (r < 0 && w->wanted) {
                if (!error.message)
                        (void) error_set(&error, r, "See: emqx-upgrade history", "There is no upgrade '%.64s'",
                                        w->wanted);
                leave_screen(w);
                (void) say_error(&error, r, EXIT_INTERRUPTED);
                return r;
        }
        if (r < 0 ||
                        (!w->record && !w->wanted && !is_open(now) &&
                                        now->txn->ended_realtime_usec + JUST_ENDED_USEC < w->begun_realtime_usec)) {
                if (!w->told_waiting)
                        (void) fprintf(stderr,
                                        "No upgrade runs; waiting for one to begin. Ctrl-C ends the waiting.\n");
                w->told_waiting = true;
                return 0;
        }

        w->news_usec = now_usec(CLOCK_MONOTONIC);
        w->alone = false;
        (void) record_free(w->shown);
        w->shown = w->record;
        w->record = TAKE_PTR(now);
        open_journal(w);
        return show(w);
}

static int on_status(sd_event_source *s, const struct inotify_event *event, void *userdata) {
        (void) s;
        if (event->len > 0 && !streq(event->name, "status.json"))
                return 0;
        return look(userdata);
}

/* Time goes on without news as well; and without news for long, it is asked whether anybody is at it. */
static int on_tick(sd_event_source *s, uint64_t usec, void *userdata) {
        Watch *w = userdata;
        usec_t now = now_usec(CLOCK_MONOTONIC);

        (void) usec;
        if (w->record && now - w->news_usec >= SILENCE_USEC) {
                bool alone = record_state(w->record) == RECORD_INTERRUPTED;

                w->news_usec = now;
                if (alone && w->alone)
                        return sd_event_exit(w->event, 0);
                w->alone = alone; /* systemd may be about to start it again */
        }
        if (w->record && w->screen)
                draw(w);
        return sd_event_source_set_time_relative(s, TICK_USEC);
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *info, void *userdata) {
        Watch *w = userdata;

        (void) s;
        switch (info->ssi_signo) {
        case SIGWINCH:
                if (w->entered)
                        (void) fputs("\x1b[2J", stdout);
                if (w->entered)
                        draw(w);
                return 0;
        case SIGTSTP: /* what the shell shows while we are stopped is not ours */
                leave_screen(w);
                (void) raise(SIGSTOP);
                return 0;
        default: w->signal = (int) info->ssi_signo; return sd_event_exit(w->event, 0);
        }
}

static int prepare(Watch *w) {
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP };
        sd_event_source *tick = NULL;
        sigset_t set;
        int r;

        (void) sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) sigaddset(&set, signals[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        r = sd_event_new(&w->event);
        for (size_t i = 0; i < ELEMENTSOF(signals) && r >= 0; i++)
                r = sd_event_add_signal(w->event, NULL, signals[i], on_signal, w);
        if (r >= 0)
                r = sd_event_add_inotify(
                                w->event, NULL, RUNTIME_DIR, IN_MOVED_TO | IN_DELETE | IN_CLOSE_WRITE, on_status, w);
        if (r >= 0)
                r = sd_event_add_time_relative(w->event, &tick, CLOCK_MONOTONIC, TICK_USEC, 0, on_tick, w);
        if (r >= 0)
                r = sd_event_source_set_enabled(tick, SD_EVENT_ON);
        if (r >= 0)
                r = sd_event_source_set_floating(tick, true);
        (void) sd_event_source_unref(tick);
        return r;
}

static ExitStatus tell_end(Watch *w) {
        RecordState state;
        _cleanup_free_ char *headline = NULL, *now = NULL;

        leave_screen(w);
        if (w->vanished) {
                (void) puts("It is over, and has left no record: it was staged, or there was nothing to do.");
                return EXIT_DONE;
        }
        state = record_state(w->record);
        if (w->screen)
                print_record(w->record);
        else {
                headline = record_headline(w->record, state);
                now = record_what_now(w->record, state);
                write_line(w, STYLE_STRONG, headline ?: "");
                write_linef(w, STYLE_PLAIN, "What now: %s", now ?: "");
        }
        return (ExitStatus) record_exit_status(state);
}

ExitStatus verb_watch(char **args) {
        _cleanup_(watch_done) Watch w = { .wanted = args[0],
                .screen = terminal_is(stdout),
                .begun_realtime_usec = now_usec(CLOCK_REALTIME),
                .news_usec = now_usec(CLOCK_MONOTONIC) };
        int r;

        if (args[0] && !is_upgrade_id(args[0]))
                return EXIT_USAGE;
        r = prepare(&w);
        if (r == -ENOENT)
                (void) fprintf(stderr,
                                "emqx-upgrade: %s is missing; make it: systemd-tmpfiles --create emqx-upgrade.conf\n",
                                RUNTIME_DIR);
        else if (r < 0)
                return say_error(NULL, r, EXIT_INTERRUPTED);
        if (r >= 0)
                r = look(&w);
        if (r >= 0)
                r = sd_event_loop(w.event);
        if (r < 0)
                return EXIT_INTERRUPTED;
        if (w.signal > 0) { /* as the shell expects it */
                sigset_t set;

                leave_screen(&w);
                (void) sigemptyset(&set);
                (void) sigaddset(&set, w.signal);
                (void) signal(w.signal, SIG_DFL);
                (void) raise(w.signal);
                (void) sigprocmask(SIG_UNBLOCK, &set, NULL);
        }
        return w.record || w.vanished ? tell_end(&w) : EXIT_INTERRUPTED;
}
