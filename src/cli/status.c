/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/status.h"

#include <dirent.h>
#include <fcntl.h>

#include "base/process.h"
#include "cli/verbs.h"

static int say_error(const Error *error, int r) {
        (void) fprintf(stderr, "emqx-upgrade: %s\n", error_text(error, r));
        if (error->advice)
                (void) fprintf(stderr, "%s\n", error->advice);
        return EXIT_INTERRUPTED;
}

static uint64_t number(json_object *o, const char *key) {
        uint64_t value = 0;

        (void) json_get_number(o, key, &value);
        return value;
}

static void print_json(json_object *o) {
        (void) puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void print_line(const char *label, const char *value) {
        if (value)
                (void) printf("%10s: %s\n", label, value);
}

static void print_steps(json_object *o) {
        char span[TIMESPAN_TEXT_MAX];
        json_object *steps;

        if (!json_object_object_get_ex(o, "steps", &steps) || !json_object_is_type(steps, json_type_array))
                return;
        for (size_t i = 0; i < json_object_array_length(steps); i++) {
                json_object *s = json_object_array_get_idx(steps, i);
                usec_t took = number(s, "took_usec");

                (void) printf("%10s  %-8s %-10s %s\n", "", json_peek_text(s, "name") ?: "?",
                                json_peek_text(s, "state") ?: "?", took > 0 ? format_timespan(span, took) : "");
        }
}

static void print_kept_aside(json_object *plan) {
        json_object *list;

        if (!json_object_object_get_ex(plan, "kept_aside", &list) || !json_object_is_type(list, json_type_array))
                return;
        for (size_t i = 0; i < json_object_array_length(list); i++)
                (void) printf("%10s: " STATE_DIR "/backups/%s/defaults/%s\n", i == 0 ? "Aside" : "",
                                json_peek_text(plan, "id") ?: "?",
                                json_object_get_string(json_object_array_get_idx(list, i)) ?: "?");
}

static void print_record(json_object *o) {
        json_object *plan = NULL;
        char span[TIMESPAN_TEXT_MAX], when[TIMESPAN_TEXT_MAX];
        usec_t down = number(o, "downtime_usec");

        (void) json_object_object_get_ex(o, "plan", &plan);
        (void) printf("%10s: %s from %s to %s\n", "Upgrade", json_peek_text(plan, "id") ?: "?",
                        json_peek_text(plan, "from") ?: "?", json_peek_text(plan, "to") ?: "?");
        print_line("Result",
                        streq_ptr(json_peek_text(o, "direction"), "stuck") ? "stuck: a person is needed"
                                                                           : json_peek_text(o, "result"));
        print_line("Started", format_realtime(when, number(o, "started_realtime_usec")));
        if (number(o, "ended_realtime_usec") > 0)
                print_line("Ended", format_realtime(when, number(o, "ended_realtime_usec")));
        if (down > 0)
                print_line("Down", format_timespan(span, down));
        print_line("Step", json_peek_text(o, "step"));
        print_line("Status", json_peek_text(o, "status"));
        print_line("Cause", json_peek_text(o, "cause"));
        print_line("Advice", json_peek_text(o, "advice"));
        print_kept_aside(plan);
        print_line("Way back", json_peek_text(o, "back_cause"));
        (void) printf("%10s:\n", "Steps");
        print_steps(o);
}

/* What runs says so in /run; what ran before this boot stands in the history, which only root may read. */
static int load_status(json_object **ret, Error *reterr) {
        _cleanup_(txn_freep) Txn *t = NULL;
        _cleanup_close_ int state_fd = -1;
        int r;

        r = status_read(ret, reterr);
        if (r != -ENOENT)
                return r;
        state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (state_fd < 0)
                return errno == ENOENT ? -ENOENT : error_set(reterr, -errno, NULL, "Cannot open %s: %m", STATE_DIR);
        r = txn_load(state_fd, &t, reterr);
        if (r == 0)
                r = txn_load_history(state_fd, "last", &t, reterr);
        return r < 0 ? r : txn_to_json(t, ret);
}

ExitStatus verb_status(char **args) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_json_ json_object *o = NULL;
        int r;

        (void) args;
        r = load_status(&o, &error);
        if (r == -ENOENT) {
                (void) puts(arg_json ? "{}" : "No upgrade has been made on this host.");
                return EXIT_DONE;
        }
        if (r < 0)
                return say_error(&error, r);
        if (arg_json)
                print_json(o);
        else
                print_record(o);
        return EXIT_DONE;
}

static int newest_first(const void *a, const void *b) {
        const Txn *x = *(Txn *const *) a, *y = *(Txn *const *) b;

        return (x->started_realtime_usec < y->started_realtime_usec) -
                        (x->started_realtime_usec > y->started_realtime_usec);
}

typedef struct History {
        Txn **records;
        size_t n;
} History;

static void history_done(History *h) {
        for (size_t i = 0; i < h->n; i++)
                (void) txn_free(h->records[i]);
        free(h->records);
}

static int history_load(int state_fd, History *h, Error *reterr) {
        struct dirent *de;
        DIR *dir;
        int fd, r = 0;

        fd = openat(state_fd, "history", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot open %s/history: %m", STATE_DIR);
        dir = fdopendir(fd);
        if (!dir) {
                (void) safe_close(fd);
                return -errno;
        }
        while (r >= 0 && (de = readdir(dir))) {
                char id[PLAN_ID_SIZE];
                Txn **larger;

                if (strlen(de->d_name) != PLAN_ID_SIZE - 1 + strlen(".json") || !endswith(de->d_name, ".json"))
                        continue;
                (void) snprintf(id, sizeof(id), "%.*s", PLAN_ID_SIZE - 1, de->d_name);
                larger = reallocarray(h->records, h->n + 1, sizeof(Txn *));
                if (!larger) {
                        r = -ENOMEM;
                        break;
                }
                h->records = larger;
                r = txn_load_history(state_fd, id, &h->records[h->n], reterr);
                if (r >= 0)
                        h->n++;
        }
        (void) closedir(dir);
        if (h->n > 0)
                qsort(h->records, h->n, sizeof(Txn *), newest_first);
        return r;
}

ExitStatus verb_history(char **args) {
        _cleanup_(history_done) History h = { NULL, 0 };
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_json_ json_object *list = NULL;
        _cleanup_close_ int state_fd = -1;
        char when[TIMESPAN_TEXT_MAX], span[TIMESPAN_TEXT_MAX];
        int r;

        (void) args;
        state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (state_fd < 0) {
                r = error_set(&error, -errno, "Run it as root.", "Cannot open %s: %m", STATE_DIR);
                return say_error(&error, r);
        }
        r = history_load(state_fd, &h, &error);
        if (r < 0)
                return say_error(&error, r);

        if (arg_json) {
                list = json_object_new_array();
                for (size_t i = 0; i < h.n && r >= 0; i++) {
                        json_object *o = NULL;

                        r = txn_to_json(h.records[i], &o);
                        if (r >= 0)
                                r = json_append(list, o);
                }
                if (r < 0)
                        return say_error(&error, r);
                print_json(list);
                return EXIT_DONE;
        }

        for (size_t i = 0; i < h.n; i++) {
                const Txn *t = h.records[i];

                (void) printf("%s  %s  %-8s -> %-8s %-12s %s\n", t->plan->id,
                                format_realtime(when, t->started_realtime_usec), t->plan->from ?: "?", t->plan->to,
                                txn_result_name(t->result),
                                plan_downtime_usec(t->plan) > 0 ? format_timespan(span, plan_downtime_usec(t->plan))
                                                                : "");
        }
        return EXIT_DONE;
}

/* systemctl shows what happens and asks polkit for those who are not root. */
ExitStatus verb_rollback(char **args) {
        const char *id = args[0] ?: "last";
        char unit[128];

        if (strlen(id) >= PLAN_ID_SIZE || id[strspn(id, "0123456789abcdeflst")]) {
                (void) fprintf(stderr,
                                "emqx-upgrade: '%.64s' is not the id of an upgrade. See: emqx-upgrade history\n", id);
                return EXIT_USAGE;
        }
        (void) snprintf(unit, sizeof(unit), "emqx-upgrade-rollback@%s.service", id);
        (void) execlp("systemctl", "systemctl", "start", unit, (char *) NULL);
        (void) fprintf(stderr, "emqx-upgrade: cannot run systemctl: %m\n");
        return EXIT_INTERRUPTED;
}
