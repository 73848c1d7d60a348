/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>

#include "base/json.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/size.h"
#include "base/version.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "steps/checks.h"
#include "steps/places.h"
#include "txn/predict.h"

#define LABEL_WIDTH 16
#define CHECK_COLUMN (2 + 8 + 2 + LABEL_WIDTH + 1) /* where the text of a check begins */
#define DIRECTORY_COLUMN 13
#define STEP_COLUMN 16

typedef struct Printing {
        unsigned n_warned, n_refused;
        json_object *checks; /* NULL: for people */
        int r;
} Printing;

/* Text that begins in this column, and goes on in it. */
static void print_text(unsigned column, Style style, const char *text) {
        print_wrapped(stdout, style, column, column, text);
}

static int add_check(
                json_object *checks, const char *name, const char *outcome, const char *text, const char *advice) {
        json_object *o = json_object_new_object();
        int r;

        r = json_append(checks, o);
        if (r >= 0)
                r = json_add_text(o, "name", name);
        if (r >= 0)
                r = json_add_text(o, "outcome", outcome);
        if (r >= 0)
                r = json_add_text(o, "text", text);
        return r >= 0 ? json_add_text(o, "advice", advice) : r;
}

static void print_check(const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata) {
        static const struct {
                const char *shown, *json;
        } words[] = {
                [CHECK_PASSED] = { "ok", "passed" },
                [CHECK_WARNED] = { "WARNING", "warned" },
                [CHECK_REFUSED] = { "REFUSED", "refused" },
                [CHECK_NOT_MADE] = { "not made", "not-made" },
        };
        _cleanup_free_ char *rests = NULL;
        Printing *p = userdata;

        p->n_warned += outcome == CHECK_WARNED;
        p->n_refused += outcome == CHECK_REFUSED;
        if (outcome == CHECK_NOT_MADE)
                text = asprintf(&rests, "it rests on '%s'", text) < 0 ? "" : rests;
        if (p->checks) {
                if (p->r >= 0)
                        p->r = add_check(p->checks, name, words[outcome].json, text, advice);
                return;
        }
        (void) printf("  %-8s  %-*s ", words[outcome].shown, LABEL_WIDTH, name);
        print_text(CHECK_COLUMN, STYLE_PLAIN, text);
        if (advice) {
                (void) printf("%*s", CHECK_COLUMN, "");
                print_text(CHECK_COLUMN, STYLE_STRONG, advice);
        }
}

static void quiet(const char *text, const StepProgress *progress, void *userdata) {
        (void) text;
        (void) progress;
        (void) userdata;
}

static bool is_down_in(const Step *s) {
        return s->node == NODE_DOWN || streq(s->name, "stop") || streq(s->name, "start");
}

static void print_steps(void) {
        (void) printf("\nSteps (*: the node is down):\n");
        for (size_t i = 0; i < n_upgrade_steps; i++) {
                const Step *s = &upgrade_steps[i];

                (void) printf("  %2zu %c %-8s ", i + 1, is_down_in(s) ? '*' : ' ', s->name);
                print_text(STEP_COLUMN, STYLE_PLAIN, s->title);
                if (!s->optional && !s->undo_title)
                        continue;
                (void) printf("%*sif it fails: ", STEP_COLUMN, "");
                print_text(STEP_COLUMN + strlen("if it fails: "), STYLE_DIM,
                                s->optional ? "that is told, and the upgrade goes on" : s->undo_title);
        }
}

static void print_directories(const Plan *p) {
        (void) printf("\nDirectories that are backed up and restored:\n");
        for (size_t i = 0; i < p->n_trees; i++) {
                const PlanTree *t = &p->trees[i];
                _cleanup_free_ char *filesystem = place_filesystem(t->real), *text = NULL;
                char size[SIZE_TEXT_MAX];

                (void) printf("  %-10s %s%s%s%s\n", t->name, t->path, streq(t->path, t->real) ? "" : " (",
                                streq(t->path, t->real) ? "" : t->real, streq(t->path, t->real) ? "" : ")");
                (void) printf("%*s", DIRECTORY_COLUMN, "");
                if (asprintf(&text, "%s in %" PRIu64 " entries on %s; %s", format_size(size, t->bytes), t->entries,
                                    filesystem ?: "?", t->why) >= 0)
                        print_text(DIRECTORY_COLUMN, STYLE_PLAIN, text);
        }
}

static void print_prediction(const Prediction *n) {
        char span[TIMESPAN_TEXT_MAX];

        (void) printf("\nExpected time down: %s\n", format_timespan(span, n->total_usec));
        for (size_t i = 0; i < ELEMENTSOF(n->parts); i++) {
                (void) printf("  %-10s %-10s ", prediction_part_name((PredictionPart) i),
                                format_timespan(span, n->parts[i].usec));
                print_text(2 + 10 + 1 + 10 + 1, STYLE_PLAIN, n->parts[i].why);
        }
}

static int directories_to_json(const Plan *p, json_object *o) {
        json_object *list = json_object_new_array();
        int r = json_add(o, "directories", list);

        for (size_t i = 0; i < p->n_trees && r >= 0; i++) {
                const PlanTree *t = &p->trees[i];
                _cleanup_free_ char *filesystem = place_filesystem(t->real);
                json_object *d = json_object_new_object();

                r = json_append(list, d);
                if (r >= 0)
                        r = json_add_text(d, "name", t->name);
                if (r >= 0)
                        r = json_add_text(d, "path", t->path);
                if (r >= 0)
                        r = json_add_text(d, "real", t->real);
                if (r >= 0)
                        r = json_add_text(d, "why", t->why);
                if (r >= 0)
                        r = json_add_text(d, "filesystem", filesystem);
                if (r >= 0)
                        r = json_add_number(d, "bytes", t->bytes);
                if (r >= 0)
                        r = json_add_number(d, "entries", t->entries);
        }
        return r;
}

static int steps_to_json(json_object *o) {
        json_object *list = json_object_new_array();
        int r = json_add(o, "steps", list);

        for (size_t i = 0; i < n_upgrade_steps && r >= 0; i++) {
                const Step *s = &upgrade_steps[i];
                json_object *step = json_object_new_object();

                r = json_append(list, step);
                if (r >= 0)
                        r = json_add_text(step, "name", s->name);
                if (r >= 0)
                        r = json_add_text(step, "title", s->title);
                if (r >= 0)
                        r = json_add_text(step, "undo_title", s->undo_title);
                if (r >= 0)
                        r = json_add(step, "node_down", json_object_new_boolean(is_down_in(s)));
        }
        return r;
}

/* checks is taken over. */
static int print_plan_json(const Plan *p, usec_t down_usec, const char *verdict, json_object *checks) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *plan = NULL;
        int r;

        r = json_add(o, "checks", checks);
        if (r >= 0)
                r = json_add_text(o, "verdict", verdict);
        if (r >= 0 && down_usec > 0)
                r = json_add_number(o, "predicted_downtime_usec", down_usec);
        if (r >= 0)
                r = directories_to_json(p, o);
        if (r >= 0)
                r = steps_to_json(o);
        if (r >= 0)
                r = plan_to_json(p, &plan);
        if (r >= 0)
                r = json_add(o, "plan", plan);
        if (r >= 0)
                print_json(o);
        return r;
}

static ExitStatus print_result(
                const Plan *p, const Prediction *prediction, Printing *printing, int r, const Error *error) {
        const char *verdict = r == -EALREADY ? "nothing-to-do" : r == -ECANCELED ? "refused" : "may-start";

        if (r < 0 && r != -ECANCELED && r != -EALREADY) {
                (void) json_object_put(printing->checks);
                return say_error(error, r, EXIT_INTERRUPTED);
        }
        if (printing->checks) {
                json_object *checks = TAKE_PTR(printing->checks);

                if (print_plan_json(p, prediction->total_usec, verdict, checks) < 0 || printing->r < 0)
                        return say_error(NULL, -ENOMEM, EXIT_INTERRUPTED);
        } else if (r == -EALREADY)
                (void) printf("\nThe node runs EMQX %s already: nothing to do.\n", p->to);
        else if (r == -ECANCELED)
                (void) printf("\nThe upgrade would be refused by %u of the checks: see REFUSED above.\n",
                                printing->n_refused);
        else {
                print_directories(p);
                print_steps();
                print_prediction(prediction);
                (void) printf("\nThe upgrade may start%s: systemctl start emqx-upgrade@%s\n",
                                printing->n_warned > 0 ? ", mind the warnings" : "", p->to);
        }
        return r == -ECANCELED ? EXIT_REFUSED : EXIT_DONE;
}

/* The same checks as the step `inspect`, printed. */
ExitStatus verb_plan(char **args) {
        _cleanup_(manager_freep) Manager *manager = NULL;
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(plan_freep) Plan *plan = NULL;
        sd_event *event = NULL;
        Printing printing = { 0 };
        Prediction prediction = { 0 };
        Context c = { .report = quiet };
        Version version;
        char name[32];
        pid_t holder;
        int r;

        if (version_parse(args[0], &version) < 0) {
                (void) fprintf(stderr, "emqx-upgrade: '%.64s' is not a version, such as 4.4.0\n", args[0]);
                return EXIT_USAGE;
        }
        if (geteuid() != 0) {
                (void) fprintf(stderr, "emqx-upgrade: plan looks at files that only root may read; run it as root\n");
                return EXIT_USAGE;
        }
        r = config_load("", &config, &error);
        if (r < 0)
                return say_error(&error, r, EXIT_REFUSED);
        holder = lock_holder(LOCK_PATH);
        if (holder > 0) {
                (void) fprintf(stderr,
                                "emqx-upgrade: an upgrade is running: process %i (%s). See: emqx-upgrade status\n",
                                holder, process_name(name, holder));
                return EXIT_REFUSED;
        }

        r = plan_new(args[0], &plan);
        if (r >= 0)
                r = sd_event_new(&event);
        if (r >= 0)
                r = manager_new(event, &manager, &error);
        if (r < 0) {
                (void) sd_event_unref(event);
                return say_error(&error, r, EXIT_INTERRUPTED);
        }

        c.config = config;
        c.plan = plan;
        c.event = event;
        c.manager = manager;
        if (arg_json) {
                printing.checks = json_object_new_array();
                printing.r = printing.checks ? 0 : -ENOMEM;
        } else
                (void) printf("Checks for an upgrade to %s (nothing is changed):\n", args[0]);
        r = checks_run(&c, print_check, &printing, &error);
        if (r >= 0) {
                _cleanup_close_ int state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                predict(manager, state_fd, plan, &prediction);
        }
        manager = manager_free(manager);
        (void) sd_event_unref(event);
        return print_result(plan, &prediction, &printing, r, &error);
}
