/* SPDX-License-Identifier: Apache-2.0 */

#include "package/rpm-run.h"

#include "base/lock.h"

#define ASK_TIMEOUT_USEC (2 * USEC_PER_MINUTE)
#define LOCK_LOOK_USEC (USEC_PER_SEC / 2)
#define REASON_BYTES_MAX 1500

/* rpm gives a reason as a line "error: …", and says more in indented lines below, sometimes in these alone. What a
 * scriptlet said last stands before it. */
typedef struct Reason {
        const PackageRun *run;
        char *text;
        char *last;    /* line that was neither rpm's nor its progress */
        char *warning; /* "%post(emqx-4.4.0-1.x86_64) scriptlet failed, exit status 1" */
        bool refused;  /* another process has its lock */
        bool missing;  /* dependencies of the package */
        bool other;    /* anything else */
} Reason;

static void reason_done(Reason *r) {
        r->text = mfree(r->text);
        r->last = mfree(r->last);
        r->warning = mfree(r->warning);
}

static void reason_add(Reason *r, const char *line) {
        char *joined;

        if (r->text && strlen(r->text) + strlen(line) > REASON_BYTES_MAX)
                return;
        if (asprintf(&joined, "%s%s%s", r->text ?: "", !r->text ? "" : endswith(r->text, ":") ? " " : "; ", line) < 0)
                return;
        free(r->text);
        r->text = joined;
}

/* "nothing-like-it >= 1.2 is needed by emqx-4.4.0-1.x86_64"; "(installed)" stands before others that would miss what
 * is there now. */
static bool is_missing_dependency(const char *line) {
        return strstr(line, " is needed by ") && !strstr(line, " is needed by (installed) ");
}

static bool is_progress(const char *line) {
        return endswith(line, "...") || startswith(line, "warning: ");
}

static void on_line(const char *line, void *userdata) {
        Reason *r = userdata;
        const char *rest;

        /* The outcome is what an erasure is for, and it is one line per file after one that was broken off. */
        if (startswith(line, "warning: file ") && endswith(line, ": remove failed: No such file or directory"))
                return;
        if (startswith(line, "error: can't create transaction lock on ") &&
                        strstr(line, "(Resource temporarily unavailable)")) {
                r->refused = true;
                reason_add(r, line + strlen("error: "));
                return;
        }
        if (r->run && r->run->on_line)
                r->run->on_line(line, r->run->userdata);

        if ((rest = startswith(line, "error: "))) {
                reason_add(r, rest);
                r->other = r->other || !streq(rest, "Failed dependencies:");
        } else if (line[0] == '\t' || line[0] == ' ') {
                rest = line + strspn(line, "\t ");
                reason_add(r, rest);
                if (is_missing_dependency(rest))
                        r->missing = true;
                else
                        r->other = true;
        } else if ((rest = startswith(line, "warning: ")) && rest[0] == '%' && strstr(rest, " scriptlet failed")) {
                if (!r->warning)
                        r->warning = strdup(rest);
        } else if (!is_progress(line) && !r->text && !r->warning)
                (void) free_and_strdup(&r->last, line);
}

/* Until nobody has rpm's lock, as far as that can be seen. The caller tries again all the same. */
static void wait_for_lock(const PackageRun *run, pid_t *said_holder) {
        _cleanup_free_ char *path = NULL;
        pid_t holder;

        if (rpm_eval("%{_rpmlock_path}", &path, NULL) < 0)
                path = mfree(path);
        do {
                holder = path ? lock_holder(path) : 0;
                if (holder > 0 && holder != *said_holder) {
                        char name[32], line[128];

                        *said_holder = holder;
                        (void) snprintf(line, sizeof(line), "Waiting for %s (process %i) to release the lock of rpm",
                                        process_name(name, holder), holder);
                        if (run->on_line)
                                run->on_line(line, run->userdata);
                }
                (void) usleep(LOCK_LOOK_USEC);
        } while (holder > 0);
}

int rpm_run(char *const *argv, const PackageRun *run, const char *what, char **ret_warning, Error *reterr) {
        pid_t said_holder = 0;

        for (;;) {
                _cleanup_(reason_done) Reason reason = { .run = run };
                int r;

                r = process_run(argv, &(ProcessOptions){ .on_line = on_line, .userdata = &reason }, reterr);
                if (r > 0 && reason.refused && run) {
                        wait_for_lock(run, &said_holder);
                        continue;
                }
                if (r > 0)
                        return error_set(reterr, reason.missing && !reason.other ? -ENOPKG : -EREMOTEIO, NULL,
                                        "%s failed with status %i: %s%s%s%s", what, r,
                                        reason.text ?: "it does not say why", reason.last ? " (before that: " : "",
                                        reason.last ?: "", reason.last ? ")" : "");
                if (r == 0 && ret_warning && reason.warning &&
                                asprintf(ret_warning, "%s%s%s%s", reason.warning, reason.last ? " (before that: " : "",
                                                reason.last ?: "", reason.last ? ")" : "") < 0)
                        return -ENOMEM;
                return r;
        }
}

int rpm_ask(char *const *argv, char **ret_output, Error *reterr) {
        return process_capture(argv, &(ProcessOptions){ .timeout_usec = ASK_TIMEOUT_USEC }, ret_output, reterr);
}

int rpm_eval(const char *macro, char **ret, Error *reterr) {
        _cleanup_free_ char *output = NULL;
        int r;

        r = rpm_ask(STRV_MAKE(RPM, "--eval", macro), &output, reterr);
        if (r < 0)
                return r;
        output[strcspn(output, "\n")] = 0;
        if (r > 0 || !*output || output[0] == '%')
                return error_set(
                                reterr, -EREMOTEIO, NULL, "rpm --eval %s failed with status %i: %s", macro, r, output);
        *ret = TAKE_PTR(output);
        return 0;
}

int rpm_database(const char **ret, Error *reterr) {
        /* SQLite; Berkeley DB (el7, el8); NDB. */
        static const char *const files[] = { "rpmdb.sqlite", "Packages", "Packages.db" };
        static char *dir = NULL; /* the same as long as we run; asked for with the node down */
        int r;

        if (!dir) {
                r = rpm_eval("%{_dbpath}", &dir, reterr);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/%s", dir, files[i]) < 0)
                        return -ENOMEM;
                if (access(path, F_OK) < 0)
                        continue;
                if (ret)
                        *ret = dir;
                return 1;
        }
        return 0;
}

int rpm_is_debians(void) {
        _cleanup_free_ char *output = NULL;
        int r = rpm_ask(STRV_MAKE(RPM, "--help"), &output, NULL);

        return r < 0 ? r : strstr(output, "--force-debian") != NULL;
}
