/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "helper/guard.h"

/* As apt 2.6 sends it. */
#define HEAD "VERSION 3\nAPT::Architecture=amd64\nDir::Cache=var/cache/apt\n"

static int judge(const char *text, Error *reterr) {
        FILE *in = fmemopen((void *) text, strlen(text), "r");
        int r;

        assert_non_null(in);
        r = guard_read(in, reterr);
        (void) fclose(in);
        return r;
}

static void another_line_of_releases_is_refused(void **state) {
        static const char *const lines[] = {
                "emqx 4.3.12 amd64 none < 4.4.0 amd64 none /var/cache/apt/archives/emqx_4.4.0_amd64.deb",
                "emqx-ee 4.3.12-1 amd64 none < 4.4.2-1 amd64 none /a.deb",
                "emqx 4.4.0 amd64 none > 4.3.12 amd64 none /a.deb",
                "emqx 4.3.12 amd64 none < 5.0.0 amd64 none **CONFIGURE**",
                "libc6 2.36 amd64 same < 2.37 amd64 same /b.deb\nemqx 4.3.12 amd64 none < 4.4.0 amd64 none /a.deb",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_(error_done) Error error = ERROR_NULL;
                char text[512];

                (void) snprintf(text, sizeof(text), HEAD "\n%s\n", lines[i]);
                assert_int_equal(judge(text, &error), -EPERM);
                assert_non_null(strstr(error.message, "without a backup"));
                assert_non_null(strstr(error.advice, "systemctl start emqx-upgrade@"));
        }
}

static void everything_else_is_let_pass(void **state) {
        static const char *const lines[] = {
                "emqx - - none < 4.4.0 amd64 none /a.deb",
                "emqx 4.3.12 amd64 none > - - none **REMOVE**",
                "emqx 4.3.12 amd64 none < 4.3.22 amd64 none /a.deb",
                "emqx 4.4.0 amd64 none = 4.4.0 amd64 none **CONFIGURE**",
                "emqx-upgrade 0.1.0 amd64 none < 4.4.0 amd64 none /a.deb",
                "emqx 4.3.12",
                "emqx x y z < v w x",
                "",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                char text[512];

                (void) snprintf(text, sizeof(text), HEAD "\n%s\n", lines[i]);
                assert_int_equal(judge(text, NULL), 0);
        }
        assert_int_equal(judge("", NULL), 0);
        assert_int_equal(judge(HEAD, NULL), 0);
}

static void it_is_switched_off_for_one_run(void **state) {
        static const char refused[] = "\nemqx 4.3.12 amd64 none < 4.4.0 amd64 none /a.deb\n";
        char text[512];

        (void) state;
        (void) snprintf(text, sizeof(text), HEAD "EmqxUpgrade::Guard=no\n%s", refused);
        assert_int_equal(judge(text, NULL), 0);
        (void) snprintf(text, sizeof(text), HEAD "EmqxUpgrade::Guard=yes\n%s", refused);
        assert_int_equal(judge(text, NULL), -EPERM);
        (void) snprintf(text, sizeof(text), "VERSION 2\n%s", refused);
        assert_int_equal(judge(text, NULL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(another_line_of_releases_is_refused),
                cmocka_unit_test(everything_else_is_let_pass),
                cmocka_unit_test(it_is_switched_off_for_one_run),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
