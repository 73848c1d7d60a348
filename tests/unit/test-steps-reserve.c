/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <sys/mount.h>

#include "base/fileio.h"
#include "steps/reserve.h"

#define MIB (1ULL << 20)
#define STATE_RESERVE STATE_DIR "/reserve"

/* The state directory and the program on a disk of 64 MiB, and another one of 8 MiB. */
typedef struct Fixture {
        Context c;
        Plan *plan;
        Error error;
} Fixture;

static void quiet(const char *text, const StepProgress *progress, void *userdata) {
        (void) text;
        (void) progress;
        (void) userdata;
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));

        assert_return_code(mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755,size=64m"), errno);
        assert_return_code(mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755,size=8m"), errno);
        assert_int_equal(mkdir_parents(STATE_DIR, 0700), 0);
        assert_int_equal(plan_new("4.4.0", &f->plan), 0);
        assert_int_equal(free_and_strdup(&f->plan->root_dir, "/var/lib/program"), 0);
        f->plan->old_program_bytes = 3 * MIB;
        f->c = (Context){ .plan = f->plan, .report = quiet };
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        assert_return_code(umount2("/mnt", MNT_DETACH), errno);
        assert_return_code(umount2("/var/lib", MNT_DETACH), errno);
        (void) plan_free(f->plan);
        error_done(&f->error);
        free(f);
        return 0;
}

static void add_tree(Fixture *f, const char *name, const char *real, uint64_t bytes) {
        assert_int_equal(plan_add_tree(f->plan, name, real, real, NULL, "because"), 0);
        f->plan->trees[f->plan->n_trees - 1].bytes = bytes;
        f->plan->tree_bytes += bytes;
}

static void assert_reserve(const Plan *p, size_t i, const char *path, uint64_t bytes) {
        assert_true(i < p->n_reserves);
        assert_string_equal(p->reserves[i].path, path);
        assert_int_equal(p->reserves[i].bytes, bytes);
}

static void one_disk_has_one_reserve_for_all(void **state) {
        Fixture *f = *state;

        add_tree(f, "etc", "/var/lib/emqx/etc", 1 * MIB);
        add_tree(f, "data", "/var/lib/emqx/data", 2 * MIB);
        assert_int_equal(reserve_find(f->plan, &f->error), 0);
        assert_int_equal(reserve_find(f->plan, &f->error), 0); /* again: not twice */
        assert_int_equal(f->plan->n_reserves, 1);
        assert_reserve(f->plan, 0, STATE_RESERVE, RESERVE_SPARE_BYTES + 6 * MIB);
}

static void other_disk_has_one_of_its_own(void **state) {
        Fixture *f = *state;

        add_tree(f, "etc", "/var/lib/emqx/etc", 1 * MIB);
        add_tree(f, "data", "/mnt/emqx/data", 2 * MIB);
        assert_int_equal(reserve_find(f->plan, &f->error), 0);
        assert_int_equal(f->plan->n_reserves, 2);
        assert_reserve(f->plan, 0, STATE_RESERVE, RESERVE_SPARE_BYTES + 6 * MIB);
        assert_reserve(f->plan, 1, "/mnt/.emqx-upgrade-reserve", 2 * MIB);

        f->plan->trees[1].bytes = 6 * MIB;
        assert_int_equal(reserve_find(f->plan, &f->error), 0);
        assert_reserve(f->plan, 1, "/mnt/.emqx-upgrade-reserve", 4 * MIB); /* half of what is free */
}

static void none_is_made_within_what_is_backed_up(void **state) {
        Fixture *f = *state;

        add_tree(f, "data", "/mnt", 2 * MIB);
        assert_int_equal(reserve_find(f->plan, &f->error), 0);
        assert_int_equal(f->plan->n_reserves, 1);
}

static void what_was_found_is_in_the_record(void **state) {
        _cleanup_(plan_freep) Plan *again = NULL;
        _cleanup_json_ json_object *o = NULL;
        Fixture *f = *state;

        add_tree(f, "data", "/mnt/emqx/data", 2 * MIB);
        assert_int_equal(reserve_find(f->plan, &f->error), 0);
        assert_int_equal(plan_to_json(f->plan, &o), 0);
        assert_int_equal(plan_from_json(o, &again), 0);
        assert_int_equal(again->n_reserves, 2);
        assert_reserve(again, 1, "/mnt/.emqx-upgrade-reserve", 2 * MIB);
}

static void reserve_takes_room_until_it_is_released(void **state) {
        Fixture *f = *state;
        struct stat st;

        reserve_begin();
        assert_return_code(stat(STATE_RESERVE, &st), errno);
        assert_in_range((uint64_t) st.st_blocks * 512, 1, 2 * MIB);

        add_tree(f, "data", "/var/lib/emqx/data", 2 * MIB);
        assert_int_equal(reserve_find(f->plan, &f->error), 0);
        assert_int_equal(reserve_make(&f->c, &f->error), 0);
        assert_int_equal(reserve_make(&f->c, &f->error), 0);
        assert_return_code(stat(STATE_RESERVE, &st), errno);
        assert_int_equal((uint64_t) st.st_blocks * 512, RESERVE_SPARE_BYTES + 5 * MIB);

        assert_int_equal(reserve_release(&f->c, &f->error), 0);
        assert_int_equal(access(STATE_RESERVE, F_OK), -1);
        assert_int_equal(reserve_release(&f->c, &f->error), 0);
}

static void first_reserve_goes_without_a_plan_for_it(void **state) {
        Fixture *f = *state;

        reserve_begin();
        assert_int_equal(reserve_release(&f->c, &f->error), 0);
        assert_int_equal(access(STATE_RESERVE, F_OK), -1);
}

static void too_little_room_is_told_and_nothing_stays(void **state) {
        Fixture *f = *state;

        add_tree(f, "data", "/var/lib/emqx/data", 100 * MIB);
        assert_int_equal(reserve_find(f->plan, &f->error), 0);
        assert_int_equal(reserve_make(&f->c, &f->error), -ENOSPC);
        assert_non_null(strstr(f->error.message, "Cannot reserve 119 MiB"));
        assert_int_equal(access(STATE_RESERVE, F_OK), -1);
}

/* Whoever owns a directory where a file system is mounted can put anything in the reserve's place. */
static void what_is_in_its_place_is_replaced(void **state) {
        struct stat st;

        (void) state;
        assert_int_equal(replace_file_at(AT_FDCWD, "/mnt/other", "content", 7, 0644), 0);
        assert_return_code(symlink("/mnt/other", "/mnt/reserve"), errno);
        assert_int_equal(reserve_file("/mnt/reserve", MIB), 0);
        assert_return_code(lstat("/mnt/reserve", &st), errno);
        assert_true(S_ISREG(st.st_mode));
        assert_int_equal(st.st_size, MIB);
        assert_return_code(stat("/mnt/other", &st), errno);
        assert_int_equal(st.st_size, 7);

        assert_return_code(unlink("/mnt/reserve"), errno);
        assert_return_code(link("/mnt/other", "/mnt/reserve"), errno);
        assert_int_equal(reserve_file("/mnt/reserve", MIB), 0);
        assert_return_code(stat("/mnt/other", &st), errno);
        assert_int_equal(st.st_size, 7);

        assert_return_code(unlink("/mnt/reserve"), errno);
        assert_return_code(symlink("/mnt/other", "/mnt/reserve"), errno);
        assert_int_equal(reserve_file("/mnt/reserve", 0), 0);
        assert_int_equal(lstat("/mnt/reserve", &st), -1);
        assert_return_code(stat("/mnt/other", &st), errno);

        assert_int_equal(reserve_file("/mnt/reserve", 64 * MIB), -ENOSPC);
        assert_int_equal(lstat("/mnt/reserve", &st), -1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(one_disk_has_one_reserve_for_all, set_up, tear_down),
                cmocka_unit_test_setup_teardown(other_disk_has_one_of_its_own, set_up, tear_down),
                cmocka_unit_test_setup_teardown(none_is_made_within_what_is_backed_up, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_was_found_is_in_the_record, set_up, tear_down),
                cmocka_unit_test_setup_teardown(reserve_takes_room_until_it_is_released, set_up, tear_down),
                cmocka_unit_test_setup_teardown(first_reserve_goes_without_a_plan_for_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(too_little_room_is_told_and_nothing_stays, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_in_its_place_is_replaced, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
