/* SPDX-License-Identifier: Apache-2.0 */

/* Releases in zip archives: no package manager, two directories beside each other, and their exchange. */

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/fileio.h"
#include "package/zip-file.h"

#define VARS_BYTES_MAX (1024 * 1024)

static bool zip_present(void) {
        return true;
}

static int zip_host_arch(char **ret, Error *reterr) {
        struct utsname u;

        if (uname(&u) < 0)
                return error_set(reterr, -errno, NULL, "Cannot ask for the architecture of this host: %m");
        *ret = strdup(startswith(u.machine, "arm")                               ? "arm"
                                        : fnmatch("i[3-6]86", u.machine, 0) == 0 ? "i686"
                                                                                 : u.machine);
        return *ret ? 0 : -ENOMEM;
}

/* --- what is in a directory --- */

/* 1, and the value of name in dir's emqx_vars; 0: there is no such release, or no such line. */
static int directory_var(const char *dir, const char *name, char **ret, Error *reterr) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        int r;

        if (asprintf(&path, "%s/releases/emqx_vars", dir) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, path, VARS_BYTES_MAX, &text, NULL);
        if (r == -ENOENT || r == -ENOTDIR)
                return 0;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", path);
        return release_var(text, name, ret);
}

/* NULL where it cannot be told. */
static char *directory_arch(const char *dir) {
        struct dirent *de;
        char *arch = NULL;
        DIR *d = opendir(dir);

        while (d && !arch && (de = readdir(d))) {
                _cleanup_free_ char *path = NULL;
                _cleanup_close_ int fd = -1;
                unsigned char header[64];
                const char *machine;
                ssize_t n;

                if (!startswith(de->d_name, "erts-") || asprintf(&path, "%s/%s/bin/beam.smp", dir, de->d_name) < 0)
                        continue;
                fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
                n = fd < 0 ? -1 : read(fd, header, sizeof(header));
                machine = n > 0 ? elf_machine(header, (size_t) n) : NULL;
                arch = machine ? strdup(machine) : NULL;
        }
        if (d)
                (void) closedir(d);
        return arch;
}

static int zip_query(char *const *names, const char *root_dir, InstalledList *ret, Error *reterr) {
        _cleanup_free_ char *version = NULL, *name = NULL;
        Installed *i;
        int r;

        if (!root_dir)
                return 0;
        r = directory_var(root_dir, "REL_VSN", &version, reterr);
        if (r > 0)
                r = directory_var(root_dir, "REL_NAME", &name, reterr);
        if (r < 0 || !version)
                return r < 0 ? r : 0;
        if (!strv_contains(names, name ?: "emqx"))
                return 0;

        i = reallocarray(ret->items, ret->n + 1, sizeof(Installed));
        if (!i)
                return -ENOMEM;
        ret->items = i;
        i += ret->n++;
        *i = (Installed){ .name = strdup(name ?: "emqx"),
                .version = TAKE_PTR(version),
                .arch = directory_arch(root_dir) ?: strdup("unknown"),
                .state = strdup("extracted"),
                .complete = true };
        return i->name && i->arch && i->state ? 0 : -ENOMEM;
}

static int zip_check_state(Error *reterr) {
        (void) reterr;
        return 0;
}

static int zip_check_install(const Package *p, Error *reterr) {
        _cleanup_free_ char *arch = NULL;
        int r;

        r = zip_host_arch(&arch, reterr);
        if (r < 0)
                return r;
        return streq(arch, p->arch) ? 0
                                    : error_set(reterr, -ENOEXEC, "Get the archive for this architecture.",
                                                      "%s is for %s, this host is %s", p->path, p->arch, arch);
}

/* --- both versions --- */

static int open_parent_of(const char *path, Error *reterr) {
        _cleanup_free_ char *copy = strdup(path);
        int fd;

        if (!copy)
                return -ENOMEM;
        fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? error_set(reterr, -errno, NULL, "Cannot open the directory that %s is in: %m", path) : fd;
}

static const char *last_of(const char *path) {
        return strrchr(path, '/') + 1;
}

/* Under a name that means "unfinished", and with a mode that lets nobody else in, until all of it is on disk. */
static int zip_unpack(const Package *p, const char *root_dir, const char *beside_dir, Error *reterr) {
        _cleanup_close_ int parent_fd = -1, fd = -1;
        _cleanup_free_ char *part = NULL;
        struct stat root, parent;
        int r;

        if (access(beside_dir, F_OK) >= 0)
                return 0;
        if (asprintf(&part, "%s.part", last_of(beside_dir)) < 0)
                return -ENOMEM;
        parent_fd = open_parent_of(beside_dir, reterr);
        if (parent_fd < 0)
                return parent_fd;
        if (fstat(parent_fd, &parent) < 0 || stat(root_dir, &root) < 0)
                return error_set(reterr, -errno, NULL, "Cannot look at %s: %m", root_dir);
        if (root.st_dev != parent.st_dev)
                return error_set(reterr, -EXDEV, "Extract EMQX into a directory below the mount point.",
                                "%s is a mount point: it cannot be exchanged with a directory beside it", root_dir);

        if (mkdirat(parent_fd, part, 0700) < 0)
                return error_set(reterr, -errno, NULL, "Cannot make %s.part: %m", beside_dir);
        fd = openat(parent_fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open %s.part: %m", beside_dir);
        r = zip_file_extract(p->path, fd, root.st_uid, root.st_gid, reterr);
        if (r < 0)
                return r;
        if (fchown(fd, root.st_uid, root.st_gid) < 0 || fchmod(fd, root.st_mode & 07777) < 0 || syncfs(fd) < 0 ||
                        renameat(parent_fd, part, parent_fd, last_of(beside_dir)) < 0 || fsync(parent_fd) < 0)
                return error_set(reterr, -errno, NULL, "Cannot finish %s: %m", beside_dir);
        return 0;
}

/* Without RENAME_EXCHANGE there is a moment without root_dir; whoever comes then finds it by the third name, and goes
 * on: with each of the three renames the next one is the only one that can be. */
static int exchange_in_steps(int parent_fd, const char *root, const char *beside, const char *moving) {
        if (faccessat(parent_fd, moving, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
                        (renameat(parent_fd, beside, parent_fd, moving) < 0 || fsync(parent_fd) < 0))
                return -errno;
        if (faccessat(parent_fd, beside, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
                        (renameat(parent_fd, root, parent_fd, beside) < 0 || fsync(parent_fd) < 0))
                return -errno;
        return renameat(parent_fd, moving, parent_fd, root) < 0 ? -errno : 0;
}

static int zip_exchange(const char *root_dir, const char *beside_dir, const char *version, Error *reterr) {
        _cleanup_free_ char *here = NULL, *beside = NULL, *moving = NULL, *moving_path = NULL;
        _cleanup_close_ int parent_fd = -1;
        int r;

        if (asprintf(&moving_path, "%s.moving", beside_dir) < 0 || !(moving = strdup(last_of(moving_path))))
                return -ENOMEM;
        parent_fd = open_parent_of(root_dir, reterr);
        if (parent_fd < 0)
                return parent_fd;

        if (access(moving_path, F_OK) >= 0)
                r = exchange_in_steps(parent_fd, last_of(root_dir), last_of(beside_dir), moving);
        else {
                r = directory_var(root_dir, "REL_VSN", &here, reterr);
                if (r >= 0)
                        r = directory_var(beside_dir, "REL_VSN", &beside, reterr);
                if (r < 0)
                        return r;
                if (streq_ptr(here, version)) /* perhaps by one who was killed before it was on disk */
                        return fsync(parent_fd) < 0
                                        ? error_set(reterr, -errno, NULL, "Cannot sync the parent of %s: %m", root_dir)
                                        : 0;
                if (!streq_ptr(beside, version))
                        return error_set(reterr, -ENOENT, NULL, "Neither %s nor %s is EMQX %s", root_dir, beside_dir,
                                        version);
                r = renameat2(parent_fd, last_of(beside_dir), parent_fd, last_of(root_dir), RENAME_EXCHANGE) < 0
                                ? -errno
                                : 0;
                if (r == -EINVAL || r == -ENOSYS || r == -EOPNOTSUPP)
                        r = exchange_in_steps(parent_fd, last_of(root_dir), last_of(beside_dir), moving);
        }
        if (r >= 0 && fsync(parent_fd) < 0)
                r = -errno;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot exchange %s and %s: %m", root_dir, beside_dir);

        /* What was completed may have been the exchange in the other direction. */
        here = mfree(here);
        r = directory_var(root_dir, "REL_VSN", &here, reterr);
        if (r < 0 || streq_ptr(here, version))
                return r < 0 ? r : 0;
        return zip_exchange(root_dir, beside_dir, version, reterr);
}

static int zip_extract(const Package *p, const char *root_dir, int dir_fd, Error *reterr) {
        (void) root_dir;
        return zip_file_extract(p->path, dir_fd, geteuid(), getegid(), reterr);
}

const PackageKind package_kind_zip = {
        .name = "zip",
        .default_root_dir = "/opt/emqx",
        .present = zip_present,
        .read = zip_file_read,
        .verify = zip_file_verify,
        .host_arch = zip_host_arch,
        .query = zip_query,
        .check_state = zip_check_state,
        .check_install = zip_check_install,
        .unpack = zip_unpack,
        .exchange = zip_exchange,
        .extract = zip_extract,
};
