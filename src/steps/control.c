/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/control.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "base/fileio.h"
#include "base/process.h"
#include "base/strv.h"
#include "bus/job.h"
#include "bus/unit.h"
#include "node/log.h"
#include "node/probe.h"
#include "node/processes.h"
#include "steps/ask.h"
#include "steps/hold.h"

#define START_DROP_IN_DIR "/run/systemd/system/%s.d"
#define START_DROP_IN_NAME "50-emqx-upgrade-start.conf"
#define PROCESS_LOOK_USEC (100 * USEC_PER_MSEC)   /* while something is waited for that no event announces */
#define COMMAND_PATIENCE_USEC (15 * USEC_PER_SEC) /* for an emqx_ctl of a person or a monitor */
#define GONE_USEC (300 * USEC_PER_MSEC)
#define PROBE_LOOK_USEC (500 * USEC_PER_MSEC) /* as PROCESS_LOOK_USEC, where looking costs a connection */
#define PROBE_TIMEOUT_USEC (2 * USEC_PER_SEC)
#define CONSOLE_SILENT_USEC (5 * USEC_PER_SEC) /* run_erl writes to its log before it starts anything */
#define WARNINGS_MAX 3

/* --- down --- */

/* Files of /proc have no size. NULL: gone. */
static char *read_proc_file(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char buffer[4096];
        ssize_t n = fd >= 0 ? read(fd, buffer, sizeof(buffer) - 1) : -1;

        return n > 0 ? strndup(buffer, (size_t) n) : NULL;
}

int node_vm(const Plan *p, pid_t *ret_pid) {
        _cleanup_free_ NodeProcess *processes = NULL;
        size_t n;
        int r;

        r = node_processes(p->root_dir, &processes, &n);
        if (r < 0)
                return r;
        *ret_pid = 0;
        for (size_t i = 0; i < n; i++)
                if (processes[i].vm)
                        *ret_pid = processes[i].pid;
        return 0;
}

static int boot_id(char ret[static SD_ID128_STRING_MAX]) {
        sd_id128_t id;
        int r = sd_id128_get_boot(&id);

        if (r >= 0)
                (void) sd_id128_to_string(id, ret);
        return r;
}

/* When it was started is the 22nd field of /proc/PID/stat, proc(5), the 20th behind the name, which may hold anything. */
int node_vm_identity(pid_t pid, char **ret) {
        char boot[SD_ID128_STRING_MAX], path[64];
        _cleanup_free_ char *stat = NULL;
        const char *p;
        int r;

        r = boot_id(boot);
        if (r < 0)
                return r;
        (void) snprintf(path, sizeof(path), "/proc/%i/stat", pid);
        stat = read_proc_file(path);
        p = stat ? strrchr(stat, ')') : NULL;
        for (unsigned i = 0; p && i < 20; i++)
                p = strchr(p + 1, ' ');
        if (!p)
                return -ESRCH;
        return asprintf(ret, "%s %i %.*s", boot, pid, (int) strcspn(p + 1, " "), p + 1) < 0 ? -ENOMEM : 0;
}

bool node_vm_is_of_this_boot(const Plan *p) {
        char boot[SD_ID128_STRING_MAX];

        return p->vm && boot_id(boot) >= 0 && startswith(p->vm, boot);
}

static int is_down(Context *c, pid_t *ret_pid, Error *reterr) {
        _cleanup_free_ NodeProcess *processes = NULL;
        _cleanup_free_ pid_t *in_unit = NULL;
        size_t n, n_in_unit;
        int r;

        r = node_processes(c->plan->root_dir, &processes, &n);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look for processes of the node: %m");
        if (n > 0) {
                if (ret_pid)
                        *ret_pid = processes[0].pid;
                return 0;
        }

        r = unit_processes(c->manager, c->plan->unit, &in_unit, &n_in_unit, reterr);
        if (r < 0)
                return r;
        if (n_in_unit > 0 && ret_pid)
                *ret_pid = in_unit[0];
        return n_in_unit == 0;
}

typedef struct Ticker {
        sd_event_source *source;
} Ticker;

static void ticker_done(Ticker *t) {
        t->source = sd_event_source_disable_unref(t->source);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) usec;
        return sd_event_source_set_time_relative(s, *(usec_t *) userdata);
}

/* Wakes the event loop every *period_usec, so that a wait's condition is asked again. */
static int ticker_start(Ticker *t, sd_event *event, usec_t *period_usec) {
        int r;

        r = sd_event_add_time_relative(event, &t->source, CLOCK_MONOTONIC, *period_usec, 0, on_tick, period_usec);
        return r < 0 ? r : sd_event_source_set_enabled(t->source, SD_EVENT_ON);
}

/* What the log says from now on is said by the next VM. */
static int mark_log(Context *c, Error *reterr) {
        _cleanup_(node_log_freep) NodeLog *log = NULL;
        _cleanup_strv_ char **marks = NULL;
        int r;

        r = node_log_open(c->plan->log_dir, NULL, &log, reterr);
        if (r >= 0)
                r = node_log_marks(log, &marks);
        if (r < 0)
                return r;
        strv_free(c->plan->log_marks);
        c->plan->log_marks = TAKE_PTR(marks);
        return 0;
}

static int down_or_error(void *userdata) {
        return is_down(userdata, NULL, NULL);
}

typedef struct Commands {
        Context *c;
        pid_t pid; /* of one that runs */
} Commands;

/* 1: none is left, 0: one runs. What runs in the unit is of the node. */
static int commands_ended(void *userdata) {
        _cleanup_free_ NodeProcess *processes = NULL;
        _cleanup_free_ pid_t *in_unit = NULL;
        size_t n = 0, n_in_unit = 0;
        Commands *k = userdata;
        int r;

        r = node_processes(k->c->plan->root_dir, &processes, &n);
        if (r >= 0 && n > 0)
                r = unit_processes(k->c->manager, k->c->plan->unit, &in_unit, &n_in_unit, NULL);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                if (processes[i].vm || processes[i].runner || pids_contain(in_unit, n_in_unit, processes[i].pid))
                        continue;
                k->pid = processes[i].pid;
                return 0;
        }
        return r < 0 ? r : 1;
}

int node_await_commands(Context *c, pid_t *ret_pid, Error *reterr) {
        _cleanup_(ticker_done) Ticker ticker = { NULL };
        usec_t look_usec = PROCESS_LOOK_USEC;
        Commands k = { .c = c };
        int r;

        r = ticker_start(&ticker, c->event, &look_usec);
        if (r >= 0)
                r = manager_wait(c->manager, commands_ended, &k, usec_from_now(COMMAND_PATIENCE_USEC));
        if (r == -ETIMEDOUT) {
                *ret_pid = k.pid;
                return 0;
        }
        if (r == -EINTR || r == -ECONNRESET)
                return r;
        return r < 0 ? error_set(reterr, r, NULL, "Cannot wait for commands of the node: %m") : 1;
}

int node_is_down(Context *c, pid_t *ret_pid, Error *reterr) {
        pid_t pid = 0;
        int r;

        r = is_down(c, ret_pid, reterr);
        if (r == 0)
                r = node_await_commands(c, ret_pid ?: &pid, reterr);
        return r <= 0 ? r : is_down(c, ret_pid, reterr);
}

int node_stop(Context *c, Error *reterr) {
        _cleanup_(ticker_done) Ticker ticker = { NULL };
        usec_t deadline_usec = usec_from_now(c->config->stop_timeout_usec), look_usec = PROCESS_LOOK_USEC;
        pid_t pid = 0;
        char name[32];
        int r;

        r = hold_set(c, reterr);
        if (r < 0)
                return r;

        if (c->plan->down_since_realtime_usec == 0)
                c->plan->down_since_realtime_usec = now_usec(CLOCK_REALTIME);
        r = job_run(c->manager, JOB_STOP, c->plan->unit, "replace", deadline_usec, reterr);
        if (r < 0)
                return r;

        r = ticker_start(&ticker, c->event, &look_usec);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot set a timer: %m");
        r = manager_wait(c->manager, down_or_error, c, deadline_usec);
        if (r == -ETIMEDOUT && is_down(c, &pid, NULL) == 0)
                return error_set(reterr, r,
                                "Somebody runs the node outside of its unit. Stop it with `emqx stop`, then start the upgrade again.",
                                "%s was stopped, but process %i (%s) of the node still runs", c->plan->unit, pid,
                                process_name(name, pid));
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot wait for the end of the node: %m");
        (void) mark_log(c, NULL);

        journal_event(&c->journal, EVENT_NODE_STOPPED, &(JournalFields){ .step = c->step },
                        "%s is stopped, no process of the node is left", c->plan->unit);
        return 0;
}

/* --- up --- */

static int drop_in_path(const Plan *p, bool file, char **ret) {
        return asprintf(ret, START_DROP_IN_DIR "%s", p->unit, file ? "/" START_DROP_IN_NAME : "") < 0 ? -ENOMEM : 0;
}

/* The unit's own start time-out (90 s by default) is shorter than a slow start of 4.4 (`emqx start` waits 150 times),
 * and ours shall be the one that decides. */
static int lengthen_start_timeout(Context *c, Error *reterr) {
        _cleanup_free_ char *dir = NULL, *path = NULL, *text = NULL, *there = NULL;
        int r, n;

        r = drop_in_path(c->plan, false, &dir);
        if (r >= 0)
                r = drop_in_path(c->plan, true, &path);
        if (r < 0)
                return r;
        n = asprintf(&text, "# by emqx-upgrade, for one start\n[Service]\nTimeoutStartSec=%" PRIu64 "\n",
                        c->config->start_timeout_usec / USEC_PER_SEC + 60);
        if (n < 0)
                return -ENOMEM;

        /* A new one, though the same, would have to be loaded: the node would wait for a reload while it is down. */
        if (read_file_at(AT_FDCWD, path, 4096, &there, NULL) >= 0 && streq(there, text))
                return 0;
        r = mkdir_parents(dir, 0755);
        if (r >= 0)
                r = replace_volatile_file_at(AT_FDCWD, path, text, (size_t) n, 0644);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot write %s: %m", path) : 0;
}

/* Neither dpkg nor rpm reloads for a unit file that it has changed, but most packages' scripts do, and a reload runs
 * every generator. PID 1's own NeedDaemonReload goes by mtime, which two packages may have in common. */
static int reload_if_needed(Context *c, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        usec_t loaded_usec = 0;
        struct stat st;
        int r;

        r = unit_state_get(c->manager, c->plan->unit, &state, reterr);
        if (r >= 0)
                r = manager_units_loaded_usec(c->manager, &loaded_usec, reterr);
        if (r < 0)
                return r;
        if (!state.need_daemon_reload && state.fragment_path && stat(state.fragment_path, &st) >= 0 &&
                        timespec_usec(&st.st_ctim) < loaded_usec)
                return 0;
        return manager_reload(c->manager, reterr);
}

int prepare_start(Context *c, Error *reterr) {
        int r = lengthen_start_timeout(c, reterr);

        return r < 0 ? r : reload_if_needed(c, reterr);
}

/* Again after any interruption: what was removed may not have been forgotten by PID 1 yet. */
static int forget_start_timeout(Context *c, Error *reterr) {
        _cleanup_free_ char *dir = NULL, *path = NULL;
        int r;

        r = drop_in_path(c->plan, false, &dir);
        if (r >= 0)
                r = drop_in_path(c->plan, true, &path);
        if (r < 0)
                return r;
        if (unlink(path) < 0 && errno != ENOENT)
                return error_set(reterr, -errno, NULL, "Cannot remove %s: %m", path);
        (void) rmdir(dir); /* others' drop-ins may be there */
        return reload_if_needed(c, reterr);
}

/* What is known about a start under way. */
typedef struct Starting {
        Context *c;
        Job *job;
        NodeLog *log;
        sd_event_source *log_source;
        usec_t probed_usec, looked_usec;
        bool said_running;
        bool found_running; /* by a conductor that came back: its last words were said before */
        bool console_seen;  /* something was written to erlang.log.N */
        usec_t job_ended_usec;
        bool alive_seen;
        usec_t missing_since_usec; /* it was seen, and has not been since then; 0: it is there */
        char *reason;              /* the first line that says why it cannot succeed */
        char *warnings;            /* the first lines that were some */
        unsigned n_warnings;
        char *last; /* the last line of all */
} Starting;

static void starting_done(Starting *s) {
        s->log_source = sd_event_source_disable_unref(s->log_source);
        s->log = node_log_free(s->log);
        s->job = job_free(s->job);
        s->reason = mfree(s->reason);
        s->warnings = mfree(s->warnings);
        s->last = mfree(s->last);
}

/* The line that names the unknown key is a warning beside the one that says that it is over: both are the reason. */
static void on_log_line(const char *file, const char *line, void *userdata) {
        Starting *s = userdata;
        char *text;

        switch (node_line_classify(file, line)) {
        case NODE_LINE_RUNNING: s->said_running = true; break;
        case NODE_LINE_FATAL:
                if (!s->reason &&
                                asprintf(&text, "%s%s%s (%s)", s->warnings ?: "", s->warnings ? "; " : "", line,
                                                file) >= 0)
                        s->reason = text;
                break;
        case NODE_LINE_FAILURE:
        case NODE_LINE_WARNING:
                if (s->n_warnings++ < WARNINGS_MAX &&
                                asprintf(&text, "%s%s%s", s->warnings ?: "", s->warnings ? "; " : "", line) >= 0) {
                        free(s->warnings);
                        s->warnings = text;
                }
                step_report(s->c, "%s", line);
                break;
        case NODE_LINE_OTHER: break;
        }
        s->console_seen = s->console_seen || startswith(file, "erlang.log.");
        (void) free_and_strdup(&s->last, line);
}

static int on_log_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Starting *s = userdata;

        (void) source;
        (void) fd;
        (void) events;
        (void) node_log_read(s->log, on_log_line, s);
        return 0;
}

/* Of a node in the foreground of its unit there is no run_erl; of one that run_erl still starts there is no VM yet. */
static bool is_alive(const Plan *p) {
        _cleanup_free_ NodeProcess *processes = NULL;
        size_t n = 0;

        if (node_processes(p->root_dir, &processes, &n) < 0)
                return true; /* cannot tell */
        for (size_t i = 0; i < n; i++)
                if (processes[i].runner || processes[i].vm)
                        return true;
        return false;
}

/* Without the log: the node's own word where its management plugin is loaded, else an answer over MQTT. */
static bool answers(Context *c) {
        const Plan *p = c->plan;
        _cleanup_free_ char *password = NULL;
        MqttTarget target;
        int connack;
        pid_t vm;

        if (p->management_port > 0)
                return probe_http_status(p->management_host, (unsigned) p->management_port, PROBE_TIMEOUT_USEC, NULL,
                                       NULL) == 1;
        if (p->mqtt_port > 0 && mqtt_target(c, &target, &password, NULL) >= 0)
                return probe_mqtt(&target, PROBE_TIMEOUT_USEC, &connack, NULL) >= 0;
        return node_vm(p, &vm) >= 0 && vm != 0;
}

/* run_erl forks twice before it is a daemon, and a look at /proc may miss what forks meanwhile: gone is what several
 * looks have not found. Not after every event, of which a start has many: a look goes through all processes, while the
 * node wants the processor. */
static bool has_died(Starting *s, usec_t now) {
        if (now - s->looked_usec < PROCESS_LOOK_USEC)
                return false;
        s->looked_usec = now;
        if (is_alive(s->c->plan)) {
                s->alive_seen = true;
                s->missing_since_usec = 0;
        } else if (s->alive_seen && s->missing_since_usec == 0)
                s->missing_since_usec = now;
        return s->missing_since_usec != 0 && now - s->missing_since_usec >= GONE_USEC;
}

/* Whether "is running now!" is not to be waited for: it was said before, or goes elsewhere, as with a unit that has the
 * node in its foreground, where no run_erl writes a log. */
static bool console_is_silent(Starting *s, usec_t now) {
        if (!job_ended(s->job, NULL))
                return false;
        if (s->job_ended_usec == 0)
                s->job_ended_usec = now;
        return s->found_running || (!s->console_seen && now - s->job_ended_usec >= CONSOLE_SILENT_USEC);
}

/* For manager_wait(): 1 ready, 0 not yet, -ECANCELED cannot become so. */
static int ready_or_hopeless(void *userdata) {
        Starting *s = userdata;
        const char *result;
        usec_t now = now_usec(CLOCK_MONOTONIC);

        if (s->reason)
                return -ECANCELED;
        if (s->said_running)
                return 1;

        if (has_died(s, now)) {
                (void) node_log_read(s->log, on_log_line, s);
                return -ECANCELED;
        }
        if (job_ended(s->job, &result) && !streq(result, "done"))
                return -ECANCELED;

        if (now - s->probed_usec >= PROBE_LOOK_USEC && console_is_silent(s, now)) {
                s->probed_usec = now;
                return answers(s->c);
        }
        return 0;
}

static int explain_start(Starting *s, const char *version, int r, Error *reterr) {
        static const char advice[] = "The log directory of the node and `journalctl -u emqx.service` say more.";
        char span[TIMESPAN_TEXT_MAX];
        const char *result;

        if (s->reason)
                r = error_set(reterr, r, advice, "%s cannot start: %s", version, s->reason);
        else if (r == -ETIMEDOUT)
                r = error_set(reterr, r, advice, "%s was not ready within %s; its last words: %s", version,
                                format_timespan(span, s->c->config->start_timeout_usec), s->last ?: "none");
        else if (job_ended(s->job, &result) && !streq(result, "done"))
                r = error_set(reterr, r, advice, "Starting %s failed with result '%s'; the node's last words: %s",
                                s->c->plan->unit, result, s->last ?: "none");
        else if (r == -ECANCELED)
                r = error_set(reterr, r, advice, "The node's processes ended while %s started; its last words: %s",
                                version, s->last ?: "none");
        else
                r = error_set(reterr, r, NULL, "Cannot wait for the start of %s: %m", version);
        if (r != -EINTR)
                journal_event(&s->c->journal, EVENT_NODE_FAILING,
                                &(JournalFields){ .step = s->c->step, .error = reterr->message }, "%s",
                                reterr->message);
        return r;
}

/* A start that a condition stopped ends as `done` too. */
static int check_condition(Context *c, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        int r;

        r = unit_state_get(c->manager, c->plan->unit, &state, reterr);
        if (r < 0)
                return r;
        if (!unit_state_busy(&state) && !state.condition_result)
                return error_set(reterr, -ECANCELED,
                                "systemctl status tells which; remove it and start the upgrade again.",
                                "%s did not start because a condition of it is false", c->plan->unit);
        return 0;
}

int node_bring_up(Context *c, const char *version, Error *reterr) {
        _cleanup_(starting_done) Starting s = { .c = c };
        _cleanup_(ticker_done) Ticker ticker = { NULL };
        usec_t deadline_usec = usec_from_now(c->config->start_timeout_usec), look_usec = PROCESS_LOOK_USEC;
        char span[TIMESPAN_TEXT_MAX], predicted[TIMESPAN_TEXT_MAX];
        bool was_predicted = streq(version, c->plan->to) && c->plan->predicted_downtime_usec > 0;
        pid_t vm = 0;
        int r;

        r = prepare_start(c, reterr);
        if (r >= 0)
                r = manager_set_enablement(c->manager, c->plan->unit, c->plan->enablement, reterr);
        if (r >= 0)
                r = manager_reset_failed(c->manager, c->plan->unit, reterr);
        if (r >= 0)
                r = node_log_open(c->plan->log_dir, NULL, &s.log, reterr);
        if (r >= 0)
                r = node_vm(c->plan, &vm);
        if (r >= 0 && vm == 0)
                r = mark_log(c, reterr);
        if (r >= 0)
                r = hold_lift(c, reterr);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot prepare the start of %s: %m", c->plan->unit);
        s.found_running = vm != 0;

        r = sd_event_add_io(c->event, &s.log_source, node_log_fd(s.log), EPOLLIN, on_log_readable, &s);
        if (r >= 0)
                r = ticker_start(&ticker, c->event, &look_usec);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot follow the log of the node: %m");

        r = job_queue(c->manager, JOB_START, c->plan->unit, "replace", &s.job, reterr);
        if (r < 0)
                return r;
        r = manager_wait(c->manager, ready_or_hopeless, &s, deadline_usec);
        if (r < 0 && r != -EINTR && job_ended(s.job, NULL)) {
                int q = check_condition(c, reterr);

                if (q < 0)
                        return q;
        }
        if (r < 0)
                return explain_start(&s, version, r, reterr);

        if (node_vm(c->plan, &vm) >= 0 && vm != 0) {
                c->plan->vm = mfree(c->plan->vm);
                (void) node_vm_identity(vm, &c->plan->vm); /* what ends at once is noticed by those who ask next */
        }
        c->plan->ready_since_realtime_usec = now_usec(CLOCK_REALTIME);
        journal_event(&c->journal, EVENT_NODE_READY,
                        &(JournalFields){ .step = c->step,
                                        .downtime_usec = plan_downtime_usec(c->plan),
                                        .predicted_usec = was_predicted ? c->plan->predicted_downtime_usec : 0 },
                        "EMQX %s is ready; the node was down for %s%s%s%s", version,
                        format_timespan(span, plan_downtime_usec(c->plan)), was_predicted ? ", of " : "",
                        was_predicted ? format_timespan(predicted, c->plan->predicted_downtime_usec) : "",
                        was_predicted ? " expected" : "");
        return 0;
}

int node_settle(Context *c, Error *reterr) {
        _cleanup_(job_freep) Job *job = NULL;
        int r;

        r = job_find(c->manager, c->plan->unit, &job, reterr);
        if (r > 0)
                r = job_wait(job, usec_from_now(c->config->start_timeout_usec), NULL, reterr);
        if (r < 0)
                return r;
        return forget_start_timeout(c, reterr);
}
