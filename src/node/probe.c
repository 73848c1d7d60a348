/* SPDX-License-Identifier: Apache-2.0 */

#include "node/probe.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <mosquitto.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#define BODY_BYTES_MAX 4096
#define KEEPALIVE_SECONDS 60
#define PROBE_PAYLOAD "emqx-upgrade"
#define RETAINED_QUIET_USEC (500 * USEC_PER_MSEC) /* then no more are expected */

typedef struct Body {
        char data[BODY_BYTES_MAX + 1];
        size_t size;
} Body;

/* Taking less than n ends the transfer: a peer that never stops talking has said enough. */
static size_t take_body(char *data, size_t size, size_t n, void *userdata) {
        Body *b = userdata;
        size_t take = MIN(size * n, BODY_BYTES_MAX - b->size);

        memcpy(b->data + b->size, data, take);
        b->size += take;
        b->data[b->size] = 0;
        return take;
}

static int errno_from_curl(CURLcode code, CURL *curl) {
        long os_errno = 0;

        switch (code) {
        case CURLE_OPERATION_TIMEDOUT: return -ETIMEDOUT;
        case CURLE_OUT_OF_MEMORY: return -ENOMEM;
        case CURLE_COULDNT_CONNECT:
                (void) curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_errno);
                return os_errno > 0 ? (int) -os_errno : -ECONNREFUSED;
        case CURLE_GOT_NOTHING:
        case CURLE_RECV_ERROR: return -ECONNRESET;
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_WEIRD_SERVER_REPLY: return -EPROTO;
        default: return -EIO;
        }
}

static void curlp(CURL **curl) {
        if (*curl)
                curl_easy_cleanup(*curl);
}

int probe_http_status(const char *host, unsigned port, usec_t timeout_usec, char **ret_body, Error *reterr) {
        static bool initialized = false;
        _cleanup_(curlp) CURL *curl = NULL;
        _cleanup_free_ char *url = NULL, *copy = NULL;
        Body body = { .size = 0 };
        long timeout_msec = (long) MIN(timeout_usec / USEC_PER_MSEC + 1, (usec_t) INT32_MAX), response = 0;
        bool v6;
        CURLcode code;

        assert(host);

        if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        initialized = true;

        v6 = strchr(host, ':');
        if (asprintf(&url, "http://%s%s%s:%u/status", v6 ? "[" : "", host, v6 ? "]" : "", port) < 0)
                return -ENOMEM;
        curl = curl_easy_init();
        if (!curl)
                return -ENOMEM;
        if (curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK ||
                        curl_easy_setopt(curl, CURLOPT_PROXY, "") != CURLE_OK || /* not even $http_proxy */
                        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
                        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_msec) != CURLE_OK ||
                        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, timeout_msec) != CURLE_OK ||
                        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body) != CURLE_OK ||
                        curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body) != CURLE_OK)
                return -ENOMEM;

        code = curl_easy_perform(curl);
        if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && body.size == BODY_BYTES_MAX))
                return error_set(reterr, errno_from_curl(code, curl), NULL, "%s: %s", url, curl_easy_strerror(code));
        if (curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response) != CURLE_OK)
                return -EIO;

        if (ret_body) {
                copy = strdup(body.data);
                if (!copy)
                        return -ENOMEM;
                *ret_body = TAKE_PTR(copy);
        }
        /* Releases before 4.3.22 and 4.4.11 say 200 to everything: the text decides. */
        return response == 200 && strstr(body.data, "emqx is running");
}

static int socket_to(const char *host, unsigned port, struct sockaddr_storage *ret, socklen_t *ret_size) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) ret;
        struct sockaddr_in *v4 = (struct sockaddr_in *) ret;
        int fd;

        *ret = (struct sockaddr_storage){ .ss_family = AF_INET };
        *ret_size = sizeof(*v4);
        v4->sin_port = htons((uint16_t) port);
        if (inet_pton(AF_INET, host, &v4->sin_addr) != 1) {
                *ret = (struct sockaddr_storage){ .ss_family = AF_INET6 };
                *ret_size = sizeof(*v6);
                v6->sin6_port = htons((uint16_t) port);
                if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
                        return -EINVAL;
        }
        fd = socket(ret->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        return fd < 0 ? -errno : fd;
}

int probe_tcp(const char *host, unsigned port, usec_t timeout_usec, Error *reterr) {
        struct pollfd p = { .events = POLLOUT };
        struct sockaddr_storage address;
        _cleanup_close_ int fd = -1;
        socklen_t size;
        int error = 0;

        assert(host);

        fd = socket_to(host, port, &address, &size);
        if (fd < 0)
                return error_set(reterr, fd, NULL, "%s port %u: %m", host, port);
        p.fd = fd;
        if (connect(fd, (struct sockaddr *) &address, size) < 0)
                error = errno;
        if (error == EINPROGRESS) {
                size = sizeof(error);
                if (poll(&p, 1, (int) MIN(timeout_usec / USEC_PER_MSEC + 1, (usec_t) INT32_MAX)) != 1)
                        error = ETIMEDOUT;
                else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                        error = errno;
        }
        return error == 0 ? 0 : error_set(reterr, -error, NULL, "%s port %u: %m", host, port);
}

/* --- MQTT --- */

/* One client, from CONNECT to DISCONNECT. */
typedef struct Session {
        struct mosquitto *m;
        const MqttTarget *target;
        usec_t deadline_usec;
        char client_id[32];
        char topic[64]; /* of its own */

        bool answered; /* a CONNACK came */
        int connack;
        bool suback, granted, puback, came_back;
        unsigned n_retained, retained_max;
        usec_t retained_usec; /* when the last one came, or the SUBACK */
        void (*on_message)(const char *topic, const void *payload, size_t size_bytes, void *userdata);
        void *userdata;
} Session;

static void session_done(Session *s) {
        if (s->m) {
                (void) mosquitto_disconnect(s->m);
                mosquitto_destroy(s->m);
        }
        s->m = NULL;
}

static void on_connect(struct mosquitto *m, void *userdata, int connack) {
        Session *s = userdata;

        (void) m;
        s->answered = true;
        s->connack = connack;
}

static void on_subscribe(struct mosquitto *m, void *userdata, int mid, int n, const int *granted) {
        Session *s = userdata;

        (void) m;
        (void) mid;
        s->suback = true;
        for (int i = 0; i < n; i++)
                s->granted = s->granted || (granted[i] & 0x80) == 0;
        s->retained_usec = now_usec(CLOCK_MONOTONIC);
}

static void on_publish(struct mosquitto *m, void *userdata, int mid) {
        Session *s = userdata;

        (void) m;
        (void) mid;
        s->puback = true;
}

static void on_message(struct mosquitto *m, void *userdata, const struct mosquitto_message *message) {
        Session *s = userdata;

        (void) m;
        if (streq(message->topic, s->topic))
                s->came_back = true;
        if (!message->retain || !s->on_message || s->n_retained >= s->retained_max)
                return;
        s->n_retained++;
        s->retained_usec = now_usec(CLOCK_MONOTONIC);
        s->on_message(message->topic, message->payload, (size_t) MAX(message->payloadlen, 0), s->userdata);
}

static int errno_from_mosquitto(int code) {
        switch (code) {
        case MOSQ_ERR_ERRNO: return errno > 0 ? -errno : -ECONNRESET; /* closed within a packet */
        case MOSQ_ERR_NOMEM: return -ENOMEM;
        case MOSQ_ERR_EAI: return -EHOSTUNREACH;
        case MOSQ_ERR_CONN_REFUSED: return -ECONNREFUSED;
        case MOSQ_ERR_CONN_LOST:
        case MOSQ_ERR_NO_CONN: return -ECONNRESET;
        case MOSQ_ERR_TLS:
        case MOSQ_ERR_PROTOCOL:
        case MOSQ_ERR_MALFORMED_PACKET:
        case MOSQ_ERR_MALFORMED_UTF8:
        case MOSQ_ERR_OVERSIZE_PACKET: return -EPROTO;
        default: return -EIO;
        }
}

/* A key with a passphrase is refused: there is nobody to ask. */
static int no_passphrase(char *buffer, int size, int rwflag, void *userdata) {
        (void) buffer;
        (void) size;
        (void) rwflag;
        (void) userdata;
        return -1;
}

static int set_up_tls(struct mosquitto *m, const MqttTarget *t) {
        const char *any_ca = t->ca_file ? NULL : "/etc/ssl/certs"; /* one of the two has to be set */
        int code;

        code = mosquitto_tls_set(m, t->ca_file, any_ca, t->cert_file, t->key_file, no_passphrase);
        if (code == MOSQ_ERR_SUCCESS && !t->ca_file)
                code = mosquitto_tls_opts_set(m, 0 /* SSL_VERIFY_NONE */, NULL, NULL);
        return code == MOSQ_ERR_SUCCESS ? mosquitto_tls_insecure_set(m, true) : code;
}

typedef bool (*SessionDoneFunc)(const Session *s);

/* Until done, or the deadline, or an error: a code of libmosquitto. */
static int session_loop(Session *s, SessionDoneFunc done, usec_t deadline_usec) {
        int code = MOSQ_ERR_SUCCESS;

        while (code == MOSQ_ERR_SUCCESS && !done(s)) {
                usec_t left = usec_left(MIN(deadline_usec, s->deadline_usec));

                if (left == 0)
                        return MOSQ_ERR_SUCCESS;
                errno = 0;
                code = mosquitto_loop(s->m, (int) MIN(left / USEC_PER_MSEC + 1, (usec_t) INT32_MAX), 1);
        }
        return code;
}

static bool is_answered(const Session *s) {
        return s->answered;
}

static int session_connect(Session *s, const MqttTarget *t, usec_t timeout_usec, Error *reterr) {
        static bool initialized = false;
        uint32_t random;
        int code, r;

        assert(t->host);

        if (!initialized && mosquitto_lib_init() != MOSQ_ERR_SUCCESS)
                return -ENOMEM;
        initialized = true;

        /* At most 23 characters: what every broker must accept (MQTT 3.1.1, 3.1.3.1). */
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        (void) snprintf(s->client_id, sizeof(s->client_id), "emqx-upgrade-%08" PRIx32, random);
        (void) snprintf(s->topic, sizeof(s->topic), "emqx-upgrade/%08" PRIx32, random);
        s->target = t;
        s->deadline_usec = usec_from_now(timeout_usec);
        s->m = mosquitto_new(s->client_id, true, s);
        if (!s->m)
                return -errno;
        mosquitto_connect_callback_set(s->m, on_connect);
        mosquitto_subscribe_callback_set(s->m, on_subscribe);
        mosquitto_publish_callback_set(s->m, on_publish);
        mosquitto_message_callback_set(s->m, on_message);

        code = t->tls ? set_up_tls(s->m, t) : MOSQ_ERR_SUCCESS;
        if (code != MOSQ_ERR_SUCCESS)
                return error_set(reterr, -EPROTO, "Look at MqttCAFile=, MqttCertFile= and MqttKeyFile=.",
                                "Cannot set up TLS with %s: %s", t->ca_file ?: "no CA", mosquitto_strerror(code));
        if (t->username && mosquitto_username_pw_set(s->m, t->username, t->password) != MOSQ_ERR_SUCCESS)
                return error_set(reterr, -EINVAL, NULL, "MqttUsername= and its password cannot be sent");

        /* The asynchronous one does not wait for TCP; with TLS it would wait for ever, having tried before TCP was there
         * (libmosquitto 2.0.11). */
        if (t->tls) {
                r = probe_tcp(t->host, t->port, timeout_usec, reterr);
                if (r < 0)
                        return r;
        }
        errno = 0;
        code = (t->tls ? mosquitto_connect : mosquitto_connect_async)(s->m, t->host, (int) t->port, KEEPALIVE_SECONDS);
        if (code == MOSQ_ERR_SUCCESS)
                code = session_loop(s, is_answered, USEC_INFINITY);
        if (s->answered)
                return 0;
        if (code == MOSQ_ERR_SUCCESS)
                return error_set(reterr, -ETIMEDOUT, NULL, "%s port %u: no CONNACK came in time", t->host, t->port);
        r = errno_from_mosquitto(code);
        return error_set(reterr, r, NULL, "%s port %u: no CONNACK: %m", t->host, t->port);
}

int probe_mqtt(const MqttTarget *target, usec_t timeout_usec, int *ret_connack, Error *reterr) {
        _cleanup_(session_done) Session s = { NULL };
        int r;

        assert(target);
        assert(ret_connack);

        r = session_connect(&s, target, timeout_usec, reterr);
        if (r < 0)
                return r;
        *ret_connack = s.connack;
        return 0;
}

static bool is_subscribed(const Session *s) {
        return s->suback;
}

static bool is_delivered(const Session *s) {
        return s->puback && s->came_back;
}

static MqttReach reach_of(const Session *s) {
        if (s->connack != 0)
                return MQTT_REFUSED;
        if (!s->granted)
                return MQTT_CONNECTED;
        if (!s->puback)
                return MQTT_SUBSCRIBED;
        return s->came_back ? MQTT_DELIVERED : MQTT_PUBLISHED;
}

int probe_mqtt_round_trip(const MqttTarget *target, usec_t timeout_usec, MqttReach *ret, Error *reterr) {
        _cleanup_(session_done) Session s = { NULL };
        int r;

        assert(target);
        assert(ret);

        r = session_connect(&s, target, timeout_usec, reterr);
        if (r < 0)
                return r;
        if (s.connack == 0 && mosquitto_subscribe(s.m, NULL, s.topic, 1) == MOSQ_ERR_SUCCESS)
                (void) session_loop(&s, is_subscribed, USEC_INFINITY);
        if (s.granted &&
                        mosquitto_publish(s.m, NULL, s.topic, sizeof(PROBE_PAYLOAD) - 1, PROBE_PAYLOAD, 1, false) ==
                                        MOSQ_ERR_SUCCESS)
                (void) session_loop(&s, is_delivered, USEC_INFINITY);
        *ret = reach_of(&s);
        return 0;
}

static bool is_enough_or_quiet(const Session *s) {
        return s->n_retained >= s->retained_max || now_usec(CLOCK_MONOTONIC) - s->retained_usec >= RETAINED_QUIET_USEC;
}

int probe_mqtt_retained(const MqttTarget *target, char *const *filters, unsigned max, usec_t timeout_usec,
                void (*on_retained)(const char *topic, const void *payload, size_t size_bytes, void *userdata),
                void *userdata, Error *reterr) {
        _cleanup_(session_done) Session s = { .retained_max = max, .on_message = on_retained, .userdata = userdata };
        int r;

        assert(target);
        assert(on_retained);

        r = session_connect(&s, target, timeout_usec, reterr);
        if (r < 0)
                return r;
        if (s.connack == 0 &&
                        mosquitto_subscribe_multiple(s.m, NULL, (int) strv_length(filters), filters, 1, 0, NULL) ==
                                        MOSQ_ERR_SUCCESS)
                (void) session_loop(&s, is_subscribed, USEC_INFINITY);
        if (!s.granted)
                return error_set(reterr, -EACCES, NULL, "%s port %u lets us subscribe to nothing", target->host,
                                target->port);
        while (!is_enough_or_quiet(&s) && usec_left(s.deadline_usec) > 0)
                if (session_loop(&s, is_enough_or_quiet, s.retained_usec + RETAINED_QUIET_USEC) != MOSQ_ERR_SUCCESS)
                        break;
        return 0;
}

const char *mqtt_reach_text(MqttReach reach) {
        static const char *const texts[_MQTT_REACH_MAX] = {
                [MQTT_NOTHING] = "no client gets a CONNACK",
                [MQTT_REFUSED] = "a client gets its CONNACK, and is refused by it",
                [MQTT_CONNECTED] = "a client connects, and may not subscribe",
                [MQTT_SUBSCRIBED] = "a client connects and subscribes, but its message is not acknowledged",
                [MQTT_PUBLISHED] = "a client's message is acknowledged, but does not come back to it",
                [MQTT_DELIVERED] = "a client's message at QoS 1 is acknowledged and comes back to it",
        };

        return texts[reach];
}
