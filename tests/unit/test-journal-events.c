/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <systemd/sd-id128.h>

#include "base/fileio.h"
#include "base/strv.h"
#include "journal/events.h"

static void ids_are_valid_random_and_unique(void **state) {
        (void) state;

        for (int i = 0; i < _EVENT_MAX; i++) {
                char text[SD_ID128_STRING_MAX];
                sd_id128_t id;

                assert_true(sd_id128_from_string(event_id(i), &id) >= 0);
                assert_string_equal(sd_id128_to_string(id, text), event_id(i)); /* no dashes, lower case */
                assert_int_equal(id.bytes[6] >> 4, 4);                          /* RFC 4122 version 4 */
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(event_id(i), event_id(j));
        }
}

static void names_are_those_of_the_enumeration(void **state) {
        (void) state;

        assert_string_equal(event_name(EVENT_UPGRADE_STARTED), "upgrade-started");
        assert_string_equal(event_name(EVENT_NEW_DEFAULT_KEPT_ASIDE), "new-default-kept-aside");
        for (int i = 0; i < _EVENT_MAX; i++)
                assert_int_equal(strspn(event_name(i), "abcdefghijklmnopqrstuvwxyz-"), strlen(event_name(i)));
}

static void only_a_stuck_rollback_is_critical(void **state) {
        (void) state;

        for (int i = 0; i < _EVENT_MAX; i++)
                if (i == EVENT_ROLLBACK_FAILED)
                        assert_int_equal(event_priority(i), LOG_CRIT);
                else
                        assert_in_range(event_priority(i), LOG_ERR, LOG_DEBUG);
}

static int event_by_id(const char *id) {
        for (int i = 0; i < _EVENT_MAX; i++)
                if (streq(event_id(i), id))
                        return i;
        return -1;
}

/* What is between the two @ of a word must be a field that we send. */
static void assert_fields_known(const char *line) {
        char **known = STRV_MAKE("EMQX_UPGRADE_ID", "EMQX_UPGRADE_FROM", "EMQX_UPGRADE_TO", "EMQX_UPGRADE_STEP",
                        "EMQX_UPGRADE_ERROR", "EMQX_UPGRADE_CHECK");
        const char *s = line;

        while ((s = strchr(s, '@'))) {
                size_t n = strspn(++s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
                _cleanup_free_ char *name = strndup(s, n);

                if (n > 0 && s[n] == '@') {
                        assert_true(strv_contains(known, name));
                        s += n + 1;
                }
        }
}

static void every_event_has_one_entry_in_the_catalog_and_reverse(void **state) {
        _cleanup_free_ char *text = NULL;
        int n[_EVENT_MAX] = { 0 }, subjects = 0, documents = 0;

        (void) state;

        assert_int_equal(read_file_at(AT_FDCWD, CATALOG, 1024 * 1024, &text, NULL), 0);
        for (char *next = text, *line; (line = strsep(&next, "\n"));) {
                const char *id = startswith(line, "-- ");

                if (strlen(line) > 76) /* systemd.io/CATALOG */
                        fail_msg("more than 76 columns: %s", line);
                assert_fields_known(line);
                if (id) {
                        assert_true(event_by_id(id) >= 0);
                        n[event_by_id(id)]++;
                }
                subjects += startswith(line, "Subject: ") ? 1 : 0;
                documents += startswith(line, "Documentation: man:emqx-upgrade") ? 1 : 0;
        }

        for (int i = 0; i < _EVENT_MAX; i++)
                assert_int_equal(n[i], 1);
        assert_int_equal(subjects, _EVENT_MAX);
        assert_int_equal(documents, _EVENT_MAX);
}

static void the_man_page_lists_every_event(void **state) {
        static const char *const words[] = { "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug" };
        _cleanup_free_ char *text = NULL;

        (void) state;

        assert_int_equal(read_file_at(AT_FDCWD, MAN_PAGE, 1024 * 1024, &text, NULL), 0);
        for (int i = 0; i < _EVENT_MAX; i++) {
                _cleanup_free_ char *item = NULL;

                assert_true(asprintf(&item, ".It Cm %s Pq %s\n.Li %s\n", event_name(i), words[event_priority(i)],
                                            event_id(i)) > 0);
                if (!strstr(text, item))
                        fail_msg("the man page lacks: %s", item);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ids_are_valid_random_and_unique),
                cmocka_unit_test(names_are_those_of_the_enumeration),
                cmocka_unit_test(only_a_stuck_rollback_is_critical),
                cmocka_unit_test(every_event_has_one_entry_in_the_catalog_and_reverse),
                cmocka_unit_test(the_man_page_lists_every_event),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
