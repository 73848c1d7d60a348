/* SPDX-License-Identifier: Apache-2.0 */

#include "package/rpm-file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "package/extract.h"
#include "package/rpm-run.h"

#define LINE_PREFIX "package:<"
#define N_FIELDS 6
#define PROGRAM_DIR "/usr/lib/emqx"
#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

void rpm_name_done(RpmName *n) {
        free(n->name);
        free(n->version);
        free(n->release);
        free(n->arch);
}

static bool consists_of(const char *s, const char *chars) {
        return *s && !s[strspn(s, chars)];
}

int rpm_name_parse(char *line, RpmName *ret) {
        _cleanup_(rpm_name_done) RpmName n = { NULL };
        char *field[N_FIELDS], *p = line, *end;

        if (!startswith(line, LINE_PREFIX))
                return -EBADMSG;
        p += strlen(LINE_PREFIX);
        for (size_t i = 0; i < N_FIELDS; i++) {
                field[i] = p;
                p = strchr(p, '>');
                if (!p)
                        return -EBADMSG;
                *p++ = 0;
                if (*p++ != (i < N_FIELDS - 1 ? '<' : 0))
                        return -EBADMSG;
        }
        /* rpm's own rules for names; a dash would separate them. */
        if (!consists_of(field[0], ALNUM "._+-") || !strchr(ALNUM, field[0][0]) ||
                        !consists_of(field[1], ALNUM "._+~^") || !consists_of(field[2], ALNUM "._+~^") ||
                        !consists_of(field[3], ALNUM "_"))
                return -EBADMSG;
        errno = 0;
        n.installed_bytes = strtoull(field[4], &end, 10);
        if (errno != 0 || *end)
                n.installed_bytes = 0; /* "(none)" */
        n.source = streq(field[5], "source");
        n.name = strdup(field[0]);
        n.version = strdup(field[1]);
        n.release = strdup(field[2]);
        n.arch = strdup(field[3]);
        if (!n.name || !n.version || !n.release || !n.arch)
                return -ENOMEM;
        *ret = n;
        n = (RpmName){ NULL };
        return 0;
}

static int bad_file(const char *path, const char *what, const char *why, Error *reterr) {
        return error_set(reterr, -EBADMSG, "Fetch the package again.", "%s: %s%s%s", path, what, why ? ": " : "",
                        why ?: "");
}

/* rpm takes what is no package for a list of packages, and what it is given for a pattern of names. */
static int check_file(const char *path, off_t *ret_size, Error *reterr) {
        static const uint8_t magic[] = { 0xed, 0xab, 0xee, 0xdb };
        _cleanup_close_ int fd = -1;
        uint8_t start[sizeof(magic)];
        struct stat st;

        if (path[0] != '/' || !consists_of(path, ALNUM "/._+-~^:@,="))
                return error_set(reterr, -EBADMSG, "Rename it.",
                                "%s: rpm does not take this file name as it is, because of its special characters",
                                path);
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return errno == ELOOP ? bad_file(path, "a symbolic link, not a package", NULL, reterr)
                                      : error_set(reterr, -errno, NULL, "%s: %m", path);
        if (!S_ISREG(st.st_mode))
                return bad_file(path, "not a regular file", NULL, reterr);
        if (read(fd, start, sizeof(start)) != sizeof(start) || memcmp(start, magic, sizeof(magic)) != 0)
                return bad_file(path, "not an rpm package", NULL, reterr);
        *ret_size = st.st_size;
        return 0;
}

/* The one line of rpm about the file; what stands before the prefix are warnings. More lines are the package's own,
 * in a field. NULL: there is no such line. */
static char *find_line(char *output) {
        char *line = output, *end;

        while (!startswith(line, LINE_PREFIX)) {
                line = strchr(line, '\n');
                if (!line)
                        return NULL;
                line++;
        }
        end = strchr(line, '\n');
        if (!end || end[1])
                return NULL;
        *end = 0;
        return line;
}

/* What rpm says of a file that it cannot read; it says it of path. */
static const char *find_reason(char *output, const char *path) {
        const char *reason = NULL;
        char *rest = output;

        for (char *line; (line = strsep(&rest, "\n"));) {
                const char *error = startswith(line, "error: ");

                error = error ? startswith(error, path) : NULL;
                if (error && !reason)
                        reason = error + strspn(error, ": ");
        }
        return reason;
}

int rpm_file_read(const char *path, Package **ret, Error *reterr) {
        _cleanup_(package_freep) Package *p = NULL;
        _cleanup_(rpm_name_done) RpmName n = { NULL };
        _cleanup_free_ char *output = NULL;
        off_t size;
        char *line;
        int r;

        r = check_file(path, &size, reterr);
        if (r >= 0)
                r = rpm_ask(STRV_MAKE(RPM, "-qp", "--nosignature", "--nomanifest", "--qf", RPM_PACKAGE_FORMAT, path),
                                &output, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                return bad_file(path, "not an rpm package, or cut off or damaged", find_reason(output, path), reterr);
        line = find_line(output);
        r = line ? rpm_name_parse(line, &n) : -EBADMSG;
        if (r == -EBADMSG)
                return bad_file(path, "its name, version or architecture is not one", NULL, reterr);
        if (r < 0)
                return r;
        if (n.source)
                return bad_file(path, "a source package", NULL, reterr);

        p = calloc(1, sizeof(Package));
        if (!p)
                return -ENOMEM;
        p->path = strdup(path);
        p->name = TAKE_PTR(n.name);
        p->version = TAKE_PTR(n.version);
        p->arch = TAKE_PTR(n.arch);
        p->release = TAKE_PTR(n.release);
        p->size_bytes = (uint64_t) size;
        p->installed_bytes = n.installed_bytes;
        if (!p->path)
                return -ENOMEM;
        *ret = TAKE_PTR(p);
        return 0;
}

int rpm_file_verify(const char *path, Error *reterr) {
        _cleanup_free_ char *output = NULL;
        off_t size;
        int r;

        r = check_file(path, &size, reterr);
        if (r >= 0)
                r = process_capture(STRV_MAKE(RPM, "-K", "--nosignature", path), NULL, &output, reterr);
        if (r <= 0)
                return r;
        return bad_file(path, "cut off or damaged: its digests do not match", find_reason(output, path), reterr);
}

int rpm_file_extract(const Package *p, const char *root_dir, int dir_fd, Error *reterr) {
        struct archive *a = archive_read_new();
        int r = -ENOMEM;

        if (a && archive_read_support_filter_all(a) >= ARCHIVE_WARN &&
                        archive_read_support_format_cpio(a) == ARCHIVE_OK)
                r = archive_read_open_filename(a, p->path, 128 * 1024) != ARCHIVE_OK
                                ? bad_file(p->path, "cut off or damaged", archive_error_string(a), reterr)
                                : extract_program(p, a, root_dir, dir_fd, reterr);
        (void) archive_read_free(a);
        return r;
}

/* --- files that it would unpack --- */

typedef struct Sweep {
        char *dir;    /* the one that names are of */
        char **names; /* what is in it and looks temporary */
        bool found;
        int r; /* the first error */
} Sweep;

static void sweep_done(Sweep *s) {
        free(s->dir);
        s->names = strv_free(s->names);
}

/* The suffix that rpm gives to a file until it is whole: ";" and the time in hexadecimal digits. */
static bool is_temporary(const char *suffix) {
        return suffix[0] == ';' && strlen(suffix) == 9 && !suffix[1 + strspn(suffix + 1, "0123456789abcdef")];
}

static int enter_directory(Sweep *s, const char *dir_path) {
        DIR *dir;
        struct dirent *de;
        int r;

        if (streq_ptr(s->dir, dir_path))
                return 0;
        s->names = strv_free(s->names);
        r = free_and_strdup(&s->dir, dir_path);
        if (r < 0)
                return r;
        dir = opendir(dir_path);
        if (!dir)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        while (r >= 0 && (de = readdir(dir))) {
                const char *suffix = strrchr(de->d_name, ';');

                if (suffix && is_temporary(suffix))
                        r = strv_extend(&s->names, de->d_name);
        }
        (void) closedir(dir);
        return r;
}

static int sweep_file(Sweep *s, char *path) {
        char *name = strrchr(path, '/');
        struct stat st;
        int r;

        if (!name)
                return 0;
        s->found = s->found || lstat(path, &st) >= 0;
        *name++ = 0;
        r = enter_directory(s, path);
        STRV_FOREACH (n, r >= 0 ? s->names : NULL) {
                _cleanup_free_ char *temporary = NULL;
                const char *suffix = startswith(*n, name);

                if (!suffix || !is_temporary(suffix))
                        continue;
                if (asprintf(&temporary, "%s/%s", path, *n) < 0)
                        return -ENOMEM;
                s->found = true;
                if (unlink(temporary) < 0 && errno != ENOENT)
                        return -errno;
        }
        return r;
}

/* "-rw-r--r-- /etc/emqx/emqx.conf": its mode, and its path. */
static void sweep_line(const char *line, void *userdata) {
        Sweep *s = userdata;
        const char *separator = strchr(line, ' ');
        _cleanup_free_ char *path = NULL;

        if (s->r < 0 || !separator || separator[1] != '/')
                return;
        if (line[0] == 'd') { /* those of configuration, data and logs stay when a package goes */
                s->found = s->found || (startswith(separator + 1, PROGRAM_DIR) && access(separator + 1, F_OK) >= 0);
                return;
        }
        path = strdup(separator + 1);
        s->r = path ? sweep_file(s, path) : -ENOMEM;
}

int rpm_file_sweep(const char *path, Error *reterr) {
        _cleanup_(sweep_done) Sweep s = { NULL };
        off_t size;
        int r;

        r = check_file(path, &size, reterr);
        if (r >= 0)
                r = process_run(STRV_MAKE(RPM, "-qp", "--nosignature", "--nomanifest", "--qf",
                                                "[%{FILEMODES:perms} %{FILENAMES}\n]", path),
                                &(ProcessOptions){ .on_line = sweep_line, .userdata = &s }, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                return error_set(reterr, -EREMOTEIO, NULL, "%s: rpm cannot list its files", path);
        if (s.r < 0)
                return error_set(reterr, s.r, NULL, "Cannot remove what a broken off installation has left in %s: %m",
                                s.dir ?: "/");
        return s.found;
}
