/* SPDX-License-Identifier: Apache-2.0 */

#include "package/dpkg.h"

#include <ctype.h>
#include <dirent.h>

#define ASK_TIMEOUT_USEC (2 * USEC_PER_MINUTE)
#define REASON_BYTES_MAX 1500

static char *const quiet[] = {
        (char *) "DEBIAN_FRONTEND=noninteractive",
        (char *) "DPKG_COLORS=never",
        (char *) "DPKG_PAGER=cat",
        (char *) "DPKG_FRONTEND_LOCKED=1",
        NULL,
};

/* dpkg gives a reason as a line of its own name ("dpkg: error processing package emqx (--install):"), and says more in
 * indented lines below. What a maintainer script said last stands before it. */
typedef struct Reason {
        const PackageRun *run;
        char *text;
        char *last; /* line that was neither dpkg's nor its progress */
        bool inside;
} Reason;

static void reason_done(Reason *r) {
        free(r->text);
        free(r->last);
}

static void reason_add(Reason *r, const char *separator, const char *line) {
        char *joined;

        if (r->text && strlen(r->text) + strlen(line) > REASON_BYTES_MAX)
                return;
        if (asprintf(&joined, "%s%s%s", r->text ?: "", r->text ? separator : "", line) < 0)
                return;
        free(r->text);
        r->text = joined;
}

static bool is_progress(const char *line) {
        return endswith(line, " ...") || line[0] == '(';
}

static void on_line(const char *line, void *userdata) {
        Reason *r = userdata;

        if (r->run && r->run->on_line)
                r->run->on_line(line, r->run->userdata);

        if (r->inside && line[0] == ' ')
                reason_add(r, " ", line + strspn(line, " "));
        else if (startswith(line, "dpkg")) {
                r->inside = strstr(line, "error") || strstr(line, "dependency problems") ||
                                startswith(line, "dpkg: regarding ");
                if (r->inside)
                        reason_add(r, "; ", line);
        } else {
                r->inside = false;
                if (!is_progress(line) && line[0] != ' ' && !r->text)
                        (void) free_and_strdup(&r->last, line);
        }
}

int dpkg_run(char *const *argv, const PackageRun *run, const char *what, Error *reterr) {
        _cleanup_(reason_done) Reason reason = { .run = run };
        int r;

        r = process_run(argv, &(ProcessOptions){ .environment = quiet, .on_line = on_line, .userdata = &reason },
                        reterr);
        if (r > 0)
                return error_set(reterr, -EREMOTEIO, NULL, "%s failed with status %i: %s%s%s%s", what, r,
                                reason.text ?: "it does not say why", reason.last ? " (before that: " : "",
                                reason.last ?: "", reason.last ? ")" : "");
        return r;
}

int dpkg_ask(char *const *argv, char **ret_output, Error *reterr) {
        return process_capture(argv, &(ProcessOptions){ .environment = quiet, .timeout_usec = ASK_TIMEOUT_USEC },
                        ret_output, reterr);
}

bool dpkg_interrupted(void) {
        DIR *dir = opendir(DPKG_DIR "/updates");
        struct dirent *de;
        bool found = false;

        if (!dir)
                return false;
        while (!found && (de = readdir(dir)))
                found = isdigit((unsigned char) de->d_name[0]) && !de->d_name[strspn(de->d_name, "0123456789")];
        (void) closedir(dir);
        return found;
}
