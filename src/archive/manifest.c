/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/manifest.h"

#include <limits.h>
#include <systemd/sd-id128.h>

#include "archive/mtree.h"
#include "archive/where.h"
#include "base/fileio.h"

/* A million entries and more; what is larger is not ours. */
#define MANIFEST_FILE_MAX_BYTES ((size_t) 1 << 30)

/* A second change within one tick of the clock leaves a file with the times of the first. The coarsest times that a
 * file system of ours keeps are those of FAT. */
#define GRANULARITY_SEC 2

struct Manifest {
        ManifestEntry **entries;
        size_t n_entries, n_allocated;
        uint64_t n_bytes;
        size_t *open; /* while building: the last entry and those above it */
        size_t n_open, n_open_allocated;
        bool sealed;
        char boot[SD_ID128_STRING_MAX];
};

int manifest_new(Manifest **ret) {
        Manifest *m = calloc(1, sizeof(Manifest));
        sd_id128_t boot = SD_ID128_NULL;
        int r;

        if (!m)
                return -ENOMEM;
        r = sd_id128_get_boot(&boot);
        if (r < 0) {
                free(m);
                return r;
        }
        (void) sd_id128_to_string(boot, m->boot);
        *ret = m;
        return 0;
}

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

Manifest *manifest_free(Manifest *m) {
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->n_entries; i++) {
                manifest_entry_done(m->entries[i]);
                free(m->entries[i]);
        }
        free(m->entries);
        free(m->open);
        return mfree(m);
}

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

static bool is_parent(const char *parent, const char *path) {
        const char *slash = strrchr(path, '/');
        size_t n = slash ? (size_t) (slash - path) : 0;

        if (!slash)
                return streq(parent, ".");
        return strlen(parent) == n && memcmp(parent, path, n) == 0;
}

static int open_push(Manifest *m, size_t index) {
        if (m->n_open == m->n_open_allocated) {
                size_t n = m->n_open_allocated ? m->n_open_allocated * 2 : 16;
                size_t *larger = reallocarray(m->open, n, sizeof(size_t));

                if (!larger)
                        return -ENOMEM;
                m->open = larger;
                m->n_open_allocated = n;
        }
        m->open[m->n_open++] = index;
        return 0;
}

int manifest_add(Manifest *m, const char *path, ManifestEntry **ret, const char **ret_why) {
        ManifestEntry *e;
        int r;

        assert(!m->sealed);

        *ret_why = path_fault(path);
        if (!*ret_why && m->n_entries > 0) {
                int order = manifest_path_compare(m->entries[m->n_entries - 1]->path, path);

                *ret_why = order == 0 ? "duplicate path" : order > 0 ? "path out of order" : NULL;
        } else if (!*ret_why && !streq(path, "."))
                *ret_why = "the tree itself (\".\") is missing";
        if (*ret_why)
                return -EBADMSG;

        for (; m->n_open > 0 && !is_parent(m->entries[m->open[m->n_open - 1]]->path, path); m->n_open--)
                m->entries[m->open[m->n_open - 1]]->end = m->n_entries;
        if (m->n_entries > 0 && m->n_open == 0) {
                *ret_why = "its directory is missing";
                return -EBADMSG;
        }
        if (m->n_open > 0 && !S_ISDIR(m->entries[m->open[m->n_open - 1]]->mode)) {
                *ret_why = "it is below something that is no directory";
                return -EBADMSG;
        }

        if (m->n_entries == m->n_allocated) {
                size_t n = m->n_allocated ? m->n_allocated * 2 : 64;
                ManifestEntry **larger = reallocarray(m->entries, n, sizeof(ManifestEntry *));

                if (!larger)
                        return -ENOMEM;
                m->entries = larger;
                m->n_allocated = n;
        }
        r = open_push(m, m->n_entries);
        if (r < 0)
                return r;
        e = calloc(1, sizeof(ManifestEntry));
        if (e)
                e->path = strdup(path);
        if (!e || !e->path) {
                m->n_open--;
                free(e);
                return -ENOMEM;
        }
        e->index = m->n_entries;
        m->entries[m->n_entries++] = e;
        *ret = e;
        return 0;
}

void manifest_take_back(Manifest *m) {
        ManifestEntry *e = m->entries[--m->n_entries];

        assert(!S_ISDIR(e->mode));
        m->n_open--;
        manifest_entry_done(e);
        free(e);
}

int manifest_entry_copy(ManifestEntry *e, const ManifestEntry *from) {
        char *path = TAKE_PTR(e->path);
        size_t index = e->index;

        assert(!from->link_to);
        *e = *from;
        e->path = path;
        e->index = index;
        e->end = 0;
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
        if (st->st_nlink != 1 || st->st_ctim.tv_sec + GRANULARITY_SEC >= now_realtime->tv_sec)
                return;
        e->inode = st->st_ino;
        e->ctime = st->st_ctim;
}

const char *manifest_boot(const Manifest *m) {
        return m->boot;
}

void manifest_seal(Manifest *m) {
        for (; m->n_open > 0; m->n_open--)
                m->entries[m->open[m->n_open - 1]]->end = m->n_entries;
        m->sealed = true;

        MANIFEST_FOREACH(e, m)
        if (S_ISREG(e->mode) && !e->link_to)
                m->n_bytes += e->size_bytes;
}

size_t manifest_n_entries(const Manifest *m) {
        return m->n_entries;
}

uint64_t manifest_n_bytes(const Manifest *m) {
        return m->n_bytes;
}

const ManifestEntry *manifest_at(const Manifest *m, size_t index) {
        return index < m->n_entries ? m->entries[index] : NULL;
}

const ManifestEntry *manifest_find(const Manifest *m, const char *path) {
        size_t low = 0, high = m->n_entries;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int order = manifest_path_compare(path, m->entries[middle]->path);

                if (order == 0)
                        return m->entries[middle];
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NULL;
}

int manifest_write_at(const Manifest *m, int dir_fd, const char *name, Error *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = mtree_format(m, &text, &size);
        if (r >= 0)
                r = replace_file_at(dir_fd, name, text, size, 0600);
        if (r < 0)
                return where_error(reterr, r, dir_fd, name, "manifest cannot be written:");
        return 0;
}

int manifest_load_at(int dir_fd, const char *name, Manifest **ret, Error *reterr) {
        static const char advice[] = "The backup cannot be trusted: look for disk errors, and use another one.";
        _cleanup_free_ char *text = NULL, *why = NULL;
        unsigned line = 0;
        size_t size;
        int r;

        r = read_file_at(dir_fd, name, MANIFEST_FILE_MAX_BYTES, &text, &size);
        if (r < 0)
                return where_error(reterr, r, dir_fd, name, "manifest cannot be read:");

        r = mtree_parse(text, size, ret, &line, &why);
        if (r == -EBADMSG)
                return error_set(reterr, r, advice, "%s:%u: damaged manifest: %s", name, line, why ?: "unknown");
        if (r < 0)
                return where_error(reterr, r, dir_fd, name, "manifest cannot be read:");
        return 0;
}
