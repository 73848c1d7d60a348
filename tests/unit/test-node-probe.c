/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/fileio.h"
#include "node/probe.h"

#define ENOUGH (10 * USEC_PER_SEC)
#define SHORT (300 * USEC_PER_MSEC)

/* A server of one client: says its piece once it was spoken to, and then closes or waits for the client to. */
typedef struct Server {
        pid_t pid;
        unsigned port;
} Server;

static int listen_on_loopback(int backlog, unsigned *ret_port) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, size), 0);
        assert_int_equal(listen(fd, backlog), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &size), 0);
        *ret_port = ntohs(a.sin_port);
        return fd;
}

static void serve(int listen_fd, const void *reply, size_t size, bool then_close) {
        char request[4096];
        int fd = accept(listen_fd, NULL, NULL);

        if (fd < 0 || read(fd, request, sizeof(request)) <= 0)
                _exit(1);
        (void) signal(SIGPIPE, SIG_IGN);
        (void) write_all(fd, reply, size);
        if (!then_close)
                while (read(fd, request, sizeof(request)) > 0)
                        ;
        close(fd);
        _exit(0);
}

static Server start_server(const void *reply, size_t size, bool then_close) {
        Server s = { 0 };
        int fd = listen_on_loopback(1, &s.port);

        s.pid = fork();
        assert_true(s.pid >= 0);
        if (s.pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                serve(fd, reply, size, then_close);
        }
        close(fd);
        return s;
}

static void stop_server(Server s) {
        (void) kill(s.pid, SIGKILL);
        assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
}

/* A port of the loopback where nobody listens. */
static unsigned unused_port(void) {
        unsigned port;

        close(listen_on_loopback(1, &port));
        return port;
}

static int http(const char *reply, bool then_close, char **ret_body) {
        Server s = start_server(reply, strlen(reply), then_close);
        int r = probe_http_status("127.0.0.1", s.port, ENOUGH, ret_body, NULL);

        stop_server(s);
        return r;
}

static void only_a_running_node_is_running(void **state) {
        static const struct {
                const char *reply;
                int expected;
        } rows[] = {
                { "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 46\r\n\r\n"
                  "Node emqx@127.0.0.1 is started\nemqx is running",
                                1 },
                { "HTTP/1.0 200 OK\r\n\r\nNode emqx@127.0.0.1 is started\nemqx is running", 1 },
                { "HTTP/1.0 200 OK\r\n\r\nNode emqx@127.0.0.1 is starting\nemqx is not_running", 0 },
                { "HTTP/1.0 503 Service Unavailable\r\n\r\nNode emqx@127.0.0.1 is starting\nemqx is not_running", 0 },
                { "HTTP/1.0 503 Service Unavailable\r\n\r\nemqx is running", 0 },
                { "HTTP/1.0 404 Not Found\r\n\r\n", 0 },
                { "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", 0 },
                { "HTTP/1.0 200 OK\r\n\r\n", 0 },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *body = NULL;

                assert_int_equal(http(rows[i].reply, true, &body), rows[i].expected);
                assert_string_equal(body, strstr(rows[i].reply, "\r\n\r\n") + 4);
        }
}

static void what_is_no_http_is_no_answer(void **state) {
        char *body = NULL;

        (void) state;
        assert_int_equal(http("SSH-2.0-OpenSSH_9.2\r\n", true, &body), -EPROTO);
        assert_int_equal(http("", true, &body), -ECONNRESET);
        assert_null(body);
}

static void an_endless_body_is_cut(void **state) {
        _cleanup_free_ char *reply = malloc(1024 * 1024), *body = NULL;
        static const char head[] = "HTTP/1.0 200 OK\r\n\r\nemqx is running";

        (void) state;
        assert_non_null(reply);
        memset(reply, 'x', 1024 * 1024 - 1);
        reply[1024 * 1024 - 1] = 0;
        memcpy(reply, head, strlen(head));
        assert_int_equal(http(reply, false, &body), 1);
        assert_int_equal(strlen(body), 4096);
}

static void http_waits_no_longer_than_told(void **state) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        usec_t began_usec = now_usec(CLOCK_MONOTONIC), took_usec;
        Server s = start_server("HTTP/1.1 200 OK\r\n", 17, false);

        (void) state;
        assert_int_equal(probe_http_status("127.0.0.1", s.port, SHORT, NULL, &e), -ETIMEDOUT);
        took_usec = now_usec(CLOCK_MONOTONIC) - began_usec;
        stop_server(s);
        assert_in_range(took_usec, SHORT, 10 * SHORT);
        assert_non_null(strstr(e.message, "http://127.0.0.1:"));
}

static void http_refused_is_said(void **state) {
        (void) state;
        assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
        assert_int_equal(probe_http_status("127.0.0.1", unused_port(), ENOUGH, NULL, NULL), -ECONNREFUSED);
        assert_int_equal(probe_http_status("::1", unused_port(), ENOUGH, NULL, NULL), -ECONNREFUSED);
        assert_int_equal(http("HTTP/1.0 200 OK\r\n\r\nemqx is running", true, NULL), 1);
        assert_int_equal(unsetenv("http_proxy"), 0);
}

static int mqtt(const void *reply, size_t size, bool then_close, usec_t timeout_usec, int *ret_connack) {
        Server s = start_server(reply, size, then_close);
        int r = probe_mqtt(&(MqttTarget){ .host = "127.0.0.1", .port = s.port }, timeout_usec, ret_connack, NULL);

        stop_server(s);
        return r;
}

static void every_connack_is_an_answer(void **state) {
        (void) state;
        for (int code = 0; code <= 5; code++) {
                const unsigned char connack[] = { 0x20, 2, 0, (unsigned char) code };
                int got = -1;

                assert_int_equal(mqtt(connack, sizeof(connack), false, ENOUGH, &got), 0);
                assert_int_equal(got, code);
                got = -1;
                assert_int_equal(mqtt(connack, sizeof(connack), true, ENOUGH, &got), 0);
                assert_int_equal(got, code);
        }
}

static void what_is_no_connack_is_no_answer(void **state) {
        static const unsigned char overlong[] = { 0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
        static const unsigned char half[] = { 0x20, 2, 0 };
        static const char garbage[] = "\xf0\x02\x00\x00 no MQTT at all";
        int got = -1;

        (void) state;
        assert_int_equal(mqtt(garbage, sizeof(garbage), false, ENOUGH, &got), -EPROTO);
        assert_int_equal(mqtt(overlong, sizeof(overlong), false, ENOUGH, &got), -EPROTO);
        assert_int_equal(mqtt(half, sizeof(half), true, ENOUGH, &got), -ECONNRESET);
        assert_int_equal(mqtt("", 0, true, ENOUGH, &got), -ECONNRESET);
        assert_int_equal(got, -1);
}

static void mqtt_waits_no_longer_than_told(void **state) {
        static const unsigned char half[] = { 0x20, 2, 0 };
        usec_t began_usec = now_usec(CLOCK_MONOTONIC);
        int got = -1;

        (void) state;
        assert_int_equal(mqtt("", 0, false, SHORT, &got), -ETIMEDOUT);
        assert_int_equal(mqtt(half, sizeof(half), false, SHORT, &got), -ETIMEDOUT);
        assert_in_range(now_usec(CLOCK_MONOTONIC) - began_usec, 2 * SHORT, 10 * SHORT);
        assert_int_equal(got, -1);
}

/* A full queue of connections: TCP itself gets no answer, for minutes if nobody looks at the clock. */
static void a_silent_network_is_waited_for_no_longer(void **state) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        usec_t began_usec;
        int listen_fd, fillers[8], got = -1;
        unsigned port;

        (void) state;
        listen_fd = listen_on_loopback(0, &port);
        a.sin_port = htons((uint16_t) port);
        for (size_t i = 0; i < ELEMENTSOF(fillers); i++) {
                fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                assert_true(fillers[i] >= 0);
                (void) connect(fillers[i], (struct sockaddr *) &a, sizeof(a));
        }

        began_usec = now_usec(CLOCK_MONOTONIC);
        assert_int_equal(
                        probe_mqtt(&(MqttTarget){ .host = "127.0.0.1", .port = port }, SHORT, &got, NULL), -ETIMEDOUT);
        assert_int_equal(probe_http_status("127.0.0.1", port, SHORT, NULL, NULL), -ETIMEDOUT);
        assert_in_range(now_usec(CLOCK_MONOTONIC) - began_usec, 2 * SHORT, 10 * SHORT);

        for (size_t i = 0; i < ELEMENTSOF(fillers); i++)
                close(fillers[i]);
        close(listen_fd);
}

static void mqtt_refused_is_said(void **state) {
        _cleanup_(error_done) Error e = ERROR_NULL;
        int got = -1;

        (void) state;
        assert_int_equal(probe_mqtt(&(MqttTarget){ .host = "127.0.0.1", .port = unused_port() }, ENOUGH, &got, &e),
                        -ECONNREFUSED);
        assert_non_null(strstr(e.message, "127.0.0.1 port "));
        assert_int_equal(probe_mqtt(&(MqttTarget){ .host = "::1", .port = unused_port() }, ENOUGH, &got, NULL),
                        -ECONNREFUSED);
        assert_int_equal(got, -1);
}

/* A real one: mosquitto, in a directory that setup has prepared. */
typedef struct Broker {
        pid_t pid;
        char *directory;
        unsigned port;
} Broker;

static Broker start_broker(const char *setup, const char *configuration) {
        _cleanup_free_ char *path = NULL, *command = NULL, *text = NULL;
        Broker b = { .directory = make_tmpdir(), .port = unused_port() };

        assert_true(asprintf(&command, "cd %s && exec >/dev/null 2>&1 && %s", b.directory, setup) > 0);
        assert_int_equal(system(command), 0);
        assert_true(asprintf(&path, "%s/mosquitto.conf", b.directory) > 0);
        assert_true(asprintf(&text, "listener %u 127.0.0.1\nuser root\n%s", b.port, configuration) > 0);
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, path, text, strlen(text), 0644), 0);
        assert_int_equal(access("/usr/sbin/mosquitto", X_OK), 0);

        b.pid = fork();
        assert_true(b.pid >= 0);
        if (b.pid == 0) {
                int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) dup2(null_fd, STDOUT_FILENO);
                (void) dup2(null_fd, STDERR_FILENO);
                if (chdir(b.directory) >= 0)
                        execl("/usr/sbin/mosquitto", "mosquitto", "-c", path, (char *) NULL);
                _exit(127);
        }
        return b;
}

static void stop_broker(Broker *b) {
        stop_server((Server){ .pid = b->pid });
        remove_tmpdir(b->directory);
}

/* Until it listens. */
static int round_trip(const Broker *b, MqttTarget target, MqttReach *ret) {
        usec_t deadline_usec = usec_from_now(30 * USEC_PER_SEC);
        int r;

        target.host = "127.0.0.1";
        target.port = b->port;
        do
                r = probe_mqtt_round_trip(&target, ENOUGH, ret, NULL);
        while (r == -ECONNREFUSED && usec_left(deadline_usec) > 0 && usleep(50000) == 0);
        return r;
}

static void a_message_comes_back(void **state) {
        Broker b = start_broker("true", "allow_anonymous true\n");
        MqttReach reach;

        (void) state;
        assert_int_equal(round_trip(&b, (MqttTarget){ NULL }, &reach), 0);
        assert_int_equal(reach, MQTT_DELIVERED);
        stop_broker(&b);
}

static void take_topic(const char *topic, const void *payload, size_t size_bytes, void *userdata) {
        assert_int_equal(size_bytes, 1);
        assert_int_equal(*(const char *) payload, topic[strlen(topic) - 1]);
        assert_int_equal(strv_extend(userdata, topic), 0);
}

static void retained_messages_are_handed_over(void **state) {
        Broker b = start_broker("true", "allow_anonymous true\n");
        MqttTarget target = { .host = "127.0.0.1", .port = b.port };
        char command[256];
        char **topics = NULL;
        MqttReach reach;

        (void) state;
        assert_int_equal(round_trip(&b, (MqttTarget){ NULL }, &reach), 0);
        (void) snprintf(command, sizeof(command),
                        "for t in a b c; do mosquitto_pub -p %u -q 1 -r -t x/$t -m $t || exit; done", b.port);
        assert_int_equal(system(command), 0);
        assert_int_equal(probe_mqtt_retained(&target, STRV_MAKE("#"), 2, ENOUGH, take_topic, &topics, NULL), 0);
        assert_int_equal(strv_length(topics), 2);
        topics = strv_free(topics);
        assert_int_equal(probe_mqtt_retained(&target, STRV_MAKE("x/c", "x/d"), 2, ENOUGH, take_topic, &topics, NULL),
                        0);
        assert_int_equal(strv_length(topics), 1);
        assert_string_equal(topics[0], "x/c");
        strv_free(topics);
        stop_broker(&b);
}

static void credentials_decide_how_far_one_comes(void **state) {
        Broker b = start_broker("mosquitto_passwd -b -c passwords me secret && "
                                "printf 'user me\\ntopic emqx-upgrade/#\\n' >acl",
                        "allow_anonymous false\npassword_file passwords\nacl_file acl\n");
        MqttReach reach;

        (void) state;
        assert_int_equal(round_trip(&b, (MqttTarget){ NULL }, &reach), 0);
        assert_int_equal(reach, MQTT_REFUSED);
        assert_int_equal(round_trip(&b, (MqttTarget){ .username = "me", .password = "wrong" }, &reach), 0);
        assert_int_equal(reach, MQTT_REFUSED);
        assert_int_equal(round_trip(&b, (MqttTarget){ .username = "me", .password = "secret" }, &reach), 0);
        assert_int_equal(reach, MQTT_DELIVERED);
        stop_broker(&b);
}

static void tls_is_spoken_and_its_signer_looked_at(void **state) {
        Broker b = start_broker(
                        "for n in ours other; do openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$n.example "
                        "-keyout $n.key -out $n.pem || exit; done",
                        "allow_anonymous true\ncertfile ours.pem\nkeyfile ours.key\n");
        _cleanup_free_ char *ours = NULL, *other = NULL;
        MqttReach reach = MQTT_NOTHING;

        (void) state;
        assert_true(asprintf(&ours, "%s/ours.pem", b.directory) > 0);
        assert_true(asprintf(&other, "%s/other.pem", b.directory) > 0);
        assert_int_equal(round_trip(&b, (MqttTarget){ .tls = true }, &reach), 0);
        assert_int_equal(reach, MQTT_DELIVERED);
        assert_int_equal(round_trip(&b, (MqttTarget){ .tls = true, .ca_file = ours }, &reach), 0);
        assert_int_equal(reach, MQTT_DELIVERED);
        reach = MQTT_NOTHING;
        assert_true(round_trip(&b, (MqttTarget){ .tls = true, .ca_file = other }, &reach) < 0);
        assert_true(round_trip(&b, (MqttTarget){ .tls = false }, &reach) < 0);
        assert_int_equal(reach, MQTT_NOTHING);
        stop_broker(&b);
}

static void a_certificate_says_who_one_is(void **state) {
        Broker b = start_broker(
                        "for n in broker client; do openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$n.example "
                        "-keyout $n.key -out $n.pem || exit; done; "
                        "openssl rsa -aes128 -passout pass:secret -in client.key -out locked.key",
                        "allow_anonymous true\ncertfile broker.pem\nkeyfile broker.key\ncafile client.pem\n"
                        "require_certificate true\n");
        _cleanup_free_ char *broker = NULL, *cert = NULL, *key = NULL, *locked = NULL;
        MqttReach reach = MQTT_NOTHING;
        MqttTarget target = { .tls = true };

        (void) state;
        assert_true(asprintf(&broker, "%s/broker.pem", b.directory) > 0);
        assert_true(asprintf(&cert, "%s/client.pem", b.directory) > 0);
        assert_true(asprintf(&key, "%s/client.key", b.directory) > 0);
        assert_true(asprintf(&locked, "%s/locked.key", b.directory) > 0);
        assert_true(round_trip(&b, target, &reach) < 0);
        target.cert_file = cert;
        target.key_file = locked;
        assert_true(round_trip(&b, target, &reach) < 0);
        assert_int_equal(reach, MQTT_NOTHING);
        target.key_file = key;
        assert_int_equal(round_trip(&b, target, &reach), 0);
        assert_int_equal(reach, MQTT_DELIVERED);
        reach = MQTT_NOTHING;
        target.ca_file = broker;
        assert_int_equal(round_trip(&b, target, &reach), 0);
        assert_int_equal(reach, MQTT_DELIVERED);
        stop_broker(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_a_running_node_is_running),
                cmocka_unit_test(what_is_no_http_is_no_answer),
                cmocka_unit_test(an_endless_body_is_cut),
                cmocka_unit_test(http_waits_no_longer_than_told),
                cmocka_unit_test(http_refused_is_said),
                cmocka_unit_test(every_connack_is_an_answer),
                cmocka_unit_test(what_is_no_connack_is_no_answer),
                cmocka_unit_test(mqtt_waits_no_longer_than_told),
                cmocka_unit_test(a_silent_network_is_waited_for_no_longer),
                cmocka_unit_test(mqtt_refused_is_said),
                cmocka_unit_test(a_message_comes_back),
                cmocka_unit_test(retained_messages_are_handed_over),
                cmocka_unit_test(credentials_decide_how_far_one_comes),
                cmocka_unit_test(tls_is_spoken_and_its_signer_looked_at),
                cmocka_unit_test(a_certificate_says_who_one_is),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
