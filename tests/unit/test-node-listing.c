/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "node/listing.h"

/* Facts 5.3. */
static const char listeners[] =
                "mqtt:ws:external\n  listen_on       : 0.0.0.0:8083\n  acceptors       : 4\n  max_conns       : 102400\n"
                "  current_conn    : 0\n  shutdown_count  : []\n"
                "mqtt:tcp:external\n  listen_on       : 0.0.0.0:1883\n  acceptors       : 8\n  max_conns       : 1024000\n"
                "  current_conn    : 3\n  shutdown_count  : [{keepalive_timeout,2},{closed,14}]\n"
                "http:management\n  listen_on       : [::1]:8081\n  acceptors       : 2\n";

static const char plugins[] = "Plugin(emqx_retainer, description=EMQ X Retainer, active=true)\n"
                              "Plugin(emqx_auth_ldap, description=EMQ X Authentication/ACL with LDAP, active=false)\n"
                              "Plugin(emqx_management, description=EMQ X Management API and CLI, active=true)\n";

static const char rules[] =
                "rule(id='rule:b', for='t/#', rawsql='SELECT * FROM \"t/#\"', actions=[#{args => #{},fallbacks => []}], "
                "on_action_failed='continue', metrics=[#{failed => 0,node => 'emqx@127.0.0.1'}], enabled='true', "
                "description='')\n"
                "rule(id='rule:a', for='t/#', rawsql='SELECT *', actions=[], on_action_failed='continue', metrics=[], "
                "enabled='false', description='off')\n";

static const char resources[] =
                "resource(id='resource:1', type='bridge_mqtt', config=#{<<\"password\">> => <<\"secret\">>}, "
                "status=[#{is_alive => true,node => 'emqx1@10.0.0.1'},#{is_alive => true,node => 'emqx2@10.0.0.2'}], "
                "description='')\n"
                "resource(id='resource:2', type='web_hook', config=#{}, status=[#{is_alive => true,node => 'emqx1@10.0.0.1'},"
                "#{is_alive => false,node => 'emqx2@10.0.0.2'}], description='')\n";

/* Breaks lines at blanks so that none is longer than 80 columns where that can be, and indents what follows. */
static char *wrap(const char *text) {
        char *wrapped = malloc(4 * strlen(text) + 1), *out = wrapped;
        size_t column = 0;

        assert_non_null(wrapped);
        for (const char *p = text; *p; p++) {
                if (*p == ' ' && column + strcspn(p + 1, " \n") >= 80) {
                        out = stpcpy(out, "\r\n      ");
                        column = 6;
                        continue;
                }
                *out++ = *p;
                column = *p == '\n' ? 0 : column + 1;
        }
        *out = 0;
        return wrapped;
}

/* As they are printed, and wrapped. */
#define ASSERT_BOTH(text, check)                                                                                      \
        do {                                                                                                          \
                _cleanup_free_ char *_wrapped = wrap(text);                                                           \
                check(text);                                                                                          \
                check(_wrapped);                                                                                      \
        } while (false)

static void assert_list(char **l, const char *joined) {
        _cleanup_free_ char *is = strv_join(l, ", ");

        assert_non_null(is);
        assert_string_equal(is, joined);
        strv_free(l);
}

static void check_listeners(const char *text) {
        char **l;

        assert_int_equal(listeners_parse(text, &l), 0);
        assert_list(l, "http:management [::1]:8081, mqtt:tcp:external 0.0.0.0:1883, mqtt:ws:external 0.0.0.0:8083");
}

static void listeners_have_an_id_and_an_address(void **state) {
        char **l = NULL;

        (void) state;
        ASSERT_BOTH(listeners, check_listeners);
        assert_int_equal(listeners_parse("none\n  listen_on : 1\nlisten_on:1883", &l), -EBADMSG);
        assert_int_equal(listeners_parse("mqtt:tcp:a\nlisten_on: :1883", &l), 0);
        assert_list(l, "mqtt:tcp:a 1883");
        assert_int_equal(listeners_parse("mqtt:tcp:a listen_on :", &l), -EBADMSG);
}

static void check_plugins(const char *text) {
        char **l;

        assert_int_equal(plugins_parse(text, &l), 0);
        assert_list(l, "emqx_management, emqx_retainer");
}

static void plugins_and_modules_are_those_that_are_active(void **state) {
        char **l = STRV_MAKE("x");

        (void) state;
        ASSERT_BOTH(plugins, check_plugins);
        assert_int_equal(modules_parse("Module(emqx_mod_presence, description=EMQ X Presence Module, active=true)\n",
                                         &l),
                        0);
        assert_list(l, "emqx_mod_presence");
        assert_int_equal(modules_parse("Module(emqx_mod_presence, description=, active=false)\n", &l), 0);
        assert_null(l);
        assert_int_equal(modules_parse(" \r\n", &l), 0);
        assert_null(l);
}

static void descriptions_do_not_make_plugins(void **state) {
        char **l;

        (void) state;
        assert_int_equal(plugins_parse("Plugin(a, description=Plugin(b, active=true), active=false)\n"
                                       "Plugin(c, description=, active=false, active=true)\nPlugin(d, active=no)\n"
                                       "Plugin(, active=true)\nPlugin(e f, active=true)\nPlugin(g",
                                         &l),
                        0);
        assert_list(l, "c");
}

static void check_rules(const char *text) {
        char **ids, **enabled;

        assert_int_equal(rules_parse(text, &ids, &enabled), 0);
        assert_list(ids, "rule:a, rule:b");
        assert_list(enabled, "rule:b");
}

static void check_resources(const char *text) {
        char **ids, **alive;

        assert_int_equal(resources_parse(text, &ids, &alive), 0);
        assert_list(ids, "resource:1, resource:2");
        assert_list(alive, "resource:1");
}

static void rules_and_resources_have_ids(void **state) {
        char **ids, **good;

        (void) state;
        ASSERT_BOTH(rules, check_rules);
        ASSERT_BOTH(resources, check_resources);
        assert_int_equal(rules_parse("", &ids, &good), 0);
        assert_null(ids);
        assert_null(good);
}

static void configuration_cannot_make_a_dead_resource_alive(void **state) {
        char **ids, **alive;

        (void) state;
        assert_int_equal(resources_parse("resource(id='a', config=#{x => <<\"is_alive => true\">>}, "
                                         "status=[#{is_alive=>false}], description='is_alive => true')\n"
                                         "resource(id='b', status=[], description='')\nresource(id='', status=[])\n"
                                         "resource(id='c\nresource(type='d')\n resource ( id='e')\n",
                                         &ids, &alive),
                        0);
        assert_list(ids, "a, b");
        assert_null(alive);
}

static void other_output_is_no_list(void **state) {
        static const char *const bad[] = { "Usage: emqx_ctl\n    broker\n",
                "RPC to emqx@127.0.0.1 error: {badrpc,nodedown}\n", "Node 'emqx@127.0.0.1' not responding to pings.\n",
                "Plugin", "Module(", "rule(", "resource(id=", "listen_on" };
        char **a = NULL, **b = NULL;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(listeners_parse(bad[i], &a), -EBADMSG);
                assert_int_equal(plugins_parse(bad[i], &a), -EBADMSG);
                assert_int_equal(rules_parse(bad[i], &a, &b), -EBADMSG);
                assert_int_equal(resources_parse(bad[i], &a, &b), -EBADMSG);
        }
        assert_null(a);
        assert_null(b);
}

static void statistics_are_numbers(void **state) {
        static const char text[] = "connections.count             : 12\nconnections.max               : 345\r\n"
                                   "retained.count: 7\nsubscriptions.count           :\n   18446744073709551615\n"
                                   "sessions.count                : many\ntopics.count : 99999999999999999999999\nx :";
        static const char *const bad[] = { "sessions.count", "topics.count", "routes.count", "connections", "x",
                "12" };
        uint64_t n = 5;

        (void) state;
        assert_int_equal(stat_parse(text, "connections.count", &n), 0);
        assert_int_equal(n, 12);
        assert_int_equal(stat_parse(text, "connections.max", &n), 0);
        assert_int_equal(n, 345);
        assert_int_equal(stat_parse(text, "retained.count", &n), 0);
        assert_int_equal(n, 7);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(stat_parse(text, bad[i], &n), -EBADMSG);
        assert_int_equal(n, 7);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(listeners_have_an_id_and_an_address),
                cmocka_unit_test(plugins_and_modules_are_those_that_are_active),
                cmocka_unit_test(descriptions_do_not_make_plugins),
                cmocka_unit_test(rules_and_resources_have_ids),
                cmocka_unit_test(configuration_cannot_make_a_dead_resource_alive),
                cmocka_unit_test(other_output_is_no_list),
                cmocka_unit_test(statistics_are_numbers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
