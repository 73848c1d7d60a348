/* SPDX-License-Identifier: Apache-2.0 */

/* Releases in zip archives that Python's zipfile has made: good ones, and such as nobody should extract. */

#include "tests/unit/test-util.h"

#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fileio.h"
#include "package/zip-file.h"

static const PackageKind *const zip = &package_kind_zip;

/* release(VERSION) is what is in a good one: a list of (name, mode, content). make(FILE, entries) writes it. */
static const char script[] =
                "import os, stat, struct, sys, zipfile\n"
                "def elf(machine=62):\n"
                "    return b'\\x7fELF\\x02\\x01\\x01' + bytes(9) + struct.pack('<HH', 2, machine) + bytes(44)\n"
                "def release(version, top='emqx', machine=62):\n"
                "    return [(top + '/', 0o40755, b''), (top + '/bin/emqx', 0o100755, b'#!/bin/sh\\n' * 1000),\n"
                "            (top + '/erts-12.1/bin/beam.smp', 0o100777, elf(machine)),\n"
                "            (top + '/etc/emqx.conf', 0o100644, b'node.name = emqx@127.0.0.1\\n'),\n"
                "            (top + '/lib/emqx/link', 0o120777, b'../../bin/emqx'),\n"
                "            (top + '/log/', 0o40755, b''),\n"
                "            (top + '/releases/emqx_vars', 0o100644, b'REL_VSN=\"%s\"\\n' % version.encode())] + [\n"
                "            (top + '/lib/emqx/%d.beam' % i, 0o100644, b'code %d' % i) for i in range(200)]\n"
                "def make(file, entries):\n"
                "    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as z:\n"
                "        for name, mode, content in entries:\n"
                "            info = zipfile.ZipInfo('x', (2022, 2, 18, 12, 0, 0))\n"
                "            info.filename = name\n"
                "            info.external_attr = mode << 16\n"
                "            info.create_system = 3\n"
                "            info.compress_type = zipfile.ZIP_DEFLATED\n"
                "            z.writestr(info, content)\n"
                "def bad(file, *more):\n"
                "    make(file, release('4.4.0') + list(more))\n"
                "make('old.zip', release('4.3.12'))\n"
                "make('new.zip', release('4.4.0'))\n"
                "make('utf8.zip', release('4.4.0') + [('emqx/lib/\\u00e4.beam', 0o100644, b'x')])\n"
                "make('arm.zip', release('4.4.0', machine=183))\n"
                "make('other.zip', [('emqx/README', 0o100644, b'nothing')])\n"
                "bad('absolute.zip', ('/etc/passwd', 0o100644, b'x'))\n"
                "bad('dotdot.zip', ('emqx/../../etc/passwd', 0o100644, b'x'))\n"
                "bad('dot.zip', ('emqx/./a', 0o100644, b'x'))\n"
                "bad('empty.zip', ('emqx//a', 0o100644, b'x'))\n"
                "bad('backslash.zip', ('emqx/..\\\\..\\\\a', 0o100644, b'x'))\n"
                "bad('newline.zip', ('emqx/a\\nb', 0o100644, b'x'))\n"
                "bad('twice.zip', ('emqx/etc/emqx.conf', 0o100644, b'other'))\n"
                "bad('twice-dir.zip', ('emqx/etc', 0o100644, b'file'))\n"
                "bad('below-file.zip', ('emqx/bin/emqx/a', 0o100644, b'x'))\n"
                "bad('below-link.zip', ('emqx/lib/out', 0o120777, b'emqx'), ('emqx/lib/out/a', 0o100644, b'x'))\n"
                "bad('link-out.zip', ('emqx/lib/out', 0o120777, b'../../x'))\n"
                "bad('link-absolute.zip', ('emqx/lib/out', 0o120777, b'/etc'))\n"
                "bad('device.zip', ('emqx/null', 0o20666, b''))\n"
                "bad('socket.zip', ('emqx/socket', 0o140666, b''))\n"
                "bad('setuid.zip', ('emqx/bin/su', 0o104755, b'x'))\n"
                "bad('second-top.zip', ('more/a', 0o100644, b'x'))\n"
                "bad('bomb.zip', ('emqx/bomb', 0o100644, bytes(64 << 20)))\n"
                "bad('latin1.zip', ('emqx/lib/LATIN.beam', 0o100644, b'x'))\n"
                "data = open('latin1.zip', 'rb').read().replace(b'LATIN', b'LAT\\xe4N')\n"
                "open('latin1.zip', 'wb').write(data)\n"
                "data = bytearray(open('new.zip', 'rb').read())\n"
                "open('cut.zip', 'wb').write(data[:len(data) // 2])\n"
                "at = data.index(b'emqx/bin/emqx') + 30\n"
                "data[at] ^= 0x55\n"
                "open('flipped.zip', 'wb').write(data)\n"
                "data = bytearray(open('new.zip', 'rb').read())\n"
                "at = data.rindex(b'emqx/lib/emqx/7.beam') - 46\n"
                "assert data[at:at + 4] == b'PK\\x01\\x02'\n"
                "data[at + 8] |= 1\n"
                "at = data.index(b'emqx/lib/emqx/7.beam') - 30\n"
                "data[at + 6] |= 1\n"
                "open('encrypted.zip', 'wb').write(data)\n"
                "open('text.zip', 'w').write('no archive at all')\n";

static char *arg_archives; /* made once */

typedef struct Fixture {
        char *dir, *root, *beside; /* dir has both */
        Error error;
} Fixture;

static char *in(const char *dir, const char *name) {
        char *path;

        assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
        return path;
}

static Package *read_archive(const char *name) {
        _cleanup_free_ char *path = in(arg_archives, name);
        _cleanup_(error_done) Error e = ERROR_NULL;
        Package *p = NULL;
        int r;

        r = zip->read(path, &p, &e);
        if (r < 0)
                fail_msg("%s", error_text(&e, r));
        return p;
}

static void put_release(const char *name, const char *dir) {
        _cleanup_free_ char *path = in(arg_archives, name);
        _cleanup_close_ int fd = -1;

        assert_int_equal(mkdir(dir, 0755), 0);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(zip_file_extract(path, fd, 1234, 2345, NULL), 0);
        assert_int_equal(chown(dir, 1234, 2345), 0);
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->dir = make_tmpdir();
        assert_int_equal(mount("tmpfs", f->dir, "tmpfs", 0, "size=48m"), 0);
        f->root = in(f->dir, "emqx");
        f->beside = in(f->dir, "emqx.beside");
        put_release("old.zip", f->root);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        assert_int_equal(umount(f->dir), 0);
        remove_tmpdir(f->dir);
        free(f->root);
        free(f->beside);
        error_done(&f->error);
        free(f);
        return 0;
}

static void assert_version(const char *dir, const char *expected) {
        static char *const names[] = { (char *) "emqx", NULL };
        InstalledList list = { NULL, 0 };

        assert_int_equal(zip->query(names, dir, &list, NULL), 0);
        assert_int_equal(list.n, expected ? 1 : 0);
        if (expected) {
                assert_string_equal(list.items[0].version, expected);
                assert_string_equal(list.items[0].arch, "x86_64");
                assert_true(list.items[0].complete);
        }
        installed_list_done(&list);
}

static void metadata_is_in_the_archive(void **state) {
        _cleanup_(package_freep) Package *p = read_archive("new.zip"), *arm = read_archive("arm.zip"),
                                         *utf8 = read_archive("utf8.zip");

        (void) state;
        assert_string_equal(p->name, "emqx");
        assert_string_equal(p->version, "4.4.0");
        assert_string_equal(p->arch, "x86_64");
        assert_true(p->installed_bytes > 10000 && p->installed_bytes < 20000);
        assert_int_equal(zip->verify(p->path, NULL), 0);
        assert_int_equal(zip->verify(utf8->path, NULL), 0);
        assert_string_equal(arm->arch, "aarch64");
        assert_int_equal(zip->check_install(p, NULL), 0);
        assert_int_equal(zip->check_install(arm, NULL), -ENOEXEC);
}

static void what_no_release_has_is_refused_by_name(void **state) {
        static const struct {
                const char *archive, *entry, *why;
        } bad[] = {
                { "absolute.zip", "'/etc/passwd'", "absolute" },
                { "dotdot.zip", "'emqx/../../etc/passwd'", "no plain path" },
                { "dot.zip", "'emqx/./a'", "no plain path" },
                { "empty.zip", "'emqx//a'", "no plain path" },
                { "backslash.zip", "\\..\\a'", "of another system" },
                { "newline.zip", "'emqx/a?b'", "control character" },
                { "twice.zip", "'emqx/etc/emqx.conf'", "twice" },
                { "twice-dir.zip", "'emqx/etc'", "twice" },
                { "below-file.zip", "'emqx/bin/emqx/a'", "below something that is no directory" },
                { "below-link.zip", "'emqx/lib/out/a'", "below something that is no directory" },
                { "link-out.zip", "'emqx/lib/out'", "link out of the archive" },
                { "link-absolute.zip", "'emqx/lib/out'", "link out of the archive" },
                { "device.zip", "'emqx/null'", "neither a file" },
                { "socket.zip", "'emqx/socket'", "neither a file" },
                { "setuid.zip", "'emqx/bin/su'", "set-user-id" },
                { "second-top.zip", "'more/a'", "not in the one directory" },
                { "latin1.zip", "'emqx/lib/LAT?N.beam'", "no UTF-8" },
                { "encrypted.zip", "'emqx/lib/emqx/7.beam'", "encrypted" },
                { "bomb.zip", "'bomb'", "more, unpacked" },
                { "flipped.zip", "'bin/emqx'", "damaged" },
                { "cut.zip", "cut.zip", "zip archive" },
                { "text.zip", "text.zip", "zip archive" },
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *path = in(arg_archives, bad[i].archive);
                _cleanup_(error_done) Error e = ERROR_NULL;

                if (zip->verify(path, &e) != -EBADMSG)
                        fail_msg("%s is not refused", bad[i].archive);
                if (!strstr(e.message, bad[i].entry) || !strstr(e.message, bad[i].why))
                        fail_msg("%s: \"%s\"", bad[i].archive, e.message);
        }
        (void) state;
}

static void what_is_no_release_is_no_package(void **state) {
        _cleanup_free_ char *path = in(arg_archives, "other.zip");
        _cleanup_(error_done) Error e = ERROR_NULL;
        Package *p = NULL;

        (void) state;
        assert_int_equal(zip->read(path, &p, &e), -EBADMSG);
        assert_non_null(strstr(e.message, "no version in releases/emqx_vars"));
}

static void nothing_hostile_is_extracted(void **state) {
        static const char *const bad[] = { "below-link.zip", "link-out.zip", "dotdot.zip", "bomb.zip", "flipped.zip" };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *path = in(arg_archives, bad[i]), *part = in(f->dir, "emqx.beside.part"),
                                    *command = NULL;
                Package p = { .path = path };

                assert_int_equal(zip->unpack(&p, f->root, f->beside, NULL), -EBADMSG);
                assert_int_equal(access(f->beside, F_OK), -1);
                assert_true(asprintf(&command, "rm -r %s", part) > 0);
                assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a path of our own */
        }
        assert_version(f->root, "4.3.12");
}

static void a_release_is_unpacked_beside_with_its_owner(void **state) {
        _cleanup_(package_freep) Package *p = read_archive("new.zip");
        _cleanup_free_ char *link = NULL, *program = NULL, *conf = NULL;
        char target[64] = "";
        Fixture *f = *state;
        struct stat st;

        assert_int_equal(umask(0077), 0022); /* as that of a step is */
        assert_int_equal(zip->unpack(p, f->root, f->beside, NULL), 0);
        assert_int_equal(zip->unpack(p, f->root, f->beside, NULL), 0); /* it is there */
        assert_int_equal(umask(0022), 0077);
        assert_version(f->beside, "4.4.0");

        link = in(f->beside, "lib/emqx/link");
        program = in(f->beside, "erts-12.1/bin");
        assert_int_equal(lstat(program, &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
        free(program);
        program = in(f->beside, "erts-12.1/bin/beam.smp");
        conf = in(f->beside, "etc/emqx.conf");
        assert_int_equal(lstat(program, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0755); /* 0777 in the archive */
        assert_int_equal(st.st_uid, 1234);
        assert_int_equal(st.st_gid, 2345);
        assert_int_equal(lstat(conf, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0644);
        assert_int_equal(lstat(link, &st), 0);
        assert_true(S_ISLNK(st.st_mode) && st.st_uid == 1234);
        assert_true(readlink(link, target, sizeof(target) - 1) > 0);
        assert_string_equal(target, "../../bin/emqx");
}

static void a_full_disk_leaves_nothing_that_counts(void **state) {
        _cleanup_(package_freep) Package *p = read_archive("new.zip");
        Fixture *f = *state;
        _cleanup_free_ char *filler = in(f->dir, "filler");
        int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        while (posix_fallocate(fd, 0, lseek(fd, 0, SEEK_END) + 65536) == 0)
                (void) lseek(fd, 0, SEEK_END);
        assert_int_equal(zip->unpack(p, f->root, f->beside, &f->error), -ENOSPC);
        assert_non_null(strstr(f->error.message, "Cannot "));
        assert_int_equal(access(f->beside, F_OK), -1);
        close(fd);
}

static void both_are_exchanged_and_back(void **state) {
        _cleanup_(package_freep) Package *p = read_archive("new.zip");
        Fixture *f = *state;

        assert_int_equal(zip->exchange(f->root, f->beside, "4.4.0", &f->error), -ENOENT);
        assert_non_null(strstr(f->error.message, "Neither "));
        assert_int_equal(zip->unpack(p, f->root, f->beside, NULL), 0);

        for (unsigned i = 0; i < 2; i++) { /* the second time it is so already */
                assert_int_equal(zip->exchange(f->root, f->beside, "4.4.0", NULL), 0);
                assert_version(f->root, "4.4.0");
                assert_version(f->beside, "4.3.12");
        }
        assert_int_equal(zip->exchange(f->root, f->beside, "4.3.12", NULL), 0);
        assert_version(f->root, "4.3.12");
        assert_version(f->beside, "4.4.0");
}

/* A file system that lacks RENAME_EXCHANGE, as the kernel says it, and the end of the process at the n-th rename. */
static void forbid_exchange(void) {
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_renameat2, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4])),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RENAME_EXCHANGE, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { ELEMENTSOF(filter), filter };

        assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void exchange_works_without_the_kernels_help(void **state) {
        _cleanup_(package_freep) Package *p = read_archive("new.zip");
        Fixture *f = *state;
        int status;
        pid_t pid;

        assert_int_equal(zip->unpack(p, f->root, f->beside, NULL), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                forbid_exchange();
                _exit(zip->exchange(f->root, f->beside, "4.4.0", NULL) == 0 ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_version(f->root, "4.4.0");
        assert_version(f->beside, "4.3.12");
}

/* Every state that the three renames pass through is completed, whichever version is wanted then. */
static void exchange_that_was_broken_off_is_completed(void **state) {
        static const char *const wanted[] = { "4.4.0", "4.3.12" };
        _cleanup_(package_freep) Package *p = read_archive("new.zip");
        Fixture *f = *state;
        _cleanup_free_ char *moving = in(f->dir, "emqx.beside.moving");

        assert_int_equal(zip->unpack(p, f->root, f->beside, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(wanted); i++)
                for (unsigned renames = 1; renames <= 2; renames++) {
                        assert_int_equal(zip->exchange(f->root, f->beside, "4.3.12", NULL), 0);
                        assert_int_equal(rename(f->beside, moving), 0);
                        if (renames == 2)
                                assert_int_equal(rename(f->root, f->beside), 0);
                        assert_int_equal(zip->exchange(f->root, f->beside, wanted[i], NULL), 0);
                        assert_version(f->root, wanted[i]);
                        assert_version(f->beside, wanted[1 - i]);
                        assert_int_equal(access(moving, F_OK), -1);
                }
}

static void a_directory_without_a_release_has_none(void **state) {
        Fixture *f = *state;

        assert_version(f->dir, NULL);
        assert_version("/nonexistent", NULL);
        assert_version(NULL, NULL);
}

static int make_archives(void **state) {
        _cleanup_free_ char *output = NULL;

        (void) state;
        arg_archives = make_tmpdir();
        if (process_capture(STRV_MAKE("/usr/bin/python3", "-c", script),
                            &(ProcessOptions){ .directory = arg_archives }, &output, NULL) != 0) {
                print_error("%s", output ?: "");
                return -1;
        }
        return 0;
}

static int remove_archives(void **state) {
        (void) state;
        remove_tmpdir(arg_archives);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(metadata_is_in_the_archive),
                cmocka_unit_test(what_no_release_has_is_refused_by_name),
                cmocka_unit_test(what_is_no_release_is_no_package),
                cmocka_unit_test_setup_teardown(nothing_hostile_is_extracted, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_release_is_unpacked_beside_with_its_owner, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_full_disk_leaves_nothing_that_counts, set_up, tear_down),
                cmocka_unit_test_setup_teardown(both_are_exchanged_and_back, set_up, tear_down),
                cmocka_unit_test_setup_teardown(exchange_works_without_the_kernels_help, set_up, tear_down),
                cmocka_unit_test_setup_teardown(exchange_that_was_broken_off_is_completed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_directory_without_a_release_has_none, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, make_archives, remove_archives);
}
