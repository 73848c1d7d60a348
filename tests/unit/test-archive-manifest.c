/* SPDX-License-Identifier: Apache-2.0 */

#include "test-archive-tree.h"

#include <archive.h>
#include <archive_entry.h>

#include "base/fileio.h"

static void write_and_load(Fixture *f, Manifest **ret) {
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "manifest", &f->error));
        assert_done(f, manifest_load_at(f->dir_fd, "manifest", ret, &f->error));
}

static void assert_same_entry(const ManifestEntry *a, const ManifestEntry *b) {
        assert_string_equal(a->path, b->path);
        assert_int_equal(a->mode, b->mode);
        assert_int_equal(a->uid, b->uid);
        assert_int_equal(a->gid, b->gid);
        assert_true(streq_ptr(a->uname, b->uname));
        assert_true(streq_ptr(a->gname, b->gname));
        assert_int_equal(a->mtime.tv_sec, b->mtime.tv_sec);
        assert_int_equal(a->mtime.tv_nsec, b->mtime.tv_nsec);
        assert_true(streq_ptr(a->target, b->target));
        assert_int_equal(a->size_bytes, b->size_bytes);
        assert_int_equal(a->n_links, b->n_links);
        assert_string_equal(a->sha256, b->sha256);
        assert_true(streq_ptr(a->link_to ? a->link_to->path : NULL, b->link_to ? b->link_to->path : NULL));
        assert_int_equal(a->link_group, b->link_group);
        assert_int_equal(a->n_xattrs, b->n_xattrs);
        for (size_t i = 0; i < a->n_xattrs; i++) {
                assert_string_equal(a->xattrs[i].name, b->xattrs[i].name);
                assert_int_equal(a->xattrs[i].size_bytes, b->xattrs[i].size_bytes);
                assert_memory_equal(a->xattrs[i].value, b->xattrs[i].value, a->xattrs[i].size_bytes);
        }
}

static void what_is_written_is_loaded_again(void **state) {
        _cleanup_(manifest_reader_freep) ManifestReader *reader = NULL, *loaded_reader = NULL;
        _cleanup_(manifest_freep) Manifest *loaded = NULL;
        const ManifestEntry *e, *l;
        Fixture *f = *state;
        size_t n = 0;

        put_tree(f->live);
        back_up(f);
        write_and_load(f, &loaded);
        assert_true(manifest_n_entries(loaded) > 20);
        assert_int_equal(manifest_n_entries(loaded), manifest_n_entries(f->manifest));
        assert_int_equal(manifest_n_bytes(loaded), manifest_n_bytes(f->manifest));
        assert_int_equal(manifest_n_link_groups(loaded), 1);
        assert_int_equal(manifest_n_link_groups(f->manifest), 1);
        assert_int_equal(manifest_reader_new(f->manifest, &reader), 0);
        assert_int_equal(manifest_reader_new(loaded, &loaded_reader), 0);
        for (; manifest_read(reader, &e) > 0; n++) {
                assert_int_equal(manifest_read(loaded_reader, &l), 1);
                assert_same_entry(e, l);
        }
        assert_int_equal(n, manifest_n_entries(loaded));
        assert_int_equal(manifest_read(loaded_reader, &l), 0);
        assert_null(l);
}

static void it_is_written_as_often_as_asked_for(void **state) {
        _cleanup_free_ char *first = NULL, *second = NULL;
        _cleanup_(manifest_freep) Manifest *loaded = NULL;
        Fixture *f = *state;
        size_t n, m;

        put_tree(f->live);
        back_up(f);
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "manifest", &f->error));
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "again", &f->error));
        assert_return_code(unlinkat(f->dir_fd, "manifest", 0), errno);
        write_and_load(f, &loaded);
        assert_done(f, manifest_write_at(loaded, f->dir_fd, "manifest", &f->error)); /* in its own place */
        assert_int_equal(read_file_at(f->dir_fd, "manifest", SIZE_MAX / 2, &first, &n), 0);
        assert_int_equal(read_file_at(f->dir_fd, "again", SIZE_MAX / 2, &second, &m), 0);
        assert_int_equal(n, m);
        assert_memory_equal(first, second, n);
        assert_int_equal(faccessat(f->dir_fd, ".manifest.tmp", F_OK, 0), -1);
}

/* As tree_backup() does with what changes while a node serves. */
static void what_is_taken_back_is_not_written(void **state) {
        static const struct {
                const char *path;
                bool taken_back;
        } paths[] = { { ".", false }, { "a", false }, { "d", false }, { "d/gone", true }, { "d/x", false },
                { "d/y", true }, { "d/z", true }, { "e", false }, { "f", true } };
        _cleanup_(manifest_freep) Manifest *m = NULL;
        const char *why;
        ManifestEntry *e;
        Fixture *f = *state;
        size_t n = 0;

        assert_int_equal(manifest_new(f->dir_fd, &m), 0);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                assert_int_equal(manifest_add(m, paths[i].path, &e, &why), 0);
                e->mode = streq(paths[i].path, ".") || streq(paths[i].path, "d") ? S_IFDIR | 0700 : S_IFIFO;
                if (paths[i].taken_back)
                        manifest_take_back(m);
        }
        assert_int_equal(manifest_seal(m), 0);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++)
                if (!paths[i].taken_back)
                        assert_string_equal(manifest_at(m, n++)->path, paths[i].path);
        assert_int_equal(manifest_n_entries(m), n);
        f->manifest = TAKE_PTR(m);
        write_and_load(f, &m);
        assert_int_equal(manifest_n_entries(m), n);
}

static void entries_say_what_was_there(void **state) {
        Fixture *f = *state;
        const ManifestEntry *e;

        put_tree(f->live);
        back_up(f);

        e = manifest_find(f->manifest, "acl.conf");
        assert_non_null(e);
        assert_string_equal(e->uname, "nobody");
        assert_null(e->gname);
        assert_int_equal(e->gid, 4321);
        assert_int_equal(e->n_xattrs, 4);
        assert_int_equal(e->size_bytes, 14);
        /* printf '{allow, all}.\n' | sha256sum */
        assert_string_equal(e->sha256, "393883899bf53274ffa300c3a35342463e0f272634477977f42bae949402f5f9");

        e = manifest_find(f->manifest, "mnesia/twin");
        assert_string_equal(e->link_to->path, "a-twin");
        assert_int_equal(e->n_links, 3);
        assert_true(S_ISFIFO(manifest_find(f->manifest, "mnesia/pipe")->mode));
        assert_true(S_ISSOCK(manifest_find(f->manifest, "mnesia/socket")->mode));
        assert_string_equal(manifest_find(f->manifest, "dangling")->target, "/nonexistent/\n");
        assert_non_null(manifest_find(f->manifest, "."));
        assert_null(manifest_find(f->manifest, "mnesia/none"));
        assert_null(manifest_find(f->manifest, ""));
}

static void libarchive_reads_it_as_mtree(void **state) {
        struct archive *a = archive_read_new();
        struct archive_entry *ae;
        Fixture *f = *state;
        char path[PATH_MAX];
        size_t n = 0;
        int r;

        put_tree(f->live);
        back_up(f);
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "manifest", &f->error));

        (void) snprintf(path, sizeof(path), "%s/manifest", f->dir);
        archive_read_support_format_mtree(a);
        /* checkfs: what stands on disk beside the manifest is not to be mixed in */
        assert_int_equal(archive_read_set_options(a, "mtree:!checkfs"), ARCHIVE_OK);
        assert_int_equal(archive_read_open_filename(a, path, 65536), ARCHIVE_OK);
        while ((r = archive_read_next_header(a, &ae)) != ARCHIVE_EOF) {
                const char *name = archive_entry_pathname(ae);
                const ManifestEntry *e = manifest_find(f->manifest, startswith(name, "./") ?: name);

                assert_true(r == ARCHIVE_OK || r == ARCHIVE_WARN); /* a warning for the keywords of our own */
                assert_non_null(e);
                n++;
                if (S_ISSOCK(e->mode)) /* which libarchive 3.6 reads as a file */
                        continue;
                assert_int_equal(archive_entry_filetype(ae), e->mode & S_IFMT);
                if (S_ISFIFO(e->mode))
                        continue;
                assert_int_equal(archive_entry_perm(ae), e->mode & 07777);
                assert_int_equal(archive_entry_uid(ae), e->uid);
                assert_int_equal(archive_entry_mtime(ae), e->mtime.tv_sec);
                assert_int_equal(archive_entry_mtime_nsec(ae), e->mtime.tv_nsec);
                if (S_ISREG(e->mode))
                        assert_int_equal(archive_entry_size(ae), e->size_bytes);
        }
        archive_read_free(a);
        assert_int_equal(n, manifest_n_entries(f->manifest));
}

static void order_puts_children_behind_their_parent(void **state) {
        static const char *const sorted[] = { ".", "a", "a/\x01", "a/b", "a\x01", "a.b", "aa", "b", "\xff" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(sorted); i++)
                for (size_t j = 0; j < ELEMENTSOF(sorted); j++) {
                        int order = manifest_path_compare(sorted[i], sorted[j]);

                        assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
                }
}

static void a_truncated_or_changed_file_is_refused(void **state) {
        _cleanup_free_ char *text = NULL;
        Manifest *none = NULL;
        Fixture *f = *state;
        size_t size;

        put_file(f->live, "a", "content");
        assert_return_code(symlinkat("a", f->live, "b"), errno);
        back_up(f);
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "manifest", &f->error));
        assert_int_equal(read_file_at(f->dir_fd, "manifest", SIZE_MAX / 2, &text, &size), 0);

        for (size_t n = 0; n < size; n++) {
                assert_int_equal(replace_volatile_file_at(f->dir_fd, "cut", text, n, 0600), 0);
                assert_int_equal(manifest_load_at(f->dir_fd, "cut", &none, NULL), -EBADMSG);
        }
        for (size_t i = 0; i < size; i++) {
                text[i] ^= 1;
                assert_int_equal(replace_volatile_file_at(f->dir_fd, "flip", text, size, 0600), 0);
                assert_int_equal(manifest_load_at(f->dir_fd, "flip", &none, NULL), -EBADMSG);
                text[i] ^= 1;
        }
        assert_null(none);

        assert_int_equal(manifest_load_at(f->dir_fd, "cut", &none, &f->error), -EBADMSG);
        assert_non_null(startswith(f->error.message, "cut:"));
        assert_non_null(f->error.advice);
        assert_int_equal(manifest_load_at(f->dir_fd, "none", &none, NULL), -ENOENT);
}

/* A disk may give back something else the second time: what is missing in a manifest must not look like too much in live. */
static void what_changes_after_it_was_loaded_ends_the_work(void **state) {
        Fixture *f = *state;
        int fd;

        put_tree(f->live);
        back_up(f);
        assert_done(f, manifest_write_at(f->manifest, f->dir_fd, "manifest", &f->error));
        f->manifest = manifest_free(f->manifest);
        assert_done(f, manifest_load_at(f->dir_fd, "manifest", &f->manifest, &f->error));
        fd = openat(f->dir_fd, "manifest", O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (off_t size = lseek(fd, 0, SEEK_END) - 256; size >= 0; size -= 97) {
                _cleanup_(error_done) Error e = ERROR_NULL;

                assert_return_code(ftruncate(fd, size), errno);
                assert_int_equal(tree_restore(f->manifest, f->backup, f->live, &(TreeRules){ .exact = true }, NULL,
                                                 NULL, &e),
                                -EBADMSG);
                assert_non_null(strstr(e.message, "manifest"));
        }
        close(fd);
        assert_same(f, "backup", "live");
}

/* What someone who can compute a seal might write. */
static void hostile_lines_are_refused_with_their_number(void **state) {
#define META " uid=0 gid=0 mode=0644 time=0.000000000"
#define SHA " sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DIR_LINE ". type=dir" META "\n"
#define LINKED_LINE(path) path " type=file" META " size=0 nlink=2" SHA "\n"
#define FILE_LINE(path) path " type=file" META " size=0 nlink=1" SHA "\n"
        static const struct {
                const char *text;
                unsigned line;
                const char *why;
        } hostile[] = {
                { "#mtree\n" DIR_LINE FILE_LINE("./ok"), 0, NULL }, /* what the others vary */
                { DIR_LINE, 1, "no mtree" },
                { "#mtree\n", 2, "numbers" },
                { "#mtree\n" FILE_LINE("./ok"), 2, "missing" },
                { "#mtree\n" FILE_LINE("."), 2, "no directory" },
                { "#mtree\n" DIR_LINE FILE_LINE("/etc/passwd"), 3, "relative" },
                { "#mtree\n" DIR_LINE FILE_LINE(".//etc/passwd"), 3, "absolute" },
                { "#mtree\n" DIR_LINE FILE_LINE("./.."), 3, "\"..\"" },
                { "#mtree\n" DIR_LINE FILE_LINE("./\\056\\056"), 3, "\"..\"" },
                { "#mtree\n" DIR_LINE "./a type=dir" META "\n" FILE_LINE("./a/../../x"), 4, "\"..\"" },
                { "#mtree\n" DIR_LINE "./a type=dir" META "\n" FILE_LINE("./a/./x"), 4, "\"..\"" },
                { "#mtree\n" DIR_LINE "./a type=dir" META "\n" FILE_LINE("./a//x"), 4, "empty" },
                { "#mtree\n" DIR_LINE "./a type=dir" META "\n" FILE_LINE("./a/"), 4, "empty" },
                { "#mtree\n" DIR_LINE FILE_LINE("./a\\000b"), 3, "relative" },
                { "#mtree\n" DIR_LINE FILE_LINE("./a\\09b"), 3, "relative" },
                { "#mtree\n" DIR_LINE FILE_LINE("./a\tb"), 3, "relative" },
                { "#mtree\n" DIR_LINE FILE_LINE("./" NAME_255 "x"), 3, "too long" },
                { "#mtree\n" DIR_LINE FILE_LINE("./a") FILE_LINE("./a"), 4, "duplicate" },
                { "#mtree\n" DIR_LINE DIR_LINE, 3, "duplicate" },
                { "#mtree\n" DIR_LINE FILE_LINE("./b") FILE_LINE("./a"), 4, "order" },
                { "#mtree\n" DIR_LINE FILE_LINE("./a/b"), 3, "directory is missing" },
                { "#mtree\n" DIR_LINE FILE_LINE("./a") FILE_LINE("./a/b"), 4, "no directory" },
                { "#mtree\n" DIR_LINE "./a type=link link=/etc" META "\n" FILE_LINE("./a/b"), 4, "no directory" },
                { "#mtree\n" DIR_LINE "./a type=char" META "\n", 3, "type" },
                { "#mtree\n" DIR_LINE "./a type=dir" META " size=1\n", 3, "does not go" },
                { "#mtree\n" DIR_LINE "./a type=fifo mode=0644\n", 3, "does not go" },
                { "#mtree\n" DIR_LINE "./a type=fifo xattr.user.x=\n", 3, "attributes" },
                { "#mtree\n" DIR_LINE "./a type=file" META "\n", 3, "missing" },
                { "#mtree\n" DIR_LINE "./a type=link" META "\n", 3, "missing" },
                { "#mtree\n" DIR_LINE "./a type=link link=" META "\n", 3, "link" },
                { "#mtree\n" DIR_LINE "./a type=dir type=dir" META "\n", 3, "type" },
                { "#mtree\n" DIR_LINE "./a type=dir optional" META "\n", 3, "optional" },
                { "#mtree\n" DIR_LINE "./a type=dir flags=none" META "\n", 3, "flags" },
                { "#mtree\n" DIR_LINE "./a  type=dir" META "\n", 3, "keyword" },
                { "#mtree\n\n" DIR_LINE, 2, "relative" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=-1 gid=0 mode=0 time=0.000000000\n", 3, "uid" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=4294967295 gid=0 mode=0 time=0.000000000\n", 3, "uid" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=0 gid=99999999999999999999 mode=0 time=0.000000000\n", 3,
                                "gid" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=0 gid=0 mode=010000 time=0.000000000\n", 3, "mode" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=0 gid=0 mode=8 time=0.000000000\n", 3, "mode" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=0 gid=0 mode=0 time=0\n", 3, "time" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=0 gid=0 mode=0 time=0.5\n", 3, "time" },
                { "#mtree\n" DIR_LINE "./a type=dir uid=0 gid=0 mode=0 time=--1.000000000\n", 3, "time" },
                { "#mtree\n" DIR_LINE "./a type=dir" META " xattr.user.x=QQ\n", 3, "xattr" },
                { "#mtree\n" DIR_LINE "./a type=dir" META " xattr.user.x=====\n", 3, "xattr" },
                { "#mtree\n" DIR_LINE "./a type=dir" META " xattr.user.x=Q*Q=\n", 3, "xattr" },
                { "#mtree\n" DIR_LINE "./a type=dir" META " xattr.x=QQ==\n", 3, "xattr" },
                { "#mtree\n" DIR_LINE "./a type=dir" META " xattr.user.x=QQ== xattr.user.x=QQ==\n", 3, "xattr" },
                { "#mtree\n" DIR_LINE "./a type=file" META " size=0 nlink=2" SHA " hardlink=./a\n", 3, "hardlink" },
                { "#mtree\n" DIR_LINE "./a type=file" META " size=0 nlink=2" SHA " hardlink=./z\n", 3, "hardlink" },
                { "#mtree\n" DIR_LINE "./a type=file" META " size=0 nlink=2" SHA " hardlink=/etc/x\n", 3, "hardlink" },
                { "#mtree\n" DIR_LINE FILE_LINE("./a") "./b type=file" META " size=0 nlink=2" SHA " hardlink=./a\n", 4,
                                "hardlink" }, /* of which there is but one */
                { "#mtree\n" DIR_LINE LINKED_LINE("./a") "./b type=file" META " size=0 nlink=2" SHA " hardlink=./a\n",
                                0, NULL },
                { "#mtree\n" DIR_LINE LINKED_LINE("./a") "./b type=file" META " size=1 nlink=2" SHA " hardlink=./a\n",
                                4, "same file" },
                { "#mtree\n" DIR_LINE LINKED_LINE("./a") "./b type=file" META " size=0 nlink=1" SHA " hardlink=./a\n",
                                4, "same file" },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(hostile); i++) {
                _cleanup_(sha256_freep) Sha256 *h = NULL;
                _cleanup_(error_done) Error e = ERROR_NULL;
                _cleanup_free_ char *text = NULL, *where = NULL;
                Manifest *m = NULL;
                char sha256[SHA256_HEX_SIZE];
                size_t n = 0;
                int r;

                for (const char *p = hostile[i].text; (p = strchr(p, '\n')); p++)
                        n++;
                assert_int_equal(sha256_new(&h), 0);
                assert_int_equal(sha256_add(h, hostile[i].text, strlen(hostile[i].text)), 0);
                assert_int_equal(sha256_finish(h, sha256), 0);
                assert_true(asprintf(&text, "%s# sealed: %zu entries, 0 bytes, sha256 %s\n", hostile[i].text, n - 1,
                                            sha256) > 0);
                put_file(f->dir_fd, "hostile", text);

                r = manifest_load_at(f->dir_fd, "hostile", &m, &e);
                manifest_free(m);
                if (!hostile[i].why) {
                        assert_int_equal(r, 0);
                        continue;
                }
                assert_true(asprintf(&where, "hostile:%u: ", hostile[i].line) > 0);
                if (r != -EBADMSG || !startswith(e.message, where) || !strstr(e.message, hostile[i].why))
                        print_error("%zu: %s: %s\n", i, hostile[i].text, error_text(&e, r));
                assert_int_equal(r, -EBADMSG);
                assert_non_null(startswith(e.message, where));
                assert_non_null(strstr(e.message, hostile[i].why));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_written_is_loaded_again, set_up, tear_down),
                cmocka_unit_test_setup_teardown(it_is_written_as_often_as_asked_for, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_taken_back_is_not_written, set_up, tear_down),
                cmocka_unit_test_setup_teardown(entries_say_what_was_there, set_up, tear_down),
                cmocka_unit_test_setup_teardown(libarchive_reads_it_as_mtree, set_up, tear_down),
                cmocka_unit_test(order_puts_children_behind_their_parent),
                cmocka_unit_test_setup_teardown(a_truncated_or_changed_file_is_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_changes_after_it_was_loaded_ends_the_work, set_up, tear_down),
                cmocka_unit_test_setup_teardown(hostile_lines_are_refused_with_their_number, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
