/* SPDX-License-Identifier: Apache-2.0 */

#include "package/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>

#include "base/fileio.h"

#define CHECKSUM_BYTES_MAX 4096
#define CHECKSUM_SUFFIX ".sha256"
#define LISTED_MAX 8

/* What was seen on the way, for the message. */
typedef struct Search {
        Package *found;
        char **others;   /* "emqx 4.4.11 for amd64 (a.deb)" */
        char **unusable; /* what looked like a package and was none, with the reason */
        bool wrong_arch;
        bool wrong_name;
} Search;

static void search_done(Search *s) {
        s->found = package_free(s->found);
        s->others = strv_free(s->others);
        s->unusable = strv_free(s->unusable);
}

/* A message has no line breaks, nor what a terminal would act on. */
static bool is_printable(const char *name) {
        for (; *name; name++)
                if ((unsigned char) *name < ' ' || *name == 0x7f)
                        return false;
        return true;
}

/* NULL, or out of memory: NULL too. Long lists end in "…". */
static char *list(char **l) {
        char *rest = NULL, *text;

        if (l && strv_length(l) > LISTED_MAX) {
                rest = l[LISTED_MAX];
                l[LISTED_MAX] = NULL;
        }
        text = l ? strv_join(l, ", ") : NULL;
        if (rest) {
                char *longer;

                l[LISTED_MAX] = rest;
                if (text && asprintf(&longer, "%s, …", text) >= 0) {
                        free(text);
                        text = longer;
                }
        }
        return text;
}

static int consider(Search *s, const PackageKind *kind, const char *path, const char *name, const char *version,
                const char *arch, Error *reterr) {
        _cleanup_(package_freep) Package *p = NULL;
        _cleanup_(error_done) Error why = ERROR_NULL;
        const char *file = strrchr(path, '/') + 1, *suffix = strrchr(file, '.');
        int r;

        if (!is_printable(file))
                return strv_extend(&s->unusable, "a file with a control character in its name");
        r = kind->read(path, &p, &why);
        if (r == -ENOMEM)
                return r;
        if (r < 0) /* only what is named as a package is missed as one */
                return suffix && streq(suffix + 1, kind->name) ? strv_extend(&s->unusable, error_text(&why, r)) : 0;
        if (streq(p->name, name) && streq(p->version, version) && (streq(p->arch, arch) || streq(p->arch, "all"))) {
                if (s->found)
                        return error_set(reterr, -ENOTUNIQ, "Leave one of them there.",
                                        "%s and %s are both %s %s for %s", s->found->path, p->path, name, version,
                                        arch);
                s->found = TAKE_PTR(p);
                return 0;
        }
        if (streq(p->version, version)) {
                s->wrong_arch = s->wrong_arch || streq(p->name, name);
                s->wrong_name = s->wrong_name || !streq(p->name, name);
        }
        return strv_extendf(&s->others, "%s %s for %s (%s)", p->name, p->version, p->arch, file);
}

static int is_candidate(const struct dirent *de) {
        return de->d_name[0] != '.' && !endswith(de->d_name, CHECKSUM_SUFFIX);
}

static int compare_names(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int search(Search *s, const char *dir, const PackageKind *kind, const char *name, const char *version,
                const char *arch, const char *advice, Error *reterr) {
        struct dirent **files = NULL;
        int n, r = 0;

        n = scandir(dir, &files, is_candidate, compare_names);
        if (n < 0)
                return error_set(reterr, -errno, advice, "Cannot read the packages directory %s: %m", dir);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL;

                if (r >= 0)
                        r = asprintf(&path, "%s/%s", dir, files[i]->d_name) < 0
                                        ? -ENOMEM
                                        : consider(s, kind, path, name, version, arch, reterr);
                free(files[i]);
        }
        free(files);
        return r;
}

int store_find(const char *dir, const PackageKind *kind, const char *name, const char *version, const char *arch,
                Package **ret, Error *reterr) {
        _cleanup_(search_done) Search s = { NULL };
        _cleanup_free_ char *advice = NULL, *others = NULL, *unusable = NULL;
        int r;

        if (asprintf(&advice, "Put the package of %s %s for %s into %s, with its " CHECKSUM_SUFFIX " beside it.", name,
                            version, arch, dir) < 0)
                return -ENOMEM;
        r = search(&s, dir, kind, name, version, arch, advice, reterr);
        if (r < 0)
                return r;
        if (s.found) {
                *ret = TAKE_PTR(s.found);
                return 0;
        }
        others = list(s.others);
        unusable = list(s.unusable);
        return error_set(reterr, s.wrong_arch ? -ENOEXEC : -ENOENT, advice,
                        "%s has no package of %s %s for %s%s; it has %s%s%s", dir, name, version, arch,
                        s.wrong_arch                   ? ", only for another architecture"
                                        : s.wrong_name ? ", only of another edition"
                                                       : "",
                        others ?: "none at all", unusable ? "; unusable: " : "", unusable ?: "");
}

int store_versions(const char *dir, const PackageKind *kind, const char *name, const char *arch, char ***ret,
                Error *reterr) {
        _cleanup_strv_ char **versions = NULL;
        struct dirent **files = NULL;
        int n, r = 0;

        n = scandir(dir, &files, is_candidate, compare_names);
        if (n < 0)
                return error_set(reterr, -errno, NULL, "Cannot read the packages directory %s: %m", dir);
        for (int i = 0; i < n; i++) {
                _cleanup_(package_freep) Package *p = NULL;
                _cleanup_free_ char *path = NULL;

                if (r >= 0 && asprintf(&path, "%s/%s", dir, files[i]->d_name) < 0)
                        r = -ENOMEM;
                if (r >= 0 && kind->read(path, &p, NULL) >= 0 && streq(p->name, name) &&
                                (streq(p->arch, arch) || streq(p->arch, "all")))
                        r = strv_extend(&versions, p->version);
                free(files[i]);
        }
        free(files);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(versions);
        return 0;
}

int checksum_parse(const char *text, char ret_hex[static SHA256_HEX_SIZE]) {
        size_t n = SHA256_HEX_SIZE - 1;

        if (strspn(text, "0123456789abcdefABCDEF") != n || (text[n] && !strchr(" \t\r\n", text[n])))
                return -EBADMSG;
        for (size_t i = 0; i < n; i++)
                ret_hex[i] = text[i] >= 'A' && text[i] <= 'F' ? (char) (text[i] - 'A' + 'a') : text[i];
        ret_hex[n] = 0;
        return 0;
}

int store_verify(const PackageKind *kind, const Package *p, char ret_hex[static SHA256_HEX_SIZE], Error *reterr) {
        _cleanup_free_ char *checksum_path = NULL, *text = NULL, *advice = NULL;
        _cleanup_close_ int fd = -1;
        char expected[SHA256_HEX_SIZE];
        int r;

        if (asprintf(&checksum_path, "%s" CHECKSUM_SUFFIX, p->path) < 0 ||
                        asprintf(&advice,
                                        "Fetch it from where the package is from. To trust the package as it is:"
                                        " sha256sum %s >%s",
                                        p->path, checksum_path) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, checksum_path, CHECKSUM_BYTES_MAX, &text, NULL);
        if (r == -ENOENT)
                return error_set(reterr, -ENODATA, advice, "The package has no checksum beside it: there is no %s",
                                checksum_path);
        if (r < 0)
                return error_set(reterr, r, advice, "Cannot read the checksum %s: %m", checksum_path);
        if (checksum_parse(text, expected) < 0)
                return error_set(reterr, -EBADMSG, advice, "%s is no SHA-256 checksum", checksum_path);

        fd = open(p->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s: %m", p->path);
        r = sha256_fd(fd, ret_hex);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", p->path);
        if (!streq(ret_hex, expected))
                return error_set(reterr, -EKEYREJECTED, "Fetch the package again.",
                                "%s does not match its checksum: its SHA-256 is %s, not %s", p->path, ret_hex,
                                expected);
        return kind->verify(p->path, reterr);
}

int store_digest(const PackageKind *kind, const Package *p, char ret_hex[static SHA256_HEX_SIZE], Error *reterr) {
        _cleanup_close_ int fd = open(p->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        int r;

        r = fd < 0 ? -errno : sha256_fd(fd, ret_hex);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot read %s: %m", p->path) : kind->verify(p->path, reterr);
}

int store_find_cached(const PackageKind *kind, const char *name, const char *version, const char *arch, Package **ret,
                Error *reterr) {
        int r = 0;

        for (size_t i = 0; kind->cache_dirs && kind->cache_dirs[i] && r == 0; i++) {
                glob_t found = { 0 };

                if (glob(kind->cache_dirs[i], GLOB_NOSORT, NULL, &found) == 0)
                        for (size_t j = 0; j < found.gl_pathc && r == 0; j++) {
                                _cleanup_(search_done) Search s = { NULL };

                                r = search(&s, found.gl_pathv[j], kind, name, version, arch, NULL, NULL);
                                if (r == -ENOMEM)
                                        (void) error_set(reterr, r, NULL, "Out of memory");
                                else if (s.found) {
                                        *ret = TAKE_PTR(s.found); /* the first of several that are the same */
                                        r = 1;
                                } else
                                        r = 0;
                        }
                globfree(&found);
        }
        return r;
}
