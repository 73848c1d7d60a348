/* SPDX-License-Identifier: Apache-2.0 */

/* Debian packages, through dpkg(1). Its frontend lock is the caller's, for as long as remove and install take. */

#include <sys/stat.h>

#include "package/deb-file.h"
#include "package/dpkg.h"

static bool deb_present(void) {
        return access(DPKG_DIR "/status", R_OK) >= 0 && access(DPKG, X_OK) >= 0;
}

static int deb_host_arch(char **ret, Error *reterr) {
        _cleanup_free_ char *output = NULL;
        int r;

        r = dpkg_ask(STRV_MAKE(DPKG, "--print-architecture"), &output, reterr);
        if (r < 0)
                return r;
        output[strcspn(output, "\n")] = 0;
        if (r > 0 || !*output)
                return error_set(reterr, -EREMOTEIO, NULL, "dpkg --print-architecture failed with status %i: %s", r,
                                output);
        *ret = TAKE_PTR(output);
        return 0;
}

/* One line of dpkg-query: name, architecture, state, version, between tabs. What is no such line is a message. */
static int add_installed(char *line, InstalledList *list) {
        const char *name = strsep(&line, "\t"), *arch = strsep(&line, "\t"), *state = strsep(&line, "\t"),
                   *version = line;
        Installed *larger, *i;

        if (!name || !arch || !state || !version)
                return 0;
        /* "deinstall ok config-files" is what a removal leaves, "unknown ok not-installed" what a purge leaves. */
        if (endswith(state, " not-installed") || endswith(state, " config-files"))
                return 0;
        larger = reallocarray(list->items, list->n + 1, sizeof(Installed));
        if (!larger)
                return -ENOMEM;
        list->items = larger;
        i = &list->items[list->n++];
        *i = (Installed){ .name = strdup(name),
                .version = strdup(version),
                .arch = strdup(arch),
                .state = strdup(state),
                /* "deinstall ok installed": a removal was asked for, and is still to come. */
                .complete = streq(state, "install ok installed") || streq(state, "hold ok installed"),
                .held = startswith(state, "hold ") };
        return i->name && i->version && i->arch && i->state ? 0 : -ENOMEM;
}

static int deb_query(char *const *names, const char *root_dir, InstalledList *ret, Error *reterr) {
        _cleanup_strv_ char **argv = NULL;
        _cleanup_free_ char *output = NULL;
        char *rest;
        int r;

        (void) root_dir;
        if (strv_extend(&argv, DPKG_QUERY) < 0 || strv_extend(&argv, "--show") < 0 ||
                        strv_extend(&argv, "--showformat=${Package}\t${Architecture}\t${Status}\t${Version}\n") < 0)
                return -ENOMEM;
        for (size_t i = 0; names[i]; i++)
                if (strv_extend(&argv, names[i]) < 0)
                        return -ENOMEM;

        /* 1 says that some of them are unknown, which is no error here. */
        r = dpkg_ask(argv, &output, reterr);
        if (r > 1)
                r = error_set(reterr, -EREMOTEIO, NULL, "dpkg-query failed with status %i: %.*s", r,
                                (int) strcspn(output, "\n"), output);
        if (r < 0)
                return r;
        rest = output;
        for (char *line; (line = strsep(&rest, "\n"));) {
                r = add_installed(line, ret);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Packages that dpkg left in the middle of something: half-installed (H), unpacked (U), half-configured (F), or to be
 * reinstalled (R). Waiting for a trigger (W, t) is not among them: the next run of dpkg sees to that. */
static int deb_check_state(Error *reterr) {
        static const char advice[] = "See dpkg --audit, and finish it with: dpkg --configure -a";
        _cleanup_free_ char *output = NULL, *names = NULL;
        char *rest;
        int r;

        if (dpkg_interrupted())
                return error_set(reterr, -EUCLEAN, advice, "dpkg was interrupted");
        r = dpkg_ask(STRV_MAKE(DPKG_QUERY, "--show", "--showformat=${db:Status-Abbrev}\t${binary:Package}\n"), &output,
                        reterr);
        if (r > 0)
                r = error_set(reterr, -EREMOTEIO, NULL, "dpkg-query failed with status %i: %.*s", r,
                                (int) strcspn(output, "\n"), output);
        if (r < 0)
                return r;
        rest = output;
        for (char *line; (line = strsep(&rest, "\n"));) {
                const char *name = strchr(line, '\t');
                char *joined;

                if (!name || (!strchr("HUF", line[1]) && line[2] != 'R'))
                        continue;
                if (asprintf(&joined, "%s%s%s", names ?: "", names ? ", " : "", name + 1) < 0)
                        return -ENOMEM;
                free(names);
                names = joined;
        }
        return names ? error_set(reterr, -EUCLEAN, advice, "dpkg has left packages half installed: %s", names) : 0;
}

/* Conflicts, architecture, what must be there before; then dependencies; then whether others would miss what is there
 * now. None of these takes a lock or changes anything. */
static int deb_check_install(const Package *p, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        int r;

        r = dpkg_run(STRV_MAKE(DPKG, "--dry-run", "--no-pager", "--log=/dev/null", "--install", p->path), NULL,
                        "The trial run of dpkg --install", reterr);
        if (r >= 0)
                r = dpkg_check_depends(p, reterr);
        if (r >= 0)
                r = deb_query(STRV_MAKE(p->name), NULL, &list, reterr);
        if (r < 0 || list.n == 0)
                return r;
        return dpkg_run(STRV_MAKE(DPKG, "--dry-run", "--no-pager", "--log=/dev/null", "--remove", p->name), NULL,
                        "The trial run of dpkg --remove", reterr);
}

/* Takes over what a killed dpkg left in its journal, and removes what it makes before the first entry, which one that ended
 * well may have been unable to remove. That alone: configuring what is only half there would run a maintainer script that
 * may be the very reason why we are going back. Triggers of other packages may fail. */
static int deb_mend(const PackageRun *run, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r;

        if (!dpkg_interrupted() && access(DPKG_DIR "/updates/tmp.i", F_OK) < 0)
                return 0;
        r = dpkg_run(STRV_MAKE(DPKG, "--no-pager", "--triggers-only", "--pending"), run, "dpkg --triggers-only", &why);
        return r < 0 && dpkg_interrupted() ? error_set(reterr, r, why.advice, "%s", error_text(&why, r)) : 0;
}

/* EMQX's postrm removes its links in /usr/bin with rm, which fails where one is missing (no -f, under set -e); its
 * postinst makes them with ln -s, which fails over a dangling one (its test is [ -f ]). */
static const char *const links[] = { "emqx", "emqx_ctl" };

static int make_links_removable(Error *reterr) {
        for (size_t i = 0; i < ELEMENTSOF(links); i++) {
                char path[64], target[64];

                (void) snprintf(path, sizeof(path), "/usr/bin/%s", links[i]);
                (void) snprintf(target, sizeof(target), "/usr/lib/emqx/bin/%s", links[i]);
                if (symlink(target, path) < 0 && errno != EEXIST)
                        return error_set(reterr, -errno, NULL,
                                        "Cannot make the link %s, which the package's removal needs: %m", path);
        }
        return 0;
}

static int remove_dangling_links(Error *reterr) {
        for (size_t i = 0; i < ELEMENTSOF(links); i++) {
                char path[64];
                struct stat st;

                (void) snprintf(path, sizeof(path), "/usr/bin/%s", links[i]);
                if (lstat(path, &st) < 0 || !S_ISLNK(st.st_mode) || access(path, F_OK) >= 0)
                        continue;
                if (unlink(path) < 0)
                        return error_set(reterr, -errno, NULL, "Cannot remove the dangling link %s: %m", path);
        }
        return 0;
}

/* An interrupted unpacking leaves files that no record knows of: unpacked once more, they can be removed. One that failed
 * after it has cleaned up behind itself alone, and has taken "reinstreq" away. Where this fails the removal is tried all the
 * same. --no-debsig as in deb_install(). */
static void unpack_again(const Installed *i, const PackageRun *run) {
        if (run && run->repair_path && (strstr(i->state, " reinstreq ") || endswith(i->state, " half-installed")))
                (void) dpkg_run(STRV_MAKE(DPKG, "--no-pager", "--no-debsig", "--force-confold", "--force-confdef",
                                                "--unpack", run->repair_path),
                                run, "dpkg --unpack", NULL);
}

static int deb_remove(const char *name, const PackageRun *run, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        int r;

        r = deb_query(STRV_MAKE(name), NULL, &list, reterr);
        if (r < 0 || list.n == 0)
                return r;
        unpack_again(&list.items[0], run);
        r = make_links_removable(reterr);
        if (r < 0)
                return r;
        /* Never purge: its postrm deletes configuration, data and logs. A package whose installation broke off is
         * marked as needing another one, which must not keep it from going. */
        r = dpkg_run(STRV_MAKE(DPKG, "--no-pager", "--force-remove-reinstreq", "--remove", name), run, "dpkg --remove",
                        reterr);
        if (r >= 0)
                r = remove_dangling_links(reterr);
        return r < 0 ? r : deb_mend(run, reterr);
}

/* confold, confdef: what the operator has edited stays. confmiss: dpkg takes a file that is missing for one that was
 * deleted on purpose, and would leave a node without emqx.conf. --no-debsig: what is packed again has lost the signatures
 * within it, and the node is down; it was deb_check_install() that had debsig-verify(1) asked, where dpkg is to ask it. */
static int deb_install(const Package *p, const PackageRun *run, Error *reterr) {
        int r;

        r = remove_dangling_links(reterr);
        if (r < 0)
                return r;
        r = dpkg_run(STRV_MAKE(DPKG, "--no-pager", "--no-debsig", "--force-confold", "--force-confdef",
                                     "--force-confmiss", "--force-downgrade", "--install", p->path),
                        run, "dpkg --install", reterr);
        return r < 0 ? r : deb_mend(run, reterr);
}

static bool deb_can_hold(void) {
        return true;
}

/* As apt-mark(8) does it, which need not be there. */
static char **deb_hold_command(const char *name, bool on) {
        return strv_copy(STRV_MAKE("/bin/sh", "-c",
                        "echo \"$1 $2\" | DPKG_FRONTEND_LOCKED=true exec \"$0\" --set-selections", DPKG, name,
                        on ? "hold" : "install"));
}

static const char *const cache_dirs[] = { "/var/cache/apt/archives", NULL };

const PackageKind package_kind_deb = {
        .name = "deb",
        .default_root_dir = "/usr/lib/emqx",
        .lock_path = "/var/lib/dpkg/lock-frontend",
        .lock_kept = true,
        .cache_dirs = cache_dirs,
        .present = deb_present,
        .read = deb_file_read,
        .verify = deb_file_verify,
        .host_arch = deb_host_arch,
        .query = deb_query,
        .check_state = deb_check_state,
        .check_install = deb_check_install,
        .mend = deb_mend,
        .remove = deb_remove,
        .install = deb_install,
        .can_hold = deb_can_hold,
        .removal_ends_hold = true,
        .hold_command = deb_hold_command,
        .unhold = "apt-mark unhold",
        .extract = deb_file_extract,
        .prepare = deb_file_repack,
};
