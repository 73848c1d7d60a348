/* SPDX-License-Identifier: Apache-2.0 */

#include "test-archive-tree.h"

#include <archive.h>
#include <archive_entry.h>

#include "archive/tarball.h"

static const TarballOptions options = { .level = 3, .n_threads = 2 };

static TarballTree tree_of(Fixture *f) {
        return (TarballTree){ .name = "etc", .manifest = f->manifest, .dir_fd = f->backup };
}

static void pack(Fixture *f, char sha256[static SHA256_HEX_SIZE]) {
        TarballTree t = tree_of(f);

        assert_done(f, tarball_write(&t, 1, &options, f->dir_fd, "tar.zst", NULL, sha256, &f->error));
}

/* As tarball_read(), of the file of that name; into the directory "out", or not at all. */
static int unpack(Fixture *f, const char *name, const char *sha256, bool extract) {
        _cleanup_close_ int fd = openat(f->dir_fd, name, O_RDONLY | O_CLOEXEC), out = -1;
        TarballTree t = tree_of(f);

        assert_true(fd >= 0);
        if (extract) {
                assert_true(mkdirat(f->dir_fd, "out", 0700) >= 0 || errno == EEXIST);
                t.dir_fd = out = open_dir(f->dir_fd, "out");
        }
        error_done(&f->error);
        return tarball_read(fd, &t, 1, sha256, extract, NULL, &f->error);
}

static void assert_damaged(Fixture *f, int r, const char *why) {
        assert_int_equal(r, -EBADMSG);
        if (!strstr(f->error.message, why))
                print_error("\"%s\" is not in: %s\n", why, f->error.message);
        assert_non_null(strstr(f->error.message, why));
}

static void everything_comes_back(void **state) {
        Fixture *f = *state;
        char sha256[SHA256_HEX_SIZE];

        put_tree(f->live);
        back_up(f);
        for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
                TarballTree t = tree_of(f);

                assert_done(f,
                                tarball_write(&t, 1, &(TarballOptions){ .level = 3, .n_threads = n_threads },
                                                f->dir_fd, "tar.zst", NULL, sha256, &f->error));
                assert_done(f, unpack(f, "tar.zst", sha256, false));
                assert_done(f, unpack(f, "tar.zst", NULL, true));
                assert_same(f, "live", "out");
                assert_done(f, tree_remove(f->dir_fd, "out", &f->error));
        }
}

static void gnu_tar_reads_it(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *command = NULL;
        char sha256[SHA256_HEX_SIZE];

        put_tree(f->live);
        put_file(f->live, "grün", "UTF-8");
        put_time(f->live, "no-mode", -86400, 0); /* see tarball.h */
        put_time(f->live, ".", 1300000000, 42);
        back_up(f);
        pack(f, sha256);
        assert_return_code(mkdirat(f->dir_fd, "out", 0700), errno);
        assert_true(asprintf(&command,
                                    "tar --zstd --acls --xattrs --xattrs-include='*' --numeric-owner -xpf %s/tar.zst -C %s/out",
                                    f->dir, f->dir) > 0);
        assert_int_equal(system(command), 0);
        assert_same(f, "live", "out/etc");
}

static void several_trees_are_one_archive(void **state) {
        Fixture *f = *state;
        TarballTree trees[2] = { tree_of(f), tree_of(f) };
        _cleanup_close_ int fd = -1;
        char sha256[SHA256_HEX_SIZE];

        put_file(f->live, "a", "one");
        back_up(f);
        trees[0].manifest = trees[1].manifest = f->manifest;
        trees[1].name = "data";
        assert_done(f, tarball_write(trees, 2, &options, f->dir_fd, "tar.zst", NULL, sha256, &f->error));
        fd = openat(f->dir_fd, "tar.zst", O_RDONLY | O_CLOEXEC);
        assert_done(f, tarball_read(fd, trees, 2, sha256, false, NULL, &f->error));
        assert_return_code(lseek(fd, 0, SEEK_SET), errno);
        assert_damaged(f, tarball_read(fd, trees, 1, sha256, false, NULL, &f->error), "does not have it");
}

/* Of a few files, so that every byte of the archive can be flipped. */
static void every_flipped_byte_is_found(void **state) {
        Fixture *f = *state;
        _cleanup_close_ int fd = -1;
        char sha256[SHA256_HEX_SIZE], byte;
        struct stat st;

        put_file(f->live, "a", "one");
        put_file(f->live, "b", "two");
        back_up(f);
        pack(f, sha256);
        fd = openat(f->dir_fd, "tar.zst", O_RDWR | O_CLOEXEC);
        assert_return_code(fstat(fd, &st), errno);
        assert_true(st.st_size > 100);
        for (off_t i = 0; i < st.st_size; i++) {
                assert_int_equal(pread(fd, &byte, 1, i), 1);
                byte ^= 0x10;
                assert_int_equal(pwrite(fd, &byte, 1, i), 1);
                assert_int_equal(unpack(f, "tar.zst", sha256, false), -EBADMSG);
                byte ^= 0x10;
                assert_int_equal(pwrite(fd, &byte, 1, i), 1);
        }
        for (off_t i = st.st_size - 1; i >= 0; i -= 7) {
                assert_return_code(ftruncate(fd, i), errno);
                assert_int_equal(unpack(f, "tar.zst", sha256, false), -EBADMSG);
        }
}

static void damaged_tree_is_noticed(void **state) {
        Fixture *f = *state;
        TarballTree t;
        char sha256[SHA256_HEX_SIZE];

        put_file(f->live, "a", "one");
        back_up(f);
        put_file(f->backup, "a", "eno");
        pack(f, sha256);
        assert_damaged(f, unpack(f, "tar.zst", sha256, false), "etc/a: is not what the manifest says: content");

        put_file(f->backup, "a", "longer");
        t = tree_of(f);
        assert_damaged(f, tarball_write(&t, 1, &options, f->dir_fd, "tar.zst", NULL, sha256, &f->error), "a: is not");
        error_done(&f->error);
        put_file(f->backup, "a", "one");
        put_file(f->backup, "more", "");
        assert_damaged(f, tarball_write(&t, 1, &options, f->dir_fd, "tar.zst", NULL, sha256, &f->error),
                        "more: is not");
        assert_int_equal(faccessat(f->dir_fd, "tar.zst", F_OK, 0), -1);
}

static void full_disk_is_an_error_and_leaves_no_archive(void **state) {
        Fixture *f = *state;
        _cleanup_close_ int small = -1, random = open("/dev/urandom", O_RDONLY | O_CLOEXEC), file = -1, fd = -1;
        _cleanup_free_ char *noise = malloc(1 << 20);
        TarballTree t;
        char sha256[SHA256_HEX_SIZE];

        assert_int_equal(read(random, noise, 1 << 20), 1 << 20);
        file = openat(f->live, "noise", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(file, noise, 1 << 20), 1 << 20);
        back_up(f);
        pack(f, sha256);
        mount_at(f, "small", "tmpfs", "size=512k");
        small = open(f->mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        t = tree_of(f);
        assert_int_equal(tarball_write(&t, 1, &options, small, "tar.zst", NULL, sha256, &f->error), -ENOSPC);
        assert_int_equal(faccessat(small, "tar.zst", F_OK, 0), -1);

        fd = openat(f->dir_fd, "tar.zst", O_RDONLY | O_CLOEXEC);
        t.dir_fd = small;
        error_done(&f->error);
        assert_int_equal(tarball_read(fd, &t, 1, NULL, true, NULL, &f->error), -ENOSPC);
}

/* --- what nobody of ours has written --- */

typedef struct Hostile {
        const char *name;
        int type;
        const char *link; /* of a symlink; a hard link where type is 0 */
} Hostile;

static void put_archive(Fixture *f, const Hostile *entries, size_t n) {
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        _cleanup_close_ int fd = openat(f->dir_fd, "hostile", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        struct stat st;

        assert_int_equal(archive_write_add_filter_zstd(a), ARCHIVE_OK);
        assert_int_equal(archive_write_set_format_pax(a), ARCHIVE_OK);
        assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
        assert_return_code(fstat(f->backup, &st), errno);
        for (size_t i = 0; i < n; i++) {
                const ManifestEntry *m = manifest_at(f->manifest, i);

                archive_entry_clear(e);
                archive_entry_set_pathname(e, entries[i].name);
                archive_entry_set_filetype(e, entries[i].type ? (unsigned) entries[i].type : AE_IFREG);
                if (entries[i].type == AE_IFLNK)
                        archive_entry_set_symlink(e, entries[i].link);
                else if (entries[i].link)
                        archive_entry_set_hardlink(e, entries[i].link);
                if (m) { /* all else is as it should be */
                        archive_entry_set_perm(e, m->mode & 07777);
                        archive_entry_set_uid(e, m->uid);
                        archive_entry_set_gid(e, m->gid);
                        archive_entry_set_uname(e, m->uname);
                        archive_entry_set_gname(e, m->gname);
                        archive_entry_set_mtime(e, m->mtime.tv_sec, m->mtime.tv_nsec);
                }
                archive_entry_set_size(e, entries[i].type == AE_IFREG ? 3 : 0);
                assert_true(archive_write_header(a, e) >= ARCHIVE_WARN);
                if (entries[i].type == AE_IFREG)
                        assert_int_equal(archive_write_data(a, "one", 3), 3);
        }
        archive_entry_free(e);
        assert_int_equal(archive_write_close(a), ARCHIVE_OK);
        (void) archive_write_free(a);
}

/* The tree is ".", "d", "d/a". Each archive is refused at its first wrong entry, and nothing is made of that. */
static void hostile_archives_are_refused(void **state) {
        static const Hostile archives[][4] = {
                { { "etc/", AE_IFDIR, NULL }, { "/etc/d", AE_IFDIR, NULL }, { "etc/d/a", AE_IFREG, NULL } },
                { { "etc/", AE_IFDIR, NULL }, { "etc/../d", AE_IFDIR, NULL }, { "etc/d/a", AE_IFREG, NULL } },
                { { "etc/", AE_IFDIR, NULL }, { "etc/d/", AE_IFDIR, NULL }, { "etc/d/../../a", AE_IFREG, NULL } },
                { { "etc/", AE_IFDIR, NULL }, { "etc/d", AE_IFLNK, "../outside" }, { "etc/d/a", AE_IFREG, NULL } },
                { { "etc", AE_IFLNK, "outside" }, { "etc/d/", AE_IFDIR, NULL }, { "etc/d/a", AE_IFREG, NULL } },
                { { "etc/", AE_IFDIR, NULL }, { "etc/d/", AE_IFDIR, NULL }, { "etc/d/a", 0, "../outside/secret" } },
                { { "etc/", AE_IFDIR, NULL }, { "etc/d/", AE_IFDIR, NULL }, { "etc/d/a", AE_IFBLK, NULL } },
                { { "etc/", AE_IFDIR, NULL }, { "etc/d/", AE_IFDIR, NULL }, { "etc/d/b", AE_IFREG, NULL } },
                { { "etc/", AE_IFDIR, NULL }, { "etc/d/", AE_IFDIR, NULL }, { "etc/d/a", AE_IFREG, NULL },
                                { "etc/d/a", AE_IFREG, NULL } },
                { { "data/", AE_IFDIR, NULL }, { "etc/d/", AE_IFDIR, NULL }, { "etc/d/a", AE_IFREG, NULL } },
        };
        static const Hostile good[] = { { "etc/", AE_IFDIR, NULL }, { "etc/d/", AE_IFDIR, NULL },
                { "etc/d/a", AE_IFREG, NULL } };
        Fixture *f = *state;
        struct stat st;

        assert_return_code(mkdirat(f->live, "d", 0755), errno);
        put_file(f->live, "d/a", "one");
        assert_return_code(mkdirat(f->dir_fd, "outside", 0700), errno);
        back_up(f);
        put_archive(f, good, ELEMENTSOF(good));
        assert_done(f, unpack(f, "hostile", NULL, false)); /* so that the others are refused for what they say */

        for (size_t i = 0; i < ELEMENTSOF(archives); i++) {
                size_t n = archives[i][3].name ? 4 : 3;
                _cleanup_close_ int out = -1;

                put_archive(f, archives[i], n);
                if (unpack(f, "hostile", NULL, false) != -EBADMSG)
                        print_error("hostile archive %zu\n", i);
                assert_int_equal(unpack(f, "hostile", NULL, true), -EBADMSG);
                out = open_dir(f->dir_fd, "out");
                assert_int_equal(tree_empty(out, NULL), 0);
                assert_int_equal(faccessat(f->dir_fd, "outside/a", F_OK, 0), -1);
                assert_int_equal(faccessat(f->dir_fd, "a", F_OK, 0), -1);
                assert_int_equal(fstatat(f->dir_fd, "out/d", &st, AT_SYMLINK_NOFOLLOW), -1);
        }
}

static void what_is_no_archive_is_refused(void **state) {
        Fixture *f = *state;

        put_file(f->live, "a", "one");
        back_up(f);
        put_file(f->dir_fd, "empty", "");
        assert_int_equal(unpack(f, "empty", NULL, true), -EBADMSG);
        put_file(f->dir_fd, "text", "this is no archive, whatever its name is");
        assert_int_equal(unpack(f, "text", NULL, true), -EBADMSG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(everything_comes_back),
                TEST(gnu_tar_reads_it),
                TEST(several_trees_are_one_archive),
                TEST(every_flipped_byte_is_found),
                TEST(damaged_tree_is_noticed),
                TEST(full_disk_is_an_error_and_leaves_no_archive),
                TEST(hostile_archives_are_refused),
                TEST(what_is_no_archive_is_refused),
        };

        return cmocka_run_group_tests(tests, own_mounts, NULL);
}
