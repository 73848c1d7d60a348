/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "node/survey.h"

static void answers_stand_between_marks(void **state) {
        static const char output[] = "a warning\n\nM1 status\nNode 'e@h' 4.4.0 is started\n\nM1 ok\n"
                                     "\nM1 rules\nUsage: emqx_ctl\n    broker\n\nM1 no\n\nM1 alarms\n\nM1 ok\n"
                                     "\nM1 tables\n[a,b]\nM1 no\nok\n";
        Survey s;

        (void) state;
        assert_int_equal(survey_parse(output, "M1", &s), 0);
        assert_string_equal(survey_text(&s, SURVEY_STATUS), "Node 'e@h' 4.4.0 is started\n");
        assert_string_equal(survey_text(&s, SURVEY_ALARMS), "");
        assert_null(survey_text(&s, SURVEY_RULES));
        assert_string_equal(s.answers[SURVEY_RULES].text, "Usage: emqx_ctl\n    broker\n");
        assert_string_equal(s.answers[SURVEY_TABLES].text, "[a,b]");
        assert_null(survey_text(&s, SURVEY_LISTENERS));
        assert_null(s.answers[SURVEY_LISTENERS].text);
        survey_done(&s);
        assert_null(s.answers[SURVEY_STATUS].text);
}

static void what_has_no_end_is_no_answer(void **state) {
        Survey s;

        (void) state;
        assert_int_equal(survey_parse("M1 status\nx\nM1 ok\nM1 rules\nrule(id='a'", "M1", &s), 0);
        assert_non_null(survey_text(&s, SURVEY_STATUS));
        assert_null(s.answers[SURVEY_RULES].text);
        survey_done(&s);
}

static void nobody_else_makes_marks(void **state) {
        Survey s;

        (void) state;
        assert_int_equal(survey_parse("M1 rules\nrule(id='a', rawsql='\nM2 ok\n M1 ok\nxM1 ok\nM1ok\n', …)\n\nM1 ok\n"
                                      "M1 nonsense\nM1 ok\nM1 status\n\nM1 maybe\nM1 ok",
                                         "M1", &s),
                        0);
        assert_string_equal(
                        survey_text(&s, SURVEY_RULES), "rule(id='a', rawsql='\nM2 ok\n M1 ok\nxM1 ok\nM1ok\n', …)\n");
        assert_null(survey_text(&s, SURVEY_STATUS));
        survey_done(&s);
}

static void other_output_is_no_survey(void **state) {
        static const char *const bad[] = { "", "M1", "M1 ", "M1 status", "M1 status\n", "M1 status\nM1", "M1 ok\n",
                "Node 'emqx@127.0.0.1' not responding to pings.\nNode is not running!\n" };
        Survey s;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(survey_parse(bad[i], "M1", &s), -EBADMSG);
}

/* Whether Erlang takes it is for tests on machines to say. */
static void expression_asks_for_every_part_once(void **state) {
        _cleanup_free_ char *expression = survey_expression("M1");

        (void) state;
        assert_non_null(expression);
        assert_null(strchr(expression, '\''));
        for (unsigned i = 0; i < _SURVEY_PART_MAX; i++) {
                _cleanup_free_ char *begin = NULL;
                const char *found;

                assert_true(asprintf(&begin, "{\"%s\", fun", survey_part_name((SurveyPart) i)) > 0);
                found = strstr(expression, begin);
                assert_non_null(found);
                assert_null(strstr(found + 1, begin));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers_stand_between_marks),
                cmocka_unit_test(what_has_no_end_is_no_answer),
                cmocka_unit_test(nobody_else_makes_marks),
                cmocka_unit_test(other_output_is_no_survey),
                cmocka_unit_test(expression_asks_for_every_part_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
