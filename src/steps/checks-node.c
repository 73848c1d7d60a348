/* SPDX-License-Identifier: Apache-2.0 */

/* Checks of what EMQX makes of its files: names, cookies, variables, plugins, paths. "Facts N.N" are those of EMQX. */

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "base/strv.h"
#include "base/version.h"
#include "bus/environment.h"
#include "bus/unit.h"
#include "steps/aside.h"
#include "steps/checking.h"

#define TEXT_BYTES_MAX (1024 * 1024)

/* Names in dir that fit, sorted, "" where there are none; NULL: out of memory. what: "*.beam" by its end, or directories. */
static int list_names(const char *dir, const char *ending, bool directories, char ***ret, Error *reterr) {
        _cleanup_strv_ char **names = NULL;
        struct dirent **entries = NULL;
        int n, r = 0;

        n = scandir(dir, &entries, NULL, alphasort);
        if (n < 0 && errno != ENOENT && errno != ENOTDIR)
                return error_set(reterr, -errno, NULL, "Cannot look into %s: %m", dir);
        for (int i = 0; i < n; i++) {
                const char *name = entries[i]->d_name;
                _cleanup_free_ char *path = NULL;
                struct stat st;

                if (r >= 0 && asprintf(&path, "%s/%s", dir, name) < 0) {
                        path = NULL;
                        r = -ENOMEM;
                }
                if (r >= 0 && name[0] != '.' && (!ending || endswith(name, ending)) && stat(path, &st) >= 0 &&
                                (directories ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)))
                        r = strv_extend(&names, name);
                free(entries[i]);
        }
        free(entries);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(names);
        return 0;
}

/* --- name and cookie --- */

/* Facts 3.4: what is before the "@", from 4.3.15 and 4.4.4 on. */
static bool is_strict_name(const char *name) {
        size_t n = strspn(name, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-");

        return n > 0 && (name[n] == '@' || name[n] == 0);
}

int check_node_name(Checking *k, Error *reterr) {
        const Plan *p = k->c->plan;
        _cleanup_free_ char *mnesia = NULL;
        Version to;

        if (version_parse(p->to, &to) < 0 || asprintf(&mnesia, "%s/mnesia/%s", p->data_dir, p->node_name) < 0)
                return -ENOMEM;
        if (!is_strict_name(p->node_name) && to.patch >= 4)
                return error_set(reterr, -EINVAL,
                                "Take a release before 4.4.4, or rename the node, which makes it another one to its cluster.",
                                "From 4.4.4 on a node's name has letters, digits, _ and - before its @, and nothing else: %s does not start as %s",
                                p->to, p->node_name);
        if (k->running_name && !streq(k->running_name, p->node_name))
                return error_set(reterr, -EINVAL,
                                "A node with another name begins with empty tables. Give it its name back, or restart it under the new one first.",
                                "The node runs as %s, but would start as %s", k->running_name, p->node_name);
        if (access(mnesia, F_OK) < 0)
                return error_set(reterr, -errno,
                                "Look which name the directory beside it has: that is the node's own. A start under another one begins with empty tables.",
                                "The tables of %s should be in %s: %m", p->node_name, mnesia);
        if (!is_strict_name(p->node_name))
                return warned(k, "Rename the node when that suits you: to its cluster it is another one then.",
                                "releases from 4.4.4 on do not start as %s", p->node_name);
        found(k, "%s, with its tables in %s", p->node_name, mnesia);
        return 1;
}

int check_cookie(Checking *k, Error *reterr) {
        static const char advice[] =
                        "The new version would not start, or its commands would not: chown it to the node's user and chmod it to 0400.";
        const Plan *p = k->c->plan;
        const char *home = strv_env_get(k->setup->environment, "HOME");
        _cleanup_free_ char *path = NULL;
        const struct passwd *pw;
        struct stat st;

        if (asprintf(&path, "%s/.erlang.cookie", home && *home == '/' ? home : p->data_dir) < 0)
                return -ENOMEM;
        if (stat(path, &st) < 0) {
                if (errno != ENOENT)
                        return error_set(reterr, -errno, NULL, "Cannot look at %s: %m", path);
        } else {
                if (st.st_mode & 077)
                        return error_set(reterr, -EPERM, advice,
                                        "%s is accessible by others than its owner (mode %04o)", path,
                                        st.st_mode & 07777);
                pw = getpwnam(p->user);
                if (pw && st.st_uid != pw->pw_uid)
                        return error_set(reterr, -EPERM, advice, "%s does not belong to %s", path, p->user);
        }
        if (!k->has_cookie)
                return warned(k, "Set node.cookie: anybody who reaches the node knows the default.",
                                "no cookie is set, so the node has the one that every EMQX has by default");
        found(k, "one is set; %s is its user's alone", path);
        return 1;
}

/* --- what the program's own directory has --- */

/* What is carried: packages.c sets these again in the new version's file. */
static const char *const carried_vars[] = { "RUNNER_ETC_DIR", "RUNNER_DATA_DIR", "RUNNER_LOG_DIR" };

static bool is_carried_var(const char *line) {
        for (size_t i = 0; i < ELEMENTSOF(carried_vars); i++) {
                const char *rest = startswith(line, carried_vars[i]);

                if (rest && *rest == '=')
                        return true;
        }
        return false;
}

/* Lines of text that say something. */
static int significant_lines(char *text, char ***ret) {
        _cleanup_strv_ char **lines = NULL;

        for (char *line; (line = strsep(&text, "\n"));) {
                line += strspn(line, " \t");
                for (size_t n = strlen(line); n > 0 && strchr(" \t\r", line[n - 1]); n--)
                        line[n - 1] = 0;
                if (*line && *line != '#' && strv_extend(&lines, line) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(lines);
        return 0;
}

/* Names of what edited has and original has not; never a value. */
static int edited_names(char **edited, char **original, char ***ret) {
        _cleanup_strv_ char **names = NULL;

        STRV_FOREACH (line, edited) {
                const char *equals = strchr(*line, '=');

                if (strv_contains(original, *line) || is_carried_var(*line))
                        continue;
                if (strv_extendf(&names, "%.*s", equals ? (int) (equals - *line) : 12, *line) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(names);
        return 0;
}

static int read_original_vars(Checking *k, char **ret, Error *reterr) {
        _cleanup_free_ char *prefix = NULL;
        _cleanup_close_ int fd = -1;
        char name[ASIDE_NAME_MAX];
        int r, q;

        if (asprintf(&prefix, "%s/releases", k->kind->default_root_dir) < 0)
                return -ENOMEM;
        r = aside_extract(k->kind, k->old, prefix, aside_judge_name(name, k->c->plan), &fd, reterr);
        if (r >= 0)
                r = read_file_at(fd, "emqx_vars", TEXT_BYTES_MAX, ret, NULL);
        if (r < 0)
                (void) error_set(reterr, r, NULL, "Cannot read releases/emqx_vars of %s: %m", k->old->path);
        q = aside_remove(name, r < 0 ? NULL : reterr);
        return r < 0 ? r : q;
}

/* A package brings a new emqx_vars: what was edited in the old one is lost. */
int check_emqx_vars(Checking *k, Error *reterr) {
        _cleanup_strv_ char **edited = NULL, **original = NULL, **names = NULL;
        _cleanup_free_ char *path = NULL, *text = NULL, *original_text = NULL, *list = NULL;
        int r;

        if (!k->old) {
                found(k, "there is no package of %s to compare it with", k->c->plan->from);
                return 1;
        }
        if (asprintf(&path, "%s/releases/emqx_vars", k->c->plan->root_dir) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, path, TEXT_BYTES_MAX, &text, NULL);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", path);
        r = read_original_vars(k, &original_text, reterr);
        if (r >= 0)
                r = significant_lines(text, &edited);
        if (r >= 0)
                r = significant_lines(original_text, &original);
        if (r >= 0)
                r = edited_names(edited, original, &names);
        if (r < 0)
                return r;
        if (names) {
                list = strv_join(names, ", ");
                return list ? error_set(reterr, -EINVAL,
                                              "The new package brings a file without that. Undo it, and set what is needed in a drop-in of emqx.service or in emqx.conf.",
                                              "%s was edited: %s", path, list)
                            : -ENOMEM;
        }
        found(k, "as the package has it, but for directories, which are carried");
        return 1;
}

/* --- the unit --- */

#define DEFAULT_FILE "/etc/default/emqx"

/* Facts 2.3: the init script of 4.3.10 and before reads it, the unit of later ones does not. */
int check_default_file(Checking *k, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_strv_ char **variables = NULL, **names = NULL;
        _cleanup_free_ char *list = NULL;
        Version from;
        int r;

        r = unit_state_get(k->c->manager, k->c->plan->unit, &state, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < state.n_environment_files; i++)
                if (streq(state.environment_files[i].path, DEFAULT_FILE)) {
                        found(k, "%s reads " DEFAULT_FILE, k->c->plan->unit);
                        return 1;
                }
        r = environment_read(DEFAULT_FILE, true, &variables, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH (v, variables)
                if (strv_extendf(&names, "%.*s", (int) strcspn(*v, "="), *v) < 0)
                        return -ENOMEM;
        if (!names) {
                found(k, "nothing is set in " DEFAULT_FILE);
                return 1;
        }
        list = strv_join(names, ", ");
        if (!list || version_parse(k->c->plan->from, &from) < 0)
                return -ENOMEM;
        if (streq(k->kind->name, "deb") && from.minor == 3 && from.patch <= 10)
                return error_set(reterr, -EINVAL,
                                "Move them to a drop-in: systemctl edit emqx, [Service], Environment=… or EnvironmentFile=" DEFAULT_FILE,
                                DEFAULT_FILE " sets %s, which the init script of %s reads and the unit of %s does not",
                                list, k->c->plan->from, k->c->plan->to);
        return warned(k, "What is meant to count belongs into a drop-in: systemctl edit emqx",
                        DEFAULT_FILE " sets %s, but neither version reads it", list);
}

/* What a drop-in may set that takes the unit's behaviour out of the release's hands. */
static const char *const telling_settings[] = { "ExecStart", "ExecStop", "ExecStartPre", "ExecStartPost",
        "ExecStopPost", "Type", "User", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "KillMode" };

static int settings_of(const char *path, char ***l) {
        _cleanup_free_ char *text = NULL;
        char *rest;

        if (read_file_at(AT_FDCWD, path, TEXT_BYTES_MAX, &text, NULL) < 0)
                return 0;
        rest = text;
        for (char *line; (line = strsep(&rest, "\n"));) {
                line += strspn(line, " \t");
                for (size_t i = 0; i < ELEMENTSOF(telling_settings); i++) {
                        const char *after = startswith(line, telling_settings[i]);

                        if (after && after[strspn(after, " \t")] == '=' &&
                                        strv_extendf(l, "%s= (%s)", telling_settings[i], path) < 0)
                                return -ENOMEM;
                }
        }
        return 0;
}

int check_unit_file(Checking *k, Error *reterr) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_strv_ char **settings = NULL;
        _cleanup_free_ char *list = NULL;
        int r;

        r = unit_state_get(k->c->manager, k->c->plan->unit, &state, reterr);
        if (r < 0)
                return r;
        if (!k->kind->exchange && startswith(state.fragment_path, "/etc/"))
                return warned(k, "The new release's own unit will not be used. Make it a drop-in: systemctl edit emqx",
                                "%s hides the unit of the package", state.fragment_path);
        STRV_FOREACH (path, state.drop_in_paths)
                if (!strstr(*path, "-emqx-upgrade-") && settings_of(*path, &settings) < 0)
                        return -ENOMEM;
        if (settings) {
                list = strv_join(settings, ", ");
                return list ? warned(k, "It holds for the new version too: see that it fits.", "drop-ins set %s", list)
                            : -ENOMEM;
        }
        found(k, "%s, no drop-in changes how it starts and stops",
                        *state.fragment_path ? state.fragment_path : "generated");
        return 1;
}

int check_needrestart(Checking *k, Error *reterr) {
        (void) reterr;
        if (access("/usr/sbin/needrestart", X_OK) >= 0 &&
                        access("/etc/needrestart/conf.d/emqx-upgrade.conf", F_OK) < 0)
                return warned(k, "Install emqx-upgrade again, or put that file back.",
                                "needrestart would restart the node in the middle of the upgrade: /etc/needrestart/conf.d/emqx-upgrade.conf is missing");
        found(k, "needrestart is not here, or leaves the node alone while it is upgraded");
        return 1;
}

/* --- what is carried, and what not --- */

int check_patches(Checking *k, Error *reterr) {
        _cleanup_strv_ char **names = NULL;
        _cleanup_free_ char *dir = NULL, *list = NULL;
        int r;

        if (asprintf(&dir, "%s/patches", k->c->plan->data_dir) < 0)
                return -ENOMEM;
        r = list_names(dir, NULL, false, &names, reterr);
        if (r < 0)
                return r;
        if (!names) {
                found(k, "no hot patches");
                return 1;
        }
        list = strv_join(names, ", ");
        return list ? warned(k, "See that the new release has what they were for. They stay in the backup, and come back with a rollback.",
                                      "hot patches in %s are not carried over: %s", dir, list)
                    : -ENOMEM;
}

static int external_plugins(Checking *k, char **ret_dir, char ***ret, Error *reterr) {
        _cleanup_free_ char *value = NULL;
        int r;

        r = conf_value(k->setup->files[0].conf, "plugins.expand_plugins_dir", k->setup->environment, &value, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                *ret_dir = setup_path(k->setup, value);
        else if (asprintf(ret_dir, "%s/plugins", k->c->plan->data_dir) < 0)
                *ret_dir = NULL;
        return *ret_dir ? list_names(*ret_dir, NULL, true, ret, reterr) : -ENOMEM;
}

int check_external_plugins(Checking *k, Error *reterr) {
        _cleanup_strv_ char **names = NULL;
        _cleanup_free_ char *dir = NULL, *list = NULL;
        int r;

        r = external_plugins(k, &dir, &names, reterr);
        if (r < 0)
                return r;
        if (!names) {
                found(k, "no external plugins");
                return 1;
        }
        list = strv_join(names, ", ");
        return list ? warned(k, "Have them built for the new release; they are carried over as they are, and loaded at its start.",
                                      "plugins in %s were compiled for 4.3: %s", dir, list)
                    : -ENOMEM;
}

/* Facts 4.1: a name that is none is logged as an alert and passed over. */
int check_plugins(Checking *k, Error *reterr) {
        _cleanup_strv_ char **external = NULL, **names = NULL;
        _cleanup_free_ char *dir = NULL, *list = NULL;
        int r;

        r = external_plugins(k, &dir, &external, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH (name, k->missing_plugins)
                if (!strv_contains(external, *name) && strv_extend(&names, *name) < 0)
                        return -ENOMEM;
        if (!names) {
                found(k, "%s has all %zu active plugins", k->c->plan->to, strv_length(k->setup->plugins));
                return 1;
        }
        list = strv_join(names, ", ");
        return list ? warned(k, "They will not be loaded: see whether something depends on them.",
                                      "%s has no plugin %s, which %s names", k->c->plan->to, list,
                                      k->setup->loaded_file)
                    : -ENOMEM;
}

/* Facts 3.6, 4.2: files of Erlang terms, which no schema is asked about. */
int check_erlang_terms(Checking *k, Error *reterr) {
        _cleanup_strv_ char **paths = NULL, **there = NULL;
        _cleanup_free_ char *list = NULL;

        (void) reterr;
        if (strv_extendf(&paths, "%s/sys.config", k->c->plan->etc_dir) < 0 ||
                        strv_extend(&paths, "/etc/advanced.config") < 0)
                return -ENOMEM;
        if (access("/etc/vm.args", F_OK) >= 0 && strv_extend(&paths, "/etc/app.config") < 0)
                return -ENOMEM;
        STRV_FOREACH (plugin, k->setup->plugins)
                if (strv_extendf(&paths, "%s/%s.config", k->setup->plugins_dir, *plugin) < 0)
                        return -ENOMEM;
        STRV_FOREACH (path, paths)
                if (access(*path, F_OK) >= 0 && strv_extend(&there, *path) < 0)
                        return -ENOMEM;
        if (!there) {
                found(k, "no configuration in Erlang terms");
                return 1;
        }
        list = strv_join(there, ", ");
        return list ? warned(k, "See yourself that the new release takes what is in there.",
                                      "the new release reads these without checking them: %s", list)
                    : -ENOMEM;
}

/* --- files that the configuration names --- */

/* Last words of keys whose value is a file. */
static const char *const file_keys[] = { "acl_file", "cacertfile", "certfile", "dhfile", "keyfile", "psk_file",
        "ssl_dist_optfile" };

static bool names_file(const char *key) {
        const char *last = strrchr(key, '.');

        for (size_t i = 0; i < ELEMENTSOF(file_keys); i++)
                if (streq(last ? last + 1 : key, file_keys[i]))
                        return true;
        return streq(key, "log.dir");
}

/* Whether path goes with the program when that is removed, or stays with it. */
static bool goes_with_program(const Plan *p, const char *path) {
        _cleanup_free_ char *real = realpath(path, NULL);
        const char *rest = startswith(real ?: path, p->root_dir);

        if (!rest || *rest != '/')
                return false;
        for (size_t i = 0; i < p->n_trees; i++)
                if (path_is_within(real ?: path, p->trees[i].real))
                        return false;
        return true;
}

static int look_at_file(
                Checking *k, const Conf *conf, const ConfSetting *s, char ***lost, char ***missing, Error *reterr) {
        _cleanup_free_ char *value = NULL, *path = NULL;
        int r;

        r = conf_value(conf, s->key, k->setup->environment, &value, reterr);
        if (r <= 0)
                return r;
        path = setup_path(k->setup, value);
        if (!path)
                return -ENOMEM;
        if (goes_with_program(k->c->plan, path))
                return strv_extendf(lost, "%s (%s)", path, s->key);
        return access(path, F_OK) < 0 ? strv_extendf(missing, "%s (%s)", path, s->key) : 0;
}

int check_referenced_files(Checking *k, Error *reterr) {
        _cleanup_strv_ char **lost = NULL, **missing = NULL;
        _cleanup_free_ char *list = NULL;
        const char *file;
        unsigned line;
        ConfSetting s;
        int r = 0;

        for (size_t i = 0; i < k->setup->n_files; i++)
                for (size_t j = 0; r >= 0 && conf_setting(k->setup->files[i].conf, j, &s); j++)
                        if (names_file(s.key) && conf_where(k->setup->files[i].conf, s.key, &file, &line) &&
                                        line == s.line && streq(file, s.file))
                                r = look_at_file(k, k->setup->files[i].conf, &s, &lost, &missing, reterr);
        if (r < 0)
                return r;
        list = strv_join(lost ?: missing, ", ");
        if (!list)
                return -ENOMEM;
        /* dpkg leaves in place what is not its package's own; what is, the new package may have under another name. */
        if (lost && !streq(k->kind->name, "deb"))
                return error_set(reterr, -EINVAL, "Move them to the configuration or data directory.",
                                "Files of the configuration are in the program's directory, and would go with it: %s",
                                list);
        if (lost)
                return warned(k, "Move them to the configuration or data directory.",
                                "files of the configuration are in the program's directory, which belongs to the package: %s",
                                list);
        if (missing)
                return warned(k, "What needs them does not work now either.",
                                "the configuration names files that are not there: %s", list);
        found(k, "all files that the configuration names are there, outside of the program's directory");
        return 1;
}

/* --- the platform --- */

/* "el8" of a release "otp24.1.5_3.el8" or "1.el8". */
static const char *dist_of(const char *release) {
        const char *dist = release ? strstr(release, ".el") : NULL;

        return dist && dist[3] >= '0' && dist[3] <= '9' ? dist + 1 : NULL;
}

/* Facts 1.1: packages are built for el7 and el8, and the release says for which. */
int check_platform(Checking *k, Error *reterr) {
        _cleanup_strv_ char **os = NULL;
        const char *dist = dist_of(k->target->release), *version;
        unsigned built, here;
        int r;

        if (!dist) {
                found(k, "the package does not say for which system it was built");
                return 1;
        }
        r = environment_read("/etc/os-release", true, &os, reterr);
        if (r < 0)
                return r;
        version = strv_env_get(os, "VERSION_ID");
        built = (unsigned) strtoul(dist + 2, NULL, 10);
        here = version ? (unsigned) strtoul(version, NULL, 10) : 0;
        /* Debian's and others' numbers are of another kind. */
        if (!version ||
                        (!strstr(strv_env_get(os, "ID_LIKE") ?: "", "rhel") &&
                                        !streq_ptr(strv_env_get(os, "ID"), "rhel"))) {
                found(k, "the package was built for %s; this system does not say that it is of that kind", dist);
                return 1;
        }
        if (built != here)
                return warned(k, "Take the package for this system.", "the package was built for %s, and this is el%u",
                                dist, here);
        found(k, "the package was built for %s, as this system is", dist);
        return 1;
}
