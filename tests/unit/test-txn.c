/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include <sched.h>
#include <sys/mount.h>

#include "base/fileio.h"
#include "base/strv.h"
#include "txn/txn.h"

/* An open transaction on a small tmpfs. */
typedef struct Fixture {
        char *dir;
        int dir_fd;
        Txn *txn;
        Error error;
} Fixture;

static char **const names = STRV_MAKE("inspect", "stage", "stop", "backup", "start", "commit");

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));
        Plan *plan;

        f->dir = make_tmpdir();
        assert_int_equal(mount("tmpfs", f->dir, "tmpfs", 0, "size=512k"), 0);
        f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dir_fd >= 0);
        assert_int_equal(plan_new("4.4.0", &plan), 0);
        assert_int_equal(free_and_strdup(&plan->from, "4.3.12"), 0);
        assert_int_equal(plan_add_tree(plan, "etc", "/etc/emqx", "/srv/etc", "../srv/etc", "because"), 0);
        assert_int_equal(txn_create(f->dir_fd, plan, "emqx-upgrade@4.4.0.service", names, &f->txn), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        (void) txn_free(f->txn);
        error_done(&f->error);
        f->dir_fd = safe_close(f->dir_fd);
        assert_int_equal(umount(f->dir), 0);
        remove_tmpdir(f->dir);
        free(f);
        return 0;
}

static int reload(Fixture *f) {
        f->txn = txn_free(f->txn);
        return txn_load(f->dir_fd, &f->txn, &f->error);
}

static void mark(Fixture *f, const char *name, StepState state) {
        assert_int_equal(txn_mark(f->txn, txn_find(f->txn, name), state), 0);
}

static void fill_disk(Fixture *f) {
        static const char block[4096];
        _cleanup_close_ int fd = openat(f->dir_fd, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        while (write(fd, block, sizeof(block)) > 0)
                ;
        assert_int_equal(errno, ENOSPC);
}

static void everything_is_read_back(void **state) {
        Fixture *f = *state;
        char id[PLAN_ID_SIZE];

        (void) snprintf(id, sizeof(id), "%s", f->txn->plan->id);
        mark(f, "inspect", STEP_BEGUN);
        mark(f, "inspect", STEP_DONE);
        assert_int_equal(free_and_strdup(&f->txn->plan->settings, "[Upgrade]\nAttempts=7"), 0);
        mark(f, "stage", STEP_BEGUN);
        assert_int_equal(reload(f), 1);
        assert_string_equal(f->txn->plan->id, id);
        assert_string_equal(f->txn->plan->settings, "[Upgrade]\nAttempts=7");
        assert_string_equal(f->txn->plan->from, "4.3.12");
        assert_string_equal(f->txn->plan->trees[0].path, "/etc/emqx");
        assert_string_equal(f->txn->unit, "emqx-upgrade@4.4.0.service");
        assert_int_equal(f->txn->result, TXN_INTERRUPTED);
        assert_int_equal(f->txn->steps[0].state, STEP_DONE);
        assert_int_equal(f->txn->steps[1].state, STEP_BEGUN);
        assert_int_equal(f->txn->steps[1].attempts, 1);
        assert_int_equal(f->txn->steps[2].state, STEP_TODO);
}

static void checks_are_read_back_each_as_it_was_made_last(void **state) {
        Fixture *f = *state;
        Plan *p = f->txn->plan;

        assert_int_equal(plan_keep_check(p, "inspect", "space", CHECK_WARNED, "little", "Make room."), 0);
        assert_int_equal(plan_keep_check(p, "inspect", "node", CHECK_PASSED, "a\xff\nb", NULL), 0);
        assert_int_equal(plan_keep_check(p, "verify", "node", CHECK_PASSED, "other step", NULL), 0);
        assert_int_equal(plan_keep_check(p, "inspect", "space", CHECK_REFUSED, "none", NULL), 0);
        assert_int_equal(txn_save(f->txn), 0);
        assert_int_equal(reload(f), 1);

        p = f->txn->plan;
        assert_int_equal(p->n_checks, 3);
        assert_string_equal(p->checks[0].name, "space");
        assert_int_equal(p->checks[0].outcome, CHECK_REFUSED);
        assert_string_equal(p->checks[0].text, "none");
        assert_null(p->checks[0].advice);
        assert_string_equal(p->checks[1].text, "a\\xff\\nb");
        assert_string_equal(p->checks[2].step, "verify");
}

static void checks_cannot_fill_the_record(void **state) {
        Fixture *f = *state;
        Plan *p = f->txn->plan;
        char text[4096], name[16];

        (void) memset(text, 'x', sizeof(text));
        (void) memcpy(text + 1020, "ä", 2);
        text[sizeof(text) - 1] = 0;
        for (unsigned i = 0; i < 200; i++) {
                (void) snprintf(name, sizeof(name), "check-%u", i);
                assert_int_equal(plan_keep_check(p, "inspect", name, CHECK_PASSED, text, NULL), 0);
        }
        assert_int_equal(p->n_checks, 128);
        assert_int_equal(strlen(p->checks[0].text), 1020 + strlen("…")); /* the letter is not cut in two */
        assert_int_equal(txn_save(f->txn), 0);
        assert_int_equal(reload(f), 1);
}

static void failed_save_keeps_the_old_record(void **state) {
        Fixture *f = *state;

        mark(f, "stop", STEP_BEGUN);
        fill_disk(f);
        assert_int_equal(txn_mark(f->txn, txn_find(f->txn, "stop"), STEP_DONE), -ENOSPC);
        assert_int_equal(reload(f), 1);
        assert_int_equal(f->txn->steps[txn_find(f->txn, "stop")].state, STEP_BEGUN);
}

static void second_transaction_is_refused(void **state) {
        Fixture *f = *state;
        Plan *plan;
        Txn *other;

        assert_int_equal(plan_new("4.4.11", &plan), 0);
        assert_int_equal(txn_create(f->dir_fd, plan, "other.service", names, &other), -EEXIST);
}

static void first_cause_and_failed_way_back_are_both_kept(void **state) {
        Fixture *f = *state;

        mark(f, "stop", STEP_BEGUN);
        assert_int_equal(txn_turn_back(f->txn, "stop", "first", "do this"), 0);
        assert_int_equal(txn_turn_back(f->txn, "start", "second", NULL), 0);
        assert_int_equal(txn_stick(f->txn, "backup", "no disk"), 0);
        assert_int_equal(reload(f), 1);
        assert_int_equal(f->txn->direction, TXN_STUCK);
        assert_string_equal(f->txn->cause_step, "stop");
        assert_string_equal(f->txn->cause, "first");
        assert_string_equal(f->txn->advice, "do this");
        assert_string_equal(f->txn->back_cause_step, "backup");
        assert_string_equal(f->txn->back_cause, "no disk");
}

static void closed_one_is_history_and_no_longer_open(void **state) {
        _cleanup_free_ char *id = NULL;
        Fixture *f = *state;

        assert_int_equal(free_and_strdup(&id, f->txn->plan->id), 0);
        assert_int_equal(txn_close(f->txn, TXN_DONE), 0);
        assert_int_equal(reload(f), 0);
        assert_int_equal(txn_load_history(f->dir_fd, id, &f->txn, &f->error), 0);
        assert_int_equal(f->txn->result, TXN_DONE);
        f->txn = txn_free(f->txn);
        assert_int_equal(txn_load_history(f->dir_fd, "last", &f->txn, &f->error), 0);
        assert_string_equal(f->txn->plan->id, id);
        f->txn = txn_free(f->txn);
        assert_int_equal(txn_load_history(f->dir_fd, "../transaction", &f->txn, &f->error), -ENOENT);
}

/* A crash between history and removal. */
static void half_closed_one_is_closed_by_the_next_reader(void **state) {
        _cleanup_free_ char *id = NULL;
        Fixture *f = *state;

        assert_int_equal(free_and_strdup(&id, f->txn->plan->id), 0);
        f->txn->result = TXN_ROLLED_BACK;
        assert_int_equal(txn_save(f->txn), 0);
        assert_int_equal(reload(f), 0);
        assert_int_equal(faccessat(f->dir_fd, "transaction", F_OK, 0), -1);
        assert_int_equal(txn_load_history(f->dir_fd, id, &f->txn, &f->error), 0);
        assert_int_equal(f->txn->result, TXN_ROLLED_BACK);
}

static void done_one_can_be_taken_back_once(void **state) {
        Fixture *f = *state;

        mark(f, "stop", STEP_BEGUN);
        mark(f, "stop", STEP_DONE);
        assert_int_equal(txn_close(f->txn, TXN_DONE), 0);
        assert_int_equal(txn_reopen(f->txn, "emqx-upgrade-rollback@last.service", "asked"), 0);
        assert_int_equal(reload(f), 1);
        assert_int_equal(f->txn->direction, TXN_BACK);
        assert_string_equal(f->txn->unit, "emqx-upgrade-rollback@last.service");
        assert_int_equal(txn_close(f->txn, TXN_ROLLED_BACK), 0);
        assert_int_equal(txn_reopen(f->txn, "x", "again"), -EINVAL);
}

/* What was refused has touched nothing: there is no way back from it. */
static void attempt_that_was_refused_hides_none_that_was_made(void **state) {
        _cleanup_free_ char *id = NULL;
        Fixture *f = *state;
        Plan *plan;

        assert_int_equal(free_and_strdup(&id, f->txn->plan->id), 0);
        assert_int_equal(txn_close(f->txn, TXN_REFUSED), 0);
        f->txn = txn_free(f->txn);
        assert_int_equal(txn_load_last_made(f->dir_fd, &f->txn), -ENOENT);
        assert_int_equal(txn_load_history(f->dir_fd, "last", &f->txn, &f->error), 0);
        assert_string_equal(f->txn->plan->id, id);

        for (int i = 0; i < 2; i++) {
                f->txn = txn_free(f->txn);
                assert_int_equal(plan_new("4.4.0", &plan), 0);
                if (i == 0)
                        assert_int_equal(free_and_strdup(&id, plan->id), 0);
                assert_int_equal(txn_create(f->dir_fd, plan, "emqx-upgrade@4.4.0.service", names, &f->txn), 0);
                assert_int_equal(txn_close(f->txn, i == 0 ? TXN_DONE : TXN_REFUSED), 0);
        }
        f->txn = txn_free(f->txn);
        assert_int_equal(txn_load_last_made(f->dir_fd, &f->txn), 0);
        assert_string_equal(f->txn->plan->id, id);
}

/* Neither what came after it, nor a damaged record, hides a release that was taken back. */
static void highest_release_that_was_taken_back_is_found(void **state) {
        static const struct {
                const char *to;
                TxnResult result;
        } past[] = {
                { "4.4.9", TXN_ROLLED_BACK },
                { "4.4.10", TXN_ROLLED_BACK },
                { "4.4.2", TXN_ROLLED_BACK },
                { "4.4.1", TXN_DONE },
                { "4.4.14", TXN_DONE },
                { "4.4.15", TXN_REFUSED },
        };
        Fixture *f = *state;
        Plan *plan;

        assert_int_equal(txn_close(f->txn, TXN_DONE), 0);
        f->txn = txn_free(f->txn);
        assert_int_equal(txn_load_highest_rolled_back(f->dir_fd, &f->txn), -ENOENT);

        for (size_t i = 0; i < ELEMENTSOF(past); i++) {
                assert_int_equal(plan_new(past[i].to, &plan), 0);
                assert_int_equal(txn_create(f->dir_fd, plan, "emqx-upgrade@x.service", names, &f->txn), 0);
                assert_int_equal(txn_close(f->txn, past[i].result), 0);
                f->txn = txn_free(f->txn);
        }
        assert_int_equal(replace_volatile_file_at(
                                         f->dir_fd, "history/00000000000000000000000000000000.json", "{", 1, 0600),
                        0);
        assert_int_equal(txn_load_highest_rolled_back(f->dir_fd, &f->txn), 0);
        assert_string_equal(f->txn->plan->to, "4.4.10");

        /* What cannot be read is not taken for a history without any. */
        f->txn = txn_free(f->txn);
        assert_return_code(renameat(f->dir_fd, "history", f->dir_fd, "away"), errno);
        assert_int_equal(replace_volatile_file_at(f->dir_fd, "history", "", 0, 0600), 0);
        assert_int_equal(txn_load_highest_rolled_back(f->dir_fd, &f->txn), -ENOTDIR);
}

static void hold_is_needed_from_stop_until_start(void **state) {
        Fixture *f = *state;

        assert_false(txn_needs_hold(f->txn));
        mark(f, "stop", STEP_BEGUN);
        assert_true(txn_needs_hold(f->txn));
        mark(f, "stop", STEP_DONE);
        mark(f, "backup", STEP_BEGUN);
        assert_true(txn_needs_hold(f->txn));
        mark(f, "start", STEP_BEGUN);
        assert_true(txn_needs_hold(f->txn));
        mark(f, "start", STEP_DONE);
        assert_false(txn_needs_hold(f->txn));
        mark(f, "start", STEP_UNDO_BEGUN);
        assert_true(txn_needs_hold(f->txn));
        mark(f, "start", STEP_UNDONE);
        mark(f, "stop", STEP_UNDO_BEGUN);
        assert_true(txn_needs_hold(f->txn));
        mark(f, "stop", STEP_UNDONE);
        assert_false(txn_needs_hold(f->txn));
}

static void step_given_up_is_kept_with_its_reason_and_is_to_be_undone(void **state) {
        Fixture *f = *state;
        size_t i = txn_find(f->txn, "backup");

        mark(f, "backup", STEP_BEGUN);
        assert_int_equal(txn_give_up(f->txn, i, "no room"), 0);
        assert_int_equal(reload(f), 1);
        assert_int_equal(f->txn->steps[i].state, STEP_FAILED);
        assert_string_equal(f->txn->steps[i].why, "no room");
        assert_int_equal(f->txn->direction, TXN_FORWARD);
        assert_null(f->txn->cause);
        assert_true(f->txn->steps[i].took_usec > 0);
}

static void damaged_record_is_refused(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *text = NULL;
        size_t size;

        mark(f, "stop", STEP_BEGUN);
        assert_int_equal(read_file_at(f->dir_fd, "transaction", 65536, &text, &size), 0);

        /* Cut off anywhere, and with each kind of value replaced by one of another kind. */
        for (size_t n = 0; n < size; n += 7) {
                error_done(&f->error);
                assert_int_equal(replace_volatile_file_at(f->dir_fd, "transaction", text, n, 0600), 0);
                assert_int_equal(reload(f), -EBADMSG);
                assert_non_null(f->error.message);
        }
        for (char *p = text; *p; p++) {
                char saved = *p;

                if (!strchr("\"{[0123456789", saved))
                        continue;
                *p = 'x';
                error_done(&f->error);
                assert_int_equal(replace_volatile_file_at(f->dir_fd, "transaction", text, size, 0600), 0);
                (void) reload(f); /* a digit in a number may do no harm; nothing crashes */
                *p = saved;
        }
}

static void other_formats_and_names_with_paths_are_refused(void **state) {
        static const char *const texts[] = {
                "",
                "null",
                "[]",
                "{}",
                "{\"format\":2}",
                "{\"format\":1,\"unit\":\"u\",\"direction\":\"sideways\",\"result\":\"done\"}",
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                error_done(&f->error);
                assert_int_equal(replace_volatile_file_at(f->dir_fd, "transaction", texts[i], strlen(texts[i]), 0600),
                                0);
                assert_int_equal(reload(f), -EBADMSG);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(everything_is_read_back),
                TEST(checks_are_read_back_each_as_it_was_made_last),
                TEST(checks_cannot_fill_the_record),
                TEST(failed_save_keeps_the_old_record),
                TEST(second_transaction_is_refused),
                TEST(first_cause_and_failed_way_back_are_both_kept),
                TEST(closed_one_is_history_and_no_longer_open),
                TEST(half_closed_one_is_closed_by_the_next_reader),
                TEST(done_one_can_be_taken_back_once),
                TEST(attempt_that_was_refused_hides_none_that_was_made),
                TEST(highest_release_that_was_taken_back_is_found),
                TEST(hold_is_needed_from_stop_until_start),
                TEST(step_given_up_is_kept_with_its_reason_and_is_to_be_undone),
                TEST(damaged_record_is_refused),
                TEST(other_formats_and_names_with_paths_are_refused),
        };

        /* The tests' mounts are their own. */
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests_name("txn", tests, NULL, NULL);
}
