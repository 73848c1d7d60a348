/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/terminal.h"
#include "cli/verbs.h"

static Style result_style(const Txn *t) {
        return t->result == TXN_DONE ? STYLE_GOOD : t->result == TXN_REFUSED ? STYLE_WARNING : STYLE_BAD;
}

static ExitStatus print_list(Record *const *records, size_t n) {
        json_object *list = json_object_new_array();
        int r = list ? 0 : -ENOMEM;

        for (size_t i = 0; i < n && r >= 0; i++)
                r = json_append(list, json_object_get(records[i]->json));
        if (r >= 0)
                print_json(list);
        (void) json_object_put(list);
        return r < 0 ? say_error(NULL, r, EXIT_INTERRUPTED) : EXIT_DONE;
}

/* A line each; the cause of what did not go well below it. */
static void print_one(const Record *r) {
        char when[TIMESPAN_TEXT_MAX], span[TIMESPAN_TEXT_MAX];
        _cleanup_free_ char *versions = NULL;
        const Txn *t = r->txn;
        usec_t down = plan_downtime_usec(t->plan);

        if (asprintf(&versions, "%s %s %s", t->plan->from ?: "?", glyph(GLYPH_ARROW), t->plan->to) < 0)
                return;
        print_cell(stdout, STYLE_PLAIN, format_local(when, t->started_realtime_usec), 24);
        print_cell(stdout, STYLE_STRONG, versions, 18);
        print_cell(stdout, result_style(t), txn_result_name(t->result), 12);
        if (down > 0)
                (void) printf("down %s", format_timespan(span, down));
        (void) printf("\n  %s%s%s\n", style_begin(stdout, STYLE_DIM), t->plan->id, style_end(stdout));
        if (t->cause) {
                (void) fputs("  ", stdout);
                print_wrapped(stdout, STYLE_PLAIN, 2, 2, t->cause);
        }
}

ExitStatus verb_history(char **args) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        ExitStatus status = EXIT_DONE;
        Record **records;
        size_t n;
        int r;

        (void) args;
        r = record_load_history(&records, &n, &error);
        if (r < 0)
                return say_error(&error, r, EXIT_INTERRUPTED);
        if (arg_json)
                status = print_list(records, n);
        else if (n == 0)
                (void) puts("No upgrade has ended on this host.");
        else
                for (size_t i = 0; i < n; i++)
                        print_one(records[i]);
        (void) records_free(records, n);
        return status;
}
