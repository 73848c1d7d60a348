/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "steps/baseline.h"

static Survey survey_of(const char *output) {
        Survey s;

        assert_int_equal(survey_parse(output, "M", &s), 0);
        return s;
}

static Baseline baseline_of(const char *output) {
        Survey s = survey_of(output);
        Baseline b = { NULL };

        assert_int_equal(baseline_take(&b, &s), 0);
        survey_done(&s);
        return b;
}

static const char all[] =
                "M status\nNode 'e@h' 4.3.12 is started\n\nM ok\nM broker\nversion : 4.3.12\n\nM ok\nM application\n\nM ok\n"
                "M tables\n\nM ok\nM peers\n2\nM ok\nM alarms\nhigh_cpu_usage\n<<\"conn_congestion/a\\nb\">>\n\nM ok\n"
                "M statistics\nconnections.count : 3\nsessions.count : 4\nsubscriptions.count : 5\nretained.count : 6\n\nM ok\n"
                "M listeners\nmqtt:tcp:external\n  listen_on : 0.0.0.0:1883\n\nM ok\n"
                "M plugins\nPlugin(emqx_retainer, description=R, active=true)\n\nM ok\n"
                "M modules\nModule(emqx_mod_presence, description=P, active=false)\n\nM ok\n"
                "M rules\nrule(id='rule:1', rawsql='SELECT', enabled='true')\n\nM ok\n"
                "M resources\nresource(id='resource:1', config=#{<<\"password\">> => <<\"secret\">>}, "
                "status=[#{is_alive => true,node => 'e@h'}])\n\nM ok\n";

static void assert_is_all(const Baseline *b) {
        assert_null(b->not_asked);
        assert_string_equal(b->listeners[0], "mqtt:tcp:external 0.0.0.0:1883");
        assert_string_equal(b->plugins[0], "emqx_retainer");
        assert_null(b->modules);
        assert_string_equal(b->rules_enabled[0], "rule:1");
        assert_string_equal(b->resources_alive[0], "resource:1");
        assert_int_equal(strv_length(b->alarms), 2);
        assert_int_equal(b->peers, 2);
        assert_int_equal(b->connections, 3);
        assert_int_equal(b->retained, 6);
}

static void it_goes_into_the_record_and_comes_back(void **state) {
        Baseline b = baseline_of(all), again = { NULL };
        json_object *o;

        (void) state;
        assert_is_all(&b);
        assert_int_equal(baseline_to_json(&b, &o), 0);
        assert_null(strstr(json_object_to_json_string(o), "secret"));
        assert_int_equal(baseline_from_json(o, &again), 0);
        assert_is_all(&again);
        (void) json_object_put(o);
        baseline_done(&b);
        baseline_done(&again);
}

static void what_cannot_be_asked_is_noted(void **state) {
        Baseline b = baseline_of(
                        "M status\n\nM no\nM tables\n\nM ok\nM plugins\nUsage: emqx_ctl\n\nM ok\nM peers\nmany\nM ok\n"
                        "M rules\nrule(id='rule:1', raw");
        _cleanup_free_ char *text = baseline_text(&b);

        (void) state;
        assert_true(baseline_asked(&b, SURVEY_TABLES));
        for (SurveyPart part = 0; part < _SURVEY_PART_MAX; part++)
                assert_true(baseline_asked(&b, part) == (part == SURVEY_TABLES));
        assert_non_null(strstr(text, "not to be asked: status, broker"));
        baseline_done(&b);
}

static void a_record_of_other_types_is_refused(void **state) {
        static const char *const bad[] = { "[]", "{\"plugins\": {}}", "{\"plugins\": [1]}", "{\"peers\": \"2\"}",
                "{\"peers\": -1}", "{\"retained_why_none\": []}" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                Baseline b = { NULL };
                json_object *o;

                assert_int_equal(json_parse(bad[i], strlen(bad[i]), &o), 0);
                assert_int_equal(baseline_from_json(o, &b), -EBADMSG);
                (void) json_object_put(o);
                baseline_done(&b);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_goes_into_the_record_and_comes_back),
                cmocka_unit_test(what_cannot_be_asked_is_noted),
                cmocka_unit_test(a_record_of_other_types_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
