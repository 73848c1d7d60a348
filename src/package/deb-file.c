/* SPDX-License-Identifier: Apache-2.0 */

#include "package/deb-file.h"

#include <ar.h>
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "package/control.h"
#include "package/extract.h"

#define CONTROL_BYTES_MAX (256 * 1024)
#define CONTROL_TAR_BYTES_MAX (4 * 1024 * 1024)
#define BLOCK_BYTES (128 * 1024)
#define REPACK_SPARE_BYTES ((uint64_t) 64 << 20) /* Installed-Size is an estimate */

static struct archive *reader_free(struct archive *a) {
        (void) archive_read_free(a);
        return NULL;
}
DEFINE_CLEANUP(struct archive *, reader_free)

/* a: whose words say why; NULL: what says it all. */
static int bad_file(const char *path, struct archive *a, const char *what, Error *reterr) {
        return error_set(reterr, -EBADMSG, "Fetch the package again.", "%s: %s%s%s", path, what, a ? ": " : "",
                        a ? archive_error_string(a) ?: "no reason given" : "");
}

static int open_ar(const char *path, struct archive **ret, Error *reterr) {
        _cleanup_(reader_freep) struct archive *a = archive_read_new();
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (!a || archive_read_support_format_ar(a) != ARCHIVE_OK)
                return -ENOMEM;
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return errno == ELOOP ? bad_file(path, NULL, "a symbolic link, not a package", reterr)
                                      : error_set(reterr, -errno, NULL, "%s: %m", path);
        if (!S_ISREG(st.st_mode))
                return bad_file(path, NULL, "not a regular file", reterr);
        if (archive_read_open_filename(a, path, BLOCK_BYTES) != ARCHIVE_OK)
                return bad_file(path, a, "not a Debian package", reterr);
        *ret = TAKE_PTR(a);
        return 0;
}

/* stem itself, or with the suffix of a compression. */
static bool is_member(const char *name, const char *stem) {
        static const char *const suffixes[] = { "", ".gz", ".xz", ".zst" };
        const char *rest = startswith(name, stem);

        for (size_t i = 0; rest && i < ELEMENTSOF(suffixes); i++)
                if (streq(rest, suffixes[i]))
                        return true;
        return false;
}

/* Goes on to the member that must be next. deb(5) lets others stand between whose names begin with an underscore.
 * *ret_name (optional) is valid until the next one. */
static int next_member(const char *path, struct archive *ar, const char *stem, const char **ret_name, Error *reterr) {
        struct archive_entry *entry;
        const char *name;
        int r;

        do {
                r = archive_read_next_header(ar, &entry);
                if (r == ARCHIVE_EOF)
                        return error_set(reterr, -EBADMSG, "Fetch the package again.",
                                        "%s: not a Debian package, or cut off: it has no member %s", path, stem);
                if (r != ARCHIVE_OK)
                        return bad_file(path, ar, "not a Debian package, or cut off", reterr);
                name = archive_entry_pathname(entry) ?: "";
        } while (name[0] == '_');
        if (!is_member(name, stem))
                return error_set(reterr, -EBADMSG, "Fetch the package again.",
                                "%s: not a Debian package: it has no member %s where that should be", path, stem);
        if (ret_name)
                *ret_name = name;
        return 0;
}

static int open_deb(const char *path, struct archive **ret, Error *reterr) {
        _cleanup_(reader_freep) struct archive *a = NULL;
        char format[8] = "";
        int r;

        r = open_ar(path, &a, reterr);
        if (r >= 0)
                r = next_member(path, a, "debian-binary", NULL, reterr);
        if (r < 0)
                return r;
        if (archive_read_data(a, format, sizeof(format) - 1) < 0)
                return bad_file(path, a, "cut off or damaged", reterr);
        if (!startswith(format, "2."))
                return bad_file(path, NULL, "a Debian package of an unknown format", reterr);
        *ret = TAKE_PTR(a);
        return 0;
}

/* The member of an ar archive that is a compressed tar archive. Three readers, each the source of the next: the tar
 * reader stops at the end of the tar archive, and only the one below it sees what the compression ends with. */
typedef struct Member {
        struct archive *ar, *raw, *tar;
        char *ar_block, *raw_block;
} Member;

static void member_done(Member *m) {
        m->tar = m->tar ? reader_free(m->tar) : NULL;
        m->raw = m->raw ? reader_free(m->raw) : NULL;
        free(m->ar_block);
        free(m->raw_block);
}

static ssize_t pull(struct archive *to, struct archive *from, char *block, const void **ret_block) {
        ssize_t n = archive_read_data(from, block, BLOCK_BYTES);

        if (n < 0)
                archive_set_error(to, EBADMSG, "%s", archive_error_string(from) ?: "no reason given");
        *ret_block = block;
        return n < 0 ? ARCHIVE_FATAL : n;
}

static ssize_t pull_packed(struct archive *raw, void *userdata, const void **ret_block) {
        Member *m = userdata;

        return pull(raw, m->ar, m->ar_block, ret_block);
}

static ssize_t pull_unpacked(struct archive *tar, void *userdata, const void **ret_block) {
        Member *m = userdata;

        return pull(tar, m->raw, m->raw_block, ret_block);
}

/* Up to m->raw: what the compression holds, as bytes. */
static int member_open_raw(Member *m, const char *path, const char *stem, Error *reterr) {
        struct archive_entry *entry;
        int r;

        r = next_member(path, m->ar, stem, NULL, reterr);
        if (r < 0)
                return r;
        m->ar_block = malloc(BLOCK_BYTES);
        m->raw = archive_read_new();
        if (!m->ar_block || !m->raw)
                return -ENOMEM;
        if (archive_read_support_format_raw(m->raw) != ARCHIVE_OK ||
                        archive_read_support_filter_gzip(m->raw) != ARCHIVE_OK ||
                        archive_read_support_filter_xz(m->raw) != ARCHIVE_OK ||
                        archive_read_support_filter_zstd(m->raw) != ARCHIVE_OK)
                return error_set(reterr, -EOPNOTSUPP, NULL, "libarchive lacks a compression that packages use");
        if (archive_read_open2(m->raw, m, NULL, pull_packed, NULL, NULL) != ARCHIVE_OK ||
                        archive_read_next_header(m->raw, &entry) != ARCHIVE_OK)
                return bad_file(path, m->raw, "cut off or damaged", reterr);
        return 0;
}

static int member_open(Member *m, const char *path, const char *stem, Error *reterr) {
        int r;

        r = member_open_raw(m, path, stem, reterr);
        if (r < 0)
                return r;
        m->raw_block = malloc(BLOCK_BYTES);
        m->tar = archive_read_new();
        if (!m->raw_block || !m->tar || archive_read_support_format_tar(m->tar) != ARCHIVE_OK)
                return -ENOMEM;
        if (archive_read_open2(m->tar, m, NULL, pull_unpacked, NULL, NULL) != ARCHIVE_OK)
                return bad_file(path, m->tar, "cut off or damaged", reterr);
        return 0;
}

static int member_verify(Member *m, const char *path, Error *reterr) {
        struct archive_entry *entry;
        ssize_t n;
        int r;

        while ((r = archive_read_next_header(m->tar, &entry)) == ARCHIVE_OK) {
                const void *data;
                int64_t offset;
                size_t size;

                while ((r = archive_read_data_block(m->tar, &data, &size, &offset)) == ARCHIVE_OK)
                        ;
                if (r != ARCHIVE_EOF)
                        break;
        }
        if (r != ARCHIVE_EOF)
                return bad_file(path, m->tar, "cut off or damaged", reterr);
        do
                n = archive_read_data(m->raw, m->raw_block, BLOCK_BYTES);
        while (n > 0);
        return n < 0 ? bad_file(path, m->raw, "cut off or damaged", reterr) : 0;
}

static int member_find_control(Member *m, const char *path, char **ret, Error *reterr) {
        struct archive_entry *entry;
        uint64_t seen = 0;
        int r;

        while ((r = archive_read_next_header(m->tar, &entry)) == ARCHIVE_OK) {
                const char *name = archive_entry_pathname(entry) ?: "";
                int64_t size = archive_entry_size(entry);
                _cleanup_free_ char *text = NULL;

                if (size < 0 || size > CONTROL_TAR_BYTES_MAX || (seen += (uint64_t) size) > CONTROL_TAR_BYTES_MAX)
                        return bad_file(path, NULL, "its control member is too large", reterr);
                if (!streq(name, "./control") && !streq(name, "control"))
                        continue;
                if (size > CONTROL_BYTES_MAX)
                        return bad_file(path, NULL, "its control file is too large", reterr);
                text = calloc(1, (size_t) size + 1);
                if (!text)
                        return -ENOMEM;
                if (archive_read_data(m->tar, text, (size_t) size) != size)
                        return bad_file(path, m->tar, "cut off or damaged", reterr);
                if (strlen(text) != (size_t) size)
                        return bad_file(path, NULL, "its control file is no text", reterr);
                *ret = TAKE_PTR(text);
                return 0;
        }
        return r == ARCHIVE_EOF ? bad_file(path, NULL, "its control member has no control file", reterr)
                                : bad_file(path, m->tar, "cut off or damaged", reterr);
}

int deb_file_control(const char *path, char **ret, Error *reterr) {
        _cleanup_(reader_freep) struct archive *ar = NULL;
        _cleanup_(member_done) Member m = { NULL };
        int r;

        r = open_deb(path, &ar, reterr);
        if (r < 0)
                return r;
        m.ar = ar;
        r = member_open(&m, path, "control.tar", reterr);
        return r < 0 ? r : member_find_control(&m, path, ret, reterr);
}

int deb_file_read(const char *path, Package **ret, Error *reterr) {
        _cleanup_(package_freep) Package *p = calloc(1, sizeof(Package));
        _cleanup_(error_done) Error why = ERROR_NULL;
        _cleanup_free_ char *text = NULL;
        struct stat st;
        int r;

        if (!p)
                return -ENOMEM;
        r = deb_file_control(path, &text, reterr);
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

int deb_file_verify(const char *path, Error *reterr) {
        static const char *const stems[] = { "control.tar", "data.tar" };
        _cleanup_(reader_freep) struct archive *ar = NULL;
        struct archive_entry *entry;
        int r;

        r = open_deb(path, &ar, reterr);
        for (size_t i = 0; i < ELEMENTSOF(stems) && r >= 0; i++) {
                _cleanup_(member_done) Member m = { .ar = ar };

                r = member_open(&m, path, stems[i], reterr);
                if (r >= 0)
                        r = member_verify(&m, path, reterr);
        }
        if (r < 0)
                return r;
        while ((r = archive_read_next_header(ar, &entry)) == ARCHIVE_OK)
                ;
        return r == ARCHIVE_EOF ? 0 : bad_file(path, ar, "cut off or damaged", reterr);
}

int deb_file_extract(const Package *p, const char *root_dir, int dir_fd, Error *reterr) {
        _cleanup_(reader_freep) struct archive *ar = NULL;
        _cleanup_(member_done) Member m = { NULL };
        int r;

        r = open_deb(p->path, &ar, reterr);
        if (r >= 0)
                r = next_member(p->path, ar, "control.tar", NULL, reterr);
        if (r < 0)
                return r;
        m.ar = ar;
        r = member_open(&m, p->path, "data.tar", reterr);
        return r < 0 ? r : extract_program(p, m.tar, root_dir, dir_fd, reterr);
}

/* --- packing it again --- */

/* Appends what from holds as a member called name. limit_bytes: a package that says how large it is does not grow to
 * more. */
static int append_member(int fd, const char *name, const char *path, struct archive *from, uint64_t limit_bytes,
                Error *reterr) {
        _cleanup_free_ char *block = malloc(BLOCK_BYTES);
        struct ar_hdr header;
        char text[sizeof(header) + 1];
        uint64_t size = 0;
        off_t start;
        ssize_t n;
        int r;

        start = lseek(fd, 0, SEEK_CUR);
        if (!block || start < 0 || lseek(fd, (off_t) sizeof(header), SEEK_CUR) < 0)
                return block ? -errno : -ENOMEM;
        while ((n = archive_read_data(from, block, BLOCK_BYTES)) > 0) {
                size += (uint64_t) n;
                if (size > limit_bytes)
                        return bad_file(path, NULL, "it holds more than it says", reterr);
                r = write_all(fd, block, (size_t) n);
                if (r < 0)
                        return r;
        }
        if (n < 0)
                return bad_file(path, from, "cut off or damaged", reterr);
        (void) snprintf(text, sizeof(text), "%-16s%-12d%-6d%-6d%-8s%-10" PRIu64 "%s", name, 0, 0, 0, "100644", size,
                        ARFMAG);
        if (pwrite(fd, text, sizeof(header), start) != (ssize_t) sizeof(header))
                return errno > 0 ? -errno : -EIO;
        return size % 2 ? write_all(fd, "\n", 1) : 0;
}

static int repack(int fd, const char *path, uint64_t limit_bytes, Error *reterr) {
        static const char format[] = ARMAG "debian-binary   0           0     0     100644  4         " ARFMAG "2.0\n";
        _cleanup_(reader_freep) struct archive *ar = NULL;
        _cleanup_(member_done) Member data = { NULL };
        const char *name;
        int r;

        r = open_deb(path, &ar, reterr);
        if (r >= 0)
                r = next_member(path, ar, "control.tar", &name, reterr);
        if (r >= 0)
                r = write_all(fd, format, sizeof(format) - 1);
        if (r >= 0)
                r = append_member(fd, name, path, ar, CONTROL_TAR_BYTES_MAX, reterr);
        if (r < 0)
                return r;
        data.ar = ar;
        r = member_open_raw(&data, path, "data.tar", reterr);
        if (r >= 0)
                r = append_member(fd, "data.tar", path, data.raw, limit_bytes, reterr);
        return r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
}

int deb_file_repack(const Package *p, const char *to, Error *reterr) {
        _cleanup_free_ char *part = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        if (asprintf(&part, "%s.part", to) < 0)
                return -ENOMEM;
        fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : repack(fd, p->path, 2 * p->installed_bytes + REPACK_SPARE_BYTES, reterr);
        if (r >= 0 && rename(part, to) < 0)
                r = -errno;
        if (r < 0)
                (void) unlink(part);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot pack %s again as %s: %m", p->path, to) : 0;
}
