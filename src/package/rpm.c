/* SPDX-License-Identifier: Apache-2.0 */

/* RPM packages, through rpm(8). It takes its lock itself. What it does with configuration: an erasure deletes what was
 * never edited, and leaves what was as NAME.rpmsave; an installation leaves what it finds, and puts its own beside it
 * as NAME.rpmnew where they differ. */

#include <fcntl.h>
#include <limits.h>

#include "base/fileio.h"
#include "package/rpm-file.h"
#include "package/rpm-run.h"

static const char repair_advice[] = "See rpm -qa; rpm --rebuilddb makes the indexes of its database new.";

static bool rpm_present(void) {
        return access(RPM, X_OK) >= 0 && rpm_database(NULL, NULL) > 0;
}

static int rpm_host_arch(char **ret, Error *reterr) {
        return rpm_eval("%{_target_cpu}", ret, reterr);
}

/* EMQX's %post makes its links in /usr/bin with ln -s, which fails over one that is there, and at a first installation
 * only: not where an installation that was broken off behind its record is done again. */
static const char *const links[] = { "emqx", "emqx_ctl" };

typedef struct Link {
        char path[64], target[64];
} Link;

static Link link_of(const char *name) {
        Link l;

        (void) snprintf(l.path, sizeof(l.path), "/usr/bin/%s", name);
        (void) snprintf(l.target, sizeof(l.target), "/usr/lib/emqx/bin/%s", name);
        return l;
}

/* Whether the package brings a program of that name, and nothing leads to it. */
static bool lacks_link(const char *name) {
        Link l = link_of(name);

        return access(l.target, F_OK) >= 0 && access(l.path, F_OK) < 0;
}

static int remove_links(Error *reterr) {
        for (size_t i = 0; i < ELEMENTSOF(links); i++) {
                Link l = link_of(links[i]);
                char target[PATH_MAX];
                ssize_t n = readlink(l.path, target, sizeof(target) - 1);

                if (n < 0)
                        continue;
                target[n] = 0;
                if (access(l.path, F_OK) >= 0 && !streq(target, l.target))
                        continue;
                if (unlink(l.path) < 0)
                        return error_set(reterr, -errno, NULL, "Cannot remove the link %s: %m", l.path);
        }
        return 0;
}

static int make_links(Error *reterr) {
        for (size_t i = 0; i < ELEMENTSOF(links); i++) {
                Link l = link_of(links[i]);

                if (!lacks_link(links[i]))
                        continue;
                (void) unlink(l.path); /* a dangling one */
                if (symlink(l.target, l.path) < 0)
                        return error_set(reterr, -errno, NULL, "Cannot make the link %s: %m", l.path);
        }
        return 0;
}

/* --- what is installed --- */

static void find_missing(const char *line, void *userdata) {
        bool *missing = userdata;
        const char *rest = startswith(line, "missing ");

        /* The letter of an attribute stands before the path: a configuration file may have been deleted on purpose. */
        if (rest && *(rest + strspn(rest, " ")) == '/' && !endswith(rest, " (Permission denied)"))
                *missing = true;
}

/* rpm records a package before its %post, and forgets it behind its %postun: one that is recorded need not be whole. */
static int find_state(const char *name, const char **ret, Error *reterr) {
        bool missing = false;
        int r;

        r = process_run(STRV_MAKE(RPM, "-V", "--nodeps", "--noscripts", "--nofiledigest", "--nosignature", "--nosize",
                                        "--nomtime", "--nouser", "--nogroup", "--nomode", "--nordev", "--nolinkto",
                                        "--nocaps", name),
                        &(ProcessOptions){ .on_line = find_missing, .userdata = &missing }, reterr);
        if (r < 0)
                return r;
        *ret = "installed";
        for (size_t i = 0; i < ELEMENTSOF(links); i++)
                if (lacks_link(links[i]))
                        *ret = "its links in /usr/bin are missing";
        if (missing)
                *ret = "files of it are missing";
        return 0;
}

static int add_installed(const RpmName *n, InstalledList *list) {
        Installed *larger, *i;

        for (size_t k = 0; k < list->n; k++)
                if (streq(list->items[k].name, n->name)) {
                        char *state;

                        if (asprintf(&state, "installed together with %s-%s", n->version, n->release) < 0)
                                return -ENOMEM;
                        free(list->items[k].state);
                        list->items[k].state = state;
                        return 0;
                }
        larger = reallocarray(list->items, list->n + 1, sizeof(Installed));
        if (!larger)
                return -ENOMEM;
        list->items = larger;
        i = &list->items[list->n++];
        *i = (Installed){ .name = strdup(n->name), .version = strdup(n->version), .arch = strdup(n->arch) };
        return i->name && i->version && i->arch ? 0 : -ENOMEM;
}

/* A name that is there more than once is one item: an rpm -U was broken off between both. Its state is NULL where it
 * is there once. */
static int list_records(char *const *names, InstalledList *ret, Error *reterr) {
        _cleanup_strv_ char **argv = NULL;
        _cleanup_free_ char *output = NULL;
        char *rest;
        int r;

        r = rpm_database(NULL, reterr);
        if (r <= 0)
                return r;
        if (strv_extend(&argv, RPM) < 0 || strv_extend(&argv, "-qa") < 0 || strv_extend(&argv, "--nosignature") < 0 ||
                        strv_extend(&argv, "--qf") < 0 || strv_extend(&argv, RPM_PACKAGE_FORMAT) < 0)
                return -ENOMEM;
        for (size_t i = 0; names[i]; i++)
                if (strv_extend(&argv, names[i]) < 0)
                        return -ENOMEM;
        r = rpm_ask(argv, &output, reterr);
        if (r > 0)
                r = error_set(reterr, -EREMOTEIO, repair_advice, "rpm -qa failed with status %i: %.*s", r,
                                (int) strcspn(output, "\n"), output);
        if (r < 0)
                return r;
        rest = output;
        for (char *line; (line = strsep(&rest, "\n"));) {
                _cleanup_(rpm_name_done) RpmName n = { NULL };

                r = rpm_name_parse(line, &n);
                if (r >= 0 && strv_contains(names, n.name))
                        r = add_installed(&n, ret);
                if (r < 0 && r != -EBADMSG) /* a warning */
                        return r;
        }
        return 0;
}

/* --- hold --- */

#define DNF "/usr/bin/dnf"
#define VERSION_LOCKS "/etc/dnf/plugins/versionlock.list"
#define VERSION_LOCKS_BYTES_MAX (1024 * 1024)

/* rpm itself has no hold; dnf has its plugin versionlock. */
static bool rpm_can_hold(void) {
        return access(DNF, X_OK) >= 0 && access(VERSION_LOCKS, F_OK) >= 0;
}

/* "emqx", "emqx-4.3.*", "emqx-0:4.3.12-1.*". Written by people too: what is not understood is no hold. */
static bool is_held(const char *name) {
        _cleanup_free_ char *text = NULL;
        char *rest;

        if (read_file_at(AT_FDCWD, VERSION_LOCKS, VERSION_LOCKS_BYTES_MAX, &text, NULL) < 0)
                return false;
        rest = text;
        for (const char *line; (line = strsep(&rest, "\n"));) {
                const char *version = startswith(line, name);

                if (version && (*version == 0 || (*version == '-' && version[1] && strchr("0123456789*", version[1]))))
                        return true;
        }
        return false;
}

/* A lock is on a version: the one from before goes, whoever made it. Without repositories dnf needs no network. */
static char **rpm_hold_command(const char *name, bool on) {
        static const char script[] = "dnf='" DNF " -q --disablerepo=*'; set -f; $dnf versionlock delete \"$0\" && "
                                     "{ [ \"$1\" = off ] || $dnf versionlock add \"$0\"; }";

        return strv_copy(STRV_MAKE("/bin/sh", "-c", script, name, on ? "on" : "off"));
}

static int rpm_query(char *const *names, const char *root_dir, InstalledList *ret, Error *reterr) {
        int r;

        (void) root_dir;
        r = list_records(names, ret, reterr);
        for (size_t k = 0; r >= 0 && k < ret->n; k++) {
                Installed *i = &ret->items[k];
                const char *state;

                if (i->state)
                        continue;
                r = find_state(i->name, &state, reterr);
                if (r < 0)
                        break;
                i->held = is_held(i->name);
                i->complete = streq(state, "installed");
                r = free_and_strdup(&i->state, state);
        }
        return r < 0 ? r : 0;
}

/* rpm keeps no state of a package. Of other packages more than one may be installed on purpose. */
static int rpm_check_state(Error *reterr) {
        static char *const editions[] = { (char *) "emqx", (char *) "emqx-ee", (char *) "emqx-edge", NULL };
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r;

        r = list_records(editions, &list, &why);
        if (r < 0)
                return error_set(reterr, r == -EREMOTEIO ? -EUCLEAN : r, why.advice, "%s", error_text(&why, r));
        for (size_t k = 0; k < list.n; k++)
                if (list.items[k].state)
                        return error_set(reterr, -EUCLEAN,
                                        "Install the one that is in use again, with: rpm -U --oldpackage"
                                        " --replacepkgs FILE",
                                        "An rpm -U was broken off: %s %s is %s", list.items[k].name,
                                        list.items[k].version, list.items[k].state);
        return 0;
}

/* Runs rpm with options on one package or file; as rpm_run(). */
static int act(char *const *options, const char *object, const PackageRun *run, const char *what, char **ret_warning,
                Error *reterr) {
        _cleanup_strv_ char **argv = NULL;

        if (strv_extend(&argv, RPM) < 0 || (rpm_is_debians() > 0 && strv_extend(&argv, "--force-debian") < 0))
                return -ENOMEM;
        for (size_t i = 0; options[i]; i++)
                if (strv_extend(&argv, options[i]) < 0)
                        return -ENOMEM;
        if (strv_extend(&argv, object) < 0)
                return -ENOMEM;
        return rpm_run(argv, run, what, ret_warning, reterr);
}

/* rpm's own trial run: dependencies, conflicts, architecture, room; then whether others would miss what is there now.
 * Neither takes a lock or changes anything. */
static int rpm_check_install(const Package *p, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r;

        /* Room is looked at elsewhere; rpm takes what a sandbox makes read-only for full. */
        r = act(STRV_MAKE("-U", "--test", "--oldpackage", "--replacepkgs", "--ignoresize"), p->path, NULL,
                        "The trial run of rpm -U", NULL, &why);
        if (r < 0)
                return error_set(reterr, r,
                                r == -ENOPKG ? "Install them first, with dnf install or yum install." : NULL, "%s",
                                error_text(&why, r));
        r = list_records(STRV_MAKE(p->name), &list, reterr);
        if (r < 0 || list.n == 0)
                return r;
        return act(STRV_MAKE("-e", "--test", "--allmatches"), p->name, NULL, "The trial run of rpm -e", NULL, reterr);
}

/* --- changes --- */

static void say(const PackageRun *run, const char *line) {
        if (run && run->on_line)
                run->on_line(line, run->userdata);
}

/* 0: its database can be read, or there is none. */
static int read_database(Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };

        return list_records(STRV_MAKE("emqx"), &list, reterr);
}

/* What a killed rpm of el7 and el8 leaves locked in Berkeley DB's region files; they are made anew. */
static void remove_regions(const char *dir) {
        for (unsigned i = 1; i <= 9; i++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/__db.%03u", dir, i) >= 0)
                        (void) unlink(path);
        }
}

/* Locks end with who had them, and SQLite recovers what was half written when it is opened. */
static int rpm_mend(const PackageRun *run, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        const char *dir;
        int r;

        r = rpm_database(&dir, reterr);
        if (r <= 0 || read_database(&why) >= 0)
                return r < 0 ? r : 0;
        say(run, why.message ?: "rpm cannot read its database");
        remove_regions(dir);
        if (read_database(NULL) >= 0)
                return 0;
        say(run, "making the database of rpm new with rpm --rebuilddb");
        (void) rpm_run(STRV_MAKE(RPM, "--rebuilddb"), run, "rpm --rebuilddb", NULL, NULL);
        r = read_database(NULL);
        return r < 0 ? error_set(reterr, r, why.advice, "%s", error_text(&why, r)) : 0;
}

/* An unpacking that was broken off leaves files that no record knows of: with a record they can be erased. Whether there
 * is one now; where rpm refuses, what is there stays. */
static bool record_remains(const PackageRun *run) {
        say(run, "A broken off installation has left files: they are recorded, so that they can be removed");
        return act(STRV_MAKE("-U", "--justdb", "--nodeps", "--noscripts"), run->repair_path, run, "rpm -U --justdb",
                               NULL, NULL) >= 0;
}

static int rpm_remove(const char *name, const PackageRun *run, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        int remains, r;

        r = list_records(STRV_MAKE(name), &list, reterr);
        if (r < 0)
                return r;
        remains = run && run->repair_path ? rpm_file_sweep(run->repair_path, NULL) : 0;
        if (list.n == 0 && (remains <= 0 || !record_remains(run)))
                return 0;
        r = act(STRV_MAKE("-e", "-v", "--allmatches"), name, run, "rpm -e", NULL, reterr);
        if (r < 0)
                return r;
        /* A %postun that failed is a warning only. */
        if (access("/usr/lib/emqx", F_OK) >= 0)
                say(run, "/usr/lib/emqx is still there");
        return remove_links(reterr);
}

/* One transaction, to a higher version, a lower one, or the same one again, over as many as there are. Dependencies have
 * been checked, and are again. */
static int rpm_install(const Package *p, const PackageRun *run, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList before = { NULL, 0 }, after = { NULL, 0 };
        _cleanup_free_ char *warning = NULL;
        int r;

        r = list_records(STRV_MAKE(p->name), &before, reterr);
        if (r >= 0)
                r = rpm_file_sweep(p->path, reterr);
        if (r >= 0 && before.n == 0)
                r = remove_links(reterr);
        if (r >= 0)
                r = act(STRV_MAKE("-U", "-v", "--oldpackage", "--replacepkgs"), p->path, run, "rpm -U", &warning,
                                reterr);
        if (r >= 0 && before.n > 0)
                r = make_links(reterr);
        if (r < 0)
                return r;
        if (warning)
                return error_set(reterr, -EREMOTEIO, NULL, "rpm has installed %s %s, but %s", p->name, p->version,
                                warning);
        r = rpm_query(STRV_MAKE(p->name), NULL, &after, reterr);
        if (r < 0)
                return r;
        if (after.n != 1 || !after.items[0].complete || !streq(after.items[0].version, p->version))
                return error_set(reterr, -EREMOTEIO, NULL, "After rpm -U %s is not what is installed: %s %s, %s",
                                p->path, p->name, after.n > 0 ? after.items[0].version : "is not there",
                                after.n > 0 ? after.items[0].state : "although rpm reports no error");
        return 0;
}

static const char *const cache_dirs[] = { "/var/cache/dnf/*/packages", "/var/cache/libdnf5/*/packages",
        "/var/cache/yum/*/*/*/packages", "/var/cache/yum/*/packages", "/var/cache/zypp/packages/*/*", NULL };

const PackageKind package_kind_rpm = {
        .name = "rpm",
        .default_root_dir = "/usr/lib/emqx",
        /* Where %_rpmlock_path is in every distribution with el packages. rpm waits for the one that it is told of. */
        .cache_dirs = cache_dirs,
        .lock_path = "/var/lib/rpm/.rpm.lock",
        .lock_kept = false,
        .present = rpm_present,
        .read = rpm_file_read,
        .verify = rpm_file_verify,
        .host_arch = rpm_host_arch,
        .query = rpm_query,
        .check_state = rpm_check_state,
        .check_install = rpm_check_install,
        .mend = rpm_mend,
        .remove = rpm_remove,
        .install = rpm_install,
        .can_hold = rpm_can_hold,
        .hold_command = rpm_hold_command,
        .unhold = "dnf versionlock delete",
        .extract = rpm_file_extract,
};
