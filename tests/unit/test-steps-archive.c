/* SPDX-License-Identifier: Apache-2.0 */

#include "test-archive-tree.h"

#include "steps/archive.h"
#include "steps/backup.h"
#include "txn/backups.h"

/* A complete backup of one tree, below a STATE_DIR of the test's own. */
typedef struct Backed {
        Fixture *f;
        Config *config;
        Context c;
        int backup_fd;
} Backed;

static void quiet(const char *text, const StepProgress *progress, void *userdata) {
        (void) text;
        (void) progress;
        (void) userdata;
}

static int set_up_backup(void **state) {
        Backed *b = calloc(1, sizeof(Backed));
        _cleanup_close_ int copy_fd = -1;
        _cleanup_free_ char *live = NULL;
        void *fixture;
        Plan *p;

        assert_int_equal(set_up(&fixture), 0);
        b->f = fixture;
        put_file(b->f->live, "acl.conf", "{allow, all}.\n");
        put_file(b->f->live, "secret", "x");
        assert_return_code(fchmodat(b->f->live, "secret", 0400, 0), errno);
        assert_return_code(mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755"), errno);
        assert_int_equal(config_load(b->f->dir, &b->config, NULL), 0);
        assert_true(asprintf(&live, "%s/live", b->f->dir) > 0);
        assert_int_equal(plan_new("4.4.0", &p), 0);
        assert_int_equal(plan_add_tree(p, "etc", live, live, NULL, "because"), 0);
        b->c = (Context){ .config = b->config, .plan = p, .report = quiet };
        assert_int_equal(backup_open(p, &b->backup_fd, NULL), 0);
        assert_int_equal(backup_side_open(p, b->backup_fd, "tree", "etc", &copy_fd, NULL), 0);
        assert_done(b->f, tree_backup(b->f->live, copy_fd, NULL, NULL, &b->f->manifest, &b->f->error));
        assert_int_equal(manifest_write_at(b->f->manifest, b->backup_fd, "etc.manifest", NULL), 0);
        *state = b;
        return 0;
}

static int tear_down_backup(void **state) {
        Backed *b = *state;
        void *fixture = b->f;

        close(b->backup_fd);
        assert_return_code(umount2("/var/lib", MNT_DETACH), errno);
        (void) plan_free(b->c.plan);
        (void) config_free(b->config);
        free(b);
        return tear_down(&fixture);
}

static bool is_there(Backed *b, const char *name) {
        return faccessat(b->backup_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

static void put_into_backup(Backed *b, const char *name) {
        assert_return_code(mkdirat(b->backup_fd, name, 0700), errno);
}

static void assert_archived(Backed *b) {
        assert_done(b->f, archive_backup(&b->c, &b->f->error));
        assert_int_equal(backup_form(b->c.plan), BACKUP_ARCHIVED);
        assert_false(is_there(b, "tree") || is_there(b, "tree.gone") || is_there(b, ARCHIVE_NAME ".part"));
        assert_true(is_there(b, ARCHIVE_DIGEST_NAME) && is_there(b, "etc.manifest"));
        assert_int_equal(backup_check(b->c.plan, NULL, NULL, NULL, &b->f->error), 0);
}

static void assert_extracted(Backed *b) {
        _cleanup_free_ char *tree = backup_path(b->c.plan, "/tree/etc"), *live = NULL;

        assert_done(b->f, extract_backup(&b->c, &b->f->error));
        assert_int_equal(backup_form(b->c.plan), BACKUP_TREE);
        assert_false(is_there(b, "tree.part"));
        assert_true(asprintf(&live, "%s/live", b->f->dir) > 0);
        assert_same_tree(live, tree);
        assert_int_equal(backup_check(b->c.plan, NULL, NULL, NULL, &b->f->error), 0);
}

static void archived_backup_comes_back(void **state) {
        Backed *b = *state;

        assert_archived(b);
        assert_archived(b); /* again: there is nothing left to do */
        assert_extracted(b);
        assert_extracted(b);
        assert_archived(b);
}

static void interrupted_one_is_done_again(void **state) {
        Backed *b = *state;

        put_file(b->backup_fd, ARCHIVE_NAME ".part", "half an archive");
        put_file(b->backup_fd, ARCHIVE_DIGEST_NAME, "half a digest");
        put_into_backup(b, "tree.gone");
        assert_archived(b);
        put_into_backup(b, "tree.gone"); /* while the tree was removed */
        assert_archived(b);
        put_into_backup(b, "tree.part");
        put_into_backup(b, "tree.part/etc");
        assert_extracted(b);
        assert_true(is_there(b, ARCHIVE_NAME)); /* both: as before the tree was renamed */
        assert_archived(b);
}

static void one_that_was_given_up_is_settled(void **state) {
        Backed *b = *state;

        put_file(b->backup_fd, ARCHIVE_NAME ".part", "half an archive");
        put_file(b->backup_fd, ARCHIVE_DIGEST_NAME, "its digest");
        put_file(b->backup_fd, "." ARCHIVE_DIGEST_NAME ".tmp", "half of another");
        assert_int_equal(archive_forget(b->c.plan), 0);
        assert_false(is_there(b, ARCHIVE_NAME ".part") || is_there(b, ARCHIVE_DIGEST_NAME) ||
                        is_there(b, "." ARCHIVE_DIGEST_NAME ".tmp"));
        assert_int_equal(backup_form(b->c.plan), BACKUP_TREE);

        assert_archived(b);
        put_into_backup(b, "tree.gone"); /* while the tree was removed */
        put_into_backup(b, "tree.gone/etc");
        assert_int_equal(archive_forget(b->c.plan), 0);
        assert_false(is_there(b, "tree.gone"));
        assert_int_equal(backup_form(b->c.plan), BACKUP_ARCHIVED);

        assert_extracted(b);
        assert_int_equal(archive_forget(b->c.plan), 0); /* before the tree was renamed */
        assert_int_equal(backup_form(b->c.plan), BACKUP_ARCHIVED);
        assert_int_equal(backup_check(b->c.plan, NULL, NULL, NULL, &b->f->error), 0);

        put_into_backup(b, "tree.gone");
        put_into_backup(b, "tree.gone/etc");
        assert_done(b->f, backups_sweep(&b->f->error));
        assert_false(is_there(b, "tree.gone"));
}

static void without_archives_the_tree_stays(void **state) {
        Backed *b = *state;

        b->config->archive = false;
        assert_done(b->f, archive_backup(&b->c, &b->f->error));
        assert_int_equal(backup_form(b->c.plan), BACKUP_TREE);
        assert_false(is_there(b, ARCHIVE_NAME));
        assert_extracted(b);
}

static void damaged_tree_is_not_archived_and_stays(void **state) {
        Backed *b = *state;
        _cleanup_close_ int copy_fd = -1;

        assert_int_equal(backup_copy_open(b->c.plan, b->backup_fd, "etc", &copy_fd, NULL), 0);
        put_file(copy_fd, "acl.conf", "{deny,  all}.\n");
        assert_int_equal(archive_backup(&b->c, &b->f->error), -EBADMSG);
        assert_int_equal(backup_form(b->c.plan), BACKUP_TREE);
        assert_false(is_there(b, ARCHIVE_NAME) || is_there(b, ARCHIVE_NAME ".part"));
        assert_int_equal(backup_check(b->c.plan, NULL, NULL, NULL, &b->f->error), 1);
}

static void damaged_archive_is_not_extracted(void **state) {
        Backed *b = *state;
        _cleanup_close_ int fd = -1;
        char byte;

        assert_archived(b);
        fd = openat(b->backup_fd, ARCHIVE_NAME, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(fd, &byte, 1, 40), 1);
        byte ^= 1; /* what is there differs from run to run */
        assert_int_equal(pwrite(fd, &byte, 1, 40), 1);
        assert_int_equal(extract_backup(&b->c, &b->f->error), -EBADMSG);
        assert_int_equal(backup_form(b->c.plan), BACKUP_ARCHIVED);
        assert_false(is_there(b, "tree.part"));
        error_done(&b->f->error);
        assert_int_equal(backup_check(b->c.plan, NULL, NULL, NULL, &b->f->error), -EBADMSG);
}

static void way_back_begins_with_copies_that_are_whole(void **state) {
        Backed *b = *state;
        _cleanup_close_ int copy_fd = -1;

        b->config->archive = false;
        assert_extracted(b);
        assert_int_equal(backup_copy_open(b->c.plan, b->backup_fd, "etc", &copy_fd, NULL), 0);
        put_file(copy_fd, "acl.conf", "{deny,  all}.\n");
        assert_int_equal(extract_backup(&b->c, &b->f->error), -EBADMSG);
        assert_int_equal(backup_form(b->c.plan), BACKUP_TREE);
}

/* Beside what extracting takes: what the new version has written is kept, too. */
static void way_back_begins_with_room_for_all_of_it(void **state) {
        Backed *b = *state;
        _cleanup_close_ int fd = openat(b->f->live, "written", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_archived(b);
        assert_return_code(mount(NULL, "/var/lib", NULL, MS_REMOUNT, "size=24M"), errno);
        assert_int_equal(posix_fallocate(fd, 0, 16 << 20), 0);
        assert_int_equal(extract_backup(&b->c, &b->f->error), -ENOSPC);
        assert_non_null(strstr(
                        b->f->error.message, "Going back takes 32 MiB in /var/lib/emqx-upgrade/backups, where "));
        assert_int_equal(backup_form(b->c.plan), BACKUP_ARCHIVED);
        assert_false(is_there(b, "tree.part"));

        error_done(&b->f->error);
        assert_return_code(ftruncate(fd, 1), errno);
        assert_done(b->f, extract_backup(&b->c, &b->f->error));
        assert_int_equal(backup_form(b->c.plan), BACKUP_TREE);
}

/* What the new version has dropped, or all where even the directory is gone. */
static void way_back_begins_with_room_for_what_comes_back(void **state) {
        Backed *b = *state;

        b->c.plan->trees[0].bytes = 1ULL << 60;
        assert_int_equal(extract_backup(&b->c, &b->f->error), -ENOSPC);
        assert_non_null(strstr(b->f->error.message, "/live, where "));

        error_done(&b->f->error);
        assert_return_code(renameat(b->f->dir_fd, "live", b->f->dir_fd, "gone"), errno);
        assert_int_equal(extract_backup(&b->c, &b->f->error), -ENOSPC);
        assert_non_null(strstr(b->f->error.message, "/backups, where "));
}

#define TEST_BACKUP(name) cmocka_unit_test_setup_teardown(name, set_up_backup, tear_down_backup)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST_BACKUP(archived_backup_comes_back),
                TEST_BACKUP(interrupted_one_is_done_again),
                TEST_BACKUP(one_that_was_given_up_is_settled),
                TEST_BACKUP(without_archives_the_tree_stays),
                TEST_BACKUP(damaged_tree_is_not_archived_and_stays),
                TEST_BACKUP(damaged_archive_is_not_extracted),
                TEST_BACKUP(way_back_begins_with_copies_that_are_whole),
                TEST_BACKUP(way_back_begins_with_room_for_all_of_it),
                TEST_BACKUP(way_back_begins_with_room_for_what_comes_back),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
