/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include <sys/file.h>
#include <sys/mount.h>

#include "base/fileio.h"
#include "steps/aside.h"

static int set_up(void **state) {
        (void) state;
        assert_return_code(mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755,size=8m"), errno);
        assert_return_code(mount("tmpfs", "/run", "tmpfs", 0, "mode=755,size=8m"), errno);
        return mkdir_parents(STATE_DIR, 0700);
}

static int tear_down(void **state) {
        (void) state;
        return umount("/var/lib") < 0 || umount("/run") < 0;
}

static void two_plans_have_a_place_each(void **state) {
        _cleanup_(plan_freep) Plan *a = NULL, *b = NULL;
        char of_a[ASIDE_NAME_MAX], of_b[ASIDE_NAME_MAX];

        (void) state;
        assert_int_equal(plan_new("4.4.0", &a), 0);
        assert_int_equal(plan_new("4.4.0", &b), 0);
        assert_string_not_equal(aside_judge_name(of_a, a), aside_judge_name(of_b, b));
        assert_memory_equal(of_a + strlen("judge-"), a->id, 8);
        assert_int_equal(strlen(of_a), strlen("judge-") + 8);
}

static void two_diffs_have_a_place_each(void **state) {
        _cleanup_free_ char *a = NULL, *b = NULL;
        _cleanup_close_ int a_fd = -1, b_fd = -1;

        (void) state;
        assert_int_equal(aside_make_for_diff(&a, &a_fd, NULL), 0);
        assert_int_equal(aside_make_for_diff(&b, &b_fd, NULL), 0);
        assert_string_not_equal(a, b);
        a_fd = safe_close(a_fd);
        aside_sweep();
        assert_int_equal(access(a, F_OK), -1);
        assert_int_equal(access(b, F_OK), 0);
}

static void what_was_left_is_swept_and_what_is_in_use_is_spared(void **state) {
        static const char *const names[] = { "judge", "judge-01234567", "judge-89abcdef", "backups" };
        _cleanup_close_ int fd = -1;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *path = NULL;

                assert_true(asprintf(&path, STATE_DIR "/%s/lib/x", names[i]) > 0);
                assert_int_equal(mkdir_parents(path, 0755), 0);
        }
        fd = open(STATE_DIR "/judge-89abcdef", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_return_code(flock(fd, LOCK_SH), errno);
        aside_sweep();
        assert_int_equal(access(STATE_DIR "/judge", F_OK), -1);
        assert_int_equal(access(STATE_DIR "/judge-01234567", F_OK), -1);
        assert_int_equal(access(STATE_DIR "/judge-89abcdef/lib/x", F_OK), 0);
        assert_int_equal(access(STATE_DIR "/backups/lib/x", F_OK), 0);

        fd = safe_close(fd);
        assert_int_equal(mkdir_parents(RUNTIME_DIR "/judge-89abcdef", 0755), 0);
        assert_int_equal(mkdir_parents(RUNTIME_DIR "/judge-01234567", 0755), 0);
        aside_sweep();
        assert_int_equal(access(STATE_DIR "/judge-89abcdef", F_OK), -1);
        assert_int_equal(access(RUNTIME_DIR "/judge-89abcdef", F_OK), -1);
        assert_int_equal(access(RUNTIME_DIR "/judge-01234567", F_OK), -1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(two_plans_have_a_place_each),
                cmocka_unit_test_setup_teardown(two_diffs_have_a_place_each, set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                                what_was_left_is_swept_and_what_is_in_use_is_spared, set_up, tear_down),
        };

        return cmocka_run_group_tests_name("aside", tests, own_mounts, NULL);
}
