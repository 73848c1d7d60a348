/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/unit.h"

#include <signal.h>

#include "bus/call.h"
#include "bus/environment.h"

static int read_string(sd_bus_message *reply, void *ret) {
        const char *s;
        int r;

        r = sd_bus_message_read(reply, "s", &s);
        return r < 0 ? r : free_and_strdup(ret, s);
}

static int read_strv(sd_bus_message *reply, void *ret) {
        _cleanup_strv_ char **l = NULL;
        int r;

        r = sd_bus_message_read_strv(reply, &l);
        if (r < 0)
                return r;
        strv_free(*(char ***) ret);
        *(char ***) ret = TAKE_PTR(l);
        return 0;
}

static int read_bool(sd_bus_message *reply, void *ret) {
        int r, b;

        r = sd_bus_message_read(reply, "b", &b);
        if (r < 0)
                return r;
        *(bool *) ret = b;
        return 0;
}

static int read_32(sd_bus_message *reply, void *ret) {
        char type;
        int r;

        r = sd_bus_message_peek_type(reply, &type, NULL);
        return r < 0 ? r : sd_bus_message_read_basic(reply, type, ret);
}

static int read_64(sd_bus_message *reply, void *ret) {
        return sd_bus_message_read_basic(reply, 't', ret);
}

static int read_id(sd_bus_message *reply, void *ret) {
        const void *p;
        size_t size;
        int r;

        r = sd_bus_message_read_array(reply, 'y', &p, &size);
        if (r < 0)
                return r;
        if (size == sizeof(sd_id128_t)) /* empty before the first start */
                memcpy(ret, p, size);
        return 0;
}

static int read_job(sd_bus_message *reply, void *ret) {
        UnitState *s = ret;
        const char *path;
        int r;

        r = sd_bus_message_read(reply, "(uo)", &s->job_id, &path);
        return r < 0 ? r : free_and_strdup(&s->job_path, path);
}

static int read_first_command(sd_bus_message *reply, void *ret) {
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(sasbttttuii)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(reply, 'r', "sasbttttuii")) > 0) {
                r = sd_bus_message_skip(reply, "s");
                if (r >= 0)
                        r = *(char ***) ret ? sd_bus_message_skip(reply, "as") : read_strv(reply, ret);
                if (r >= 0)
                        r = sd_bus_message_skip(reply, "bttttuii");
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

static int read_environment_files(sd_bus_message *reply, void *ret) {
        UnitState *s = ret;
        const char *path;
        int r, optional;

        r = sd_bus_message_enter_container(reply, 'a', "(sb)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(reply, "(sb)", &path, &optional)) > 0) {
                UnitEnvironmentFile *files;

                files = reallocarray(s->environment_files, s->n_environment_files + 1, sizeof(UnitEnvironmentFile));
                if (!files)
                        return -ENOMEM;
                s->environment_files = files;
                files[s->n_environment_files] = (UnitEnvironmentFile){ strdup(path), optional };
                if (!files[s->n_environment_files++].path)
                        return -ENOMEM;
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

/* org.freedesktop.systemd1(5): Unit and Service properties. */
/* clang-format off */
static const struct {
        const char *name, *signature;
        int (*read)(sd_bus_message *reply, void *ret);
        size_t offset;
} properties[] = {
        { "LoadState",            "s",      read_string,            offsetof(UnitState, load_state) },
        { "ActiveState",          "s",      read_string,            offsetof(UnitState, active_state) },
        { "SubState",             "s",      read_string,            offsetof(UnitState, sub_state) },
        { "Result",               "s",      read_string,            offsetof(UnitState, result) },
        { "StatusText",           "s",      read_string,            offsetof(UnitState, status_text) },
        { "ControlGroup",         "s",      read_string,            offsetof(UnitState, control_group) },
        { "FragmentPath",         "s",      read_string,            offsetof(UnitState, fragment_path) },
        { "User",                 "s",      read_string,            offsetof(UnitState, user) },
        { "ExecStart",            "a(sasbttttuii)", read_first_command, offsetof(UnitState, exec_start) },
        { "DropInPaths",          "as",     read_strv,              offsetof(UnitState, drop_in_paths) },
        { "Environment",          "as",     read_strv,              offsetof(UnitState, environment) },
        { "PassEnvironment",      "as",     read_strv,              offsetof(UnitState, pass_environment) },
        { "UnsetEnvironment",     "as",     read_strv,              offsetof(UnitState, unset_environment) },
        { "EnvironmentFiles",     "a(sb)",  read_environment_files, 0 },
        { "Job",                  "(uo)",   read_job,               0 },
        { "InvocationID",         "ay",     read_id,                offsetof(UnitState, invocation_id) },
        { "ActiveEnterTimestamp", "t",      read_64,                offsetof(UnitState, active_enter_realtime_usec) },
        { "InactiveExitTimestampMonotonic",  "t", read_64,         offsetof(UnitState, inactive_exit_usec) },
        { "ActiveEnterTimestampMonotonic",   "t", read_64,         offsetof(UnitState, active_enter_usec) },
        { "ActiveExitTimestampMonotonic",    "t", read_64,         offsetof(UnitState, active_exit_usec) },
        { "InactiveEnterTimestampMonotonic", "t", read_64,         offsetof(UnitState, inactive_enter_usec) },
        { "NRestarts",            "u",      read_32,                offsetof(UnitState, n_restarts) },
        { "MainPID",              "u",      read_32,                offsetof(UnitState, main_pid) },
        { "StatusErrno",          "i",      read_32,                offsetof(UnitState, status_errno) },
        { "ExecMainCode",         "i",      read_32,                offsetof(UnitState, exec_main_code) },
        { "ExecMainStatus",       "i",      read_32,                offsetof(UnitState, exec_main_status) },
        { "ConditionResult",      "b",      read_bool,              offsetof(UnitState, condition_result) },
        { "NeedDaemonReload",     "b",      read_bool,              offsetof(UnitState, need_daemon_reload) },
};
/* clang-format on */

void unit_state_done(UnitState *s) {
        free(s->load_state);
        free(s->active_state);
        free(s->sub_state);
        free(s->result);
        free(s->status_text);
        free(s->control_group);
        free(s->fragment_path);
        free(s->user);
        free(s->job_path);
        strv_free(s->exec_start);
        strv_free(s->drop_in_paths);
        strv_free(s->environment);
        strv_free(s->pass_environment);
        strv_free(s->unset_environment);
        for (size_t i = 0; i < s->n_environment_files; i++)
                free(s->environment_files[i].path);
        free(s->environment_files);
        *s = UNIT_STATE_NULL;
}

/* Types other than a service lack some properties. */
static int fill_in(UnitState *s) {
        char **strings[] = { &s->load_state, &s->active_state, &s->sub_state, &s->result, &s->status_text,
                &s->control_group, &s->fragment_path, &s->user, &s->job_path };

        for (size_t i = 0; i < ELEMENTSOF(strings); i++)
                if (!*strings[i] && free_and_strdup(strings[i], "") < 0)
                        return -ENOMEM;
        return 0;
}

static int read_property(sd_bus_message *reply, UnitState *s) {
        const char *name, *signature;
        int r;

        r = sd_bus_message_read(reply, "s", &name);
        if (r < 0)
                return r;
        r = sd_bus_message_peek_type(reply, NULL, &signature);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ELEMENTSOF(properties); i++) {
                if (!streq(properties[i].name, name) || !streq(properties[i].signature, signature))
                        continue;
                r = sd_bus_message_enter_container(reply, 'v', signature);
                if (r < 0)
                        return r;
                r = properties[i].read(reply, (char *) s + properties[i].offset);
                if (r < 0)
                        return r;
                return sd_bus_message_exit_container(reply);
        }
        return sd_bus_message_skip(reply, "v");
}

static int read_state(sd_bus_message *reply, UnitState *s) {
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
                r = read_property(reply, s);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : fill_in(s);
}

int unit_state_get(Manager *m, const char *unit, UnitState *ret, Error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL, *reply = NULL;
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_free_ char *path = NULL, *what = NULL;
        int r;

        assert(ret);

        r = manager_check(m, reterr);
        if (r < 0)
                return r;
        if (asprintf(&what, "read the state of %s", unit) < 0)
                return error_set(reterr, -ENOMEM, NULL, "Out of memory");

        r = unit_object_path(unit, &path);
        if (r >= 0)
                r = sd_bus_message_new_method_call(manager_bus(m), &message, SYSTEMD_NAME, path,
                                "org.freedesktop.DBus.Properties", "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(message, "s", ""); /* of all its interfaces at once */
        if (r < 0)
                return bus_fail(m, reterr, what, NULL, r);

        r = bus_send(m, what, message, &reply, reterr);
        if (r < 0)
                return r;
        r = read_state(reply, &s);
        if (r < 0)
                return bus_fail(m, reterr, what, NULL, r);

        *ret = s;
        s = UNIT_STATE_NULL;
        return 0;
}

bool unit_state_busy(const UnitState *s) {
        return !streq(s->active_state, "inactive") && !streq(s->active_state, "failed");
}

const char *unit_exit_text(char buf[static UNIT_EXIT_TEXT_MAX], const UnitState *s) {
        int status = s->exec_main_status;

        switch (s->exec_main_code) {
        case CLD_EXITED: snprintf(buf, UNIT_EXIT_TEXT_MAX, "exited with status %i", status); break;
        case CLD_KILLED:
                snprintf(buf, UNIT_EXIT_TEXT_MAX, "ended by signal %i (%s)", status, strsignal(status));
                break;
        case CLD_DUMPED:
                snprintf(buf, UNIT_EXIT_TEXT_MAX, "dumped core on signal %i (%s)", status, strsignal(status));
                break;
        default: snprintf(buf, UNIT_EXIT_TEXT_MAX, "no process ended");
        }
        return buf;
}

static int read_processes(sd_bus_message *reply, pid_t **ret, size_t *ret_n) {
        _cleanup_free_ pid_t *pids = NULL;
        size_t n = 0;
        uint32_t pid;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(sus)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(reply, "(sus)", NULL, &pid, NULL)) > 0) {
                pid_t *p = reallocarray(pids, n + 1, sizeof(pid_t));

                if (!p)
                        return -ENOMEM;
                pids = p;
                pids[n++] = (pid_t) pid;
        }
        if (r < 0)
                return r;

        if (ret)
                *ret = TAKE_PTR(pids);
        *ret_n = n;
        return 0;
}

int unit_processes(Manager *m, const char *unit, pid_t **ret, size_t *ret_n, Error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        int r;

        r = bus_call(m, "list the processes of a unit", "GetUnitProcesses", &reply, &error, "s", unit);
        if (r == -ENOENT) {
                if (ret)
                        *ret = NULL;
                *ret_n = 0;
                return 0;
        }
        if (r < 0)
                return error_set(reterr, r, error.advice, "%s: %s", unit, error_text(&error, r));

        r = read_processes(reply, ret, ret_n);
        return r < 0 ? bus_fail(m, reterr, "list the processes of a unit", NULL, r) : 0;
}

bool pids_contain(const pid_t *pids, size_t n, pid_t pid) {
        for (size_t i = 0; i < n; i++)
                if (pids[i] == pid)
                        return true;
        return false;
}

static int merge(char ***env, char *const *assignments) {
        int r;

        STRV_FOREACH (s, (char **) assignments) {
                _cleanup_free_ char *name = strdup(*s);
                char *value;

                if (!name)
                        return -ENOMEM;
                value = strchr(name, '=');
                if (!value)
                        continue;
                *value++ = '\0';
                r = environment_set(env, name, value);
                if (r < 0)
                        return r;
        }
        return 0;
}

int unit_environment(Manager *m, const char *unit, char ***ret, Error *reterr) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;
        _cleanup_strv_ char **env = NULL, **global = NULL;
        int r;

        r = unit_state_get(m, unit, &s, reterr);
        if (r < 0)
                return r;

        r = sd_bus_get_property_strv(
                        manager_bus(m), SYSTEMD_NAME, SYSTEMD_PATH, MANAGER_INTERFACE, "Environment", &error, &global);
        if (r < 0)
                return bus_fail(m, reterr, "read the environment of systemd", &error, r);

        r = merge(&env, global);
        if (r >= 0)
                r = merge(&env, s.environment);
        if (r < 0)
                return error_set(reterr, r, NULL, "Out of memory");

        for (size_t i = 0; i < s.n_environment_files; i++) {
                r = environment_read(s.environment_files[i].path, s.environment_files[i].optional, &env, reterr);
                if (r < 0)
                        return r;
        }
        STRV_FOREACH (what, s.unset_environment)
                environment_unset(env, *what);

        *ret = TAKE_PTR(env);
        return 0;
}
