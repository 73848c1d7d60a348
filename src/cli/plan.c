/* SPDX-License-Identifier: Apache-2.0 */

#include "base/lock.h"
#include "base/process.h"
#include "base/version.h"
#include "cli/verbs.h"
#include "steps/checks.h"
#include "steps/places.h"

#define LABEL_WIDTH 16

typedef struct Printing {
        unsigned n_warned, n_refused;
} Printing;

static void print_check(const char *name, CheckOutcome outcome, const char *text, const char *advice, void *userdata) {
        static const char *const words[] = {
                [CHECK_PASSED] = "ok",
                [CHECK_WARNED] = "WARNING",
                [CHECK_REFUSED] = "REFUSED",
                [CHECK_NOT_MADE] = "not made",
        };
        Printing *p = userdata;

        p->n_warned += outcome == CHECK_WARNED;
        p->n_refused += outcome == CHECK_REFUSED;
        if (outcome == CHECK_NOT_MADE)
                (void) printf("  %-8s  %-*s it rests on '%s'\n", words[outcome], LABEL_WIDTH, name, text);
        else
                (void) printf("  %-8s  %-*s %s\n", words[outcome], LABEL_WIDTH, name, text);
        if (advice)
                (void) printf("  %-8s  %-*s %s\n", "", LABEL_WIDTH, "", advice);
}

static void quiet(const char *text, void *userdata) {
        (void) text;
        (void) userdata;
}

static void print_steps(void) {
        (void) printf("\nSteps (*: the node is down):\n");
        for (size_t i = 0; i < n_upgrade_steps; i++) {
                const Step *s = &upgrade_steps[i];
                bool down = s->node == NODE_DOWN || streq(s->name, "stop") || streq(s->name, "start");

                (void) printf("  %2zu %c %-8s %s\n", i + 1, down ? '*' : ' ', s->name, s->title);
                if (s->undo_title)
                        (void) printf("       %-8s if it fails: %s\n", "", s->undo_title);
        }
}

static void print_directories(const Plan *p) {
        (void) printf("\nDirectories that are backed up and restored:\n");
        for (size_t i = 0; i < p->n_trees; i++) {
                const PlanTree *t = &p->trees[i];
                _cleanup_free_ char *filesystem = place_filesystem(t->real);

                (void) printf("  %-10s %s%s%s%s\n", t->name, t->path, streq(t->path, t->real) ? "" : " (",
                                streq(t->path, t->real) ? "" : t->real, streq(t->path, t->real) ? "" : ")");
                (void) printf("  %-10s %" PRIu64 " KiB on %s; %s\n", "", t->bytes >> 10, filesystem ?: "?", t->why);
        }
}

static ExitStatus say(const Error *error, int r, ExitStatus status) {
        (void) fprintf(stderr, "emqx-upgrade: %s\n", error_text(error, r));
        if (error->advice)
                (void) fprintf(stderr, "%s\n", error->advice);
        return status;
}

/* The same checks as the step `inspect`, printed. */
ExitStatus verb_plan(char **args) {
        _cleanup_(manager_freep) Manager *manager = NULL;
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(plan_freep) Plan *plan = NULL;
        sd_event *event = NULL;
        Printing printing = { 0, 0 };
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
                return say(&error, r, EXIT_REFUSED);
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
                return say(&error, r, EXIT_INTERRUPTED);
        }

        c.config = config;
        c.plan = plan;
        c.event = event;
        c.manager = manager;
        (void) printf("Checks for an upgrade to %s (nothing is changed):\n", args[0]);
        r = checks_run(&c, print_check, &printing, &error);
        manager = manager_free(manager);
        (void) sd_event_unref(event);

        if (r == -EALREADY) {
                (void) printf("\nThe node runs EMQX %s already: nothing to do.\n", args[0]);
                return EXIT_DONE;
        }
        if (r < 0 && r != -ECANCELED)
                return say(&error, r, EXIT_INTERRUPTED);
        if (r == -ECANCELED) {
                (void) printf("\nThe upgrade would be refused: %u of the checks.\n", printing.n_refused);
                return EXIT_REFUSED;
        }
        print_directories(plan);
        print_steps();
        (void) printf("\nThe upgrade may start%s: systemctl start emqx-upgrade@%s\n",
                        printing.n_warned > 0 ? ", mind the warnings" : "", args[0]);
        return EXIT_DONE;
}
