/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Time: microseconds everywhere. A span is `…_usec`, a point on CLOCK_MONOTONIC a `deadline_usec`, a point on
 * CLOCK_REALTIME `…_realtime_usec`. */

#include <inttypes.h>
#include <time.h>

#include "base/macro.h"

typedef uint64_t usec_t;

#define USEC_INFINITY UINT64_MAX
#define USEC_PER_MSEC ((usec_t) 1000)
#define USEC_PER_SEC ((usec_t) 1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MINUTE)
#define NSEC_PER_USEC 1000
#define TIMESPAN_TEXT_MAX 64

usec_t now_usec(clockid_t clock);

/* Of a time that is not before 1970. */
static inline usec_t timespec_usec(const struct timespec *t) {
        return (usec_t) t->tv_sec * USEC_PER_SEC + (usec_t) t->tv_nsec / NSEC_PER_USEC;
}

/* deadline_usec minus now on CLOCK_MONOTONIC, 0 when it has passed; USEC_INFINITY stays. */
usec_t usec_left(usec_t deadline_usec);

/* now on CLOCK_MONOTONIC plus span_usec, saturating. */
usec_t usec_from_now(usec_t span_usec);

/* "830 ms", "4.2 s", "3 min 20 s", "2 h 5 min". Returns buf. */
const char *format_timespan(char buf[static TIMESPAN_TEXT_MAX], usec_t span_usec);

/* "2026-11-23T12:02:19Z" of a CLOCK_REALTIME point. Returns buf. */
const char *format_realtime(char buf[static TIMESPAN_TEXT_MAX], usec_t realtime_usec);

/* systemd.time(7) spans: "90" (seconds), "5min", "1h 30min", "500ms", "infinity". -EINVAL, -ERANGE. */
int parse_timespan(const char *s, usec_t *ret_usec);
