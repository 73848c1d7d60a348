/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/places.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/stat.h>

#include "archive/tree.h"
#include "base/fileio.h"
#include "base/mounts.h"

/* --- mounts --- */

/* What would go away with the directory of the old version, or be emptied with it. dpkg leaves what is not its own. */
static int check_mount(const Plan *p, const char *where, Error *reterr) {
        static const char advice[] =
                        "Mount it outside of the directory of the program, and say where that is in emqx.conf or releases/emqx_vars.";

        if (!path_is_within(where, p->root_dir))
                return 0;
        if (streq(p->kind, "rpm") && !streq(where, p->root_dir))
                return error_set(reterr, -EINVAL, advice,
                                "%s is a mount point in the directory of the program, which the removal empties",
                                where);
        if (!p->beside_dir)
                return 0;
        if (streq(where, p->root_dir))
                return error_set(reterr, -EXDEV, "Extract EMQX into a directory below the mount point.",
                                "%s is a mount point: it cannot be exchanged with a directory beside it", where);
        return error_set(reterr, -EXDEV, advice,
                        "%s is a mount point in the directory of the program: it would stay with the old version",
                        where);
}

/* Those of the same file system count too (mount --bind). */
static int check_mounts(const Plan *p, Error *reterr) {
        _cleanup_free_ char *table = NULL;
        char *rest;
        Mount m;
        int r;

        r = mounts_read(MOUNTS_OF_OURS, &table);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read the table of mounts: %m");
        rest = table;
        while (r >= 0 && mounts_next(&rest, &m))
                r = check_mount(p, m.where, reterr);
        return r;
}

/* What the postinst of a .deb changes the owner of, file by file; where it cannot it fails, on the way back too. */
static const char *const chowned[] = { "/etc/emqx", "/usr/lib/emqx", "/var/lib/emqx", "/var/log/emqx" };

static int check_writable(const Plan *p, Error *reterr) {
        _cleanup_free_ char *table = NULL;
        char *rest;
        Mount m;
        int r;

        if (!streq(p->kind, "deb"))
                return 0;
        r = mounts_read(MOUNTS_OF_MACHINE, &table); /* our own sandbox has all of them read-only */
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read the table of mounts: %m");
        rest = table;
        while (mounts_next(&rest, &m))
                for (size_t i = 0; i < ELEMENTSOF(chowned); i++)
                        if (m.read_only && path_is_within(m.where, chowned[i]))
                                return error_set(reterr, -EROFS,
                                                "Mount it writable for the time of the upgrade, or elsewhere.",
                                                "%s is mounted read-only, and the package changes the owner of all in %s",
                                                m.where, chowned[i]);
        return 0;
}

/* --- what a place may be --- */

/* What belongs to others: a tree that has one of these in it would take it back to an older state with it. */
static const char *const foreign[] = { STATE_DIR, RUNTIME_DIR, "/bin", "/boot", "/dev", "/etc/emqx-upgrade",
        "/etc/systemd", "/lib", "/proc", "/root", "/run/systemd", "/sbin", "/sys", "/usr/bin", "/usr/lib/systemd",
        "/var/lib/dpkg", "/var/lib/rpm", "/var/lib/systemd", "/var/log/journal" };

static int refuse(const char *path, const char *what, const char *advice, Error *reterr, const char *why) {
        return error_set(reterr, -EINVAL, advice, "The %s directory %s %s", what, path, why);
}

/* What becomes of a place that is part of the program when that is removed. */
static int check_below_program(
                const Plan *p, const char *path, const char *real, const char *link, const char *what, Error *reterr) {
        static const char advice[] = "Move it, and say where it is in emqx.conf.";

        if (streq(real, p->root_dir))
                return refuse(path, what, advice, reterr, "is that of the program itself");
        if (streq(p->kind, "deb")) /* dpkg removes the files of its package, and leaves others' */
                return 0;
        if (!link && !path_is_within(real, p->root_dir))
                return refuse(path, what, advice, reterr,
                                "is reached through a symbolic link within the directory of the program");
        if (!streq(p->kind, "rpm")) /* the directory of the other version has a place for it */
                return 0;
        if (link)
                return refuse(path, what, advice, reterr,
                                "is a symbolic link in the directory of the program, which the removal deletes");
        return 0;
}

static int check_place(
                const Plan *p, const char *path, const char *real, const char *link, const char *what, Error *reterr) {
        static const char advice[] = "Give the node a directory of its own.";
        struct stat st;

        if (stat(real, &st) < 0)
                return error_set(reterr, -errno, NULL, "The %s directory %s: %m", what, path);
        if (!S_ISDIR(st.st_mode))
                return error_set(reterr, -ENOTDIR, NULL, "%s is no directory, but should be the %s directory", path,
                                what);
        for (size_t i = 0; i < ELEMENTSOF(foreign); i++)
                if (path_is_within(foreign[i], real) || path_is_within(real, foreign[i]))
                        return error_set(reterr, -EINVAL, advice,
                                        "The %s directory %s is no place for a node: it would be restored together with %s",
                                        what, real, foreign[i]);
        if (path_is_within(p->root_dir, real) && !streq(p->root_dir, real))
                return refuse(path, what, advice, reterr, "has the program in it");
        if (path_is_within(real, p->root_dir) || path_is_within(path, p->root_dir))
                return check_below_program(p, path, real, link, what, reterr);
        return 0;
}

static int read_link(const char *path, char **ret) {
        char target[PATH_MAX];
        struct stat st;
        ssize_t n;

        if (lstat(path, &st) < 0)
                return -errno;
        if (!S_ISLNK(st.st_mode))
                return 0;
        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0)
                return -errno;
        target[n] = 0;
        *ret = strdup(target);
        return *ret ? 1 : -ENOMEM;
}

/* optional: one that is not there holds nothing; the node makes it when it first needs it. */
static int add_place(Plan *p, const char *name, const char *path, const char *what, const char *why, bool optional,
                Error *reterr) {
        _cleanup_free_ char *real = realpath(path, NULL), *link = NULL;
        int r;

        if (!real && errno == ENOENT && optional)
                return 0;
        if (!real)
                return error_set(reterr, -errno, NULL, "The %s directory %s (%s): %m", what, path, why);
        r = read_link(path, &link);
        if (r < 0)
                return error_set(reterr, r, NULL, "The %s directory %s: %m", what, path);
        r = check_place(p, path, real, link, what, reterr);
        if (r < 0)
                return r;
        return plan_add_tree(p, name, path, real, link, why);
}

static void drop_tree(Plan *p, size_t i) {
        PlanTree *t = &p->trees[i];

        free(t->name);
        free(t->path);
        free(t->real);
        free(t->link);
        free(t->why);
        memmove(t, t + 1, (--p->n_trees - i) * sizeof(PlanTree));
}

/* The inner one of two goes with the outer one, which says so; of two that are one, the first stays. */
static int drop_inner(Plan *p) {
        for (size_t i = 0; i < p->n_trees; i++)
                for (size_t j = 0; j < p->n_trees; j++) {
                        PlanTree *outer = &p->trees[i], *inner = &p->trees[j];
                        char *why;

                        if (i == j || !path_is_within(inner->real, outer->real) ||
                                        (streq(inner->real, outer->real) && j < i))
                                continue;
                        /* a link within the program's directory is to be put back */
                        if (inner->link && path_is_within(inner->path, p->root_dir) &&
                                        !streq(inner->path, outer->path))
                                continue;
                        if (!streq(inner->real, outer->real)) {
                                if (asprintf(&why, "%s; and %s: %s", outer->why, inner->path, inner->why) < 0)
                                        return -ENOMEM;
                                free(outer->why);
                                outer->why = why;
                        }
                        drop_tree(p, j);
                        return drop_inner(p);
                }
        return 0;
}

static int measure(Plan *p, Error *reterr) {
        for (size_t i = 0; i < p->n_trees; i++) {
                _cleanup_close_ int fd = open(p->trees[i].real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                TreeSize size;
                int r;

                if (fd < 0)
                        return error_set(reterr, -errno, NULL, "Cannot open %s: %m", p->trees[i].real);
                r = tree_measure_changeable(fd, &size, reterr);
                if (r < 0)
                        return r;
                p->trees[i].bytes = size.allocated_bytes;
                p->trees[i].entries = size.n_entries;
        }
        return 0;
}

/* What a package's scripts do to all that is in a directory fails at one such file, on the way back too. */
static int check_changeable(const char *path, Error *reterr) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        TreeSize size;

        if (fd < 0) /* chown -R and rm -r do not follow a link */
                return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                                ? 0
                                : error_set(reterr, -errno, NULL, "Cannot open %s: %m", path);
        return tree_measure_changeable(fd, &size, reterr);
}

/* The postinst of a .deb does it to the logs too. */
static int check_program(const Plan *p, Error *reterr) {
        int r = check_changeable(p->root_dir, reterr);

        return r >= 0 && streq(p->kind, "deb") ? check_changeable("/var/log/emqx", reterr) : r;
}

static char *path_join(const char *dir, const char *name) {
        char *path;

        return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

int places_find(Plan *p, const Node *n, Error *reterr) {
        _cleanup_free_ char *etc = NULL, *data = NULL;
        int r;

        /* What was moved is still there too: loaded_plugins and others are where emqx.conf says, not emqx_vars. */
        etc = p->beside_dir ? path_join(p->root_dir, "etc") : strdup("/etc/emqx");
        data = p->beside_dir ? path_join(p->root_dir, "data") : strdup("/var/lib/emqx");
        if (!etc || !data)
                return -ENOMEM;

        r = check_mounts(p, reterr);
        if (r >= 0)
                r = add_place(p, "etc", n->etc_dir, "configuration", "RUNNER_ETC_DIR in emqx_vars", false, reterr);
        if (r >= 0)
                r = add_place(p, "data", n->data_dir, "data", "RUNNER_DATA_DIR in emqx_vars", false, reterr);
        if (r >= 0)
                r = free_and_strdup(&p->data_real, p->trees[p->n_trees - 1].real);
        if (r >= 0 && n->extra_data_dir)
                r = add_place(p, "node-data", n->extra_data_dir, "data", n->extra_data_dir_source, true, reterr);
        if (r >= 0)
                r = add_place(p, "default-etc", etc, "configuration", "where the package has its defaults", true,
                                reterr);
        if (r >= 0)
                r = add_place(p, "default-data", data, "data", "where the package has its defaults", true, reterr);
        /* Logs are no data, but go with a program that they lie in. */
        if (r >= 0 && path_is_within(n->log_dir, p->root_dir))
                r = add_place(p, "log", n->log_dir, "log", "RUNNER_LOG_DIR in emqx_vars, in the program's directory",
                                false, reterr);
        if (r >= 0)
                r = drop_inner(p);
        if (r >= 0)
                r = measure(p, reterr);
        if (r >= 0)
                r = check_program(p, reterr);
        if (r >= 0)
                r = check_writable(p, reterr);
        return r < 0 ? r : places_find_mounts(p, MOUNTS_OF_MACHINE, reterr);
}

static int make_link_again(Context *c, const PlanTree *t, bool back, Error *reterr) {
        _cleanup_free_ char *parent = strdup(t->path), *aside = NULL;
        const char *name = strrchr(t->path, '/') + 1;
        _cleanup_close_ int parent_fd = -1;
        int r;

        if (!parent || asprintf(&aside, "%s.emqx-upgrade-%.8s", name, c->plan->id) < 0)
                return -ENOMEM;
        parent_fd = open(dirname(parent), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return error_set(reterr, -errno, NULL, "Cannot open the directory of %s: %m", t->path);
        if (!back)
                r = tree_remove(parent_fd, name, reterr);
        else
                r = renameat(parent_fd, name, parent_fd, aside) < 0 && errno != ENOENT ? -errno : 0;
        if (r >= 0 && (symlinkat(t->link, parent_fd, name) < 0 || fsync(parent_fd) < 0))
                r = -errno;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot make the link %s to %s again: %m", t->path, t->link);
        step_report(c, "%s is a link to %s again", t->path, t->link);
        return 0;
}

static int restore_place(Context *c, const PlanTree *t, bool back, Error *reterr) {
        _cleanup_free_ char *link = NULL;
        struct stat st;
        int r;

        if (stat(t->real, &st) < 0) {
                r = errno == ENOENT ? mkdir_parents(t->real, 0755) : -errno;
                if (r < 0)
                        return error_set(reterr, r, NULL, "Cannot make %s again: %m", t->real);
        }
        if (!t->link || (read_link(t->path, &link) > 0 && streq_ptr(link, t->link)))
                return 0;
        return make_link_again(c, t, back, reterr);
}

int places_restore(Context *c, bool back, Error *reterr) {
        int r = 0;

        for (size_t i = 0; i < c->plan->n_trees && r >= 0; i++)
                r = restore_place(c, &c->plan->trees[i], back, reterr);
        return r;
}

int places_write_paths(const Plan *p, char ***ret) {
        _cleanup_strv_ char **paths = NULL;

        for (size_t i = 0; i < p->n_trees; i++) {
                const PlanTree *t = &p->trees[i];
                _cleanup_free_ char *parent = strdup(t->path);

                if (!parent || strv_extendf(&paths, "-%s", t->real) < 0)
                        return -ENOMEM;
                if (t->link && strv_extendf(&paths, "-%s", dirname(parent)) < 0)
                        return -ENOMEM;
                if (path_is_within(t->real, p->root_dir) && strv_extendf(&paths, "-%s", p->root_dir) < 0)
                        return -ENOMEM;
        }
        if (p->beside_dir) {
                _cleanup_free_ char *parent = strdup(p->beside_dir);

                if (!parent || strv_extend(&paths, dirname(parent)) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}

/* --- the file systems they are on --- */

char *place_filesystem(const char *path) {
        _cleanup_free_ char *real = realpath(path, NULL), *text = NULL;
        Mount m = { NULL, NULL, false };

        return strdup(real && mounts_find(MOUNTS_OF_OURS, real, &text, &m) >= 0 ? m.type : "?");
}

static int add_mount(Plan *p, const char *where) {
        return streq(where, "/") || strv_contains(p->mounts, where) ? 0 : strv_extend(&p->mounts, where);
}

static int add_outer_mount(Plan *p, const char *table, const char *path) {
        _cleanup_free_ char *real = realpath(path, NULL), *text = NULL;
        Mount m;
        int r;

        if (!real)
                return -errno;
        r = mounts_find(table, real, &text, &m);
        return r < 0 ? r : add_mount(p, m.where);
}

static int add_inner_mounts(Plan *p, const char *table, const char *real) {
        _cleanup_free_ char *text = NULL;
        char *rest;
        Mount m;
        int r;

        r = mounts_read(table, &text);
        rest = text;
        while (r >= 0 && mounts_next(&rest, &m))
                if (path_is_within(m.where, real))
                        r = add_mount(p, m.where);
        return r;
}

int places_find_mounts(Plan *p, const char *table, Error *reterr) {
        int r;

        r = add_outer_mount(p, table, p->root_dir);
        for (size_t i = 0; i < p->n_trees && r >= 0; i++) {
                r = add_outer_mount(p, table, p->trees[i].real);
                if (r >= 0)
                        r = add_inner_mounts(p, table, p->trees[i].real);
        }
        return r < 0 ? error_set(reterr, r, NULL, "Cannot tell which file systems the node is on: %m") : 0;
}

int places_are_mounted(const Plan *p, const char *table, const char **ret_missing) {
        STRV_FOREACH (mount, p->mounts) {
                _cleanup_free_ char *text = NULL;
                Mount m;
                int r;

                r = mounts_find(table, *mount, &text, &m);
                if (r < 0)
                        return r;
                if (!streq(m.where, *mount)) {
                        *ret_missing = *mount;
                        return 0;
                }
        }
        return 1;
}
