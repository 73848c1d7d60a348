/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/checks.h"

static void journal_check(
                const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata) {
        static const Event events[] = {
                [CHECK_PASSED] = EVENT_CHECK_PASSED,
                [CHECK_WARNED] = EVENT_CHECK_WARNED,
                [CHECK_REFUSED] = EVENT_CHECK_REFUSED,
        };
        const Context *c = userdata;

        if (outcome == CHECK_NOT_MADE)
                return;
        journal_event(&c->journal, events[outcome],
                        &(JournalFields){ .step = c->step,
                                        .check = name,
                                        .error = outcome == CHECK_REFUSED ? text : NULL },
                        "%s: %s%s%s", name, text, advice ? ". " : "", advice ?: "");
}

int inspect_apply(Context *c, Error *reterr) {
        return checks_run(c, journal_check, c, reterr);
}
