/* SPDX-License-Identifier: Apache-2.0 */

#include "package/zip-file.h"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libgen.h>
#include <limits.h>
#include <locale.h>
#include <search.h>
#include <sys/stat.h>

#include "base/fileio.h"

#define BLOCK_BYTES (64 * 1024)
#define ENTRIES_MAX 200000
#define UNPACKED_BYTES_MAX (4ULL << 30)
#define UNPACKED_BYTES_FREE (16ULL << 20) /* up to here no ratio is asked for */
#define RATIO_MAX 200                     /* releases have 3; deflate's own limit is 1032 */
#define NAME_BYTES_MAX 4000
#define VARS_BYTES_MAX (1024 * 1024)
#define SHOWN_BYTES_MAX 200

#define VARS_NAME "releases/emqx_vars"
#define RUNTIME_PATTERN "erts-*/bin/beam.smp"

/* A path that was seen, in a tree of tsearch(3). */
typedef struct Seen {
        char *path;
        mode_t type;
        bool listed; /* by itself, not only as a directory on the way to another */
} Seen;

typedef struct Zip {
        const char *path;
        struct archive *archive;
        struct archive_entry *entry;
        locale_t locale, locale_before;
        uint64_t size_bytes; /* of the file */
        char *top;           /* its one directory */
        void *seen;
        size_t n_entries;
        uint64_t n_bytes; /* unpacked so far */

        const char *name; /* of the entry at hand, below top; "" for top itself */
        mode_t mode;
        char *target;           /* of a symbolic link; NULL: none, or one that cannot be read */
        struct archive *stream; /* the same file once more, for targets of links; NULL: not needed yet */
} Zip;

static void seen_free(void *p) {
        Seen *s = p;

        free(s->path);
        free(s);
}

static void zip_done(Zip *z) {
        (void) archive_read_free(z->archive);
        (void) archive_read_free(z->stream);
        free(z->target);
        if (z->locale) {
                (void) uselocale(z->locale_before);
                freelocale(z->locale);
        }
        free(z->top);
        tdestroy(z->seen, seen_free);
}

/* What is wrong with the archive, or with name in it. */
static int refuse(const Zip *z, const char *name, const char *what, Error *reterr) {
        char shown[SHOWN_BYTES_MAX];

        if (!name)
                return error_set(reterr, -EBADMSG, NULL, "%s: %s", z->path, what);
        (void) snprintf(shown, sizeof(shown), "%s", name);
        for (char *p = shown; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f || (unsigned char) *p >= 0x80)
                        *p = '?';
        return error_set(reterr, -EBADMSG, "Get the archive from EMQX again.", "%s: the entry '%s' %s", z->path, shown,
                        what);
}

static int zip_open(Zip *z, const char *path, Error *reterr) {
        struct stat st;

        z->path = path;
        if (stat(path, &st) < 0)
                return error_set(reterr, -errno, NULL, "%s: %m", path);
        z->size_bytes = (uint64_t) st.st_size;
        /* libarchive converts names to the locale of the thread: to one that can have them all. */
        z->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
        if (z->locale)
                z->locale_before = uselocale(z->locale);
        z->archive = archive_read_new();
        if (!z->archive)
                return -ENOMEM;
        if (!S_ISREG(st.st_mode) || archive_read_support_format_zip_seekable(z->archive) != ARCHIVE_OK ||
                        archive_read_open_filename(z->archive, path, BLOCK_BYTES) != ARCHIVE_OK)
                return refuse(z, NULL, "is no zip archive", reterr);
        return 0;
}

/* --- names --- */

static int compare_seen(const void *a, const void *b) {
        return strcmp(((const Seen *) a)->path, ((const Seen *) b)->path);
}

/* Notes path. 0; 1: it was there, *ret is it. */
static int note(Zip *z, const char *path, mode_t type, bool listed, Seen **ret) {
        Seen *s = calloc(1, sizeof(Seen)), **found;

        if (!s)
                return -ENOMEM;
        *s = (Seen){ strdup(path), type, listed };
        found = s->path ? tsearch(s, &z->seen, compare_seen) : NULL;
        if (!found) {
                seen_free(s);
                return -ENOMEM;
        }
        *ret = *found;
        if (*found == s)
                return 0;
        seen_free(s);
        return 1;
}

/* Every directory on the way to name has to be one, and name itself new. */
static int check_place(Zip *z, const char *full, Error *reterr) {
        _cleanup_free_ char *path = strdup(z->name);
        Seen *s;
        int r;

        if (!path)
                return -ENOMEM;
        for (char *slash = path; (slash = strchr(slash, '/')); *slash++ = '/') {
                *slash = 0;
                r = note(z, path, S_IFDIR, false, &s);
                if (r < 0)
                        return r;
                if (r > 0 && !S_ISDIR(s->type))
                        return refuse(z, full, "lies below something that is no directory", reterr);
        }
        r = note(z, path, z->mode & S_IFMT, true, &s);
        if (r <= 0)
                return r;
        if (s->listed || !S_ISDIR(z->mode))
                return refuse(z, full, "stands in it twice", reterr);
        s->listed = true;
        return 0;
}

static bool is_text(const char *name) {
        for (const char *p = name; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        return false;
        return true;
}

/* Whether the components of path, taken from depth directories below the top, stay in it. */
static bool stays_within(const char *path, int depth) {
        while (*path) {
                size_t n = strcspn(path, "/");

                if (n == 2 && path[0] == '.' && path[1] == '.') {
                        if (--depth < 0)
                                return false;
                } else if (n > 0 && !(n == 1 && path[0] == '.'))
                        depth++;
                path += n + (path[n] == '/');
        }
        return true;
}

/* libarchive before 3.5.2 hands over a compressed target as it is (libarchive#1509), and has read past it by then. To one who
 * reads the archive from its beginning a link is a file like others, and the order is the same. */
#define READS_TARGETS 3005002

static int read_target_as_file(Zip *z) {
        char text[NAME_BYTES_MAX + 2];
        struct archive_entry *entry;
        int r;

        if (!z->stream) {
                z->stream = archive_read_new();
                if (!z->stream)
                        return -ENOMEM;
                if (archive_read_support_format_zip_streamable(z->stream) != ARCHIVE_OK ||
                                archive_read_open_filename(z->stream, z->path, BLOCK_BYTES) != ARCHIVE_OK)
                        return 0;
        }
        while ((r = archive_read_next_header(z->stream, &entry)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
                const char *name = archive_entry_pathname(entry);
                ssize_t n;

                if (!name || !streq(name, archive_entry_pathname(z->entry)))
                        continue;
                n = archive_read_data(z->stream, text, sizeof(text));
                if (n < 0 || memchr(text, 0, (size_t) n))
                        return 0;
                z->target = strndup(text, (size_t) n);
                return z->target ? 0 : -ENOMEM;
        }
        return 0;
}

static int read_target(Zip *z) {
        const char *target;

        z->target = mfree(z->target);
        if (!S_ISLNK(z->mode))
                return 0;
        if (archive_version_number() < READS_TARGETS)
                return read_target_as_file(z);
        target = archive_entry_symlink(z->entry);
        return !target || (z->target = strdup(target)) ? 0 : -ENOMEM;
}

static int check_link(Zip *z, const char *full, Error *reterr) {
        const char *target = z->target;
        int depth = 0;

        for (const char *p = z->name; *p; p++)
                depth += *p == '/';
        if (!target || !*target || *target == '/' || strlen(target) > NAME_BYTES_MAX || !is_text(target) ||
                        !stays_within(target, depth))
                return refuse(z, full, "is a symbolic link out of the archive", reterr);
        return 0;
}

/* The name, taken apart: z->name is what stands below the top directory. */
static int check_name(Zip *z, const char *full, Error *reterr) {
        size_t n = strlen(full), top_length = strcspn(full, "/");

        if (n > NAME_BYTES_MAX)
                return refuse(z, full, "has a name that is too long", reterr);
        if (mbstowcs(NULL, full, 0) == (size_t) -1)
                return refuse(z, full, "has a name that is no UTF-8", reterr);
        if (!is_text(full))
                return refuse(z, full, "has a control character in its name", reterr);
        if (*full == '/' || strchr(full, '\\') || (top_length == 2 && full[1] == ':'))
                return refuse(z, full, "has an absolute name, or one of another system", reterr);
        for (const char *p = full; *p;) {
                size_t part = strcspn(p, "/");

                if (part == 0 || part > NAME_MAX || (p[0] == '.' && (part == 1 || (part == 2 && p[1] == '.'))))
                        return refuse(z, full, "has a name that is no plain path", reterr);
                p += part + (p[part] == '/');
        }
        if (!z->top && !(z->top = strndup(full, top_length)))
                return -ENOMEM;
        if (strlen(z->top) != top_length || strncmp(full, z->top, top_length) != 0)
                return refuse(z, full, "is not in the one directory that a release has", reterr);
        z->name = full[top_length] ? full + top_length + 1 : "";
        if (!*z->name && !S_ISDIR(z->mode))
                return refuse(z, full, "is in the place of the directory that a release has", reterr);
        return 0;
}

static int check_entry(Zip *z, char **ret_name, Error *reterr) {
        const char *raw = archive_entry_pathname(z->entry);
        _cleanup_free_ char *full = NULL;
        size_t n;
        int r;

        z->mode = archive_entry_mode(z->entry);
        if (!raw || !*raw)
                return refuse(z, raw ?: "?", "has a name that is no UTF-8", reterr);
        full = strdup(raw);
        if (!full)
                return -ENOMEM;
        n = strlen(full);
        if (S_ISDIR(z->mode) && n > 1 && full[n - 1] == '/')
                full[n - 1] = 0;

        if (archive_entry_is_encrypted(z->entry))
                return refuse(z, full, "is encrypted", reterr);
        if (archive_entry_hardlink(z->entry) || !(S_ISREG(z->mode) || S_ISDIR(z->mode) || S_ISLNK(z->mode)))
                return refuse(z, full, "is neither a file, a directory nor a symbolic link", reterr);
        if (z->mode & (S_ISUID | S_ISGID | S_ISVTX))
                return refuse(z, full, "has a set-user-id, set-group-id or sticky bit", reterr);
        r = read_target(z);
        if (r >= 0)
                r = check_name(z, full, reterr);
        if (r >= 0 && S_ISLNK(z->mode))
                r = check_link(z, full, reterr);
        if (r >= 0 && *z->name)
                r = check_place(z, full, reterr);
        if (r < 0)
                return r;
        *ret_name = strdup(z->name);
        return *ret_name ? 0 : -ENOMEM;
}

/* 1: the next entry, checked; *ret_name, the caller's, is its name below the top directory. 0: that was the last. */
static int next_entry(Zip *z, char **ret_name, Error *reterr) {
        int r = archive_read_next_header(z->archive, &z->entry);

        if (r == ARCHIVE_EOF)
                return z->n_entries > 0 ? 0 : refuse(z, NULL, "is an empty archive", reterr);
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
                return refuse(z, NULL, "is no zip archive, or cut off or damaged", reterr);
        if (++z->n_entries > ENTRIES_MAX)
                return refuse(z, NULL, "has too many entries for a release", reterr);
        r = check_entry(z, ret_name, reterr);
        return r < 0 ? r : 1;
}

/* --- content --- */

typedef int (*BlockFunc)(const void *data, size_t size_bytes, int64_t offset, void *userdata);

/* All of the entry at hand, as much as it says. */
static int read_content(Zip *z, const char *name, BlockFunc func, void *userdata, Error *reterr) {
        uint64_t n_bytes = 0;
        const void *data;
        int64_t offset;
        size_t size;
        int r;

        while ((r = archive_read_data_block(z->archive, &data, &size, &offset)) == ARCHIVE_OK) {
                n_bytes += size;
                z->n_bytes += size;
                if (z->n_bytes > UNPACKED_BYTES_MAX ||
                                (z->n_bytes > UNPACKED_BYTES_FREE && z->n_bytes / RATIO_MAX > z->size_bytes))
                        return refuse(z, name, "is more, unpacked, than a release can be", reterr);
                if (archive_entry_size_is_set(z->entry) && n_bytes > (uint64_t) archive_entry_size(z->entry))
                        return refuse(z, name, "is longer than it says", reterr);
                r = func ? func(data, size, offset, userdata) : 0;
                if (r < 0)
                        return r;
        }
        if (r != ARCHIVE_EOF)
                return refuse(z, name, "is cut off or damaged", reterr);
        if (archive_entry_size_is_set(z->entry) && n_bytes != (uint64_t) archive_entry_size(z->entry))
                return refuse(z, name, "is shorter than it says", reterr);
        return 0;
}

int release_var(const char *text, const char *name, char **ret) {
        size_t n = strlen(name);

        *ret = mfree(*ret);
        for (const char *line = text; *line; line += strcspn(line, "\n") + (line[strcspn(line, "\n")] == '\n')) {
                const char *value = line + n + 1;
                size_t length;

                if (strncmp(line, name, n) != 0 || line[n] != '=')
                        continue;
                length = strcspn(value, "\r\n");
                if (length >= 2 && strchr("\"'", *value) && value[length - 1] == *value) {
                        value++;
                        length -= 2;
                }
                free(*ret);
                *ret = strndup(value, length);
                if (!*ret)
                        return -ENOMEM;
        }
        return *ret ? 1 : 0;
}

const char *elf_machine(const unsigned char *header, size_t size_bytes) {
        uint16_t machine;

        if (size_bytes < sizeof(Elf32_Ehdr) || memcmp(header, ELFMAG, SELFMAG) != 0)
                return NULL;
        machine = header[EI_DATA] == ELFDATA2MSB ? (uint16_t) (header[offsetof(Elf32_Ehdr, e_machine)] << 8 |
                                                                   header[offsetof(Elf32_Ehdr, e_machine) + 1])
                                                 : (uint16_t) (header[offsetof(Elf32_Ehdr, e_machine) + 1] << 8 |
                                                                   header[offsetof(Elf32_Ehdr, e_machine)]);
        switch (machine) {
        case EM_X86_64: return "x86_64";
        case EM_AARCH64: return "aarch64";
        case EM_ARM: return "arm";
        case EM_386: return "i686";
        default: return NULL;
        }
}

/* The beginning of an entry. */
static ssize_t read_beginning(Zip *z, void *data, size_t size_bytes) {
        return archive_read_data(z->archive, data, size_bytes);
}

static int take_metadata(Zip *z, const char *name, Package *p, Error *reterr) {
        if (streq(name, VARS_NAME)) {
                _cleanup_free_ char *text = calloc(1, VARS_BYTES_MAX + 1);
                ssize_t n;
                int r;

                if (!text)
                        return -ENOMEM;
                n = read_beginning(z, text, VARS_BYTES_MAX);
                if (n < 0 || strlen(text) != (size_t) n)
                        return refuse(z, name, "is cut off, damaged or no text", reterr);
                r = release_var(text, "REL_VSN", &p->version);
                if (r >= 0)
                        r = release_var(text, "REL_NAME", &p->name);
                return r;
        }
        if (fnmatch(RUNTIME_PATTERN, name, FNM_PATHNAME) == 0) {
                unsigned char header[sizeof(Elf64_Ehdr)];
                ssize_t n = read_beginning(z, header, sizeof(header));
                const char *arch = n > 0 ? elf_machine(header, (size_t) n) : NULL;

                if (arch && free_and_strdup(&p->arch, arch) < 0)
                        return -ENOMEM;
        }
        return 0;
}

int zip_file_read(const char *path, Package **ret, Error *reterr) {
        _cleanup_(package_freep) Package *p = calloc(1, sizeof(Package));
        _cleanup_(zip_done) Zip z = { NULL };
        int r;

        if (!p || !(p->path = strdup(path)))
                return -ENOMEM;
        r = zip_open(&z, path, reterr);
        if (r < 0)
                return r;
        for (;;) {
                _cleanup_free_ char *name = NULL;

                r = next_entry(&z, &name, reterr);
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                assert(name);
                if (S_ISREG(z.mode))
                        p->installed_bytes += (uint64_t) MAX(archive_entry_size(z.entry), 0);
                r = take_metadata(&z, name, p, reterr);
                if (r < 0)
                        return r;
        }
        if (!p->version || !*p->version || !is_text(p->version))
                return refuse(&z, NULL, "is no release of EMQX: it has no version in " VARS_NAME, reterr);
        if (!p->arch)
                return refuse(&z, NULL, "is no release of EMQX: it has no runtime in " RUNTIME_PATTERN, reterr);
        if (!p->name && !(p->name = strdup("emqx")))
                return -ENOMEM;
        p->size_bytes = z.size_bytes;
        *ret = TAKE_PTR(p);
        return 0;
}

int zip_file_verify(const char *path, Error *reterr) {
        _cleanup_(zip_done) Zip z = { NULL };
        int r;

        r = zip_open(&z, path, reterr);
        while (r >= 0) {
                _cleanup_free_ char *name = NULL;

                r = next_entry(&z, &name, reterr);
                if (r <= 0)
                        break;
                assert(name);
                if (S_ISREG(z.mode))
                        r = read_content(&z, name, NULL, NULL, reterr);
        }
        return r;
}

/* --- extraction --- */

/* One component, made where it is missing. Nothing is followed. */
static int open_directory(int dir_fd, const char *name, uid_t uid, gid_t gid) {
        int fd;

        if (mkdirat(dir_fd, name, 0755) < 0) {
                if (errno != EEXIST)
                        return -errno;
        } else if (fchownat(dir_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* The directory that name lies in; *ret_last is name's last component. */
static int open_parent(int dir_fd, const char *name, uid_t uid, gid_t gid, const char **ret_last) {
        _cleanup_close_ int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);

        if (fd < 0)
                return -errno;
        for (const char *slash; (slash = strchr(name, '/')); name = slash + 1) {
                char part[NAME_MAX + 1];
                int inner;

                (void) snprintf(part, sizeof(part), "%.*s", (int) (slash - name), name);
                inner = open_directory(fd, part, uid, gid);
                if (inner < 0)
                        return inner;
                (void) safe_close(fd);
                fd = inner;
        }
        *ret_last = name;
        return TAKE_FD(fd);
}

static int write_block(const void *data, size_t size_bytes, int64_t offset, void *userdata) {
        int fd = *(const int *) userdata;

        if (lseek(fd, offset, SEEK_SET) < 0)
                return -errno;
        return write_all(fd, data, size_bytes);
}

static int extract_file(
                Zip *z, int parent_fd, const char *last, const char *name, uid_t uid, gid_t gid, Error *reterr) {
        struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = archive_entry_mtime(z->entry) } };
        _cleanup_close_ int fd = -1;
        int r;

        fd = openat(parent_fd, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = read_content(z, name, write_block, &fd, reterr);
        if (r < 0)
                return r;
        if (fchown(fd, uid, gid) < 0 || fchmod(fd, z->mode & 0111 ? 0755 : 0644) < 0 || futimens(fd, times) < 0)
                return -errno;
        return 0;
}

static int extract_entry(Zip *z, int dir_fd, const char *name, uid_t uid, gid_t gid, Error *reterr) {
        _cleanup_close_ int parent_fd = -1;
        const char *last = NULL;
        int r;

        parent_fd = open_parent(dir_fd, name, uid, gid, &last);
        if (parent_fd < 0)
                return parent_fd;
        assert(last);
        if (S_ISREG(z->mode))
                return extract_file(z, parent_fd, last, name, uid, gid, reterr);
        r = S_ISLNK(z->mode) ? symlinkat(z->target, parent_fd, last) : mkdirat(parent_fd, last, 0755);
        if (r < 0)
                return errno == EEXIST && S_ISDIR(z->mode) ? 0 : -errno; /* made on the way to another */
        return fchownat(parent_fd, last, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int extract_all(const char *path, int dir_fd, uid_t uid, gid_t gid, Error *reterr) {
        _cleanup_(zip_done) Zip z = { NULL };
        int r;

        r = zip_open(&z, path, reterr);
        while (r >= 0) {
                _cleanup_free_ char *name = NULL;

                r = next_entry(&z, &name, reterr);
                if (r <= 0)
                        break;
                assert(name);
                if (!*name)
                        continue;
                r = extract_entry(&z, dir_fd, name, uid, gid, reterr);
                if (r < 0 && !(reterr && reterr->message))
                        return error_set(reterr, r, r == -ENOSPC || r == -EDQUOT ? "Make room there." : NULL,
                                        "Cannot extract '%s' of %s: %m", name, path);
        }
        return r;
}

int zip_file_extract(const char *path, int dir_fd, uid_t uid, gid_t gid, Error *reterr) {
        mode_t old_umask = umask(0022); /* the node's user has to get in, whatever ours is */
        int r = extract_all(path, dir_fd, uid, gid, reterr);

        (void) umask(old_umask);
        return r;
}
