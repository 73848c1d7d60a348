/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fileio.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/sha256.h"
#include "base/size.h"
#include "base/strv.h"
#include "base/time.h"
#include "base/version.h"

static void versions_are_three_plain_numbers(void **state) {
        static const char *const bad[] = { "", "4", "4.4", "4.4.", "4.4.0.1", "4.4.0;reboot", "../x", "v4.4.0",
                "4.4.00", "04.4.0", "4.4.0 ", " 4.4.0", "4.4.-1", "4.4.1000", "4.4.0-rc.1", "4..0", "+4.4.0" };
        char text[VERSION_TEXT_MAX];
        Version v;

        (void) state;
        assert_int_equal(version_parse("4.4.0", &v), 0);
        assert_string_equal(version_format(text, &v), "4.4.0");
        assert_int_equal(version_parse("10.200.999", &v), 0);
        assert_string_equal(version_format(text, &v), "10.200.999");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(version_parse(bad[i], &v), -EINVAL);
}

static void versions_compare_by_number(void **state) {
        (void) state;
        assert_true(version_compare(&(Version){ 4, 3, 22 }, &(Version){ 4, 4, 0 }) < 0);
        assert_true(version_compare(&(Version){ 4, 3, 9 }, &(Version){ 4, 3, 22 }) < 0);
        assert_true(version_compare(&(Version){ 5, 0, 0 }, &(Version){ 4, 4, 19 }) > 0);
        assert_int_equal(version_compare(&(Version){ 4, 4, 0 }, &(Version){ 4, 4, 0 }), 0);
}

static void timespans_are_systemds(void **state) {
        static const struct {
                const char *text;
                usec_t usec;
        } good[] = {
                { "90", 90 * USEC_PER_SEC },
                { "5min", 5 * USEC_PER_MINUTE },
                { "1h 30min", USEC_PER_HOUR + 30 * USEC_PER_MINUTE },
                { "500ms", 500 * USEC_PER_MSEC },
                { "1m30s", 90 * USEC_PER_SEC },
                { "0", 0 },
                { "1week", 7 * 24 * USEC_PER_HOUR },
                { "2months", 2 * 2629800 * USEC_PER_SEC },
                { "1y 1M", (31557600 + 2629800) * USEC_PER_SEC },
                { "infinity", USEC_INFINITY },
        };
        static const char *const bad[] = { "", " ", "min", "5 parsecs", "-5", "5.5s", "5min x", "99999999999999999999",
                "18446744073709551615" };
        usec_t usec;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(parse_timespan(good[i].text, &usec), 0);
                assert_true(usec == good[i].usec);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_true(parse_timespan(bad[i], &usec) < 0);
}

static void sizes_are_systemds(void **state) {
        static const struct {
                const char *text;
                uint64_t bytes;
        } good[] = { { "0", 0 }, { "1048576", 1 << 20 }, { "4K", 4096 }, { "512B", 512 },
                { "20G", (uint64_t) 20 << 30 }, { "infinity", UINT64_MAX } };
        static const char *const bad[] = { "", "K", "-1", "1.5G", "1 G", "1GB", "1k", "99999999999999999999", "16E" };
        uint64_t bytes;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(parse_size(good[i].text, &bytes), 0);
                assert_int_equal(bytes, good[i].bytes);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_true(parse_size(bad[i], &bytes) < 0);
}

static void replaced_file_has_new_content_and_mode(void **state) {
        char *dir = make_tmpdir();
        _cleanup_free_ char *path = NULL, *content = NULL;
        struct stat st;
        size_t n;

        (void) state;
        assert_true(asprintf(&path, "%s/record", dir) > 0);
        assert_int_equal(replace_file_at(AT_FDCWD, path, "one", 3, 0600), 0);
        assert_int_equal(replace_file_at(AT_FDCWD, path, "second", 6, 0644), 0);
        assert_int_equal(read_file_at(AT_FDCWD, path, 100, &content, &n), 0);
        assert_string_equal(content, "second");
        assert_int_equal(n, 6);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        assert_int_equal(remove_file_at(AT_FDCWD, path), 0);
        assert_int_equal(remove_file_at(AT_FDCWD, path), 0);
        assert_int_equal(rmdir(dir), 0); /* nothing temporary was left */
        free(dir);
}

static void failed_replace_keeps_the_old_file_and_nothing_else(void **state) {
        char *dir = make_tmpdir();
        _cleanup_free_ char *big = calloc(1, 1024 * 1024), *content = NULL;
        _cleanup_close_ int fd = -1, big_fd = -1;

        (void) state;
        assert_int_equal(unshare(CLONE_NEWNS), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=64k"), 0);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);

        assert_int_equal(replace_file_at(fd, "record", "old", 3, 0600), 0);
        assert_int_equal(replace_file_at(fd, "record", big, 1024 * 1024, 0600), -ENOSPC);
        big_fd = memfd_create("test", MFD_CLOEXEC);
        assert_int_equal(write(big_fd, big, 1024 * 1024), 1024 * 1024);
        assert_int_equal(replace_file_by_fd_at(fd, "record", big_fd, 0600), -ENOSPC);
        assert_int_equal(read_file_at(fd, "record", 100, &content, NULL), 0);
        assert_string_equal(content, "old");
        assert_int_equal(remove_file_at(fd, "record"), 0);
        fd = safe_close(fd);
        assert_int_equal(umount(dir), 0);
        remove_tmpdir(dir);
}

static void a_file_without_a_name_gets_it_uncopied(void **state) {
        _cleanup_close_ int dir_fd = -1, fd = -1;
        _cleanup_free_ char *content = NULL;
        struct stat unnamed, named;
        char *dir = make_tmpdir();

        (void) state;
        dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "new", 3), 3);
        assert_int_equal(replace_file_at(dir_fd, "record", "old", 3, 0600), 0);
        assert_int_equal(replace_file_at(dir_fd, ".record.tmp", "left by somebody killed", 23, 0600), 0);

        assert_int_equal(replace_file_by_fd_at(dir_fd, "record", fd, 0640), 0);
        assert_int_equal(read_file_at(dir_fd, "record", 100, &content, NULL), 0);
        assert_string_equal(content, "new");
        assert_int_equal(fstat(fd, &unnamed), 0);
        assert_int_equal(fstatat(dir_fd, "record", &named, 0), 0);
        assert_int_equal(named.st_ino, unnamed.st_ino);
        assert_int_equal(named.st_mode & 07777, 0640);

        assert_int_equal(remove_file_at(dir_fd, "record"), 0);
        assert_int_equal(rmdir(dir), 0); /* nothing temporary was left */
        free(dir);
}

static void a_file_that_cannot_be_linked_is_copied(void **state) {
        _cleanup_close_ int dir_fd = -1, named_fd = -1, memory_fd = memfd_create("test", MFD_CLOEXEC);
        _cleanup_free_ char *content = NULL, *again = NULL, *large = calloc(1, 200000);
        char *dir = make_tmpdir();
        struct stat a, b;
        size_t n;

        (void) state;
        dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        memset(large, 'x', 199999);
        assert_int_equal(write(memory_fd, large, 199999), 199999);
        assert_int_equal(replace_file_by_fd_at(dir_fd, "record", memory_fd, 0600), 0);
        assert_int_equal(read_file_at(dir_fd, "record", 1000000, &content, &n), 0);
        assert_int_equal(n, 199999);
        assert_string_equal(content, large);

        named_fd = openat(dir_fd, "record", O_RDONLY | O_CLOEXEC);
        assert_int_equal(replace_file_by_fd_at(dir_fd, "again", named_fd, 0600), 0);
        assert_int_equal(replace_file_by_fd_at(dir_fd, "record", named_fd, 0600), 0); /* by itself */
        assert_int_equal(fstatat(dir_fd, "record", &a, 0), 0);
        assert_int_equal(fstatat(dir_fd, "again", &b, 0), 0);
        assert_int_not_equal(a.st_ino, b.st_ino);
        assert_int_equal(a.st_nlink, 1);
        assert_int_equal(read_file_at(dir_fd, "record", 1000000, &again, &n), 0);
        assert_string_equal(again, large);
        remove_tmpdir(dir);
}

static void fifo_and_directory_are_not_read(void **state) {
        char *dir = make_tmpdir();
        _cleanup_free_ char *path = NULL, *content = NULL;

        (void) state;
        assert_true(asprintf(&path, "%s/fifo", dir) > 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_int_equal(read_file_at(AT_FDCWD, path, 100, &content, NULL), -EINVAL);
        assert_int_equal(read_file_at(AT_FDCWD, dir, 100, &content, NULL), -EISDIR);
        remove_tmpdir(dir);
}

static void large_file_is_refused(void **state) {
        _cleanup_free_ char *content = NULL;

        (void) state;
        assert_int_equal(read_file_at(AT_FDCWD, "/proc/self/maps", 10, &content, NULL), -EFBIG);
}

static void lock_names_its_holder(void **state) {
        char *dir = make_tmpdir();
        _cleanup_free_ char *path = NULL;
        int ready[2], done[2], status, fd = -1;
        pid_t pid, holder = 0;
        char byte;

        (void) state;
        assert_true(asprintf(&path, "%s/lock", dir) > 0);
        assert_int_equal(lock_holder(path), 0);
        assert_int_equal(pipe(ready), 0);
        assert_int_equal(pipe(done), 0);
        pid = fork();
        if (pid == 0) {
                _exit(lock_take(path, &fd, &holder) != 1 || write(ready[1], "x", 1) != 1 ||
                                read(done[0], &byte, 1) != 1);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        assert_int_equal(lock_take(path, &fd, &holder), 0);
        assert_int_equal(holder, pid);
        assert_int_equal(lock_holder(path), pid);
        assert_int_equal(write(done[1], "x", 1), 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(lock_take(path, &fd, &holder), 1);
        close(fd);
        remove_tmpdir(dir);
}

static void collect(const char *line, void *userdata) {
        assert_int_equal(strv_extend(userdata, line), 0);
}

static void program_lines_and_exit_status_arrive(void **state) {
        _cleanup_strv_ char **lines = NULL;
        ProcessOptions o = { .on_line = collect, .userdata = &lines, .environment = STRV_MAKE("ANSWER=42") };

        (void) state;
        assert_int_equal(process_run(STRV_MAKE("sh", "-c", "echo one; echo two >&2; printf \"$ANSWER\"; exit 7"), &o,
                                         NULL),
                        7);
        assert_int_equal(strv_length(lines), 3);
        assert_string_equal(lines[0], "one");
        assert_string_equal(lines[1], "two");
        assert_string_equal(lines[2], "42");
}

static void program_that_cannot_run_is_an_error(void **state) {
        Error e = ERROR_NULL;

        (void) state;
        assert_int_equal(process_run(STRV_MAKE("/no/such/program"), NULL, &e), -ENOENT);
        assert_string_equal(e.message, "/no/such/program: cannot be run: No such file or directory");
        error_done(&e);
        assert_int_equal(process_run(STRV_MAKE("sh", "-c", "kill -9 $$"), NULL, &e), -ECHILD);
        assert_string_equal(e.message, "sh: was ended by signal 9 (Killed)");
        error_done(&e);
}

static void program_that_hangs_is_ended_with_its_children(void **state) {
        ProcessOptions o = { .timeout_usec = 200 * USEC_PER_MSEC };
        usec_t begin = now_usec(CLOCK_MONOTONIC);

        (void) state;
        assert_int_equal(process_run(STRV_MAKE("sh", "-c", "sleep 60 & sleep 60"), &o, NULL), -ETIMEDOUT);
        assert_true(now_usec(CLOCK_MONOTONIC) - begin < 30 * USEC_PER_SEC);
}

static void digest_is_sha256(void **state) {
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        char hex[SHA256_HEX_SIZE];

        (void) state;
        assert_int_equal(sha256_new(&h), 0);
        assert_int_equal(sha256_add(h, "ab", 2), 0);
        assert_int_equal(sha256_add(h, "c", 1), 0);
        assert_int_equal(sha256_finish(h, hex), 0);
        assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-2 */
}

static void first_error_wins(void **state) {
        Error e = ERROR_NULL;

        (void) state;
        assert_int_equal(error_set(&e, -ENOSPC, "Make room.", "/x: %m"), -ENOSPC);
        assert_int_equal(error_set(&e, -EIO, NULL, "other"), -EIO);
        assert_string_equal(e.message, "/x: No space left on device");
        assert_string_equal(e.advice, "Make room.");
        error_done(&e);
        assert_string_equal(error_text(&e, -EIO), "Input/output error");
}

static int parse(const char *text) {
        _cleanup_json_ json_object *o = NULL;

        return json_parse(text, strlen(text), &o);
}

static void json_has_any_letters_and_nothing_behind_it(void **state) {
        (void) state;
        assert_int_equal(parse("{ \"a\": \"größer…\" }\n"), 0);
        assert_int_equal(parse("{ \"a\": \"größer…\" } x"), -EBADMSG);
        assert_int_equal(parse("{ \"a\": \"größer…"), -EBADMSG);
        assert_int_equal(parse(""), -EBADMSG);
}

static void last_environment_assignment_wins(void **state) {
        char **e = STRV_MAKE("A=1", "AB=2", "A=3");

        (void) state;
        assert_string_equal(strv_env_get(e, "A"), "3");
        assert_string_equal(strv_env_get(e, "AB"), "2");
        assert_null(strv_env_get(e, "B"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(versions_are_three_plain_numbers),
                cmocka_unit_test(versions_compare_by_number),
                cmocka_unit_test(timespans_are_systemds),
                cmocka_unit_test(sizes_are_systemds),
                cmocka_unit_test(replaced_file_has_new_content_and_mode),
                cmocka_unit_test(failed_replace_keeps_the_old_file_and_nothing_else),
                cmocka_unit_test(a_file_without_a_name_gets_it_uncopied),
                cmocka_unit_test(a_file_that_cannot_be_linked_is_copied),
                cmocka_unit_test(fifo_and_directory_are_not_read),
                cmocka_unit_test(large_file_is_refused),
                cmocka_unit_test(lock_names_its_holder),
                cmocka_unit_test(program_lines_and_exit_status_arrive),
                cmocka_unit_test(program_that_cannot_run_is_an_error),
                cmocka_unit_test(program_that_hangs_is_ended_with_its_children),
                cmocka_unit_test(digest_is_sha256),
                cmocka_unit_test(first_error_wins),
                cmocka_unit_test(json_has_any_letters_and_nothing_behind_it),
                cmocka_unit_test(last_environment_assignment_wins),
        };

        return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
