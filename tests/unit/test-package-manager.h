/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of dpkg and of rpm have in common: the host's real one, on a throw-away overlay of the host's root directory,
 * with packages that are built once. Whoever includes this defines `manager`. */

#include "tests/unit/test-util.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/fileio.h"
#include "base/lock.h"
#include "package/package.h"

/* What is killed is the package manager, in which the sanitizers do not look. */
#ifdef __SANITIZE_ADDRESS__
#define KILLS 4
#else
#define KILLS 10
#endif

typedef struct PackageManager {
        const PackageKind *kind;
        const char *suffix;         /* of a package's file */
        const char *shell_begins;   /* what each script begins with */
        const char *build_packages; /* a script that makes old.SUFFIX, new.SUFFIX and others */
        const char *set_up;         /* a script for each new overlay */
        const char *whole;          /* the state of a package that is whole, as query() tells it */
        const char *begins[3];      /* the beginnings of the lines with which its work on files begins */
        const char *list_files;     /* a script: everything of either version */
        const char *is_removed; /* a script that fails, and says why, where a removal has left what it should not */
} PackageManager;

static const PackageManager manager;

/* Packages are built before there is an overlay. */
static char *arg_packages;
static int arg_host_root_fd = -1;

typedef struct Fixture {
        char *overlay;
        Error error;
        char *output; /* what the package manager has printed */
} Fixture;

static int shell(const char *script) {
        _cleanup_free_ char *begins = NULL, *output = NULL;
        int r;

        assert_true(asprintf(&begins, "%s\neval \"$1\"", manager.shell_begins) > 0);
        r = process_capture(STRV_MAKE("sh", "-euc", begins, "sh", script),
                        &(ProcessOptions){ .directory = arg_packages }, &output, NULL);
        if (r != 0)
                print_error("%s", output ?: "");
        return r;
}

static int build_once(void **state) {
        (void) state;
        arg_packages = make_tmpdir();
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -1;
        arg_host_root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return arg_host_root_fd >= 0 && shell(manager.build_packages) == 0 ? 0 : -1;
}

static int forget(void **state) {
        (void) state;
        remove_tmpdir(arg_packages);
        return close(arg_host_root_fd);
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));
        _cleanup_free_ char *options = NULL, *root = NULL, *upper = NULL, *work = NULL, *proc = NULL, *dev = NULL;

        f->overlay = make_tmpdir();
        assert_int_equal(mount("tmpfs", f->overlay, "tmpfs", 0, NULL), 0);
        assert_true(asprintf(&root, "%s/root", f->overlay) > 0 && asprintf(&upper, "%s/upper", f->overlay) > 0 &&
                        asprintf(&work, "%s/work", f->overlay) > 0 &&
                        asprintf(&proc, "%s/root/proc", f->overlay) > 0 &&
                        asprintf(&dev, "%s/root/dev", f->overlay) > 0 &&
                        asprintf(&options, "lowerdir=/,upperdir=%s,workdir=%s", upper, work) > 0);
        assert_int_equal(mkdir(root, 0755), 0);
        assert_int_equal(mkdir(upper, 0755), 0);
        assert_int_equal(mkdir(work, 0755), 0);
        assert_int_equal(mount("overlay", root, "overlay", 0, options), 0);
        assert_int_equal(mount("/proc", proc, NULL, MS_BIND | MS_REC, NULL), 0);
        assert_int_equal(mount("/dev", dev, NULL, MS_BIND | MS_REC, NULL), 0);
        assert_int_equal(chroot(root), 0);
        assert_int_equal(chdir("/"), 0);
        assert_int_equal(shell(manager.set_up), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        assert_int_equal(fchdir(arg_host_root_fd), 0);
        assert_int_equal(chroot("."), 0);
        assert_int_equal(umount2(f->overlay, MNT_DETACH), 0);
        remove_tmpdir(f->overlay);
        error_done(&f->error);
        free(f->output);
        free(f);
        return 0;
}

/* --- what is done with packages --- */

static void keep_line(const char *line, void *userdata) {
        Fixture *f = userdata;
        char *joined;

        assert_true(asprintf(&joined, "%s%s\n", f->output ?: "", line) > 0);
        free(f->output);
        f->output = joined;
}

static Package *package(const char *name) {
        _cleanup_free_ char *path = NULL;
        Package *p = NULL;

        assert_true(asprintf(&path, "%s/%s.%s", arg_packages, name, manager.suffix) > 0);
        assert_int_equal(manager.kind->read(path, &p, NULL), 0);
        return p;
}

static int install(Fixture *f, const char *name) {
        _cleanup_(package_freep) Package *p = package(name);
        PackageRun run = { .on_line = keep_line, .userdata = f };

        error_done(&f->error);
        return manager.kind->install(p, &run, &f->error);
}

static int uninstall(Fixture *f) {
        PackageRun run = { .on_line = keep_line, .userdata = f };

        error_done(&f->error);
        return manager.kind->remove("emqx", &run, &f->error);
}

static int check_install(Fixture *f, const char *name) {
        _cleanup_(package_freep) Package *p = package(name);

        error_done(&f->error);
        return manager.kind->check_install(p, &f->error);
}

static void assert_ok(Fixture *f, int r) {
        if (r < 0)
                fail_msg("%s", error_text(&f->error, r));
}

static void assert_says(Fixture *f, const char *words) {
        if (!f->error.message || !strstr(f->error.message, words))
                fail_msg("\"%s\" is not in: %s", words, f->error.message ?: "(nothing)");
}

/* "4.3.12 STATE" of the only package there is, "" where none is; a static buffer. */
static const char *installed(void) {
        _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
        static char text[256];

        assert_int_equal(manager.kind->query(STRV_MAKE("emqx", "emqx-ee", "emqx-edge"), NULL, &list, NULL), 0);
        assert_true(list.n <= 1);
        text[0] = 0;
        if (list.n == 1) {
                (void) snprintf(text, sizeof(text), "%s %s", list.items[0].version, list.items[0].state);
                assert_true(list.items[0].complete == streq(list.items[0].state, manager.whole));
        }
        return text;
}

static void assert_whole(const char *version) {
        const char *state = startswith(installed(), version);

        if (!state || *state != ' ' || !streq(state + 1, manager.whole))
                fail_msg("not %s, but: %s", version, installed());
}

/* --- interruptions --- */

static void tell_beginning(const char *line, void *userdata) {
        for (size_t i = 0; manager.begins[i]; i++)
                if (startswith(line, manager.begins[i]))
                        (void) !write(*(int *) userdata, "", 1);
}

/* Installs the package, or removes where that is NULL. */
static int act(const char *install_name, int report_fd) {
        PackageRun run = { .on_line = tell_beginning, .userdata = &report_fd };
        _cleanup_(package_freep) Package *p = install_name ? package(install_name) : NULL;

        return p ? manager.kind->install(p, &run, NULL) : manager.kind->remove("emqx", &run, NULL);
}

/* Acts in a process namespace of its own, which ends with all that is in it as a control group does: usec after the
 * package manager has begun with the files, or never (USEC_INFINITY). Returns how long it lasted from then on. */
static usec_t act_and_kill(const char *install_name, usec_t usec) {
        usec_t *lasted = mmap(NULL, sizeof(usec_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), r;
        int report[2], status;
        pid_t pid;

        assert_ptr_not_equal(lasted, MAP_FAILED);
        assert_int_equal(pipe2(report, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                pid_t init = unshare(CLONE_NEWPID) < 0 ? -1 : fork();
                usec_t began;

                if (init == 0)
                        _exit(act(install_name, report[1]) < 0);
                (void) close(report[1]);
                (void) !read(report[0], &(char){ 0 }, 1);
                began = now_usec(CLOCK_MONOTONIC);
                if (usec != USEC_INFINITY) {
                        (void) usleep((useconds_t) usec);
                        (void) kill(init, SIGKILL);
                }
                status = init < 0 || waitpid(init, &status, 0) != init;
                *lasted = now_usec(CLOCK_MONOTONIC) - began;
                _exit(status);
        }
        (void) close(report[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void) close(report[0]);
        r = *lasted;
        assert_int_equal(munmap(lasted, sizeof(usec_t)), 0);
        return r;
}

/* Something of the program is there, and not all of it; or the package manager cannot go on by itself. */
static bool is_broken(void) {
        const char *text;

        if (manager.kind->check_state(NULL) < 0)
                return true;
        text = installed();
        return *text ? !endswith(text, manager.whole) : access("/usr/lib/emqx", F_OK) >= 0;
}

/* Keeps what is installed now in file. */
static void note_files(const char *file) {
        _cleanup_free_ char *script = NULL;

        assert_true(asprintf(&script, "{ %s; } | sort >%s", manager.list_files, file) > 0);
        assert_int_equal(shell(script), 0);
}

/* Goes back as an upgrade does: over a removal that broke off the old package is installed at once. */
static void assert_back_on_old(Fixture *f, bool remove_first, usec_t usec) {
        PackageRun run = { .on_line = keep_line, .userdata = f };
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "%s/new.%s", arg_packages, manager.suffix) > 0);
        run.repair_path = path;
        error_done(&f->error);
        assert_ok(f, manager.kind->mend(&run, &f->error));
        if (remove_first) {
                assert_ok(f, manager.kind->remove("emqx", &run, &f->error));
                assert_string_equal(installed(), "");
                if (shell(manager.is_removed) != 0)
                        fail_msg("The kill after %" PRIu64 " us has left what is not removed:\n%s", usec, f->output);
        }
        assert_ok(f, install(f, "old"));
        assert_whole("4.3.12");
        assert_ok(f, manager.kind->check_state(&f->error));
        note_files("/now");
        if (shell("diff /expected /now >&2") != 0)
                fail_msg("The kill after %" PRIu64 " us has left something behind:\n%s", usec, f->output);
        free(f->output);
        f->output = NULL;
}

static void install_old_and_note_it(Fixture *f) {
        assert_ok(f, install(f, "old"));
        note_files("/expected");
}

static void kill_at_many_points(Fixture *f, const char *install_name) {
        unsigned n_broken = 0;
        usec_t whole;

        install_old_and_note_it(f);
        if (install_name)
                assert_ok(f, uninstall(f));
        whole = act_and_kill(install_name, USEC_INFINITY);
        if (install_name)
                assert_whole("4.4.0");
        else
                assert_string_equal(installed(), "");
        assert_back_on_old(f, true, USEC_INFINITY);

        /* A busy machine may not be killed in the act at the first try. */
        for (unsigned i = 0; i < KILLS || (n_broken == 0 && i < 10 * KILLS); i++) {
                usec_t nth = i % KILLS, usec = whole * nth * nth / (KILLS * KILLS); /* most of it happens early */

                if (install_name)
                        assert_ok(f, uninstall(f));
                (void) act_and_kill(install_name, usec);
                n_broken += is_broken();
                assert_back_on_old(f, install_name || i % 2, usec);
        }
        assert_true(n_broken > 0);
}

static void install_killed_anywhere_can_be_undone(void **state) {
        kill_at_many_points(*state, "new");
}

static void remove_killed_anywhere_can_be_undone(void **state) {
        kill_at_many_points(*state, NULL);
}
