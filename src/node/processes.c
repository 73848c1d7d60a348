/* SPDX-License-Identifier: Apache-2.0 */

#include "node/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/fileio.h"

#define CMDLINE_BYTES_MAX (4 * 1024 * 1024)
#define COMM_BYTES_MAX 64
#define LOOKS_MAX 3 /* run_erl forks twice to become a daemon: its third process is there at the third look */

/* The numeric name of a directory in /proc, or 0. */
static pid_t parse_pid(const char *name) {
        char *end;
        long n;

        if (*name < '1' || *name > '9')
                return 0;
        n = strtol(name, &end, 10);
        return *end || n > INT_MAX ? 0 : (pid_t) n;
}

/* Whether an argument of pid is word, or below word where that is a directory ("/…"). */
static int has_argument(int proc_fd, pid_t pid, const char *word) {
        _cleanup_free_ char *cmdline = NULL;
        char path[32];
        size_t size;
        int r;

        (void) snprintf(path, sizeof(path), "%i/cmdline", pid);
        r = read_file_at(proc_fd, path, CMDLINE_BYTES_MAX, &cmdline, &size);
        if (r < 0)
                return r;
        for (const char *p = cmdline; p < cmdline + size; p += strlen(p) + 1) {
                const char *rest = startswith(p, word);

                if (rest && (*rest == 0 || (*word == '/' && *rest == '/')))
                        return 1;
        }
        return 0;
}

/* A container's processes show paths of their own tree, which may read like ours. */
static int same_root(int proc_fd, pid_t pid, const struct stat *our_root) {
        char path[32];
        struct stat st;

        (void) snprintf(path, sizeof(path), "%i/root", pid);
        if (fstatat(proc_fd, path, &st, 0) < 0)
                return errno == EACCES || errno == EPERM ? 1 : -errno;
        return st.st_dev == our_root->st_dev && st.st_ino == our_root->st_ino;
}

/* 1 if its executable is or was below root_dir, 0 if not. "… (deleted)" begins with the path all the same. A process
 * that may hide it (as in a sandbox) is judged by its arguments, which are public. */
static int runs_from(int proc_fd, pid_t pid, const char *root_dir) {
        char path[32], exe[PATH_MAX + 1];
        const char *rest;
        ssize_t n;

        (void) snprintf(path, sizeof(path), "%i/exe", pid);
        n = readlinkat(proc_fd, path, exe, sizeof(exe) - 1);
        if (n < 0)
                return errno == EACCES || errno == EPERM ? has_argument(proc_fd, pid, root_dir) : -errno;
        exe[n] = 0;
        rest = startswith(exe, root_dir);
        return rest && *rest == '/';
}

static int is_runner(int proc_fd, pid_t pid) {
        _cleanup_free_ char *comm = NULL;
        char path[32];
        size_t size;
        int r;

        (void) snprintf(path, sizeof(path), "%i/comm", pid);
        r = read_file_at(proc_fd, path, COMM_BYTES_MAX, &comm, &size);
        return r < 0 ? r : streq(comm, "run_erl\n");
}

/* 1 and *ret if it is one of the node's, 0 if not, -ENOENT or -ESRCH if it has ended, or is a kernel thread. */
static int look_at(int proc_fd, pid_t pid, const char *root_dir, const struct stat *our_root, NodeProcess *ret) {
        int r, vm, runner;

        r = runs_from(proc_fd, pid, root_dir);
        if (r > 0)
                r = same_root(proc_fd, pid, our_root);
        if (r <= 0)
                return r;
        /* The broker is given a Mnesia directory, the VMs of emqx_ctl and nodetool are not. */
        vm = has_argument(proc_fd, pid, "-mnesia");
        if (vm < 0)
                return vm;
        runner = is_runner(proc_fd, pid);
        if (runner < 0)
                return runner;
        *ret = (NodeProcess){ .pid = pid, .vm = vm > 0, .runner = runner > 0 };
        return 1;
}

static bool has_ended(int proc_fd, const char *name) {
        struct stat st;

        return fstatat(proc_fd, name, &st, 0) < 0;
}

/* One look at all of /proc. *ret_ended: one of those that were listed had ended before it was looked at. */
static int scan(const char *root_dir, const struct stat *our_root, NodeProcess **ret, size_t *ret_n, bool *ret_ended) {
        _cleanup_free_ NodeProcess *found = NULL;
        _cleanup_(closedirp) DIR *proc = opendir("/proc");
        size_t n = 0;

        if (!proc)
                return -errno;

        *ret_ended = false;
        for (;;) {
                NodeProcess process, *larger;
                struct dirent *e;
                pid_t pid;
                int r;

                errno = 0;
                e = readdir(proc);
                if (!e) {
                        if (errno != 0)
                                return -errno;
                        break;
                }
                pid = parse_pid(e->d_name);
                if (pid == 0)
                        continue;

                r = look_at(dirfd(proc), pid, root_dir, our_root, &process);
                if (r == -ENOENT || r == -ESRCH)
                        *ret_ended = *ret_ended || has_ended(dirfd(proc), e->d_name);
                else if (r < 0)
                        return r;
                if (r <= 0)
                        continue;

                larger = reallocarray(found, n + 1, sizeof(*found));
                if (!larger)
                        return -ENOMEM;
                found = larger;
                found[n++] = process;
        }
        *ret = TAKE_PTR(found);
        *ret_n = n;
        return 0;
}

int node_processes(const char *root_dir, NodeProcess **ret, size_t *ret_n) {
        _cleanup_free_ char *real = realpath(root_dir, NULL); /* NULL where it is gone: then as it is written */
        struct stat our_root;

        assert(root_dir);
        assert(ret);
        assert(ret_n);

        if (stat("/proc/self/root", &our_root) < 0)
                return -errno;

        for (unsigned look = 1;; look++) {
                _cleanup_free_ NodeProcess *found = NULL;
                size_t n = 0;
                bool ended = false;
                int r;

                r = scan(real ?: root_dir, &our_root, &found, &n, &ended);
                if (r < 0)
                        return r;
                if (!ended || look == LOOKS_MAX) {
                        *ret = TAKE_PTR(found);
                        *ret_n = n;
                        return 0;
                }
        }
}
