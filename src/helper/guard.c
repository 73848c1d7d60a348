/* SPDX-License-Identifier: Apache-2.0 */

#include "helper/guard.h"

#include <stdlib.h>

#include "base/macro.h"
#include "base/strv.h"

static const char *const editions[] = { "emqx", "emqx-ee", "emqx-edge" };

/* "4.3.12", "4.3.12-1": the release line that a version of a package belongs to. */
static bool parse_line(const char *version, unsigned *ret_major, unsigned *ret_minor) {
        return sscanf(version, "%3u.%3u.", ret_major, ret_minor) == 2;
}

/* name, version, architecture, multi-arch, direction, version, architecture, multi-arch, file or **CONFIGURE**, **REMOVE**. */
static int judge(const char *line, Error *reterr) {
        char name[64], from[64], to[64];
        unsigned from_major, from_minor, to_major, to_minor;

        if (sscanf(line, "%63s %63s %*s %*s %*s %63s", name, from, to) != 3)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(editions); i++) {
                if (!streq(name, editions[i]) || !parse_line(from, &from_major, &from_minor) ||
                                !parse_line(to, &to_major, &to_minor) ||
                                (from_major == to_major && from_minor == to_minor))
                        continue;
                return error_set(reterr, -EPERM,
                                "Do it with: systemctl start emqx-upgrade@VERSION.service, or emqx-upgrade rollback. "
                                "To do the rest without it: apt-mark hold PACKAGE. "
                                "To do it all the same: apt -o EmqxUpgrade::Guard=no ...",
                                "%s %s would become %s without a backup and without a way back, which "
                                "RefuseOtherUpgrades=yes in emqx-upgrade.conf(5) forbids",
                                name, from, to);
        }
        return 0;
}

int guard_read(FILE *in, Error *reterr) {
        bool packages = false, off = false, version_3 = false;
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;
        ssize_t n;
        int r = 0;

        while ((n = getline(&line, &allocated, in)) >= 0) {
                line[strcspn(line, "\n")] = 0;
                if (packages) {
                        if (r == 0 && version_3 && !off)
                                r = judge(line, reterr);
                } else if (!*line)
                        packages = true;
                else if (streq(line, "VERSION 3"))
                        version_3 = true;
                else if (startswith(line, "EmqxUpgrade::Guard="))
                        off = streq(line, "EmqxUpgrade::Guard=no") || streq(line, "EmqxUpgrade::Guard=false");
        }
        return r;
}
