/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/cluster.h"
#include "steps/step.h"

#include <stdarg.h>

/* The order is the document's (remove from the load balancer, stop, back up, uninstall, install, restore, start,
 * monitor, put back), with what needs no downtime before it. Going back, `start` is undone first and `stop` last, so
 * that the old package comes back before its configuration and data, and those before the old node is started.
 * Names stay in old records: rows are added, never renamed. */
/* clang-format off */
const Step upgrade_steps[] = {
        { .name = "inspect", .node = NODE_UP, .place = IN_CONDUCTOR,
          .title = "check that the node, the packages and the target fit",
          .apply = inspect_apply },

        { .name = "stage", .node = NODE_UP, .place = IN_FILES,
          .title = "verify the packages of both versions, and copy the data while the node serves",
          .undo_title = "drop what was staged",
          .apply = stage_all, .undo = stage_discard, .verify = stage_verify },

        { .name = "drain", .node = NODE_UP, .place = IN_CONDUCTOR,
          .title = "take the node out of the load balancer",
          .undo_title = "put the node back into the load balancer",
          .apply = drain_node, .undo = undrain_node },

        { .name = "refresh", .node = NODE_UP, .place = IN_FILES,
          .title = "copy what has changed while the node was drained",
          .apply = copy_trees_ahead },

        { .name = "recheck", .node = NODE_UP, .place = IN_CONDUCTOR, .package_lock = true,
          .title = "look once more whether the node is as the plan has it, and tell its cluster",
          .undo_title = "tell the node's cluster that the upgrade is over",
          .apply = recheck_apply, .undo = cluster_release },

        { .name = "stop", .node = NODE_UP, .place = IN_CONDUCTOR, .package_lock = true,
          .title = "hold the node and stop it",
          .undo_title = "start the old version and wait until it is ready",
          .apply = stop_node, .undo = start_old, .verify = node_stopped },

        { .name = "backup", .node = NODE_DOWN, .place = IN_FILES, .package_lock = true,
          .title = "back up what of configuration and data has changed since, with a manifest",
          .undo_title = "restore configuration and data from the backup",
          .apply = back_up_trees, .undo = restore_backup, .verify = backup_holds, .checks_itself = true },

        { .name = "remove", .node = NODE_DOWN, .place = IN_PACKAGES, .package_lock = true, .committing = true,
          .title = "uninstall the old version",
          .undo_title = "install the old version again",
          .apply = remove_old, .undo = install_old, .verify = old_absent },

        { .name = "install", .node = NODE_DOWN, .place = IN_PACKAGES, .package_lock = true, .committing = true,
          .title = "install the new version",
          .undo_title = "uninstall the new version",
          .apply = install_target, .undo = remove_target, .verify = target_installed },

        { .name = "restore", .node = NODE_DOWN, .place = IN_FILES, .committing = true,
          .title = "put configuration and data back",
          .undo_title = "set aside what the new version has written",
          .apply = carry_over, .undo = set_aside, .verify = carried_over, .checks_itself = true },

        { .name = "start", .node = NODE_UP, .place = IN_CONDUCTOR, .committing = true,
          .title = "start the new version and wait until it is ready",
          .undo_title = "stop the new version",
          .apply = start_target, .undo = stop_target, .verify = target_ready },

        { .name = "verify", .node = NODE_UP, .place = IN_CONDUCTOR, .committing = true,
          .title = "ask the node, systemd and an MQTT client whether all is well",
          .apply = accept_target },

        { .name = "undrain", .node = NODE_UP, .place = IN_CONDUCTOR, .committing = true,
          .title = "put the node back into the load balancer",
          .undo_title = "take the new version out of the load balancer",
          .apply = undrain_node, .undo = drain_again },

        { .name = "watch", .node = NODE_UP, .place = IN_CONDUCTOR, .committing = true,
          .title = "see whether it stays well while it serves",
          .apply = watch_node },

        { .name = "archive", .node = NODE_UP, .place = IN_FILES, .committing = true, .optional = true,
          .title = "make one archive of the backup, and remove backups that are not kept any longer",
          .undo_title = "extract the backup again",
          .apply = archive_backup, .undo = extract_backup },

        { .name = "commit", .node = NODE_UP, .place = IN_CONDUCTOR, .committing = true,
          .title = "clean up; the backup stays",
          .apply = clean_up },
};
/* clang-format on */

const size_t n_upgrade_steps = ELEMENTSOF(upgrade_steps);

const Step *step_find(const char *name) {
        for (size_t i = 0; i < n_upgrade_steps; i++)
                if (streq(upgrade_steps[i].name, name))
                        return &upgrade_steps[i];
        return NULL;
}

void step_report(Context *c, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = format_text(format, ap);
        va_end(ap);
        if (text)
                c->report(text, NULL, c->userdata);
}

void step_check(Context *c, const char *name, CheckOutcome outcome, const char *text, const char *advice) {
        static const Event events[_CHECK_KEPT_MAX] = {
                [CHECK_PASSED] = EVENT_CHECK_PASSED,
                [CHECK_WARNED] = EVENT_CHECK_WARNED,
                [CHECK_REFUSED] = EVENT_CHECK_REFUSED,
        };

        journal_event(&c->journal, events[outcome],
                        &(JournalFields){ .step = c->step,
                                        .check = name,
                                        .error = outcome == CHECK_REFUSED ? text : NULL },
                        "%s: %s%s%s", name, text, advice ? ". " : "", advice ?: "");
        (void) plan_keep_check(c->plan, c->step, name, outcome, text, advice); /* the journal has it in any case */
}

char *backup_path(const Plan *p, const char *suffix) {
        char *path;

        return asprintf(&path, STATE_DIR "/backups/%s%s", p->id, suffix ?: "") < 0 ? NULL : path;
}
