/* SPDX-License-Identifier: Apache-2.0 */

/* The steps that remove and install packages. */

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "base/process.h"
#include "bus/transient.h"
#include "node/node.h"
#include "package/store.h"
#include "steps/backup.h"
#include "steps/packages.h"

#define HOLD_TIMEOUT_USEC (60 * USEC_PER_SEC)

int package_is_installed(Context *c, const char *version, Error *reterr) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        int r;

        r = package_kind_find(c->plan->kind)->query(STRV_MAKE(c->plan->package), c->plan->root_dir, &list, reterr);
        if (r < 0)
                return r;
        if (!version)
                return list.n == 0;
        return list.n == 1 && list.items[0].complete && streq(list.items[0].version, version);
}

/* --- hold --- */

#define ROLLBACK_HOLD_PATH                                                                                            \
        STATE_DIR "/package-hold" /* is there while the hold is that of a rollback, and not a person's */

bool package_hold_is_ours(void) {
        return access(ROLLBACK_HOLD_PATH, F_OK) >= 0;
}

void package_hold_forget(void) {
        (void) remove_file_at(AT_FDCWD, ROLLBACK_HOLD_PATH);
}

bool package_hold_matters(const Context *c, bool rolled_back) {
        return c->plan->held || (rolled_back && c->config->hold_after_rollback) || package_hold_is_ours();
}

/* The conductor may not write where package managers keep that. */
static int set_hold(Context *c, const PackageKind *kind, bool on, Error *reterr) {
        _cleanup_strv_ char **argv = kind->hold_command(c->plan->package, on);
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        _cleanup_free_ char *output = NULL;
        int r, status;

        if (!argv)
                return -ENOMEM;
        unit.name = "emqx-upgrade-step-hold.service";
        unit.description = "EMQX Upgrade: hold of the package";
        unit.argv = argv;
        unit.slice = "emqx-upgrade.slice";
        r = transient_capture(c->manager, &unit, HOLD_TIMEOUT_USEC, &output, &status, reterr);
        if (r < 0 || status == 0)
                return r;
        return error_set(reterr, -EREMOTEIO,
                        on ? "Put it on hold by hand, as you see fit." : "Take the hold away by hand.",
                        "The hold of %s cannot be changed: %.*s", c->plan->package, (int) strcspn(output, "\n"),
                        output);
}

int package_settle_hold(Context *c, bool rolled_back, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        bool operators = c->plan->held, on = operators || (rolled_back && c->config->hold_after_rollback);
        int r = 0;

        if (!kind->can_hold || !kind->can_hold())
                return error_set(reterr, -EOPNOTSUPP, NULL,
                                "A package of kind %s cannot be put on hold here (an rpm can by dnf's plugin versionlock)",
                                kind->name);
        if (on && !operators) /* first, lest it be taken for a person's */
                r = replace_file_at(AT_FDCWD, ROLLBACK_HOLD_PATH, "", 0, 0600);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot write %s: %m", ROLLBACK_HOLD_PATH);
        r = set_hold(c, kind, on, reterr);
        if (r >= 0)
                r = free_and_strdup(&c->plan->hold, !on ? NULL : operators ? "operator" : "rollback");
        if (r < 0)
                return r;
        if (on)
                journal_event(&c->journal, EVENT_PACKAGE_HELD, NULL,
                                "%s %s is on hold%s: upgrades of everything pass it over; %s %s takes the hold away",
                                c->plan->package, rolled_back ? c->plan->from : c->plan->to,
                                operators ? " again" : ", because the upgrade was rolled back", kind->unhold,
                                c->plan->package);
        else
                journal_event(&c->journal, EVENT_PACKAGE_RELEASED, NULL,
                                "%s is no longer on hold: the hold was there because an earlier upgrade had been rolled back",
                                c->plan->package);
        if (!on || operators) {
                r = remove_file_at(AT_FDCWD, ROLLBACK_HOLD_PATH);
                if (r < 0 && r != -ENOENT)
                        return error_set(reterr, r, NULL, "Cannot remove %s: %m", ROLLBACK_HOLD_PATH);
        }
        return 0;
}

/* --- remove and install --- */

static void on_output(const char *line, void *userdata) {
        Context *c = userdata;

        journal_event(&c->journal, EVENT_STEP_OUTPUT, &(JournalFields){ .step = c->step }, "%s", line);
        c->report(line, NULL, c->userdata);
}

/* Unpacked files are not always synced (dpkg --force-unsafe-io, rpm): what is recorded as done must be on disk, on
 * every file system that a package of EMQX puts files on. */
static int sync_program(const Plan *p, Error *reterr) {
        const char *const places[] = { p->root_dir, "/usr", "/etc", "/var/lib" };
        dev_t done[ELEMENTSOF(places)] = {};
        size_t n_done = 0;

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                _cleanup_close_ int fd = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                bool seen = false;
                struct stat st;

                if (fd < 0 && errno == ENOENT)
                        continue;
                if (fd < 0 || fstat(fd, &st) < 0)
                        return error_set(reterr, -errno, NULL, "Cannot open %s: %m", places[i]);
                for (size_t k = 0; k < n_done; k++)
                        seen = seen || done[k] == st.st_dev;
                if (!seen && syncfs(fd) < 0)
                        return error_set(reterr, -errno, NULL, "Cannot sync the file system of %s: %m", places[i]);
                done[n_done++] = st.st_dev;
        }
        return 0;
}

/* An unpacking that was broken off leaves files that no package owns, unless it is done again first. */
static int uninstall(Context *c, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        _cleanup_free_ char *copy = backup_package_path(c->plan, c->plan->target_path);
        PackageRun run = { .on_line = on_output, .userdata = c, .repair_path = copy };
        int r;

        if (!copy)
                return -ENOMEM;
        r = kind->mend(&run, reterr);
        if (r >= 0)
                r = kind->remove(c->plan->package, &run, reterr);
        return r < 0 ? r : sync_program(c->plan, reterr);
}

static int keep_directories(Context *c, Error *reterr) {
        const NodeDirectories d = { c->plan->etc_dir, c->plan->data_dir, c->plan->log_dir };
        bool changed;
        int r;

        r = node_keep_directories(c->plan->root_dir, &d, &changed, reterr);
        if (r >= 0 && changed)
                step_report(c, "%s/releases/emqx_vars has the directories of the old one again", c->plan->root_dir);
        return r;
}

/* At once, while the lock is the conductor's: an upgrade of everything must not come upon a node that is being watched.
 * package_settle_hold() tells of it in the end, and of what failed here. */
static void hold_again(const Plan *p, const PackageKind *kind) {
        _cleanup_strv_ char **argv = kind->hold_command(p->package, true);

        if (argv)
                (void) process_run(argv, &(ProcessOptions){ .timeout_usec = HOLD_TIMEOUT_USEC }, NULL);
}

static int install(Context *c, const char *path, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        _cleanup_(package_freep) Package *package = NULL;
        PackageRun run = { .on_line = on_output, .userdata = c };
        int r;

        r = kind->read(path, &package, reterr);
        if (r >= 0)
                r = kind->mend(&run, reterr);
        if (r >= 0)
                r = kind->install(package, &run, reterr);
        if (r >= 0 && c->plan->held && kind->removal_ends_hold)
                hold_again(c->plan, kind);
        if (r >= 0)
                r = keep_directories(c, reterr);
        return r < 0 ? r : sync_program(c->plan, reterr);
}

/* Of two versions beside each other none is removed: `install` exchanges them at once. */
static int exchange(Context *c, const char *version, Error *reterr) {
        int r;

        step_report(c, "exchanging %s and %s", c->plan->root_dir, c->plan->beside_dir);
        r = package_kind_find(c->plan->kind)->exchange(c->plan->root_dir, c->plan->beside_dir, version, reterr);
        return r < 0 ? r : keep_directories(c, reterr);
}

int remove_old(Context *c, Error *reterr) {
        return c->plan->beside_dir ? 0 : uninstall(c, reterr);
}

int old_absent(Context *c, Error *reterr) {
        return c->plan->beside_dir ? 1 : package_is_installed(c, NULL, reterr);
}

/* What a package manager that was killed has left in its database, though it has changed nothing. */
static int mend(Context *c, Error *reterr) {
        PackageRun run = { .on_line = on_output, .userdata = c };

        return package_kind_find(c->plan->kind)->mend(&run, reterr);
}

/* Undoes a removal that was interrupted before it did anything, too: then the old version is there, and stays. What our
 * own installation has brought back stays only when it is known to be on disk: after a power cut the package manager's
 * records may be ahead of the files, which rpm does not sync. */
int install_old(Context *c, Error *reterr) {
        static const char begun[] = "reinstalling";
        _cleanup_close_ int backup_fd = -1;
        _cleanup_free_ char *copy = NULL;
        int r;

        r = backup_open(c->plan, &backup_fd, reterr);
        if (r >= 0)
                r = package_is_installed(c, c->plan->from, reterr);
        if (r < 0)
                return r;
        if (r > 0 && faccessat(backup_fd, begun, F_OK, 0) < 0)
                return c->plan->beside_dir ? 0 : mend(c, reterr);
        if (c->plan->beside_dir)
                return exchange(c, c->plan->from, reterr);
        if (!c->plan->old_path)
                return error_set(reterr, -ENOENT, "Install it by hand, then try the way back again.",
                                "There is no package of %s to go back to", c->plan->from);
        copy = backup_package_path(c->plan, c->plan->old_path);
        if (!copy)
                return -ENOMEM;
        r = replace_file_at(backup_fd, begun, "", 0, 0600);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot write %s into the backup %s: %m", begun, c->plan->id);
        r = install(c, copy, reterr);
        if (r >= 0) {
                r = remove_file_at(backup_fd, begun);
                if (r < 0)
                        return error_set(reterr, r, NULL, "Cannot remove %s from the backup %s: %m", begun,
                                        c->plan->id);
        }
        return r;
}

int install_target(Context *c, Error *reterr) {
        _cleanup_free_ char *copy = backup_package_path(c->plan, c->plan->target_path),
                            *prepared = backup_prepared_path(c->plan);
        bool is_prepared;
        int r;

        if (c->plan->beside_dir)
                return exchange(c, c->plan->to, reterr);
        if (!copy || !prepared)
                return -ENOMEM;
        is_prepared = access(prepared, R_OK) >= 0;
        r = install(c, is_prepared ? prepared : copy, reterr);
        if (r >= 0 && is_prepared && unlink(prepared) < 0)
                r = error_set(reterr, -errno, NULL, "Cannot remove %s: %m", prepared);
        return r;
}

int target_installed(Context *c, Error *reterr) {
        return package_is_installed(c, c->plan->to, reterr);
}

int remove_target(Context *c, Error *reterr) {
        return c->plan->beside_dir ? 0 : uninstall(c, reterr);
}
