/* SPDX-License-Identifier: Apache-2.0 */

#include "base/size.h"

#include <ctype.h>
#include <inttypes.h>

static const char units[] = "KMGTPE";

const char *format_size(char buf[static SIZE_TEXT_MAX], uint64_t size_bytes) {
        unsigned shift = 10;

        if (size_bytes < 1024) {
                (void) snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64 " B", size_bytes);
                return buf;
        }
        while (size_bytes >> shift >= 1024)
                shift += 10;
        (void) snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " %ciB", size_bytes >> shift,
                        ((size_bytes >> (shift - 10)) & 1023) * 10 / 1024, units[shift / 10 - 1]);
        return buf;
}

int parse_size(const char *s, uint64_t *ret_bytes) {
        unsigned long long number;
        const char *unit;
        uint64_t bytes;
        char *end;

        if (streq(s, "infinity")) {
                *ret_bytes = UINT64_MAX;
                return 0;
        }
        if (!isdigit((unsigned char) *s))
                return -EINVAL;
        errno = 0;
        number = strtoull(s, &end, 10);
        if (errno != 0)
                return -ERANGE;
        bytes = number;
        unit = *end ? strchr(units, *end) : NULL;
        if (*end && ((!unit && *end != 'B') || end[1]))
                return -EINVAL;
        for (const char *p = units; unit && p <= unit; p++)
                if (__builtin_mul_overflow(bytes, (uint64_t) 1024, &bytes))
                        return -ERANGE;
        *ret_bytes = bytes;
        return 0;
}
