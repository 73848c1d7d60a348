/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/mtree.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>

#define XATTR_VALUE_MAX_BYTES 65536 /* XATTR_SIZE_MAX of the kernel */

#define BOOT "# boot "
#define SEAL "# sealed: "

static const char header[] = "#mtree\n"
                             "# Keywords beyond mtree(5):\n"
                             "#   hardlink=PATH      the same file as PATH, which stands above\n"
                             "#   xattr.NAME=BASE64  an extended attribute, POSIX ACLs included\n"
                             "#   ctime=TIME         of the last change; it and inode hold in the boot named below\n"
                             "# FIFOs and sockets have no keyword but their type.\n";

static const struct {
        const char *name;
        mode_t mode;
} types[] = {
        { "dir", S_IFDIR },
        { "file", S_IFREG },
        { "link", S_IFLNK },
        { "fifo", S_IFIFO },
        { "socket", S_IFSOCK },
};

/* --- writing --- */

/* vis(3) with VIS_OCTAL, and of graphic characters those that mean something to mtree. */
static void put_escaped(FILE *f, const char *s) {
        for (; *s; s++)
                if (*s <= ' ' || *s > '~' || strchr("\\#=*?[", *s))
                        fprintf(f, "\\%03o", (unsigned char) *s);
                else
                        fputc(*s, f);
}

static void put_string(FILE *f, const char *keyword, const char *value) {
        fprintf(f, " %s=", keyword);
        put_escaped(f, value);
}

static void put_path(FILE *f, const char *path) {
        if (streq(path, "."))
                fputc('.', f);
        else {
                fputs("./", f);
                put_escaped(f, path);
        }
}

static int put_xattr(FILE *f, const Xattr *x) {
        _cleanup_free_ unsigned char *text = malloc(4 * (x->size_bytes / 3 + 1) + 1);

        if (!text)
                return -ENOMEM;
        text[0] = 0;
        EVP_EncodeBlock(text, x->value, (int) x->size_bytes);
        fputs(" xattr.", f);
        put_escaped(f, x->name);
        fprintf(f, "=%s", text);
        return 0;
}

int mtree_put_entry(FILE *f, const ManifestEntry *e) {
        int r;

        put_path(f, e->path);
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (types[i].mode == (e->mode & S_IFMT))
                        fprintf(f, " type=%s", types[i].name);

        if (!S_ISFIFO(e->mode) && !S_ISSOCK(e->mode)) {
                fprintf(f, " uid=%" PRIu32 " gid=%" PRIu32, (uint32_t) e->uid, (uint32_t) e->gid);
                if (e->uname)
                        put_string(f, "uname", e->uname);
                if (e->gname)
                        put_string(f, "gname", e->gname);
                fprintf(f, " mode=%04o time=%jd.%09ld", (unsigned) e->mode & 07777, (intmax_t) e->mtime.tv_sec,
                                e->mtime.tv_nsec);
        }
        if (S_ISLNK(e->mode))
                put_string(f, "link", e->target);
        if (S_ISREG(e->mode))
                fprintf(f, " size=%" PRIu64 " nlink=%" PRIu64 " sha256digest=%s", e->size_bytes, e->n_links,
                                e->sha256);
        if (e->inode != 0)
                fprintf(f, " inode=%" PRIu64 " ctime=%jd.%09ld", e->inode, (intmax_t) e->ctime.tv_sec,
                                e->ctime.tv_nsec);
        if (e->link_to) {
                fputs(" hardlink=", f);
                put_path(f, e->link_to->path);
        }
        for (size_t i = 0; i < e->n_xattrs; i++) {
                r = put_xattr(f, e->xattrs + i);
                if (r < 0)
                        return r;
        }
        fputc('\n', f);
        return 0;
}

void mtree_put_header(FILE *f, const char *boot) {
        fprintf(f, "%s" BOOT "%s\n", header, boot);
}

char *mtree_seal(size_t n_entries, uint64_t n_bytes, const char *sha256) {
        char *line;

        return asprintf(&line, SEAL "%zu entries, %" PRIu64 " bytes, sha256 %s", n_entries, n_bytes, sha256) < 0
                        ? NULL
                        : line;
}

/* --- reading: every parse function returns 0, -EBADMSG, or -ENOMEM --- */

static int unescape(char *s) {
        char *to = s;

        for (; *s; s++) {
                unsigned c = (unsigned char) *s;

                if (c <= ' ' || c > '~')
                        return -EBADMSG;
                if (c == '\\') {
                        c = 0;
                        for (unsigned i = 0; i < 3; i++) {
                                s++;
                                if (*s < '0' || *s > '7')
                                        return -EBADMSG;
                                c = c * 8 + (unsigned) (*s - '0');
                        }
                        if (c == 0 || c > 255)
                                return -EBADMSG;
                }
                *to++ = (char) c;
        }
        *to = 0;
        return 0;
}

static int parse_number(const char *s, unsigned base, uint64_t max, uint64_t *ret) {
        char *end;

        if (*s < '0' || *s > '9')
                return -EBADMSG;
        errno = 0;
        *ret = strtoull(s, &end, (int) base);
        return errno != 0 || *end || *ret > max ? -EBADMSG : 0;
}

static int parse_time(char *s, struct timespec *ret) {
        char *dot = strchr(s, '.');
        bool negative = *s == '-';
        uint64_t sec, nsec;

        if (!dot || strlen(dot + 1) != 9)
                return -EBADMSG;
        *dot = 0;
        if (parse_number(s + negative, 10, INT64_MAX, &sec) < 0 || parse_number(dot + 1, 10, 999999999, &nsec) < 0)
                return -EBADMSG;
        *ret = (struct timespec){ .tv_sec = negative ? -(time_t) sec : (time_t) sec, .tv_nsec = (long) nsec };
        return 0;
}

static int parse_text(char *s, size_t max, char **ret) {
        if (unescape(s) < 0 || !*s || strlen(s) > max)
                return -EBADMSG;
        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

static int parse_xattr(char *name, const char *value, ManifestEntry *e) {
        size_t n = strlen(value), padding = n - (size_t) (strchrnul(value, '=') - value);
        _cleanup_free_ unsigned char *data = malloc(n / 4 * 3 + 1);
        Xattr *larger;
        int decoded;

        if (!data)
                return -ENOMEM;
        if (unescape(name) < 0 || !strchr(name, '.') || strlen(name) > XATTR_NAME_MAX)
                return -EBADMSG;
        if (e->n_xattrs > 0 && strcmp(e->xattrs[e->n_xattrs - 1].name, name) >= 0)
                return -EBADMSG;
        decoded = EVP_DecodeBlock(data, (const unsigned char *) value, (int) MIN(n, (size_t) INT_MAX));
        if (n % 4 != 0 || padding > 2 || decoded < 0 || (size_t) decoded != n / 4 * 3 || n / 4 * 3 < padding ||
                        n / 4 * 3 - padding > XATTR_VALUE_MAX_BYTES)
                return -EBADMSG;

        larger = reallocarray(e->xattrs, e->n_xattrs + 1, sizeof(Xattr));
        if (!larger)
                return -ENOMEM;
        e->xattrs = larger;
        e->xattrs[e->n_xattrs] = (Xattr){ .name = strdup(name), .size_bytes = n / 4 * 3 - padding };
        if (!e->xattrs[e->n_xattrs].name)
                return -ENOMEM;
        e->xattrs[e->n_xattrs++].value = TAKE_PTR(data);
        return 0;
}

static int parse_link_to(const Manifest *m, char *path, ManifestEntry *e) {
        if (!startswith(path, "./") || unescape(path) < 0)
                return -EBADMSG;
        e->link_to = manifest_first_link(m, path + 2);
        return e->link_to ? 0 : -EBADMSG;
}

typedef enum Keyword {
        KEY_TYPE = 1 << 0,
        KEY_UID = 1 << 1,
        KEY_GID = 1 << 2,
        KEY_UNAME = 1 << 3,
        KEY_GNAME = 1 << 4,
        KEY_MODE = 1 << 5,
        KEY_TIME = 1 << 6,
        KEY_LINK = 1 << 7,
        KEY_SIZE = 1 << 8,
        KEY_NLINK = 1 << 9,
        KEY_SHA256 = 1 << 10,
        KEY_HARDLINK = 1 << 11,
        KEY_INODE = 1 << 12,
        KEY_CTIME = 1 << 13,
} Keyword;

#define KEYS_MUST (KEY_TYPE | KEY_UID | KEY_GID | KEY_MODE | KEY_TIME)
#define KEYS_MAY (KEY_UNAME | KEY_GNAME)
#define KEYS_FILE (KEY_SIZE | KEY_NLINK | KEY_SHA256)
#define KEYS_UNTOUCHED (KEY_INODE | KEY_CTIME)

static const struct {
        const char *name;
        Keyword key;
} keywords[] = {
        { "type", KEY_TYPE },
        { "uid", KEY_UID },
        { "gid", KEY_GID },
        { "uname", KEY_UNAME },
        { "gname", KEY_GNAME },
        { "mode", KEY_MODE },
        { "time", KEY_TIME },
        { "link", KEY_LINK },
        { "size", KEY_SIZE },
        { "nlink", KEY_NLINK },
        { "sha256digest", KEY_SHA256 },
        { "hardlink", KEY_HARDLINK },
        { "inode", KEY_INODE },
        { "ctime", KEY_CTIME },
};

static int parse_value(const Manifest *m, Keyword key, char *value, ManifestEntry *e) {
        uint64_t n;
        int r;

        switch (key) {
        case KEY_TYPE:
                for (size_t i = 0; i < ELEMENTSOF(types); i++)
                        if (streq(types[i].name, value)) {
                                e->mode |= types[i].mode;
                                return 0;
                        }
                return -EBADMSG;
        case KEY_UID:
        case KEY_GID:
                r = parse_number(value, 10, UINT32_MAX - 1, &n);
                if (r >= 0)
                        *(key == KEY_UID ? &e->uid : &e->gid) = (uid_t) n;
                return r;
        case KEY_UNAME: return parse_text(value, NAME_MAX, &e->uname);
        case KEY_GNAME: return parse_text(value, NAME_MAX, &e->gname);
        case KEY_MODE:
                r = parse_number(value, 8, 07777, &n);
                if (r >= 0)
                        e->mode |= (mode_t) n;
                return r;
        case KEY_TIME: return parse_time(value, &e->mtime);
        case KEY_LINK: return parse_text(value, PATH_MAX - 1, &e->target);
        case KEY_SIZE: return parse_number(value, 10, INT64_MAX, &e->size_bytes);
        case KEY_NLINK: return parse_number(value, 10, UINT32_MAX, &e->n_links);
        case KEY_SHA256:
                if (strlen(value) != SHA256_HEX_SIZE - 1 || strspn(value, "0123456789abcdef") != SHA256_HEX_SIZE - 1)
                        return -EBADMSG;
                memcpy(e->sha256, value, SHA256_HEX_SIZE);
                return 0;
        case KEY_HARDLINK: return parse_link_to(m, value, e);
        case KEY_INODE: return parse_number(value, 10, UINT64_MAX, &e->inode);
        case KEY_CTIME: return parse_time(value, &e->ctime);
        }
        return -EBADMSG;
}

static const char *keywords_fault(unsigned seen, const ManifestEntry *e) {
        unsigned must = KEYS_MUST, may = KEYS_MAY;

        switch (e->mode & S_IFMT) {
        case S_IFREG:
                must |= KEYS_FILE;
                may |= KEY_HARDLINK | KEYS_UNTOUCHED;
                break;
        case S_IFLNK:
                must |= KEY_LINK;
                may |= KEYS_UNTOUCHED;
                break;
        case S_IFDIR: break;
        default:
                must = KEY_TYPE;
                may = 0;
                if (e->n_xattrs > 0)
                        return "a FIFO or socket has no attributes";
        }
        if ((seen & must) != must)
                return "a keyword is missing";
        if (seen & ~(must | may))
                return "a keyword does not go with the type";
        if ((seen & KEYS_UNTOUCHED) != 0 && (seen & KEYS_UNTOUCHED) != KEYS_UNTOUCHED)
                return "inode and ctime go together";
        if (streq(e->path, ".") && !S_ISDIR(e->mode))
                return "the tree itself is no directory";
        if (e->link_to &&
                        (e->size_bytes != e->link_to->size_bytes || !streq(e->sha256, e->link_to->sha256) ||
                                        e->n_links < 2))
                return "not the same file as its hard link";
        return NULL;
}

bool mtree_is_seal(const char *line) {
        return startswith(line, SEAL);
}

const char *mtree_boot(const char *line) {
        return startswith(line, BOOT);
}

int mtree_parse_path(char *line, const char **ret_path, char **rest, const char **ret_why) {
        char *path = strsep(&line, " ");

        if (!streq(path, ".")) {
                if (!startswith(path, "./") || unescape(path) < 0) {
                        *ret_why = "no relative path";
                        return -EBADMSG;
                }
                path += 2;
        }
        *ret_path = path;
        *rest = line;
        return 0;
}

int mtree_parse_keywords(const Manifest *m, char *rest, ManifestEntry *e, char **ret_why) {
        const char *why;
        unsigned seen = 0;
        char *word;
        int r;

        while ((word = strsep(&rest, " "))) {
                char *value = strchr(word, '=');
                Keyword key = 0;

                if (value)
                        *value++ = 0;
                for (size_t i = 0; i < ELEMENTSOF(keywords) && !key; i++)
                        if (streq(keywords[i].name, word))
                                key = keywords[i].key;

                if (value && !key && startswith(word, "xattr."))
                        r = parse_xattr(word + strlen("xattr."), value, e);
                else if (value && key && !(seen & key))
                        r = parse_value(m, key, value, e);
                else
                        r = -EBADMSG;
                if (r < 0) {
                        if (r == -EBADMSG && asprintf(ret_why, "bad keyword \"%.40s\"", word) < 0)
                                return -ENOMEM;
                        return r;
                }
                seen |= key;
        }
        why = keywords_fault(seen, e);
        if (!why)
                return 0;
        return free_and_strdup(ret_why, why) < 0 ? -ENOMEM : -EBADMSG;
}
