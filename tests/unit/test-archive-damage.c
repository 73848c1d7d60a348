/* SPDX-License-Identifier: Apache-2.0 */

#include "test-archive-tree.h"

/* Each kind of damage: what it does to live, what tree_compare() says of it, and that an exact restore undoes it. */

static const TreeRules exact = { .exact = true };
static const TreeRules trusting = { .exact = true, .trust_times = true };

static void touch(Fixture *f) {
        put_time(f->live, "acl.conf", 1700000000, 123456788);
}

static void widen(Fixture *f) {
        assert_return_code(fchmodat(f->live, ".erlang.cookie", 0644, 0), errno);
}

static void drop_setuid(Fixture *f) {
        assert_return_code(fchmodat(f->live, "setuid", 0755, 0), errno);
}

static void give_away(Fixture *f) {
        assert_return_code(fchownat(f->live, "capable", 7, 8, 0), errno); /* and the capability is gone with it */
}

static void change_xattr(Fixture *f) {
        put_xattr(f->live, "acl.conf", "user.note", "else", 4);
}

static void add_xattr(Fixture *f) {
        put_xattr(f->live, "empty", "user.more", "x", 1);
}

static void change_acl(Fixture *f) {
        put_acl(f->live, "acl.conf", "system.posix_acl_access", 999);
}

static void add_default_acl(Fixture *f) {
        put_acl(f->live, "read-only", "system.posix_acl_default", 999);
}

static void grow(Fixture *f) {
        put_file(f->live, "empty", "no longer");
}

static void same_size(Fixture *f) {
        put_file(f->live, "mnesia/schema.DAT", "eno");
        put_time(f->live, "mnesia", 1500000000, 987654321);
}

static void same_size_and_time(Fixture *f) {
        put_file(f->live, "mnesia/table.DCD", "owt");
        put_time(f->live, "mnesia/table.DCD", 1600000000, 1);
}

static void fill_hole(Fixture *f) {
        int fd = openat(f->live, "sparse", O_WRONLY);

        assert_int_equal(pwrite(fd, "x", 1, 9 * MIB), 1);
        close(fd);
}

static void lose_file(Fixture *f) {
        assert_return_code(unlinkat(f->live, "\xff\xfe\x80 no UTF-8", 0), errno);
}

static void lose_everything(Fixture *f) {
        assert_int_equal(tree_empty(f->live, NULL), 0);
}

static void add_tree(Fixture *f) {
        int fd;

        assert_return_code(mkdirat(f->live, "extra", 0700), errno);
        fd = open_dir(f->live, "extra");
        put_tree(fd);
        close(fd);
}

static void file_for_directory(Fixture *f) {
        assert_int_equal(tree_remove(f->live, "mnesia", NULL), 0);
        put_file(f->live, "mnesia", "x");
}

static void directory_for_file(Fixture *f) {
        assert_return_code(unlinkat(f->live, "acl.conf", 0), errno);
        assert_return_code(mkdirat(f->live, "acl.conf", 0700), errno);
        put_file(f->live, "acl.conf/x", "x");
}

static void fifo_for_file(Fixture *f) {
        assert_return_code(unlinkat(f->live, "acl.conf", 0), errno);
        assert_return_code(mkfifoat(f->live, "acl.conf", 0600), errno);
}

static void file_for_fifo(Fixture *f) {
        assert_return_code(unlinkat(f->live, "mnesia/pipe", 0), errno);
        put_file(f->live, "mnesia/pipe", "x");
        put_time(f->live, "mnesia", 1500000000, 987654321);
}

static void other_target(Fixture *f) {
        assert_return_code(unlinkat(f->live, "loop", 0), errno);
        assert_return_code(symlinkat("acl.conf", f->live, "loop"), errno);
}

static void give_symlink_away(Fixture *f) {
        assert_return_code(fchownat(f->live, "to-directory", 1, 1, AT_SYMLINK_NOFOLLOW), errno);
}

static void break_link(Fixture *f) {
        assert_return_code(unlinkat(f->live, "mnesia/twin2", 0), errno);
        put_file(f->live, "mnesia/twin2", "hard");
        put_time(f->live, "mnesia", 1500000000, 987654321);
}

static void write_through_link(Fixture *f) {
        put_file(f->live, "mnesia/twin2", "soft");
}

static void widen_linked(Fixture *f) {
        assert_return_code(fchmodat(f->live, "a-twin", 0666, 0), errno);
}

static void join_files(Fixture *f) {
        assert_return_code(unlinkat(f->live, "no-mode", 0), errno);
        assert_return_code(linkat(f->live, "empty", f->live, "no-mode", 0), errno);
}

static void root_metadata(Fixture *f) {
        assert_return_code(fchmod(f->live, 0777), errno);
        assert_return_code(fchown(f->live, 5, 6), errno);
}

static const struct {
        const char *name;
        void (*damage)(Fixture *f);
        const char *expected;
} damages[] = {
        { "none", NULL, "" },
        { "touch", touch, "acl.conf: time\n" },
        { "widen", widen, ".erlang.cookie: mode\n" },
        { "drop_setuid", drop_setuid, "setuid: mode\n" },
        { "give_away", give_away, "capable: owner, xattrs\n" },
        { "change_xattr", change_xattr, "acl.conf: xattrs\n" },
        { "add_xattr", add_xattr, "empty: xattrs\n" },
        { "change_acl", change_acl, "acl.conf: xattrs\n" },
        { "add_default_acl", add_default_acl, "read-only: xattrs\n" },
        { "grow", grow, "empty: content, time\n" },
        { "same_size", same_size, "mnesia/schema.DAT: content, time\n" },
        { "same_size_and_time", same_size_and_time, "mnesia/table.DCD: content\n" },
        { "fill_hole", fill_hole, "sparse: content, time\n" },
        { "lose_file", lose_file, ".: time\n\xff\xfe\x80 no UTF-8: missing\n" },
        { "lose_everything", lose_everything, NULL },
        { "add_tree", add_tree, ".: time\nextra: extra\n" },
        { "file_for_directory", file_for_directory, ".: time\nmnesia: type\n" },
        { "directory_for_file", directory_for_file, ".: time\nacl.conf: type\n" },
        { "fifo_for_file", fifo_for_file, ".: time\nacl.conf: type\n" },
        { "file_for_fifo", file_for_fifo, "mnesia/pipe: extra\n" },
        { "other_target", other_target, ".: time\nloop: content, time\n" },
        { "give_symlink_away", give_symlink_away, "to-directory: owner\n" },
        { "break_link", break_link, "mnesia/twin2: links, time\n" },
        { "write_through_link", write_through_link,
                        "a-twin: content, time\nmnesia/twin: content, time\nmnesia/twin2: content, time\n" },
        { "widen_linked", widen_linked, "a-twin: mode\nmnesia/twin: mode\nmnesia/twin2: mode\n" },
        { "join_files", join_files, ".: time\nempty: links\nno-mode: content, links, mode, time\n" },
        { "root_metadata", root_metadata, ".: owner, mode\n" },
};

/* A fresh tree in live, its backup, and the manifest. */
static void start_over(Fixture *f) {
        assert_int_equal(tree_empty(f->live, NULL), 0);
        put_tree(f->live);
        back_up(f);
}

static void every_damage_is_reported_and_restored(void **state) {
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(damages); i++) {
                TreeCounts counts;

                start_over(f);
                if (damages[i].damage)
                        damages[i].damage(f);
                if (damages[i].expected)
                        assert_differences(f, &exact, damages[i].expected);

                assert_done(f, tree_restore(f->manifest, f->backup, f->live, &exact, NULL, &counts, &f->error));
                if (damages[i].damage)
                        assert_true(counts.n_written + counts.n_fixed + counts.n_removed > 0);
                assert_differences(f, &exact, "");
                assert_same(f, "backup", "live");

                /* and then there is nothing left to do */
                assert_done(f, tree_restore(f->manifest, f->backup, f->live, &exact, NULL, &counts, &f->error));
                assert_int_equal(counts.n_written + counts.n_fixed + counts.n_removed + counts.written_bytes, 0);
        }
}

static void times_are_trusted_only_where_that_is_allowed(void **state) {
        Fixture *f = *state;

        start_over(f);
        same_size_and_time(f);
        assert_differences(f, &exact, "mnesia/table.DCD: content\n");
        assert_differences(f, &trusting, "");
        start_over(f);
        same_size(f);
        assert_differences(f, &trusting, "mnesia/schema.DAT: content, time\n");
        touch(f);
        assert_differences(f, &trusting, "acl.conf: time\nmnesia/schema.DAT: content, time\n");
}

static void only_what_differs_is_written(void **state) {
        struct stat before, after;
        Fixture *f = *state;
        TreeCounts counts;

        start_over(f);
        touch(f);
        widen(f);
        same_size(f);
        give_symlink_away(f);
        assert_return_code(fstatat(f->live, "acl.conf", &before, 0), errno);
        assert_done(f, tree_restore(f->manifest, f->backup, f->live, &exact, NULL, &counts, &f->error));
        assert_return_code(fstatat(f->live, "acl.conf", &after, 0), errno);
        assert_int_equal(before.st_ino, after.st_ino);
        assert_int_equal(counts.n_written, 1);
        assert_int_equal(counts.written_bytes, 3);
        assert_int_equal(counts.n_fixed, 4); /* and the directory of the file made anew */
        assert_int_equal(counts.n_removed, 0);
        assert_same(f, "backup", "live");
}

static bool exists(int dir_fd, const char *path) {
        struct stat st;

        return fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) >= 0;
}

static void what_differs_is_saved_beside(void **state) {
        char path_a[PATH_MAX], path_b[PATH_MAX];
        Fixture *f = *state;
        uint64_t n;
        int beside;

        start_over(f);
        same_size(f); /* mnesia/schema.DAT */
        add_tree(f);  /* extra/… */
        widen(f);     /* .erlang.cookie */
        lose_file(f);
        put_time(f->live, "read-only", 1, 1);
        assert_return_code(mkdirat(f->dir_fd, "after", 0700), errno);
        beside = open_dir(f->dir_fd, "after");
        put_file(beside, "left over", "x");

        assert_done(f, tree_save_differences(f->manifest, f->live, beside, NULL, NULL, &n, &f->error));
        assert_false(exists(beside, "left over"));
        assert_false(exists(beside, "read-only"));
        assert_false(exists(beside, "acl.conf"));
        assert_false(exists(beside, "mnesia/table.DCD"));
        assert_false(exists(beside, "extra/mnesia/pipe"));
        for (size_t i = 0; i < 2; i++) {
                static const char *const names[] = { "mnesia/schema.DAT", ".erlang.cookie" };

                (void) snprintf(path_a, sizeof(path_a), "%s/live/%s", f->dir, names[i]);
                (void) snprintf(path_b, sizeof(path_b), "%s/after/%s", f->dir, names[i]);
                assert_same_tree(path_a, path_b);
        }
        assert_true(exists(beside, "extra/mnesia.d"));
        assert_true(exists(beside, "extra/mnesia/schema.DAT"));
        assert_true(exists(beside, "extra/dangling"));
        assert_int_equal(n, 2 + manifest_n_entries(f->manifest) - 2); /* without pipe and socket, with "." as extra */

        /* metadata of a directory made only to hold something is kept, too */
        (void) snprintf(path_a, sizeof(path_a), "%s/live/extra/mnesia.d", f->dir);
        (void) snprintf(path_b, sizeof(path_b), "%s/after/extra/mnesia.d", f->dir);
        assert_same_tree(path_a, path_b);

        start_over(f);
        assert_done(f, tree_save_differences(f->manifest, f->live, beside, NULL, NULL, &n, &f->error));
        assert_int_equal(n, 0);
        close(beside);
}

/* --- how far it is --- */

typedef struct Told {
        uint64_t bytes_done, bytes_total; /* the last */
        unsigned n_in_large;              /* how often it went on within that file */
        int answer;
} Told;

static int on_progress(uint64_t bytes_done, uint64_t bytes_total, const char *path, void *userdata) {
        Told *t = userdata;

        assert_true(bytes_done >= t->bytes_done && bytes_total >= t->bytes_total);
        assert_true(bytes_done <= bytes_total);
        t->n_in_large += streq(path, "large") && bytes_done > t->bytes_done;
        t->bytes_done = bytes_done;
        t->bytes_total = bytes_total;
        return t->answer;
}

static void reading_and_writing_tell_how_far_they_are(void **state) {
        Fixture *f = *state;
        Told t = { 0 };
        TreeProgress progress = { .func = on_progress, .userdata = &t };
        const uint64_t size_bytes = 20 * MIB + 1;
        uint64_t all_bytes;
        int fd, beside;

        put_tree(f->live);
        fd = openat(f->live, "large", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_return_code(fd, errno);
        assert_return_code(ftruncate(fd, (off_t) size_bytes), errno);
        back_up(f);
        all_bytes = manifest_n_bytes(f->manifest);
        assert_int_equal(pwrite(fd, "x", 1, 20 * MIB), 1);
        close(fd);
        assert_return_code(mkdirat(f->dir_fd, "after", 0700), errno);
        beside = open_dir(f->dir_fd, "after");

        assert_int_equal(tree_compare(f->manifest, f->live, &exact, &progress, NULL, NULL, &f->error), 1);
        assert_int_equal(t.n_in_large, 3);
        assert_int_equal(t.bytes_done, all_bytes);
        assert_int_equal(t.bytes_total, all_bytes);

        /* Read, and then written: a hole is told of by itself. */
        t = (Told){ 0 };
        assert_done(f, tree_save_differences(f->manifest, f->live, beside, NULL, &progress, NULL, &f->error));
        assert_true(t.n_in_large >= 6);
        assert_int_equal(t.bytes_done, all_bytes + size_bytes);
        assert_int_equal(t.bytes_total, all_bytes + size_bytes);
        close(beside);
        t = (Told){ 0 };
        assert_done(f, tree_restore(f->manifest, f->backup, f->live, &exact, &progress, NULL, &f->error));
        assert_true(t.n_in_large >= 6);
        assert_int_equal(t.bytes_done, all_bytes + size_bytes);
        assert_int_equal(t.bytes_total, all_bytes + size_bytes);

        /* What is as it was is done, read or not. */
        t = (Told){ 0 };
        assert_done(f, tree_restore(f->manifest, f->backup, f->live, &exact, &progress, NULL, &f->error));
        assert_int_equal(t.bytes_done, all_bytes);
        t = (Told){ 0 };
        assert_done(f,
                        tree_compare(f->manifest, f->live, &(TreeRules){ .trust_times = true }, &progress, NULL, NULL,
                                        &f->error));
        assert_int_equal(t.bytes_done, all_bytes);

        t = (Told){ .answer = -ECANCELED };
        assert_int_equal(tree_compare(f->manifest, f->live, &exact, &progress, NULL, NULL, &f->error), -ECANCELED);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(every_damage_is_reported_and_restored, set_up, tear_down),
                cmocka_unit_test_setup_teardown(times_are_trusted_only_where_that_is_allowed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(only_what_differs_is_written, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_differs_is_saved_beside, set_up, tear_down),
                cmocka_unit_test_setup_teardown(reading_and_writing_tell_how_far_they_are, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
