/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/hold.h"

#include <fcntl.h>

#include "base/fileio.h"

int hold_set(Context *c, Error *reterr) {
        _cleanup_free_ char *text = NULL;
        int r, n;

        if (access(HOLD_PATH, F_OK) >= 0)
                return 0;

        n = asprintf(&text,
                        "emqx-upgrade is taking this node to %s (%s).\n"
                        "While this file exists, %s cannot be started. See: emqx-upgrade status\n",
                        c->plan->to, c->plan->id, c->plan->unit);
        if (n < 0)
                return -ENOMEM;
        r = replace_file_at(AT_FDCWD, HOLD_PATH, text, (size_t) n, 0600);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot write the hold file %s: %m", HOLD_PATH);
        journal_event(&c->journal, EVENT_HOLD_SET, &(JournalFields){ .step = c->step },
                        "%s is held: nobody can start it until this upgrade says so", c->plan->unit);
        return 0;
}

int hold_lift(Context *c, Error *reterr) {
        int r;

        if (access(HOLD_PATH, F_OK) < 0 && errno == ENOENT)
                return 0;

        r = remove_file_at(AT_FDCWD, HOLD_PATH);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot remove the hold file %s: %m", HOLD_PATH);
        journal_event(&c->journal, EVENT_HOLD_LIFTED, &(JournalFields){ .step = c->step }, "%s may be started again",
                        c->plan->unit);
        return 0;
}
