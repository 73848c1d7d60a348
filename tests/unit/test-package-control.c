/* SPDX-License-Identifier: Apache-2.0 */

/* Real .deb files, made by dpkg-deb, whole and broken. */

#include "tests/unit/test-util.h"

#include "base/fileio.h"
#include "base/process.h"
#include "package/control.h"
#include "package/deb-file.h"
#include "package/store.h"

typedef struct Fixture {
        char *dir;
        Error error;
} Fixture;

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));

        f->dir = make_tmpdir();
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        error_done(&f->error);
        remove_tmpdir(f->dir);
        free(f);
        return 0;
}

static void shell(Fixture *f, const char *script) {
        assert_int_equal(process_run(STRV_MAKE("sh", "-euc", script), &(ProcessOptions){ .directory = f->dir }, NULL),
                        0);
}

/* FILE, package, version, architecture, compression; its .sha256 beside it. */
static void make_deb(Fixture *f, const char *file, const char *name, const char *version, const char *arch,
                const char *compression) {
        _cleanup_free_ char *script = NULL;

        assert_true(asprintf(&script,
                                    "mkdir -p build/DEBIAN build/usr/share/x\n"
                                    "head -c 300000 /dev/urandom | base64 >build/usr/share/x/data\n"
                                    "printf 'Package: %s\\nVersion: %s\\nArchitecture: %s\\n"
                                    "Maintainer: T <t@example.org>\\n"
                                    "Installed-Size: 12\\nDescription: test\\n more\\n' >build/DEBIAN/control\n"
                                    "dpkg-deb --root-owner-group -Z%s --build build '%s'\n"
                                    "sha256sum '%s' >'%s.sha256'\nrm -r build",
                                    name, version, arch, compression, file, file, file) > 0);
        shell(f, script);
}

static char *path_of(Fixture *f, const char *file) {
        char *path;

        assert_true(asprintf(&path, "%s/%s", f->dir, file) > 0);
        return path;
}

static const char *const compressions[] = { "none", "gzip", "xz", "zstd" };

/* What dpkg-deb makes, zstd since 1.21. */
static size_t compressions_here(void) {
        bool zstd = process_run(STRV_MAKE("dpkg-deb", "-Zzstd", "--version"), NULL, NULL) == 0;

        return ELEMENTSOF(compressions) - !zstd;
}

static void metadata_comes_from_the_file(void **state) {
        Fixture *f = *state;

        for (size_t i = 0; i < compressions_here(); i++) {
                _cleanup_(package_freep) Package *p = NULL;
                _cleanup_free_ char *path = path_of(f, "misleading-9.9.9.deb");

                make_deb(f, "misleading-9.9.9.deb", "emqx", "4.4.0", "amd64", compressions[i]);
                assert_int_equal(deb_file_read(path, &p, &f->error), 0);
                assert_string_equal(p->name, "emqx");
                assert_string_equal(p->version, "4.4.0");
                assert_string_equal(p->arch, "amd64");
                assert_true(p->installed_bytes == 12 * 1024);
                assert_int_equal(deb_file_verify(path, &f->error), 0);
        }
}

static void truncated_package_is_found_anywhere(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = path_of(f, "a.deb");

        for (size_t i = 0; i < compressions_here(); i++) {
                struct stat st;

                make_deb(f, "a.deb", "emqx", "4.4.0", "amd64", compressions[i]);
                assert_int_equal(stat(path, &st), 0);
                /* Byte by byte at the end, where checksums and padding are, and in steps below. */
                for (off_t size = st.st_size - 1; size >= 0;
                                size -= size > st.st_size - 64 ? 1 : 1 + st.st_size / 50) {
                        error_done(&f->error);
                        assert_int_equal(truncate(path, size), 0);
                        assert_int_equal(deb_file_verify(path, &f->error), -EBADMSG);
                        assert_non_null(strstr(f->error.message, path));
                        assert_non_null(f->error.advice);
                }
        }
}

static void changed_bit_never_crashes_and_is_found_by_the_checksum(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = path_of(f, "a.deb");
        _cleanup_(package_freep) Package *p = NULL;
        _cleanup_close_ int fd = -1;
        char hex[SHA256_HEX_SIZE];
        unsigned seed = 1;
        struct stat st;

        make_deb(f, "a.deb", "emqx", "4.4.0", "amd64", "gzip");
        assert_int_equal(deb_file_read(path, &p, &f->error), 0);
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        for (unsigned i = 0; i < 200; i++) {
                /* Half of them in the control member at the beginning. */
                off_t at = (off_t) rand_r(&seed) % (i % 2 ? st.st_size : 800);
                Package *other = NULL;
                char byte, flipped;

                assert_int_equal(pread(fd, &byte, 1, at), 1);
                flipped = (char) (byte ^ 1 << rand_r(&seed) % 8);
                assert_int_equal(pwrite(fd, &flipped, 1, at), 1);
                error_done(&f->error);
                assert_int_equal(store_verify(&package_kind_deb, p, hex, &f->error), -EKEYREJECTED);
                (void) deb_file_read(path, &other, NULL);
                (void) package_free(other);
                (void) deb_file_verify(path, NULL);
                assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        error_done(&f->error);
        assert_int_equal(store_verify(&package_kind_deb, p, hex, &f->error), 0);
}

static void changed_byte_in_a_compressed_member_is_found(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = path_of(f, "a.deb");
        _cleanup_close_ int fd = -1;
        struct stat st;
        char byte;

        make_deb(f, "a.deb", "emqx", "4.4.0", "amd64", "xz");
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
        assert_int_equal(deb_file_verify(path, &f->error), -EBADMSG);
}

static void what_is_no_package_is_refused(void **state) {
        static const char *const scripts[] = {
                ": >x.deb",
                "printf '!<arch>\\n' >x.deb",
                "head -c 100000 /dev/urandom >x.deb",
                "printf 2.0 >debian-binary; ar rc x.deb debian-binary",
                "printf hello >control.tar.gz; printf 2.0 >debian-binary; ar rc x.deb debian-binary control.tar.gz",
                "mkdir x.deb",
                "mkfifo x.deb",
                "ln -s /etc/passwd x.deb",
                "printf 3.0 >debian-binary; tar czf control.tar.gz -T /dev/null;"
                " ar rc x.deb debian-binary control.tar.gz",
                "printf 2.0 >debian-binary; tar czf control.tar.gz -T /dev/null;"
                " ar rc x.deb debian-binary control.tar.gz",
                "printf 2.0 >debian-binary; tar czf control.tar.gz -T /dev/null;"
                " ar rc x.deb control.tar.gz debian-binary",
                "printf 2.0 >debian-binary; truncate -s 1M control; tar czf control.tar.gz control;"
                " ar rc x.deb debian-binary control.tar.gz",
                "printf 2.0 >debian-binary; truncate -s 10G big; tar czSf control.tar.gz big;"
                " ar rc x.deb debian-binary control.tar.gz; rm big",
                "printf 2.0 >debian-binary; printf 'Package: a\\n\\0b' >control; tar czf control.tar.gz control;"
                " ar rc x.deb debian-binary control.tar.gz",
                "printf 2.0 >debian-binary; mkdir control; tar czf control.tar.gz control; rmdir control;"
                " ar rc x.deb debian-binary control.tar.gz",
        };
        Fixture *f = *state;
        _cleanup_free_ char *path = path_of(f, "x.deb");

        for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
                Package *p = NULL;

                error_done(&f->error);
                shell(f, "rm -rf x.deb debian-binary control.tar.gz control");
                shell(f, scripts[i]);
                assert_int_equal(deb_file_read(path, &p, &f->error), -EBADMSG);
                assert_null(p);
                assert_non_null(strstr(f->error.message, path));
        }
}

static void control_data_that_cannot_be_is_refused(void **state) {
        static const char *const texts[] = {
                "",
                "Package: emqx\nVersion: 4.4.0\n",
                "Package: emqx\nPackage: other\nVersion: 4.4.0\nArchitecture: amd64\n",
                "Package: ../x\nVersion: 4.4.0\nArchitecture: amd64\n",
                "Package: emqx\nVersion: 4.4.0;reboot\nArchitecture: amd64\n",
                "Package: emqx\nVersion:\nArchitecture: amd64\n",
                "Package: emqx\n\nVersion: 4.4.0\nArchitecture: amd64\n",
                " Package: emqx\nVersion: 4.4.0\nArchitecture: amd64\n",
                "Package: emqx\nVersion: 4.4.0\nArchitecture: amd64\nno field\n",
                "Package: emqx\nVersion: 4.4.0\nArchitecture: amd64\n: nothing\n",
                "Package: emqx\nVersion: -4.4.0\nArchitecture: amd64\n",
                "Package: emqx\nVersion: 4.4.0\nArchitecture: amd64 arm64\n",
                "Package: emqx\nVersion: 4.4.0\x1b[31m\nArchitecture: amd64\n",
        };
        static const char tail[] = " 4.4.0\nArchitecture: amd64\n";
        _cleanup_free_ char *long_text = NULL;
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_(package_freep) Package *p = calloc(1, sizeof(Package));

                error_done(&f->error);
                assert_int_equal(control_parse(texts[i], p, &f->error), -EBADMSG);
                assert_true(strlen(f->error.message) < 100);
        }
        assert_true(asprintf(&long_text, "Package: %0*d\nVersion:%s", 200000, 0, tail) > 0);
        error_done(&f->error);
        assert_int_equal(control_parse(long_text, &(Package){ NULL }, &f->error), -EBADMSG);
        assert_true(strlen(f->error.message) < 100);
}

static void control_data_as_people_write_it_is_understood(void **state) {
        Fixture *f = *state;
        _cleanup_(package_freep) Package *p = calloc(1, sizeof(Package));

        assert_int_equal(control_parse("\npackage:emqx-ee \r\nVERSION:\t4.4.19\nDescription: of a\n Package: b\n .\n"
                                       "Architecture: all\nInstalled-Size: 99999999999999999999\n"
                                       "X-Other: \xc3\xa9\n\n\n",
                                         p, &f->error),
                        0);
        assert_string_equal(p->name, "emqx-ee");
        assert_string_equal(p->version, "4.4.19");
        assert_string_equal(p->arch, "all");
        assert_true(p->installed_bytes == 0);
}

static void store_finds_by_metadata(void **state) {
        Fixture *f = *state;
        _cleanup_(package_freep) Package *p = NULL;
        _cleanup_strv_ char **versions = NULL;
        char hex[SHA256_HEX_SIZE];

        make_deb(f, "one.deb", "emqx", "4.3.12", "amd64", "gzip");
        make_deb(f, "two.deb", "emqx", "4.4.0", "amd64", "gzip");
        make_deb(f, "emqx-4.4.0.deb", "emqx-ee", "4.4.0", "amd64", "gzip");
        shell(f,
                        "printf junk >junk.deb; printf junk >README; mkdir sub;"
                        " mv two.deb 'a name'; mv two.deb.sha256 'a name.sha256'");
        assert_int_equal(store_find(f->dir, &package_kind_deb, "emqx", "4.4.0", "amd64", &p, &f->error), 0);
        assert_true(endswith(p->path, "/a name"));
        assert_int_equal(store_verify(&package_kind_deb, p, hex, &f->error), 0);
        assert_int_equal(strlen(hex), 64);

        make_deb(f, "other.deb", "emqx", "4.4.11", "arm64", "gzip");
        assert_int_equal(store_versions(f->dir, &package_kind_deb, "emqx", "amd64", &versions, &f->error), 0);
        assert_int_equal(strv_length(versions), 2);
        assert_true(strv_contains(versions, "4.3.12") && strv_contains(versions, "4.4.0"));
}

static void store_says_what_is_there_instead(void **state) {
        Fixture *f = *state;
        Package *p = NULL;

        make_deb(f, "one.deb", "emqx", "4.4.0", "arm64", "gzip");
        make_deb(f, "three.deb", "emqx-ee", "4.4.0", "amd64", "gzip");
        shell(f, "printf junk >junk.deb; printf junk >README; mkfifo fifo; >\"$(printf 'a\\nb').deb\"");
        assert_int_equal(store_find(f->dir, &package_kind_deb, "emqx", "4.4.0", "amd64", &p, &f->error), -ENOEXEC);
        assert_non_null(strstr(f->error.message, "only for another architecture"));
        assert_null(strstr(f->error.message, "README"));
        assert_null(strchr(f->error.message, '\n'));
        assert_non_null(strstr(f->error.message, "emqx 4.4.0 for arm64 (one.deb)"));
        assert_non_null(strstr(f->error.message, "emqx-ee 4.4.0 for amd64 (three.deb)"));
        assert_non_null(strstr(f->error.message, "junk.deb"));
        assert_non_null(strstr(f->error.advice, ".sha256"));
        error_done(&f->error);
        assert_int_equal(store_find(f->dir, &package_kind_deb, "emqx", "4.4.11", "amd64", &p, &f->error), -ENOENT);

        error_done(&f->error);
        shell(f, "rm one.deb");
        assert_int_equal(store_find(f->dir, &package_kind_deb, "emqx", "4.4.0", "amd64", &p, &f->error), -ENOENT);
        assert_non_null(strstr(f->error.message, "only of another edition"));
        error_done(&f->error);
        assert_int_equal(store_find("/nowhere", &package_kind_deb, "emqx", "4.4.0", "amd64", &p, &f->error), -ENOENT);
        assert_non_null(strstr(f->error.message, "/nowhere"));
        error_done(&f->error);
        shell(f, "rm -r *");
        assert_int_equal(store_find(f->dir, &package_kind_deb, "emqx", "4.4.0", "amd64", &p, &f->error), -ENOENT);
        assert_non_null(strstr(f->error.message, "it has none at all"));
}

static void two_packages_that_are_the_same_are_refused(void **state) {
        Fixture *f = *state;
        Package *p = NULL;

        make_deb(f, "one.deb", "emqx", "4.4.0", "amd64", "gzip");
        make_deb(f, "two.deb", "emqx", "4.4.0", "amd64", "gzip");
        assert_int_equal(store_find(f->dir, &package_kind_deb, "emqx", "4.4.0", "amd64", &p, &f->error), -ENOTUNIQ);
        assert_non_null(strstr(f->error.message, "one.deb"));
        assert_non_null(strstr(f->error.message, "two.deb"));
}

static void checksum_must_be_there_and_right(void **state) {
        static const char *const good[] = {
                "sha256sum a.deb >a.deb.sha256",
                "sha256sum -b a.deb >a.deb.sha256",
                "sha256sum <a.deb | head -c 64 >a.deb.sha256", /* as 4.4.1 and later publish it */
                "sha256sum <a.deb | cut -c 1-64 >a.deb.sha256",
                "sha256sum <a.deb | cut -c 1-64 | tr a-f A-F >a.deb.sha256",
        };
        static const struct {
                const char *script;
                int r;
        } bad[] = {
                { "sha256sum </dev/null >a.deb.sha256", -EKEYREJECTED },
                { "echo hello >a.deb.sha256", -EBADMSG },
                { ": >a.deb.sha256", -EBADMSG },
                { "sha256sum <a.deb | cut -c 1-63 >a.deb.sha256", -EBADMSG },
                { "{ sha256sum <a.deb | head -c 64; echo 0; } >a.deb.sha256", -EBADMSG },
                { "sha512sum <a.deb >a.deb.sha256", -EBADMSG },
                { "head -c 10000 /dev/zero >a.deb.sha256", -EFBIG },
                { "rm a.deb.sha256; mkdir a.deb.sha256", -EISDIR },
                { "rmdir a.deb.sha256", -ENODATA },
        };
        Fixture *f = *state;
        _cleanup_(package_freep) Package *p = NULL;
        char hex[SHA256_HEX_SIZE];

        make_deb(f, "a.deb", "emqx", "4.4.0", "amd64", "gzip");
        assert_int_equal(store_find(f->dir, &package_kind_deb, "emqx", "4.4.0", "amd64", &p, &f->error), 0);

        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                shell(f, good[i]);
                error_done(&f->error);
                assert_int_equal(store_verify(&package_kind_deb, p, hex, &f->error), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                shell(f, bad[i].script);
                error_done(&f->error);
                assert_int_equal(store_verify(&package_kind_deb, p, hex, &f->error), bad[i].r);
                assert_non_null(strstr(f->error.message, "a.deb"));
                assert_non_null(f->error.advice);
        }
        assert_non_null(strstr(f->error.advice, "sha256sum"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(metadata_comes_from_the_file),
                TEST(truncated_package_is_found_anywhere),
                TEST(changed_bit_never_crashes_and_is_found_by_the_checksum),
                TEST(changed_byte_in_a_compressed_member_is_found),
                TEST(what_is_no_package_is_refused),
                TEST(control_data_that_cannot_be_is_refused),
                TEST(control_data_as_people_write_it_is_understood),
                TEST(store_finds_by_metadata),
                TEST(store_says_what_is_there_instead),
                TEST(two_packages_that_are_the_same_are_refused),
                TEST(checksum_must_be_there_and_right),
        };

        return cmocka_run_group_tests_name("package", tests, NULL, NULL);
}
