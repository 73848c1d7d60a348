/* SPDX-License-Identifier: Apache-2.0 */

/* The host's real rpm, on a throw-away overlay of the host's root directory, with packages whose scriptlets have the
 * traps of EMQX's: links made with ln -s at a first installation only, and all of the program removed with rm -rf. */

#include "tests/unit/test-package-manager.h"

#include <endian.h>
#include <sys/prctl.h>

/* "host" is what the host has and its empty database of rpm does not know of. */
static const char build_packages[] =
                "ARCH=$(rpm --eval '%{_target_cpu}')\n"
                "pack() { # file, options of rpmbuild\n"
                "  f=$1; shift\n"
                "  rpmbuild --quiet --define \"_topdir $PWD/b/top\" --define \"_dbpath $PWD/b/db\""
                " --define \"_rpmfilename $f.rpm\" --define '_build_id_links none' --define 'debug_package %{nil}'"
                " --define '__os_install_post %{nil}' \"$@\" b/spec\n"
                "  [ ! -e b/top/RPMS/$f.rpm ] || mv b/top/RPMS/$f.rpm .\n"
                "}\n"
                "build() { # file, name, version, release, more of the preamble, more of %post, of %pre, options\n"
                "  r=b/root; mkdir -p $r/etc/emqx $r/usr/lib/emqx/bin $r/usr/lib/emqx/lib/emqx-$3 $r/var/lib/emqx\n"
                "  echo \"version $3\" >$r/etc/emqx/emqx.conf\n"
                "  echo \"echo $3\" >$r/usr/lib/emqx/bin/emqx; cp $r/usr/lib/emqx/bin/emqx $r/usr/lib/emqx/bin/emqx_ctl\n"
                "  chmod 755 $r/usr/lib/emqx/bin/*\n"
                "  for i in $(seq 300); do echo $i >$r/usr/lib/emqx/lib/emqx-$3/$i.beam; done\n"
                "  echo defaults >$r/var/lib/emqx/loaded_plugins\n"
                "  cat >b/spec <<END\n"
                "Name: $2\nVersion: $3\nRelease: $4\nSummary: test\nLicense: Apache-2.0\nAutoReq: 0\n${5:-}\n"
                "%description\ntest\n"
                "%install\ncp -a $PWD/$r/. %{buildroot}\n"
                "%pre\n:\n${7:-}\n"
                "%post\n"
                "if [ \\$1 = 1 ]; then\n"
                "  ln -s /usr/lib/emqx/bin/emqx /usr/bin/emqx\n"
                "  ln -s /usr/lib/emqx/bin/emqx_ctl /usr/bin/emqx_ctl\n"
                "fi\n${6:-}\n"
                "%preun\n"
                "if [ \\$1 = 0 ]; then rm -f /usr/bin/emqx; rm -f /usr/bin/emqx_ctl; fi\nexit 0\n"
                "%postun\n"
                "if [ \\$1 = 0 ]; then rm -rf /usr/lib/emqx; fi\nexit 0\n"
                "%files\n/usr/lib/emqx/*\n%dir /var/lib/emqx\n%config(noreplace) /var/lib/emqx/*\n"
                "%config(noreplace) /etc/emqx/*\n"
                "END\n"
                "  pack $1 ${8:--bb}; rm -rf b/root\n"
                "}\n"
                "simple() { # file, name, preamble\n"
                "  printf \"Name: $2\\nVersion: 1\\nRelease: 1\\nSummary: test\\nLicense: Apache-2.0\\nBuildArch: noarch\\n"
                "${3:-}\\n%%description\\ntest\\n%%files\\n\" >b/spec\n"
                "  pack $1 -bb\n"
                "}\n"
                "mkdir b\n"
                "build old emqx 4.3.12 1.el7 'Provides: emqx'\n"
                "build new emqx 4.4.0 otp24.1.5_3 'Provides: emqx'\n"
                "build failing emqx 4.4.0 1 '' 'echo Failed to enable unit: it is masked >&2; exit 1'\n"
                "build refusing emqx 4.4.0 1 '' '' 'echo no such group >&2; exit 1'\n"
                "build needy emqx 4.4.0 1 'Requires: nothing-like-it >= 1.2, host >= 99'\n"
                "build fussy emqx 4.4.0 1 'Conflicts: host'\n"
                "build foreign emqx 4.4.0 1 '' '' '' '-bb --target s390x'\n"
                "build source emqx 4.4.0 1 '' '' '' -bs; mv b/top/SRPMS/*.rpm source.rpm\n"
                "simple host host 'Provides: /bin/sh'\n"
                "simple user emqx-user 'Requires: emqx'\n"
                "rm -rf b";

/* Everything of either version, by name, content and mode; and what no record knows of. */
static const char list_files[] = "find /usr/lib/emqx /etc/emqx /var/lib/emqx /usr/bin/emqx /usr/bin/emqx_ctl -type f"
                                 " -exec sha256sum {} + -o -printf '%p %y %m %l\\n'";

static const PackageManager manager = {
        .kind = &package_kind_rpm,
        .suffix = "rpm",
        /* For Debian's rpm of some releases, which is to be told that it may. */
        .shell_begins = "FORCE=$(rpm --help | grep -o -e --force-debian) || :",
        .build_packages = build_packages,
        .set_up = "mkdir -p /etc/rpm; echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros; rpm $FORCE -U host.rpm",
        .whole = "installed",
        .begins = { "emqx-4." },
        .list_files = list_files,
        .is_removed = "! find /usr/lib/emqx /etc/emqx /var/lib/emqx /usr/bin/emqx* ! -type d 2>/dev/null | grep . >&2",
};

static const PackageKind *const rpm = &package_kind_rpm;

static void is_not_present_without_a_database_and_makes_none(void **state) {
        Fixture *f = *state;
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };

        assert_true(rpm->present());
        assert_int_equal(shell("rm -r /var/lib/rpm; mkdir /var/lib/rpm"), 0);
        assert_false(rpm->present());
        assert_ok(f, rpm->query(STRV_MAKE("emqx"), NULL, &list, &f->error));
        assert_int_equal(list.n, 0);
        assert_ok(f, rpm->check_state(&f->error));
        assert_ok(f, rpm->mend(NULL, &f->error));
        assert_int_equal(shell("! ls /var/lib/rpm/rpmdb.sqlite; rmdir /var/lib/rpm"), 0);
        assert_false(rpm->present());
}

static void metadata_is_the_packages_own(void **state) {
        Fixture *f = *state;
        _cleanup_(package_freep) Package *p = package("new");
        _cleanup_free_ char *arch = NULL;

        assert_string_equal(p->name, "emqx");
        assert_string_equal(p->version, "4.4.0");
        assert_ok(f, rpm->host_arch(&arch, &f->error));
        assert_string_equal(p->arch, arch);
        assert_true(p->size_bytes > 10000);
        assert_true(p->installed_bytes > 300 && p->installed_bytes < 10000);
        assert_ok(f, rpm->verify(p->path, &f->error));
}

static void installs_over_and_back_and_removes(void **state) {
        Fixture *f = *state;

        assert_string_equal(installed(), "");
        assert_ok(f, uninstall(f));
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 installed");
        assert_non_null(strstr(f->output, "emqx-4.3.12-1.el7"));
        assert_null(strstr(f->output, "Alien"));
        assert_ok(f, install(f, "new"));
        assert_ok(f, install(f, "new"));
        assert_string_equal(installed(), "4.4.0 installed");
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 installed");
        assert_int_equal(shell("! test -e /usr/lib/emqx/lib/emqx-4.4.0; test $(emqx) = 4.3.12"), 0);
        assert_ok(f, uninstall(f));
        assert_ok(f, uninstall(f));
        assert_string_equal(installed(), "");
        assert_int_equal(shell("! test -e /usr/lib/emqx; ! test -L /usr/bin/emqx; ! test -L /usr/bin/emqx_ctl"), 0);
        assert_ok(f, rpm->check_state(&f->error));
}

static void edited_configuration_stays_and_is_put_aside_by_a_removal(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("echo mine >/etc/emqx/emqx.conf; echo data >/var/lib/emqx/mine"), 0);
        assert_ok(f, install(f, "new"));
        assert_int_equal(shell("grep -qx mine /etc/emqx/emqx.conf; grep -q 4.4.0 /etc/emqx/emqx.conf.rpmnew"), 0);
        assert_ok(f, uninstall(f));
        assert_int_equal(shell("grep -qx mine /etc/emqx/emqx.conf.rpmsave; ! test -e /etc/emqx/emqx.conf;"
                               " test -e /var/lib/emqx/mine"),
                        0);
        assert_ok(f, install(f, "new"));
        assert_int_equal(shell("grep -qx 'version 4.4.0' /etc/emqx/emqx.conf; rm /etc/emqx/emqx.conf"), 0);

        /* One that was deleted is the operator's business; one that is there although no record knows it stays. */
        assert_string_equal(installed(), "4.4.0 installed");
        assert_ok(f, uninstall(f));
        assert_int_equal(shell("echo mine >/etc/emqx/emqx.conf"), 0);
        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("grep -qx mine /etc/emqx/emqx.conf"), 0);
}

static void links_that_are_left_over_or_missing_are_coped_with(void **state) {
        Fixture *f = *state;

        assert_int_equal(shell("ln -s /usr/lib/emqx/bin/emqx /usr/bin/emqx; ln -s /nowhere /usr/bin/emqx_ctl"), 0);
        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("test $(emqx_ctl) = 4.3.12; rm /usr/bin/emqx"), 0);
        assert_string_equal(installed(), "4.3.12 its links in /usr/bin are missing");
        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("test $(emqx) = 4.3.12; rm /usr/bin/emqx_ctl"), 0);
        assert_ok(f, uninstall(f));
        assert_int_equal(shell("! test -L /usr/bin/emqx"), 0);
}

static void missing_files_are_noticed_and_come_back(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("rm /usr/lib/emqx/lib/emqx-4.3.12/7.beam"), 0);
        assert_string_equal(installed(), "4.3.12 files of it are missing");
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 installed");
}

static void unmet_dependencies_are_listed_with_no_lock_and_nothing_changes(void **state) {
        static const char look[] = "rpm -qa --qf '%{NEVRA} %{INSTALLTIME}\n' | sort; find /usr/lib/emqx /etc/emqx -ls";
        Fixture *f = *state;
        _cleanup_free_ char *before = NULL, *after = NULL;
        _cleanup_close_ int fd = -1;
        pid_t holder;

        assert_ok(f, install(f, "old"));
        assert_int_equal(lock_take(rpm->lock_path, &fd, &holder), 1);
        assert_int_equal(process_capture(STRV_MAKE("sh", "-c", look), NULL, &before, NULL), 0);
        assert_int_equal(check_install(f, "needy"), -ENOPKG);
        assert_says(f, "; nothing-like-it >= 1.2 is needed by emqx-4.4.0-1.");
        assert_says(f, " host >= 99 is needed by emqx-4.4.0-1.");
        assert_non_null(strstr(f->error.advice, "dnf install"));
        assert_ok(f, check_install(f, "new"));
        assert_int_equal(process_capture(STRV_MAKE("sh", "-c", look), NULL, &after, NULL), 0);
        assert_string_equal(before, after);
        assert_non_null(strstr(after, "emqx-4.3.12-1.el7"));
}

static void conflict_and_wrong_architecture_are_refused(void **state) {
        Fixture *f = *state;

        assert_int_equal(check_install(f, "fussy"), -EREMOTEIO);
        assert_says(f, "host conflicts with emqx-4.4.0-1.");
        assert_int_equal(check_install(f, "foreign"), -EREMOTEIO);
        assert_says(f, "is intended for a different architecture");
        assert_int_equal(install(f, "foreign"), -EREMOTEIO);
        assert_string_equal(installed(), "");
}

static void package_that_others_depend_on_is_refused(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("rpm $FORCE -U user.rpm"), 0);
        assert_int_equal(check_install(f, "new"), -EREMOTEIO);
        assert_says(f, "emqx is needed by (installed) emqx-user-1-1.noarch");
}

static void failing_scriptlets_are_quoted_and_can_be_undone(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_ok(f, uninstall(f));
        assert_int_equal(install(f, "failing"), -EREMOTEIO);
        assert_says(f, "rpm has installed emqx 4.4.0, but %post(emqx-4.4.0-1.");
        assert_says(f, " scriptlet failed, exit status 1 (before that: Failed to enable unit: it is masked)");
        assert_ok(f, uninstall(f));
        assert_int_equal(install(f, "refusing"), -EREMOTEIO);
        assert_says(f, "rpm -U failed with status 1: %prein(emqx-4.4.0-1.");
        assert_says(f, "(before that: no such group)");
        assert_string_equal(installed(), "");
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 installed");

        /* Over the old one, and the old one over it without a removal between. */
        assert_int_equal(install(f, "failing"), -EREMOTEIO);
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 installed");
}

static void two_versions_at_once_are_noticed_and_become_one(void **state) {
        static const char tear[] = "rpm $FORCE -i --justdb --nodeps --force new.rpm";
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_ok(f, rpm->check_state(&f->error));
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(shell(tear), 0);
                assert_non_null(strstr(installed(), " installed together with 4."));
                error_done(&f->error);
                assert_int_equal(rpm->check_state(&f->error), -EUCLEAN);
                assert_says(f, "An rpm -U was broken off: emqx 4.");
                if (i == 0) {
                        assert_ok(f, install(f, "old"));
                        assert_string_equal(installed(), "4.3.12 installed");
                } else {
                        assert_ok(f, uninstall(f));
                        assert_string_equal(installed(), "");
                }
        }
}

/* --- files --- */

static void assert_bad(Fixture *f, const char *path, const char *words) {
        Package *p = NULL;

        error_done(&f->error);
        assert_int_equal(rpm->read(path, &p, &f->error), -EBADMSG);
        assert_null(p);
        assert_says(f, words);
}

static void what_is_no_package_is_refused(void **state) {
        Fixture *f = *state;

        assert_int_equal(shell("mkdir /t; cp old.rpm /t/ab.rpm; cp old.rpm '/t/a[b].rpm'; cp old.rpm '/t/a b.rpm';"
                               " cp source.rpm /t/source.rpm;"
                               " echo /t/ab.rpm >/t/list.rpm; ln -s ab.rpm /t/link.rpm; mkfifo /t/fifo.rpm;"
                               " : >/t/empty.rpm; printf '\\355\\253\\356\\333' >/t/magic.rpm"),
                        0);
        assert_bad(f, "/t/list.rpm", "/t/list.rpm: not an rpm package");
        assert_bad(f, "/t/empty.rpm", "not an rpm package");
        assert_bad(f, "/t/magic.rpm", "not an rpm package, or cut off or damaged");
        assert_bad(f, "/t/link.rpm", "a symbolic link");
        assert_bad(f, "/t/fifo.rpm", "not a regular file");
        assert_bad(f, "/t/source.rpm", "a source package");
        assert_bad(f, "/t/a[b].rpm", "special characters");
        assert_bad(f, "/t/a b.rpm", "special characters");
        error_done(&f->error);
        assert_int_equal(rpm->read("/t/none.rpm", &(Package *){ NULL }, &f->error), -ENOENT);
}

/* Where the header of a package begins: behind its lead (96 bytes) and the signature header, whose padding counts for
 * nothing. Both have a count of entries and a size of their data at their 8th byte. */
static size_t header_offset(const char *data) {
        uint32_t n[2];

        memcpy(n, data + 96 + 8, sizeof(n));
        return 96 + (16 + 16 * (size_t) be32toh(n[0]) + be32toh(n[1]) + 7) / 8 * 8;
}

static void damage_anywhere_and_a_missing_or_added_end_are_noticed(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = NULL, *data = NULL;
        size_t size, start;

        assert_true(asprintf(&path, "%s/old.rpm", arg_packages) > 0);
        assert_int_equal(read_file_at(AT_FDCWD, path, 1024 * 1024, &data, &size), 0);
        assert_ok(f, rpm->verify(path, &f->error));
        assert_int_equal(mkdir("/t", 0755), 0);
        start = header_offset(data);
        for (unsigned i = 0; i < 40; i++) {
                bool cut = i % 2;
                size_t at = cut ? size * i / 40 : start + (size - start) * i / 40;
                FILE *file = fopen("/t/bad.rpm", "we");

                assert_non_null(file);
                data[at] ^= 1;
                assert_int_equal(fwrite(data, 1, cut ? at : size, file), cut ? at : size);
                assert_int_equal(fclose(file), 0);
                data[at] ^= 1;
                error_done(&f->error);
                if (rpm->verify("/t/bad.rpm", &f->error) != -EBADMSG)
                        fail_msg("A package %s at byte %zu of %zu is taken for a good one",
                                        cut ? "cut off" : "changed", at, size);
                assert_says(f, "/t/bad.rpm: ");
        }
        assert_int_equal(shell("{ cat old.rpm; echo more; } >/t/more.rpm"), 0);
        assert_int_equal(rpm->verify("/t/more.rpm", NULL), -EBADMSG);
}

/* A package with intact digests, and another text of the same length for its version. */
static void control_characters_in_a_version_are_refused(void **state) {
        static const char forge[] = "/usr/bin/python3 - old.rpm /t/bad.rpm <<'END'\n"
                                    "import hashlib, struct, sys\n"
                                    "d = open(sys.argv[1], 'rb').read()\n"
                                    "def size(at):\n"
                                    "    n, m = struct.unpack('>II', d[at + 8:at + 16])\n"
                                    "    return 16 + 16 * n + m\n"
                                    "at = 96 + (size(96) + 7) // 8 * 8\n"
                                    "sig, h, rest = d[:at], d[at:at + size(at)], d[at + size(at):]\n"
                                    "g = h.replace(b'emqx\\x004.3.12\\0', b'emqx\\x00' + VERSION + b'\\0', 1)\n"
                                    "assert g != h and len(g) == len(h)\n"
                                    "for a in 'sha1', 'sha256':\n"
                                    "    old, new = (hashlib.new(a, x).hexdigest().encode() for x in (h, g))\n"
                                    "    assert old in sig\n"
                                    "    sig = sig.replace(old, new)\n"
                                    "old, new = (hashlib.md5(x + rest).digest() for x in (h, g))\n"
                                    "assert old in sig\n"
                                    "open(sys.argv[2], 'wb').write(sig.replace(old, new) + g + rest)\n"
                                    "END\n";
        static const char *const versions[] = { "b'4.3\\n12'", "b'4.3.1\\n'", "b'4\\x1b[1m2'", "b'4><1><'",
                "b'4.3 12'", "b'4\\xc3\\xa4.12'" };
        Fixture *f = *state;

        assert_int_equal(mkdir("/t", 0755), 0);
        for (size_t i = 0; i < ELEMENTSOF(versions); i++) {
                _cleanup_free_ char *script = NULL, *part = strdup(forge), *rest;
                char *at = strstr(part, "VERSION");

                *at = 0;
                rest = strdup(at + strlen("VERSION"));
                assert_true(asprintf(&script, "%s%s%s", part, versions[i], rest) > 0);
                assert_int_equal(shell(script), 0);
                assert_ok(f, rpm->verify("/t/bad.rpm", &f->error));
                assert_bad(f, "/t/bad.rpm", "its name, version or architecture is not one");
        }
}

/* --- the lock and the database --- */

static void keep_line_and_release(const char *line, void *userdata) {
        Fixture *f = userdata;

        keep_line(line, f);
        if (startswith(line, "Waiting for holder-of-rpm (process "))
                assert_int_equal(shell(": >/released"), 0);
}

static void lock_of_another_process_is_waited_for(void **state) {
        Fixture *f = *state;
        _cleanup_(package_freep) Package *p = package("old");
        PackageRun run = { .on_line = keep_line_and_release, .userdata = f };
        int taken[2], status;
        pid_t pid;

        assert_int_equal(mkfifo("/released", 0600), 0);
        assert_int_equal(pipe2(taken, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                FILE *comm = prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? NULL : fopen("/proc/self/comm", "we");
                pid_t holder;
                int fd;

                if (!comm || fputs("holder-of-rpm", comm) < 0 || fclose(comm) != 0 ||
                                lock_take(rpm->lock_path, &fd, &holder) <= 0 || write(taken[1], "", 1) != 1)
                        _exit(1);
                /* Until a writer comes; the end of the process is the end of its lock. */
                _exit(open("/released", O_RDONLY | O_CLOEXEC) < 0);
        }
        assert_int_equal(read(taken[0], &(char){ 0 }, 1), 1);
        assert_ok(f, rpm->install(p, &run, &f->error));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_non_null(strstr(f->output, "Waiting for holder-of-rpm (process "));
        assert_null(strstr(f->output, "transaction lock"));
        assert_string_equal(installed(), "4.3.12 installed");
        (void) close(taken[0]);
        (void) close(taken[1]);
}

static void unreadable_database_is_said_and_mended_where_that_is_possible(void **state) {
        Fixture *f = *state;
        PackageRun run = { .on_line = keep_line, .userdata = f };

        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("cp -a /var/lib/rpm /good; cd /var/lib/rpm; rm -f ./*-wal ./*-shm;"
                               " db=rpmdb.sqlite; [ -e $db ] || db=Packages; # Berkeley DB\n"
                               " dd if=/dev/zero of=$db bs=4096 count=2 conv=notrunc 2>&1"),
                        0);
        assert_int_equal(rpm->check_state(&f->error), -EUCLEAN);
        assert_says(f, "rpm -qa failed with status 1: error: ");
        error_done(&f->error);
        assert_true(rpm->mend(&run, &f->error) < 0);
        assert_non_null(strstr(f->output, "making the database of rpm new with rpm --rebuilddb"));
        assert_true(install(f, "old") < 0);

        /* The files that Berkeley DB makes anew are not touched where all is well. */
        assert_int_equal(shell("rm -r /var/lib/rpm; cp -a /good /var/lib/rpm; : >/var/lib/rpm/__db.001"), 0);
        error_done(&f->error);
        assert_ok(f, rpm->mend(&run, &f->error));
        assert_int_equal(shell("test -e /var/lib/rpm/__db.001"), 0);
        assert_string_equal(installed(), "4.3.12 installed");
}

/* All that is left where an installation was broken off before it had a whole file, and another one behind its sweeping. */
static void directories_of_an_installation_that_broke_off_go_too(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *script = NULL;

        install_old_and_note_it(f);
        assert_ok(f, uninstall(f));
        assert_true(asprintf(&script,
                                    "rpm -qp --qf '[%%{FILEMODES:perms} %%{FILENAMES}\n]' %s/new.rpm |"
                                    " sed -n 's/^d[^ ]* //p' | xargs mkdir -p && test -d /usr/lib/emqx/lib/emqx-4.4.0",
                                    arg_packages) > 0);
        assert_int_equal(shell(script), 0);
        assert_back_on_old(f, true, 0);
}

/* Over the old version, and after it. */
static void install_killed_anywhere_can_be_done_again(void **state) {
        Fixture *f = *state;
        unsigned n_broken = 0;
        usec_t whole;

        assert_ok(f, install(f, "old"));
        whole = act_and_kill("new", USEC_INFINITY);
        note_files("/expected");
        for (unsigned i = 0; i < KILLS || (n_broken == 0 && i < 10 * KILLS); i++) {
                usec_t nth = i % KILLS;

                assert_ok(f, uninstall(f));
                if (i % 2)
                        assert_ok(f, install(f, "old"));
                (void) act_and_kill("new", whole * nth * nth / (KILLS * KILLS));
                n_broken += is_broken();
                assert_ok(f, rpm->mend(NULL, &f->error));
                assert_ok(f, install(f, "new"));
                assert_string_equal(installed(), "4.4.0 installed");
                assert_ok(f, rpm->check_state(&f->error));
                note_files("/now");
                assert_int_equal(shell("diff /expected /now >&2"), 0);
        }
        assert_true(n_broken > 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(is_not_present_without_a_database_and_makes_none),
                TEST(metadata_is_the_packages_own),
                TEST(installs_over_and_back_and_removes),
                TEST(edited_configuration_stays_and_is_put_aside_by_a_removal),
                TEST(links_that_are_left_over_or_missing_are_coped_with),
                TEST(missing_files_are_noticed_and_come_back),
                TEST(unmet_dependencies_are_listed_with_no_lock_and_nothing_changes),
                TEST(conflict_and_wrong_architecture_are_refused),
                TEST(package_that_others_depend_on_is_refused),
                TEST(failing_scriptlets_are_quoted_and_can_be_undone),
                TEST(two_versions_at_once_are_noticed_and_become_one),
                TEST(what_is_no_package_is_refused),
                TEST(damage_anywhere_and_a_missing_or_added_end_are_noticed),
                TEST(control_characters_in_a_version_are_refused),
                TEST(lock_of_another_process_is_waited_for),
                TEST(unreadable_database_is_said_and_mended_where_that_is_possible),
                TEST(install_killed_anywhere_can_be_undone),
                TEST(directories_of_an_installation_that_broke_off_go_too),
                TEST(remove_killed_anywhere_can_be_undone),
                TEST(install_killed_anywhere_can_be_done_again),
        };

        return cmocka_run_group_tests_name("rpm", tests, build_once, forget);
}
