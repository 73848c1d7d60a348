/* SPDX-License-Identifier: Apache-2.0 */

/* Several passes over one tree: the first while it is in use, the last when it is not. */

#include "test-archive-tree.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "base/fileio.h"

/* Until no file of the tree can change any more without its times showing it. */
static void let_settle(void) {
        assert_return_code(usleep(150000), errno);
}

static Manifest *serving_pass(Fixture *f, const Manifest *earlier) {
        TreePass pass = { .earlier = earlier, .serving = true };
        Manifest *m = NULL;

        assert_done(f, tree_backup(f->live, f->backup, &pass, NULL, &m, &f->error));
        return m;
}

/* Makes the copy whole, and f->manifest what is in it. */
static TreePass last_pass(Fixture *f, const Manifest *earlier) {
        TreePass pass = { .earlier = earlier };

        f->manifest = manifest_free(f->manifest);
        assert_done(f, tree_backup(f->live, f->backup, &pass, NULL, &f->manifest, &f->error));
        assert_same(f, "live", "backup");
        assert_differences(f, &(TreeRules){ .exact = true }, "");
        return pass;
}

static void only_what_has_changed_is_copied_again(void **state) {
        _cleanup_(manifest_freep) Manifest *first = NULL;
        Fixture *f = *state;
        struct stat st;
        int mnesia;

        put_tree(f->live);
        put_file(f->live, "same size and time", "one");
        put_time(f->live, "same size and time", 1500000000, 7);
        put_file(f->live, "renamed from", "moved");
        put_file(f->live, "becomes directory", "file");
        put_file(f->live, "loses its mode", "x");
        put_file(f->live, "gets xattr", "x");
        put_file(f->live, "gets link", "x");
        assert_return_code(mkdirat(f->live, "becomes file", 0700), errno);
        assert_return_code(mkdirat(f->live, "goes", 0700), errno);
        put_file(f->live, "goes/with it", "x");
        put_file(f->live, "goes too", "x");
        let_settle();
        first = serving_pass(f, NULL);

        mnesia = open_dir(f->live, "mnesia");
        put_file(mnesia, "schema.DAT", "grown a bit");
        put_file(mnesia, "added", "new");
        close(mnesia);
        put_file(f->live, "same size and time", "two");
        put_time(f->live, "same size and time", 1500000000, 7);
        assert_return_code(renameat(f->live, "renamed from", f->live, "renamed to"), errno);
        assert_return_code(unlinkat(f->live, "becomes directory", 0), errno);
        assert_return_code(mkdirat(f->live, "becomes directory", 0700), errno);
        put_file(f->live, "becomes directory/and has a file", "x");
        assert_return_code(unlinkat(f->live, "becomes file", AT_REMOVEDIR), errno);
        put_file(f->live, "becomes file", "file");
        assert_return_code(fchmodat(f->live, "loses its mode", 0, 0), errno);
        put_xattr(f->live, "gets xattr", "user.new", "v", 1);
        assert_return_code(linkat(f->live, "gets link", f->live, "the link", 0), errno);
        assert_return_code(unlinkat(f->live, "goes/with it", 0), errno);
        assert_return_code(unlinkat(f->live, "goes", AT_REMOVEDIR), errno);
        assert_return_code(unlinkat(f->live, "goes too", 0), errno);

        /* schema.DAT, added, same size…, renamed, in the directory, becomes file, mode, xattr, one for "gets link" and one
         * for the twins of put_tree(): of a file with more links none is vouched for. */
        assert_int_equal(last_pass(f, first).n_copied, 10);

        /* And nothing at all where nothing has changed, but for the two with links and what is too new to be sure of. */
        let_settle();
        manifest_free(first);
        first = TAKE_PTR(f->manifest);
        assert_return_code(fstatat(f->live, "sparse", &st, 0), errno);
        assert_int_equal(manifest_find(first, "sparse")->inode, st.st_ino);
        assert_int_equal(manifest_find(first, "mnesia/added")->inode, 0);
        (void) last_pass(f, first);
        manifest_free(first);
        first = TAKE_PTR(f->manifest);
        assert_int_equal(last_pass(f, first).n_copied, 2);
}

static void interrupted_pass_is_done_again(void **state) {
        _cleanup_(manifest_freep) Manifest *first = NULL, *none = NULL;
        TreePass pass = { 0 };
        Fixture *f = *state;

        put_tree(f->live);
        let_settle();
        first = serving_pass(f, NULL);
        put_file(f->live, "acl.conf", "{deny, all}.\n");
        put_file(f->live, "empty", "no more");
        put_file(f->live, "zzz", "new");
        assert_return_code(mkdirat(f->live, "zzz.d", 0700), errno);
        put_file(f->live, "zzz.d/in it", "x");
        put_file(f->live, "mnesia/comes and goes", "x");
        assert_return_code(mkdirat(f->live, "mnesia/comes and goes.d", 0700), errno);
        put_file(f->live, "mnesia/comes and goes.d/in it", "x");
        assert_return_code(linkat(f->live, "zzz", f->live, "mnesia/link that goes", 0), errno);

        /* A device node ends it when nearly all has been done. */
        assert_return_code(mknodat(f->live, "zzzz", S_IFCHR | 0600, 0x103), errno);
        pass.earlier = first;
        assert_int_equal(tree_backup(f->live, f->backup, &pass, NULL, &none, &f->error), -EOPNOTSUPP);
        error_done(&f->error);
        assert_return_code(unlinkat(f->live, "zzzz", 0), errno);
        put_file(f->live, "acl.conf", "{allow, all}.\n");

        /* In no manifest, and copied. */
        assert_return_code(faccessat(f->backup, "mnesia/comes and goes.d/in it", F_OK, 0), errno);
        assert_return_code(unlinkat(f->live, "mnesia/comes and goes", 0), errno);
        assert_return_code(unlinkat(f->live, "mnesia/comes and goes.d/in it", 0), errno);
        assert_return_code(unlinkat(f->live, "mnesia/comes and goes.d", AT_REMOVEDIR), errno);
        assert_return_code(unlinkat(f->live, "mnesia/link that goes", 0), errno);
        assert_return_code(unlinkat(f->live, "zzz.d/in it", 0), errno);
        assert_return_code(symlinkat("nowhere", f->live, "mnesia/link that goes"), errno);
        (void) last_pass(f, first);
}

static ino_t inode_at(int dir_fd, const char *name) {
        struct stat st;

        assert_return_code(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), errno);
        return st.st_ino;
}

static void write_at(int dir_fd, const char *name, off_t offset, const char *text) {
        int fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

        assert_return_code(fd, errno);
        assert_int_equal(pwrite(fd, text, strlen(text), offset), strlen(text));
        close(fd);
}

static void cut_at(int dir_fd, const char *name, off_t size_bytes) {
        int fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

        assert_return_code(ftruncate(fd, size_bytes), errno);
        close(fd);
}

static void take_xattr(int dir_fd, const char *name, const char *xattr) {
        int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        assert_return_code(fremovexattr(fd, xattr), errno);
        close(fd);
}

static void put_large(int dir_fd, const char *name, size_t size_bytes) {
        char *text = malloc(size_bytes + 1);

        assert_non_null(text);
        for (size_t i = 0; i < size_bytes; i++)
                text[i] = (char) ('a' + i * 2654435761U % 26);
        text[size_bytes] = 0;
        put_file(dir_fd, name, text);
        free(text);
}

static void large_files_are_written_to_where_they_differ(void **state) {
        static const char *const names[] = { "log", "table", "shrinks", "half made", "is gone for a moment" };
        _cleanup_(manifest_freep) Manifest *first = NULL;
        ino_t inodes[ELEMENTSOF(names)];
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                put_large(f->live, names[i], (3 << 20) + i);
        put_xattr(f->live, "table", "user.old", "v", 1);
        put_large(f->live, "becomes sparse", 3 << 20);
        let_settle();
        first = serving_pass(f, NULL);
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                inodes[i] = inode_at(f->backup, names[i]);

        write_at(f->live, "log", 3 << 20, "appended");
        write_at(f->live, "table", 1 << 20, "changed");
        take_xattr(f->live, "table", "user.old");
        cut_at(f->live, "shrinks", (2 << 20) + 5);
        write_at(f->live, "half made", 0, "begins otherwise");
        write_at(f->backup, "half made", 1 << 20, "what another pass was about to write, and longer");
        write_at(f->backup, "half made", 4 << 20, "!");
        assert_return_code(unlinkat(f->live, "is gone for a moment", 0), errno);
        put_large(f->live, "is gone for a moment", 2 << 20);
        put_file(f->live, "becomes sparse", "x");
        cut_at(f->live, "becomes sparse", 3 << 20);

        assert_int_equal(last_pass(f, first).n_copied, ELEMENTSOF(names) + 1);
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                assert_int_equal(inode_at(f->backup, names[i]), inodes[i]);
}

typedef struct Meddling {
        Fixture *f;
        bool done;
} Meddling;

static int meddle(uint64_t bytes_done, uint64_t bytes_total, const char *path, void *userdata) {
        Meddling *m = userdata;

        (void) bytes_total;
        if (m->done || bytes_done < 8 * MIB || !streq(path, "large"))
                return 0;
        m->done = true;
        put_file(m->f->live, "large", "short now");
        assert_return_code(unlinkat(m->f->live, "z gone", 0), errno);
        assert_return_code(unlinkat(m->f->live, "z dir/file", 0), errno);
        assert_return_code(unlinkat(m->f->live, "z dir", AT_REMOVEDIR), errno);
        put_file(m->f->live, "z dir", "file now");
        put_file(m->f->live, "z new", "x");
        return 0;
}

static void changes_meanwhile_are_left_for_the_next_pass(void **state) {
        _cleanup_(manifest_freep) Manifest *first = NULL;
        Fixture *f = *state;
        Meddling m = { .f = f };
        TreePass pass = { .serving = true };
        int fd;

        fd = openat(f->live, "large", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_return_code(posix_fallocate(fd, 0, 32 * MIB), errno);
        close(fd);
        put_file(f->live, "z gone", "x");
        assert_return_code(mkdirat(f->live, "z dir", 0700), errno);
        put_file(f->live, "z dir/file", "x");

        assert_done(f,
                        tree_backup(f->live, f->backup, &pass, &(TreeProgress){ .func = meddle, .userdata = &m },
                                        &first, &f->error));
        assert_true(m.done);
        assert_null(manifest_find(first, "large"));
        assert_null(manifest_find(first, "z gone"));
        (void) last_pass(f, first);
}

/* A page that is dirty already when the pass begins, and is written to again after it. */
static void writing_to_a_mapping_is_noticed(void **state) {
        _cleanup_(manifest_freep) Manifest *first = NULL;
        Fixture *f = *state;
        char *map;
        int fd;

        put_file(f->live, "mapped", "................");
        fd = openat(f->live, "mapped", O_RDWR | O_CLOEXEC);
        map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(map != MAP_FAILED);
        memcpy(map, "one", 3);
        let_settle();
        first = serving_pass(f, NULL);
        assert_true(manifest_find(first, "mapped")->inode != 0);
        memcpy(map, "two", 3);
        assert_int_equal(last_pass(f, first).n_copied, 1);
        assert_return_code(munmap(map, 4096), errno);
        close(fd);
}

/* There, writing to a mapping does not show in the times. */
static void what_is_in_memory_is_not_vouched_for(void **state) {
        char path[] = "/dev/shm/emqx-upgrade-test.XXXXXX";
        _cleanup_(manifest_freep) Manifest *m = NULL;
        TreePass pass = { .serving = true };
        Fixture *f = *state;
        struct statfs fs;
        int live;

        assert_non_null(mkdtemp(path));
        live = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_return_code(live, errno);
        assert_return_code(fstatfs(live, &fs), errno);
        put_file(live, "file", "content");
        let_settle();
        assert_done(f, tree_backup(live, f->backup, &pass, NULL, &m, &f->error));
        assert_return_code(unlinkat(live, "file", 0), errno);
        assert_return_code(rmdir(path), errno);
        close(live);
        assert_int_equal(manifest_find(m, "file")->inode == 0, fs.f_type == TMPFS_MAGIC);
}

/* f->manifest with the first `from` in it replaced by `to`, which is as long. */
static Manifest *edited_manifest(Fixture *f, const char *from, const char *to) {
        _cleanup_free_ char *text = NULL;
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        char sha256[SHA256_HEX_SIZE], *at, *seal;
        Manifest *m = NULL;
        size_t size;

        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "edited", &f->error));
        assert_int_equal(read_file_at(f->dir_fd, "edited", SIZE_MAX / 2, &text, &size), 0);
        at = strstr(text, from);
        assert_non_null(at);
        memcpy(at, to, strlen(from));
        seal = strstr(text, "# sealed");
        assert_non_null(seal);
        assert_int_equal(sha256_new(&h), 0);
        assert_int_equal(sha256_add(h, text, (size_t) (seal - text)), 0);
        assert_int_equal(sha256_finish(h, sha256), 0);
        memcpy(text + size - SHA256_HEX_SIZE, sha256, SHA256_HEX_SIZE - 1);
        put_file(f->dir_fd, "edited", text);
        assert_done(f, manifest_load_at(f->dir_fd, "edited", &m, &f->error));
        return m;
}

static void another_boot_vouches_for_nothing(void **state) {
        _cleanup_(manifest_freep) Manifest *same = NULL, *other = NULL;
        Fixture *f = *state;
        char *boot;

        put_file(f->live, "file", "content");
        let_settle();
        back_up(f);
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "same", &f->error));
        boot = strdup(manifest_boot(f->manifest));
        assert_non_null(boot);
        *boot = *boot == '0' ? '1' : '0';
        other = edited_manifest(f, manifest_boot(f->manifest), boot);
        free(boot);
        assert_int_equal(manifest_find(other, "file")->inode, 0);

        assert_done(f, manifest_load_at(f->dir_fd, "same", &same, &f->error));
        assert_true(manifest_find(same, "file")->inode != 0);
        assert_int_equal(last_pass(f, other).n_copied, 1);
        assert_int_equal(last_pass(f, same).n_copied, 0);
}

/* Such as a label of SELinux, which has been switched off since. */
static void what_cannot_be_set_is_not_asked_for(void **state) {
        _cleanup_(manifest_freep) Manifest *m = NULL;
        Fixture *f = *state;
        int fd;

        put_file(f->live, "file", "content");
        put_xattr(f->live, "file", "user.abcde", "v", 1);
        back_up(f);
        m = edited_manifest(f, "user.abcde", "trusted.ab");
        assert_int_equal(tree_compare(m, f->live, NULL, NULL, NULL, NULL, &f->error), 1);
        assert_done(f, tree_restore(m, f->backup, f->live, NULL, NULL, NULL, &f->error));
        assert_done(f, tree_compare(m, f->live, NULL, NULL, NULL, NULL, &f->error));
        fd = openat(f->live, "file", O_RDONLY | O_CLOEXEC);
        assert_int_equal(fgetxattr(fd, "trusted.ab", NULL, 0), -1);
        close(fd);
}

/* Content that was exchanged under the same size and time is found when it is restored. */
static void restore_trusts_no_times(void **state) {
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 1500000000, 7 } };
        Fixture *f = *state;
        TreeCounts counts;

        put_file(f->live, "file", "one");
        put_file(f->live, "other", "one");
        assert_return_code(utimensat(f->live, "file", times, 0), errno);
        back_up(f);
        put_file(f->live, "file", "two");
        assert_return_code(utimensat(f->live, "file", times, 0), errno);
        assert_done(f,
                        tree_restore(f->manifest, f->backup, f->live, &(TreeRules){ .exact = true }, NULL, &counts,
                                        &f->error));
        assert_int_equal(counts.n_written, 1);
        assert_same(f, "live", "backup");
}

/* After a package's scripts, what was only chowned is not read; what is another file, or has another time, is. */
static void owners_that_scripts_change_make_nobody_read(void **state) {
        static const char *const names[] = { "chowned", "not read", "replaced", "written" };
        Fixture *f = *state;
        TreeCounts counts;

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                put_file(f->live, names[i], "one");
                put_time(f->live, names[i], 1500000000, 7);
        }
        let_settle();
        back_up(f);

        assert_return_code(fchownat(f->live, "chowned", 1234, 1234, 0), errno);
        put_file(f->live, "not read", "two"); /* as nobody does: it would show if it were read */
        put_file(f->live, "new", "two");
        assert_return_code(renameat(f->live, "new", f->live, "replaced"), errno);
        put_file(f->live, "written", "two");
        for (size_t i = 0; i < 3; i++)
                put_time(f->live, names[i], 1500000000, 7);
        assert_done(f,
                        tree_restore(f->manifest, f->backup, f->live,
                                        &(TreeRules){ .exact = true, .trust_inode = true }, NULL, &counts, &f->error));
        assert_int_equal(counts.n_written, 2);
        assert_int_equal(counts.n_fixed, 2); /* and the directory */
        assert_differences(f, &(TreeRules){ .exact = true }, "not read: content\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(only_what_has_changed_is_copied_again, set_up, tear_down),
                cmocka_unit_test_setup_teardown(interrupted_pass_is_done_again, set_up, tear_down),
                cmocka_unit_test_setup_teardown(large_files_are_written_to_where_they_differ, set_up, tear_down),
                cmocka_unit_test_setup_teardown(changes_meanwhile_are_left_for_the_next_pass, set_up, tear_down),
                cmocka_unit_test_setup_teardown(writing_to_a_mapping_is_noticed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_in_memory_is_not_vouched_for, set_up, tear_down),
                cmocka_unit_test_setup_teardown(another_boot_vouches_for_nothing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_cannot_be_set_is_not_asked_for, set_up, tear_down),
                cmocka_unit_test_setup_teardown(restore_trusts_no_times, set_up, tear_down),
                cmocka_unit_test_setup_teardown(owners_that_scripts_change_make_nobody_read, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
