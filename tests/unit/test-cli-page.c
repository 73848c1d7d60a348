/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <locale.h>
#include <syslog.h>

#include "base/strv.h"
#include "cli/page.h"

#define HOSTILE "</style><script>alert(1)</script>\"'&\x1b[2J\xff\n"

/* A record in which every text is hostile. stuck: its way back has failed. */
static Record *make_record(bool stuck, TxnResult result) {
        char **names = STRV_MAKE("inspect", "stop", "start", HOSTILE);
        char *dir = make_tmpdir();
        int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        json_object *json;
        Record *record;
        Plan *plan;
        Txn *t;

        assert_int_equal(plan_new("4.4.0", &plan), 0);
        assert_int_equal(free_and_strdup(&plan->from, HOSTILE), 0);
        assert_int_equal(free_and_strdup(&plan->node_name, HOSTILE), 0);
        assert_int_equal(plan_add_tree(plan, "data", "/" HOSTILE, "/" HOSTILE, HOSTILE, HOSTILE), 0);
        assert_int_equal(plan_keep_check(plan, "inspect", HOSTILE, CHECK_WARNED, HOSTILE, HOSTILE), 0);
        assert_int_equal(strv_extend(&plan->kept_aside, HOSTILE), 0);
        assert_int_equal(txn_create(dir_fd, plan, "emqx-upgrade@4.4.0.service", names, &t), 0);
        for (size_t i = 0; i < t->n_steps; i++) {
                assert_int_equal(txn_mark(t, i, STEP_BEGUN), 0);
                assert_int_equal(txn_mark(t, i, STEP_DONE), 0);
                t->steps[i].took_usec = 1 + 1000 * i;
        }
        plan->down_since_realtime_usec = t->started_realtime_usec;
        if (stuck || result == TXN_ROLLED_BACK) {
                assert_int_equal(txn_turn_back(t, "start", HOSTILE, HOSTILE), 0);
                assert_int_equal(txn_mark(t, 1, STEP_UNDO_BEGUN), 0);
        }
        if (stuck)
                assert_int_equal(txn_stick(t, "stop", HOSTILE), 0);
        else if (result != TXN_INTERRUPTED)
                assert_int_equal(txn_close(t, result), 0);
        assert_int_equal(txn_to_json(t, &json), 0);
        assert_int_equal(record_from_json(json, &record), 0);
        (void) txn_free(t);
        (void) safe_close(dir_fd);
        remove_tmpdir(dir);
        return record;
}

static char *make_page(const Record *record, RecordState state, size_t n_entries) {
        Page p = { .record = record,
                .state = state,
                .host = HOSTILE,
                .diff = "--- a\n+" HOSTILE "-" HOSTILE "\n",
                .written_realtime_usec = 2000000000000000 };
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);

        p.entries = calloc(n_entries + 1, sizeof(PageEntry));
        for (; p.n_entries < n_entries; p.n_entries++)
                p.entries[p.n_entries] = (PageEntry){ .realtime_usec = 1,
                        .priority = LOG_ERR,
                        .event = strdup("not-carried"),
                        .step = strdup(HOSTILE),
                        .message = strdup(HOSTILE) };
        assert_int_equal(page_write(&p, out), 0);
        (void) fclose(out);
        page_done(&p);
        return text;
}

/* Every tag that is opened is closed, in order, and none is but ours. */
static void assert_well_formed(const char *text) {
        static const char *const known[] = { "html", "head", "meta", "title", "style", "body", "main", "p", "h1", "h2",
                "h3", "span", "div", "strong", "code", "b", "br", "svg", "line", "rect", "text", "tspan", "table",
                "tr", "td", "th", "pre", "ul", "li", "footer", "!DOCTYPE" };
        _cleanup_strv_ char **open = NULL;
        size_t depth = 0;

        for (const char *s = text; (s = strchr(s, '<'));) {
                const char *end = strchr(s, '>');
                bool closes = s[1] == '/', empty;
                _cleanup_free_ char *name = strndup(s + 1 + closes, strcspn(s + 1 + closes, " >/\n"));
                bool ours = false;

                assert_non_null(end);
                for (size_t i = 0; i < ELEMENTSOF(known); i++)
                        ours = ours || streq(name, known[i]);
                if (!ours)
                        fail_msg("a tag that is not ours: <%s>", name);
                empty = end[-1] == '/' || streq(name, "meta") || streq(name, "br") || streq(name, "!DOCTYPE");
                if (closes) {
                        assert_true(depth > 0);
                        assert_string_equal(open[depth - 1], name);
                        depth--;
                        open[depth] = mfree(open[depth]);
                } else if (!empty) {
                        assert_int_equal(strv_extend(&open, name), 0);
                        depth++;
                }
                s = end;
        }
        assert_int_equal(depth, 0);
}

static void assert_harmless(const char *text) {
        assert_null(strstr(text, "<script"));
        assert_null(strchr(text, '\x1b'));
        assert_null(strchr(text, '\xff'));
        assert_null(strstr(text, "http://"));
        assert_null(strstr(text, "src="));
        assert_non_null(strstr(text, "default-src 'none'"));
        assert_well_formed(text);
}

static void hostile_text_is_text_in_every_state(void **state) {
        static const struct {
                RecordState state;
                bool stuck;
                TxnResult result;
        } cases[] = {
                { RECORD_RUNS, false, TXN_INTERRUPTED },
                { RECORD_INTERRUPTED, false, TXN_INTERRUPTED },
                { RECORD_STUCK, true, TXN_INTERRUPTED },
                { RECORD_DONE, false, TXN_DONE },
                { RECORD_REFUSED, false, TXN_REFUSED },
                { RECORD_ROLLED_BACK, false, TXN_ROLLED_BACK },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(record_freep) Record *record = make_record(cases[i].stuck, cases[i].result);
                _cleanup_free_ char *text = make_page(record, cases[i].state, 3);

                assert_harmless(text);
                assert_non_null(strstr(text,
                                "&lt;/style&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\x1b[2J\\xff\\n"));
                assert_non_null(strstr(text, "What to do now"));
                assert_non_null(strstr(text, "<svg"));
        }
}

static void without_a_journal_the_rest_is_there(void **state) {
        _cleanup_(record_freep) Record *record = make_record(false, TXN_DONE);
        _cleanup_free_ char *text = make_page(record, RECORD_DONE, 0);

        (void) state;
        assert_harmless(text);
        assert_non_null(strstr(text, "The journal has no entries of this upgrade"));
        assert_non_null(strstr(text, "emqx-upgrade rollback"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(hostile_text_is_text_in_every_state),
                cmocka_unit_test(without_a_journal_the_rest_is_there),
        };

        if (!setlocale(LC_CTYPE, "C.UTF-8"))
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
