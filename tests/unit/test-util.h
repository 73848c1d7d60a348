/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every unit test needs: cmocka in its order of includes, and a directory of its own that goes away. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/macro.h"

/* An empty directory below $TMPDIR (or /var/tmp: a file system on a disk, with xattrs), the caller's to remove and free. */
static inline char *make_tmpdir(void) {
        char *path;

        assert_true(asprintf(&path, "%s/emqx-upgrade-test.XXXXXX", getenv("TMPDIR") ?: "/var/tmp") > 0);
        assert_non_null(mkdtemp(path));
        return path;
}

static inline int remove_tmpdir_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

static inline void remove_tmpdir(char *path) {
        (void) nftw(path, remove_tmpdir_entry, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
        free(path);
}

/* As group setup: mounts are the tests' own and end with them. */
static inline int own_mounts(void **state) {
        (void) state;
        assert_return_code(unshare(CLONE_NEWNS), errno);
        assert_return_code(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), errno);
        return 0;
}

/* For tests with a fixture: set_up() and tear_down() of the file. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
