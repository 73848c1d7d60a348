/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/checks.h"

#include <fcntl.h>
#include <stdarg.h>

#include "base/strv.h"
#include "base/version.h"
#include "bus/unit.h"
#include "node/node.h"
#include "node/processes.h"
#include "node/status.h"
#include "package/store.h"
#include "steps/ask.h"
#include "steps/checking.h"
#include "steps/cluster.h"
#include "steps/control.h"
#include "steps/judge.h"
#include "steps/packages.h"
#include "steps/places.h"

/* Where packages have bin/emqx, and the link to it. */
static const char *const package_dirs[] = { "", "/usr", "/usr/lib/emqx", "/usr/local" };

static void checking_done(Checking *k) {
        k->target = package_free(k->target);
        k->old = package_free(k->old);
        k->setup = setup_free(k->setup);
        k->missing_plugins = strv_free(k->missing_plugins);
        k->running_name = mfree(k->running_name);
        survey_done(&k->survey);
        k->text = mfree(k->text);
}

static void set_text(Checking *k, const char *format, va_list ap) {
        free(k->text);
        k->text = format_text(format, ap);
}

void found(Checking *k, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        set_text(k, format, ap);
        va_end(ap);
}

int warned(Checking *k, const char *advice, const char *format, ...) {
        va_list ap;

        k->advice = advice;
        va_start(ap, format);
        set_text(k, format, ap);
        va_end(ap);
        return 0;
}

/* --- what is installed --- */

/* Where a program that no package manager knows is: as configured; else the unit tells, by the command that it starts;
 * else the usual place. NULL: the unit starts that of a package. Without symbolic links, as the kernel shows it. */
static int find_program_dir(Checking *k, char **ret, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_free_ char *dir = NULL;
        int r;

        r = unit_state_get(k->c->manager, k->c->plan->unit, &state, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH (word, state.exec_start) {
                size_t end = strlen(*word) - MIN(strlen(*word), strlen("/bin/emqx"));

                if (!dir && **word == '/' && streq(*word + end, "/bin/emqx") && !(dir = strndup(*word, end)))
                        return -ENOMEM;
        }
        if (*k->c->config->program_dir && free_and_strdup(&dir, k->c->config->program_dir) < 0)
                return -ENOMEM;
        if (!dir && !(dir = strdup(package_kind_zip.default_root_dir)))
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(package_dirs); i++)
                if (streq(dir, package_dirs[i]))
                        return 0;
        *ret = realpath(dir, NULL);
        if (!*ret && errno != ENOENT)
                return error_set(reterr, -errno, NULL, "The program's directory %s: %m", dir);
        return 0;
}

/* Whoever installs packages, such as the one whose script has started us, may not be done with EMQX's either. 1: there was
 * reason to wait, and what is installed may be another one now. */
static int await_package_manager(Checking *k, Error *reterr) {
        int r;

        if (!k->c->await_packages || k->kind->check_state(NULL) != -EUCLEAN)
                return 0;
        if (free_and_strdup(&k->c->plan->kind, k->kind->name) < 0)
                return -ENOMEM;
        r = k->c->await_packages(k->c, reterr);
        return r < 0 ? r : 1;
}

static int check_installation(Checking *k, Error *reterr) {
        static char *const editions[] = { (char *) "emqx", (char *) "emqx-ee", (char *) "emqx-edge", NULL };
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        _cleanup_free_ char *program_dir = NULL;
        Plan *p = k->c->plan;
        int r;

        if (free_and_strdup(&p->unit, k->c->config->unit) < 0)
                return -ENOMEM;
        r = find_program_dir(k, &program_dir, reterr);
        if (r >= 0)
                r = package_kind_detect(editions, program_dir, &k->kind, reterr);
        if (r >= 0)
                r = await_package_manager(k, reterr);
        if (r > 0)
                r = package_kind_detect(editions, program_dir, &k->kind, reterr);
        if (r >= 0)
                r = k->kind->query(editions, program_dir, &list, reterr);
        if (r < 0)
                return r;
        if (list.n > 1)
                return error_set(reterr, -ENOTUNIQ,
                                "Remove the one that is not in use (never purge it: they share their directories).",
                                "Two editions of EMQX are installed: %s %s and %s %s", list.items[0].name,
                                list.items[0].version, list.items[1].name, list.items[1].version);
        if (!list.items[0].complete)
                return error_set(reterr, -EUCLEAN,
                                "Bring the package manager's state in order first: dpkg --configure -a, or rpm -V and rpm -U --replacepkgs.",
                                "%s %s is not wholly installed: its state is '%s'", list.items[0].name,
                                list.items[0].version, list.items[0].state);

        if (free_and_strdup(&p->kind, k->kind->name) < 0 || free_and_strdup(&p->package, list.items[0].name) < 0 ||
                        free_and_strdup(&p->from, list.items[0].version) < 0 ||
                        free_and_strdup(&p->arch, list.items[0].arch) < 0 ||
                        free_and_strdup(&p->root_dir, program_dir ?: k->kind->default_root_dir) < 0)
                return -ENOMEM;
        if (k->kind->exchange && asprintf(&p->beside_dir, "%s.emqx-upgrade-%.8s", p->root_dir, p->id) < 0)
                return -ENOMEM;
        if (!list.items[0].held && k->c->step) /* not for `emqx-upgrade plan`, which changes nothing */
                package_hold_forget();
        p->held = list.items[0].held && !package_hold_is_ours();
        k->c->journal.from = p->from;
        found(k, "%s %s (%s, %s) in %s", p->package, p->from, p->kind, p->arch, p->root_dir);
        return 1;
}

/* Both lines got the same fixes in step: 4.4.0 and 4.4.1 are as 4.3.12, 4.4.2 as 4.3.13, and so on up to 4.3.22, the
 * last of its line. Returns the patch number of that 4.3. */
static unsigned fixes_of_4_4(const Version *v) {
        return v->patch < 2 ? 12 : v->patch + 11;
}

/* The rolling upgrade that EMQX supports. */
static bool is_rolling(const Version *from, const Version *to) {
        return from->major == 4 && from->minor == 3 && to->major == 4 && to->minor == 4;
}

static int check_version(Checking *k, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        const Plan *p = k->c->plan;
        Version from, to;
        int r;

        if (version_parse(p->to, &to) < 0)
                return error_set(reterr, -EINVAL, "Name a release, such as 4.4.0.", "'%s' is not a version", p->to);
        if (version_parse(p->from, &from) < 0)
                return error_set(reterr, -EINVAL, NULL,
                                "The installed package calls itself version '%s', which is no release", p->from);

        if (version_compare(&from, &to) == 0) {
                r = unit_state_get(k->c->manager, p->unit, &state, reterr);
                if (r < 0)
                        return r;
                return streq(state.active_state, "active")
                                ? -EALREADY
                                : error_set(reterr, -ECANCELED, "Look for the reason with: systemctl status emqx",
                                                  "EMQX %s is installed already, but %s is %s", p->to, p->unit,
                                                  state.active_state);
        }
        if (version_compare(&to, &from) < 0)
                return error_set(reterr, -EINVAL, "To take an upgrade back: emqx-upgrade rollback",
                                "%s is lower than %s, the installed version", p->to, p->from);
        if (!is_rolling(&from, &to))
                return error_set(reterr, -EINVAL,
                                "Go to the newest 4.3 first; for other releases see EMQX's own documentation.",
                                "%s to %s is no rolling upgrade: only 4.3 to 4.4 is", p->from, p->to);
        if (fixes_of_4_4(&to) < from.patch) {
                if (!k->c->config->allow_lost_fixes)
                        return error_set(reterr, -EINVAL, "AllowLostFixes=yes takes it all the same.",
                                        "%s lacks fixes that %s has, and settings that it knows: it is as 4.3.%u. Take 4.4.%u or later",
                                        p->to, p->from, fixes_of_4_4(&to), from.patch - 11);
                found(k, "%s lacks fixes that %s has, which AllowLostFixes=yes allows", p->to, p->from);
                return 0;
        }
        found(k, "%s to %s is a rolling upgrade", p->from, p->to);
        return 1;
}

static int check_package_manager(Checking *k, Error *reterr) {
        int r = k->kind->check_state(reterr);

        found(k, "no package is half installed");
        return r < 0 ? r : 1;
}

/* --- the node --- */

/* bin/emqx of a package insists on its user; that of a zip runs as whoever starts it. */
static int find_user(Checking *k, const Node *n, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        Plan *p = k->c->plan;
        int r;

        if (*n->user)
                return free_and_strdup(&p->user, n->user);
        r = unit_state_get(k->c->manager, p->unit, &state, reterr);
        return r < 0 ? r : free_and_strdup(&p->user, *state.user ? state.user : "root");
}

static int check_node(Checking *k, Error *reterr) {
        _cleanup_strv_ char **environment = NULL;
        _cleanup_(node_freep) Node *n = NULL;
        Plan *p = k->c->plan;
        int r;

        r = unit_environment(k->c->manager, p->unit, &environment, reterr);
        if (r >= 0)
                r = node_read(p->root_dir, environment, &n, reterr);
        if (r >= 0)
                r = places_find(p, n, reterr);
        if (r >= 0)
                r = find_user(k, n, reterr);
        if (r < 0)
                return r;

        if (!streq_ptr(n->rel_version, p->from))
                return error_set(reterr, -EINVAL,
                                "It was upgraded hot, or another way around the package manager: install the package of that version first.",
                                "The program on disk is %s, but the package is %s", n->rel_version ?: "unknown",
                                p->from);

        if (free_and_strdup(&p->etc_dir, n->etc_dir) < 0 || free_and_strdup(&p->data_dir, n->data_dir) < 0 ||
                        free_and_strdup(&p->log_dir, n->log_dir) < 0 ||
                        free_and_strdup(&p->node_name, n->node_name) < 0 ||
                        free_and_strdup(&p->mqtt_host, n->mqtt_host) < 0 ||
                        free_and_strdup(&p->management_host, n->management_host) < 0)
                return -ENOMEM;
        p->mqtt_port = k->c->config->mqtt_port ?: n->mqtt_port;
        if (p->mqtt_port > 0 && !p->mqtt_host && free_and_strdup(&p->mqtt_host, "127.0.0.1") < 0)
                return -ENOMEM;
        p->management_port = n->management_port;
        k->has_cookie = n->has_cookie;
        found(k,
                        "%s, %s cookie, runs as %s; configuration in %s, data in %s%s%s, logs in %s; MQTT on %s:%" PRIu64
                        ", management on %s:%" PRIu64,
                        p->node_name, n->has_cookie ? "with a" : "without a", p->user, p->etc_dir, p->data_dir,
                        n->extra_data_dir ? " and " : "", n->extra_data_dir ?: "", p->log_dir, p->mqtt_host ?: "none",
                        p->mqtt_port, p->management_host ?: "none", p->management_port);
        return 1;
}

static int check_unit(Checking *k, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_free_ NodeProcess *processes = NULL;
        _cleanup_free_ pid_t *in_unit = NULL;
        size_t n = 0, n_in_unit = 0;
        Plan *p = k->c->plan;
        bool guarded = false;
        pid_t command = 0;
        char name[32];
        int r;

        r = unit_state_get(k->c->manager, p->unit, &state, reterr);
        if (r >= 0)
                r = node_processes(p->root_dir, &processes, &n);
        if (r >= 0)
                r = unit_processes(k->c->manager, p->unit, &in_unit, &n_in_unit, reterr);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot look for processes of the node: %m");

        if (streq(state.load_state, "masked"))
                return error_set(reterr, -ERFKILL,
                                "Its package cannot be installed then. Allow it first: systemctl unmask emqx",
                                "%s is masked", p->unit);
        if (!unit_state_loaded(&state))
                return error_set(reterr, -ENOENT, NULL, "systemd has no unit %s (%s)", p->unit, state.load_state);
        if (!streq(state.active_state, "active"))
                return n > 0 ? error_set(reterr, -ENOENT,
                                               "Stop it (emqx stop) and start it through systemd (systemctl start emqx), then try again.",
                                               "The node runs outside of its unit: process %i, while %s is %s",
                                               processes[0].pid, p->unit, state.active_state)
                             : error_set(reterr, -ENOENT,
                                               "Only a node that runs can be compared with what it is afterwards: systemctl start emqx",
                                               "The node is not running: %s is %s", p->unit, state.active_state);

        for (size_t i = 0; i < n; i++)
                if (processes[i].vm && !pids_contain(in_unit, n_in_unit, processes[i].pid))
                        return error_set(reterr, -ENOENT, "Stop it with `emqx stop`, then try again.",
                                        "The node, or another one, runs outside of its unit: process %i",
                                        processes[i].pid);
        r = node_await_commands(k->c, &command, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(reterr, -EBUSY, "Leave the console, or end the command, then try again.",
                                "Process %i (%s) runs from the node's files and does not end, such as `emqx remote_console`: the node could not be taken apart",
                                command, process_name(name, command));
        STRV_FOREACH (path, state.drop_in_paths)
                guarded = guarded || endswith(*path, "/50-emqx-upgrade-hold.conf");
        if (!guarded)
                return error_set(reterr, -ENOENT,
                                "systemctl daemon-reload; if that does not help, install emqx-upgrade again.",
                                "%s does not know our drop-in 50-emqx-upgrade-hold.conf, which keeps it down during the upgrade",
                                p->unit);

        r = manager_get_enablement(k->c->manager, p->unit, &p->enablement, reterr);
        if (r < 0)
                return r;
        found(k, "%s is active and %s", p->unit, p->enablement);
        return 1;
}

/* Also which answers can be expected of it afterwards. */
static int check_running_version(Checking *k, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        _cleanup_free_ char *version = NULL;
        Plan *p = k->c->plan;
        const char *said;
        bool started;
        int r;

        r = node_survey(k->c, &k->survey, &why);
        if (r < 0 && r != -EAGAIN && r != -ETIMEDOUT)
                return error_set(reterr, r, why.advice, "%s", error_text(&why, r));
        said = survey_text(&k->survey, SURVEY_STATUS);
        if (!said || status_parse(said, &k->running_name, &version, &started) < 0) {
                p->management_port = 0;
                found(k,
                                "`emqx_ctl status` does not answer%s%s: is the management plugin loaded? Readiness will be judged "
                                "without it",
                                why.message ? ", since " : "", why.message ?: "");
                return 0;
        }
        if (!started)
                return error_set(reterr, -EAGAIN, "Wait until it is, then try again.", "The node is not started yet");
        if (!streq(version, p->from))
                return error_set(reterr, -EINVAL, "Restart it first, so that what runs is what is installed.",
                                "The node runs %s, but the package is %s", version, p->from);
        p->ctl_works = 1;
        found(k, "the node says that it runs %s", version);
        return 1;
}

static int check_cluster(Checking *k, Error *reterr) {
        return cluster_check(k->c, &k->text, reterr);
}

/* --- packages --- */

static int find_package(Checking *k, const char *version, Package **ret, char **path, char **sha256, Error *reterr) {
        const Plan *p = k->c->plan;
        char hex[SHA256_HEX_SIZE];
        int r;

        r = store_find(k->c->config->packages_dir, k->kind, p->package, version, p->arch, ret, reterr);
        if (r >= 0)
                r = store_verify(k->kind, *ret, hex, reterr);
        if (r < 0)
                return r;
        if (free_and_strdup(path, (*ret)->path) < 0 || free_and_strdup(sha256, hex) < 0)
                return -ENOMEM;
        found(k, "%s, its checksum holds", (*ret)->path);
        return 1;
}

static int check_target_package(Checking *k, Error *reterr) {
        Plan *p = k->c->plan;

        return find_package(k, p->to, &k->target, &p->target_path, &p->target_sha256, reterr);
}

/* The package manager may still have what it once downloaded. -ENOENT: it has not; why is left as it is. */
static int find_cached_package(Checking *k, Error *why) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        Plan *p = k->c->plan;
        char hex[SHA256_HEX_SIZE];
        int r;

        r = store_find_cached(k->kind, p->package, p->from, p->arch, &k->old, &error);
        if (r > 0)
                r = store_digest(k->kind, k->old, hex, &error);
        else if (r == 0)
                return -ENOENT;
        if (r < 0) {
                error_done(why);
                return error_set(why, r, error.advice, "%s", error_text(&error, r));
        }
        if (free_and_strdup(&p->old_path, k->old->path) < 0 || free_and_strdup(&p->old_sha256, hex) < 0)
                return -ENOMEM;
        found(k, "%s, from the package manager's cache", k->old->path);
        return 1;
}

static int check_old_package(Checking *k, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        Plan *p = k->c->plan;
        int r;

        if (k->kind->exchange) {
                found(k, "the directory of %s itself: it stays beside that of %s", p->from, p->to);
                return 1;
        }
        r = find_package(k, p->from, &k->old, &p->old_path, &p->old_sha256, &why);
        if (r == -ENOENT)
                r = find_cached_package(k, &why);
        if (r >= 0 || r == -ENOMEM)
                return r;
        if (k->c->config->require_old_package)
                return error_set(reterr, r, why.advice, "There is no way back: %s", error_text(&why, r));
        found(k, "there is no way back, which RequireOldPackage=no allows: %s", error_text(&why, r));
        return 0;
}

static int check_dependencies(Checking *k, Error *reterr) {
        int r = k->kind->check_install(k->target, reterr);

        found(k, "the package manager would install it");
        return r < 0 ? r : 1;
}

/* Which files that is; looked at again before the stop, since what was asked about then is what counts. */
static int check_configuration_files(Checking *k, Error *reterr) {
        _cleanup_strv_ char **environment = NULL;
        Plan *p = k->c->plan;
        char hex[SHA256_HEX_SIZE];
        int r;

        r = unit_environment(k->c->manager, p->unit, &environment, reterr);
        if (r >= 0)
                r = setup_read(p->root_dir, p->etc_dir, p->data_dir, environment, &k->setup, reterr);
        if (r >= 0)
                r = setup_sha256(k->setup, hex, reterr);
        if (r >= 0)
                r = free_and_strdup(&p->configuration_sha256, hex);
        if (r < 0)
                return r;
        found(k, "%s, and the files of %zu active plugins", k->setup->files[0].path, k->setup->n_files - 1);
        return 1;
}

/* Whether 4.4 takes a configuration is for 4.4 to say. */
static int check_configuration(Checking *k, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r;

        r = judge_configuration(k->c, k->target, &k->text, &k->missing_plugins, &why);
        if (r >= 0)
                return r;
        if ((r != -ECANCELED && r != -ENOEXEC) || k->c->config->require_accepted_configuration)
                return error_set(reterr, r, why.advice, "%s", error_text(&why, r));
        found(k, "%s; RequireAcceptedConfiguration=no allows that", error_text(&why, r));
        return 0;
}

/* --- the table --- */

/* make returns 1: passed, 0: passed with a warning, negative errno: refused, with the reason in reterr. */
static const struct {
        const char *name; /* EMQX_UPGRADE_CHECK= */
        const char *needs[2];
        int (*make)(Checking *k, Error *reterr);
        bool again; /* once more before the node is stopped */
} checks[] = {
        { "installation", { NULL }, check_installation, true },
        { "version", { "installation" }, check_version, false },
        { "package-manager", { "installation" }, check_package_manager, true },
        { "unit", { "installation" }, check_unit, true },
        { "unit-file", { "unit" }, check_unit_file, false },
        { "default-file", { "unit" }, check_default_file, false },
        { "needrestart", { NULL }, check_needrestart, false },
        { "node", { "installation", "unit" }, check_node, true },
        { "running-version", { "node", "unit" }, check_running_version, true },
        { "baseline", { "running-version" }, check_baseline, true },
        { "cluster", { "running-version" }, check_cluster, false },
        { "node-name", { "node", "version" }, check_node_name, false },
        { "conf-files", { "node" }, check_configuration_files, true },
        { "cookie", { "conf-files" }, check_cookie, false },
        { "referenced-files", { "conf-files" }, check_referenced_files, false },
        { "erlang-terms", { "conf-files" }, check_erlang_terms, false },
        { "patches", { "node" }, check_patches, false },
        { "external-plugins", { "conf-files" }, check_external_plugins, false },
        { "target-package", { "installation", "version" }, check_target_package, false },
        { "platform", { "target-package" }, check_platform, false },
        { "old-package", { "installation", "version" }, check_old_package, false },
        { "emqx-vars", { "node", "old-package" }, check_emqx_vars, false },
        { "dependencies", { "target-package" }, check_dependencies, false },
        { "space", { "target-package", "node" }, check_space, false },
        { "configuration", { "dependencies", "conf-files" }, check_configuration, false },
        { "plugins", { "configuration" }, check_plugins, false },
};

static size_t check_index(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(checks); i++)
                if (streq(checks[i].name, name))
                        return i;
        assert(false);
        return 0;
}

static int run_checks(Context *c, bool again, CheckReport report, void *userdata, Error *reterr) {
        _cleanup_(checking_done) Checking k = { .c = c };
        bool passed[ELEMENTSOF(checks)] = { false };
        int result = 0;

        for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
                _cleanup_(error_done) Error error = ERROR_NULL;
                const char *missing = NULL;
                int r;

                if (again && !checks[i].again)
                        continue;
                for (size_t j = 0; j < ELEMENTSOF(checks[i].needs); j++)
                        if (!missing && checks[i].needs[j] && !passed[check_index(checks[i].needs[j])])
                                missing = checks[i].needs[j];
                if (missing) {
                        report(checks[i].name, CHECK_NOT_MADE, missing, NULL, userdata);
                        continue;
                }

                k.text = mfree(k.text);
                k.advice = NULL;
                step_report(c, "checking %s", checks[i].name);
                r = checks[i].make(&k, &error);
                if (r == -EALREADY || r == -EINTR || r == -ECONNRESET || r == -ENOMEM)
                        return r;
                passed[i] = r >= 0;
                if (r >= 0) {
                        report(checks[i].name, r > 0 ? CHECK_PASSED : CHECK_WARNED, k.text ?: "", k.advice, userdata);
                        continue;
                }
                report(checks[i].name, CHECK_REFUSED, error_text(&error, r), error.advice, userdata);
                result = error_set(reterr, -ECANCELED, error.advice, "%s", error_text(&error, r));
        }
        return result;
}

int checks_newest_target(Context *c, char **ret, Error *reterr) {
        _cleanup_(checking_done) Checking k = { .c = c };
        _cleanup_strv_ char **versions = NULL;
        const char *newest = NULL;
        Version from, best = { 0 };
        int r;

        r = check_installation(&k, reterr);
        if (r >= 0)
                r = store_versions(
                                c->config->packages_dir, k.kind, c->plan->package, c->plan->arch, &versions, reterr);
        if (r < 0 || version_parse(c->plan->from, &from) < 0)
                return r < 0 ? r : 0;
        STRV_FOREACH (text, versions) {
                Version v;

                if (version_parse(*text, &v) < 0 || !is_rolling(&from, &v) ||
                                (fixes_of_4_4(&v) < from.patch && !c->config->allow_lost_fixes) ||
                                (newest && version_compare(&v, &best) <= 0))
                        continue;
                newest = *text;
                best = v;
        }
        if (!newest)
                return 0;
        *ret = strdup(newest);
        return *ret ? 1 : -ENOMEM;
}

int checks_run(Context *c, CheckReport report, void *userdata, Error *reterr) {
        return run_checks(c, false, report, userdata, reterr);
}

int checks_run_again(Context *c, CheckReport report, void *userdata, Error *reterr) {
        return run_checks(c, true, report, userdata, reterr);
}
