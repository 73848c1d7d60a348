/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "package/deb-file.h"
#include "package/dpkg.h"

#define SCRATCH_DIR "/tmp/emqx-upgrade-dpkg.XXXXXX"
#define STATUS_BYTES_MAX (256 * 1024 * 1024)
#define FIELD_PACKAGE "Package: "
#define SAYS_DEPENDS " depends on "
#define SAYS_HOWEVER "; however:"

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

static char *scratch_free(char *dir) {
        (void) nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        return mfree(dir);
}
DEFINE_CLEANUP(char *, scratch_free)

/* dpkg's status without the record of package name, which it begins with its field Package. */
static int write_others(FILE *f, const char *status, const char *name) {
        while (*status) {
                const char *end = strstr(status, "\n\n"), *own = startswith(status, FIELD_PACKAGE);
                size_t n = end ? (size_t) (end - status) + 2 : strlen(status);

                own = own ? startswith(own, name) : NULL;
                if ((!own || *own != '\n') && fwrite(status, 1, n, f) != n)
                        return -EIO;
                status += n;
        }
        return 0;
}

/* The control data as a record of a package that is unpacked. */
static int write_unpacked(FILE *f, const char *control) {
        size_t n;

        control += strspn(control, "\n");
        n = strcspn(control, "\n");
        return fprintf(f, "\n%.*s\nStatus: install ok unpacked\n%s\n", (int) n, control,
                               control[n] ? control + n + 1 : "") < 0
                        ? -EIO
                        : 0;
}

static int write_status(const char *dir, const Package *p, const char *control, Error *reterr) {
        _cleanup_free_ char *status = NULL, *path = NULL;
        FILE *f;
        int r;

        r = read_file_at(AT_FDCWD, DPKG_DIR "/status", STATUS_BYTES_MAX, &status, NULL);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s/status: %m", DPKG_DIR);
        if (asprintf(&path, "%s/status", dir) < 0)
                return -ENOMEM;
        f = fopen(path, "wxe");
        r = f ? write_others(f, status, p->name) : -errno;
        if (r >= 0)
                r = write_unpacked(f, control);
        if (f && fclose(f) != 0 && r >= 0)
                r = -errno;
        return r < 0 ? error_set(reterr, r, NULL, "Cannot write %s: %m", path) : 0;
}

/* Foreign architectures, where there are any: dpkg looks for packages of them too. */
static int copy_arch(const char *dir, Error *reterr) {
        _cleanup_free_ char *text = NULL, *path = NULL;
        size_t size;
        int r;

        r = read_file_at(AT_FDCWD, DPKG_DIR "/arch", STATUS_BYTES_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r >= 0 && asprintf(&path, "%s/arch", dir) < 0)
                r = -ENOMEM;
        if (r >= 0)
                r = replace_volatile_file_at(AT_FDCWD, path, text, size, 0600);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot copy %s/arch: %m", DPKG_DIR) : 0;
}

static int make_scratch(const Package *p, const char *control, char **ret, Error *reterr) {
        static const char *const subdirs[] = { "info", "updates", "triggers" };
        _cleanup_free_ char *template = strdup(SCRATCH_DIR);
        _cleanup_(scratch_freep) char *dir = NULL;
        int r;

        if (!template)
                return -ENOMEM;
        if (!mkdtemp(template))
                return error_set(reterr, -errno, NULL, "Cannot make the directory %s: %m", SCRATCH_DIR);
        dir = TAKE_PTR(template);
        for (size_t i = 0; i < ELEMENTSOF(subdirs); i++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/%s", dir, subdirs[i]) < 0)
                        return -ENOMEM;
                if (mkdir(path, 0700) < 0)
                        return error_set(reterr, -errno, NULL, "Cannot make the directory %s: %m", path);
        }
        r = write_status(dir, p, control, reterr);
        if (r >= 0)
                r = copy_arch(dir, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(dir);
        return 0;
}

/* Of " emqx depends on libc6 (>= 99); however:" and the line "  Version of libc6 … is 2.36." below it: the two, joined
 * by "; ", into reasons, and "libc6 (>= 99)" alone, joined by ", ", into wanted. */
static int collect_missing(char *output, char **reasons, char **wanted) {
        char *what = NULL;

        for (char *line; (line = strsep(&output, "\n"));) {
                char *joined = NULL, *found = strstr(line, SAYS_DEPENDS), *however = strstr(line, SAYS_HOWEVER);

                if (line[0] != ' ')
                        what = NULL;
                else if (found && however) {
                        what = found + strlen(SAYS_DEPENDS);
                        *however = 0;
                        if (asprintf(&joined, "%s%s%s", *wanted ?: "", *wanted ? ", " : "", what) < 0)
                                return -ENOMEM;
                        free(*wanted);
                        *wanted = joined;
                } else if (what) {
                        line += strspn(line, " ");
                        if (endswith(line, "."))
                                line[strlen(line) - 1] = 0;
                        if (asprintf(&joined, "%s%s%s (%s)", *reasons ?: "", *reasons ? "; " : "", what, line) < 0)
                                return -ENOMEM;
                        free(*reasons);
                        *reasons = joined;
                }
        }
        return 0;
}

int dpkg_check_depends(const Package *p, Error *reterr) {
        _cleanup_free_ char *control = NULL, *option = NULL, *output = NULL, *reasons = NULL, *wanted = NULL,
                            *advice = NULL;
        _cleanup_(scratch_freep) char *dir = NULL;
        int r, status;

        r = deb_file_control(p->path, &control, reterr);
        if (r >= 0)
                r = make_scratch(p, control, &dir, reterr);
        if (r < 0)
                return r;
        assert(dir);
        if (asprintf(&option, "--admindir=%s", dir) < 0)
                return -ENOMEM;
        status = dpkg_ask(
                        STRV_MAKE(DPKG, option, "--dry-run", "--no-pager", "--log=/dev/null", "--configure", p->name),
                        &output, reterr);
        if (status <= 0)
                return status;

        r = collect_missing(output, &reasons, &wanted);
        if (r < 0)
                return r;
        if (!reasons)
                return error_set(reterr, -EREMOTEIO, NULL,
                                "The trial run of dpkg --configure failed with status %i: %.*s", status,
                                (int) strcspn(output, "\n"), output);
        if (asprintf(&advice, "Install what is missing, for instance with: apt-get satisfy '%s'", wanted) < 0)
                return -ENOMEM;
        return error_set(reterr, -ENOPKG, advice, "%s needs what is not installed: %s", p->path, reasons);
}
