/* SPDX-License-Identifier: Apache-2.0 */

#include "helper/auto.h"

#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include "base/version.h"
#include "bus/job.h"
#include "steps/checks.h"
#include "txn/engine.h"
#include "txn/package-lock.h"

/* While it waits, which is as long as LockTimeoutSec= allows. */
static void tell_waiting(const char *text, const StepProgress *progress, void *userdata) {
        (void) progress;
        (void) userdata;
        (void) sd_notifyf(0, "STATUS=%s\nEXTEND_TIMEOUT_USEC=%" PRIu64, text, (uint64_t) USEC_PER_MINUTE);
}

static int await_packages(Context *c, Error *reterr) {
        PackageLock lock = PACKAGE_LOCK_NULL;
        int r;

        r = package_lock_take(&lock, c, true, reterr);
        package_lock_release(&lock);
        return r;
}

static void not_queued(const char *to, const Error *error, int r) {
        journal_event(&(JournalContext){ .to = to }, EVENT_UPGRADE_NOT_QUEUED,
                        &(JournalFields){ .error = error_text(error, r), .error_number = r },
                        "No upgrade is started: %s", error_text(error, r));
}

/* What was taken back is not begun again behind the operator's back; nor is what is left when its package is removed, which
 * triggers of dpkg tell of as well. */
static int must_be_higher_than_taken_back(int state_fd, const char *to, Error *reterr) {
        _cleanup_(txn_freep) Txn *highest = NULL;
        Version version, back;
        int r;

        r = txn_load_highest_rolled_back(state_fd, &highest);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(reterr, r, NULL,
                                "Cannot read " STATE_DIR "/history, which tells what was rolled back: %m");
        if (version_parse(to, &version) < 0 || version_parse(highest->plan->to, &back) < 0 ||
                        version_compare(&version, &back) > 0)
                return 0;
        return error_set(reterr, -ECANCELED, NULL,
                        "An upgrade to %s was rolled back, and %s is no higher release. To upgrade to it all the same: "
                        "systemctl start emqx-upgrade@%s",
                        highest->plan->to, to, to);
}

void auto_queue(Config *config) {
        _cleanup_(manager_freep) Manager *manager = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(plan_freep) Plan *plan = NULL;
        _cleanup_(txn_freep) Txn *open_txn = NULL;
        _cleanup_free_ char *to = NULL, *unit = NULL;
        _cleanup_close_ int state_fd = -1;
        sd_event *event = NULL;
        Context c = { .config = config, .report = tell_waiting, .await_packages = await_packages };
        Job *job = NULL;
        int r;

        state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = state_fd < 0 ? -errno : txn_load(state_fd, &open_txn, &error);
        if (r > 0 && open_txn && !engine_only_stages(open_txn)) {
                r = txn_other_is_open(open_txn, &error);
                not_queued(NULL, &error, r);
                return;
        }
        if (r >= 0)
                r = plan_new("?", &plan);
        if (r >= 0)
                r = sd_event_new(&event);
        if (r >= 0)
                r = manager_new(event, &manager, &error);
        if (r >= 0) {
                c.plan = plan;
                c.event = event;
                c.manager = manager;
                r = checks_newest_target(&c, &to, &error);
        }
        if (r == 0)
                r = error_set(&error, -ENOENT, NULL, "%s has no release that %s %s can be upgraded to",
                                config->packages_dir, plan->package, plan->from);
        if (r > 0)
                r = must_be_higher_than_taken_back(state_fd, to, &error);
        if (r >= 0)
                r = asprintf(&unit, "emqx-upgrade@%s.service", to) < 0 ? -ENOMEM : 0;
        if (r >= 0)
                r = job_queue(manager, JOB_START, unit, "fail", &job, &error);
        (void) job_free(job);
        (void) sd_event_unref(event);
        if (r < 0) {
                not_queued(to, &error, r);
                return;
        }
        journal_event(&(JournalContext){ .from = plan->from, .to = to }, EVENT_UPGRADE_QUEUED, NULL,
                        "A package has brought EMQX %s: %s is queued, as AutoStart=yes asks for", to, unit);
}
