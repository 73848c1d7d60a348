/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/where.h"

#include <stdarg.h>

#define PATH_SHOWN_MAX 1000

static const char *advice(int r) {
        switch (-r) {
        case ENOSPC:
        case EDQUOT: return "Make room on that file system and try again.";
        case EMFILE: return "The tree is very deep: raise LimitNOFILE=.";
        case EPERM:
                return "Where a file is immutable or append-only (lsattr -R shows it), take that away for the time of the upgrade: chattr -i, chattr -a.";
        case EBUSY: return "Find out what uses it while the node is stopped, for example with fuser(1).";
        case EROFS: return "Mount the file system writable.";
        case EIO: return "Look for disk errors in the kernel's log.";
        default: return NULL;
        }
}

WherePath where_path(int fd) {
        WherePath p = { "?" };
        char link[64];
        ssize_t n;

        (void) snprintf(link, sizeof(link), "/proc/self/fd/%i", fd);
        n = readlink(link, p.text, sizeof(p.text) - 1);
        if (n > 0)
                p.text[n] = 0;
        return p;
}

int where_error(Error *reterr, int r, int dir_fd, const char *path, const char *format, ...) {
        WherePath directory = where_path(dir_fd);
        _cleanup_free_ char *what = NULL, *text = NULL;
        va_list ap;
        int n;

        va_start(ap, format);
        what = format_text(format, ap);
        va_end(ap);
        if (!what)
                return error_set(reterr, r, advice(r), "%m");

        n = asprintf(&text, "%.*s%s%.*s: %s%s%s", PATH_SHOWN_MAX, directory.text, streq(path, ".") ? "" : "/",
                        PATH_SHOWN_MAX, streq(path, ".") ? "" : path, what, endswith(what, ":") ? " " : "",
                        endswith(what, ":") ? strerror(-r) : "");
        if (n < 0)
                return error_set(reterr, r, advice(r), "%m");
        for (char *p = text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 127)
                        *p = '?';

        return error_set(reterr, r, advice(r), "%s", text);
}
