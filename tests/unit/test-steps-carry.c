/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include <fcntl.h>

#include "base/fileio.h"
#include "steps/carry.h"

/* The verdict on path in a tree at real, with RUNNER_DATA_DIR at data; -1: carried. */
static int verdict(const char *data, const char *real, const char *path, bool old) {
        Plan plan = { .data_real = (char *) data };
        PlanTree tree = { .real = (char *) real };
        const CarryRule *rule = carry_rule(&plan, &tree, path, old);

        return rule ? (int) rule->verdict : -1;
}

static void rules_of_the_data_directory_hold_wherever_it_is(void **state) {
        (void) state;
        assert_int_equal(verdict("/var/lib/emqx", "/var/lib/emqx", "patches/a.beam", true), TREE_DROP);
        assert_int_equal(verdict("/var/lib/emqx", "/var/lib/emqx", "configs/vm.args", true), TREE_DROP);
        assert_int_equal(verdict("/var/lib/emqx", "/var/lib/emqx", "emqx_erl_pipes", true), TREE_LEAVE);
        assert_int_equal(verdict("/var/lib/emqx", "/var/lib/emqx", "patches", true), -1);
        assert_int_equal(verdict("/var/lib/emqx", "/var/lib/emqx", "rules/patches/a.beam", true), -1);
        assert_int_equal(verdict("/var/lib/emqx", "/etc/emqx", "patches/a.beam", true), -1);
        assert_int_equal(verdict("/var/lib/emqx", "/var/lib/emqx-other", "patches/a.beam", true), -1);

        /* in an outer tree */
        assert_int_equal(verdict("/srv/emqx/var", "/srv/emqx", "var/patches/a.beam", true), TREE_DROP);
        assert_int_equal(verdict("/srv/emqx/var", "/srv/emqx", "var/emqx_erl_pipes", true), TREE_LEAVE);
        assert_int_equal(verdict("/srv/emqx/var", "/srv/emqx", "patches/a.beam", true), -1);
        assert_int_equal(verdict("/srv/emqx/var", "/srv/emqx", "variety/patches/a.beam", true), -1);
        assert_int_equal(verdict("/srv/emqx/var", "/srv/emqx", "var", true), -1);

        /* a tree that lies within has none of them */
        assert_int_equal(verdict("/srv/emqx", "/srv/emqx/patches", "a.beam", true), -1);
}

static void what_a_package_manager_leaves_is_new_only(void **state) {
        static const char *const suffixes[] = { "dpkg-dist", "dpkg-new", "dpkg-old", "rpmnew", "rpmsave", "rpmorig" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                char path[64];

                (void) snprintf(path, sizeof(path), "plugins/emqx_retainer.conf.%s", suffixes[i]);
                assert_int_equal(verdict("/var/lib/emqx", "/etc/emqx", path, false), TREE_DROP);
                assert_int_equal(verdict("/var/lib/emqx", "/etc/emqx", path, true), -1);
        }
        assert_int_equal(verdict("/var/lib/emqx", "/etc/emqx", "rpmsave", false), -1);
}

static void what_is_carried_has_no_rule_against_it(void **state) {
        static const char *const carried[] = { "mnesia", "mnesia/emqx@127.0.0.1/schema.DAT", "loaded_plugins",
                "plugins", "plugins/mine/ebin", "replayq/1", ".erlang.cookie", "emqx-export-2022-2-18-19-15-53.json",
                "trace", "other" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(carried); i++)
                assert_int_equal(verdict("/var/lib/emqx", "/var/lib/emqx", carried[i], true), -1);
}

static void the_man_page_has_every_row(void **state) {
        _cleanup_free_ char *text = NULL;
        const CarryRule *rule;

        (void) state;
        assert_int_equal(read_file_at(AT_FDCWD, MAN_PAGE, 1024 * 1024, &text, NULL), 0);
        for (size_t i = 0; (rule = carry_rule_at(i)); i++) {
                _cleanup_free_ char *row = NULL;

                assert_true(asprintf(&row, ".It Pa %s Ta %s Ta\n", rule->pattern,
                                            rule->verdict == TREE_CARRY  ? "carried"
                                                            : rule->tell ? "kept aside"
                                                                         : "left") > 0);
                if (!strstr(text, row))
                        fail_msg("the man page lacks: %s", row);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rules_of_the_data_directory_hold_wherever_it_is),
                cmocka_unit_test(what_is_carried_has_no_rule_against_it),
                cmocka_unit_test(the_man_page_has_every_row),
                cmocka_unit_test(what_a_package_manager_leaves_is_new_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
