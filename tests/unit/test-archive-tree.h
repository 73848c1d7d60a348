/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A tree with one of everything a data directory may hold, and an oracle for "the same tree" that shares no code with
 * what is tested: stat(2), readlink(2), the xattr calls and the bytes. */

#include "test-util.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "archive/tree.h"

#define MIB ((off_t) 1024 * 1024)
#define NAME_51 "abcdefghijklmnopqrstuvwxyz_abcdefghijklmnopqrstuvwx"
#define NAME_255 NAME_51 NAME_51 NAME_51 NAME_51 NAME_51 /* NAME_MAX */

typedef struct Fixture {
        char *dir;
        int dir_fd, live, backup;
        Manifest *manifest;
        char *mounted; /* to be unmounted */
        Error error;
} Fixture;

/* --- entries of a manifest, kept until the test is over --- */

typedef struct Kept Kept;

struct Kept {
        ManifestEntry entry;
        Kept *next;
};

static Kept *kept;

static inline const ManifestEntry *keep(ManifestReader *r) {
        Kept *k = malloc(sizeof(Kept));

        assert_non_null(k);
        *k = (Kept){ manifest_take(r), kept };
        kept = k;
        return &k->entry;
}

/* That of path where it is not NULL, else the one with index; NULL: there is none. */
static inline const ManifestEntry *manifest_look(const Manifest *m, const char *path, size_t index) {
        _cleanup_(manifest_reader_freep) ManifestReader *reader = NULL;
        const ManifestEntry *e;
        int r;

        assert_int_equal(manifest_reader_new(m, &reader), 0);
        for (size_t i = 0; (r = manifest_read(reader, &e)) > 0; i++)
                if (path ? streq(e->path, path) : i == index)
                        return keep(reader);
        assert_int_equal(r, 0);
        return NULL;
}

static inline const ManifestEntry *manifest_find(const Manifest *m, const char *path) {
        return manifest_look(m, path, 0);
}

static inline const ManifestEntry *manifest_at(const Manifest *m, size_t index) {
        return manifest_look(m, NULL, index);
}

/* --- making things; every call works on a directory descriptor and must succeed --- */

static inline int open_dir(int dir_fd, const char *name) {
        int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static inline void put_file(int dir_fd, const char *name, const char *content) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, content, strlen(content)), strlen(content));
        close(fd);
}

static inline void put_time(int dir_fd, const char *name, time_t sec, long nsec) {
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { sec, nsec } };

        assert_return_code(utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW), errno);
}

static inline void put_xattr(int dir_fd, const char *name, const char *attribute, const void *value, size_t size) {
        int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_return_code(fsetxattr(fd, attribute, value, size, 0), errno);
        close(fd);
}

/* acl(5) as the kernel takes it: user::rwx, user:UID:rw-, group::r-x, mask::rwx, other::--- */
static inline void put_acl(int dir_fd, const char *name, const char *attribute, uint32_t uid) {
        struct {
                uint32_t version;
                struct {
                        uint16_t tag, perm;
                        uint32_t id;
                } entries[5];
        } acl = {
                htole32(2),
                {
                                { htole16(0x01), htole16(7), UINT32_MAX },
                                { htole16(0x02), htole16(6), htole32(uid) },
                                { htole16(0x04), htole16(5), UINT32_MAX },
                                { htole16(0x10), htole16(7), UINT32_MAX },
                                { htole16(0x20), htole16(0), UINT32_MAX },
                },
        };

        put_xattr(dir_fd, name, attribute, &acl, sizeof(acl));
}

static inline void put_socket(int dir_fd, const char *name) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%i/%s", dir_fd, name);
        assert_return_code(bind(fd, (struct sockaddr *) &address, sizeof(address)), errno);
        close(fd);
}

static inline void put_capability(int dir_fd, const char *name) {
        /* capabilities(7), VFS_CAP_REVISION_2: cap_net_bind_service+ep */
        const uint32_t capability[5] = { htole32(0x02000001), htole32(1 << 10), 0, 0, 0 };

        put_xattr(dir_fd, name, "security.capability", capability, sizeof(capability));
}

static inline void put_tree(int live) {
        const gid_t gid = 4321; /* has no name */
        const uid_t uid = 65534;
        int fd, mnesia;

        put_file(live, "acl.conf", "{allow, all}.\n");
        put_xattr(live, "acl.conf", "user.note", "by\0hand", 7);
        put_xattr(live, "acl.conf", "user.empty", "", 0);
        put_xattr(live, "acl.conf", "user.t", "\xff\n=", 3);
        put_acl(live, "acl.conf", "system.posix_acl_access", 1234);
        assert_return_code(fchownat(live, "acl.conf", uid, gid, 0), errno);
        put_time(live, "acl.conf", 1700000000, 123456789);
        put_file(live, ".erlang.cookie", "SECRET");
        assert_return_code(fchmodat(live, ".erlang.cookie", 0400, 0), errno);
        put_file(live, "empty", "");
        put_file(live, "no-mode", "x");
        assert_return_code(fchmodat(live, "no-mode", 0, 0), errno);
        put_time(live, "no-mode", -86400, 999999999);
        put_file(live, "setuid", "#!/bin/sh\n");
        assert_return_code(fchownat(live, "setuid", uid, uid, 0), errno);
        assert_return_code(fchmodat(live, "setuid", 06755, 0), errno);
        put_file(live, "capable",
                        "\x7f"
                        "ELF");
        put_capability(live, "capable");
        put_file(live, "new\nline \\ = # * [?]", "odd");
        put_file(live, "\xff\xfe\x80 no UTF-8", "odd");
        put_file(live, NAME_255, "long");

        fd = openat(live, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "data", 4, 3 * MIB), 4);
        assert_return_code(ftruncate(fd, 16 * MIB + 5), errno);
        close(fd);

        assert_return_code(mkdirat(live, "mnesia", 0755), errno);
        mnesia = open_dir(live, "mnesia");
        put_file(mnesia, "schema.DAT", "one");
        put_file(mnesia, "table.DCD", "two");
        put_file(mnesia, "twin", "hard");
        assert_return_code(linkat(mnesia, "twin", live, "a-twin", 0), errno);
        assert_return_code(linkat(mnesia, "twin", mnesia, "twin2", 0), errno);
        assert_return_code(mkfifoat(mnesia, "pipe", 0600), errno);
        put_socket(mnesia, "socket");
        put_time(mnesia, "table.DCD", 1600000000, 1);
        put_time(mnesia, ".", 1500000000, 987654321);
        close(mnesia);

        assert_return_code(mkdirat(live, "mnesia.d", 02770), errno); /* sorts between mnesia and mnesia/ as strings */
        assert_return_code(fchmodat(live, "mnesia.d", 02770, 0), errno);
        put_acl(live, "mnesia.d", "system.posix_acl_default", 77);
        assert_return_code(mkdirat(live, "read-only", 0500), errno);
        fd = open_dir(live, "read-only");
        put_file(fd, "file", "in it");
        close(fd);

        assert_return_code(symlinkat("loop", live, "loop"), errno);
        assert_return_code(symlinkat("/nonexistent/\n", live, "dangling"), errno);
        assert_return_code(symlinkat("mnesia", live, "to-directory"), errno);
        assert_return_code(fchownat(live, "to-directory", uid, gid, AT_SYMLINK_NOFOLLOW), errno);
        put_time(live, "to-directory", 1400000000, 5);
        assert_return_code(fchmod(live, 0750), errno);
        put_time(live, ".", 1300000000, 42);
}

static inline int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));

        assert_non_null(f);
        f->dir = make_tmpdir();
        f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_return_code(mkdirat(f->dir_fd, "live", 0700), errno);
        assert_return_code(mkdirat(f->dir_fd, "backup", 0700), errno);
        f->live = open_dir(f->dir_fd, "live");
        f->backup = open_dir(f->dir_fd, "backup");
        *state = f;
        return 0;
}

static inline int tear_down(void **state) {
        Fixture *f = *state;

        while (kept) {
                Kept *k = kept;

                kept = k->next;
                manifest_entry_done(&k->entry);
                free(k);
        }
        manifest_free(f->manifest);
        error_done(&f->error);
        close(f->live);
        close(f->backup);
        if (f->mounted)
                assert_return_code(umount2(f->mounted, MNT_DETACH), errno);
        free(f->mounted);
        assert_int_equal(tree_empty(f->dir_fd, NULL), 0);
        close(f->dir_fd);
        assert_return_code(rmdir(f->dir), errno);
        free(f->dir);
        free(f);
        return 0;
}

static inline void mount_at(Fixture *f, const char *name, const char *type, const char *options) {
        assert_return_code(mkdirat(f->dir_fd, name, 0700), errno);
        assert_true(asprintf(&f->mounted, "%s/%s", f->dir, name) > 0);
        assert_return_code(mount(type, f->mounted, type, 0, options), errno);
}

/* r must be 0; what went wrong is shown. */
static inline void assert_done(Fixture *f, int r) {
        if (r < 0)
                print_error("%s\n", error_text(&f->error, r));
        assert_int_equal(r, 0);
}

static inline void back_up(Fixture *f) {
        f->manifest = manifest_free(f->manifest);
        assert_done(f, tree_backup(f->live, f->backup, NULL, NULL, &f->manifest, &f->error));
}

/* --- the oracle --- */

static inline void assert_same_xattrs(const char *a, const char *b) {
        char names_a[4096], names_b[4096], value_a[4096], value_b[4096];
        ssize_t n = llistxattr(a, names_a, sizeof(names_a)), m = llistxattr(b, names_b, sizeof(names_b));

        assert_true(n >= 0);
        if (n != m)
                print_error("%s: other xattrs\n", a);
        assert_int_equal(n, m);
        for (char *name = names_a; name < names_a + n; name += strlen(name) + 1) {
                ssize_t size = lgetxattr(a, name, value_a, sizeof(value_a));

                assert_int_equal(lgetxattr(b, name, value_b, sizeof(value_b)), size);
                assert_memory_equal(value_a, value_b, size);
        }
}

static inline void assert_same_content(const char *a, const char *b) {
        int fd_a = open(a, O_RDONLY | O_NOFOLLOW), fd_b = open(b, O_RDONLY | O_NOFOLLOW);
        char buffer_a[65536], buffer_b[65536];
        ssize_t n;

        assert_true(fd_a >= 0 && fd_b >= 0);
        do {
                n = read(fd_a, buffer_a, sizeof(buffer_a));
                assert_true(n >= 0);
                assert_int_equal(read(fd_b, buffer_b, sizeof(buffer_b)), n);
                assert_memory_equal(buffer_a, buffer_b, n);
        } while (n > 0);
        close(fd_a);
        close(fd_b);
}

static inline size_t count_names(const char *path) {
        DIR *d = opendir(path);
        size_t n = 0;

        assert_non_null(d);
        for (struct dirent *de; (de = readdir(d));)
                n += de->d_type != DT_FIFO && de->d_type != DT_SOCK;
        closedir(d);
        return n;
}

/* a and b are the same but for FIFOs and sockets; names of one have to fit PATH_MAX. */
static inline void assert_same_tree(const char *a, const char *b) {
        char path_a[PATH_MAX], path_b[PATH_MAX], target_a[PATH_MAX], target_b[PATH_MAX];
        struct stat x, y;
        DIR *d;

        assert_return_code(lstat(a, &x), errno);
        if (S_ISFIFO(x.st_mode) || S_ISSOCK(x.st_mode))
                return;
        if (lstat(b, &y) < 0)
                print_error("%s is missing\n", b);
        assert_return_code(lstat(b, &y), errno);
        if (x.st_mode != y.st_mode || x.st_mtim.tv_nsec != y.st_mtim.tv_nsec)
                print_error("%s and %s differ\n", a, b);
        assert_int_equal(x.st_mode, y.st_mode);
        assert_int_equal(x.st_uid, y.st_uid);
        assert_int_equal(x.st_gid, y.st_gid);
        assert_int_equal(x.st_mtim.tv_sec, y.st_mtim.tv_sec);
        assert_int_equal(x.st_mtim.tv_nsec, y.st_mtim.tv_nsec);
        assert_same_xattrs(a, b);

        if (S_ISREG(x.st_mode)) {
                assert_int_equal(x.st_size, y.st_size);
                assert_int_equal(x.st_nlink, y.st_nlink);
                assert_true(y.st_blocks <= x.st_blocks + 16);
                assert_same_content(a, b);
        } else if (S_ISLNK(x.st_mode)) {
                ssize_t n = readlink(a, target_a, sizeof(target_a));

                assert_int_equal(readlink(b, target_b, sizeof(target_b)), n);
                assert_memory_equal(target_a, target_b, n);
        } else if (S_ISDIR(x.st_mode)) {
                assert_int_equal(count_names(a), count_names(b));
                d = opendir(a);
                assert_non_null(d);
                for (struct dirent *de; (de = readdir(d));) {
                        if (streq(de->d_name, ".") || streq(de->d_name, ".."))
                                continue;
                        (void) snprintf(path_a, sizeof(path_a), "%s/%s", a, de->d_name);
                        (void) snprintf(path_b, sizeof(path_b), "%s/%s", b, de->d_name);
                        assert_same_tree(path_a, path_b);
                }
                closedir(d);
        }
}

static inline void assert_same(Fixture *f, const char *a, const char *b) {
        char path_a[PATH_MAX], path_b[PATH_MAX];

        (void) snprintf(path_a, sizeof(path_a), "%s/%s", f->dir, a);
        (void) snprintf(path_b, sizeof(path_b), "%s/%s", f->dir, b);
        assert_same_tree(path_a, path_b);
}

/* --- differences collected as "path: what" lines --- */

static inline void collect(const char *path, unsigned differences, void *userdata) {
        char text[TREE_DIFFERENCE_TEXT_MAX];
        char *lines = userdata;

        (void) snprintf(lines + strlen(lines), 4096 - strlen(lines), "%s: %s\n", path,
                        tree_difference_text(text, differences));
}

static inline void assert_differences(Fixture *f, const TreeRules *rules, const char *expected) {
        char lines[4096] = "";
        int r = tree_compare(f->manifest, f->live, rules, NULL, collect, lines, &f->error);

        if (r < 0)
                print_error("%s\n", error_text(&f->error, r));
        assert_string_equal(lines, expected);
        assert_int_equal(r, *expected ? 1 : 0);
}
