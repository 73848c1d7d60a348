/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/diff.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "base/process.h"
#include "steps/aside.h"
#include "steps/backup.h"

#define CONF_BYTES_MAX (4 * 1024 * 1024)
#define HIDDEN "(hidden)"

/* --- secrets --- */

static const char *const secret_words[] = { "password", "passwd", "passphrase", "secret", "token", "cookie",
        "credential", "private", "apikey", "api_key", "access_key", "salt", "authorization", "bearer" };

/* Whether the last word of a name is "key", which a keyfile or a keepalive is not. */
static bool ends_in_key(const char *name, size_t n) {
        return n >= 3 && strncasecmp(name + n - 3, "key", 3) == 0;
}

/* Where in s the first secret word ends, within n bytes; NULL: there is none. */
static const char *behind_secret_word(const char *s, size_t n) {
        for (size_t i = 0; i < n; i++)
                for (size_t w = 0; w < ELEMENTSOF(secret_words); w++) {
                        size_t length = strlen(secret_words[w]);

                        if (i + length <= n && strncasecmp(s + i, secret_words[w], length) == 0)
                                return s + i + length;
                }
        return NULL;
}

/* "mongodb://user:password@host", of which a line may have several. A password may have any character but white space. */
static char *mask_urls(const char *line) {
        const char *scheme;
        char *masked = NULL;
        size_t size = 0;
        FILE *f;

        f = open_memstream(&masked, &size);
        if (!f)
                return NULL;
        while ((scheme = strstr(line, "://"))) {
                const char *user = scheme + strlen("://"), *next = strstr(user, "://"), *at;
                size_t n = strcspn(user, " \t");

                at = memrchr(user, '@', next ? MIN(n, (size_t) (next - user)) : n);
                (void) fprintf(f, "%.*s%s", (int) (user - line), line, at ? HIDDEN : "");
                line = at ?: user;
        }
        (void) fputs(line, f);
        return fclose(f) != 0 ? mfree(masked) : masked;
}

char *mask_secrets(const char *line) {
        const char *equals = strchr(line, '='), *name_end = equals ?: line + strlen(line), *behind;
        size_t n = (size_t) (name_end - line);
        _cleanup_free_ char *cut = NULL;
        char *masked;

        while (n > 0 && isspace((unsigned char) line[n - 1]))
                n--;
        behind = behind_secret_word(line, n);
        if (equals && (behind || ends_in_key(line, n)))
                return asprintf(&masked, "%.*s = " HIDDEN, (int) n, line) < 0 ? NULL : masked;
        if (!behind && equals)
                behind = behind_secret_word(equals, strlen(equals));
        /* No setting: "-setcookie VALUE", {password, "VALUE"}, or prose, which loses its end. */
        if (behind && *behind && asprintf(&cut, "%.*s " HIDDEN, (int) (behind - line), line) < 0)
                return NULL;
        return mask_urls(cut ?: line);
}

/* --- both sides --- */

static bool is_shown(const char *name) {
        return streq(name, "vm.args") || (endswith(name, ".conf") && name[0] != '.');
}

static int write_masked(const char *from, const char *to, Error *reterr) {
        _cleanup_free_ char *text = NULL, *out = NULL;
        size_t size = 0;
        char *rest;
        FILE *f;
        int r;

        r = read_file_at(AT_FDCWD, from, CONF_BYTES_MAX, &text, NULL);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", from);
        f = open_memstream(&out, &size);
        if (!f)
                return -ENOMEM;
        rest = text;
        for (char *line; (line = strsep(&rest, "\n"));) {
                _cleanup_free_ char *masked = *line || rest ? mask_secrets(line) : NULL;

                if (masked)
                        (void) fprintf(f, "%s\n", masked);
        }
        if (fclose(f) != 0 || !out)
                return -ENOMEM;
        r = replace_volatile_file_at(AT_FDCWD, to, out, size, 0600);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot write %s: %m", to) : 0;
}

/* Files of dir itself; dir may be missing. */
static int mask_directory(const char *dir, const char *to, Error *reterr) {
        struct dirent *de;
        DIR *d;
        int r;

        r = mkdir_parents(to, 0700);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot make %s: %m", to);
        d = opendir(dir);
        if (!d)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot look into %s: %m", dir);
        while (r >= 0 && (de = readdir(d))) {
                _cleanup_free_ char *from = NULL, *masked = NULL;
                struct stat st;

                if (!is_shown(de->d_name))
                        continue;
                if (asprintf(&from, "%s/%s", dir, de->d_name) < 0 || asprintf(&masked, "%s/%s", to, de->d_name) < 0)
                        r = -ENOMEM;
                else if (stat(from, &st) >= 0 && S_ISREG(st.st_mode))
                        r = write_masked(from, masked, reterr);
        }
        (void) closedir(d);
        return r;
}

static int mask_side(const char *etc_dir, const char *dir, const char *name, Error *reterr) {
        _cleanup_free_ char *plugins = NULL, *to = NULL, *to_plugins = NULL;
        int r;

        if (asprintf(&plugins, "%s/plugins", etc_dir) < 0 || asprintf(&to, "%s/%s", dir, name) < 0 ||
                        asprintf(&to_plugins, "%s/plugins", to) < 0)
                return -ENOMEM;
        r = mask_directory(etc_dir, to, reterr);
        return r < 0 ? r : mask_directory(plugins, to_plugins, reterr);
}

static int extract_defaults(const Plan *p, int dir_fd, Error *reterr) {
        const PackageKind *kind = p->kind ? package_kind_find(p->kind) : NULL;
        _cleanup_free_ char *staged = NULL;
        _cleanup_(package_freep) Package *package = NULL;
        const char *path = p->target_path;
        int r;

        if (!kind || !path)
                return error_set(reterr, -ENOENT, NULL, "The upgrade %s did not come to its package", p->id);
        staged = backup_package_path(p, path);
        if (!staged)
                return -ENOMEM;
        if (access(staged, R_OK) >= 0)
                path = staged;
        r = kind->read(path, &package, reterr);
        return r < 0 ? r : kind->extract(package, "/etc/emqx", dir_fd, reterr);
}

static int run_diff(const char *old, const char *new, const char *dir, char **ret, Error *reterr) {
        int r = process_capture(STRV_MAKE("diff", "-u", "-r", "-N", "--", old, new),
                        &(ProcessOptions){ .directory = dir }, ret, reterr);

        return r > 1 ? error_set(reterr, -EIO, NULL, "diff(1) failed with status %i", r) : MIN(r, 0);
}

/* In dir, which is ours: the package's files, and what diff(1) sees of both sides, by names as a reader knows them. */
static int diff_in(const Plan *p, const char *dir, char **ret, Error *reterr) {
        _cleanup_free_ char *package = NULL, *new_etc = NULL, *masked = NULL, *old = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        if (asprintf(&package, "%s/package", dir) < 0 || asprintf(&masked, "%s/masked", dir) < 0 ||
                        asprintf(&old, "%s-defaults", p->to) < 0 ||
                        asprintf(&new_etc, "%s%s", package, streq(p->kind ?: "", "zip") ? "/etc" : "") < 0)
                return -ENOMEM;
        fd = mkdir(package, 0700) < 0 ? -1 : open(package, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot make %s: %m", package);
        r = extract_defaults(p, fd, reterr);
        if (r >= 0)
                r = mask_side(new_etc, masked, old, reterr);
        if (r >= 0)
                r = mask_side(p->etc_dir, masked, p->etc_dir + 1, reterr);
        return r < 0 ? r : run_diff(old, p->etc_dir + 1, masked, ret, reterr);
}

int configuration_diff(const Plan *p, char **ret, Error *reterr) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *dir = NULL;
        int r;

        if (!p->etc_dir)
                return error_set(reterr, -ENOENT, NULL, "The upgrade %s did not come to a configuration", p->id);
        r = aside_make_for_diff(&dir, &fd, reterr);
        if (r < 0)
                return r;
        r = diff_in(p, dir, ret, reterr);
        (void) aside_remove(strrchr(dir, '/') + 1, NULL);
        return r;
}
