/* SPDX-License-Identifier: Apache-2.0 */

#include "test-util.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "journal/log.h"

/* A datagram socket where journald's is, in a /run of our own: what libsystemd really sends is read from it. */
static int bind_journal(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };
        int fd;

        assert_int_equal(unshare(CLONE_NEWNS), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        assert_int_equal(mount("tmpfs", "/run", "tmpfs", 0, NULL), 0);
        assert_int_equal(mkdir("/run/systemd", 0755), 0);
        assert_int_equal(mkdir("/run/systemd/journal", 0755), 0);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

static int set_up(void **state) {
        static int fd;

        fd = bind_journal();
        *state = &fd;
        return 0;
}

static int tear_down(void **state) {
        close(*(int *) *state);
        return 0;
}

/* One entry as lines "NAME=value" between newlines, so that "\nNAME=value\n" can be looked for. */
static const char *received(void **state) {
        static char buf[8192];
        ssize_t n;

        buf[0] = '\n';
        n = recv(*(int *) *state, buf + 1, sizeof(buf) - 3, MSG_DONTWAIT);
        assert_true(n > 0);
        buf[n + 1] = '\n';
        buf[n + 2] = '\0';
        return buf;
}

static bool has(const char *entry, const char *field) {
        _cleanup_free_ char *line = NULL;

        assert_true(asprintf(&line, "\n%s\n", field) > 0);
        return strstr(entry, line);
}

static bool names(const char *entry, const char *name) {
        _cleanup_free_ char *start = NULL;

        assert_true(asprintf(&start, "\n%s=", name) > 0);
        return strstr(entry, start);
}

static const JournalContext context = {
        .upgrade_id = "0123456789abcdef0123456789abcdef", .from = "4.3.12", .to = "4.4.0"
};

static void an_entry_has_its_sentence_and_fields(void **state) {
        const char *e;

        journal_event(&context, EVENT_STEP_FAILED,
                        &(JournalFields){ .step = "stop",
                                        .result = "failed",
                                        .error = "it hangs",
                                        .usec = 7,
                                        .error_number = -ETIMEDOUT },
                        "Step %s failed", "stop");

        e = received(state);
        assert_true(has(e, "MESSAGE=Step stop failed"));
        assert_true(has(e, "MESSAGE_ID=6241ea03dd724e8597a7d3d792b2ad66"));
        assert_true(has(e, "PRIORITY=3"));
        assert_true(has(e, "EMQX_UPGRADE_EVENT=step-failed"));
        assert_true(has(e, "EMQX_UPGRADE_ID=0123456789abcdef0123456789abcdef"));
        assert_true(has(e, "EMQX_UPGRADE_FROM=4.3.12"));
        assert_true(has(e, "EMQX_UPGRADE_TO=4.4.0"));
        assert_true(has(e, "EMQX_UPGRADE_STEP=stop"));
        assert_true(has(e, "EMQX_UPGRADE_RESULT=failed"));
        assert_true(has(e, "EMQX_UPGRADE_ERROR=it hangs"));
        assert_true(has(e, "EMQX_UPGRADE_USEC=7"));
        assert_true(has(e, "ERRNO=110"));
        assert_true(has(e, "CODE_FUNC=an_entry_has_its_sentence_and_fields"));
        assert_true(has(e, "DOCUMENTATION=man:emqx-upgrade@.service(8)"));
        assert_true(has(e, "SYSLOG_IDENTIFIER=test-journal-log") || has(e, "SYSLOG_IDENTIFIER=lt-test-journal-log"));
        assert_true(strstr(e, "test-journal-log.c\n"));
        assert_true(names(e, "CODE_LINE"));
}

static void what_is_not_known_is_not_sent(void **state) {
        const char *e;

        journal_event(NULL, EVENT_NODE_STOPPED, NULL, "Stopped");

        e = received(state);
        assert_true(has(e, "MESSAGE=Stopped"));
        assert_true(has(e, "PRIORITY=6"));
        assert_false(names(e, "EMQX_UPGRADE_ID"));
        assert_false(names(e, "EMQX_UPGRADE_STEP"));
        assert_false(names(e, "EMQX_UPGRADE_BYTES_DONE"));
        assert_false(names(e, "EMQX_UPGRADE_USEC"));
        assert_false(names(e, "ERRNO"));
        assert_false(names(e, "OBJECT_PID"));
}

static void progress_begins_at_zero_bytes(void **state) {
        const char *e;

        journal_event(&context, EVENT_STEP_PROGRESS, &(JournalFields){ .step = "stage", .bytes_total = 100 }, "0 %%");

        e = received(state);
        assert_true(has(e, "MESSAGE=0 %"));
        assert_true(has(e, "EMQX_UPGRADE_BYTES_DONE=0"));
        assert_true(has(e, "EMQX_UPGRADE_BYTES_TOTAL=100"));
}

static void a_step_speaks_for_its_conductor(void **state) {
        JournalContext step = context;

        step.conductor_pid = 1;
        journal_event(&step, EVENT_STEP_OUTPUT, NULL, "x");
        assert_true(has(received(state), "OBJECT_PID=1"));

        step.conductor_pid = getpid();
        journal_event(&step, EVENT_STEP_OUTPUT, NULL, "x");
        assert_false(names(received(state), "OBJECT_PID"));
}

static void the_sender_may_choose_the_priority(void **state) {
        journal_event(&context, EVENT_STEP_OUTPUT, &(JournalFields){ .priority = LOG_WARNING }, "x");
        assert_true(has(received(state), "PRIORITY=4"));
}

static void a_message_cannot_forge_a_field(void **state) {
        const char *e;

        journal_event(&context, EVENT_STEP_OUTPUT, &(JournalFields){ .step = "a\nPRIORITY=0" }, "%s",
                        "line\nMESSAGE_ID=x\033[2J");

        e = received(state);
        assert_true(has(e, "MESSAGE=line\\nMESSAGE_ID=x\\x1b[2J"));
        assert_true(has(e, "EMQX_UPGRADE_STEP=a\\nPRIORITY=0"));
        assert_false(has(e, "PRIORITY=0"));
}

static void errno_is_kept_and_may_be_said(void **state) {
        errno = ENOSPC;
        journal_event(&context, EVENT_STEP_FAILED, NULL, "Failed: %m");
        assert_int_equal(errno, ENOSPC);
        assert_true(has(received(state), "MESSAGE=Failed: No space left on device"));
}

static void without_a_journal_the_sentence_goes_to_stderr(void **state) {
        char line[64] = "", rest;
        int saved, fds[2];

        assert_int_equal(rename("/run/systemd/journal/socket", "/run/systemd/journal/gone"), 0);
        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        saved = dup(STDERR_FILENO);
        assert_true(saved >= 0 && dup2(fds[1], STDERR_FILENO) >= 0);
        journal_event(&context, EVENT_NODE_READY, NULL, "Ready in %i s\033", 3);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        assert_int_equal(rename("/run/systemd/journal/gone", "/run/systemd/journal/socket"), 0);

        assert_true(read(fds[0], line, sizeof(line) - 1) > 0);
        assert_string_equal(line, "Ready in 3 s\\x1b\n");
        assert_int_equal(recv(*(int *) *state, &rest, 1, MSG_DONTWAIT), -1);
        close(saved);
        close(fds[0]);
        close(fds[1]);
}

static void assert_escaped(const char *text, const char *expected) {
        _cleanup_free_ char *got = journal_escape(text);

        assert_string_equal(got, expected);
}

static void text_becomes_one_line_of_utf8(void **state) {
        (void) state;

        assert_escaped("", "");
        assert_escaped("Größe 3 µs → \360\237\230\200", "Größe 3 µs → \360\237\230\200");
        assert_escaped("a\tb\r\n", "a\\tb\\x0d\\n");
        assert_escaped("\177", "\\x7f");
        assert_escaped("\302\233", "\\xc2\\x9b");                   /* C1 control sequence introducer */
        assert_escaped("\300\257", "\\xc0\\xaf");                   /* overlong "/" */
        assert_escaped("\355\240\200", "\\xed\\xa0\\x80");          /* surrogate */
        assert_escaped("\364\220\200\200", "\\xf4\\x90\\x80\\x80"); /* above U+10FFFF */
        assert_escaped("cut \342\202", "cut \\xe2\\x82");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_entry_has_its_sentence_and_fields),
                cmocka_unit_test(what_is_not_known_is_not_sent),
                cmocka_unit_test(progress_begins_at_zero_bytes),
                cmocka_unit_test(a_step_speaks_for_its_conductor),
                cmocka_unit_test(the_sender_may_choose_the_priority),
                cmocka_unit_test(a_message_cannot_forge_a_field),
                cmocka_unit_test(errno_is_kept_and_may_be_said),
                cmocka_unit_test(without_a_journal_the_sentence_goes_to_stderr),
                cmocka_unit_test(text_becomes_one_line_of_utf8),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
