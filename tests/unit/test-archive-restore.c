/* SPDX-License-Identifier: Apache-2.0 */

#include "test-archive-tree.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static const TreeRules exact = { .exact = true };

static bool exists(int dir_fd, const char *path) {
        struct stat st;

        return fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) >= 0;
}

static void assert_content(int dir_fd, const char *path, const char *expected) {
        char buffer[256];
        int fd = openat(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        ssize_t n;

        assert_true(fd >= 0);
        n = read(fd, buffer, sizeof(buffer) - 1);
        assert_true(n >= 0);
        buffer[n] = 0;
        close(fd);
        assert_string_equal(buffer, expected);
}

static void restore(Fixture *f, const TreeRules *rules, TreeCounts *ret) {
        assert_done(f, tree_restore(f->manifest, f->backup, f->live, rules, NULL, ret, &f->error));
}

static void an_empty_directory_becomes_the_tree(void **state) {
        Fixture *f = *state;
        TreeCounts counts;

        put_tree(f->live);
        back_up(f);
        assert_int_equal(tree_empty(f->live, NULL), 0);
        restore(f, NULL, &counts);
        assert_same(f, "backup", "live");
        assert_false(exists(f->live, "mnesia/pipe"));
        assert_int_equal(counts.n_written, manifest_n_entries(f->manifest) - 3); /* ".", pipe and socket */
        assert_int_equal(counts.written_bytes, manifest_n_bytes(f->manifest));
}

static void what_is_extra_stays_unless_exact(void **state) {
        Fixture *f = *state;
        TreeCounts counts;

        put_tree(f->live);
        back_up(f);
        put_file(f->live, "mnesia/new", "x");
        assert_return_code(mkdirat(f->live, "new", 0700), errno);
        put_file(f->live, "new/file", "x");
        assert_return_code(mkfifoat(f->live, "read-only/pipe", 0600), errno);

        restore(f, NULL, &counts);
        assert_true(exists(f->live, "mnesia/new") && exists(f->live, "new/file"));
        assert_int_equal(counts.n_removed, 0);
        assert_differences(f, NULL, "");

        assert_differences(f, &exact, "mnesia/new: extra\nnew: extra\n");
        restore(f, &exact, &counts);
        assert_false(exists(f->live, "mnesia/new") || exists(f->live, "new"));
        assert_int_equal(counts.n_removed, 2);
        assert_true(exists(f->live, "mnesia/pipe") && exists(f->live, "mnesia/socket"));
        assert_true(exists(f->live, "read-only/pipe"));
        assert_differences(f, &exact, "");
}

/* --- rules --- */

static TreeVerdict decide(const char *path, const ManifestEntry *entry, void *userdata) {
        Fixture *f = userdata;

        assert_true(!entry == !manifest_find(f->manifest, path));
        assert_true(!entry || streq(entry->path, path));
        assert_string_not_equal(path, ".");
        assert_null(startswith(path, "mnesia/twin/")); /* never asked below what was left or dropped */
        assert_null(startswith(path, "patches/"));
        if (streq(path, "acl.conf") || streq(path, "mnesia.d") || streq(path, "a-twin"))
                return TREE_LEAVE;
        if (streq(path, "patches") || streq(path, "mnesia/schema.DAT") || streq(path, "setuid") ||
                        streq(path, "new/dropped"))
                return TREE_DROP;
        return TREE_CARRY;
}

static void rules_carry_leave_and_drop(void **state) {
        Fixture *f = *state;
        const TreeRules rules = { .decide = decide, .userdata = f };

        put_tree(f->live);
        assert_return_code(mkdirat(f->live, "patches", 0700), errno);
        put_file(f->live, "patches/old.beam", "4.3");
        back_up(f);
        assert_return_code(mkdirat(f->live, "new", 0700), errno);
        put_file(f->live, "new/dropped", "x");
        put_file(f->live, "new/kept", "x");
        put_file(f->live, "acl.conf", "of 4.4");
        put_file(f->live, "mnesia.d/new", "of 4.4");
        put_file(f->live, "capable", "damaged");
        put_file(f->live, "a-twin", "damaged"); /* and with it mnesia/twin and mnesia/twin2 */

        assert_differences(f, &rules,
                        ".: time\ncapable: content, xattrs, time\nmnesia/schema.DAT: extra\n"
                        "mnesia/twin: content, time\nmnesia/twin2: content, time\nnew/dropped: extra\npatches: extra\n"
                        "setuid: extra\n");
        restore(f, &rules, NULL);
        assert_differences(f, &rules, "");
        assert_content(f->live, "acl.conf", "of 4.4");
        assert_content(f->live, "a-twin", "damaged");
        assert_content(f->live, "mnesia/twin", "hard");
        assert_content(f->live, "mnesia/twin2", "hard");
        assert_true(exists(f->live, "mnesia.d/new") && exists(f->live, "new/kept"));
        assert_false(exists(f->live, "patches") || exists(f->live, "mnesia/schema.DAT"));
        assert_false(exists(f->live, "setuid") || exists(f->live, "new/dropped"));
        assert_true(exists(f->backup, "patches/old.beam"));
}

/* --- hostile trees: live belongs to the broker's user, the restore runs as root --- */

static void a_symlink_in_place_of_a_directory_leads_nowhere(void **state) {
        Fixture *f = *state;
        struct stat st;

        put_tree(f->live);
        back_up(f);
        assert_return_code(mkdirat(f->dir_fd, "victim", 0755), errno);
        put_file(f->dir_fd, "victim/schema.DAT", "precious");
        assert_int_equal(tree_remove(f->live, "mnesia", NULL), 0);
        assert_return_code(symlinkat("../victim", f->live, "mnesia"), errno);
        assert_int_equal(tree_remove(f->live, "acl.conf", NULL), 0);
        assert_return_code(symlinkat("../victim/schema.DAT", f->live, "acl.conf"), errno);

        restore(f, &exact, NULL);
        assert_same(f, "backup", "live");
        assert_content(f->dir_fd, "victim/schema.DAT", "precious");
        assert_return_code(fstatat(f->dir_fd, "victim", &st, 0), errno);
        assert_int_equal(st.st_mode & 07777, 0755);
        assert_false(exists(f->dir_fd, "victim/twin"));
}

static void a_hard_link_to_somebody_elses_file_is_cut_not_changed(void **state) {
        struct stat before, after;
        const ManifestEntry *e;
        Fixture *f = *state;

        put_tree(f->live);
        back_up(f);
        put_file(f->dir_fd, "victim", "{allow, all}.\n"); /* the same content and time as acl.conf */
        assert_return_code(fchmodat(f->dir_fd, "victim", 0600, 0), errno);
        assert_return_code(unlinkat(f->live, "acl.conf", 0), errno);
        assert_return_code(linkat(f->dir_fd, "victim", f->live, "acl.conf", 0), errno);
        put_time(f->dir_fd, "victim", 1700000000, 123456789);

        /* nor one that counts no more links than the manifest's own file had */
        e = manifest_find(f->manifest, "a-twin");
        put_file(f->dir_fd, "victim2", "hard");
        assert_return_code(fchmodat(f->dir_fd, "victim2", 0600, 0), errno);
        put_time(f->dir_fd, "victim2", e->mtime.tv_sec, e->mtime.tv_nsec);
        assert_return_code(unlinkat(f->live, "a-twin", 0), errno);
        assert_return_code(linkat(f->dir_fd, "victim2", f->live, "a-twin", 0), errno);

        assert_return_code(fstatat(f->dir_fd, "victim", &before, 0), errno);
        restore(f, &exact, NULL);
        assert_return_code(fstatat(f->dir_fd, "victim", &after, 0), errno);
        assert_int_equal(after.st_uid, before.st_uid);
        assert_int_equal(after.st_mode, before.st_mode);
        assert_int_equal(after.st_nlink, 1);
        assert_return_code(fstatat(f->dir_fd, "victim2", &after, 0), errno);
        assert_int_equal(after.st_mode & 07777, 0600);
        assert_int_equal(after.st_nlink, 1);
        assert_same(f, "backup", "live");
}

/* --- owners --- */

static void put_users(Fixture *f, unsigned uid) {
        _cleanup_free_ char *text = NULL;

        assert_true(asprintf(&text, "root:x:0:0::/root:/bin/sh\nbroker:x:%u:%u::/:/bin/false\n", uid, uid) > 0);
        put_file(f->dir_fd, "passwd", text);
        free(text);
        assert_true(asprintf(&text, "root:x:0:\nbroker:x:%u:\n", uid) > 0);
        put_file(f->dir_fd, "group", text);
}

static void bind_over(Fixture *f, const char *name, const char *path) {
        char source[PATH_MAX];

        (void) snprintf(source, sizeof(source), "%s/%s", f->dir, name);
        assert_return_code(mount(source, path, NULL, MS_BIND, NULL), errno);
}

static void owners_are_restored_by_name(void **state) {
        Fixture *f = *state;
        struct stat st;
        int r;

        put_users(f, 4001);
        bind_over(f, "passwd", "/etc/passwd");
        bind_over(f, "group", "/etc/group");
        put_file(f->live, "named", "x");
        put_file(f->live, "nameless", "x");
        assert_return_code(fchownat(f->live, "named", 4001, 4001, 0), errno);
        assert_return_code(fchownat(f->live, "nameless", 4009, 4009, 0), errno);
        back_up(f);
        assert_string_equal(manifest_find(f->manifest, "named")->uname, "broker");
        assert_null(manifest_find(f->manifest, "nameless")->uname);

        put_users(f, 4002); /* the package was removed, and its user made again */
        assert_differences(f, &exact, "named: owner\n");
        r = tree_restore(f->manifest, f->backup, f->live, &exact, NULL, NULL, &f->error);
        assert_return_code(fstatat(f->live, "named", &st, 0), errno);
        assert_return_code(umount2("/etc/passwd", MNT_DETACH), errno);
        assert_return_code(umount2("/etc/group", MNT_DETACH), errno);
        assert_done(f, r);
        assert_int_equal(st.st_uid, 4002);
        assert_int_equal(st.st_gid, 4002);

        /* now nobody knows the name: the id it had */
        restore(f, &exact, NULL);
        assert_return_code(fstatat(f->live, "named", &st, 0), errno);
        assert_int_equal(st.st_uid, 4001);
        assert_return_code(fstatat(f->live, "nameless", &st, 0), errno);
        assert_int_equal(st.st_gid, 4009);
}

/* --- what goes wrong --- */

static void a_damaged_backup_is_never_put_in_place(void **state) {
        Fixture *f = *state;

        put_tree(f->live);
        back_up(f);
        put_file(f->backup, "mnesia/schema.DAT", "eno");
        put_file(f->live, "mnesia/schema.DAT", "new");
        assert_int_equal(tree_restore(f->manifest, f->backup, f->live, &exact, NULL, NULL, &f->error), -EBADMSG);
        assert_non_null(strstr(f->error.message, "mnesia/schema.DAT"));
        assert_non_null(f->error.advice);
        assert_false(exists(f->live, "mnesia/schema.DAT"));

        /* a FIFO in its place is no reason to wait */
        assert_return_code(unlinkat(f->backup, "mnesia/schema.DAT", 0), errno);
        assert_return_code(mkfifoat(f->backup, "mnesia/schema.DAT", 0600), errno);
        error_done(&f->error);
        assert_int_equal(tree_restore(f->manifest, f->backup, f->live, &exact, NULL, NULL, &f->error), -EBADMSG);
}

static void a_full_disk_leaves_a_restore_that_can_be_repeated(void **state) {
        Fixture *f = *state;
        int live;

        put_tree(f->live);
        put_file(f->live, "z-last", "x");
        for (unsigned i = 0; i < 40; i++) {
                int fd = openat(f->live, "mnesia/big", O_WRONLY | O_CREAT | O_APPEND, 0600);
                char block[32768];

                memset(block, 'a' + (int) i % 26, sizeof(block));
                assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
                close(fd);
        }
        back_up(f);

        mount_at(f, "small", "tmpfs", "size=1m");
        live = open_dir(f->dir_fd, "small");
        assert_int_equal(tree_restore(f->manifest, f->backup, live, &exact, NULL, NULL, &f->error), -ENOSPC);
        assert_non_null(strstr(f->error.message, "No space left on device"));
        assert_false(exists(live, "mnesia/big"));
        error_done(&f->error);

        assert_return_code(mount(NULL, f->mounted, NULL, MS_REMOUNT, "size=8m"), errno);
        assert_done(f, tree_restore(f->manifest, f->backup, live, &exact, NULL, NULL, &f->error));
        assert_same(f, "backup", "small");
        close(live);
}

/* --- interruption --- */

static void put_damage(Fixture *f) {
        assert_int_equal(tree_empty(f->live, NULL), 0);
        put_tree(f->live);
        put_file(f->live, "new file", "x");
        assert_return_code(mkdirat(f->live, "new", 0700), errno);
        put_file(f->live, "new/file", "x");
        put_file(f->live, "mnesia/schema.DAT", "eno");
        put_file(f->live, "mnesia/twin2", "soft");
        assert_return_code(fchmodat(f->live, ".erlang.cookie", 0644, 0), errno);
        assert_return_code(unlinkat(f->live, "loop", 0), errno);
        assert_int_equal(tree_remove(f->live, "read-only", NULL), 0);
        assert_int_equal(tree_remove(f->live, "setuid", NULL), 0);
        assert_return_code(mkdirat(f->live, "setuid", 0700), errno);
        put_file(f->live, "setuid/x", "x");
        put_time(f->live, "acl.conf", 1, 1);
}

/* Runs a restore in a child and kills it when it enters its n-th system call; false: it ended before. */
static bool restore_killed_at(Fixture *f, unsigned n) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                (void) ptrace(PTRACE_TRACEME, 0, NULL, NULL);
                (void) raise(SIGSTOP);
                _exit(tree_restore(f->manifest, f->backup, f->live, &exact, NULL, NULL, NULL) == 0 ? 0 : 1);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);
        for (unsigned stops = 0; stops < 2 * n; stops++) { /* one stop at entry, one at exit */
                assert_true(WIFSTOPPED(status));
                assert_return_code(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), errno);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                if (WIFEXITED(status)) {
                        assert_int_equal(WEXITSTATUS(status), 0);
                        return false;
                }
        }
        assert_return_code(kill(pid, SIGKILL), errno);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        return true;
}

static void killed_at_any_system_call_it_is_completed_by_the_next_run(void **state) {
        Fixture *f = *state;
        unsigned n;

        put_tree(f->live);
        back_up(f);
        for (n = 1;; n += 7) {
                put_damage(f);
                if (!restore_killed_at(f, n))
                        break;
                restore(f, &exact, NULL);
                assert_differences(f, &(TreeRules){ .exact = true }, "");
                assert_same(f, "backup", "live");
        }
        assert_true(n > 300);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_empty_directory_becomes_the_tree, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_extra_stays_unless_exact, set_up, tear_down),
                cmocka_unit_test_setup_teardown(rules_carry_leave_and_drop, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_symlink_in_place_of_a_directory_leads_nowhere, set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                                a_hard_link_to_somebody_elses_file_is_cut_not_changed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(owners_are_restored_by_name, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_damaged_backup_is_never_put_in_place, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_full_disk_leaves_a_restore_that_can_be_repeated, set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                                killed_at_any_system_call_it_is_completed_by_the_next_run, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
