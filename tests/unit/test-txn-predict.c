/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "base/strv.h"
#include "txn/predict.h"

typedef struct Fixture {
        char *dir;
        int dir_fd;
        Plan *plan; /* of the upgrade that is predicted */
} Fixture;

static char **const names = STRV_MAKE("stop", "backup", "remove", "install", "restore", "start");

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));

        f->dir = make_tmpdir();
        f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dir_fd >= 0);
        assert_int_equal(plan_new("4.4.0", &f->plan), 0);
        assert_int_equal(free_and_strdup(&f->plan->kind, "deb"), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        (void) plan_free(f->plan);
        (void) safe_close(f->dir_fd);
        remove_tmpdir(f->dir);
        free(f);
        return 0;
}

/* An upgrade in the history whose first step took usec, the next twice as long, and so on. */
static void add_upgrade(Fixture *f, const char *kind, usec_t usec, TxnResult result) {
        _cleanup_(txn_freep) Txn *t = NULL;
        Plan *plan;

        assert_int_equal(plan_new("4.4.0", &plan), 0);
        assert_int_equal(free_and_strdup(&plan->kind, kind), 0);
        assert_int_equal(txn_create(f->dir_fd, plan, "emqx-upgrade@4.4.0.service", names, &t), 0);
        for (size_t i = 0; i < t->n_steps; i++) {
                t->steps[i].state = STEP_DONE;
                t->steps[i].took_usec = usec * (i + 1);
        }
        assert_int_equal(txn_close(t, result), 0);
}

static void assumes_what_nobody_knows(void **state) {
        Fixture *f = *state;
        Prediction n;

        f->plan->program_bytes = UINT64_C(100) << 20;
        predict(NULL, f->dir_fd, f->plan, &n);
        assert_true(n.total_usec > 0);
        assert_string_equal(n.parts[PREDICT_STOP].why, "assumed");
        assert_int_equal(n.parts[PREDICT_PACKAGES].usec, 4 * USEC_PER_SEC);
        assert_int_equal(n.total_usec,
                        n.parts[PREDICT_STOP].usec + n.parts[PREDICT_DATA].usec + n.parts[PREDICT_PACKAGES].usec +
                                        n.parts[PREDICT_START].usec);
        assert_int_equal(free_and_strdup(&f->plan->beside_dir, "/opt/emqx.beside"), 0);
        predict(NULL, -1, f->plan, &n);
        assert_int_equal(n.parts[PREDICT_PACKAGES].usec, 0);
}

static void last_upgrade_that_was_done_counts(void **state) {
        Fixture *f = *state;
        Prediction n;

        add_upgrade(f, "deb", 7000, TXN_DONE);
        add_upgrade(f, "deb", 1000, TXN_DONE);
        add_upgrade(f, "deb", 5, TXN_ROLLED_BACK);
        predict(NULL, f->dir_fd, f->plan, &n);
        assert_int_equal(n.parts[PREDICT_STOP].usec, 1000);
        assert_int_equal(n.parts[PREDICT_DATA].usec, 2000 + 5000);
        assert_int_equal(n.parts[PREDICT_PACKAGES].usec, 3000 + 4000);
        assert_int_equal(n.parts[PREDICT_START].usec, 6000);
        assert_int_equal(n.total_usec, 21000);
}

static void upgrade_of_another_kind_says_nothing(void **state) {
        Fixture *f = *state;
        Prediction n;

        add_upgrade(f, "zip", 1000, TXN_DONE);
        predict(NULL, f->dir_fd, f->plan, &n);
        assert_string_equal(n.parts[PREDICT_STOP].why, "assumed");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(assumes_what_nobody_knows, set_up, tear_down),
                cmocka_unit_test_setup_teardown(last_upgrade_that_was_done_counts, set_up, tear_down),
                cmocka_unit_test_setup_teardown(upgrade_of_another_kind_says_nothing, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
