/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "base/fileio.h"
#include "steps/places.h"

/* A node with all of its directories below that of the program, as a zip has it. */
typedef struct Fixture {
        char *dir, *program;
        Node node;
        Plan *plan;
        Error error;
} Fixture;

static char *path_of(const Fixture *f, const char *name) {
        char *path;

        assert_true(asprintf(&path, "%s/%s", f->program, name) > 0);
        assert_int_equal(mkdir_parents(path, 0755), 0);
        return path;
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));

        f->dir = make_tmpdir();
        assert_true(asprintf(&f->program, "%s/with \\ and space", f->dir) > 0);
        f->node.etc_dir = path_of(f, "etc");
        f->node.data_dir = path_of(f, "data");
        f->node.log_dir = path_of(f, "log");
        assert_int_equal(plan_new("4.4.0", &f->plan), 0);
        f->plan->root_dir = strdup(f->program);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        plan_free(f->plan);
        error_done(&f->error);
        free(f->node.etc_dir);
        free(f->node.data_dir);
        free(f->node.log_dir);
        free(f->program);
        remove_tmpdir(f->dir);
        free(f);
        return 0;
}

static int find(Fixture *f, const char *kind) {
        assert_int_equal(free_and_strdup(&f->plan->kind, kind), 0);
        if (streq(kind, "zip"))
                assert_true(asprintf(&f->plan->beside_dir, "%s.emqx-upgrade-%.8s", f->program, f->plan->id) > 0);
        return places_find(f->plan, &f->node, &f->error);
}

static void assert_refused(Fixture *f, const char *kind, const char *where, const char *why) {
        assert_true(find(f, kind) < 0);
        assert_ptr_equal(strstr(f->error.message, where), f->error.message);
        assert_non_null(strstr(f->error.message, why));
        assert_non_null(f->error.advice);
}

/* A mount from the same file system: no st_dev shows it. */
static void bind(const char *path) {
        assert_return_code(mount(path, path, NULL, MS_BIND, NULL), errno);
}

static void unmount(const char *path) {
        assert_return_code(umount2(path, MNT_DETACH), errno);
}

static void directories_of_a_zip_are_found(void **state) {
        Fixture *f = *state;

        bind(f->dir); /* what it is in may be one */
        assert_int_equal(find(f, "zip"), 0);
        unmount(f->dir);
        assert_int_equal(f->plan->n_trees, 3);
}

static void zip_that_is_a_mount_point_is_refused(void **state) {
        Fixture *f = *state;

        bind(f->program);
        assert_refused(f, "zip", f->program, "cannot be exchanged");
        unmount(f->program);
}

static void mount_point_within_a_zip_is_refused(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *inner = path_of(f, "data/mnesia");

        bind(inner);
        assert_refused(f, "zip", inner, "would stay with the old version");
        unmount(inner);
}

static void mount_point_within_an_rpm_is_refused(void **state) {
        Fixture *f = *state;

        bind(f->program);
        bind(f->node.log_dir);
        assert_refused(f, "rpm", f->node.log_dir, "which the removal empties");
        unmount(f->node.log_dir);
        unmount(f->program);
}

static void mount_points_of_a_deb_are_carried(void **state) {
        Fixture *f = *state;

        bind(f->program);
        bind(f->node.data_dir);
        assert_int_equal(find(f, "deb"), 0);
        unmount(f->node.data_dir);
        unmount(f->program);
}

static void make_immutable(const char *path, bool immutable) {
        int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644), attributes;

        assert_true(fd >= 0);
        assert_return_code(ioctl(fd, FS_IOC_GETFLAGS, &attributes), errno);
        attributes = (attributes & ~FS_IMMUTABLE_FL) | (immutable ? FS_IMMUTABLE_FL : 0);
        assert_return_code(ioctl(fd, FS_IOC_SETFLAGS, &attributes), errno);
        close(fd);
}

static void assert_immutable_is_refused(Fixture *f, const char *kind, const char *path) {
        _cleanup_free_ char *named = NULL;
        int r;

        make_immutable(path, true);
        r = find(f, kind);
        make_immutable(path, false);
        assert_int_equal(r, -EPERM);
        assert_true(asprintf(&named, "%s: is immutable", path) > 0);
        assert_ptr_equal(strstr(f->error.message, named), f->error.message);
}

static void immutable_configuration_is_refused(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *certs = path_of(f, "etc/certs"), *key = NULL;

        assert_true(asprintf(&key, "%s/key.pem", certs) > 0);
        assert_immutable_is_refused(f, "zip", key);
}

static void immutable_program_is_refused(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *bin = path_of(f, "bin"), *file = NULL;

        assert_true(asprintf(&file, "%s/emqx", bin) > 0);
        assert_immutable_is_refused(f, "rpm", file);
}

/* Those of a .deb are in a place that its scripts know. */
static void immutable_log_of_a_deb_is_refused(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *log = path_of(f, "../log");

        assert_return_code(mount("tmpfs", "/var/log", "tmpfs", 0, NULL), errno);
        assert_return_code(mkdir("/var/log/emqx", 0755), errno);
        assert_return_code(mount(log, "/var/log/emqx", NULL, MS_BIND, NULL), errno);
        assert_immutable_is_refused(f, "deb", "/var/log/emqx/emqx.log.1");
        unmount("/var/log/emqx");
        unmount("/var/log");
}

static void file_system_is_that_of_the_innermost_mount(void **state) {
        _cleanup_free_ char *type = NULL, *inner = NULL;
        Fixture *f = *state;

        assert_return_code(mount("tmpfs", f->node.data_dir, "tmpfs", 0, NULL), errno);
        inner = path_of(f, "data/inner");
        type = place_filesystem(inner);
        unmount(f->node.data_dir);
        assert_string_equal(type, "tmpfs");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(directories_of_a_zip_are_found),
                TEST(zip_that_is_a_mount_point_is_refused),
                TEST(mount_point_within_a_zip_is_refused),
                TEST(mount_point_within_an_rpm_is_refused),
                TEST(mount_points_of_a_deb_are_carried),
                TEST(immutable_configuration_is_refused),
                TEST(immutable_program_is_refused),
                TEST(immutable_log_of_a_deb_is_refused),
                TEST(file_system_is_that_of_the_innermost_mount),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
