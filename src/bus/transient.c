/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/transient.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "bus/call.h"

#define CLEAR_TIMEOUT_USEC (30 * USEC_PER_SEC)

/* linux/capability.h, in the order of their numbers. */
static const char *const capability_names[] = { "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
        "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
        "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
        "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",
        "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE" };

static int capability_mask(char *const *names, uint64_t *ret) {
        uint64_t mask = 0;

        STRV_FOREACH (name, (char **) names) {
                size_t i;

                for (i = 0; i < ELEMENTSOF(capability_names); i++)
                        if (streq(capability_names[i], *name))
                                break;
                if (i == ELEMENTSOF(capability_names))
                        return -EINVAL;
                mask |= UINT64_C(1) << i;
        }
        *ret = mask;
        return 0;
}

/* Opens a property that is an array, for its elements; close_array() ends it. */
static int open_array(sd_bus_message *message, const char *property, const char *element) {
        _cleanup_free_ char *type = NULL;
        int r;

        if (asprintf(&type, "a%s", element) < 0)
                return -ENOMEM;
        r = sd_bus_message_open_container(message, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(message, "s", property);
        if (r >= 0)
                r = sd_bus_message_open_container(message, 'v', type);
        return r < 0 ? r : sd_bus_message_open_container(message, 'a', element);
}

static int close_array(sd_bus_message *message) {
        int r = 0;

        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(message);
        return r;
}

static int add_strv(sd_bus_message *message, const char *property, char *const *l) {
        int r;

        r = open_array(message, property, "s");
        STRV_FOREACH (s, (char **) l)
                if (r >= 0)
                        r = sd_bus_message_append(message, "s", *s);
        return r < 0 ? r : close_array(message);
}

/* "$" is where systemd would put variables; "$$" is the sign itself, systemd.service(5). */
static char *escape_dollars(const char *s) {
        char *escaped = malloc(2 * strlen(s) + 1), *p = escaped;

        if (!escaped)
                return NULL;
        for (; *s; s++) {
                if (*s == '$')
                        *p++ = '$';
                *p++ = *s;
        }
        *p = 0;
        return escaped;
}

/* ExecStart: a(sasb): path, argv, whether failure is ignored. Not ExecStartEx, whose flags could keep "$" as it is:
 * systemd 252 writes that name into the transient unit's file, and does not know it when a daemon-reload reads it. */
static int add_exec_start(sd_bus_message *message, char *const *argv) {
        _cleanup_strv_ char **escaped = NULL;
        int r;

        for (size_t i = 0; argv[i]; i++) {
                _cleanup_free_ char *arg = escape_dollars(argv[i]);

                if (!arg || strv_extend(&escaped, arg) < 0)
                        return -ENOMEM;
        }
        r = open_array(message, "ExecStart", "(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(message, 'r', "sasb");
        if (r >= 0)
                r = sd_bus_message_append(message, "s", argv[0]);
        if (r >= 0)
                r = sd_bus_message_append_strv(message, escaped);
        if (r >= 0)
                r = sd_bus_message_append(message, "b", 0);
        if (r >= 0)
                r = sd_bus_message_close_container(message);
        return r < 0 ? r : close_array(message);
}

/* LogExtraFields: aay. */
static int add_log_fields(sd_bus_message *message, char *const *fields) {
        int r;

        r = open_array(message, "LogExtraFields", "ay");
        STRV_FOREACH (field, (char **) fields)
                if (r >= 0)
                        r = sd_bus_message_append_array(message, 'y', *field, strlen(*field));
        return r < 0 ? r : close_array(message);
}

/* systemd.exec(5). Nothing is hidden from it: data may be anywhere, /home and /tmp included. */
static int add_sandbox(sd_bus_message *message) {
        /* clang-format off */
        return sd_bus_message_append(message, "(sv)(sv)(sv)(sv)(sv)",
                        "NoNewPrivileges", "b", true,
                        "ProtectSystem", "s", "strict",
                        "DevicePolicy", "s", "closed",
                        "KeyringMode", "s", "private",
                        "UMask", "u", (uint32_t) 0077);
        /* clang-format on */
}

/* Each of these is one more mount or one more filter to compile: together tens of milliseconds. The last filter takes
 * away from what the one before allows. Bits for setuid and setgid are not among it: data may have them. ProtectKernelTunables= and
 * ProtectControlGroups= mount /proc anew, which in a container has another boot ID then. */
static int add_slow_sandbox(sd_bus_message *message) {
        static const char *const switches[] = { "PrivateDevices", "ProtectKernelModules", "ProtectKernelLogs",
                "ProtectClock", "ProtectHostname", "RestrictRealtime", "LockPersonality", "MemoryDenyWriteExecute" };
        int r = 0;

        for (size_t k = 0; r >= 0 && k < ELEMENTSOF(switches); k++)
                r = sd_bus_message_append(message, "(sv)", switches[k], "b", true);
        /* clang-format off */
        if (r >= 0)
                r = sd_bus_message_append(message, "(sv)(sv)(sv)(sv)(sv)(sv)",
                                "ReadOnlyPaths", "as", 2, "/proc/sys", "/sys",
                                "RestrictNamespaces", "t", UINT64_C(0),
                                "RestrictAddressFamilies", "(bas)", true, 1, "AF_UNIX",
                                "SystemCallArchitectures", "as", 1, "native",
                                "SystemCallFilter", "(bas)", true, 1, "@system-service",
                                "SystemCallFilter", "(bas)", false, 1, "@resources");
        /* clang-format on */
        return r;
}

/* CPUWeight=idle came with v252; before, the least weight is what there is. */
static int add_idle(sd_bus_message *message, unsigned version) {
        /* clang-format off */
        return sd_bus_message_append(message, "(sv)(sv)(sv)(sv)",
                        "CPUWeight", "t", version >= 252 ? UINT64_C(0) : UINT64_C(1),
                        "IOWeight", "t", UINT64_C(1),
                        "IOSchedulingClass", "i", 3, /* IOPRIO_CLASS_IDLE, ioprio_set(2) */
                        "Nice", "i", 19);
        /* clang-format on */
}

/* By the names of its files: systemd shows Environment= to everybody, but what is in files to nobody. */
static int add_environment_of(sd_bus_message *message, const UnitState *s) {
        int r;

        r = add_strv(message, "Environment", s->environment);
        if (r >= 0)
                r = add_strv(message, "PassEnvironment", s->pass_environment);
        if (r >= 0)
                r = add_strv(message, "UnsetEnvironment", s->unset_environment);
        if (r >= 0)
                r = open_array(message, "EnvironmentFiles", "(sb)");
        for (size_t i = 0; r >= 0 && i < s->n_environment_files; i++)
                r = sd_bus_message_append(
                                message, "(sb)", s->environment_files[i].path, s->environment_files[i].optional);
        return r < 0 ? r : close_array(message);
}

static int add_identity(sd_bus_message *message, const TransientUnit *unit) {
        /* clang-format off */
        const struct {
                const char *property, *value;
        } strings[] = {
                { "Description",      unit->description       },
                { "User",             unit->user              },
                { "Group",            unit->group             },
                { "Slice",            unit->slice             },
                { "WorkingDirectory", unit->working_directory },
                { "KillMode",         unit->kill_mode         },
        };
        /* clang-format on */
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(strings); i++)
                if (strings[i].value)
                        r = sd_bus_message_append(message, "(sv)", strings[i].property, "s", strings[i].value);
        if (r >= 0 && unit->environment_of)
                r = add_environment_of(message, unit->environment_of);
        if (r >= 0 && unit->environment)
                r = add_strv(message, "Environment", unit->environment);
        if (r >= 0 && unit->log_extra_fields)
                r = add_log_fields(message, unit->log_extra_fields);
        if (r >= 0 && unit->requires_mounts_for)
                r = add_strv(message, "RequiresMountsFor", unit->requires_mounts_for);
        return r;
}

/* BindReadOnlyPaths: a(ssbt), that is from, to, ignore a missing one, flags (MS_REC or 0). */
static int add_binds(sd_bus_message *message, char *const *binds) {
        int r;

        r = open_array(message, "BindReadOnlyPaths", "(ssbt)");
        for (; r >= 0 && *binds; binds++) {
                _cleanup_free_ char *from = strndup(*binds, strcspn(*binds, ":"));

                r = from ? sd_bus_message_append(
                                           message, "(ssbt)", from, strchrnul(*binds, ':') + 1, false, UINT64_C(0))
                         : -ENOMEM;
        }
        return r < 0 ? r : close_array(message);
}

static int add_limits(sd_bus_message *message, const TransientUnit *unit, unsigned version) {
        uint64_t mask;
        int r;

        r = sd_bus_message_append(message, "(sv)(sv)", "TimeoutStartUSec", "t",
                        unit->timeout_start_usec ?: USEC_INFINITY, "SendSIGKILL", "b", !unit->no_sigkill);
        if (r >= 0 && unit->timeout_stop_usec)
                r = sd_bus_message_append(message, "(sv)", "TimeoutStopUSec", "t", unit->timeout_stop_usec);
        if (r >= 0 && unit->sandboxed)
                r = add_sandbox(message);
        if (r >= 0 && unit->sandboxed && !unit->quick)
                r = add_slow_sandbox(message);
        if (r >= 0 && unit->read_write_paths)
                r = add_strv(message, "ReadWritePaths", unit->read_write_paths);
        if (r >= 0 && unit->bind_read_only_paths)
                r = add_binds(message, unit->bind_read_only_paths);
        if (r >= 0 && unit->private_tmp)
                r = sd_bus_message_append(message, "(sv)", "PrivateTmp", "b", true);
        if (r >= 0 && unit->private_network)
                r = sd_bus_message_append(message, "(sv)", "PrivateNetwork", "b", true);
        if (r >= 0 && unit->capabilities) {
                r = capability_mask(unit->capabilities, &mask);
                if (r >= 0)
                        r = sd_bus_message_append(message, "(sv)", "CapabilityBoundingSet", "t", mask);
        }
        if (r >= 0 && unit->idle)
                r = add_idle(message, version);
        if (r >= 0 && unit->limit_nofile)
                r = sd_bus_message_append(message, "(sv)", "LimitNOFILE", "t", unit->limit_nofile);
        return r;
}

static int add_output(sd_bus_message *message, const TransientUnit *unit) {
        int out = unit->stdout_fd, err = unit->stderr_fd >= 0 ? unit->stderr_fd : out, r = 0;

        if (out >= 0)
                r = sd_bus_message_append(message, "(sv)", "StandardOutputFileDescriptor", "h", out);
        if (r >= 0 && err >= 0)
                r = sd_bus_message_append(message, "(sv)", "StandardErrorFileDescriptor", "h", err);
        return r;
}

/* StartTransientUnit: s name, s mode, a(sv) properties, a(sa(sv)) auxiliary units. */
static int new_start_transient(Manager *m, const TransientUnit *unit, bool stays, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        int r;

        r = sd_bus_message_new_method_call(
                        manager_bus(m), &message, SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, "StartTransientUnit");
        if (r >= 0)
                r = sd_bus_message_append(message, "ss", unit->name, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(message, 'a', "(sv)");
        if (r >= 0)
                r = sd_bus_message_append(message, "(sv)(sv)(sv)", "Type", "s", "oneshot", "RemainAfterExit", "b",
                                stays, "NotifyAccess", "s", "main");
        if (r >= 0 && !stays) /* ours for as long as we are connected; then PID 1 clears it away, even where it failed */
                r = sd_bus_message_append(
                                message, "(sv)(sv)", "AddRef", "b", true, "CollectMode", "s", "inactive-or-failed");
        if (r >= 0)
                r = add_identity(message, unit);
        if (r >= 0)
                r = add_limits(message, unit, manager_version(m));
        if (r >= 0)
                r = add_output(message, unit);
        if (r >= 0)
                r = add_exec_start(message, unit->argv);
        if (r >= 0)
                r = sd_bus_message_close_container(message);
        if (r >= 0)
                r = sd_bus_message_append(message, "a(sa(sv))", 0);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(message);
        return 0;
}

static int start(Manager *m, const TransientUnit *unit, bool stays, Job **ret, Error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL, *reply = NULL;
        _cleanup_free_ char *what = NULL;
        const char *path;
        int r;

        assert(unit->name && unit->argv && unit->argv[0]);
        assert(ret);

        r = manager_check(m, reterr);
        if (r < 0)
                return r;
        if (asprintf(&what, "start %s", unit->name) < 0)
                return error_set(reterr, -ENOMEM, NULL, "Out of memory");

        r = new_start_transient(m, unit, stays, &message);
        if (r < 0)
                return bus_fail(m, reterr, what, NULL, r);
        r = bus_send(m, what, message, &reply, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = job_adopt(m, unit->name, path, false, ret);
        return r < 0 ? bus_fail(m, reterr, what, NULL, r) : 0;
}

int transient_start(Manager *m, const TransientUnit *unit, Job **ret, Error *reterr) {
        return start(m, unit, true, ret, reterr);
}

static TransientState state_of(const UnitState *s) {
        if (!unit_state_present(s))
                return TRANSIENT_ABSENT;
        if (streq(s->active_state, "active"))
                return TRANSIENT_DONE;
        if (streq(s->active_state, "failed"))
                return TRANSIENT_FAILED;
        return unit_state_busy(s) || s->job_id != 0 ? TRANSIENT_RUNNING : TRANSIENT_ABSENT;
}

int transient_find(Manager *m, const char *name, UnitState *ret, Error *reterr) {
        UnitState s = UNIT_STATE_NULL;
        int r;

        r = unit_state_get(m, name, &s, reterr);
        if (r < 0)
                return r;

        r = state_of(&s);
        if (ret)
                *ret = s;
        else
                unit_state_done(&s);
        return r;
}

/* A program that exits by itself has said why; what one that was killed said last is only how far it had come. */
int transient_explain(const char *name, const UnitState *s, Error *reterr) {
        char text[UNIT_EXIT_TEXT_MAX];
        bool said = s->status_text[0] != '\0';

        if (said && s->exec_main_code == CLD_EXITED)
                return error_set(reterr, -ECANCELED, NULL, "%s", s->status_text);

        return error_set(reterr, -ECANCELED, NULL, "%s: %s (result \"%s\")%s%s", name, unit_exit_text(text, s),
                        s->result, said ? ", its last words: " : "", s->status_text);
}

typedef struct Await {
        Job *job;
        TransientStatusFunc func;
        void *userdata;
        usec_t stall_usec, deadline_usec;
        char *status_text; /* the last one, NULL: none yet */
} Await;

static void note_status(Await *a, const char *status_text) {
        if (!status_text || status_text[0] == '\0' || streq_ptr(a->status_text, status_text))
                return;

        (void) free_and_strdup(&a->status_text, status_text);
        a->deadline_usec = usec_from_now(a->stall_usec);
        if (a->func)
                a->func(status_text, a->userdata);
}

static void on_change(const UnitChange *change, void *userdata) {
        note_status(userdata, change->status_text);
}

/* job_wait() with a deadline that moves while it runs. */
static int await_job(Await *a, const char **ret_result, Error *reterr) {
        for (;;) {
                _cleanup_(error_done) Error error = ERROR_NULL;
                int r;

                r = job_wait(a->job, a->deadline_usec, ret_result, &error);
                if (r == -ETIMEDOUT && usec_left(a->deadline_usec) > 0)
                        continue;
                if (r < 0)
                        return error_set(reterr, r, error.advice, "%s", error_text(&error, r));
                return 0;
        }
}

static int judge(Await *a, const char *result, Error *reterr) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        const char *name = job_unit(a->job);
        int r;

        r = unit_state_get(job_manager(a->job), name, &s, reterr);
        if (r < 0)
                return r;

        if (streq(result, "done") && !job_is_stop(a->job)) {
                /* The job decides; the unit can only explain, and only while it is loaded. */
                if (!unit_state_present(&s))
                        return 0;
                if (streq(s.active_state, "active") && s.exec_main_status == 0) {
                        note_status(a, s.status_text);
                        return 0;
                }
        }
        if (unit_state_present(&s) && !streq(s.result, "success"))
                return transient_explain(name, &s, reterr);
        return error_set(reterr, -ECANCELED, NULL, "%s did not run to its end: %s, now %s", name,
                        job_is_stop(a->job) ? "it was stopped" : result, s.active_state);
}

int transient_await(Job *job, usec_t stall_usec, TransientStatusFunc func, void *userdata, Error *reterr) {
        Await a = { .job = job,
                .func = func,
                .userdata = userdata,
                .stall_usec = stall_usec,
                .deadline_usec = usec_from_now(stall_usec) };
        _cleanup_(unit_watch_freep) UnitWatch *watch = NULL;
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        const char *result = NULL;
        char span[TIMESPAN_TEXT_MAX];
        int r;

        r = unit_watch_new(job_manager(job), job_unit(job), on_change, &a, &watch, reterr);
        if (r >= 0)
                r = unit_state_get(job_manager(job), job_unit(job), &s, reterr);
        if (r < 0)
                return r;
        if (unit_state_busy(&s))
                note_status(&a, s.status_text); /* what it said before we watched */

        r = await_job(&a, &result, &error);
        if (r == -ETIMEDOUT)
                (void) error_set(reterr, r, NULL, "%s has made no progress for %s%s%s", job_unit(job),
                                format_timespan(span, stall_usec), a.status_text ? ", its last words: " : "",
                                a.status_text ?: "");
        else if (result)
                r = judge(&a, result, reterr);
        else
                (void) error_set(reterr, r, error.advice, "%s", error_text(&error, r));

        free(a.status_text);
        return r;
}

typedef struct Gone {
        Manager *manager;
        const char *name;
} Gone;

static int is_gone(void *userdata) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        Gone *g = userdata;
        int r;

        r = unit_state_get(g->manager, g->name, &s, NULL);
        return r < 0 ? r : !unit_state_present(&s);
}

int transient_clear(Manager *m, const char *name, usec_t deadline_usec, Error *reterr) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        int r;

        r = unit_state_get(m, name, &s, reterr);
        if (r < 0)
                return r;
        if (!unit_state_present(&s))
                return 0;

        if (unit_state_busy(&s) || s.job_id != 0) {
                r = job_run(m, JOB_STOP, name, "replace", deadline_usec, &error);
                if (r < 0 && r != -ENOENT)
                        return error_set(reterr, r, error.advice, "%s", error_text(&error, r));
        }

        /* Stopping can make it "failed" as well. */
        r = manager_reset_failed(m, name, reterr);
        if (r < 0)
                return r;

        r = manager_wait(m, is_gone, &(Gone){ m, name }, deadline_usec);
        return r < 0 ? error_set(reterr, r, NULL, "Failed to wait until %s is unloaded: %m", name) : 0;
}

typedef struct Capture {
        int fd;
        char *text;
        size_t size;
} Capture;

static int on_output(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
        Capture *c = userdata;
        char buf[4096];
        ssize_t n;

        while ((n = read(fd, buf, sizeof(buf))) > 0) {
                size_t keep = MIN((size_t) n, TRANSIENT_OUTPUT_MAX - c->size);

                for (size_t i = 0; i < keep; i++)
                        c->text[c->size++] = buf[i] ?: '?';
        }
        if (n == 0 && source) /* end of file would be told for ever */
                return sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

/* systemd's own exit statuses for what went wrong before the program ran: systemd.exec(5), "Process Exit Codes". */
static bool not_run(int status) {
        return status >= 200 && status <= 245;
}

static int captured_status(Manager *m, const char *name, int *ret, Error *reterr) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        int r;

        r = unit_state_get(m, name, &s, reterr);
        if (r < 0)
                return r;

        if (streq(s.result, "timeout"))
                return error_set(reterr, -ETIMEDOUT, NULL, "%s did not end in time and was killed", name);
        if (!unit_state_present(&s) || s.exec_main_code == 0)
                return error_set(reterr, -ECANCELED, NULL, "%s was not run (result \"%s\")", name, s.result);
        if (s.exec_main_code == CLD_EXITED && not_run(s.exec_main_status))
                return error_set(reterr, -ENOEXEC, NULL,
                                "%s: systemd could not run it (status %i, see systemd.exec(5))", name,
                                s.exec_main_status);

        *ret = s.exec_main_code == CLD_EXITED ? s.exec_main_status : 128 + s.exec_main_status;
        return 0;
}

int transient_capture(Manager *m, const TransientUnit *unit, usec_t timeout_usec, char **ret_output,
                int *ret_exit_status, Error *reterr) {
        _cleanup_(sd_event_source_unrefp) sd_event_source *source = NULL;
        _cleanup_close_ int read_fd = -1, write_fd = -1;
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(job_freep) Job *job = NULL;
        _cleanup_free_ char *text = NULL;
        TransientUnit u = *unit;
        Capture c = { 0 };
        int r, fds[2], status = 0;

        c.text = text = malloc(TRANSIENT_OUTPUT_MAX + 1);
        if (!text)
                return error_set(reterr, -ENOMEM, NULL, "Out of memory");
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return error_set(reterr, -errno, NULL, "Failed to make a pipe: %m");
        read_fd = fds[0];
        write_fd = fds[1];
        (void) fcntl(write_fd, F_SETFL, 0); /* blocking for the program that writes */

        r = sd_event_add_io(manager_event(m), &source, read_fd, EPOLLIN, on_output, &c);
        if (r < 0)
                return error_set(reterr, r, NULL, "Failed to watch a pipe: %m");

        u.stdout_fd = u.stderr_fd = write_fd;
        u.timeout_start_usec = timeout_usec;
        u.timeout_stop_usec = unit->timeout_stop_usec ?: 5 * USEC_PER_SEC;

        r = transient_clear(m, u.name, usec_from_now(CLEAR_TIMEOUT_USEC), reterr);
        if (r < 0)
                return r;
        r = start(m, &u, false, &job, reterr);
        if (r < 0)
                return r;
        write_fd = safe_close(write_fd);

        /* PID 1 keeps the time; our own deadline is for when it does not. */
        r = job_wait(job, usec_from_now(timeout_usec + 2 * u.timeout_stop_usec + CLEAR_TIMEOUT_USEC), NULL, &error);
        if (r == -ECANCELED)
                r = captured_status(m, u.name, &status, reterr);
        else if (r < 0)
                (void) error_set(reterr, r, error.advice, "%s", error_text(&error, r));
        (void) on_output(NULL, read_fd, 0, &c); /* what it wrote last */

        (void) bus_call(m, "let go of a unit", "UnrefUnit", NULL, NULL, "s", u.name);
        (void) transient_clear(m, u.name, usec_from_now(CLEAR_TIMEOUT_USEC), NULL);
        if (r < 0)
                return r;

        text[c.size] = '\0';
        if (ret_output)
                *ret_output = TAKE_PTR(text);
        if (ret_exit_status)
                *ret_exit_status = status;
        return 0;
}
