/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/whereabouts.h"

#include "steps/backup.h"
#include "steps/hold.h"
#include "steps/packages.h"

/* "install the old version again, then restore …"; NULL: nothing, or out of memory. */
static char *still_to_undo(const Txn *t) {
        _cleanup_free_ char *text = NULL;

        for (size_t i = t->n_steps; i-- > 0;) {
                const Step *step = step_find(t->steps[i].name);
                char *longer;

                if (!step || !step->undo || t->steps[i].state == STEP_TODO || t->steps[i].state == STEP_UNDONE)
                        continue;
                if (asprintf(&longer, "%s%s%s", text ?: "", text ? ", then " : "", step->undo_title) < 0)
                        return NULL;
                free(text);
                text = longer;
        }
        return TAKE_PTR(text);
}

char *whereabouts(const Txn *t, Context *c) {
        const Plan *p = t->plan;
        _cleanup_free_ char *data = NULL, *left = still_to_undo(t);
        const char *installed = NULL;
        size_t backup = txn_find(t, "backup");
        char *text;

        if (package_is_installed(c, p->from, NULL) > 0)
                installed = p->from;
        else if (package_is_installed(c, p->to, NULL) > 0)
                installed = p->to;

        if (backup_complete(p) <= 0) /* so nothing behind `backup` was begun */
                data = strdup("configuration and data are in their places, and were not touched");
        else if (asprintf(&data,
                                 "configuration and data of before are in %1$s/tree%2$s, the packages in %1$s/packages, what "
                                 "%3$s has written in %1$s/after",
                                 STATE_DIR "/backups/ID",
                                 backup != SIZE_MAX && t->steps[backup].state == STEP_UNDONE
                                                 ? " and back in their places"
                                                 : "",
                                 p->to) < 0)
                return NULL;

        if (!data ||
                        asprintf(&text, "%s%s is installed; %s (ID is %s); %s%s. Still to be done: %s",
                                        installed ? "EMQX " : "no version of EMQX", installed ?: "", data, p->id,
                                        p->unit ?: "emqx.service",
                                        access(HOLD_PATH, F_OK) >= 0 ? " cannot start while " HOLD_PATH " exists"
                                                                     : " is not held",
                                        left ?: "nothing") < 0)
                return NULL;
        return text;
}
