/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/judge.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>

#include "archive/tree.h"
#include "base/fileio.h"
#include "bus/environment.h"
#include "bus/transient.h"
#include "bus/unit.h"
#include "node/conf.h"

#define JUDGE_DIR STATE_DIR "/judge"
#define SEEN_AS RUNTIME_DIR "/judge" /* where the program is shown to its runtime, since nobody may look into ours */
#define JUDGE_UNIT "emqx-upgrade-step-judge.service"
#define JUDGE_TIMEOUT_USEC (2 * USEC_PER_MINUTE)
#define LOADED_PLUGINS_BYTES_MAX (256 * 1024)
#define REASONS_MAX 12
#define HIDDEN_BYTES_MIN 3 /* shorter values ("on", "1") are no secrets, and are in every sentence */

/* Arguments: the runtime's escript, its cuttlefish, then a schema and a file for each that is to be checked. */
static const char script[] = "escript=$1 cuttlefish=$2 failed=0; shift 2; cd \"$1\" || exit; shift; "
                             "mkdir /tmp/judge || exit; while [ $# -gt 0 ]; do echo \"@ $2\"; "
                             "\"$escript\" \"$cuttlefish\" -i \"$1\" -c \"$2\" -d /tmp/judge generate || failed=1; "
                             "shift 2; done; exit $failed";

typedef struct Judge {
        Context *c;
        char **environment;
        Conf *conf; /* emqx.conf */
        char *conf_path;
        char **argv; /* of the script */
        unsigned n_plugins;
        char **reasons;
        char **keys; /* that no setting of the new release has */
} Judge;

static void judge_done(Judge *j) {
        j->environment = strv_free(j->environment);
        j->argv = strv_free(j->argv);
        j->reasons = strv_free(j->reasons);
        j->keys = strv_free(j->keys);
        j->conf = conf_free(j->conf);
        free(j->conf_path);
}

/* --- what is to be checked --- */

/* The first match of pattern below the extracted program, as its runtime sees it. NULL: none, or out of memory. */
static char *find_in_program(const char *pattern) {
        _cleanup_free_ char *full = NULL;
        char *found = NULL;
        glob_t g;

        if (asprintf(&full, JUDGE_DIR "/%s", pattern) < 0)
                return NULL;
        if (glob(full, GLOB_NOSORT, NULL, &g) == 0 &&
                        asprintf(&found, SEEN_AS "%s", g.gl_pathv[0] + strlen(JUDGE_DIR)) < 0)
                found = NULL;
        globfree(&g);
        return found;
}

/* A path that emqx.conf may set; what is relative is so to the program. */
static int conf_path_of(const Judge *j, const char *key, const char *fallback, char **ret, Error *reterr) {
        _cleanup_free_ char *value = NULL;
        int r;

        r = conf_value(j->conf, key, j->environment, &value, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                *ret = strdup(fallback);
        else if (*value == '/')
                *ret = TAKE_PTR(value);
        else if (asprintf(ret, "%s/%s", j->c->plan->root_dir, value) < 0)
                *ret = NULL;
        return *ret ? 0 : -ENOMEM;
}

/* One line of loaded_plugins: "{emqx_retainer, true}." or "emqx_retainer.". The name, cut out of line; NULL: not active. */
static char *active_plugin(char *line) {
        char *name = line + strspn(line, " \t{");
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@");
        const char *rest = name + n;

        if (n == 0 || *line == '%' || (strchr(line, '{') && !strstr(rest, "true")))
                return NULL;
        name[n] = 0;
        return name;
}

static int add_plugins(Judge *j, Error *reterr) {
        _cleanup_free_ char *fallback = NULL, *loaded = NULL, *dir_fallback = NULL, *dir = NULL, *text = NULL;
        const Plan *p = j->c->plan;
        char *rest;
        size_t size;
        int r;

        if (asprintf(&fallback, "%s/loaded_plugins", p->data_dir) < 0 ||
                        asprintf(&dir_fallback, "%s/plugins", p->etc_dir) < 0)
                return -ENOMEM;
        r = conf_path_of(j, "plugins.loaded_file", fallback, &loaded, reterr);
        if (r >= 0)
                r = conf_path_of(j, "plugins.etc_dir", dir_fallback, &dir, reterr);
        if (r < 0)
                return r;
        /* The default one has a slash at its end. */
        for (size_t n = strlen(dir); n > 1 && dir[n - 1] == '/'; n--)
                dir[n - 1] = 0;
        r = read_file_at(AT_FDCWD, loaded, LOADED_PLUGINS_BYTES_MAX, &text, &size);
        if (r == -ENOENT)
                return 0; /* then none is active */
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", loaded);

        rest = text;
        for (char *line; (line = strsep(&rest, "\n"));) {
                _cleanup_free_ char *pattern = NULL, *schema = NULL, *conf = NULL;
                const char *name = active_plugin(line);

                if (!name)
                        continue;
                if (asprintf(&pattern, "lib/%s-*/priv/%s.schema", name, name) < 0 ||
                                asprintf(&conf, "%s/%s.conf", dir, name) < 0)
                        return -ENOMEM;
                schema = find_in_program(pattern);
                if (!schema || access(conf, F_OK) < 0)
                        continue; /* configured in Erlang terms, or none of EMQX's own */
                if (strv_extend(&j->argv, schema) < 0 || strv_extend(&j->argv, conf) < 0)
                        return -ENOMEM;
                j->n_plugins++;
        }
        return 0;
}

static int find_files(Judge *j, Error *reterr) {
        _cleanup_free_ char *escript = find_in_program("erts-*/bin/escript"), *pattern = NULL, *schema = NULL;
        Plan *p = j->c->plan;

        if (asprintf(&pattern, "releases/%s/emqx.schema", p->to) < 0 ||
                        asprintf(&j->conf_path, "%s/emqx.conf", p->etc_dir) < 0)
                return -ENOMEM;
        schema = find_in_program(pattern);
        if (!escript || !schema)
                return error_set(reterr, -ENOEXEC, "Fetch the package again.",
                                "The package of %s has no %s that its configuration could be checked with", p->to,
                                escript ? "schema" : "runtime");
        if (strv_extend(&j->argv, "/bin/sh") < 0 || strv_extend(&j->argv, "-c") < 0 ||
                        strv_extend(&j->argv, script) < 0 || strv_extend(&j->argv, "judge") < 0 ||
                        strv_extend(&j->argv, escript) < 0 || strv_extend(&j->argv, SEEN_AS "/bin/cuttlefish") < 0 ||
                        strv_extend(&j->argv, p->root_dir) < 0 || strv_extend(&j->argv, schema) < 0 ||
                        strv_extend(&j->argv, j->conf_path) < 0)
                return -ENOMEM;
        return add_plugins(j, reterr);
}

/* --- what it says --- */

static int hide(char **text, const char *value) {
        char *at;

        if (strlen(value) < HIDDEN_BYTES_MIN)
                return 0;
        while ((at = strstr(*text, value))) {
                char *joined;

                if (asprintf(&joined, "%.*s…%s", (int) (at - *text), *text, at + strlen(value)) < 0)
                        return -ENOMEM;
                free(*text);
                *text = joined;
        }
        return 0;
}

/* A sentence of the new release about file, without any value that stands there. */
static int add_reason(Judge *j, const char *file, const char *sentence) {
        _cleanup_(conf_freep) Conf *other = NULL;
        _cleanup_free_ char *text = strdup(sentence), *whole = NULL;
        const Conf *conf = j->conf;
        int r = text ? 0 : -ENOMEM;

        if (!streq(file, j->conf_path) && conf_load(file, NULL, &other, NULL) >= 0)
                conf = other;
        for (size_t i = 0; conf_next_value(conf, i) && r >= 0; i++)
                r = hide(&text, conf_next_value(conf, i));
        if (r >= 0 && asprintf(&whole, "%s: %s", file, text) < 0)
                r = -ENOMEM;
        return r >= 0 && !strv_contains(j->reasons, whole) ? strv_extend(&j->reasons, whole) : r;
}

static int add_unknown_key(Judge *j, const char *file, const char *key) {
        _cleanup_(conf_freep) Conf *other = NULL;
        _cleanup_free_ char *whole = NULL;
        const Conf *conf = j->conf;
        const char *where = file;
        unsigned line = 0;

        if (strv_contains(j->keys, key))
                return 0;
        if (!streq(file, j->conf_path) && conf_load(file, NULL, &other, NULL) >= 0)
                conf = other;
        if (conf_where(conf, key, &where, &line) ? asprintf(&whole, "%s (%s:%u)", key, where, line) < 0
                                                 : asprintf(&whole, "%s (%s)", key, file) < 0)
                return -ENOMEM;
        if (strv_extend(&j->keys, key) < 0)
                return -ENOMEM;
        return strv_extend(&j->reasons, whole);
}

/* Its lines are "TIME [error] WHAT"; of an unknown key it says several things. */
static int read_answer(Judge *j, const char *output) {
        static const char unknown[] = "Conf file attempted to set unknown variable: ",
                          tried[] = "You've tried to set ";
        _cleanup_free_ char *file = strdup(j->conf_path), *text = strdup(output);
        char *rest = text;
        int r = file && text ? 0 : -ENOMEM;

        for (char *line; r >= 0 && (line = strsep(&rest, "\n"));) {
                const char *at = strstr(line, "[error] "), *key;

                if (startswith(line, "@ ")) {
                        r = free_and_strdup(&file, line + 2);
                        continue;
                }
                if (!at)
                        continue;
                at += strlen("[error] ");
                key = startswith(at, unknown);
                if (key)
                        r = add_unknown_key(j, file, key);
                else if (*at != ' ' && !startswith(at, tried) && !startswith(at, "Error generating configuration"))
                        r = add_reason(j, file, at);
        }
        return r;
}

/* The first release of 4.4 that knows what a late 4.3 has in its default configuration. */
static const struct {
        const char *key;
        unsigned patch;
} known_since[] = {
        { "node.dist_use_interface", 5 },
        { "mqtt.exclusive_subscription", 5 },
        { "auth_order", 11 },
        { "acl_order", 11 },
};

static int refuse(Judge *j, Error *reterr) {
        _cleanup_free_ char *text = NULL, *advice = NULL;
        unsigned patch = 0;

        for (size_t i = 0; i < ELEMENTSOF(known_since); i++)
                if (strv_contains(j->keys, known_since[i].key))
                        patch = MAX(patch, known_since[i].patch);
        if (patch > 0 &&
                        asprintf(&advice,
                                        "Take 4.4.%u or later, which knows what your 4.3 has, or take out what is a default.",
                                        patch) < 0)
                return -ENOMEM;
        if (strv_length(j->reasons) > REASONS_MAX) {
                for (size_t i = REASONS_MAX; j->reasons[i]; i++)
                        j->reasons[i] = mfree(j->reasons[i]);
                if (strv_extend(&j->reasons, "…") < 0)
                        return -ENOMEM;
        }
        text = strv_join(j->reasons, "; ");
        return !text ? -ENOMEM
                     : error_set(reterr, -ECANCELED,
                                       advice ?: "Change it so that both versions take it; the node runs on meanwhile.",
                                       "%s does not accept the configuration: %s%s", j->c->plan->to,
                                       strv_length(j->keys) > 0 ? "it has no setting " : "", text);
}

/* --- asking --- */

static int ask(Judge *j, Error *reterr) {
        Context *c = j->c;
        _cleanup_free_ char *output = NULL, *last = NULL;
        _cleanup_strv_ char **fields = NULL;
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        int r, status = 0;

        if (environment_set(&j->environment, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") <
                                        0 ||
                        environment_set(&j->environment, "CUTTLEFISH_ENV_OVERRIDE_PREFIX", "EMQX_") < 0 ||
                        strv_extendf(&fields, "EMQX_UPGRADE_ID=%s", c->plan->id) < 0)
                return -ENOMEM;
        unit.name = JUDGE_UNIT;
        unit.description = "EMQX Upgrade: the new version's check of the configuration";
        unit.argv = j->argv;
        unit.environment = j->environment;
        unit.log_extra_fields = fields;
        unit.user = c->plan->user;
        unit.slice = "emqx-upgrade.slice";
        unit.sandboxed = unit.quick =
                        true; /* a runtime that compiles at run time wants memory that is written and run */
        unit.private_network = unit.private_tmp = unit.idle = true;
        unit.capabilities = STRV_MAKE(NULL);
        unit.bind_read_only_paths = STRV_MAKE(JUDGE_DIR ":" SEEN_AS);
        r = transient_capture(c->manager, &unit, JUDGE_TIMEOUT_USEC, &output, &status, reterr);
        if (r < 0 || status == 0)
                return r;
        r = read_answer(j, output);
        if (r < 0)
                return r;
        if (strv_length(j->reasons) > 0)
                return refuse(j, reterr);
        /* It did not come to the configuration. What it printed is the runtime's own, but may be anything. */
        for (char *line, *rest = output; (line = strsep(&rest, "\n"));)
                if (*line && !startswith(line, "@ ") && free_and_strdup(&last, line) < 0)
                        return -ENOMEM;
        for (size_t i = 0; last && conf_next_value(j->conf, i); i++)
                if (hide(&last, conf_next_value(j->conf, i)) < 0)
                        return -ENOMEM;
        return error_set(reterr, -ENOEXEC,
                        "Look whether this host has the libraries that it needs, such as libcrypto.",
                        "The runtime of %s does not run on this host (status %i): %s", c->plan->to, status,
                        last ?: "it does not say why");
}

static int remove_program(Error *reterr) {
        _cleanup_close_ int fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        (void) rmdir(SEEN_AS);
        return fd < 0 ? error_set(reterr, -errno, NULL, "Cannot open %s: %m", STATE_DIR)
                      : tree_remove(fd, "judge", reterr);
}

static int extract_program_aside(Context *c, const Package *target, Error *reterr) {
        const PackageKind *kind = package_kind_find(c->plan->kind);
        _cleanup_close_ int fd = -1;
        int r;

        r = remove_program(reterr); /* an earlier run may have been killed */
        if (r < 0)
                return r;
        if (mkdir(JUDGE_DIR, 0755) < 0 || chmod(JUDGE_DIR, 0755) < 0)
                return error_set(reterr, -errno, NULL, "Cannot make %s: %m", JUDGE_DIR);
        fd = open(JUDGE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", JUDGE_DIR);
        return kind->extract(target, kind->default_root_dir, fd, reterr);
}

int judge_configuration(Context *c, const Package *target, char **ret_text, Error *reterr) {
        _cleanup_(judge_done) Judge j = { .c = c };
        _cleanup_free_ char *conf_path = NULL;
        int r, q;

        if (asprintf(&conf_path, "%s/emqx.conf", c->plan->etc_dir) < 0)
                return -ENOMEM;
        r = unit_environment(c->manager, c->plan->unit, &j.environment, reterr);
        if (r >= 0)
                r = conf_load(conf_path, c->plan->root_dir, &j.conf, reterr);
        if (r < 0)
                return r;
        r = extract_program_aside(c, target, reterr);
        if (r >= 0)
                r = find_files(&j, reterr);
        if (r >= 0)
                r = ask(&j, reterr);
        q = remove_program(r < 0 ? NULL : reterr);
        if (r >= 0)
                r = q;
        if (r >= 0 &&
                        asprintf(ret_text, "%s accepts %s and the files of %u active plugins", c->plan->to, conf_path,
                                        j.n_plugins) < 0)
                r = -ENOMEM;
        return r < 0 ? r : 0;
}
