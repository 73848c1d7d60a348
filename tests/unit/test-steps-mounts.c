/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <sys/mount.h>

#include "base/fileio.h"
#include "base/mounts.h"
#include "steps/places.h"

#define TABLE MOUNTS_OF_OURS
#define DATA "/mnt/a\\b \nc" /* what the table has to escape */

/* A program on one file system, and data on others. */
typedef struct Fixture {
        Plan *plan;
        Error error;
} Fixture;

static void add_tree(Plan *p, const char *name, const char *real) {
        assert_int_equal(mkdir_parents(real, 0755), 0);
        assert_int_equal(plan_add_tree(p, name, real, real, NULL, "because"), 0);
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));

        assert_return_code(mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755"), errno);
        assert_int_equal(mkdir_parents(DATA, 0755), 0);
        assert_return_code(mount("tmpfs", DATA, "tmpfs", 0, "mode=755"), errno);
        assert_int_equal(mkdir_parents("/mnt/program", 0755), 0);
        assert_int_equal(plan_new("4.4.0", &f->plan), 0);
        assert_int_equal(free_and_strdup(&f->plan->root_dir, "/mnt/program"), 0);
        add_tree(f->plan, "etc", "/mnt/etc");
        add_tree(f->plan, "data", DATA);
        add_tree(f->plan, "node-data", "/mnt/node-data");
        assert_int_equal(mkdir_parents("/mnt/node-data/inner", 0755), 0);
        assert_return_code(mount("tmpfs", "/mnt/node-data/inner", "tmpfs", 0, "mode=755"), errno);
        assert_int_equal(places_find_mounts(f->plan, TABLE, &f->error), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        assert_return_code(umount2("/mnt", MNT_DETACH), errno);
        (void) plan_free(f->plan);
        error_done(&f->error);
        free(f);
        return 0;
}

static void mounts_under_and_in_trees_are_kept(void **state) {
        _cleanup_(plan_freep) Plan *again = NULL;
        _cleanup_json_ json_object *o = NULL;
        Fixture *f = *state;

        assert_int_equal(places_find_mounts(f->plan, TABLE, &f->error), 0); /* again: not twice */
        assert_int_equal(plan_to_json(f->plan, &o), 0);
        assert_int_equal(plan_from_json(o, &again), 0);
        assert_int_equal(strv_length(again->mounts), 3);
        assert_string_equal(again->mounts[0], "/mnt");
        assert_string_equal(again->mounts[1], DATA);
        assert_string_equal(again->mounts[2], "/mnt/node-data/inner");
}

static void missing_mount_is_named(void **state) {
        const char *missing = NULL;
        Fixture *f = *state;

        assert_int_equal(places_are_mounted(f->plan, TABLE, &missing), 1);
        assert_return_code(umount(DATA), errno);
        assert_int_equal(places_are_mounted(f->plan, TABLE, &missing), 0);
        assert_string_equal(missing, DATA);
        assert_return_code(mount("tmpfs", DATA, "tmpfs", 0, NULL), errno);
        assert_int_equal(places_are_mounted(f->plan, TABLE, &missing), 1);
}

/* Which of the mounts on where is on top, and whether it can be written to. */
static bool is_read_only(const char *where) {
        _cleanup_free_ char *text = NULL;
        Mount m;

        assert_int_equal(mounts_find(TABLE, where, &text, &m), 0);
        assert_string_equal(m.where, where);
        return m.read_only;
}

static void mount_on_a_mount_is_what_counts(void **state) {
        _cleanup_free_ char *under = NULL, *above = NULL;

        (void) state;
        under = place_filesystem(DATA);
        assert_string_equal(under, "tmpfs");
        assert_return_code(mount("ramfs", DATA, "ramfs", 0, NULL), errno);
        above = place_filesystem(DATA);
        assert_string_equal(above, "ramfs");
}

static void either_of_mount_and_file_system_is_read_only(void **state) {
        (void) state;
        assert_false(is_read_only(DATA));
        assert_return_code(mount(NULL, DATA, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), errno);
        assert_true(is_read_only(DATA));
        assert_return_code(mount(NULL, DATA, NULL, MS_REMOUNT | MS_BIND, NULL), errno);
        assert_false(is_read_only(DATA));
        assert_return_code(mount(NULL, DATA, NULL, MS_REMOUNT | MS_RDONLY, NULL), errno); /* both */
        assert_return_code(mount(NULL, DATA, NULL, MS_REMOUNT | MS_BIND, NULL), errno);
        assert_true(is_read_only(DATA));
}

static void unmounting_is_a_change_of_the_node(void **state) {
        _cleanup_(plan_freep) Plan *now = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *changed = NULL;
        Fixture *f = *state;

        assert_int_equal(plan_to_json(f->plan, &o), 0);
        assert_int_equal(plan_from_json(o, &now), 0);
        assert_int_equal(plan_changed(f->plan, now, &changed), 0);
        now->mounts = strv_free(now->mounts);
        assert_int_equal(plan_changed(f->plan, now, &changed), 1);
        assert_string_equal(changed, "/mnt was a mount point and is none now");
}

static void record_without_mounts_waits_for_none(void **state) {
        const char *missing;
        Fixture *f = *state;

        f->plan->mounts = strv_free(f->plan->mounts);
        assert_int_equal(places_are_mounted(f->plan, TABLE, &missing), 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(mounts_under_and_in_trees_are_kept),
                TEST(missing_mount_is_named),
                TEST(mount_on_a_mount_is_what_counts),
                TEST(either_of_mount_and_file_system_is_read_only),
                TEST(unmounting_is_a_change_of_the_node),
                TEST(record_without_mounts_waits_for_none),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
