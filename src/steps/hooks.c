/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/hooks.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "bus/transient.h"

#define HOOK_UNIT "emqx-upgrade-step-hook.service"
#define EXIT_TEMPFAIL 75 /* EX_TEMPFAIL of sysexits.h */
#define RETRY_USEC (2 * USEC_PER_SEC)

/* As run-parts(8), and with dots, but not what editors and package managers leave. */
static int is_hook(const struct dirent *de) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
        static const char *const left[] = { ".bak", ".dpkg-dist", ".dpkg-new", ".dpkg-old", ".rpmnew", ".rpmorig",
                ".rpmsave", ".swp" };

        if (de->d_name[0] == '.' || de->d_name[strspn(de->d_name, allowed)])
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(left); i++)
                if (endswith(de->d_name, left[i]))
                        return 0;
        return 1;
}

/* 1: to be run; 0: not executable, which is how one is switched off. What others can write to, root does not run. */
static int look_at(const char *path, Error *reterr) {
        struct stat st;

        if (stat(path, &st) < 0)
                return error_set(reterr, -errno, NULL, "Cannot look at the hook %s: %m", path);
        if (!S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0)
                return 0;
        if (st.st_uid != 0 || (st.st_mode & 022) != 0)
                return error_set(reterr, -EPERM, "chown root, chmod go-w; or chmod a-x, to switch it off.",
                                "The hook %s can be written to by others than root", path);
        return 1;
}

static int hook_environment(const Context *c, const char *event, char ***ret) {
        _cleanup_strv_ char **l = NULL;
        const Plan *p = c->plan;

        if (strv_extendf(&l, "EMQX_UPGRADE_ID=%s", p->id) < 0 ||
                        strv_extendf(&l, "EMQX_UPGRADE_FROM=%s", p->from) < 0 ||
                        strv_extendf(&l, "EMQX_UPGRADE_TO=%s", p->to) < 0 ||
                        strv_extendf(&l, "EMQX_UPGRADE_HOOK=%s", event) < 0 ||
                        strv_extendf(&l, "EMQX_UPGRADE_NODE=%s", p->node_name ?: "") < 0 ||
                        strv_extendf(&l, "EMQX_UPGRADE_MQTT_HOST=%s", p->mqtt_host ?: "") < 0 ||
                        strv_extendf(&l, "EMQX_UPGRADE_MQTT_PORT=%" PRIu64, p->mqtt_port) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(l);
        return 0;
}

static void relay(Context *c, char *output) {
        for (char *line; (line = strsep(&output, "\n"));)
                if (*line)
                        journal_event(&c->journal, EVENT_STEP_OUTPUT, &(JournalFields){ .step = c->step }, "%s", line);
}

static int never(void *userdata) {
        (void) userdata;
        return 0;
}

static int run_hook(Context *c, const char *path, const char *event, Error *reterr) {
        usec_t deadline_usec = usec_from_now(c->config->hook_timeout_usec);
        _cleanup_strv_ char **environment = NULL;
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        char span[TIMESPAN_TEXT_MAX];
        int r, status;

        r = hook_environment(c, event, &environment);
        if (r < 0)
                return r;
        unit.name = HOOK_UNIT;
        unit.description = "EMQX Upgrade: a hook";
        unit.argv = STRV_MAKE(path, event);
        unit.environment = environment;
        unit.slice = "emqx-upgrade.slice";

        for (;;) {
                _cleanup_free_ char *output = NULL;
                usec_t now = now_usec(CLOCK_MONOTONIC);

                step_report(c, "%s %s", path, event);
                r = now >= deadline_usec
                                ? -ETIMEDOUT
                                : transient_capture(c->manager, &unit, deadline_usec - now, &output, &status, reterr);
                if (output)
                        relay(c, output);
                if (r == -ETIMEDOUT) {
                        error_done(reterr);
                        return error_set(reterr, -ECANCELED, NULL, "The hook `%s %s` took longer than %s", path, event,
                                        format_timespan(span, c->config->hook_timeout_usec));
                }
                if (r < 0)
                        return r;
                if (status == 0)
                        return 0;
                if (status != EXIT_TEMPFAIL)
                        return error_set(reterr, -ECANCELED, NULL, "The hook `%s %s` failed with status %i", path,
                                        event, status);
                r = manager_wait(c->manager, never, NULL, usec_from_now(RETRY_USEC));
                if (r < 0 && r != -ETIMEDOUT)
                        return r;
        }
}

int hooks_run(Context *c, const char *event, Error *reterr) {
        struct dirent **files = NULL;
        int n, r = 0, n_run = 0;

        n = scandir(HOOKS_DIR, &files, is_hook, alphasort);
        if (n < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot read %s: %m", HOOKS_DIR);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL;

                if (r >= 0)
                        r = asprintf(&path, HOOKS_DIR "/%s", files[i]->d_name) < 0 ? -ENOMEM : look_at(path, reterr);
                if (r > 0) {
                        r = run_hook(c, path, event, reterr);
                        n_run += r >= 0;
                }
                free(files[i]);
        }
        free(files);
        return r < 0 ? r : n_run;
}
