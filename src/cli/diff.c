/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/diff.h"

#include <fcntl.h>

#include "cli/verbs.h"

static int load(const char *id, Txn **ret, Error *reterr) {
        _cleanup_close_ int state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r;

        if (state_fd < 0)
                return error_set(reterr, -errno, "Run it as root.", "Cannot open %s: %m", STATE_DIR);
        if (!streq(id, "last"))
                r = txn_load_history(state_fd, id, ret, reterr);
        else {
                r = txn_load(state_fd, ret, reterr);
                if (r == 0)
                        r = txn_load_last_made(state_fd, ret);
        }
        return r == -ENOENT ? error_set(reterr, r, "See: emqx-upgrade history",
                                              "There is no upgrade '%.64s' on this host", id)
                            : r;
}

ExitStatus verb_diff(char **args) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(txn_freep) Txn *t = NULL;
        _cleanup_free_ char *text = NULL;
        const char *id = args[0] ?: "last";
        int r;

        if (!is_upgrade_id(id))
                return EXIT_USAGE;
        r = load(id, &t, &error);
        if (r >= 0)
                r = configuration_diff(t->plan, &text, &error);
        if (r < 0)
                return say_error(&error, r, EXIT_INTERRUPTED);
        (void) fputs(text, stdout);
        return EXIT_DONE;
}
