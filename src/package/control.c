/* SPDX-License-Identifier: Apache-2.0 */

#include "package/control.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>

#define CONTROL_BYTES_MAX (256 * 1024)
#define CONTROL_TAR_BYTES_MAX (4 * 1024 * 1024)
#define BLOCK_BYTES (128 * 1024)

static const char fetch_again[] = "Fetch the package again.";

static struct archive *reader_free(struct archive *a) {
        (void) archive_read_free(a);
        return NULL;
}
DEFINE_CLEANUP(struct archive *, reader_free)

/* --- control data --- */

static bool is_word(const char *s, const char *more) {
        if (!isalnum((unsigned char) *s))
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && !strchr(more, *s))
                        return false;
        return true;
}

/* Takes a field once; deb-control(5) forbids a second. */
static int take_field(char **field, const char *name, const char *value, Error *reterr) {
        if (*field)
                return error_set(reterr, -EBADMSG, fetch_again, "its control data has two fields '%s'", name);
        return free_and_strdup(field, value);
}

static int take_line(const char *line, Package *p, char **installed_size, Error *reterr) {
        const struct {
                const char *name;
                char **field;
        } fields[] = {
                { "Package", &p->name },
                { "Version", &p->version },
                { "Architecture", &p->arch },
                { "Installed-Size", installed_size },
        };
        const char *colon = strchr(line, ':');

        if (isspace((unsigned char) *line) || !colon) /* the rest of a folded field */
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(fields); i++)
                if (strncasecmp(line, fields[i].name, (size_t) (colon - line)) == 0 &&
                                strlen(fields[i].name) == (size_t) (colon - line)) {
                        const char *value = colon + 1 + strspn(colon + 1, " \t");

                        return take_field(fields[i].field, fields[i].name, value, reterr);
                }
        return 0;
}

int control_parse(const char *text, Package *p, Error *reterr) {
        _cleanup_free_ char *copy = strdup(text), *installed_size = NULL;
        char *save = NULL;

        if (!copy)
                return -ENOMEM;
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                size_t n = strlen(line);
                int r;

                while (n > 0 && isspace((unsigned char) line[n - 1]))
                        line[--n] = 0;
                r = take_line(line, p, &installed_size, reterr);
                if (r < 0)
                        return r;
        }

        if (!p->name || !p->version || !p->arch)
                return error_set(reterr, -EBADMSG, fetch_again, "its control data lacks the field '%s'",
                                !p->name                      ? "Package"
                                                : !p->version ? "Version"
                                                              : "Architecture");
        if (!is_word(p->name, "+-.") || !is_word(p->version, ".+-:~") || !is_word(p->arch, "-"))
                return error_set(reterr, -EBADMSG, fetch_again, "its control data has a field that cannot be");
        if (installed_size) {
                char *end;

                errno = 0;
                p->installed_bytes = strtoull(installed_size, &end, 10) * 1024; /* KiB, deb-control(5) */
                if (errno != 0 || *end)
                        p->installed_bytes = 0;
        }
        return 0;
}

/* --- the archive --- */

static int not_a_package(const char *path, struct archive *a, const char *what, Error *reterr) {
        return error_set(reterr, -EBADMSG, fetch_again, "%s: %s%s%s", path, what, a ? ": " : "",
                        a ? archive_error_string(a) ?: "damaged" : "");
}

static int open_ar(const char *path, struct archive **ret, Error *reterr) {
        _cleanup_(reader_freep) struct archive *a = archive_read_new();
        struct stat st;

        if (!a)
                return -ENOMEM;
        if (lstat(path, &st) < 0)
                return error_set(reterr, -errno, NULL, "%s: %m", path);
        if (!S_ISREG(st.st_mode))
                return error_set(reterr, -EBADMSG, fetch_again, "%s: not a regular file", path);
        if (archive_read_support_format_ar(a) != ARCHIVE_OK)
                return -EOPNOTSUPP;
        if (archive_read_open_filename(a, path, BLOCK_BYTES) != ARCHIVE_OK)
                return not_a_package(path, a, "not a Debian package", reterr);
        *ret = TAKE_PTR(a);
        return 0;
}

/* The next member whose name begins with prefix. */
static int find_member(const char *path, struct archive *ar, const char *prefix, Error *reterr) {
        struct archive_entry *entry;
        int r;

        for (;;) {
                r = archive_read_next_header(ar, &entry);
                if (r == ARCHIVE_EOF)
                        return error_set(reterr, -EBADMSG, fetch_again,
                                        "%s: not a Debian package, or cut off: no member %s*", path, prefix);
                if (r != ARCHIVE_OK)
                        return not_a_package(path, ar, "not a Debian package", reterr);
                if (startswith(archive_entry_pathname(entry) ?: "", prefix))
                        return 0;
        }
}

/* Hands the present member of an ar archive to a tar reader. */
static ssize_t read_member(struct archive *tar, void *userdata, const void **ret_block) {
        struct archive *ar = ((void **) userdata)[0];
        char *block = ((void **) userdata)[1];
        ssize_t n = archive_read_data(ar, block, BLOCK_BYTES);

        if (n < 0)
                archive_set_error(tar, archive_errno(ar), "%s", archive_error_string(ar) ?: "cut off");
        *ret_block = block;
        return n;
}

static int open_tar(const char *path, void **member, struct archive **ret, Error *reterr) {
        _cleanup_(reader_freep) struct archive *a = archive_read_new();

        if (!a)
                return -ENOMEM;
        if (archive_read_support_format_tar(a) != ARCHIVE_OK || archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
                        archive_read_support_filter_xz(a) != ARCHIVE_OK ||
                        archive_read_support_filter_zstd(a) != ARCHIVE_OK)
                return error_set(reterr, -EOPNOTSUPP, NULL, "libarchive lacks a compression that packages use");
        if (archive_read_open2(a, member, NULL, read_member, NULL, NULL) != ARCHIVE_OK)
                return not_a_package(path, a, "damaged", reterr);
        *ret = TAKE_PTR(a);
        return 0;
}

static int read_control_file(const char *path, struct archive *tar, char **ret, Error *reterr) {
        struct archive_entry *entry;
        int64_t seen = 0;
        int r;

        while ((r = archive_read_next_header(tar, &entry)) == ARCHIVE_OK) {
                const char *name = archive_entry_pathname(entry) ?: "";
                int64_t size = archive_entry_size(entry);
                _cleanup_free_ char *text = NULL;
                ssize_t n;

                seen += size;
                if (size < 0 || seen > CONTROL_TAR_BYTES_MAX)
                        return not_a_package(path, NULL, "its control member is too large", reterr);
                if (!streq(name, "./control") && !streq(name, "control"))
                        continue;
                if (size > CONTROL_BYTES_MAX)
                        return not_a_package(path, NULL, "its control file is too large", reterr);
                text = calloc(1, (size_t) size + 1);
                if (!text)
                        return -ENOMEM;
                n = archive_read_data(tar, text, (size_t) size);
                if (n != size)
                        return not_a_package(path, tar, "damaged", reterr);
                if (strlen(text) != (size_t) size)
                        return not_a_package(path, NULL, "its control file is no text", reterr);
                *ret = TAKE_PTR(text);
                return 0;
        }
        return r == ARCHIVE_EOF ? not_a_package(path, NULL, "its control member has no control file", reterr)
                                : not_a_package(path, tar, "damaged", reterr);
}

int deb_read(const char *path, Package **ret, Error *reterr) {
        _cleanup_(reader_freep) struct archive *ar = NULL, *tar = NULL;
        _cleanup_(package_freep) Package *p = calloc(1, sizeof(Package));
        _cleanup_(error_done) Error why = ERROR_NULL;
        _cleanup_free_ char *text = NULL, *block = malloc(BLOCK_BYTES);
        void *member[2];
        struct stat st;
        int r;

        if (!p || !block)
                return -ENOMEM;
        r = open_ar(path, &ar, reterr);
        if (r >= 0)
                r = find_member(path, ar, "control.tar", reterr);
        if (r < 0)
                return r;
        member[0] = ar;
        member[1] = block;
        r = open_tar(path, member, &tar, reterr);
        if (r >= 0)
                r = read_control_file(path, tar, &text, reterr);
        if (r < 0)
                return r;

        r = control_parse(text, p, &why);
        if (r < 0)
                return error_set(reterr, r, why.advice, "%s: %s", path, error_text(&why, r));
        if (stat(path, &st) < 0)
                return error_set(reterr, -errno, NULL, "%s: %m", path);
        p->size_bytes = (uint64_t) st.st_size;
        p->path = strdup(path);
        if (!p->path)
                return -ENOMEM;
        *ret = TAKE_PTR(p);
        return 0;
}

static int read_tar_to_end(const char *path, struct archive *tar, Error *reterr) {
        struct archive_entry *entry;
        int r;

        while ((r = archive_read_next_header(tar, &entry)) == ARCHIVE_OK) {
                const void *data;
                int64_t offset;
                size_t n;

                while ((r = archive_read_data_block(tar, &data, &n, &offset)) == ARCHIVE_OK)
                        ;
                if (r != ARCHIVE_EOF)
                        break;
        }
        return r == ARCHIVE_EOF ? 0 : not_a_package(path, tar, "cut off or damaged", reterr);
}

int deb_verify(const char *path, Error *reterr) {
        static const char *const members[] = { "control.tar", "data.tar" };
        _cleanup_(reader_freep) struct archive *ar = NULL;
        _cleanup_free_ char *block = malloc(BLOCK_BYTES);
        void *member[2];
        int r;

        if (!block)
                return -ENOMEM;
        r = open_ar(path, &ar, reterr);
        for (size_t i = 0; i < ELEMENTSOF(members) && r >= 0; i++) {
                _cleanup_(reader_freep) struct archive *tar = NULL;

                member[0] = ar;
                member[1] = block;
                r = find_member(path, ar, members[i], reterr);
                if (r >= 0)
                        r = open_tar(path, member, &tar, reterr);
                if (r >= 0)
                        r = read_tar_to_end(path, tar, reterr);
        }
        return r;
}
