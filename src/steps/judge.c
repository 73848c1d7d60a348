/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/judge.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "bus/transient.h"
#include "bus/unit.h"
#include "node/setup.h"
#include "steps/adapt.h"
#include "steps/aside.h"

#define JUDGE_TIMEOUT_USEC (2 * USEC_PER_MINUTE)
#define CONF_BYTES_MAX (4 * 1024 * 1024)
#define REASONS_MAX 12
#define HIDDEN_BYTES_MIN 3 /* shorter values ("on", "1") are no secrets, and are in every sentence */

/* Arguments: the runtime's escript, its cuttlefish, then a schema and a file for each that is to be checked. It sets
 * what bin/emqx sets itself, since files of the unit's environment would win over Environment=. */
static const char script[] = "export CUTTLEFISH_ENV_OVERRIDE_PREFIX=EMQX_; "
                             "escript=$1 cuttlefish=$2 failed=0; shift 2; cd \"$1\" || exit; shift; "
                             "mkdir /tmp/judge || exit; while [ $# -gt 0 ]; do echo \"@ $2\"; "
                             "\"$escript\" \"$cuttlefish\" -i \"$1\" -c \"$2\" -d /tmp/judge generate || failed=1; "
                             "shift 2; done; exit $failed";

/* One question: a schema of the new release, and a file. */
typedef struct Question {
        const SetupFile *file; /* of Judge.setup */
        char *schema;          /* as the runtime sees it */
        char *asked;           /* what is asked about in place of the file itself; NULL: it */
        char **unknown;        /* strv: keys that no setting of the new release has */
} Question;

typedef struct Judge {
        Context *c;
        char name[ASIDE_NAME_MAX];
        int fd;        /* of dir, while that is in use */
        char *dir;     /* the program, extracted */
        char *seen_as; /* where it is shown to its runtime, since nobody may look into ours */
        char *unit;
        char **environment;
        Setup *setup;
        Question *questions;
        size_t n_questions;
        char *escript;
        char **reasons; /* other than unknown keys */
        char **missing; /* active plugins that the new release has not */
} Judge;

static void judge_done(Judge *j) {
        for (size_t i = 0; i < j->n_questions; i++) {
                free(j->questions[i].schema);
                free(j->questions[i].asked);
                strv_free(j->questions[i].unknown);
        }
        free(j->questions);
        free(j->escript);
        free(j->dir);
        free(j->seen_as);
        free(j->unit);
        j->fd = safe_close(j->fd);
        j->environment = strv_free(j->environment);
        j->reasons = strv_free(j->reasons);
        j->missing = strv_free(j->missing);
        j->setup = setup_free(j->setup);
}

static int name_places(Judge *j) {
        (void) aside_judge_name(j->name, j->c->plan);
        return asprintf(&j->dir, STATE_DIR "/%s", j->name) < 0 ||
                                        asprintf(&j->seen_as, RUNTIME_DIR "/%s", j->name) < 0 ||
                                        asprintf(&j->unit, "emqx-upgrade-step-%s.service", j->name) < 0
                        ? -ENOMEM
                        : 0;
}

/* --- what is to be checked --- */

/* The first match of pattern below the extracted program, as its runtime sees it. NULL: none, or out of memory. */
static char *find_in_program(const Judge *j, const char *pattern) {
        _cleanup_free_ char *full = NULL;
        char *found = NULL;
        glob_t g;

        if (asprintf(&full, "%s/%s", j->dir, pattern) < 0)
                return NULL;
        if (glob(full, GLOB_NOSORT, NULL, &g) == 0 &&
                        asprintf(&found, "%s%s", j->seen_as, g.gl_pathv[0] + strlen(j->dir)) < 0)
                found = NULL;
        globfree(&g);
        return found;
}

static int find_missing_plugins(Judge *j) {
        STRV_FOREACH (name, j->setup->plugins) {
                _cleanup_free_ char *pattern = NULL, *found = NULL;

                if (asprintf(&pattern, "lib/%s-[0-9]*", *name) < 0)
                        return -ENOMEM;
                found = find_in_program(j, pattern);
                if (!found && strv_extend(&j->missing, *name) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int find_questions(Judge *j, Error *reterr) {
        const Plan *p = j->c->plan;

        j->escript = find_in_program(j, "erts-*/bin/escript");
        j->questions = calloc(j->setup->n_files, sizeof(Question));
        if (!j->questions)
                return -ENOMEM;
        for (size_t i = 0; i < j->setup->n_files; i++) {
                const SetupFile *f = &j->setup->files[i];
                _cleanup_free_ char *pattern = NULL, *schema = NULL;

                if ((f->plugin ? asprintf(&pattern, "lib/%s-*/priv/%s.schema", f->plugin, f->plugin)
                               : asprintf(&pattern, "releases/%s/emqx.schema", p->to)) < 0)
                        return -ENOMEM;
                schema = find_in_program(j, pattern);
                if (!f->plugin && (!j->escript || !schema))
                        return error_set(reterr, -ENOEXEC, "Fetch the package again.",
                                        "The package of %s has no %s that its configuration could be checked with",
                                        p->to, j->escript ? "schema" : "runtime");
                if (schema) /* else it is none of EMQX's own */
                        j->questions[j->n_questions++] = (Question){ .file = f, .schema = TAKE_PTR(schema) };
        }
        return find_missing_plugins(j);
}

/* --- what it says --- */

static int hide(char **text, const char *value) {
        static const char hidden[] = "…";
        size_t from = 0;
        char *at;

        if (strlen(value) < HIDDEN_BYTES_MIN)
                return 0;
        while ((at = strstr(*text + from, value))) {
                char *joined;

                from = (size_t) (at - *text) + strlen(hidden);
                if (asprintf(&joined, "%.*s%s%s", (int) (at - *text), *text, hidden, at + strlen(value)) < 0)
                        return -ENOMEM;
                free(*text);
                *text = joined;
        }
        return 0;
}

static int hide_values(const Judge *j, char **text, const Conf *conf) {
        int r = 0;

        for (size_t i = 0; conf_next_value(conf, i) && r >= 0; i++)
                r = hide(text, conf_next_value(conf, i));
        STRV_FOREACH (s, j->environment)
                if (r >= 0 && startswith(*s, "EMQX_"))
                        r = hide(text, strchr(*s, '=') + 1);
        return r;
}

/* A sentence of the new release about a file, without any value that stands there or in a variable in its place. */
static int add_reason(Judge *j, const Question *q, const char *sentence) {
        _cleanup_free_ char *text = strdup(sentence), *whole = NULL;
        int r = text ? hide_values(j, &text, q->file->conf) : -ENOMEM;

        if (r >= 0 && asprintf(&whole, "%s: %s", q->file->path, text) < 0)
                r = -ENOMEM;
        return r >= 0 && !strv_contains(j->reasons, whole) ? strv_extend(&j->reasons, whole) : r;
}

static const char *asked_path(const Question *q) {
        assert(q->file);
        return q->asked ?: q->file->path;
}

static Question *find_question(Judge *j, const char *path) {
        for (size_t i = 0; i < j->n_questions; i++)
                if (streq(asked_path(&j->questions[i]), path))
                        return &j->questions[i];
        return NULL;
}

/* Its lines are "TIME [error] WHAT"; of an unknown key it says several things. */
static int read_answer(Judge *j, const char *output) {
        static const char unknown[] = "Conf file attempted to set unknown variable: ",
                          tried[] = "You've tried to set ";
        _cleanup_free_ char *text = strdup(output);
        Question *q = &j->questions[0];
        char *rest = text;
        int r = text ? 0 : -ENOMEM;

        assert(j->n_questions > 0 && q);
        for (char *line; r >= 0 && (line = strsep(&rest, "\n"));) {
                const char *at = strstr(line, "[error] "), *key;

                if (startswith(line, "@ ")) {
                        Question *next = find_question(j, line + 2);

                        if (next)
                                q = next;
                        continue;
                }
                if (!at)
                        continue;
                at += strlen("[error] ");
                key = startswith(at, unknown);
                if (key)
                        r = strv_contains(q->unknown, key) ? 0 : strv_extend(&q->unknown, key);
                else if (*at != ' ' && !startswith(at, tried) && !startswith(at, "Error generating configuration"))
                        r = add_reason(j, q, at);
        }
        return r;
}

/* "auth_order (/etc/emqx/emqx.conf:718)" */
static int describe_key(const Question *q, const char *key, char ***l) {
        const char *where = q->file->path;
        unsigned line = 0;

        return conf_where(q->file->conf, key, &where, &line) ? strv_extendf(l, "%s (%s:%u)", key, where, line)
                                                             : strv_extendf(l, "%s (%s)", key, where);
}

static int refuse(Judge *j, Error *reterr) {
        _cleanup_free_ char *text = NULL, *advice = NULL;
        _cleanup_strv_ char **all = NULL;
        unsigned patch = 0;
        size_t n_keys;

        for (size_t i = 0; i < j->n_questions; i++)
                STRV_FOREACH (key, j->questions[i].unknown) {
                        const AdaptRule *rule = adapt_rule(*key);

                        patch = rule ? MAX(patch, rule->known_since) : patch;
                        if (describe_key(&j->questions[i], *key, &all) < 0)
                                return -ENOMEM;
                }
        n_keys = strv_length(all);
        STRV_FOREACH (reason, j->reasons)
                if (strv_extend(&all, *reason) < 0)
                        return -ENOMEM;
        if (patch > 0 &&
                        asprintf(&advice, "Take 4.4.%u or later, which knows what your 4.3 has%s.", patch,
                                        j->c->config->drop_defaults
                                                        ? ", or take out what is not a default yourself"
                                                        : "; ConfigConflicts=drop-defaults takes out what is a default") <
                                        0)
                return -ENOMEM;
        if (all && strv_length(all) > REASONS_MAX) {
                for (size_t i = REASONS_MAX; all[i]; i++)
                        all[i] = mfree(all[i]);
                if (strv_extend(&all, "…") < 0)
                        return -ENOMEM;
        }
        text = strv_join(all, "; ");
        return !text ? -ENOMEM
                     : error_set(reterr, -ECANCELED,
                                       advice ?: "Change it so that both versions take it; the node runs on meanwhile.",
                                       "%s does not accept the configuration: %s%s", j->c->plan->to,
                                       n_keys > 0 ? "it has no setting " : "", text);
}

/* --- what can be dropped --- */

/* Every line that sets key says what the new release does without it, and nothing else sets it otherwise. */
static int is_default(Judge *j, const Question *q, const char *key) {
        const AdaptRule *rule = adapt_rule(key);
        _cleanup_free_ char *value = NULL;
        ConfSetting s;
        int r;

        if (!rule)
                return 0;
        for (size_t i = 0; conf_setting(q->file->conf, i, &s); i++)
                if (streq(s.key, key) && (s.included || !streq(s.value, rule->value)))
                        return 0;
        r = conf_value(q->file->conf, key, j->environment, &value, NULL);
        return r < 0 ? (r == -ENOMEM ? r : 0) : r == 0 || streq(value, rule->value);
}

/* Whether all that is in the way can be dropped. */
static int all_are_defaults(Judge *j) {
        for (size_t i = 0; i < j->n_questions; i++)
                STRV_FOREACH (key, j->questions[i].unknown) {
                        int r = is_default(j, &j->questions[i], *key);

                        if (r <= 0)
                                return r;
                }
        return strv_length(j->reasons) == 0;
}

/* Of which tree file is a part, and as what. 0: of none, or it is one that has another name somewhere. */
static int place_of(const Plan *p, const char *file, const char **ret_tree, const char **ret_path, char **ret_real) {
        _cleanup_free_ char *real = realpath(file, NULL);
        struct stat st;

        if (!real || lstat(file, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
                return 0;
        for (size_t i = 0; i < p->n_trees; i++) {
                const char *rest = startswith(real, p->trees[i].real);

                if (!rest || *rest != '/')
                        continue;
                *ret_tree = p->trees[i].name;
                *ret_path = rest + 1;
                *ret_real = TAKE_PTR(real);
                return 1;
        }
        return 0;
}

/* For the runtime's user to read, whom nothing else leads there: our directory is root's, and shown to its unit alone. */
static int write_adapted(const Judge *j, Question *q, size_t i, const char *text, Error *reterr) {
        _cleanup_free_ char *path = NULL;
        int r;

        if (asprintf(&path, "%s/adapted-%zu.conf", j->dir, i) < 0 ||
                        asprintf(&q->asked, "%s/adapted-%zu.conf", j->seen_as, i) < 0)
                return -ENOMEM;
        r = replace_volatile_file_at(AT_FDCWD, path, text, strlen(text), 0644);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot write %s: %m", path) : 0;
}

static int adapt_question(Judge *j, size_t i, Error *reterr) {
        Question *q = &j->questions[i];
        _cleanup_free_ char *text = NULL, *adapted = NULL, *real = NULL;
        char hex[SHA256_HEX_SIZE], hex_adapted[SHA256_HEX_SIZE];
        const char *tree = NULL, *path = NULL;
        int r;

        r = place_of(j->c->plan, q->file->path, &tree, &path, &real);
        if (r == 0)
                return error_set(reterr, -ECANCELED, "Take the lines out yourself.",
                                "%s cannot be adapted: it is a link, or in none of the directories that are carried",
                                q->file->path);
        if (r >= 0)
                r = read_file_at(AT_FDCWD, q->file->path, CONF_BYTES_MAX, &text, NULL);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", q->file->path);
        r = adapt_text(j->c->plan, q->unknown, text, &adapted);
        if (r >= 0)
                r = sha256_buffer(text, strlen(text), hex);
        if (r >= 0)
                r = sha256_buffer(adapted, strlen(adapted), hex_adapted);
        if (r >= 0)
                r = plan_add_adapted(j->c->plan,
                                &(PlanAdapted){ .file = q->file->path,
                                                .tree = (char *) tree,
                                                .path = (char *) path,
                                                .sha256 = hex,
                                                .sha256_adapted = hex_adapted,
                                                .dropped = q->unknown });
        return r < 0 ? r : write_adapted(j, q, i, adapted, reterr);
}

/* --- asking --- */

static int question_arguments(const Judge *j, char ***ret) {
        _cleanup_strv_ char **argv = NULL;

        if (strv_extend(&argv, "/bin/sh") < 0 || strv_extend(&argv, "-c") < 0 || strv_extend(&argv, script) < 0 ||
                        strv_extend(&argv, "judge") < 0 || strv_extend(&argv, j->escript) < 0 ||
                        strv_extendf(&argv, "%s/bin/cuttlefish", j->seen_as) < 0 ||
                        strv_extend(&argv, j->c->plan->root_dir) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < j->n_questions; i++)
                if (strv_extend(&argv, j->questions[i].schema) < 0 ||
                                strv_extend(&argv, asked_path(&j->questions[i])) < 0)
                        return -ENOMEM;
        *ret = TAKE_PTR(argv);
        return 0;
}

/* 1: it accepts all; 0: it does not, and j says what; negative errno: it could not be asked. */
static int ask(Judge *j, Error *reterr) {
        Context *c = j->c;
        _cleanup_free_ char *output = NULL, *last = NULL, *shown = NULL;
        _cleanup_unit_state_ UnitState node = UNIT_STATE_NULL;
        _cleanup_strv_ char **fields = NULL;
        _cleanup_strv_ char **argv = NULL;
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        int r, status = 0;

        r = question_arguments(j, &argv);
        if (r >= 0)
                r = unit_state_get(c->manager, c->plan->unit, &node, reterr);
        if (r < 0)
                return r;
        if (strv_extendf(&fields, "EMQX_UPGRADE_ID=%s", c->plan->id) < 0 ||
                        asprintf(&shown, "%s:%s", j->dir, j->seen_as) < 0)
                return -ENOMEM;
        unit.name = j->unit;
        unit.description = "EMQX Upgrade: the new version's check of the configuration";
        unit.argv = argv;
        unit.environment_of = &node;
        unit.log_extra_fields = fields;
        unit.user = c->plan->user;
        unit.slice = "emqx-upgrade.slice";
        unit.sandboxed = unit.quick =
                        true; /* a runtime that compiles at run time wants memory that is written and run */
        unit.private_network = unit.private_tmp = unit.idle = true;
        unit.capabilities = STRV_MAKE(NULL);
        unit.bind_read_only_paths = STRV_MAKE(shown);
        r = transient_capture(c->manager, &unit, JUDGE_TIMEOUT_USEC, &output, &status, reterr);
        if (r < 0 || status == 0)
                return r < 0 ? r : 1;
        r = read_answer(j, output);
        if (r < 0)
                return r;
        for (size_t i = 0; i < j->n_questions; i++)
                if (strv_length(j->questions[i].unknown) > 0)
                        return 0;
        if (strv_length(j->reasons) > 0)
                return 0;
        /* It did not come to the configuration. What it printed is the runtime's own, but may be anything. */
        for (char *line, *rest = output; (line = strsep(&rest, "\n"));)
                if (*line && !startswith(line, "@ ") && free_and_strdup(&last, line) < 0)
                        return -ENOMEM;
        if (last && hide_values(j, &last, j->setup->files[0].conf) < 0)
                return -ENOMEM;
        return error_set(reterr, -ENOEXEC,
                        "Look whether this host has the libraries that it needs, such as libcrypto.",
                        "The runtime of %s does not run on this host (status %i): %s", c->plan->to, status,
                        last ?: "it does not say why");
}

static int remove_program(const Judge *j, Error *reterr) {
        (void) rmdir(j->seen_as);
        return aside_remove(j->name, reterr);
}

static int extract_program_aside(Judge *j, const Package *target, Error *reterr) {
        const PackageKind *kind = package_kind_find(j->c->plan->kind);

        return aside_extract(kind, target, kind->default_root_dir, j->name, &j->fd, reterr);
}

/* Makes the files that it is asked about anew, and has the plan say so. */
static int drop_defaults(Judge *j, Error *reterr) {
        j->c->plan->adapted_realtime_usec = now_usec(CLOCK_REALTIME);
        for (size_t i = 0; i < j->n_questions; i++) {
                int r = strv_length(j->questions[i].unknown) > 0 ? adapt_question(j, i, reterr) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static int ask_until_clear(Judge *j, Error *reterr) {
        int r;

        r = ask(j, reterr);
        if (r != 0)
                return r;
        r = j->c->config->drop_defaults ? all_are_defaults(j) : 0;
        if (r <= 0)
                return r < 0 ? r : refuse(j, reterr);
        r = drop_defaults(j, reterr);
        for (size_t i = 0; i < j->n_questions; i++)
                j->questions[i].unknown = strv_free(j->questions[i].unknown);
        if (r >= 0)
                r = ask(j, reterr);
        if (r <= 0)
                plan_forget_adapted(j->c->plan);
        return r == 0 ? refuse(j, reterr) : r;
}

/* What it accepts, with what was taken out, for the operator. */
static int describe(const Judge *j, char **ret) {
        const Plan *p = j->c->plan;
        _cleanup_strv_ char **dropped = NULL;
        _cleanup_free_ char *list = NULL;

        for (size_t i = 0; i < j->n_questions; i++)
                for (size_t a = 0; a < p->n_adapted; a++)
                        if (streq(p->adapted[a].file, j->questions[i].file->path))
                                STRV_FOREACH (key, p->adapted[a].dropped)
                                        if (describe_key(&j->questions[i], *key, &dropped) < 0)
                                                return -ENOMEM;
        list = dropped ? strv_join(dropped, ", ") : strdup("");
        if (!list ||
                        asprintf(ret, "%s accepts %s and the files of %zu active plugins%s%s%s", p->to,
                                        j->setup->files[0].path, j->n_questions - 1,
                                        dropped ? ", without lines that say what it does without them: " : "", list,
                                        dropped ? ". It gets them as comments; the backup keeps your files as they are"
                                                : "") < 0)
                return -ENOMEM;
        return dropped ? 0 : 1;
}

int judge_configuration(
                Context *c, const Package *target, char **ret_text, char ***ret_missing_plugins, Error *reterr) {
        _cleanup_(judge_done) Judge j = { .c = c, .fd = -1 };
        int r, q;

        r = name_places(&j);
        if (r >= 0)
                r = unit_environment(c->manager, c->plan->unit, &j.environment, reterr);
        if (r >= 0)
                r = setup_read(c->plan->root_dir, c->plan->etc_dir, c->plan->data_dir, j.environment, &j.setup,
                                reterr);
        if (r < 0)
                return r;
        r = extract_program_aside(&j, target, reterr);
        if (r >= 0)
                r = find_questions(&j, reterr);
        if (r >= 0) {
                *ret_missing_plugins = TAKE_PTR(j.missing);
                r = ask_until_clear(&j, reterr);
        }
        q = remove_program(&j, r < 0 ? NULL : reterr);
        if (r >= 0)
                r = q;
        return r < 0 ? r : describe(&j, ret_text);
}
