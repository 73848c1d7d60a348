/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <sys/mount.h>

#include "base/fileio.h"
#include "steps/backup.h"

/* One tree, and a STATE_DIR of the test's own. */
typedef struct Fixture {
        Config *config;
        Context c;
        Error error;
} Fixture;

static void quiet(const char *text, const StepProgress *progress, void *userdata) {
        (void) text;
        (void) progress;
        (void) userdata;
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));
        Plan *p;

        assert_return_code(mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755"), errno);
        assert_return_code(mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755"), errno);
        assert_int_equal(replace_file_at(AT_FDCWD, "/mnt/acl.conf", "{allow, all}.\n", 14, 0644), 0);
        assert_int_equal(config_load("/nonexistent", &f->config, NULL), 0);
        assert_int_equal(plan_new("4.4.0", &p), 0);
        assert_int_equal(plan_add_tree(p, "etc", "/mnt", "/mnt", NULL, "because"), 0);
        p->trees[0].entries = 1;
        f->c = (Context){ .config = f->config, .plan = p, .report = quiet };
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        (void) umount2("/mnt", MNT_DETACH);
        assert_return_code(umount2("/var/lib", MNT_DETACH), errno);
        (void) plan_free(f->c.plan);
        (void) config_free(f->config);
        error_done(&f->error);
        free(f);
        return 0;
}

/* A way back would take whatever is mounted there later for written by the new version. */
static void empty_mount_point_is_no_backup(void **state) {
        Fixture *f = *state;

        assert_int_equal(back_up_trees(&f->c, &f->error), 0);
        assert_int_equal(backup_complete(f->c.plan), 1);
        assert_return_code(unlink("/mnt/acl.conf"), errno);
        assert_int_equal(back_up_trees(&f->c, &f->error), -ENODATA);
        assert_non_null(strstr(f->error.message, "/mnt is empty"));
        assert_int_equal(backup_complete(f->c.plan), 0);

        f->c.plan->trees[0].entries = 0;
        assert_int_equal(back_up_trees(&f->c, &f->error), 0);
        assert_int_equal(backup_complete(f->c.plan), 1);
}

static void staged_copies_are_measured(void **state) {
        Fixture *f = *state;
        TreeSize live, staged;
        int fd;

        assert_int_equal(backup_measure_staged(&staged, &f->error), 0);
        assert_int_equal(staged.n_entries + staged.allocated_bytes, 0);

        assert_int_equal(replace_file_at(AT_FDCWD, "/mnt/large", (char[65536]){ 1 }, 65536, 0644), 0);
        fd = open("/mnt", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(tree_measure(fd, &live, &f->error), 0);
        close(fd);
        assert_int_equal(copy_trees_ahead(&f->c, &f->error), 0);
        assert_int_equal(backup_measure_staged(&staged, &f->error), 0);
        assert_int_equal(staged.n_entries, live.n_entries + 1); /* and the tree */
        assert_in_range(staged.allocated_bytes, 65536, live.allocated_bytes + 8192);

        assert_int_equal(back_up_trees(&f->c, &f->error), 0);
        assert_int_equal(backup_measure_staged(&staged, &f->error), 0);
        assert_int_equal(staged.n_entries, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(empty_mount_point_is_no_backup),
                TEST(staged_copies_are_measured),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
