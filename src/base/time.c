/* SPDX-License-Identifier: Apache-2.0 */

#include "base/time.h"

#include <ctype.h>

usec_t now_usec(clockid_t clock) {
        struct timespec ts;

        if (clock_gettime(clock, &ts) < 0)
                abort(); /* only an unknown clock can fail */
        return (usec_t) ts.tv_sec * USEC_PER_SEC + (usec_t) ts.tv_nsec / NSEC_PER_USEC;
}

usec_t usec_left(usec_t deadline_usec) {
        usec_t now;

        if (deadline_usec == USEC_INFINITY)
                return USEC_INFINITY;
        now = now_usec(CLOCK_MONOTONIC);
        return deadline_usec > now ? deadline_usec - now : 0;
}

usec_t usec_from_now(usec_t span_usec) {
        usec_t now = now_usec(CLOCK_MONOTONIC);

        return span_usec >= USEC_INFINITY - now ? USEC_INFINITY : now + span_usec;
}

const char *format_timespan(char buf[static TIMESPAN_TEXT_MAX], usec_t span_usec) {
        if (span_usec == USEC_INFINITY)
                (void) snprintf(buf, TIMESPAN_TEXT_MAX, "infinity");
        else if (span_usec < USEC_PER_SEC)
                (void) snprintf(buf, TIMESPAN_TEXT_MAX, "%" PRIu64 " ms", span_usec / USEC_PER_MSEC);
        else if (span_usec < USEC_PER_MINUTE)
                (void) snprintf(buf, TIMESPAN_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " s", span_usec / USEC_PER_SEC,
                                span_usec % USEC_PER_SEC / (USEC_PER_SEC / 10));
        else if (span_usec < USEC_PER_HOUR)
                (void) snprintf(buf, TIMESPAN_TEXT_MAX, "%" PRIu64 " min %" PRIu64 " s", span_usec / USEC_PER_MINUTE,
                                span_usec % USEC_PER_MINUTE / USEC_PER_SEC);
        else
                (void) snprintf(buf, TIMESPAN_TEXT_MAX, "%" PRIu64 " h %" PRIu64 " min", span_usec / USEC_PER_HOUR,
                                span_usec % USEC_PER_HOUR / USEC_PER_MINUTE);
        return buf;
}

const char *format_realtime(char buf[static TIMESPAN_TEXT_MAX], usec_t realtime_usec) {
        time_t seconds = (time_t) (realtime_usec / USEC_PER_SEC);
        struct tm tm;

        if (!gmtime_r(&seconds, &tm) || strftime(buf, TIMESPAN_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
                buf[0] = 0;
        return buf;
}

/* systemd.time(7) */
static const struct {
        const char *name;
        usec_t usec;
} units[] = {
        { "usec", 1 },
        { "us", 1 },
        { "msec", USEC_PER_MSEC },
        { "ms", USEC_PER_MSEC },
        { "seconds", USEC_PER_SEC },
        { "second", USEC_PER_SEC },
        { "sec", USEC_PER_SEC },
        { "s", USEC_PER_SEC },
        { "minutes", USEC_PER_MINUTE },
        { "minute", USEC_PER_MINUTE },
        { "min", USEC_PER_MINUTE },
        { "m", USEC_PER_MINUTE },
        { "hours", USEC_PER_HOUR },
        { "hour", USEC_PER_HOUR },
        { "hr", USEC_PER_HOUR },
        { "h", USEC_PER_HOUR },
        { "days", 24 * USEC_PER_HOUR },
        { "day", 24 * USEC_PER_HOUR },
        { "d", 24 * USEC_PER_HOUR },
        { "weeks", 7 * 24 * USEC_PER_HOUR },
        { "week", 7 * 24 * USEC_PER_HOUR },
        { "w", 7 * 24 * USEC_PER_HOUR },
        { "months", 2629800 * USEC_PER_SEC }, /* systemd.time(7) */
        { "month", 2629800 * USEC_PER_SEC },
        { "M", 2629800 * USEC_PER_SEC },
        { "years", 31557600 * USEC_PER_SEC },
        { "year", 31557600 * USEC_PER_SEC },
        { "y", 31557600 * USEC_PER_SEC },
};

static int unit_usec(const char *s, size_t n, usec_t *ret) {
        if (n == 0) {
                *ret = USEC_PER_SEC;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (strlen(units[i].name) == n && memcmp(units[i].name, s, n) == 0) {
                        *ret = units[i].usec;
                        return 0;
                }
        return -EINVAL;
}

int parse_timespan(const char *s, usec_t *ret_usec) {
        usec_t sum = 0;
        bool any = false;

        assert(s);
        assert(ret_usec);

        if (streq(s, "infinity")) {
                *ret_usec = USEC_INFINITY;
                return 0;
        }

        for (;;) {
                unsigned long long number;
                usec_t unit, product;
                size_t n;
                char *end;
                int r;

                s += strspn(s, " \t");
                if (!*s)
                        break;
                if (!isdigit((unsigned char) *s))
                        return -EINVAL;

                errno = 0;
                number = strtoull(s, &end, 10);
                if (errno != 0)
                        return -ERANGE;
                s = end + strspn(end, " \t");

                n = strspn(s, "abcdefghijklmnopqrstuvwxyzM");
                r = unit_usec(s, n, &unit);
                if (r < 0)
                        return r;
                s += n;

                if (__builtin_mul_overflow((usec_t) number, unit, &product) ||
                                __builtin_add_overflow(sum, product, &sum) || sum == USEC_INFINITY)
                        return -ERANGE;
                any = true;
        }

        if (!any)
                return -EINVAL;
        *ret_usec = sum;
        return 0;
}
