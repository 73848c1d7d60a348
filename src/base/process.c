/* SPDX-License-Identifier: Apache-2.0 */

#include "base/process.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/fileio.h"
#include "base/strv.h"

#define LINE_BYTES_MAX 4096
#define CAPTURE_BYTES_MAX (1024 * 1024)
#define EXIT_NO_EXEC 127

static char *const clean_environment[] = {
        (char *) "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        (char *) "LC_ALL=C.UTF-8",
        NULL,
};

/* Runs between fork and exec: only async-signal-safe calls, and initgroups(), which our single thread allows. */
static void child(char *const *argv, char **environment, const ProcessOptions *o, int output_fd, int error_fd) {
        sigset_t none;
        int null_fd;

        (void) setpgid(0, 0);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) signal(SIGPIPE, SIG_DFL);

        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(output_fd, STDOUT_FILENO) < 0 ||
                        dup2(output_fd, STDERR_FILENO) < 0 || chdir(o->directory ?: "/") < 0)
                goto fail;
        if (o->user && (initgroups(o->user, o->gid) < 0 || setgid(o->gid) < 0 || setuid(o->uid) < 0))
                goto fail;

        (void) execvpe(argv[0], argv, environment);
fail:
        /* The pipe is close-on-exec: its silence is how the parent knows that the program runs. */
        (void) !write(error_fd, &(int){ errno }, sizeof(int));
        _exit(EXIT_NO_EXEC);
}

typedef struct LineBuffer {
        char data[LINE_BYTES_MAX];
        size_t size;
} LineBuffer;

static void flush_line(LineBuffer *b, const ProcessOptions *o) {
        b->data[b->size] = 0;
        if (o->on_line && b->size > 0)
                o->on_line(b->data, o->userdata);
        b->size = 0;
}

static void take_output(LineBuffer *b, const char *data, size_t n, const ProcessOptions *o) {
        for (size_t i = 0; i < n; i++) {
                if (data[i] == '\n' || data[i] == '\r' || b->size == LINE_BYTES_MAX - 1)
                        flush_line(b, o);
                if (data[i] != '\n' && data[i] != '\r')
                        b->data[b->size++] = data[i] ? data[i] : ' ';
        }
}

/* Reads until the end of the output: 0, or -ETIMEDOUT. */
static int relay_output(int fd, usec_t deadline_usec, const ProcessOptions *o) {
        LineBuffer lines = { .size = 0 };

        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                usec_t left = usec_left(deadline_usec);
                char data[LINE_BYTES_MAX];
                ssize_t n;
                int r;

                if (left == 0)
                        return -ETIMEDOUT;
                r = poll(&p, 1, left == USEC_INFINITY ? -1 : (int) MIN(left / USEC_PER_MSEC + 1, (usec_t) INT32_MAX));
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r <= 0)
                        continue;

                n = read(fd, data, sizeof(data));
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0) {
                        flush_line(&lines, o);
                        return 0;
                }
                take_output(&lines, data, (size_t) n, o);
        }
}

static int wait_for_exit(pid_t pid, int *ret_status) {
        while (waitpid(pid, ret_status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

static char **build_environment(const ProcessOptions *o) {
        _cleanup_strv_ char **e = strv_copy(clean_environment);

        if (!e)
                return NULL;
        for (size_t i = 0; o->environment && o->environment[i]; i++)
                if (strv_extend(&e, o->environment[i]) < 0)
                        return NULL;
        return TAKE_PTR(e);
}

int process_run(char *const *argv, const ProcessOptions *options, Error *reterr) {
        static const ProcessOptions defaults = { .on_line = NULL };
        const ProcessOptions *o = options ?: &defaults;
        _cleanup_strv_ char **environment = NULL;
        int output[2] = { -1, -1 }, failure[2] = { -1, -1 }, status, exec_errno = 0, r, w;
        usec_t deadline_usec;
        pid_t pid;

        assert(argv && argv[0]);

        environment = build_environment(o);
        if (!environment)
                return -ENOMEM;
        if (pipe2(output, O_CLOEXEC) < 0)
                return error_set(reterr, -errno, NULL, "%s: cannot make a pipe: %m", argv[0]);
        if (pipe2(failure, O_CLOEXEC) < 0) {
                r = error_set(reterr, -errno, NULL, "%s: cannot make a pipe: %m", argv[0]);
                goto finish;
        }

        pid = fork();
        if (pid < 0) {
                r = error_set(reterr, -errno, NULL, "%s: cannot fork: %m", argv[0]);
                goto finish;
        }
        if (pid == 0)
                child(argv, environment, o, output[1], failure[1]);

        output[1] = safe_close(output[1]);
        failure[1] = safe_close(failure[1]);
        if (read(failure[0], &exec_errno, sizeof(exec_errno)) != sizeof(exec_errno))
                exec_errno = 0;

        deadline_usec = o->timeout_usec ? usec_from_now(o->timeout_usec) : USEC_INFINITY;
        r = relay_output(output[0], deadline_usec, o);
        if (r < 0)
                (void) kill(-pid, SIGKILL);
        w = wait_for_exit(pid, &status);

        if (exec_errno != 0)
                r = error_set(reterr, -exec_errno, NULL, "%s: cannot be run: %m", argv[0]);
        else if (r == -ETIMEDOUT) {
                char span[TIMESPAN_TEXT_MAX];

                r = error_set(reterr, r, NULL, "%s: was ended because it took longer than %s", argv[0],
                                format_timespan(span, o->timeout_usec));
        } else if (r >= 0 && w < 0)
                r = error_set(reterr, w, NULL, "%s: cannot be waited for: %m", argv[0]);
        else if (r >= 0 && WIFSIGNALED(status))
                r = error_set(reterr, -ECHILD, NULL, "%s: was ended by signal %i (%s)", argv[0], WTERMSIG(status),
                                strsignal(WTERMSIG(status)));
        else if (r >= 0)
                r = WEXITSTATUS(status);
finish:
        for (size_t i = 0; i < 2; i++) {
                output[i] = safe_close(output[i]);
                failure[i] = safe_close(failure[i]);
        }
        return r;
}

typedef struct Capture {
        char *data;
        size_t size;
        bool failed;
} Capture;

static void capture_line(const char *line, void *userdata) {
        Capture *c = userdata;
        size_t n = strlen(line);
        char *larger;

        if (c->failed || c->size + n + 2 > CAPTURE_BYTES_MAX)
                return;
        larger = realloc(c->data, c->size + n + 2);
        if (!larger) {
                c->failed = true;
                return;
        }
        c->data = larger;
        memcpy(c->data + c->size, line, n);
        c->size += n;
        c->data[c->size++] = '\n';
        c->data[c->size] = 0;
}

int process_capture(char *const *argv, const ProcessOptions *options, char **ret_output, Error *reterr) {
        ProcessOptions o = options ? *options : (ProcessOptions){ .on_line = NULL };
        Capture c = { .data = NULL };
        int r;

        assert(ret_output);

        o.on_line = capture_line;
        o.userdata = &c;
        r = process_run(argv, &o, reterr);
        if (r >= 0 && (c.failed || (!c.data && !(c.data = strdup("")))))
                r = -ENOMEM;
        if (r < 0) {
                free(c.data);
                return r;
        }
        *ret_output = c.data;
        return r;
}

const char *process_name(char buf[static 32], pid_t pid) {
        _cleanup_free_ char *comm = NULL;
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%i/comm", pid);
        if (read_file_at(AT_FDCWD, path, 64, &comm, NULL) < 0)
                (void) snprintf(buf, 32, "?");
        else
                (void) snprintf(buf, 32, "%.*s", (int) strcspn(comm, "\n"), comm);
        return buf;
}
