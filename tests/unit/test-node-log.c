/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include <poll.h>

#include "node/log.h"

/* A log directory, what stood in it before, and what the follower has said since. */
typedef struct Fixture {
        char *directory;
        NodeLog *log;
        char said[256 * 1024]; /* "file|line\n" */
} Fixture;

static void put(Fixture *f, const char *name, int flags, const char *text) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;

        assert_true(asprintf(&path, "%s/%s", f->directory, name) > 0);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void append(Fixture *f, const char *name, const char *text) {
        put(f, name, O_APPEND, text);
}

static void begin_anew(Fixture *f, const char *name, const char *text) {
        put(f, name, O_TRUNC, text);
}

static void take_line(const char *file, const char *line, void *userdata) {
        Fixture *f = userdata;
        size_t n = strlen(f->said);

        assert_true(n + strlen(file) + strlen(line) + 3 < sizeof(f->said));
        (void) sprintf(f->said + n, "%s|%s\n", file, line);
}

/* Waits until the follower wants to be read, reads it, and compares what it said. */
static void assert_said(Fixture *f, const char *expected) {
        struct pollfd p = { .fd = node_log_fd(f->log), .events = POLLIN };

        f->said[0] = 0;
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(node_log_read(f->log, take_line, f), 0);
        assert_string_equal(f->said, expected);
        assert_int_equal(poll(&p, 1, 0), 0);
}

static void assert_silent(Fixture *f) {
        f->said[0] = 0;
        assert_int_equal(node_log_read(f->log, take_line, f), 0);
        assert_string_equal(f->said, "");
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->directory = make_tmpdir();
        append(f, "erlang.log.1", "old line\nEMQ X Broker 4.3.22 is running now!\n");
        append(f, "emqx.log.1", "old warning\n");
        append(f, "emqx.log.idx", "index");
        assert_int_equal(node_log_open(f->directory, NULL, &f->log, NULL), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        node_log_free(f->log);
        remove_tmpdir(f->directory);
        free(f);
        return 0;
}

static void appended_lines_are_said(void **state) {
        Fixture *f = *state;

        assert_silent(f);
        append(f, "erlang.log.1", "one\r\r\n\ntwo\n");
        assert_said(f, "erlang.log.1|one\nerlang.log.1|\nerlang.log.1|two\n");
        append(f, "emqx.log.1", "three\n");
        assert_said(f, "emqx.log.1|three\n");
        assert_silent(f);
}

static void a_line_is_said_when_it_is_complete(void **state) {
        Fixture *f = *state;

        append(f, "erlang.log.1", "is runn");
        assert_said(f, "");
        append(f, "erlang.log.1", "ing no");
        assert_said(f, "");
        append(f, "erlang.log.1", "w!\nnext");
        assert_said(f, "erlang.log.1|is running now!\n");
        append(f, "erlang.log.1", "\n");
        assert_said(f, "erlang.log.1|next\n");
}

static void the_next_file_of_the_ring_is_read_from_its_beginning(void **state) {
        Fixture *f = *state;

        append(f, "erlang.log.1", "last of 1\n");
        append(f, "erlang.log.2", "first of 2\n");
        assert_said(f, "erlang.log.1|last of 1\nerlang.log.2|first of 2\n");
        append(f, "erlang.log.2", "second of 2\n");
        append(f, "emqx.log.2", "warning\n");
        assert_said(f, "erlang.log.2|second of 2\nemqx.log.2|warning\n");
}

static void the_ring_closes(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = NULL;

        append(f, "erlang.log.5", "in 5\n");
        assert_said(f, "erlang.log.5|in 5\n");

        /* run_erl deletes the next file and begins it anew; what the old one still got is not lost. */
        assert_true(asprintf(&path, "%s/erlang.log.1", f->directory) > 0);
        append(f, "erlang.log.1", "last words\n");
        assert_int_equal(unlink(path), 0);
        append(f, "erlang.log.5", "end of 5\n");
        append(f, "erlang.log.1", "in 1 again\n");
        assert_said(f, "erlang.log.1|last words\nerlang.log.5|end of 5\nerlang.log.1|in 1 again\n");

        /* disk_log truncates it instead. */
        append(f, "emqx.log.5", "in 5\n");
        assert_said(f, "emqx.log.5|in 5\n");
        append(f, "emqx.log.5", "end of 5\n");
        begin_anew(f, "emqx.log.1", "in 1 again\n");
        assert_said(f, "emqx.log.5|end of 5\nemqx.log.1|in 1 again\n");
}

static void a_truncated_file_is_read_from_its_beginning(void **state) {
        Fixture *f = *state;

        begin_anew(f, "erlang.log.1", "short\n");
        assert_said(f, "erlang.log.1|short\n");

        /* Longer than before, so that the size does not tell. */
        begin_anew(f, "erlang.log.1", "anew, and longer than what stood there before\n");
        assert_said(f, "erlang.log.1|anew, and longer than what stood there before\n");
        begin_anew(f, "emqx.log.1", "");
        assert_said(f, "");
        append(f, "emqx.log.1", "first\n");
        assert_said(f, "emqx.log.1|first\n");
}

static void a_renamed_file_is_the_same_file(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *from = NULL, *to = NULL;

        assert_true(asprintf(&from, "%s/emqx.log.1", f->directory) > 0);
        assert_true(asprintf(&to, "%s/emqx.log.2", f->directory) > 0);
        append(f, "emqx.log.1", "before\n");
        assert_int_equal(rename(from, to), 0);
        append(f, "emqx.log.1", "after\n");
        assert_said(f, "emqx.log.2|before\nemqx.log.1|after\n");
}

static void other_files_are_passed_over(void **state) {
        static const char *const names[] = { "emqx.log.siz", "emqx.log.idx", "erlang.log.", "erlang.log.1.gz",
                "run_erl.log", "crash.dump", "xerlang.log.1" };
        Fixture *f = *state;
        _cleanup_free_ char *fifo = NULL, *link = NULL, *dir = NULL;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                append(f, names[i], "is running now!\n");
        assert_true(asprintf(&fifo, "%s/erlang.log.7", f->directory) > 0);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_true(asprintf(&link, "%s/erlang.log.8", f->directory) > 0);
        assert_int_equal(symlink("run_erl.log", link), 0);
        assert_true(asprintf(&dir, "%s/erlang.log.9", f->directory) > 0);
        assert_int_equal(mkdir(dir, 0700), 0);
        assert_said(f, "");
        append(f, "emqx.log", "unrotated\n");
        assert_said(f, "emqx.log|unrotated\n");
}

static void put_old(Fixture *f, const char *name, time_t sec) {
        const struct timespec times[2] = { { .tv_sec = sec }, { .tv_sec = sec } };
        _cleanup_free_ char *path = NULL;

        append(f, name, "old line\n");
        assert_true(asprintf(&path, "%s/%s", f->directory, name) > 0);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void of_too_many_files_the_oldest_are_left_out(void **state) {
        Fixture *f = *state;
        char name[32];

        f->log = node_log_free(f->log);
        for (int i = 1; i <= 200; i++) { /* 150 is the newest, and 151 the oldest: begun anew next */
                (void) snprintf(name, sizeof(name), "emqx.log.%i", i);
                put_old(f, name, i <= 150 ? 1000 + i : i);
        }
        put_old(f, "erlang.log.1", 1);
        assert_int_equal(node_log_open(f->directory, NULL, &f->log, NULL), 0);

        append(f, "erlang.log.1", "in 1\n");
        assert_said(f, "erlang.log.1|in 1\n");
        append(f, "erlang.log.2", "in 2\n");
        assert_said(f, "erlang.log.2|in 2\n");
        append(f, "emqx.log.150", "in 150\n");
        assert_said(f, "emqx.log.150|in 150\n");
        begin_anew(f, "emqx.log.151", "in 151\n");
        assert_said(f, "emqx.log.151|in 151\n");
}

static void what_was_left_out_and_comes_back_is_not_new(void **state) {
        Fixture *f = *state;
        char name[32];

        f->log = node_log_free(f->log);
        for (int i = 1; i <= 100; i++) {
                (void) snprintf(name, sizeof(name), "emqx.log.%i", i);
                put_old(f, name, i);
        }
        assert_int_equal(node_log_open(f->directory, NULL, &f->log, NULL), 0);
        for (int i = 90; i <= 100; i++) {
                _cleanup_free_ char *path = NULL;

                assert_true(asprintf(&path, "%s/emqx.log.%i", f->directory, i) > 0);
                assert_int_equal(unlink(path), 0);
        }
        assert_said(f, "");
        append(f, "emqx.log.90", "new\n");
        assert_said(f, "emqx.log.90|new\n");
}

static void long_and_binary_lines_are_tamed(void **state) {
        static const char nul[] = "a\0b\n";
        Fixture *f = *state;
        _cleanup_free_ char *path = NULL, *text = malloc(100002);
        _cleanup_close_ int fd = -1;

        assert_non_null(text);
        memset(text, 'x', 100000);
        memcpy(text + 100000, "\n", 2);
        f->said[0] = 0;
        append(f, "erlang.log.1", text);
        append(f, "erlang.log.1", "next\n");
        assert_int_equal(node_log_read(f->log, take_line, f), 0);
        assert_int_equal(strlen(f->said), strlen("erlang.log.1|\n") + 4095 + strlen("erlang.log.1|next\n"));

        assert_true(asprintf(&path, "%s/erlang.log.1", f->directory) > 0);
        fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, nul, 4), 4);
        assert_said(f, "erlang.log.1|a b\n");
}

static void a_lost_directory_is_noticed(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *moved = NULL;

        append(f, "erlang.log.1", "last\n");
        assert_true(asprintf(&moved, "%s.moved", f->directory) > 0);
        assert_int_equal(rename(f->directory, moved), 0);
        f->said[0] = 0;
        assert_int_equal(node_log_read(f->log, take_line, f), -ESTALE);
        assert_string_equal(f->said, "erlang.log.1|last\n");
        assert_int_equal(rename(moved, f->directory), 0);
}

static void a_missing_directory_is_an_error(void **state) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        NodeLog *log = NULL;

        (void) state;
        assert_int_equal(node_log_open("/nonexistent/log", NULL, &log, &e), -ENOENT);
        assert_null(log);
        assert_non_null(strstr(e.message, "/nonexistent/log"));
        assert_int_equal(node_log_open("/etc/passwd", NULL, &log, NULL), -ENOTDIR);
}

static void failures_are_told_from_warnings(void **state) {
        static const struct {
                const char *line;
                NodeLineKind kind;
        } rows[] = {
                { "EMQ X Broker 4.4.0 is running now!", NODE_LINE_RUNNING },
                { "EMQX Broker 4.4.16 is running now!", NODE_LINE_RUNNING },
                { "EMQ X Enterprise 4.3.12 is running now!", NODE_LINE_RUNNING },
                { "Failed to start mqtt listener mqtt:tcp:external on 0.0.0.0:1883: e", NODE_LINE_FATAL },
                { "Failed to start mqtt:tcp:external listener on 0.0.0.0:1883: eaddrinuse", NODE_LINE_FATAL },
                { "Failed to start http:management listener on 8081: eaddrinuse", NODE_LINE_FAILURE },
                { "12:00:00.123 [error] You've tried to set acl_order, but there is no", NODE_LINE_FAILURE },
                { "12:00:00.123 [error] Error generating configuration in phase x", NODE_LINE_FATAL },
                { "12:00:00.123 [error] Conf file attempted to set unknown variable: acl_order", NODE_LINE_FATAL },
                { "Syntax error in /etc/emqx/emqx.conf after line 3 column 1", NODE_LINE_FATAL },
                { "FATAL: Unable to start Erlang.", NODE_LINE_FATAL },
                { "Please make sure openssl-1.1.1 (libcrypto) and libncurses", NODE_LINE_FATAL },
                { "{\"Kernel pid terminated\",application_controller,\"{app", NODE_LINE_FATAL },
                { "Kernel pid terminated (application_controller) ({app", NODE_LINE_FATAL },
                { "Runtime terminating during boot ({badarg,[", NODE_LINE_FATAL },
                { "Crash dump is being written to: /var/log/emqx/crash.dump...done", NODE_LINE_FATAL },
                { "Error when reading /var/lib/emqx/.erlang.cookie: eacces", NODE_LINE_FATAL },
                { "Cookie file /x/.erlang.cookie must be accessible by owner only", NODE_LINE_FATAL },
                { "Please set node.cookie in /etc/emqx/emqx.conf", NODE_LINE_FATAL },
                { "2022-02-18T19:15:53.123456Z [warning] still waiting for table(s): [emqx_rule]", NODE_LINE_WARNING },
                { "[alert] cannot_find_plugins: [emqx_gone]", NODE_LINE_FAILURE },
                { "[alert] Plugin emqx_auth_mongo load failed with {error,", NODE_LINE_FAILURE },
                { "Load plugin emqx_auth_mysql failed, cannot start", NODE_LINE_FAILURE },
                { "[alert] Failed to read: \"/x/loaded_modules\", error: enoent", NODE_LINE_FAILURE },
                { "** Connection attempt from disallowed node 'emqx@10.0.0.2' **", NODE_LINE_WARNING },
                { "handshake failed: bad cookie", NODE_LINE_WARNING },
                { "** Node 'emqx@10.0.0.2' not responding **", NODE_LINE_WARNING },
                { "Alarm high_cpu_usage is activated, #{usage => 90.1}", NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456Z [error] supervisor: something", NODE_LINE_FAILURE },
                { "2022-02-18T19:15:53.123456Z [critical] x", NODE_LINE_FAILURE },
                { "2022-02-18T19:15:53.123456Z [alert] x", NODE_LINE_FAILURE },
                { "2022-02-18T19:15:53.123456Z [emergency] x", NODE_LINE_FAILURE },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (node_line_classify("erlang.log.1", rows[i].line) != rows[i].kind)
                        fail_msg("wrong: %s", rows[i].line);
}

static void a_normal_start_is_quiet(void **state) {
        static const char *const lines[] = { "", "=====", "===== LOGGING STARTED Fri Feb 18 19:15:50 CST 2022",
                "===== ALIVE Fri Feb 18 19:30:50 CST 2022",
                "Exec: /usr/lib/emqx/erts-11.1/bin/erlexec -boot /usr/lib/emqx/releases/4.4.0/emqx -mode embedded",
                "Root: /usr/lib/emqx", "/usr/lib/emqx",
                "-config /var/lib/emqx/configs/app.2022.02.18.config -args_file /var/lib/emqx/configs/vm.args",
                "Erlang/OTP 23 [erts-11.1] [source] [64-bit] [smp:2:2] [ds:2:2:10] [async-threads:4]",
                "Starting emqx on node emqx@127.0.0.1",
                "Start mqtt:tcp:external listener on 0.0.0.0:1883 successfully.",
                "Start http:management listener on 8081 successfully.", "Eshell V11.1  (abort with ^G)",
                "(emqx@127.0.0.1)1> ",
                "=CRITICAL REPORT==== 18-Feb-2022::19:15:53.123456 ===", "[EMQ X] emqx shutdown for join",
                "2022-02-18T19:15:53.123456Z [warning] Module: a warning" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                assert_int_equal(node_line_classify("erlang.log.1", lines[i]), NODE_LINE_OTHER);
                assert_int_equal(node_line_classify("emqx.log.1", lines[i]), NODE_LINE_OTHER);
        }
}

/* A client called "is running now!" neither ends nor completes a start. */
static void clients_cannot_decide_with_what_they_write(void **state) {
        (void) state;
        assert_int_equal(node_line_classify("emqx.log.3",
                                         "2022-02-18T19:15:53.123456Z [warning] is running now!@10.0.0.9:4711 x"),
                        NODE_LINE_OTHER);
        assert_int_equal(node_line_classify("emqx.log.3",
                                         "2022-02-18T19:15:53.123456Z [warning] Kernel pid terminated@10.0.0.9:1"),
                        NODE_LINE_WARNING);
        assert_int_equal(node_line_classify("emqx.log", "Crash dump is being written to: x"), NODE_LINE_FAILURE);
        assert_int_equal(node_line_classify("emqx.log", "[error] a@[::1]:5 [Channel] Plugin x load failed"),
                        NODE_LINE_WARNING);
        assert_int_equal(node_line_classify("emqx.log", "[error] supervisor: 'esockd_connection_sup - <0.1.0>', …"),
                        NODE_LINE_WARNING);
        assert_int_equal(node_line_classify("emqx.log", "[error] [Rule Engine] 'emqx@127.0.0.1': x"),
                        NODE_LINE_FAILURE);
}

/* Before its CONNECT a client is an address; with log.to = both the console has such lines, too. */
static void nor_can_they_before_they_connect_or_on_the_console(void **state) {
        static const struct {
                const char *line;
                NodeLineKind kind;
        } rows[] = {
                { "2022-02-18T19:15:53.123456+08:00 [error] 203.0.113.9:51234 [MQTT] Parse failed for x",
                                NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456+08:00 [error] ::ffff:203.0.113.9:51234 [MQTT] x", NODE_LINE_WARNING },
                { "18/02/2022 19:15 [error] 2001:db8::9:51234 [MQTT] x", NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456Z [error] [2001:db8::9]:51234 [MQTT] x", NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456Z [error] a@203.0.113.9:5 [MQTT] x", NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456Z [error] Crash dump is being written to@203.0.113.9:5 x",
                                NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456Z [error] 203.0.113.9:5 Kernel pid terminated", NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456Z [warning] is running now!@10.0.0.9:4711 x", NODE_LINE_OTHER },
                { "{\"clientid\":\"[error]\",\"level\":\"warning\",\"peername\":\"203.0.113.9:5\"}",
                                NODE_LINE_WARNING },
                { "{\"level\":\"error\",\"msg\":\"[error]\",\"peername\":\"203.0.113.9:5\"}", NODE_LINE_WARNING },
                { "2022-02-18T19:15:53.123456Z [error] 12:34:56 x", NODE_LINE_FAILURE },
                { "2022-02-18T19:15:53.123456Z [error] 203.0.113.9: x", NODE_LINE_FAILURE },
                { "2022-02-18T19:15:53.123456Z [error] cannot reach 203.0.113.9:5432 x", NODE_LINE_FAILURE },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (node_line_classify("emqx.log.3", rows[i].line) != rows[i].kind ||
                                node_line_classify("erlang.log.3", rows[i].line) != rows[i].kind)
                        fail_msg("wrong: %s", rows[i].line);
}

/* Over HTTP and WebSocket EMQX does not say whom a line is about. */
static void nor_can_they_over_http(void **state) {
        static const char *const lines[] = {
                "2022-02-18T19:15:53.123456Z [error] [MQTT/WS] Illegal cookie",
                "2022-02-18T19:15:53.123456Z [error] [Dashboard] Authorization Failure: username=Failed to read, reason=x",
                "2022-02-18T19:15:53.123456Z [error] Ranch listener 'mqtt:ws:8083', connection process <0.1.0>, stream 1 had",
                "2022-02-18T19:15:53.123456Z [error] Ranch listener 'mqtt:ws:8083' had connection process started with x",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                assert_int_equal(node_line_classify("emqx.log.1", lines[i]), NODE_LINE_WARNING);
        assert_int_equal(node_line_classify("emqx.log.1",
                                         "2022-02-18T19:15:53.123456Z [error] Failed to start Ranch listener x"),
                        NODE_LINE_FAILURE);
}

static void take_kind(const char *file, const char *line, void *userdata) {
        *(NodeLineKind *) userdata = node_line_classify(file, line);
}

/* Its name fills all that is kept of the line, and more. */
static void nor_can_they_with_a_name_that_is_too_long(void **state) {
        _cleanup_free_ char *name = malloc(8192), *line = NULL;
        NodeLineKind kind = NODE_LINE_OTHER;
        Fixture *f = *state;

        assert_non_null(name);
        memset(name, 'x', 8191);
        name[8191] = 0;
        assert_true(asprintf(&line, "2022-02-18T19:15:53.123456Z [error] %s@10.0.0.9:5 x\n", name) > 0);
        append(f, "emqx.log.1", line);
        assert_int_equal(node_log_read(f->log, take_kind, &kind), 0);
        assert_int_equal(kind, NODE_LINE_WARNING);
}

static void marks_go_on_where_they_were_made(void **state) {
        Fixture *f = *state;
        _cleanup_strv_ char **marks = NULL;
        char **empty = STRV_MAKE("erlang.log.9 0 x");

        append(f, "emqx.log.2", "to be begun anew\n");
        assert_said(f, "emqx.log.2|to be begun anew\n");
        assert_int_equal(node_log_marks(f->log, &marks), 0);
        assert_int_equal(strv_length(marks), 3);
        for (size_t i = 0; i < 3; i++)
                assert_null(strstr(marks[i], "old"));
        f->log = node_log_free(f->log);

        append(f, "erlang.log.1", "one\n");
        begin_anew(f, "emqx.log.2", "longer than what was there before\n");
        append(f, "erlang.log.2", "two\n");
        for (unsigned i = 0; i < 2; i++) { /* as often as one likes */
                assert_int_equal(node_log_open(f->directory, marks, &f->log, NULL), 0);
                f->said[0] = 0;
                assert_int_equal(node_log_read(f->log, take_line, f), 0);
                assert_non_null(strstr(f->said, "erlang.log.1|one\n"));
                assert_non_null(strstr(f->said, "emqx.log.2|longer than what was there before\n"));
                assert_non_null(strstr(f->said, "erlang.log.2|two\n"));
                assert_null(strstr(f->said, "old"));
                f->log = node_log_free(f->log);
        }

        assert_int_equal(node_log_open(f->directory, empty, &f->log, NULL), 0);
        f->said[0] = 0;
        assert_int_equal(node_log_read(f->log, take_line, f), 0);
        assert_non_null(strstr(f->said, "erlang.log.1|old line\n"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(appended_lines_are_said, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_line_is_said_when_it_is_complete, set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                                the_next_file_of_the_ring_is_read_from_its_beginning, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_ring_closes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_truncated_file_is_read_from_its_beginning, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_renamed_file_is_the_same_file, set_up, tear_down),
                cmocka_unit_test_setup_teardown(other_files_are_passed_over, set_up, tear_down),
                cmocka_unit_test_setup_teardown(of_too_many_files_the_oldest_are_left_out, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_was_left_out_and_comes_back_is_not_new, set_up, tear_down),
                cmocka_unit_test_setup_teardown(long_and_binary_lines_are_tamed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_lost_directory_is_noticed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(marks_go_on_where_they_were_made, set_up, tear_down),
                cmocka_unit_test(a_missing_directory_is_an_error),
                cmocka_unit_test(failures_are_told_from_warnings),
                cmocka_unit_test(a_normal_start_is_quiet),
                cmocka_unit_test(clients_cannot_decide_with_what_they_write),
                cmocka_unit_test(nor_can_they_before_they_connect_or_on_the_console),
                cmocka_unit_test(nor_can_they_over_http),
                cmocka_unit_test_setup_teardown(nor_can_they_with_a_name_that_is_too_long, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
