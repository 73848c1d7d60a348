/* SPDX-License-Identifier: Apache-2.0 */

/* emqx-upgrade-helper: what our units run, and no user calls. One verb each. */

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "base/fileio.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/size.h"
#include "base/version.h"
#include "bus/job.h"
#include "bus/unit.h"
#include "helper/auto.h"
#include "helper/guard.h"
#include "steps/archive.h"
#include "steps/backup.h"
#include "steps/hold.h"
#include "steps/reserve.h"
#include "txn/finish.h"
#include "txn/metrics.h"
#include "txn/status.h"
#include "txn/step-unit.h"

#define JUST_ENDED_USEC (60 * USEC_PER_SEC)
#define EXIT_GUARD_REFUSED 10 /* debian/apt.conf takes anything else for leave to go on */

/* What conducting takes; freed in the reverse order of its making. */
typedef struct Conductor {
        Config *config;
        int lock_fd;
        int state_fd;
        sd_event *event;
        sd_event_source *signal_source;
        Manager *manager;
        Txn *txn;
        Engine engine;
} Conductor;

static void conductor_done(Conductor *c) {
        c->txn = txn_free(c->txn);
        c->manager = manager_free(c->manager);
        c->signal_source = sd_event_source_disable_unref(c->signal_source);
        c->event = sd_event_unref(c->event);
        c->state_fd = safe_close(c->state_fd);
        c->lock_fd = safe_close(c->lock_fd);
        c->config = config_free(c->config);
}

/* For everything that is refused before there is a transaction that could say so. */
static ExitStatus refuse(const char *to, Event event, const Error *error, int r) {
        journal_event(&(JournalContext){ .to = to }, event,
                        &(JournalFields){ .result = "refused", .error = error_text(error, r), .error_number = r },
                        "Refused, and nothing was touched: %s%s%s", error_text(error, r), error->advice ? ". " : "",
                        error->advice ?: "");
        (void) sd_notifyf(0, "STATUS=Refused: %s", error_text(error, r));
        return EXIT_REFUSED;
}

static int on_sigterm(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Conductor *c = userdata;

        (void) source;
        (void) info;
        c->engine.stop_requested = true;
        c->engine.stop_considered = false;
        if (c->config) /* else it has begun nothing */
                (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, config_patience_usec(c->config));
        return 0;
}

static int take_lock(Conductor *c, Error *reterr) {
        char name[32];
        pid_t holder = 0;
        int r;

        r = lock_take(LOCK_PATH, &c->lock_fd, &holder);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot lock %s: %m", LOCK_PATH);
        if (r == 0)
                return error_set(reterr, -EBUSY, "Wait for its end: emqx-upgrade status",
                                "Another upgrade is running: process %i (%s)", holder, process_name(name, holder));
        return 0;
}

/* For what begins: what the files say now, which is kept with it. */
static int keep_settings(Conductor *c, Plan *plan, Error *reterr) {
        int r;

        r = config_load("", &c->config, reterr);
        if (r < 0)
                return r;
        free(plan->settings);
        plan->settings = config_text(c->config);
        return plan->settings ? 0 : -ENOMEM;
}

/* State directory, lock, event loop, bus, and the transaction that is open: in the order in which they can refuse. Returns as
 * txn_load(). */
static int conductor_init(Conductor *c, Error *reterr) {
        sigset_t term;
        int r;

        r = mkdir_parents(STATE_DIR, 0700);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot make %s: %m", STATE_DIR);
        c->state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (c->state_fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", STATE_DIR);

        r = take_lock(c, reterr);
        if (r < 0)
                return r;

        (void) sigemptyset(&term);
        (void) sigaddset(&term, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &term, NULL) < 0)
                return -errno;
        r = sd_event_new(&c->event);
        if (r >= 0)
                r = sd_event_add_signal(c->event, &c->signal_source, SIGTERM, on_sigterm, c);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot set up an event loop: %m");
        r = manager_new(c->event, &c->manager, reterr);
        return r < 0 ? r : txn_load(c->state_fd, &c->txn, reterr);
}

/* What only a person can change: systemd need not try again. */
static bool is_final(int r) {
        return r == -EBADMSG || r == -EINVAL || r == -ENOTDIR || r == -ELOOP;
}

/* Before there is a transaction in memory. Where one is open, the node may be down for it: what cannot be read, locked or
 * reached now may be so in a second, and only a conductor that was interrupted is started again. */
static ExitStatus cannot_begin(Conductor *c, const char *unit, const char *to, const Error *error, int r) {
        if (is_final(r) || !txn_may_be_of(c->state_fd, unit))
                return refuse(to, EVENT_UPGRADE_REFUSED, error, r);
        (void) sd_notifyf(0, "STATUS=Interrupted: %s", error_text(error, r));
        return finish_interrupted(&(JournalContext){ .to = to }, NULL, error, r);
}

static ExitStatus conduct(Conductor *c, bool resumed) {
        Plan *p = c->txn->plan;
        char from[64] = "";

        if (resumed && config_restore("", p->settings, &c->config) < 0)
                return EXIT_INTERRUPTED;
        c->engine.txn = c->txn;
        c->engine.context = (Context){
                .config = c->config,
                .plan = p,
                .journal = { .upgrade_id = p->id, .from = p->from, .to = p->to },
                .event = c->event,
                .manager = c->manager,
        };
        if (p->from)
                (void) snprintf(from, sizeof(from), " from %s", p->from);
        journal_event(&c->engine.context.journal, resumed ? EVENT_UPGRADE_RESUMED : EVENT_UPGRADE_STARTED, NULL,
                        "%s EMQX%s to %s (%s)",
                        resumed                                         ? "Going on with the upgrade of"
                                        : c->txn->direction == TXN_BACK ? "Taking back the upgrade of"
                                                                        : "Upgrading",
                        from, p->to, p->id);
        return engine_run(&c->engine);
}

/* The transaction that is open goes on, but only under the name that it was begun with. */
static ExitStatus go_on(Conductor *c, const char *unit) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        Txn *t = c->txn;

        if (!streq(t->unit, unit)) {
                int r = txn_other_is_open(t, &error);

                return refuse(t->plan->to, EVENT_UPGRADE_REFUSED, &error, r);
        }
        if (t->direction == TXN_STUCK) {
                (void) error_set(&error, -EBUSY, NULL,
                                "The upgrade %s failed, and so did its way back, at '%s': %s. To try the way back again: "
                                "systemctl start emqx-upgrade-rollback@%s.service",
                                t->plan->id, t->back_cause_step, t->back_cause, t->plan->id);
                (void) refuse(t->plan->to, EVENT_UPGRADE_REFUSED, &error, -EBUSY);
                return EXIT_STUCK;
        }
        return conduct(c, true);
}

/* What was staged ahead is no upgrade that others have to wait for: it is taken over, whole or not. */
static bool takes_over(const Conductor *c, const char *unit, bool ahead) {
        return engine_only_stages(c->txn) && !(ahead && streq(c->txn->unit, unit));
}

static int forget_staging(Conductor *c, Error *reterr) {
        int r;

        if (!c->txn)
                return 0;
        r = txn_forget(c->txn);
        c->txn = txn_free(c->txn);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot remove the record %s: %m", STATE_DIR "/transaction") : 0;
}

/* The status may still be that of before. */
static ExitStatus tell_ended(Conductor *c) {
        const Txn *t = c->txn;
        JournalContext about = { .upgrade_id = t->plan->id, .from = t->plan->from, .to = t->plan->to };

        status_write(t, NULL, NULL, NULL);
        journal_event(&about, EVENT_NOTHING_TO_DO, NULL,
                        "The upgrade %s to %s has ended as '%s': nothing to do. See: emqx-upgrade history",
                        t->plan->id, t->plan->to, txn_result_name(t->result));
        (void) sd_notifyf(0, "STATUS=Has ended as '%s'", txn_result_name(t->result));
        return t->result == TXN_ROLLED_BACK ? EXIT_ROLLED_BACK : t->result == TXN_DONE ? EXIT_DONE : EXIT_REFUSED;
}

/* systemd starts again what was killed. Where its record was in the history by then, there is nothing to go on with, and
 * nobody has asked for another upgrade. */
static bool load_just_ended(Conductor *c, const char *unit) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_(txn_freep) Txn *last = NULL;
        usec_t now = now_usec(CLOCK_REALTIME);

        if (unit_state_get(c->manager, unit, &state, NULL) < 0 || state.n_restarts == 0 ||
                        txn_load_history(c->state_fd, "last", &last, NULL) < 0 || !streq(last->unit, unit) ||
                        last->ended_realtime_usec > now || now - last->ended_realtime_usec >= JUST_ENDED_USEC)
                return false;
        c->txn = TAKE_PTR(last);
        return true;
}

/* ahead: only what can be done while the node serves, for an upgrade that follows. */
static ExitStatus verb_conduct(const char *to, bool ahead) {
        _cleanup_(conductor_done) Conductor c = { .lock_fd = -1, .state_fd = -1 };
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_strv_ char **names = NULL;
        _cleanup_(plan_freep) Plan *plan = NULL;
        _cleanup_free_ char *unit = NULL;
        Version version;
        int r;

        if (version_parse(to, &version) < 0) {
                (void) error_set(&error, -EINVAL, "Name a release, as in emqx-upgrade@4.4.0.service.",
                                "'%.64s%s' is not a version", to, strlen(to) > 64 ? "…" : "");
                return refuse(NULL, EVENT_UPGRADE_REFUSED, &error, -EINVAL);
        }

        if (asprintf(&unit, "emqx-upgrade%s@%s.service", ahead ? "-stage" : "", to) < 0)
                return EXIT_INTERRUPTED;
        r = conductor_init(&c, &error);
        if (r < 0)
                return cannot_begin(&c, unit, to, &error, r);
        if (r > 0 && !takes_over(&c, unit, ahead))
                return go_on(&c, unit);
        if (r == 0 && load_just_ended(&c, unit))
                return tell_ended(&c);

        r = plan_new(to, &plan);
        if (r >= 0)
                r = keep_settings(&c, plan, &error);
        if (r < 0)
                return refuse(to, EVENT_CONFIGURATION_ERROR, &error, r);
        r = forget_staging(&c, &error);
        if (r < 0)
                return refuse(to, EVENT_UPGRADE_REFUSED, &error, r);
        names = engine_step_names(ahead);
        r = names ? txn_create(c.state_fd, TAKE_PTR(plan), unit, names, &c.txn) : -ENOMEM;
        if (r < 0) {
                (void) error_set(&error, r, "Make room in it, or make it writable.", "Cannot write the record %s: %m",
                                STATE_DIR "/transaction");
                return refuse(to, EVENT_UPGRADE_REFUSED, &error, r);
        }
        return conduct(&c, false);
}

/* An upgrade that was done is taken back; one whose way back failed gets another try. */
static ExitStatus verb_rollback(const char *id) {
        _cleanup_(conductor_done) Conductor c = { .lock_fd = -1, .state_fd = -1 };
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_free_ char *unit = NULL;
        bool open;
        int r;

        if (asprintf(&unit, "emqx-upgrade-rollback@%s.service", id) < 0)
                return EXIT_INTERRUPTED;
        r = conductor_init(&c, &error);
        if (r < 0)
                return cannot_begin(&c, unit, NULL, &error, r);

        open = r > 0;
        if (open && streq(c.txn->unit, unit) && c.txn->direction != TXN_STUCK)
                return conduct(&c, true);
        if (open && (c.txn->direction != TXN_STUCK || !(streq(id, "last") || streq(id, c.txn->plan->id)))) {
                r = txn_other_is_open(c.txn, &error);
                return refuse(NULL, EVENT_UPGRADE_REFUSED, &error, r);
        }
        if (open) { /* stuck: the configuration may be what was mended */
                r = keep_settings(&c, c.txn->plan, &error);
                if (r < 0)
                        return refuse(NULL, EVENT_CONFIGURATION_ERROR, &error, r);
                r = free_and_strdup(&c.txn->unit, unit);
                if (r >= 0)
                        r = txn_turn_back(c.txn, NULL, "", NULL);
        } else {
                bool last = streq(id, "last");

                r = last ? txn_load_last_made(c.state_fd, &c.txn) : txn_load_history(c.state_fd, id, &c.txn, &error);
                if (r == -ENOENT && last)
                        (void) error_set(&error, r, "See: emqx-upgrade history",
                                        "No upgrade was made on this host, so there is none to take back");
                else if (r == -ENOENT)
                        (void) error_set(&error, r, "See: emqx-upgrade history",
                                        "There is no upgrade '%.64s' in the history", id);
                if (r >= 0 && c.txn->result == TXN_ROLLED_BACK && streq(c.txn->unit, unit))
                        return tell_ended(&c);
                if (r >= 0 && c.txn->result == TXN_DONE)
                        r = backup_usable(c.txn->plan, &error);
                if (r >= 0) {
                        r = keep_settings(&c, c.txn->plan, &error);
                        if (r < 0)
                                return refuse(NULL, EVENT_CONFIGURATION_ERROR, &error, r);
                }
                if (r >= 0)
                        r = txn_reopen(c.txn, unit, "Asked for by the operator");
                if (r == -EINVAL && c.txn && c.txn->result != TXN_DONE)
                        (void) error_set(&error, r, "Only an upgrade that was done can be taken back.",
                                        "The upgrade %s ended as '%s'", c.txn->plan->id,
                                        txn_result_name(c.txn->result));
        }
        if (r < 0)
                return refuse(NULL, EVENT_UPGRADE_REFUSED, &error, r);
        return conduct(&c, false);
}

static ExitStatus cannot_resume(const Context *c, const Error *error, int r) {
        journal_event(&c->journal, EVENT_INTERRUPTED, &(JournalFields){ .error_number = r },
                        "Cannot see to the upgrade that is open: %s; systemd tries it again. By hand: systemctl start emqx-upgrade-resume",
                        error_text(error, r));
        return EXIT_INTERRUPTED;
}

/* Others hold its lock too, for a moment: `emqx-upgrade backups prune`. */
static bool conductor_lives(void) {
        char ours[32], theirs[32];
        pid_t holder = lock_holder(LOCK_PATH);

        return holder > 0 && streq(process_name(theirs, holder), process_name(ours, getpid()));
}

/* At boot, before emqx.service may start, where no conductor can run yet. File work only: whoever waits here for the broker
 * waits for ever. The main unit, which is only queued, does the rest. Started at another time, by a person or by `systemctl
 * isolate`, it may find a conductor, who sees to the hold, and whose record may change while it is read. */
static ExitStatus verb_resume(void) {
        _cleanup_(txn_freep) Txn *t = NULL;
        _cleanup_(manager_freep) Manager *manager = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_close_ int state_fd = -1;
        sd_event *event = NULL;
        Context c = { .step = NULL };
        Job *job = NULL;
        int r;

        if (conductor_lives())
                return EXIT_DONE;
        state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (state_fd < 0 && errno == ENOENT)
                return EXIT_DONE;
        r = state_fd < 0 ? error_set(&error, -errno, NULL, "Cannot open %s: %m", STATE_DIR)
                         : txn_load(state_fd, &t, &error);
        if (r == 0)
                return EXIT_DONE;
        if (r == -EBADMSG) { /* nobody knows what state the node is in: it stays down until a person has looked */
                _cleanup_(plan_freep) Plan *unknown = NULL;

                if (plan_new("?", &unknown) >= 0 && free_and_strdup(&unknown->unit, "emqx.service") >= 0) {
                        c.plan = unknown;
                        (void) hold_set(&c, NULL);
                }
                return refuse(NULL, EVENT_UPGRADE_REFUSED, &error, r);
        }
        if (r < 0)
                return cannot_resume(&c, &error, r);

        assert(t);
        c.plan = t->plan;
        c.journal = (JournalContext){ .upgrade_id = t->plan->id, .from = t->plan->from, .to = t->plan->to };
        if (txn_needs_hold(t)) {
                r = hold_set(&c, &error);
                if (r < 0)
                        return cannot_resume(&c, &error, r);
        }
        status_write(t, NULL, "Interrupted", NULL);
        if (t->direction == TXN_STUCK)
                return EXIT_DONE;

        r = sd_event_new(&event);
        if (r >= 0)
                r = manager_new(event, &manager, &error);
        if (r >= 0)
                r = job_queue(manager, JOB_START, t->unit, "replace", &job, &error);
        (void) job_free(job);
        (void) sd_event_unref(event);
        if (r < 0)
                return cannot_resume(&c, &error, r);
        journal_event(&c.journal, EVENT_UPGRADE_RESUMED, NULL, "An upgrade to %s was interrupted; %s goes on with it",
                        t->plan->to, t->unit);
        return EXIT_DONE;
}

/* Package steps let dpkg finish whatever it does; the others are ended by a signal as usual. */
static ExitStatus verb_step(const char *name, bool undo) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(txn_freep) Txn *t = NULL;
        _cleanup_close_ int state_fd = -1;
        const Step *step = step_find(name);
        Context c = { .manager = NULL };
        int r;

        state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = state_fd < 0 ? -errno : txn_load(state_fd, &t, &error);
        if (r == 0)
                r = error_set(&error, -ENOENT, NULL, "No upgrade is open");
        if (r >= 0) {
                assert(t);
                r = config_restore("", t->plan->settings, &config);
        }
        if (r < 0) {
                (void) sd_notifyf(0, "STATUS=%s", error_text(&error, r));
                return EXIT_INTERRUPTED;
        }
        if (step && step->place == IN_PACKAGES)
                (void) signal(SIGTERM, SIG_IGN);

        c.config = config;
        c.plan = t->plan;
        c.journal = (JournalContext){ .upgrade_id = t->plan->id,
                .from = t->plan->from,
                .to = t->plan->to,
                .conductor_pid = lock_holder(LOCK_PATH) };
        return step_unit_main(&c, name, undo);
}

/* Of an upgrade that is over, or stuck. What is wrong goes to stdout, for the conductor. */
static ExitStatus verb_metrics(const char *id) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(txn_freep) Txn *t = NULL;
        _cleanup_close_ int state_fd = -1;
        int r;

        state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = state_fd < 0 ? -errno : txn_load(state_fd, &t, &error);
        if (r == 0)
                r = txn_load_history(state_fd, id, &t, &error);
        if (r >= 0) {
                assert(t);
                r = config_restore("", t->plan->settings, &config);
        }
        if (r >= 0)
                r = metrics_write(t, config->textfile_dir);
        if (r < 0)
                (void) puts(error_text(&error, r));
        return r < 0 ? EXIT_INTERRUPTED : EXIT_DONE;
}

/* Of the upgrade that is open. Nobody reads but the conductor: the exit status is the errno. */
static int verb_settle(void) {
        _cleanup_close_ int state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(txn_freep) Txn *t = NULL;
        int r = state_fd < 0 ? -errno : txn_load(state_fd, &t, NULL);

        if (r <= 0)
                return -r;
        assert(t);
        return -archive_forget(t->plan);
}

/* Nobody reads but the conductor: the exit status is the errno. */
static int verb_reserve(const char *path, const char *size) {
        uint64_t bytes;
        int r;

        r = parse_size(size, &bytes);
        return -(r < 0 ? r : reserve_file(path, bytes));
}

/* --- for packages --- */

static ExitStatus verb_auto(void) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        int r;

        r = config_load("", &config, &error);
        if (r < 0)
                return refuse(NULL, EVENT_CONFIGURATION_ERROR, &error, r);
        if (config->auto_start)
                auto_queue(config);
        return EXIT_DONE;
}

/* For apt, which gives up where a hook of it fails. What is wrong with us is no reason for that; so the words are on stdout,
 * and debian/apt.conf drops what a shell or a loader says. */
static int verb_guard(void) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        int r;

        r = guard_read(stdin, &error); /* always to its end: apt must not find its pipe closed */
        if (r != -EPERM || config_load("", &config, NULL) < 0 || !config->refuse_other_upgrades)
                return 0;
        (void) printf("emqx-upgrade: Refused: %s.\n%s\n", error_text(&error, r), error.advice);
        return EXIT_GUARD_REFUSED;
}

static ExitStatus usage(void) {
        (void) fprintf(stderr, "This is what the units of emqx-upgrade run. Use emqx-upgrade(1) and systemctl(1).\n");
        return EXIT_USAGE;
}

int main(int argc, char *argv[]) {
        umask(0077);

        if (argc == 3 && streq(argv[1], "conduct"))
                return verb_conduct(argv[2], false);
        if (argc == 3 && streq(argv[1], "stage"))
                return verb_conduct(argv[2], true);
        if (argc == 3 && streq(argv[1], "rollback"))
                return verb_rollback(argv[2]);
        if (argc == 2 && streq(argv[1], "resume"))
                return verb_resume();
        if (argc == 3 && streq(argv[1], "metrics"))
                return verb_metrics(argv[2]);
        if (argc == 4 && streq(argv[1], "reserve"))
                return verb_reserve(argv[2], argv[3]);
        if (argc == 2 && streq(argv[1], "settle"))
                return verb_settle();
        if (argc == 2 && streq(argv[1], "auto"))
                return verb_auto();
        if (argc == 2 && streq(argv[1], "guard"))
                return verb_guard();
        if (argc == 3 && streq(argv[1], "step"))
                return verb_step(argv[2], false);
        if (argc == 4 && streq(argv[1], "step") && streq(argv[3], "--undo"))
                return verb_step(argv[2], true);
        return usage();
}
