/* SPDX-License-Identifier: Apache-2.0 */

#include "test-archive-tree.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/time.h"

static void everything_is_kept(void **state) {
        Fixture *f = *state;

        put_tree(f->live);
        back_up(f);
        assert_same(f, "live", "backup");
        assert_differences(f, &(TreeRules){ .exact = true }, "");
}

static void fifos_and_sockets_are_recorded_but_not_made(void **state) {
        struct stat st;
        Fixture *f = *state;

        put_tree(f->live);
        back_up(f); /* and does not hang */
        assert_int_equal(fstatat(f->backup, "mnesia/pipe", &st, AT_SYMLINK_NOFOLLOW), -1);
        assert_int_equal(fstatat(f->backup, "mnesia/socket", &st, AT_SYMLINK_NOFOLLOW), -1);
        assert_non_null(manifest_find(f->manifest, "mnesia/pipe"));
}

static void the_source_is_left_as_it_was(void **state) {
        static const char *const names[] = { ".", "acl.conf", "mnesia/schema.DAT", "a-twin", "to-directory",
                "sparse" };
        struct stat before[ELEMENTSOF(names)], after;
        Fixture *f = *state;

        put_tree(f->live);
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                assert_return_code(fstatat(f->live, names[i], before + i, AT_SYMLINK_NOFOLLOW), errno);
        back_up(f);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                assert_return_code(fstatat(f->live, names[i], &after, AT_SYMLINK_NOFOLLOW), errno);
                assert_memory_equal(&before[i].st_ctim, &after.st_ctim, sizeof(after.st_ctim));
                assert_memory_equal(&before[i].st_mtim, &after.st_mtim, sizeof(after.st_mtim));
                if (S_ISREG(after.st_mode))
                        assert_memory_equal(&before[i].st_atim, &after.st_atim, sizeof(after.st_atim));
        }
}

static void what_an_earlier_attempt_left_is_removed(void **state) {
        Fixture *f = *state;

        put_tree(f->live);
        put_tree(f->backup);
        put_file(f->backup, "left over", "x");
        back_up(f);
        assert_same(f, "live", "backup");
}

static void ten_gib_of_hole_take_no_room(void **state) {
        const off_t size = (off_t) 10 * 1024 * MIB;
        Fixture *f = *state;
        struct stat st;
        TreeSize tree;
        int fd;

        fd = openat(f->live, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(pwrite(fd, "end", 3, 5 * 1024 * MIB), 3);
        assert_return_code(ftruncate(fd, size), errno);
        close(fd);

        assert_done(f, tree_measure(f->live, &tree, &f->error));
        assert_int_equal(tree.apparent_bytes, size);
        assert_true(tree.allocated_bytes < 64 * 1024);
        back_up(f);
        assert_return_code(fstatat(f->backup, "sparse", &st, 0), errno);
        assert_int_equal(st.st_size, size);
        assert_true(st.st_blocks * 512 < 64 * 1024);
        /* (head -c 5G /dev/zero; printf end; head -c $((5*1024*1024*1024-3)) /dev/zero) | sha256sum */
        assert_string_equal(manifest_find(f->manifest, "sparse")->sha256,
                        "8873c303cffac43526f73a055b555853c671bbec18ae8a2392a33218a466f0aa");
}

static void measure_counts_hard_links_once(void **state) {
        Fixture *f = *state;
        TreeSize size;

        put_tree(f->live);
        back_up(f);
        assert_done(f, tree_measure(f->live, &size, &f->error));
        assert_int_equal(size.apparent_bytes, manifest_n_bytes(f->manifest));
        assert_int_equal(size.n_entries, manifest_n_entries(f->manifest) - 1);
        assert_true(size.allocated_bytes > 15 * 4096 && size.allocated_bytes < 16 * (uint64_t) MIB);
}

static void measure_tells_what_is_new(void **state) {
        Fixture *f = *state;
        TreeSize all, size;
        uint64_t changed_bytes;
        struct stat st;

        put_tree(f->live);
        back_up(f);
        assert_done(f, tree_measure_changed(f->manifest, f->live, &size, &changed_bytes, &f->error));
        assert_int_equal(changed_bytes, 0);
        assert_done(f, tree_measure(f->live, &all, &f->error));
        assert_memory_equal(&size, &all, sizeof(size));

        /* Longer, gone, and in a directory that was not there. */
        put_file(f->live, "mnesia/schema.DAT", "one and more");
        assert_return_code(unlinkat(f->live, "mnesia/table.DCD", 0), errno);
        assert_return_code(mkdirat(f->live, "new", 0700), errno);
        put_file(f->live, "new/file", "new");
        assert_done(f, tree_measure_changed(f->manifest, f->live, &size, &changed_bytes, &f->error));
        assert_return_code(fstatat(f->live, "new/file", &st, 0), errno);
        assert_int_equal(changed_bytes, 2 * 512 * (uint64_t) st.st_blocks);
}

/* As chattr(1) does it; 0: as before. */
static void put_attributes(int dir_fd, const char *name, int attributes) {
        int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), now;

        assert_true(fd >= 0);
        assert_return_code(ioctl(fd, FS_IOC_GETFLAGS, &now), errno);
        now = (now & ~(FS_IMMUTABLE_FL | FS_APPEND_FL)) | attributes;
        assert_return_code(ioctl(fd, FS_IOC_SETFLAGS, &now), errno);
        close(fd);
}

static void what_cannot_be_changed_is_named(void **state) {
        static const struct {
                const char *name, *says;
                int attributes;
        } cases[] = {
                { "mnesia/table.DCD", "/live/mnesia/table.DCD: is immutable, so it cannot be replaced",
                                FS_IMMUTABLE_FL },
                { "acl.conf", "/live/acl.conf: is append-only, so it cannot be replaced", FS_APPEND_FL },
                { "mnesia.d", "/live/mnesia.d: is append-only, so it cannot be replaced", FS_APPEND_FL },
                { ".", "/live: is immutable, so it cannot be replaced", FS_IMMUTABLE_FL },
        };
        Fixture *f = *state;
        TreeSize size, changeable;

        put_tree(f->live);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(error_done) Error e = ERROR_NULL;
                int r;

                put_attributes(f->live, cases[i].name, cases[i].attributes);
                assert_done(f, tree_measure(f->live, &size, &f->error));
                r = tree_measure_changeable(f->live, &changeable, &e);
                put_attributes(f->live, cases[i].name, 0);
                assert_int_equal(r, -EPERM);
                assert_true(endswith(e.message, cases[i].says));
                assert_non_null(strstr(e.advice, "chattr -i"));
        }
        assert_done(f, tree_measure_changeable(f->live, &changeable, &f->error));
        assert_memory_equal(&changeable, &size, sizeof(size));
}

static bool is_new_default(const char *name) {
        return endswith(name, ".rpmnew");
}

static void a_name_is_found_at_any_depth(void **state) {
        Fixture *f = *state;

        put_tree(f->live);
        assert_return_code(symlinkat(".", f->live, "a loop"), errno);
        assert_int_equal(tree_has_name(f->live, is_new_default, &f->error), 0);
        assert_return_code(mkdirat(f->live, "a", 0700), errno);
        assert_return_code(mkdirat(f->live, "a/b", 0700), errno);
        put_file(f->live, "a/b/acl.conf.rpmnew.not", "x");
        assert_int_equal(tree_has_name(f->live, is_new_default, &f->error), 0);
        put_file(f->live, "a/b/acl.conf.rpmnew", "x");
        assert_int_equal(tree_has_name(f->live, is_new_default, &f->error), 1);
}

/* Makes depth directories of name below dir_fd, each with a file, and returns the last. */
static int put_deep(int dir_fd, const char *name, unsigned depth) {
        int fd = open_dir(dir_fd, "."), next;

        for (unsigned i = 0; i < depth; i++) {
                put_file(fd, "file", name);
                assert_return_code(mkdirat(fd, name, 0750), errno);
                next = open_dir(fd, name);
                close(fd);
                fd = next;
        }
        return fd;
}

static void trees_deeper_than_path_max_work(void **state) {
        Fixture *f = *state;
        int deepest;

        deepest = put_deep(f->live, NAME_255, 60);
        put_file(deepest, "bottom", "deep");
        assert_return_code(linkat(f->live, "file", deepest, "link", 0), errno);
        back_up(f);
        assert_int_equal(manifest_n_entries(f->manifest), 1 + 2 * 60 + 2);
        assert_true(strlen(manifest_at(f->manifest, 60)->path) > 3 * PATH_MAX);
        assert_differences(f, &(TreeRules){ .exact = true }, "");

        assert_return_code(unlinkat(deepest, "bottom", 0), errno);
        assert_return_code(unlinkat(deepest, "link", 0), errno);
        close(deepest);
        assert_done(f, tree_restore(f->manifest, f->backup, f->live, NULL, NULL, NULL, &f->error));
        assert_differences(f, &(TreeRules){ .exact = true }, "");
}

static void a_tree_too_deep_to_record_is_refused(void **state) {
        Fixture *f = *state;

        close(put_deep(f->live, NAME_255, MANIFEST_PATH_MAX / 255 + 1));
        assert_int_equal(tree_backup(f->live, f->backup, NULL, NULL, &f->manifest, &f->error), -ENAMETOOLONG);
        assert_non_null(strstr(f->error.message, "cannot be recorded: path too long"));
}

static void many_small_files_take_seconds_not_minutes(void **state) {
        const TreeRules exact = { .exact = true };
        usec_t start = now_usec(CLOCK_MONOTONIC);
        Fixture *f = *state;

        for (unsigned i = 0; i < 20000; i++) {
                char name[32];

                (void) snprintf(name, sizeof(name), "%u", i);
                put_file(f->live, name, name);
        }
        back_up(f);
        assert_int_equal(manifest_n_entries(f->manifest), 20001);
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "manifest", &f->error));
        f->manifest = manifest_free(f->manifest);
        assert_done(f, manifest_load_at(f->dir_fd, "manifest", &f->manifest, &f->error));
        assert_differences(f, &exact, "");
        /* Another directory: ext4 takes long to make files where many have just been removed. */
        close(f->live);
        assert_return_code(mkdirat(f->dir_fd, "again", 0700), errno);
        f->live = open_dir(f->dir_fd, "again");
        assert_done(f, tree_restore(f->manifest, f->backup, f->live, &exact, NULL, NULL, &f->error));
        assert_differences(f, &exact, "");
        assert_true(now_usec(CLOCK_MONOTONIC) - start < USEC_PER_MINUTE);
}

static void a_device_node_is_refused_by_name(void **state) {
        Fixture *f = *state;

        assert_return_code(mkdirat(f->live, "d", 0700), errno);
        assert_return_code(mknodat(f->live, "d/null", S_IFCHR | 0600, makedev(1, 3)), errno);
        assert_int_equal(tree_backup(f->live, f->backup, NULL, NULL, &f->manifest, &f->error), -EOPNOTSUPP);
        assert_non_null(strstr(f->error.message, "/live/d/null: is a device node"));
}

/* --- somebody else writes --- */

typedef struct Meddler {
        Fixture *fixture;
        void (*meddle)(Fixture *f);
        unsigned n_calls;
        uint64_t last_bytes;
} Meddler;

static int meddle_once(uint64_t done, uint64_t total, const char *path, void *userdata) {
        Meddler *m = userdata;

        (void) path;
        assert_int_equal(total, 99);
        assert_true(done >= m->last_bytes);
        m->last_bytes = done;
        if (m->n_calls++ == 0)
                m->meddle(m->fixture);
        return 0;
}

static void append(Fixture *f) {
        int fd = openat(f->live, "d/big", O_WRONLY | O_APPEND);

        assert_int_equal(write(fd, "x", 1), 1);
        close(fd);
}

static void overwrite(Fixture *f) {
        int fd = openat(f->live, "d/big", O_WRONLY);

        assert_int_equal(write(fd, "x", 1), 1);
        close(fd);
}

static void shorten(Fixture *f) {
        int fd = openat(f->live, "d/big", O_WRONLY);

        assert_return_code(ftruncate(fd, 1), errno);
        close(fd);
}

static void add_beside(Fixture *f) {
        put_file(f->live, "d/another", "x");
}

static void what_changes_meanwhile_is_named(void **state) {
        static const struct {
                void (*meddle)(Fixture *f);
                const char *named;
        } cases[] = {
                { append, "/live/d/big: changed while it was copied" },
                { overwrite, "/live/d/big: changed while it was copied" },
                { shorten, "/live/d/big: changed while it was copied" },
                { add_beside, "/live/d: changed while it was copied" },
        };
        Fixture *f = *state;
        int fd;

        assert_return_code(mkdirat(f->live, "d", 0700), errno);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Meddler m = { .fixture = f, .meddle = cases[i].meddle };
                _cleanup_(error_done) Error e = ERROR_NULL;

                fd = openat(f->live, "d/big", O_WRONLY | O_CREAT, 0600);
                assert_return_code(posix_fallocate(fd, 0, 32 * MIB), errno);
                for (off_t at = 0; at < 32 * MIB; at += 4096) /* unwritten blocks count as hole */
                        assert_int_equal(pwrite(fd, "y", 1, at), 1);
                close(fd);
                assert_int_equal(tree_backup(f->live, f->backup, NULL,
                                                 &(TreeProgress){ .func = meddle_once,
                                                                 .userdata = &m,
                                                                 .bytes_total = 99 },
                                                 &f->manifest, &e),
                                -EBUSY);
                assert_null(f->manifest);
                if (!strstr(e.message, cases[i].named))
                        print_error("%s\n", e.message);
                assert_non_null(strstr(e.message, cases[i].named));
        }
}

static int stop_it(uint64_t done, uint64_t total, const char *path, void *userdata) {
        (void) done;
        (void) total;
        (void) path;
        (void) userdata;
        return -ECANCELED;
}

static void progress_can_end_it(void **state) {
        Fixture *f = *state;

        put_tree(f->live);
        assert_int_equal(tree_backup(f->live, f->backup, NULL, &(TreeProgress){ .func = stop_it }, &f->manifest,
                                         &f->error),
                        -ECANCELED);
}

static void xattrs_that_are_not_the_file_s_own_are_left_out(void **state) {
        Fixture *f = *state;
        int fd;

        put_file(f->live, "file", "x");
        put_xattr(f->live, "file", "trusted.t", "v", 1);
        put_xattr(f->live, "file", "security.ima", "\x01 a digest of SHA-1, 20", 21);
        put_xattr(f->live, "file", "user.t", "v", 1);
        if (access("/sys/fs/selinux", F_OK) < 0)
                put_xattr(f->live, "file", "security.selinux", "system_u:object_r:etc_t:s0", 27);
        back_up(f);
        assert_int_equal(manifest_find(f->manifest, "file")->n_xattrs, 1);
        assert_string_equal(manifest_find(f->manifest, "file")->xattrs[0].name, "user.t");

        put_xattr(f->live, "file", "trusted.other", "v", 1);
        put_xattr(f->live, "file", "user.t", "w", 1);
        assert_differences(f, &(TreeRules){ .exact = true }, "file: xattrs\n");
        assert_done(f,
                        tree_restore(f->manifest, f->backup, f->live, &(TreeRules){ .exact = true }, NULL, NULL,
                                        &f->error));
        assert_differences(f, &(TreeRules){ .exact = true }, "");
        fd = openat(f->live, "file", O_RDONLY | O_CLOEXEC);
        assert_int_equal(fgetxattr(fd, "trusted.other", NULL, 0), 1);
        close(fd);
}

/* --- mounts --- */

static void a_mount_below_the_tree_belongs_to_it(void **state) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        Fixture *f = *state;
        int fd;

        mount_at(f, "live/mounted", "tmpfs", NULL);
        fd = open_dir(f->live, "mounted");
        put_tree(fd);
        back_up(f);
        assert_same(f, "live", "backup");
        assert_int_equal(tree_remove(f->live, "mounted", &e), -EBUSY);
        assert_non_null(strstr(e.message, "mount point"));
        put_file(fd, "acl.conf", "changed");
        put_file(fd, "more", "x");
        close(fd);
        assert_done(f,
                        tree_restore(f->manifest, f->backup, f->live, &(TreeRules){ .exact = true }, NULL, NULL,
                                        &f->error));
        assert_same(f, "backup", "live");
}

static void a_kernel_file_system_is_refused(void **state) {
        Fixture *f = *state;

        mount_at(f, "live/proc", "proc", NULL);
        assert_int_equal(tree_backup(f->live, f->backup, NULL, NULL, &f->manifest, &f->error), -EOPNOTSUPP);
        assert_non_null(strstr(f->error.message, "/live/proc: "));
}

static void content_is_shared_where_the_file_system_can(void **state) {
        _cleanup_free_ char *command = NULL, *target = NULL;
        struct statvfs before, after;
        Fixture *f = *state;
        int fd, live, backup;

        assert_return_code(mkdirat(f->dir_fd, "xfs", 0700), errno);
        assert_true(asprintf(&target, "%s/xfs", f->dir) > 0);
        assert_true(asprintf(&command,
                                    "cd %s && truncate -s 400M image && mkfs.xfs -q -m reflink=1 image && "
                                    "mount -o loop image xfs",
                                    f->dir) > 0);
        assert_int_equal(system(command), 0);
        f->mounted = TAKE_PTR(target);
        assert_return_code(mkdirat(f->dir_fd, "xfs/live", 0700), errno);
        assert_return_code(mkdirat(f->dir_fd, "xfs/backup", 0700), errno);
        live = open_dir(f->dir_fd, "xfs/live");
        backup = open_dir(f->dir_fd, "xfs/backup");
        put_tree(live);
        fd = openat(live, "big", O_WRONLY | O_CREAT, 0600);
        for (off_t at = 0; at < 64 * MIB; at += 4096)
                assert_int_equal(pwrite(fd, &at, sizeof(at), at), sizeof(at));
        close(fd);

        assert_return_code(syncfs(live), errno);
        assert_return_code(fstatvfs(live, &before), errno);
        assert_done(f, tree_backup(live, backup, NULL, NULL, &f->manifest, &f->error));
        assert_return_code(fstatvfs(live, &after), errno);
        assert_true((before.f_bfree - after.f_bfree) * before.f_bsize < 8 * (uint64_t) MIB);
        assert_same(f, "xfs/live", "xfs/backup");
        assert_int_equal(manifest_find(f->manifest, "mnesia.d")->n_xattrs, 1); /* its ACL, though listed twice here */
        assert_int_equal(tree_compare(f->manifest, backup, &(TreeRules){ 0 }, NULL, NULL, NULL, NULL), 0);
        close(live);
        close(backup);
}

static void a_full_disk_is_said_so(void **state) {
        Fixture *f = *state;
        int fd, small;

        mount_at(f, "small", "tmpfs", "size=1m");
        small = open_dir(f->dir_fd, "small");
        assert_return_code(mkdirat(f->live, "d", 0700), errno);
        fd = openat(f->live, "d/big", O_WRONLY | O_CREAT, 0600);
        for (off_t at = 0; at < 4 * MIB; at += 4096)
                assert_int_equal(pwrite(fd, "y", 1, at), 1);
        close(fd);
        assert_int_equal(tree_backup(f->live, small, NULL, NULL, &f->manifest, &f->error), -ENOSPC);
        assert_non_null(strstr(f->error.message, "/live/d/big: cannot be copied to "));
        assert_non_null(strstr(f->error.message, "/small/d/big: No space left on device"));
        assert_non_null(f->error.advice);
        close(small);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(everything_is_kept, set_up, tear_down),
                cmocka_unit_test_setup_teardown(fifos_and_sockets_are_recorded_but_not_made, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_source_is_left_as_it_was, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_an_earlier_attempt_left_is_removed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(ten_gib_of_hole_take_no_room, set_up, tear_down),
                cmocka_unit_test_setup_teardown(measure_counts_hard_links_once, set_up, tear_down),
                cmocka_unit_test_setup_teardown(measure_tells_what_is_new, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_cannot_be_changed_is_named, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_name_is_found_at_any_depth, set_up, tear_down),
                cmocka_unit_test_setup_teardown(trees_deeper_than_path_max_work, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_tree_too_deep_to_record_is_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(many_small_files_take_seconds_not_minutes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_device_node_is_refused_by_name, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_changes_meanwhile_is_named, set_up, tear_down),
                cmocka_unit_test_setup_teardown(progress_can_end_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(xattrs_that_are_not_the_file_s_own_are_left_out, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_mount_below_the_tree_belongs_to_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_kernel_file_system_is_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(content_is_shared_where_the_file_system_can, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_full_disk_is_said_so, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
