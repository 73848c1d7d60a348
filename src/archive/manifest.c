/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/manifest.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <systemd/sd-id128.h>

#include "archive/lines.h"
#include "archive/mtree.h"
#include "archive/where.h"
#include "base/fileio.h"
#include "base/time.h"

#define BUFFER_BYTES ((size_t) 64 * 1024)
#define SEAL_MAX_BYTES 256

/* A second change within one tick of the clock leaves a file with the times of the first. The coarsest times that a
 * file system of ours keeps are those of FAT; one that keeps fractions of a second has the kernel's ticks, of 10 ms at most. */
#define COARSE_USEC (2 * USEC_PER_SEC)
#define FINE_USEC (100 * USEC_PER_MSEC)

/* What stands last in a sequence of paths: all that is needed to tell whether the next one may stand there. */
typedef struct Sequence {
        char *last; /* NULL: nothing does */
        size_t allocated;
        bool last_is_directory;
} Sequence;

/* A text that grows. */
typedef struct Writing {
        int fd;
        FILE *file;     /* what is put here is digested and written to fd */
        Sha256 *digest; /* of what is written */
        int error;      /* the first one of write(2); negative */
        char buffer[BUFFER_BYTES];
} Writing;

struct Manifest {
        int fd; /* its text */
        size_t n_entries;
        uint64_t n_bytes, text_bytes; /* text: without the seal */
        char boot[SD_ID128_STRING_MAX];
        ManifestEntry **first_links; /* in order */
        size_t n_first_links, n_first_links_allocated;

        /* while it is built */
        Writing *writing;     /* NULL: it is sealed */
        Sequence sequence;    /* without the last entry */
        ManifestEntry **open; /* the last entry and the directories above it */
        size_t n_open, n_open_allocated;
        bool last_is_unwritten;
};

void manifest_entry_done(ManifestEntry *e) {
        for (size_t i = 0; i < e->n_xattrs; i++) {
                free(e->xattrs[i].name);
                free(e->xattrs[i].value);
        }
        free(e->xattrs);
        free(e->path);
        free(e->uname);
        free(e->gname);
        free(e->target);
        *e = (ManifestEntry){ 0 };
}

static ManifestEntry *entry_free(ManifestEntry *e) {
        manifest_entry_done(e);
        return mfree(e);
}

static int pointer_append(ManifestEntry ***list, size_t *n, size_t *n_allocated, ManifestEntry *e) {
        if (*n == *n_allocated) {
                size_t larger = *n_allocated ? *n_allocated * 2 : 16;
                ManifestEntry **l = reallocarray(*list, larger, sizeof(ManifestEntry *));

                if (!l)
                        return -ENOMEM;
                *list = l;
                *n_allocated = larger;
        }
        (*list)[(*n)++] = e;
        return 0;
}

/* Takes over e. */
static int add_first_link(Manifest *m, ManifestEntry *e) {
        int r;

        e->link_group = m->n_first_links;
        r = pointer_append(&m->first_links, &m->n_first_links, &m->n_first_links_allocated, e);
        if (r < 0)
                (void) entry_free(e);
        return r;
}

/* --- order --- */

int manifest_path_compare(const char *a, const char *b) {
        if (streq(a, ".") || streq(b, "."))
                return streq(b, ".") - streq(a, ".");
        while (*a && *a == *b) {
                a++;
                b++;
        }
        /* The end of a name is below '/', and '/' below every byte that can stand in a name. */
        return (!*a ? 0 : *a == '/' ? 1 : (unsigned char) *a + 1) - (!*b ? 0 : *b == '/' ? 1 : (unsigned char) *b + 1);
}

static const char *path_fault(const char *path) {
        unsigned depth = 0;
        size_t n;

        if (streq(path, "."))
                return NULL;
        if (*path == '/')
                return "absolute path";
        if (strlen(path) > MANIFEST_PATH_MAX)
                return "path too long";
        for (const char *p = path;; p += n + 1) {
                n = strcspn(p, "/");
                if (n == 0)
                        return "empty name in path";
                if (n > NAME_MAX)
                        return "name too long";
                if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
                        return "\".\" or \"..\" in path";
                if (++depth > MANIFEST_DEPTH_MAX)
                        return "too many directories in path";
                if (!p[n])
                        return NULL;
        }
}

bool manifest_path_is_below(const char *path, const char *directory) {
        const char *rest = streq(directory, ".") ? NULL : startswith(path, directory);

        return rest ? *rest == '/' : streq(directory, ".") && !streq(path, ".");
}

/* What keeps path from standing next; NULL: nothing. Everything above the last path has been a directory. */
static const char *sequence_fault(const Sequence *s, const char *path) {
        const char *why = path_fault(path), *slash = strrchr(path, '/');
        size_t n_parent = slash ? (size_t) (slash - path) : 0;
        int order;

        if (why)
                return why;
        if (!s->last)
                return streq(path, ".") ? NULL : "the tree itself (\".\") is missing";
        order = manifest_path_compare(s->last, path);
        if (order >= 0)
                return order == 0 ? "duplicate path" : "path out of order";
        if (n_parent == 0)
                return NULL;
        if (strncmp(s->last, path, n_parent) != 0 || (s->last[n_parent] && s->last[n_parent] != '/'))
                return "its directory is missing";
        return s->last[n_parent] || s->last_is_directory ? NULL : "it is below something that is no directory";
}

static int sequence_note(Sequence *s, const ManifestEntry *e) {
        size_t need = strlen(e->path) + 1;

        if (need > s->allocated) {
                char *larger = realloc(s->last, need * 2);

                if (!larger)
                        return -ENOMEM;
                s->last = larger;
                s->allocated = need * 2;
        }
        memcpy(s->last, e->path, need);
        s->last_is_directory = S_ISDIR(e->mode);
        return 0;
}

/* --- building --- */

static Writing *writing_free(Writing *w) {
        if (!w)
                return NULL;
        if (w->file)
                (void) fclose(w->file);
        (void) sha256_free(w->digest);
        return mfree(w);
}

static ssize_t on_write(void *cookie, const char *data, size_t size) {
        Writing *w = cookie;
        int r;

        r = write_all(w->fd, data, size);
        if (r >= 0)
                r = sha256_add(w->digest, data, size);
        if (r >= 0)
                return (ssize_t) size;
        if (w->error >= 0)
                w->error = r;
        return 0;
}

static int start_writing(Manifest *m) {
        Writing *w = calloc(1, sizeof(Writing));
        int r;

        if (!w)
                return -ENOMEM;
        m->writing = w;
        w->fd = m->fd;
        r = sha256_new(&w->digest);
        if (r < 0)
                return r;
        w->file = fopencookie(w, "w", (cookie_io_functions_t){ .write = on_write });
        if (!w->file || setvbuf(w->file, w->buffer, _IOFBF, BUFFER_BYTES) != 0)
                return -ENOMEM;
        mtree_put_header(w->file, m->boot);
        return 0;
}

/* A file without a name, which ends with its descriptor; in memory where the file system has none such. */
static int open_unnamed(int dir_fd) {
        int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT))
                fd = memfd_create("manifest", MFD_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int new_manifest(Manifest **ret) {
        Manifest *m = calloc(1, sizeof(Manifest));
        sd_id128_t boot = SD_ID128_NULL;
        int r;

        if (!m)
                return -ENOMEM;
        m->fd = -1;
        r = sd_id128_get_boot(&boot);
        if (r < 0) {
                free(m);
                return r;
        }
        (void) sd_id128_to_string(boot, m->boot);
        *ret = m;
        return 0;
}

int manifest_new(int dir_fd, Manifest **ret) {
        _cleanup_(manifest_freep) Manifest *m = NULL;
        int r;

        r = new_manifest(&m);
        if (r >= 0)
                r = m->fd = open_unnamed(dir_fd);
        if (r >= 0)
                r = start_writing(m);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

Manifest *manifest_free(Manifest *m) {
        if (!m)
                return NULL;
        (void) writing_free(m->writing);
        for (size_t i = 0; i < m->n_first_links; i++)
                (void) entry_free(m->first_links[i]);
        free(m->first_links);
        for (size_t i = 0; i < m->n_open; i++)
                (void) entry_free(m->open[i]);
        free(m->open);
        free(m->sequence.last);
        m->fd = safe_close(m->fd);
        return mfree(m);
}

static void count(Manifest *m, const ManifestEntry *e) {
        m->n_entries++;
        if (S_ISREG(e->mode) && !e->link_to)
                m->n_bytes += e->size_bytes;
}

/* The last entry, if there is one, is complete. */
static int write_last(Manifest *m) {
        const ManifestEntry *e;
        int r;

        if (!m->last_is_unwritten)
                return 0;
        e = m->open[m->n_open - 1];
        r = mtree_put_entry(m->writing->file, e);
        if (r >= 0 && ferror(m->writing->file))
                r = m->writing->error < 0 ? m->writing->error : -ENOMEM;
        if (r >= 0)
                r = sequence_note(&m->sequence, e);
        if (r < 0)
                return r;
        count(m, e);
        m->last_is_unwritten = false;
        return 0;
}

/* Those that path is not below; all where it is NULL. */
static int close_entries(Manifest *m, const char *path) {
        int r;

        while (m->n_open > 0 && (!path || !manifest_path_is_below(path, m->open[m->n_open - 1]->path))) {
                ManifestEntry *e = m->open[--m->n_open];

                if (!manifest_is_first_link(e))
                        (void) entry_free(e);
                else {
                        r = add_first_link(m, e);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

int manifest_add(Manifest *m, const char *path, ManifestEntry **ret, const char **ret_why) {
        ManifestEntry *e;
        int r;

        assert(m->writing);

        *ret_why = NULL;
        r = write_last(m);
        if (r < 0)
                return r;
        *ret_why = sequence_fault(&m->sequence, path);
        if (*ret_why)
                return -EBADMSG;
        r = close_entries(m, path);
        if (r < 0)
                return r;
        e = calloc(1, sizeof(ManifestEntry));
        if (!e)
                return -ENOMEM;
        e->path = strdup(path);
        r = e->path ? pointer_append(&m->open, &m->n_open, &m->n_open_allocated, e) : -ENOMEM;
        if (r < 0) {
                (void) entry_free(e);
                return r;
        }
        m->last_is_unwritten = true;
        *ret = e;
        return 0;
}

void manifest_take_back(Manifest *m) {
        ManifestEntry *e = m->open[--m->n_open];

        assert(m->last_is_unwritten && !S_ISDIR(e->mode));
        m->last_is_unwritten = false;
        (void) entry_free(e);
}

int manifest_seal(Manifest *m) {
        _cleanup_free_ char *seal = NULL;
        char sha256[SHA256_HEX_SIZE];
        off_t end;
        int r;

        r = write_last(m);
        if (r >= 0)
                r = close_entries(m, NULL);
        if (r < 0)
                return r;
        if (fflush(m->writing->file) != 0)
                return m->writing->error < 0 ? m->writing->error : -EIO;
        end = lseek(m->fd, 0, SEEK_CUR);
        r = end < 0 ? -errno : sha256_finish(m->writing->digest, sha256);
        if (r < 0)
                return r;
        m->text_bytes = (uint64_t) end;
        seal = mtree_seal(m->n_entries, m->n_bytes, sha256);
        r = seal ? write_all(m->fd, seal, strlen(seal)) : -ENOMEM;
        if (r >= 0)
                r = write_all(m->fd, "\n", 1);
        if (r >= 0)
                m->writing = writing_free(m->writing);
        return r;
}

int manifest_entry_copy(ManifestEntry *e, const ManifestEntry *from) {
        char *path = TAKE_PTR(e->path);

        *e = *from;
        e->path = path;
        e->link_to = NULL;
        e->n_xattrs = 0;
        e->uname = from->uname ? strdup(from->uname) : NULL;
        e->gname = from->gname ? strdup(from->gname) : NULL;
        e->target = from->target ? strdup(from->target) : NULL;
        e->xattrs = from->n_xattrs > 0 ? calloc(from->n_xattrs, sizeof(Xattr)) : NULL;
        if ((from->uname && !e->uname) || (from->gname && !e->gname) || (from->target && !e->target) ||
                        (from->n_xattrs > 0 && !e->xattrs))
                return -ENOMEM;
        for (; e->n_xattrs < from->n_xattrs; e->n_xattrs++) {
                const Xattr *x = from->xattrs + e->n_xattrs;
                Xattr *y = e->xattrs + e->n_xattrs;

                y->name = strdup(x->name);
                y->value = malloc(x->size_bytes + 1);
                if (!y->name || !y->value) {
                        free(y->name);
                        free(y->value);
                        return -ENOMEM;
                }
                y->size_bytes = x->size_bytes;
                memcpy(y->value, x->value, x->size_bytes);
        }
        return 0;
}

bool manifest_untouched(const ManifestEntry *e, const struct stat *st) {
        return e->inode != 0 && e->inode == st->st_ino && (e->mode & S_IFMT) == (st->st_mode & S_IFMT) &&
                        st->st_nlink == 1 && e->ctime.tv_sec == st->st_ctim.tv_sec &&
                        e->ctime.tv_nsec == st->st_ctim.tv_nsec && e->mtime.tv_sec == st->st_mtim.tv_sec &&
                        e->mtime.tv_nsec == st->st_mtim.tv_nsec &&
                        (S_ISLNK(e->mode) || e->size_bytes == (uint64_t) st->st_size);
}

void manifest_note_untouched(ManifestEntry *e, const struct stat *st, const struct timespec *now_realtime) {
        usec_t granularity_usec = st->st_ctim.tv_nsec != 0 ? FINE_USEC : COARSE_USEC;

        if (st->st_nlink != 1 || timespec_usec(&st->st_ctim) + granularity_usec >= timespec_usec(now_realtime))
                return;
        e->inode = st->st_ino;
        e->ctime = st->st_ctim;
}

const char *manifest_boot(const Manifest *m) {
        return m->boot;
}

size_t manifest_n_entries(const Manifest *m) {
        return m->n_entries;
}

uint64_t manifest_n_bytes(const Manifest *m) {
        return m->n_bytes;
}

size_t manifest_n_link_groups(const Manifest *m) {
        return m->n_first_links;
}

const ManifestEntry *manifest_first_link(const Manifest *m, const char *path) {
        size_t low = 0, high = m->n_first_links;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int order = manifest_path_compare(path, m->first_links[middle]->path);

                if (order == 0)
                        return m->first_links[middle];
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NULL;
}

/* --- reading --- */

struct ManifestReader {
        const Manifest *manifest;
        Lines *lines;
        unsigned n_lines;
        size_t n_entries; /* read so far */
        bool same_boot;
        bool checking; /* the manifest does not know its first links yet */
        Sequence sequence;
        ManifestEntry entry;
        char *why; /* what is wrong with the present line; may be NULL */
};

int manifest_reader_new(const Manifest *m, ManifestReader **ret) {
        _cleanup_(manifest_reader_freep) ManifestReader *r = calloc(1, sizeof(ManifestReader));
        int q;

        assert(!m->writing);

        if (!r)
                return -ENOMEM;
        r->manifest = m;
        q = lines_new(m->fd, m->text_bytes, &r->lines);
        if (q < 0)
                return q;
        *ret = TAKE_PTR(r);
        return 0;
}

ManifestReader *manifest_reader_free(ManifestReader *r) {
        if (!r)
                return NULL;
        (void) lines_free(r->lines);
        free(r->sequence.last);
        manifest_entry_done(&r->entry);
        free(r->why);
        return mfree(r);
}

static int parse_entry(ManifestReader *r, char *line) {
        const char *path = NULL, *why = NULL;
        char *rest = NULL;
        int q;

        q = mtree_parse_path(line, &path, &rest, &why);
        if (q >= 0 && (why = sequence_fault(&r->sequence, path)))
                q = -EBADMSG;
        if (q < 0)
                return free_and_strdup(&r->why, why) < 0 ? -ENOMEM : q;
        r->entry.path = strdup(path);
        if (!r->entry.path)
                return -ENOMEM;
        q = mtree_parse_keywords(r->manifest, rest, &r->entry, &r->why);
        if (q < 0)
                return q;
        if (!r->same_boot)
                r->entry.inode = 0;
        if (manifest_is_first_link(&r->entry) && !r->checking) {
                const ManifestEntry *known = manifest_first_link(r->manifest, r->entry.path);

                if (!known)
                        return -EBADMSG;
                r->entry.link_group = known->link_group;
        }
        return sequence_note(&r->sequence, &r->entry);
}

int manifest_read(ManifestReader *r, const ManifestEntry **ret) {
        int q;

        *ret = NULL;
        manifest_entry_done(&r->entry);
        for (;;) {
                const char *boot;
                char *line;

                q = lines_next(r->lines, &line);
                if (q == 0) /* an end that comes too early would make all behind it strangers in their own tree */
                        return r->checking || r->n_entries == r->manifest->n_entries ? 0 : -EBADMSG;
                r->n_lines++;
                if (q == -EBADMSG)
                        return free_and_strdup(&r->why, "a NUL byte in the line") < 0 ? -ENOMEM : q;
                if (q < 0)
                        return q;
                if (r->n_lines == 1 && !streq(line, "#mtree"))
                        return free_and_strdup(&r->why, "no mtree file") < 0 ? -ENOMEM : -EBADMSG;
                if (*line != '#') {
                        q = parse_entry(r, line);
                        if (q < 0)
                                return q;
                        r->n_entries++;
                        *ret = &r->entry;
                        return 1;
                }
                boot = mtree_boot(line);
                r->same_boot = r->same_boot || (boot && streq(boot, r->manifest->boot));
        }
}

ManifestEntry manifest_take(ManifestReader *r) {
        ManifestEntry e = r->entry;

        r->entry = (ManifestEntry){ 0 };
        return e;
}

/* --- the file --- */

int manifest_write_at(const Manifest *m, int dir_fd, const char *name, Error *reterr) {
        int r;

        assert(!m->writing);

        r = replace_file_by_fd_at(dir_fd, name, m->fd, 0600);
        return r < 0 ? where_error(reterr, r, dir_fd, name, "manifest cannot be written:") : 0;
}

/* Digests the text of m above its seal, and counts the lines of all. */
static int digest_text(const Manifest *m, unsigned *ret_lines, char ret_sha256[static SHA256_HEX_SIZE]) {
        _cleanup_free_ char *buffer = malloc(BUFFER_BYTES);
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        uint64_t at = 0;
        int r;

        if (!buffer)
                return -ENOMEM;
        r = sha256_new(&h);
        while (r >= 0) {
                ssize_t n = TEMP_FAILURE_RETRY(pread(m->fd, buffer, BUFFER_BYTES, (off_t) at));

                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                for (const char *p = buffer; (p = memchr(p, '\n', (size_t) (buffer + n - p))); p++)
                        (*ret_lines)++;
                if (at < m->text_bytes)
                        r = sha256_add(h, buffer, (size_t) MIN((uint64_t) n, m->text_bytes - at));
                at += (uint64_t) n;
        }
        return r < 0 ? r : sha256_finish(h, ret_sha256);
}

/* Finds the seal of m, and with it where its text ends. -EBADMSG: there is none. */
static int find_seal(Manifest *m, char ret[static SEAL_MAX_BYTES]) {
        struct stat st;
        char *begin;
        ssize_t n;

        if (fstat(m->fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        n = TEMP_FAILURE_RETRY(pread(m->fd, ret, SEAL_MAX_BYTES - 1, MAX(st.st_size - (SEAL_MAX_BYTES - 1), 0)));
        if (n < 0)
                return -errno;
        if (n == 0 || ret[n - 1] != '\n')
                return -EBADMSG;
        ret[n - 1] = 0;
        begin = memrchr(ret, '\n', (size_t) n - 1);
        if (!begin || !mtree_is_seal(begin + 1))
                return -EBADMSG;
        memmove(ret, begin + 1, (size_t) (ret + n - begin) - 1);
        m->text_bytes = (uint64_t) (st.st_size - (ret + n - begin) + 1);
        return 0;
}

/* Everything in it once, so that what is read of it later is good. -EBADMSG: *ret_why (the caller's, may stay NULL) says
 * what is wrong in *ret_line. */
static int check(Manifest *m, unsigned *ret_line, char **ret_why) {
        _cleanup_(manifest_reader_freep) ManifestReader *reader = NULL;
        char sha256[SHA256_HEX_SIZE] = "", seal[SEAL_MAX_BYTES];
        _cleanup_free_ char *expected = NULL;
        const ManifestEntry *e;
        int r, q;

        r = find_seal(m, seal);
        if (r < 0 && r != -EBADMSG)
                return r;
        *ret_line = 0;
        q = digest_text(m, ret_line, sha256);
        if (q < 0)
                return q;
        *ret_line = MAX(*ret_line, 1U);
        if (r < 0 || !strstr(seal, sha256)) {
                *ret_why = strdup("the seal in its last line does not fit: truncated or changed");
                return *ret_why ? -EBADMSG : -ENOMEM;
        }

        r = manifest_reader_new(m, &reader);
        if (r >= 0)
                reader->checking = true;
        while (r >= 0 && (r = manifest_read(reader, &e)) > 0) {
                count(m, e);
                if (manifest_is_first_link(e)) {
                        ManifestEntry *first = malloc(sizeof(ManifestEntry));

                        if (!first)
                                return -ENOMEM;
                        *first = manifest_take(reader);
                        r = add_first_link(m, first);
                }
        }
        if (r < 0) {
                if (reader) {
                        *ret_line = reader->n_lines;
                        *ret_why = TAKE_PTR(reader->why);
                }
                return r;
        }
        *ret_line = reader->n_lines + 1;
        expected = mtree_seal(m->n_entries, m->n_bytes, sha256);
        if (!expected)
                return -ENOMEM;
        if (m->n_entries == 0 || !streq(expected, seal)) {
                *ret_why = strdup("the numbers in its seal do not fit");
                return *ret_why ? -EBADMSG : -ENOMEM;
        }
        return 0;
}

int manifest_load_at(int dir_fd, const char *name, Manifest **ret, Error *reterr) {
        static const char advice[] = "The backup cannot be trusted: look for disk errors, and use another one.";
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_free_ char *why = NULL;
        unsigned line = 0;
        int r;

        r = new_manifest(&m);
        if (r >= 0) { /* O_NONBLOCK: a FIFO in the file's place must not hang us */
                m->fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
                r = m->fd < 0 ? -errno : check(m, &line, &why);
        }
        if (r == -EBADMSG)
                return error_set(reterr, r, advice, "%s:%u: damaged manifest: %s", name, line, why ?: "unknown");
        if (r < 0)
                return where_error(reterr, r, dir_fd, name, "manifest cannot be read:");
        *ret = TAKE_PTR(m);
        return 0;
}
