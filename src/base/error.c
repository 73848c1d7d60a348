/* SPDX-License-Identifier: Apache-2.0 */

#include "base/error.h"

#include <stdarg.h>

void error_done(Error *e) {
        assert(e);

        e->message = mfree(e->message);
        e->advice = mfree(e->advice);
}

void error_set_full(Error *e, int r, const char *advice, const char *format, ...) {
        va_list ap;
        char *message;

        if (!e || e->message)
                return;

        errno = -r;
        va_start(ap, format);
        message = format_text(format, ap);
        va_end(ap);

        e->message = message;
        (void) free_and_strdup(&e->advice, advice);
}

const char *error_text(const Error *e, int r) {
        return e && e->message ? e->message : strerror(r < 0 ? -r : r);
}
