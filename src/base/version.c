/* SPDX-License-Identifier: Apache-2.0 */

#include "base/version.h"

#include <ctype.h>

#define COMPONENT_DIGITS_MAX 3

static int component_parse(const char **s, unsigned *ret) {
        unsigned value = 0, digits = 0;
        const char *p = *s;

        for (; isdigit((unsigned char) *p); p++, digits++) {
                if (digits == COMPONENT_DIGITS_MAX || (digits > 0 && value == 0))
                        return -EINVAL;
                value = value * 10 + (unsigned) (*p - '0');
        }
        if (digits == 0)
                return -EINVAL;
        *s = p;
        *ret = value;
        return 0;
}

int version_parse(const char *s, Version *ret) {
        unsigned parts[3];

        assert(s);
        assert(ret);

        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                if (i > 0 && *s++ != '.')
                        return -EINVAL;
                if (component_parse(&s, &parts[i]) < 0)
                        return -EINVAL;
        }
        if (*s)
                return -EINVAL;

        *ret = (Version){ parts[0], parts[1], parts[2] };
        return 0;
}

static int compare(unsigned a, unsigned b) {
        return (a > b) - (a < b);
}

int version_compare(const Version *a, const Version *b) {
        int r;

        assert(a);
        assert(b);

        r = compare(a->major, b->major);
        if (r == 0)
                r = compare(a->minor, b->minor);
        return r == 0 ? compare(a->patch, b->patch) : r;
}

const char *version_format(char buf[static VERSION_TEXT_MAX], const Version *v) {
        (void) snprintf(buf, VERSION_TEXT_MAX, "%u.%u.%u", v->major, v->minor, v->patch);
        return buf;
}
