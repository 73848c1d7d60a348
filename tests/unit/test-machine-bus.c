/* SPDX-License-Identifier: Apache-2.0 */

/* bus/ against the systemd that runs as PID 1: to be run as root in a throw-away machine (tests/system/test_bus.py).
 *
 *     test-machine-bus              everything but:
 *     test-machine-bus going-down   powers the machine off
 *     test-machine-bus step EXIT PAUSE_MSEC STATUS…   is the program of the transient units in here */

#include "test-util.h"

#include <fcntl.h>
#include <linux/sched.h> /* CLONE_NEWTIME, which glibc 2.31 does not have */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

#include "base/fileio.h"
#include "bus/call.h"
#include "bus/transient.h"

#define SOON usec_from_now(20 * USEC_PER_SEC)
#define STEP "bus-test-step.service"

static char self[4096];

typedef struct Fixture {
        sd_event *event;
        Manager *manager;
        Error error;
} Fixture;

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));

        assert_non_null(f);
        assert_int_equal(sd_event_new(&f->event), 0);
        assert_int_equal(manager_new(f->event, &f->manager, &f->error), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        /* A test that failed has not freed what it made. */
        while (*manager_jobs(f->manager))
                job_free(*manager_jobs(f->manager));
        while (*manager_watches(f->manager))
                unit_watch_free(*manager_watches(f->manager));
        (void) transient_clear(f->manager, STEP, SOON, NULL);
        manager_free(f->manager);
        sd_event_unref(f->event);
        error_done(&f->error);
        free(f);
        return 0;
}

/* Fails the test with the words of the error. */
#define assert_ok(f, call)                                                                                            \
        do {                                                                                                          \
                int _r = (call);                                                                                      \
                if (_r < 0)                                                                                           \
                        fail_msg("%s: %s", #call, error_text(&(f)->error, _r));                                       \
        } while (0)

static void write_file(const char *path, const char *text) {
        assert_int_equal(mkdir_parents("/run/systemd/system", 0755), 0);
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void write_service(Fixture *f, const char *name, const char *text) {
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "/run/systemd/system/%s", name) > 0);
        write_file(path, text);
        assert_ok(f, manager_reload(f->manager, &f->error));
}

static int run(const char *command) {
        int status = system(command);

        return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static void a_service_is_started_and_stopped(void **state) {
        _cleanup_unit_state_ UnitState up = UNIT_STATE_NULL, down = UNIT_STATE_NULL;
        _cleanup_free_ pid_t *pids = NULL;
        Fixture *f = *state;
        size_t n;

        write_service(f, "bus-test.service", "[Service]\nExecStart=sleep infinity\nUser=nobody\n");

        assert_ok(f, job_run(f->manager, JOB_START, "bus-test.service", NULL, SOON, &f->error));
        assert_ok(f, unit_state_get(f->manager, "bus-test.service", &up, &f->error));
        assert_string_equal(up.load_state, "loaded");
        assert_string_equal(up.active_state, "active");
        assert_string_equal(up.sub_state, "running");
        assert_string_equal(up.result, "success");
        assert_string_equal(up.user, "nobody");
        assert_string_equal(up.fragment_path, "/run/systemd/system/bus-test.service");
        assert_true(up.condition_result && up.job_id == 0);
        assert_false(sd_id128_is_null(up.invocation_id));
        assert_true(endswith(up.control_group, "/bus-test.service"));

        assert_ok(f, unit_processes(f->manager, "bus-test.service", &pids, &n, &f->error));
        assert_int_equal(n, 1);
        assert_int_equal(pids[0], up.main_pid);

        assert_ok(f, job_run(f->manager, JOB_STOP, "bus-test.service", NULL, SOON, &f->error));
        assert_ok(f, unit_state_get(f->manager, "bus-test.service", &down, &f->error));
        assert_string_equal(down.active_state, "inactive");
        assert_int_equal(down.main_pid, 0);
        assert_ok(f, unit_processes(f->manager, "bus-test.service", NULL, &n, &f->error));
        assert_int_equal(n, 0);
}

static void a_unit_that_does_not_exist_is_not_found(void **state) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;
        size_t n;

        assert_ok(f, unit_state_get(f->manager, "no-such.service", &s, &f->error));
        assert_string_equal(s.load_state, "not-found");
        assert_ok(f, unit_processes(f->manager, "no-such.service", NULL, &n, &f->error));
        assert_int_equal(n, 0);
        assert_int_equal(job_find(f->manager, "no-such.service", &job, &f->error), 0);
        assert_ok(f, manager_reset_failed(f->manager, "no-such.service", &f->error));

        assert_int_equal(job_queue(f->manager, JOB_START, "no-such.service", NULL, &job, &f->error), -ENOENT);
        assert_string_equal(f->error.message,
                        "Failed to start no-such.service: Unit no-such.service not found. "
                        "(org.freedesktop.systemd1.NoSuchUnit)");
}

static void a_failed_start_is_told_with_its_result(void **state) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_(job_freep) Job *job = NULL;
        const char *result = NULL;
        Fixture *f = *state;

        write_service(f, "bus-test.service", "[Service]\nType=oneshot\nExecStart=sh -c 'exit 7'\n");

        assert_ok(f, job_queue(f->manager, JOB_START, "bus-test.service", NULL, &job, &f->error));
        assert_int_equal(job_wait(job, SOON, &result, &f->error), -ECANCELED);
        assert_string_equal(result, "failed");
        assert_ok(f, unit_state_get(f->manager, "bus-test.service", &s, &f->error));
        assert_string_equal(s.active_state, "failed");
        assert_string_equal(s.result, "exit-code");
        assert_int_equal(s.exec_main_code, CLD_EXITED);
        assert_int_equal(s.exec_main_status, 7);
        assert_int_equal(manager_reset_failed(f->manager, "bus-test.service", NULL), 0);
}

static void a_start_stopped_by_a_condition_is_done_but_not_active(void **state) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        Fixture *f = *state;

        write_service(f, "bus-test.service",
                        "[Unit]\nConditionPathExists=/nonexistent\n[Service]\nExecStart=sleep infinity\n");

        assert_ok(f, job_run(f->manager, JOB_START, "bus-test.service", NULL, SOON, &f->error));
        assert_ok(f, unit_state_get(f->manager, "bus-test.service", &s, &f->error));
        assert_string_equal(s.active_state, "inactive");
        assert_false(s.condition_result);
}

/* A oneshot whose start takes as long as the file exists. */
static void queue_slow(Fixture *f, Job **ret) {
        write_file("/run/bus-test-slow", "");
        write_service(f, "bus-test.service",
                        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                        "ExecStart=sh -c 'while [ -e /run/bus-test-slow ]; do sleep 0.05; done'\n");
        (void) job_run(f->manager, JOB_STOP, "bus-test.service", NULL, SOON, NULL);
        assert_ok(f, job_queue(f->manager, JOB_START, "bus-test.service", NULL, ret, &f->error));
}

static void a_wait_ends_at_its_deadline_and_the_job_goes_on(void **state) {
        _cleanup_(job_freep) Job *job = NULL, *found = NULL;
        const char *result = NULL;
        Fixture *f = *state;

        queue_slow(f, &job);
        assert_int_equal(job_wait(job, usec_from_now(200 * USEC_PER_MSEC), &result, NULL), -ETIMEDOUT);
        assert_null(result);
        assert_false(job_ended(job, &result));

        assert_int_equal(job_find(f->manager, "bus-test.service", &found, &f->error), 1);
        assert_false(job_is_stop(found));
        assert_ok(f, job_cancel(found, &f->error));
        assert_int_equal(job_wait(found, SOON, &result, NULL), -ECANCELED);
        assert_string_equal(result, "canceled");
        assert_true(job_ended(job, &result)); /* the same job */
        assert_ok(f, job_cancel(job, &f->error));
}

static bool interrupted(void *userdata) {
        return *(bool *) userdata;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) source;
        (void) usec;
        *(bool *) userdata = true;
        return 0;
}

static void a_wait_can_be_interrupted(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;
        bool flag = false;

        queue_slow(f, &job);
        manager_set_interrupt(f->manager, interrupted, &flag);
        assert_true(sd_event_add_time(f->event, NULL, CLOCK_MONOTONIC, usec_from_now(200 * USEC_PER_MSEC), 1, on_timer,
                                    &flag) >= 0);
        assert_int_equal(job_wait(job, SOON, NULL, NULL), -EINTR);

        manager_set_interrupt(f->manager, NULL, NULL);
        assert_int_equal(unlink("/run/bus-test-slow"), 0);
        assert_ok(f, job_wait(job, SOON, NULL, &f->error));
}

static void a_job_that_ended_before_the_wait_is_not_missed(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;
        bool active = false;

        queue_slow(f, &job);
        assert_int_equal(unlink("/run/bus-test-slow"), 0);
        while (!active) { /* calls alone: no signal is dispatched */
                _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;

                assert_ok(f, unit_state_get(f->manager, "bus-test.service", &s, &f->error));
                active = streq(s.active_state, "active");
        }
        assert_ok(f, job_wait(job, usec_from_now(USEC_PER_SEC), NULL, &f->error));
}

static void a_wait_survives_reload_and_reexec(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;

        queue_slow(f, &job);
        assert_int_equal(run("systemctl daemon-reload"), 0);
        assert_int_equal(run("systemctl daemon-reexec"), 0);
        assert_int_equal(job_wait(job, usec_from_now(500 * USEC_PER_MSEC), NULL, NULL), -ETIMEDOUT);
        assert_int_equal(unlink("/run/bus-test-slow"), 0);
        assert_ok(f, job_wait(job, SOON, NULL, &f->error));
}

static void a_lost_connection_is_told_and_can_be_made_again(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;
        size_t n;

        queue_slow(f, &job);
        assert_int_equal(run("systemctl restart dbus.service"), 0);
        assert_int_equal(job_wait(job, SOON, NULL, NULL), -ECONNRESET);
        assert_int_equal(unit_processes(f->manager, "bus-test.service", NULL, &n, NULL), -ECONNRESET);

        /* It ends while nobody listens. */
        assert_int_equal(unlink("/run/bus-test-slow"), 0);
        assert_int_equal(run("until systemctl -q is-active bus-test.service; do sleep 0.05; done"), 0);
        assert_ok(f, manager_reconnect(f->manager, SOON, &f->error));
        assert_ok(f, job_wait(job, SOON, NULL, &f->error));
}

static void enablement_is_read_and_put_back(void **state) {
        static const char *const words[] = { "disabled", "enabled", "masked", "enabled", "enabled-runtime", "disabled",
                "masked-runtime", "disabled" };
        _cleanup_free_ char *missing = NULL, *linked = NULL;
        Fixture *f = *state;

        assert_int_equal(mkdir_parents("/usr/local/lib/systemd/system", 0755), 0);
        write_file("/usr/local/lib/systemd/system/bus-test-enable.service",
                        "[Service]\nExecStart=true\n[Install]\nWantedBy=multi-user.target\n");
        assert_ok(f, manager_reload(f->manager, &f->error));

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                _cleanup_free_ char *got = NULL;

                assert_ok(f, manager_set_enablement(f->manager, "bus-test-enable.service", words[i], &f->error));
                assert_ok(f, manager_get_enablement(f->manager, "bus-test-enable.service", &got, &f->error));
                assert_string_equal(got, words[i]);
        }
        assert_int_equal(manager_set_enablement(f->manager, "bus-test-enable.service", "static", NULL), 0);
        assert_int_equal(manager_set_enablement(f->manager, "bus-test-enable.service", "bad", NULL), -EOPNOTSUPP);

        write_file("/srv/bus-test-linked.service", "[Service]\nExecStart=true\n");
        assert_int_equal(symlink("/srv/bus-test-linked.service", "/etc/systemd/system/bus-test-linked.service"), 0);
        assert_ok(f, manager_reload(f->manager, &f->error));
        assert_ok(f, manager_get_enablement(f->manager, "bus-test-linked.service", &linked, &f->error));
        assert_string_equal(linked, "linked");
        assert_ok(f, manager_set_enablement(f->manager, "bus-test-linked.service", "linked", &f->error));
        assert_int_equal(manager_get_enablement(f->manager, "no-such.service", &missing, NULL), -ENOENT);
}

static void the_environment_is_what_the_service_sees(void **state) {
        _cleanup_strv_ char **env = NULL, **seen = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size, n = 0;
        Fixture *f = *state;

        write_file("/run/bus-test.env",
                        "# comment\n; another\nexport NO=1\nA=  plain text  \nB=\"two\nlines\"\nC='a'\"b\"c\n"
                        "D=a\\\nb\nE=\"\\$x \\t\"\nF=x\\ty\nG=$A\nOVERRIDDEN=file\nH=\nGONE=1\n");
        write_service(f, "bus-test.service",
                        "[Service]\nType=oneshot\nExecStart=sh -c 'env -0 >/run/bus-test.seen'\n"
                        "Environment=PLAIN=1 \"QUOTED=a b\" OVERRIDDEN=unit\n"
                        "EnvironmentFile=/run/bus-test.env\nEnvironmentFile=-/run/nonexistent.env\n"
                        "UnsetEnvironment=GONE\n");
        assert_ok(f, job_run(f->manager, JOB_RESTART, "bus-test.service", NULL, SOON, &f->error));
        assert_int_equal(read_file_at(AT_FDCWD, "/run/bus-test.seen", 65536, &text, &size), 0);
        for (char *s = text; s < text + size; s += strlen(s) + 1)
                assert_int_equal(strv_extend(&seen, s), 0);

        assert_ok(f, unit_environment(f->manager, "bus-test.service", &env, &f->error));
        assert_string_equal(strv_env_get(env, "OVERRIDDEN"), "file");
        assert_string_equal(strv_env_get(env, "QUOTED"), "a b");
        assert_string_equal(strv_env_get(env, "B"), "two\nlines");
        STRV_FOREACH (s, env) {
                assert_true(strv_contains(seen, *s));
                n++;
        }
        assert_true(n >= 11);
        assert_null(strv_env_get(env, "GONE"));
        assert_null(strv_env_get(seen, "GONE"));
        assert_null(strv_env_get(seen, "NO"));
}

static void a_missing_environment_file_is_an_error(void **state) {
        _cleanup_strv_ char **env = NULL;
        Fixture *f = *state;

        write_service(f, "bus-test.service", "[Service]\nExecStart=true\nEnvironmentFile=/run/nonexistent.env\n");
        assert_int_equal(unit_environment(f->manager, "bus-test.service", &env, &f->error), -ENOENT);
        assert_non_null(strstr(f->error.message, "/run/nonexistent.env"));
}

#define STEP_UNIT(...)                                                                                                \
        ((TransientUnit){ .name = STEP,                                                                               \
                        .description = "A step",                                                                      \
                        .argv = STRV_MAKE(self, "step", __VA_ARGS__),                                                 \
                        .stdout_fd = -1,                                                                              \
                        .stderr_fd = -1 })
#define SHELL_UNIT(command)                                                                                           \
        ((TransientUnit){ .name = STEP,                                                                               \
                        .description = "A step",                                                                      \
                        .argv = STRV_MAKE("/bin/sh", "-c", command),                                                  \
                        .stdout_fd = -1,                                                                              \
                        .stderr_fd = -1 })

static void add_status(const char *status_text, void *userdata) {
        assert_int_equal(strv_extend(userdata, status_text), 0);
}

static void a_step_stays_until_it_is_cleared(void **state) {
        _cleanup_(job_freep) Job *job = NULL, *second = NULL;
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_strv_ char **said = NULL;
        TransientUnit unit = STEP_UNIT("0", "100", "one", "two");
        Fixture *f = *state;

        assert_int_equal(transient_find(f->manager, STEP, NULL, &f->error), TRANSIENT_ABSENT);
        assert_ok(f, transient_start(f->manager, &unit, &job, &f->error));
        assert_ok(f, transient_await(job, 5 * USEC_PER_SEC, add_status, &said, &f->error));
        assert_int_equal(strv_length(said), 2);
        assert_string_equal(said[0], "one");
        assert_string_equal(said[1], "two");

        assert_int_equal(transient_find(f->manager, STEP, &s, &f->error), TRANSIENT_DONE);
        assert_string_equal(s.sub_state, "exited");
        assert_string_equal(s.status_text, "two");
        assert_int_equal(transient_start(f->manager, &unit, &second, &f->error), -EEXIST);

        assert_ok(f, transient_clear(f->manager, STEP, SOON, NULL));
        assert_int_equal(transient_find(f->manager, STEP, NULL, NULL), TRANSIENT_ABSENT);
        assert_ok(f, transient_start(f->manager, &unit, &second, NULL));
        assert_ok(f, transient_await(second, 5 * USEC_PER_SEC, NULL, NULL, NULL));
}

static void a_running_step_is_found_by_another_process(void **state) {
        _cleanup_(job_freep) Job *found = NULL;
        _cleanup_strv_ char **said = NULL;
        Fixture *f = *state, *other;
        Job *job = NULL;
        void *p;

        /* The first conductor starts it and is gone. */
        set_up(&p);
        other = p;
        assert_ok(other,
                        transient_start(other->manager, &STEP_UNIT("0", "400", "one", "two", "three"), &job,
                                        &other->error));
        job_free(job);
        manager_free(other->manager);
        sd_event_unref(other->event);
        free(other);

        assert_int_equal(transient_find(f->manager, STEP, NULL, &f->error), TRANSIENT_RUNNING);
        assert_int_equal(job_find(f->manager, STEP, &found, &f->error), 1);
        assert_ok(f, transient_await(found, 5 * USEC_PER_SEC, add_status, &said, &f->error));
        assert_string_equal(said[strv_length(said) - 1], "three");
}

static void a_failed_step_is_explained_by_what_it_said_last(void **state) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;

        assert_ok(f,
                        transient_start(f->manager, &STEP_UNIT("3", "50", "Copied 1 %", "No space left"), &job,
                                        &f->error));
        assert_int_equal(transient_await(job, 5 * USEC_PER_SEC, NULL, NULL, &f->error), -ECANCELED);
        assert_string_equal(f->error.message, "No space left");
        assert_int_equal(transient_find(f->manager, STEP, &s, NULL), TRANSIENT_FAILED);
        assert_int_equal(s.exec_main_status, 3);
        assert_int_equal(transient_clear(f->manager, STEP, SOON, NULL), 0);
        assert_int_equal(transient_find(f->manager, STEP, NULL, NULL), TRANSIENT_ABSENT);
}

static void a_killed_step_has_failed(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;

        assert_ok(f, transient_start(f->manager, &SHELL_UNIT("kill -KILL $$"), &job, &f->error));
        assert_int_equal(transient_await(job, 5 * USEC_PER_SEC, NULL, NULL, &f->error), -ECANCELED);
        assert_string_equal(f->error.message, STEP ": ended by signal 9 (Killed) (result \"signal\")");
}

static void only_a_step_that_says_nothing_new_stalls(void **state) {
        _cleanup_(job_freep) Job *busy = NULL, *silent = NULL;
        Fixture *f = *state;

        assert_ok(f, transient_start(f->manager, &STEP_UNIT("0", "600", "1", "2", "3", "4"), &busy, &f->error));
        assert_ok(f, transient_await(busy, USEC_PER_SEC, NULL, NULL, &f->error));
        assert_ok(f, transient_clear(f->manager, STEP, SOON, &f->error));

        assert_ok(f, transient_start(f->manager, &STEP_UNIT("0", "60000", "same", "same"), &silent, &f->error));
        assert_int_equal(transient_await(silent, USEC_PER_SEC, NULL, NULL, &f->error), -ETIMEDOUT);
        assert_string_equal(f->error.message, STEP " has made no progress for 1.0 s, its last words: same");
        assert_int_equal(transient_clear(f->manager, STEP, SOON, NULL), 0);
        assert_int_equal(transient_find(f->manager, STEP, NULL, NULL), TRANSIENT_ABSENT);
}

static void a_step_that_somebody_stops_has_not_succeeded(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;

        assert_ok(f, transient_start(f->manager, &STEP_UNIT("0", "60000", "1", "2"), &job, &f->error));
        assert_int_equal(run("systemctl stop " STEP), 0);
        assert_int_equal(transient_await(job, 5 * USEC_PER_SEC, NULL, NULL, &f->error), -ECANCELED);
        assert_non_null(f->error.message);
}

static void a_sandboxed_step_writes_only_where_it_may(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;
        TransientUnit unit =
                        SHELL_UNIT("set -e; touch /var/lib/bus-test/x; cp -a /etc/passwd /var/lib/bus-test/p; "
                                   "! touch /etc/x; ! touch /usr/x; ! mknod /var/lib/bus-test/n c 1 3; "
                                   "chown nobody /var/lib/bus-test/x; [ $(ls /sys/class/net) = lo ]; "
                                   "[ $(ulimit -Sn) = 4096 ]; [ $(cat /proc/self/stat | cut -d\" \" -f19) = 19 ]");

        assert_int_equal(mkdir_parents("/var/lib/bus-test", 0700), 0);
        unit.sandboxed = unit.private_network = unit.idle = true;
        unit.read_write_paths = STRV_MAKE("/var/lib/bus-test", "-/var/lib/nonexistent");
        unit.capabilities = STRV_MAKE("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD");
        unit.slice = "bus-test.slice";
        unit.limit_nofile = 4096;
        unit.kill_mode = "mixed";
        unit.no_sigkill = true;
        unit.timeout_start_usec = unit.timeout_stop_usec = 20 * USEC_PER_SEC;

        assert_ok(f, transient_start(f->manager, &unit, &job, &f->error));
        assert_ok(f, transient_await(job, 20 * USEC_PER_SEC, NULL, NULL, &f->error));
}

static void a_step_has_the_mounts_that_it_requires(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        TransientUnit unit = SHELL_UNIT("findmnt /mnt && systemctl show -P After " STEP " | grep -qw mnt.mount");
        Fixture *f = *state;

        write_service(f, "mnt.mount", "[Mount]\nWhat=tmpfs\nWhere=/mnt\nType=tmpfs\n");
        unit.requires_mounts_for = STRV_MAKE("/mnt");
        assert_ok(f, transient_start(f->manager, &unit, &job, &f->error));
        assert_ok(f, transient_await(job, 5 * USEC_PER_SEC, NULL, NULL, &f->error));
        assert_ok(f, transient_clear(f->manager, STEP, SOON, NULL));
        assert_ok(f, job_run(f->manager, JOB_STOP, "mnt.mount", "replace", SOON, &f->error));
}

static void a_sandboxed_step_can_say_how_far_it_is(void **state) {
        _cleanup_strv_ char **said = NULL;
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;
        TransientUnit unit = STEP_UNIT("0", "50", "10 %", "20 %");

        unit.sandboxed = unit.private_network = true;
        unit.capabilities = STRV_MAKE(NULL);
        unit.environment = STRV_MAKE("ASAN_OPTIONS=detect_leaks=0"); /* needs ptrace(2), where it is built in */
        assert_ok(f, transient_start(f->manager, &unit, &job, &f->error));
        assert_ok(f, transient_await(job, 20 * USEC_PER_SEC, add_status, &said, &f->error));
        assert_string_equal(said[strv_length(said) - 1], "20 %");
}

static void an_unknown_capability_is_our_error(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        TransientUnit unit = SHELL_UNIT("true");
        Fixture *f = *state;

        unit.capabilities = STRV_MAKE("CAP_EVERYTHING");
        assert_int_equal(transient_start(f->manager, &unit, &job, &f->error), -EINVAL);
}

static void a_step_runs_with_its_user_environment_and_journal_fields(void **state) {
        _cleanup_free_ char *path = NULL;
        _cleanup_(job_freep) Job *job = NULL;
        Fixture *f = *state;
        TransientUnit unit = SHELL_UNIT("[ \"$(id -un):$(id -gn):$PWD:$WORD\" = 'nobody:daemon:/usr:a b' ] && "
                                        "echo bus-test-line");

        unit.user = "nobody";
        unit.group = "daemon";
        unit.working_directory = "/usr";
        unit.environment = STRV_MAKE("WORD=a b");
        unit.log_extra_fields = STRV_MAKE("EMQX_UPGRADE_STEP=bus-test", "EMQX_UPGRADE_ID=1234");
        assert_ok(f, transient_start(f->manager, &unit, &job, &f->error));
        assert_ok(f, transient_await(job, 5 * USEC_PER_SEC, NULL, NULL, &f->error));
        assert_int_equal(
                        run("journalctl --sync && journalctl -q -o cat EMQX_UPGRADE_STEP=bus-test EMQX_UPGRADE_ID=1234"
                            " | grep -qx bus-test-line"),
                        0);
}

static void the_environment_of_a_unit_is_passed_on_but_not_shown(void **state) {
        /* clang-format off */
        static const char *const seen[] = { "SECRET=hidden", "PLAIN=1", "QUOTED=50% of \"$x\"", "OVERRIDDEN=last file",
                "container=systemd-nspawn" };
        /* clang-format on */
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_free_ char *output = NULL;
        TransientUnit unit = SHELL_UNIT("echo; env; echo; systemctl show " STEP "; cat /run/systemd/transient/" STEP);
        Fixture *f = *state;
        char *shown;

        write_file("/run/bus-test.env", "SECRET=hidden\nOVERRIDDEN=file\nGONE=1\n");
        write_file("/run/bus-test-50%.env", "OVERRIDDEN=last file\n");
        assert_int_equal(chmod("/run/bus-test.env", 0600), 0);
        write_service(f, "bus-test.service",
                        "[Service]\nExecStart=true\nEnvironment=PLAIN=1 'QUOTED=50%% of \"$x\"' OVERRIDDEN=unit\n"
                        "EnvironmentFile=/run/bus-test.env\nEnvironmentFile=-/run/nonexistent.env\n"
                        "EnvironmentFile=/run/bus-test-50%%.env\nPassEnvironment=container\nUnsetEnvironment=GONE\n");
        assert_ok(f, unit_state_get(f->manager, "bus-test.service", &s, &f->error));
        unit.user = "nobody";
        unit.environment_of = &s;
        assert_ok(f, transient_capture(f->manager, &unit, 10 * USEC_PER_SEC, &output, NULL, &f->error));

        shown = strstr(output, "\n\n");
        assert_non_null(shown);
        *++shown = '\0'; /* output ends where what is shown begins */
        shown++;
        for (size_t i = 0; i < ELEMENTSOF(seen); i++) {
                _cleanup_free_ char *line = NULL;

                assert_true(asprintf(&line, "\n%s\n", seen[i]) > 0);
                if (!strstr(output, line))
                        fail_msg("%s is not in: %s", seen[i], output);
        }
        assert_null(strstr(output, "GONE"));
        assert_non_null(strstr(shown, "EnvironmentFiles=/run/bus-test.env"));
        assert_non_null(strstr(shown, "\nEnvironmentFile=/run/bus-test.env"));
        assert_null(strstr(shown, "hidden"));
}

static void output_and_exit_status_are_captured(void **state) {
        /* clang-format off */
        static const struct {
                const char *command, *output;
                int status;
        } cases[] = {
                { "echo out; echo err >&2",   "out\nerr\n", 0             },
                { "printf 'a\\0b'; exit 3",  "a?b",        3             },
                { "kill -TERM $$",            "",           128 + SIGTERM },
                { "kill -KILL $$",            "",           128 + SIGKILL },
                { "id -un",                   "nobody\n",   0             },
        };
        /* clang-format on */
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *output = NULL;
                TransientUnit unit = SHELL_UNIT(cases[i].command);
                int status = -1;

                unit.user = "nobody";
                assert_ok(f, transient_capture(f->manager, &unit, 5 * USEC_PER_SEC, &output, &status, &f->error));
                assert_string_equal(output, cases[i].output);
                assert_int_equal(status, cases[i].status);
        }
        assert_int_equal(transient_find(f->manager, STEP, NULL, NULL), TRANSIENT_ABSENT);
}

static void more_output_than_wanted_is_dropped_without_blocking(void **state) {
        _cleanup_free_ char *output = NULL;
        Fixture *f = *state;
        int status = -1;

        assert_ok(f,
                        transient_capture(f->manager, &SHELL_UNIT("head -c 3000000 /dev/zero | tr '\\0' x"),
                                        20 * USEC_PER_SEC, &output, &status, &f->error));
        assert_int_equal(strlen(output), TRANSIENT_OUTPUT_MAX);
        assert_int_equal(status, 0);
}

static void a_captured_command_that_hangs_is_killed(void **state) {
        _cleanup_free_ char *output = NULL;
        TransientUnit unit = SHELL_UNIT("trap '' TERM; sleep 60; sleep 60");
        usec_t begin = now_usec(CLOCK_MONOTONIC);
        Fixture *f = *state;

        unit.timeout_stop_usec = USEC_PER_SEC;
        assert_int_equal(transient_capture(f->manager, &unit, USEC_PER_SEC, &output, NULL, &f->error), -ETIMEDOUT);
        assert_null(output);
        assert_in_range(now_usec(CLOCK_MONOTONIC) - begin, USEC_PER_SEC, 15 * USEC_PER_SEC);
        assert_int_equal(transient_find(f->manager, STEP, NULL, NULL), TRANSIENT_ABSENT);
}

static void what_cannot_be_run_is_not_an_exit_status(void **state) {
        _cleanup_free_ char *output = NULL;
        TransientUnit unit = SHELL_UNIT("true");
        Fixture *f = *state;

        unit.argv = STRV_MAKE("/nonexistent");
        assert_int_equal(transient_capture(f->manager, &unit, USEC_PER_SEC, &output, NULL, &f->error), -ENOEXEC);
        unit.argv = STRV_MAKE("/bin/true");
        unit.user = "no-such-user";
        assert_int_equal(transient_capture(f->manager, &unit, USEC_PER_SEC, &output, NULL, &f->error), -ENOEXEC);
}

static void what_an_earlier_capture_left_is_cleared_first(void **state) {
        _cleanup_(job_freep) Job *job = NULL;
        _cleanup_free_ char *output = NULL;
        Fixture *f = *state;
        int status = -1;

        assert_ok(f, transient_start(f->manager, &SHELL_UNIT("exit 1"), &job, &f->error));
        assert_int_equal(job_wait(job, SOON, NULL, NULL), -ECANCELED);
        assert_ok(f, transient_capture(f->manager, &SHELL_UNIT("echo x"), USEC_PER_SEC, &output, &status, &f->error));
        assert_string_equal(output, "x\n");
        assert_int_equal(status, 0);
}

static void note_states(const UnitChange *change, void *userdata) {
        assert_string_equal(change->unit, "bus-test.service");
        if (change->active_state)
                assert_int_equal(strv_extend(userdata, change->active_state), 0);
}

static void a_watch_sees_states_change_until_freed(void **state) {
        _cleanup_strv_ char **states = NULL;
        UnitWatch *watch = NULL;
        Fixture *f = *state;
        size_t n;

        write_service(f, "bus-test.service", "[Service]\nExecStart=sleep infinity\n");
        assert_ok(f, unit_watch_new(f->manager, "bus-test.service", note_states, &states, &watch, &f->error));
        assert_ok(f, job_run(f->manager, JOB_START, "bus-test.service", NULL, SOON, &f->error));
        assert_ok(f, job_run(f->manager, JOB_STOP, "bus-test.service", NULL, SOON, &f->error));
        assert_ok(f, manager_wait(f->manager, NULL, NULL, usec_from_now(200 * USEC_PER_MSEC)));
        assert_true(strv_contains(states, "active"));
        assert_true(strv_contains(states, "inactive"));

        watch = unit_watch_free(watch);
        n = strv_length(states);
        assert_ok(f, job_run(f->manager, JOB_START, "bus-test.service", NULL, SOON, &f->error));
        assert_ok(f, job_run(f->manager, JOB_STOP, "bus-test.service", NULL, SOON, &f->error));
        assert_int_equal(strv_length(states), n);
}

static void a_machine_that_runs_is_not_going_down(void **state) {
        _cleanup_free_ char *word = NULL;
        Fixture *f = *state;

        assert_int_equal(manager_shutting_down(f->manager, &f->error), 0);
        assert_ok(f, manager_system_state(f->manager, &word, &f->error));
        assert_true(strv_contains(STRV_MAKE("starting", "running", "degraded"), word));
        assert_in_range(manager_version(f->manager), 239, 999);
}

/* A realtime clock that was set back a day since PID 1 has read unit files is, for their difference, a monotonic one that is a
 * day ahead of PID 1's: that one can be had for a process alone. */
static void a_clock_that_was_set_back_makes_no_file_older(void **state) {
        static const char offsets[] = "monotonic 86400 0";
        Fixture *f = *state;
        usec_t loaded_usec, by_the_other_usec = 0;
        int status, fds[2];
        pid_t pid;

        assert_ok(f, manager_units_loaded_usec(f->manager, &loaded_usec, &f->error));
        assert_int_equal(loaded_usec > 0, manager_version(f->manager) >= 250);
        if (loaded_usec == 0)
                return; /* before 250 systemd does not say */
        assert_int_equal(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
                int fd = unshare(CLONE_NEWTIME) < 0 ? -1 : open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
                sd_event *event;
                Manager *manager;

                if (fd < 0 || write(fd, offsets, strlen(offsets)) < 0)
                        _exit(1);
                pid = fork();
                if (pid > 0)
                        _exit(waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 2);
                if (sd_event_new(&event) < 0 || manager_new(event, &manager, NULL) < 0 ||
                                manager_units_loaded_usec(manager, &loaded_usec, NULL) < 0)
                        _exit(3);
                _exit(write(fds[1], &loaded_usec, sizeof(loaded_usec)) == sizeof(loaded_usec) ? 0 : 4);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(read(fds[0], &by_the_other_usec, sizeof(by_the_other_usec)), sizeof(by_the_other_usec));
        assert_in_range(loaded_usec - by_the_other_usec, 86399 * USEC_PER_SEC, 86401 * USEC_PER_SEC);
        (void) close(fds[0]);
        (void) close(fds[1]);
}

static void nothing_new_starts_once_the_machine_goes_down(void **state) {
        _cleanup_(job_freep) Job *poweroff = NULL, *job = NULL;
        Fixture *f = *state;

        /* Holds the shutdown up, and the bus, for as long as we look at it. */
        write_service(f, "bus-test.service",
                        "[Unit]\nAfter=dbus.service\n"
                        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=sleep 3\n");
        assert_ok(f, job_run(f->manager, JOB_START, "bus-test.service", NULL, SOON, &f->error));
        assert_int_equal(manager_shutting_down(f->manager, &f->error), 0);

        assert_ok(f,
                        job_queue(f->manager, JOB_START, "poweroff.target", "replace-irreversibly", &poweroff,
                                        &f->error));
        assert_int_equal(manager_shutting_down(f->manager, &f->error), 1);
        assert_int_equal(transient_start(f->manager, &SHELL_UNIT("true"), &job, &f->error), -EDEADLK);
        assert_non_null(strstr(f->error.message, "destructive"));
}

static int step(int argc, char **argv) {
        for (int i = 4; i < argc; i++) {
                if (i > 4)
                        usleep((useconds_t) atoi(argv[3]) * 1000);
                (void) sd_notifyf(0, "STATUS=%s", argv[i]);
        }
        return argc > 2 ? atoi(argv[2]) : 2;
}

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                test(a_service_is_started_and_stopped),
                test(a_unit_that_does_not_exist_is_not_found),
                test(a_failed_start_is_told_with_its_result),
                test(a_start_stopped_by_a_condition_is_done_but_not_active),
                test(a_wait_ends_at_its_deadline_and_the_job_goes_on),
                test(a_wait_can_be_interrupted),
                test(a_job_that_ended_before_the_wait_is_not_missed),
                test(a_wait_survives_reload_and_reexec),
                test(a_lost_connection_is_told_and_can_be_made_again),
                test(enablement_is_read_and_put_back),
                test(the_environment_is_what_the_service_sees),
                test(a_missing_environment_file_is_an_error),
                test(a_step_stays_until_it_is_cleared),
                test(a_running_step_is_found_by_another_process),
                test(a_failed_step_is_explained_by_what_it_said_last),
                test(a_killed_step_has_failed),
                test(only_a_step_that_says_nothing_new_stalls),
                test(a_step_that_somebody_stops_has_not_succeeded),
                test(a_sandboxed_step_writes_only_where_it_may),
                test(a_step_has_the_mounts_that_it_requires),
                test(a_sandboxed_step_can_say_how_far_it_is),
                test(an_unknown_capability_is_our_error),
                test(a_step_runs_with_its_user_environment_and_journal_fields),
                test(the_environment_of_a_unit_is_passed_on_but_not_shown),
                test(output_and_exit_status_are_captured),
                test(more_output_than_wanted_is_dropped_without_blocking),
                test(a_captured_command_that_hangs_is_killed),
                test(what_cannot_be_run_is_not_an_exit_status),
                test(what_an_earlier_capture_left_is_cleared_first),
                test(a_watch_sees_states_change_until_freed),
                test(a_machine_that_runs_is_not_going_down),
                test(a_clock_that_was_set_back_makes_no_file_older),
        };
        const struct CMUnitTest going_down[] = {
                test(nothing_new_starts_once_the_machine_goes_down),
        };

        if (argc > 1 && streq(argv[1], "step"))
                return step(argc, argv);

        if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
                return 1;
        if (argc > 1 && streq(argv[1], "going-down"))
                return cmocka_run_group_tests(going_down, NULL, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
