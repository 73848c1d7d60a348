/* SPDX-License-Identifier: Apache-2.0 */

#include "package/store.h"

#include <dirent.h>
#include <fcntl.h>

#include "base/fileio.h"

#define CHECKSUM_BYTES_MAX 4096
#define CHECKSUM_SUFFIX ".sha256"

/* What was seen on the way, for the message. */
typedef struct Search {
        Package *found;
        char *others;   /* "emqx 4.4.11 (a.deb), emqx-ee 4.4.0 (b.deb)" */
        char *unusable; /* the first file that looked like a package and was none */
        bool wrong_arch;
} Search;

static void search_done(Search *s) {
        s->found = package_free(s->found);
        s->others = mfree(s->others);
        s->unusable = mfree(s->unusable);
}

static void note_other(Search *s, const Package *p) {
        char *text;

        if (asprintf(&text, "%s%s%s %s for %s (%s)", s->others ?: "", s->others ? ", " : "", p->name, p->version,
                            p->arch, strrchr(p->path, '/') + 1) < 0)
                return;
        free(s->others);
        s->others = text;
}

static int consider(Search *s, const PackageKind *kind, const char *path, const char *name, const char *version,
                const char *arch, Error *reterr) {
        _cleanup_(package_freep) Package *p = NULL;
        _cleanup_(error_done) Error why = ERROR_NULL;
        int r;

        r = kind->read(path, &p, &why);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                if (!s->unusable)
                        s->unusable = TAKE_PTR(why.message);
                return 0;
        }
        if (!streq(p->name, name) || !streq(p->version, version)) {
                note_other(s, p);
                return 0;
        }
        if (!streq(p->arch, arch) && !streq(p->arch, "all")) {
                note_other(s, p);
                s->wrong_arch = true;
                return 0;
        }
        if (s->found)
                return error_set(reterr, -ENOTUNIQ, "Leave one of them there.", "%s and %s are both %s %s for %s",
                                s->found->path, p->path, name, version, arch);
        s->found = TAKE_PTR(p);
        return 0;
}

int store_find(const char *dir, const PackageKind *kind, const char *name, const char *version, const char *arch,
                Package **ret, Error *reterr) {
        _cleanup_(search_done) Search s = { NULL };
        _cleanup_free_ char *suffix = NULL, *advice = NULL;
        struct dirent *de;
        DIR *d;
        int r = 0;

        if (asprintf(&suffix, ".%s", kind->name) < 0 ||
                        asprintf(&advice,
                                        "Put the package of %s %s for %s into %s, with its " CHECKSUM_SUFFIX
                                        " beside it.",
                                        name, version, arch, dir) < 0)
                return -ENOMEM;
        d = opendir(dir);
        if (!d)
                return error_set(reterr, -errno, advice, "Cannot open the packages directory %s: %m", dir);
        while (r >= 0 && (de = readdir(d))) {
                _cleanup_free_ char *path = NULL;

                if (de->d_name[0] == '.' || !endswith(de->d_name, suffix))
                        continue;
                r = asprintf(&path, "%s/%s", dir, de->d_name) < 0
                                ? -ENOMEM
                                : consider(&s, kind, path, name, version, arch, reterr);
        }
        (void) closedir(d);
        if (r < 0)
                return r;
        if (s.found) {
                *ret = TAKE_PTR(s.found);
                return 0;
        }
        return error_set(reterr, s.wrong_arch ? -ENOEXEC : -ENOENT, advice,
                        "%s has no package of %s %s for %s; it has: %s%s%s", dir, name, version, arch,
                        s.others ?: "no package", s.unusable ? "; unusable: " : "", s.unusable ?: "");
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
                                        "Fetch it from where the package is from; to trust the package as it is: sha256sum %s >%s",
                                        p->path, checksum_path) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, checksum_path, CHECKSUM_BYTES_MAX, &text, NULL);
        if (r < 0)
                return error_set(reterr, r == -ENOENT ? -ENODATA : r, advice, "Cannot read the checksum %s: %m",
                                checksum_path);
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
