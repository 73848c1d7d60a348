/* SPDX-License-Identifier: Apache-2.0 */

/* Debian packages, through dpkg(1). Its frontend lock is the caller's, for as long as remove and install take. */

#include <ctype.h>
#include <dirent.h>
#include <sys/stat.h>

#include "package/control.h"

#define DPKG "/usr/bin/dpkg"
#define DPKG_QUERY "/usr/bin/dpkg-query"
#define QUERY_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define ERROR_LINES_MAX 4

/* A tool that asks nothing, and prints plain lines. */
static char *const quiet[] = { (char *) "DEBIAN_FRONTEND=noninteractive", (char *) "DPKG_COLORS=never",
        (char *) "DPKG_PAGER=cat", (char *) "DPKG_FRONTEND_LOCKED=1", NULL };

static bool deb_present(void) {
        return access("/var/lib/dpkg/status", R_OK) >= 0 && access(DPKG, X_OK) >= 0;
}

static int deb_host_arch(char **ret, Error *reterr) {
        _cleanup_free_ char *output = NULL;
        int r;

        r = process_capture(STRV_MAKE(DPKG, "--print-architecture"),
                        &(ProcessOptions){ .timeout_usec = QUERY_TIMEOUT_USEC }, &output, reterr);
        if (r < 0)
                return r;
        output[strcspn(output, "\n")] = 0;
        if (r > 0 || !*output)
                return error_set(reterr, -EIO, NULL, "dpkg --print-architecture failed with status %i", r);
        *ret = TAKE_PTR(output);
        return 0;
}

/* One line of dpkg-query: name, version, architecture, state, between tabs. */
static int add_installed(char *line, InstalledList *list) {
        char *save = NULL, *name = strtok_r(line, "\t", &save), *arch = strtok_r(NULL, "\t", &save),
             *state = strtok_r(NULL, "\t", &save), *version = strtok_r(NULL, "\t", &save);
        Installed *larger, *i;

        if (!name || !arch || !state)
                return 0;
        /* "deinstall ok config-files" is what a removal leaves, "… not-installed" what a purge leaves. */
        if (endswith(state, " not-installed") || endswith(state, " config-files"))
                return 0;
        larger = reallocarray(list->items, list->n + 1, sizeof(Installed));
        if (!larger)
                return -ENOMEM;
        list->items = larger;
        i = &list->items[list->n++];
        *i = (Installed){ strdup(name), strdup(version ?: ""), strdup(arch), strdup(state),
                endswith(state, " ok installed") };
        return i->name && i->version && i->arch && i->state ? 0 : -ENOMEM;
}

static int deb_query(char *const *names, InstalledList *ret, Error *reterr) {
        _cleanup_strv_ char **argv = NULL;
        _cleanup_free_ char *output = NULL;
        char *save = NULL;
        int r;

        if (strv_extend(&argv, DPKG_QUERY) < 0 || strv_extend(&argv, "--show") < 0 ||
                        strv_extend(&argv, "--showformat=${Package}\t${Architecture}\t${Status}\t${Version}\n") < 0)
                return -ENOMEM;
        for (size_t i = 0; names[i]; i++)
                if (strv_extend(&argv, names[i]) < 0)
                        return -ENOMEM;

        /* 1 says that some of them are unknown, which is no error here. */
        r = process_capture(argv, &(ProcessOptions){ .timeout_usec = QUERY_TIMEOUT_USEC }, &output, reterr);
        if (r > 1)
                r = error_set(reterr, -EIO, NULL, "dpkg-query failed with status %i: %.*s", r,
                                (int) strcspn(output, "\n"), output);
        if (r < 0)
                return r;
        for (char *line = strtok_r(output, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                r = strchr(line, '\t') ? add_installed(line, ret) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Files with numeric names are what an interrupted dpkg leaves to be taken up (unattended-upgrades asks the same). */
static bool updates_pending(void) {
        DIR *dir = opendir("/var/lib/dpkg/updates");
        struct dirent *de;
        bool pending = false;

        if (!dir)
                return false;
        while (!pending && (de = readdir(dir)))
                pending = isdigit((unsigned char) de->d_name[0]) && !de->d_name[strspn(de->d_name, "0123456789")];
        (void) closedir(dir);
        return pending;
}

static int deb_check_state(Error *reterr) {
        static const char advice[] = "Finish it with: dpkg --configure -a";
        _cleanup_free_ char *output = NULL;
        int r;

        if (updates_pending())
                return error_set(reterr, -EUCLEAN, advice, "dpkg was interrupted");
        r = process_capture(STRV_MAKE(DPKG, "--audit"), &(ProcessOptions){ .timeout_usec = QUERY_TIMEOUT_USEC },
                        &output, reterr);
        if (r < 0)
                return r;
        if (r > 0 || *output)
                return error_set(reterr, -EUCLEAN, advice, "dpkg --audit finds packages that are not whole: %.*s",
                                (int) strcspn(output, "\n"), output);
        return 0;
}

/* --- running dpkg --- */

typedef struct DpkgOutput {
        const PackageRun *run;
        char *errors; /* the first few lines that say why */
        unsigned n_errors;
} DpkgOutput;

static bool is_error_line(const char *line) {
        return strstr(line, "error") || strstr(line, "depends on") || strstr(line, "dependency problems");
}

static void on_dpkg_line(const char *line, void *userdata) {
        DpkgOutput *o = userdata;
        char *joined;

        if (o->run && o->run->on_line)
                o->run->on_line(line, o->run->userdata);
        if (!is_error_line(line) || o->n_errors == ERROR_LINES_MAX)
                return;
        line += strspn(line, " ");
        if (asprintf(&joined, "%s%s%s", o->errors ?: "", o->errors ? "; " : "", line) < 0)
                return;
        free(o->errors);
        o->errors = joined;
        o->n_errors++;
}

/* No time limit: dpkg is not broken off in the middle. What hangs in it is found by the unit it runs in. */
static int run_dpkg(char *const *argv, const PackageRun *run, const char *what, Error *reterr) {
        DpkgOutput output = { .run = run };
        int r;

        r = process_run(argv, &(ProcessOptions){ .environment = quiet, .on_line = on_dpkg_line, .userdata = &output },
                        reterr);
        if (r > 0)
                r = error_set(reterr, -EREMOTEIO, NULL, "%s failed with status %i: %s", what, r,
                                output.errors ?: "it does not say why");
        free(output.errors);
        return r;
}

/* dpkg's own check of dependencies; --dry-run takes no lock and changes nothing. */
static int deb_check_install(const Package *p, Error *reterr) {
        return run_dpkg(STRV_MAKE(DPKG, "--dry-run", "--no-pager", "--log=/dev/null", "--install", p->path), NULL,
                        "The trial run of dpkg --install", reterr);
}

static int deb_mend(const PackageRun *run, Error *reterr) {
        if (!updates_pending())
                return 0;
        return run_dpkg(STRV_MAKE(DPKG, "--no-pager", "--force-confold", "--force-confdef", "--configure",
                                        "--pending"),
                        run, "dpkg --configure --pending", reterr);
}

/* EMQX's postrm removes its links in /usr/bin with rm, which fails where one is missing (rm without -f under set -e); its
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

static int deb_remove(const char *name, const PackageRun *run, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        int r;

        r = deb_query(STRV_MAKE(name), &list, reterr);
        if (r < 0 || list.n == 0)
                return r;
        r = make_links_removable(reterr);
        if (r < 0)
                return r;
        /* Never purge: its postrm deletes configuration, data and logs. A package whose installation broke off is
         * marked as needing another one, which must not keep it from going. */
        return run_dpkg(STRV_MAKE(DPKG, "--no-pager", "--force-remove-reinstreq", "--remove", name), run,
                        "dpkg --remove", reterr);
}

/* confold, confdef: what the operator has edited stays. confmiss: dpkg takes a file that is missing for one that was
 * deleted on purpose, and would leave a node without emqx.conf. */
static int deb_install(const Package *p, const PackageRun *run, Error *reterr) {
        int r;

        r = remove_dangling_links(reterr);
        if (r < 0)
                return r;
        return run_dpkg(STRV_MAKE(DPKG, "--no-pager", "--force-confold", "--force-confdef", "--force-confmiss",
                                        "--force-downgrade", "--install", p->path),
                        run, "dpkg --install", reterr);
}

const PackageKind package_kind_deb = {
        .name = "deb",
        .lock_path = "/var/lib/dpkg/lock-frontend",
        .default_root_dir = "/usr/lib/emqx",
        .present = deb_present,
        .read = deb_read,
        .verify = deb_verify,
        .host_arch = deb_host_arch,
        .query = deb_query,
        .check_state = deb_check_state,
        .check_install = deb_check_install,
        .mend = deb_mend,
        .remove = deb_remove,
        .install = deb_install,
};
