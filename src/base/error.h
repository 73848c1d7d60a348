/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Error: what an operator is told when something fails: what was tried, on what, what happened, and what to do.
 *
 * The layers below steps do not log; a function that can fail for a reason an operator must understand takes
 * `Error *reterr` and fills it once, where the reason is known:
 *
 *         return error_set(reterr, -EBADMSG, "Fetch the package again.", "%s: not a Debian package: %s", path, why);
 *
 * reterr may be NULL. The first cause wins: error_set() on an Error that has a message leaves it alone. */

#include "base/macro.h"

typedef struct Error {
        char *message; /* one sentence without its full stop, no line break; NULL: nothing failed */
        char *advice;  /* what the operator should do, full sentences; NULL: nothing sensible */
} Error;

#define ERROR_NULL ((Error){ NULL, NULL })

void error_done(Error *e);

/* Is r (negative errno), so that it can stand in a return statement. %m works: errno is set to -r while the message is
 * formatted. e and advice may be NULL. */
#define error_set(e, r, advice, ...)                                                                                  \
        ({                                                                                                            \
                int _error = (r);                                                                                     \
                assert(_error < 0);                                                                                   \
                error_set_full(e, _error, advice, __VA_ARGS__);                                                       \
                _error;                                                                                               \
        })

void error_set_full(Error *e, int r, const char *advice, const char *format, ...) _printf_(4, 5);

/* e->message, or strerror(-r) where it has none. */
const char *error_text(const Error *e, int r);
