/* SPDX-License-Identifier: Apache-2.0 */

/* The host's real dpkg, on a throw-away overlay of the host's root directory, with packages whose maintainer scripts
 * have the traps of EMQX's: links made with ln -s and removed with rm, under set -e. */

#include "tests/unit/test-package-manager.h"

static const char build_packages[] =
                "ARCH=$(dpkg --print-architecture)\n"
                "build() { # file, name, version, more control fields, more of postinst\n"
                "  mkdir -p b/DEBIAN b/etc/emqx b/usr/lib/emqx/bin b/usr/lib/emqx/lib/emqx-$3 b/var/lib/emqx\n"
                "  printf 'Package: %s\\nVersion: %s\\nMaintainer: T <t@example.org>\\nDescription: test\\n' $2 $3"
                " >b/DEBIAN/control\n"
                "  printf \"${4:-Architecture: $ARCH}\\n\" >>b/DEBIAN/control\n"
                "  echo \"version $3\" >b/etc/emqx/emqx.conf; echo /etc/emqx/emqx.conf >b/DEBIAN/conffiles\n"
                "  echo \"echo $3\" >b/usr/lib/emqx/bin/emqx; cp b/usr/lib/emqx/bin/emqx b/usr/lib/emqx/bin/emqx_ctl\n"
                "  for i in $(seq 150); do echo $i >b/usr/lib/emqx/lib/emqx-$3/$i.beam; done\n"
                "  echo defaults >b/var/lib/emqx/loaded_plugins\n"
                "  { echo '#!/bin/sh\nset -e\nfor l in emqx emqx_ctl; do"
                " if [ -f /usr/bin/$l ]; then rm /usr/bin/$l; fi; ln -s /usr/lib/emqx/bin/$l /usr/bin/$l; done';"
                " echo \"$5\"; } >b/DEBIAN/postinst\n"
                "  echo '#!/bin/sh\nset -e\ncase $1 in remove) rm /usr/bin/emqx; rm /usr/bin/emqx_ctl;;"
                " purge) rm -r /etc/emqx /var/lib/emqx;; esac' >b/DEBIAN/postrm\n"
                "  chmod 755 b/DEBIAN/post*; dpkg-deb --root-owner-group -Zgzip --build b $1.deb; rm -r b\n"
                "}\n"
                "build old emqx 4.3.12 '' ''\n"
                "build new emqx 4.4.0 '' ''\n"
                "build failing emqx 4.4.0 '' 'echo Failed to enable unit: it is masked >&2; exit 1'\n"
                "build needy emqx 4.4.0 \"Architecture: $ARCH\\\\nDepends: dpkg, nothing-like-it"
                " (>= 1.2), dpkg (>= 99:0)\" ''\n"
                "build fussy emqx 4.4.0 \"Architecture: $ARCH\\\\nConflicts: dpkg\" ''\n"
                "build foreign emqx 4.4.0 'Architecture: s390x' ''\n"
                "build user emqx-user 1 \"Architecture: $ARCH\\\\nDepends: emqx\" ''\n"
                "rm -rf b";

/* Everything of either version by name and mode, and by content but for conffiles: a dpkg that was killed between
 * renaming one into place and noting its digest takes it for an edited one, and leaves the new version's to the old. The
 * backup puts it back. */
static const char list_files[] = "find /usr/lib/emqx /etc/emqx /var/lib/emqx /usr/bin/emqx /usr/bin/emqx_ctl"
                                 " -printf '%p %y %m %l\\n' -type f ! -path '/etc/emqx/*' -exec sha256sum {} +";

static const PackageManager manager = {
        .kind = &package_kind_deb,
        .suffix = "deb",
        .shell_begins = "",
        .build_packages = build_packages,
        .set_up = "",
        .whole = "install ok installed",
        .begins = { "Unpacking ", "Removing " },
        .list_files = list_files,
        .is_removed = "", /* configuration stays */
};

static const PackageKind *const deb = &package_kind_deb;

static void installs_over_and_back_and_removes_all_but_configuration(void **state) {
        Fixture *f = *state;

        assert_true(deb->present());
        assert_string_equal(installed(), "");
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 install ok installed");
        assert_non_null(strstr(f->output, "Setting up emqx (4.3.12) ..."));
        assert_ok(f, install(f, "new"));
        assert_ok(f, install(f, "new"));
        assert_string_equal(installed(), "4.4.0 install ok installed");
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 install ok installed");
        assert_ok(f, uninstall(f));
        assert_ok(f, uninstall(f));
        assert_string_equal(installed(), "");
        assert_int_equal(shell("test -e /etc/emqx/emqx.conf; ! test -e /usr/lib/emqx; ! test -L /usr/bin/emqx"), 0);
        assert_ok(f, deb->check_state(&f->error));
}

static void architecture_is_dpkgs(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *arch = NULL;
        _cleanup_(package_freep) Package *p = package("old");

        assert_ok(f, deb->host_arch(&arch, &f->error));
        assert_string_equal(arch, p->arch);
}

static void edited_configuration_stays_and_missing_one_comes_back(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("echo mine >/etc/emqx/emqx.conf"), 0);
        assert_ok(f, install(f, "new"));
        assert_int_equal(shell("grep -qx mine /etc/emqx/emqx.conf"), 0);
        assert_ok(f, uninstall(f));
        assert_int_equal(shell("grep -qx mine /etc/emqx/emqx.conf; rm -r /etc/emqx"), 0);
        assert_ok(f, install(f, "new"));
        assert_int_equal(shell("grep -qx 'version 4.4.0' /etc/emqx/emqx.conf"), 0);
}

static void links_that_are_missing_or_dangle_are_coped_with(void **state) {
        Fixture *f = *state;

        assert_int_equal(shell("ln -s /usr/lib/emqx/bin/emqx /usr/bin/emqx"), 0);
        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("rm /usr/bin/emqx_ctl"), 0);
        assert_ok(f, uninstall(f));
        assert_int_equal(shell("! test -L /usr/bin/emqx; ! test -L /usr/bin/emqx_ctl"), 0);
}

static void unmet_dependencies_are_listed_with_no_lock_and_nothing_changes(void **state) {
        static const char look[] =
                        "{ sha256sum /var/lib/dpkg/status; ls -d /var/lib/dpkg/* /tmp/emqx-upgrade-dpkg* || :; }";
        Fixture *f = *state;
        _cleanup_free_ char *before = NULL, *after = NULL;
        _cleanup_close_ int frontend_fd = -1, database_fd = -1;
        pid_t holder;

        assert_ok(f, install(f, "old"));
        assert_int_equal(lock_take(deb->lock_path, &frontend_fd, &holder), 1);
        assert_int_equal(lock_take("/var/lib/dpkg/lock", &database_fd, &holder), 1);
        assert_int_equal(process_capture(STRV_MAKE("sh", "-c", look), NULL, &before, NULL), 0);
        assert_int_equal(check_install(f, "needy"), -ENOPKG);
        assert_says(f, "needy.deb needs what is not installed: nothing-like-it (>= 1.2) (Package nothing-like-it is");
        assert_says(f, " not installed); dpkg (>= 99:0) (Version of dpkg on system is ");
        assert_non_null(strstr(f->error.advice, "apt-get satisfy 'nothing-like-it (>= 1.2), dpkg (>= 99:0)'"));
        assert_ok(f, check_install(f, "new"));
        assert_int_equal(process_capture(STRV_MAKE("sh", "-c", look), NULL, &after, NULL), 0);
        assert_string_equal(before, after);
        assert_string_equal(installed(), "4.3.12 install ok installed");
}

static void conflict_and_wrong_architecture_are_refused(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_int_equal(check_install(f, "fussy"), -EREMOTEIO);
        assert_says(f, "conflicts with dpkg");
        assert_int_equal(check_install(f, "foreign"), -EREMOTEIO);
        assert_says(f, "package architecture (s390x) does not match system");
}

static void package_that_others_depend_on_is_refused(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("dpkg --force-overwrite -i user.deb"), 0);
        assert_int_equal(check_install(f, "new"), -EREMOTEIO);
        assert_says(f, "emqx-user depends on emqx");
}

static void failing_postinst_is_quoted_and_can_be_undone(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_ok(f, uninstall(f));
        assert_int_equal(install(f, "failing"), -EREMOTEIO);
        assert_says(f,
                        "dpkg: error processing package emqx (--install): installed emqx package post-installation"
                        " script subprocess returned error exit status 1");
        assert_says(f, "Failed to enable unit: it is masked");
        assert_string_equal(installed(), "4.4.0 install ok half-configured");
        error_done(&f->error);
        assert_int_equal(deb->check_state(&f->error), -EUCLEAN);
        assert_says(f, "emqx");
        assert_ok(f, uninstall(f));
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 install ok installed");

        /* Over the old one, and the old one over it without a removal between. */
        assert_int_equal(install(f, "failing"), -EREMOTEIO);
        assert_ok(f, install(f, "old"));
        assert_string_equal(installed(), "4.3.12 install ok installed");
        assert_ok(f, deb->check_state(&f->error));
}

static void works_while_its_lock_is_held_by_our_parent(void **state) {
        Fixture *f = *state;
        _cleanup_close_ int fd = -1;
        pid_t pid, holder;
        int status;

        assert_int_equal(lock_take(deb->lock_path, &fd, &holder), 1);
        pid = fork();
        if (pid == 0)
                _exit(install(f, "old") == 0 && uninstall(f) == 0 && install(f, "old") == 0 ? 0 : 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_string_equal(installed(), "4.3.12 install ok installed");
}

/* For less time while the node is down; with nothing else than what was verified. */
static void packing_again_changes_nothing_but_the_compression(void **state) {
        _cleanup_free_ char *script = NULL;
        _cleanup_(package_freep) Package *p = package("new"), *again = NULL;
        Fixture *f = *state;

        assert_ok(f, deb->prepare(p, "/prepared", &f->error));
        assert_true(asprintf(&script,
                                    "same() { [ \"$(dpkg-deb --$1 %s | sha256sum)\" = \"$(dpkg-deb --$1 /prepared | "
                                    "sha256sum)\" ]; }; same fsys-tarfile && same ctrl-tarfile && "
                                    "ar p /prepared data.tar | tar t >/dev/null && ! [ -e /prepared.part ]",
                                    p->path) > 0);
        assert_int_equal(shell(script), 0);
        assert_ok(f, deb->read("/prepared", &again, &f->error));
        assert_string_equal(again->version, p->version);
        assert_ok(f, deb->verify("/prepared", &f->error));
        assert_ok(f, install(f, "old"));
        assert_ok(f, deb->install(again, NULL, &f->error));
        assert_string_equal(installed(), "4.4.0 install ok installed");

        /* A damaged one leaves nothing, and what is there already is replaced. */
        free(script);
        assert_true(asprintf(&script, "head -c -3000 %s >/short.deb", p->path) > 0);
        assert_int_equal(shell(script), 0);
        assert_int_equal(free_and_strdup(&p->path, "/short.deb") < 0, 0);
        assert_int_equal(deb->prepare(p, "/other", &f->error), -EBADMSG);
        assert_int_equal(shell("! ls /other /other.part 2>/dev/null"), 0);
        error_done(&f->error);
        assert_ok(f, deb->prepare(again, "/prepared", &f->error));
        assert_ok(f, deb->verify("/prepared", &f->error));
}

/* Its verdict is a stand-in's: a real one takes keys and a policy. Packing again drops what it would go by. */
static void signatures_are_asked_for_by_the_check_and_not_with_the_node_down(void **state) {
        Fixture *f = *state;
        _cleanup_(package_freep) Package *p = NULL, *again = NULL;

        assert_int_equal(shell("echo log /dev/null >/etc/dpkg/dpkg.cfg\n" /* where Debian has no-debsig */
                               "printf '#!/bin/sh\\nfor deb; do :; done; grep -q _gpgorigin \"$deb\"\\n'"
                               " >/usr/bin/debsig-verify\n"
                               "chmod 755 /usr/bin/debsig-verify\n"
                               "cp new.deb signed.deb; touch _gpgorigin; ar q signed.deb _gpgorigin"),
                        0);
        assert_int_equal(check_install(f, "new"), -EREMOTEIO);
        assert_says(f, "new.deb failed");
        assert_ok(f, check_install(f, "signed"));

        assert_ok(f, install(f, "old"));
        p = package("signed");
        assert_ok(f, deb->prepare(p, "/prepared", &f->error));
        assert_ok(f, deb->read("/prepared", &again, &f->error));
        assert_ok(f, deb->install(again, NULL, &f->error));
        assert_string_equal(installed(), "4.4.0 install ok installed");
}

static void what_a_killed_dpkg_has_made_first_is_removed(void **state) {
        Fixture *f = *state;

        assert_ok(f, install(f, "old"));
        assert_int_equal(shell("touch /var/lib/dpkg/updates/tmp.i"), 0);
        assert_ok(f, deb->mend(NULL, &f->error));
        assert_int_equal(shell("! ls /var/lib/dpkg/updates/tmp.i 2>/dev/null"), 0);
        assert_string_equal(installed(), "4.3.12 install ok installed");
}

/* The second dpkg takes its mark away that the package needs another installation, but not what the first has left. */
static void unpacking_that_was_killed_and_then_fails_can_be_undone(void **state) {
        Fixture *f = *state;
        usec_t whole, usec;

        install_old_and_note_it(f);
        assert_ok(f, uninstall(f));
        whole = act_and_kill("new", USEC_INFINITY);
        for (unsigned i = 0;; i++) {
                assert_true(i < 200);
                assert_back_on_old(f, true, USEC_INFINITY);
                assert_ok(f, uninstall(f));
                usec = whole * (i % 20) / 20;
                (void) act_and_kill("new", usec);
                if (endswith(installed(), " half-installed") && access("/usr/lib/emqx/lib/emqx-4.4.0", F_OK) >= 0)
                        break;
        }

        assert_return_code(mount("/etc/emqx", "/etc/emqx", NULL, MS_BIND, NULL), errno);
        assert_return_code(mount(NULL, "/etc/emqx", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), errno);
        assert_int_equal(install(f, "new"), -EREMOTEIO);
        assert_return_code(umount("/etc/emqx"), errno);
        assert_true(endswith(installed(), " ok half-installed"));
        assert_back_on_old(f, true, usec);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(installs_over_and_back_and_removes_all_but_configuration),
                TEST(architecture_is_dpkgs),
                TEST(edited_configuration_stays_and_missing_one_comes_back),
                TEST(links_that_are_missing_or_dangle_are_coped_with),
                TEST(unmet_dependencies_are_listed_with_no_lock_and_nothing_changes),
                TEST(conflict_and_wrong_architecture_are_refused),
                TEST(package_that_others_depend_on_is_refused),
                TEST(failing_postinst_is_quoted_and_can_be_undone),
                TEST(works_while_its_lock_is_held_by_our_parent),
                TEST(packing_again_changes_nothing_but_the_compression),
                TEST(signatures_are_asked_for_by_the_check_and_not_with_the_node_down),
                TEST(what_a_killed_dpkg_has_made_first_is_removed),
                TEST(unpacking_that_was_killed_and_then_fails_can_be_undone),
                TEST(install_killed_anywhere_can_be_undone),
                TEST(remove_killed_anywhere_can_be_undone),
        };

        return cmocka_run_group_tests_name("deb", tests, build_once, forget);
}
