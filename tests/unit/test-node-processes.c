/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/fileio.h"
#include "node/processes.h"

static char *root, *program;

/* A program of the node's: cat from the build machine, which waits on its standard input for as long as we like. */
static int set_up(void **state) {
        _cleanup_free_ char *data = NULL, *bin = NULL;
        size_t size;

        (void) state;
        root = make_tmpdir();
        assert_true(asprintf(&bin, "%s/erts-11.1/bin", root) > 0);
        assert_int_equal(mkdir_parents(bin, 0755), 0);
        assert_true(asprintf(&program, "%s/beam.smp", bin) > 0);
        assert_int_equal(read_file_at(AT_FDCWD, "/bin/cat", 16 * 1024 * 1024, &data, &size), 0);
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, program, data, size, 0755), 0);
        return 0;
}

static int tear_down(void **state) {
        (void) state;
        remove_tmpdir(root);
        free(program);
        return 0;
}

/* Runs program until its *ret_stdin is closed; returns once it really is that program. */
static pid_t spawn(const char *mnesia, int *ret_stdin) {
        int input[2], started[2];
        pid_t pid;
        char byte;

        assert_int_equal(pipe2(input, O_CLOEXEC), 0);
        assert_int_equal(pipe2(started, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                /* Behind "--" and standard input, "-mnesia" is to cat a file that is not there. */
                (void) dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
                if (dup2(input[0], STDIN_FILENO) < 0)
                        _exit(126);
                execl(program, program, "--", "-", mnesia, (char *) NULL);
                _exit(127);
        }
        close(input[0]);
        close(started[1]);
        assert_int_equal(read(started[0], &byte, 1), 0); /* closed by execve(2) */
        close(started[0]);
        *ret_stdin = input[1];
        return pid;
}

static void finish(pid_t pid, int input) {
        int status;

        close(input);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 126);
}

static const NodeProcess *find(const NodeProcess *list, size_t n, pid_t pid) {
        for (size_t i = 0; i < n; i++)
                if (list[i].pid == pid)
                        return list + i;
        return NULL;
}

static void nobody_runs_from_an_unused_tree(void **state) {
        NodeProcess *list = NULL;
        size_t n = 1;

        (void) state;
        assert_int_equal(node_processes(root, &list, &n), 0);
        assert_int_equal(n, 0);
        assert_null(list);
        assert_int_equal(node_processes("/nonexistent", &list, &n), 0);
        assert_int_equal(n, 0);
}

static void the_vm_and_its_helpers_are_found(void **state) {
        _cleanup_free_ NodeProcess *list = NULL;
        _cleanup_free_ char *longer = NULL;
        int vm_input, helper_input;
        pid_t vm, helper;
        size_t n;

        (void) state;
        vm = spawn("-mnesia", &vm_input);
        helper = spawn("mnesia", &helper_input);
        assert_int_equal(node_processes(root, &list, &n), 0);
        assert_int_equal(n, 2);
        assert_non_null(find(list, n, vm));
        assert_true(find(list, n, vm)->vm);
        assert_non_null(find(list, n, helper));
        assert_false(find(list, n, helper)->vm);

        /* A tree whose name only begins like ours is another one. */
        list = mfree(list);
        longer = strndup(root, strlen(root) - 1);
        assert_non_null(longer);
        assert_int_equal(node_processes(longer, &list, &n), 0);
        assert_int_equal(n, 0);

        finish(vm, vm_input);
        finish(helper, helper_input);
        assert_int_equal(node_processes(root, &list, &n), 0);
        assert_int_equal(n, 0);
}

static void a_removed_program_still_runs(void **state) {
        _cleanup_free_ NodeProcess *list = NULL;
        int input;
        pid_t pid;
        size_t n;

        (void) state;
        pid = spawn("-mnesia", &input);
        assert_int_equal(unlink(program), 0);
        assert_int_equal(node_processes(root, &list, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(list[0].pid, pid);
        assert_true(list[0].vm);

        /* …also when the tree is gone with it, as after a removal of the package. */
        list = mfree(list);
        (void) nftw(root, remove_tmpdir_entry, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
        assert_int_equal(access(root, F_OK), -1);
        assert_int_equal(node_processes(root, &list, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(list[0].pid, pid);
        finish(pid, input);
}

static void a_link_to_the_tree_finds_it(void **state) {
        _cleanup_free_ NodeProcess *list = NULL;
        _cleanup_free_ char *link = NULL;
        int input;
        pid_t pid;
        size_t n;

        (void) state;
        assert_true(asprintf(&link, "%s.link", root) > 0);
        assert_int_equal(symlink(root, link), 0);
        pid = spawn("-mnesia", &input);
        assert_int_equal(node_processes(link, &list, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(list[0].pid, pid);
        finish(pid, input);
        assert_int_equal(unlink(link), 0);
}

/* Without the right to look at other users' executables. */
static void a_hidden_process_is_known_by_its_arguments(void **state) {
        int input, status;
        pid_t pid, child;

        (void) state;
        pid = spawn("-mnesia", &input);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                NodeProcess *list = NULL;
                size_t n = 0;

                if (setuid(65534) < 0 || node_processes(root, &list, &n) < 0)
                        _exit(1);
                _exit(n == 1 && list[0].pid == pid && list[0].vm ? 0 : 2);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        finish(pid, input);
}

/* A container on this host may have its own node under the same path. */
static void processes_of_another_root_are_not_ours(void **state) {
        _cleanup_free_ NodeProcess *list = NULL;
        int ready[2], release[2], status;
        pid_t pid;
        char byte;
        size_t n;

        (void) state;
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(release, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                close(release[1]);
                _exit(chroot(root) == 0 && write(ready[1], "x", 1) == 1 && read(release[0], &byte, 1) == 0 ? 0 : 1);
        }
        close(ready[1]);
        close(release[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);

        /* The child runs this test's own program: below "/" for us, but not in its own root. */
        {
                _cleanup_free_ char *exe = realpath("/proc/self/exe", NULL);

                assert_non_null(exe);
                *strrchr(exe, '/') = 0;
                assert_int_equal(node_processes(exe, &list, &n), 0);
        }
        assert_non_null(find(list, n, getpid()));
        assert_null(find(list, n, pid));

        close(release[1]);
        close(ready[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(nobody_runs_from_an_unused_tree, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_vm_and_its_helpers_are_found, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_removed_program_still_runs, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_link_to_the_tree_finds_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_hidden_process_is_known_by_its_arguments, set_up, tear_down),
                cmocka_unit_test_setup_teardown(processes_of_another_root_are_not_ours, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
