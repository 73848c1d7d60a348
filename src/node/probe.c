/* SPDX-License-Identifier: Apache-2.0 */

#include "node/probe.h"

#include <curl/curl.h>
#include <mosquitto.h>
#include <sys/random.h>

#define BODY_BYTES_MAX 4096
#define KEEPALIVE_SECONDS 60

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

typedef struct Answer {
        bool came;
        int connack;
} Answer;

static void on_connect(struct mosquitto *m, void *userdata, int connack) {
        Answer *a = userdata;

        (void) m;
        a->came = true;
        a->connack = connack;
}

static void mosquittop(struct mosquitto **m) {
        if (*m)
                mosquitto_destroy(*m);
}

static int errno_from_mosquitto(int code) {
        switch (code) {
        case MOSQ_ERR_ERRNO: return errno > 0 ? -errno : -ECONNRESET; /* closed within a packet */
        case MOSQ_ERR_NOMEM: return -ENOMEM;
        case MOSQ_ERR_EAI: return -EHOSTUNREACH;
        case MOSQ_ERR_CONN_REFUSED: return -ECONNREFUSED;
        case MOSQ_ERR_CONN_LOST:
        case MOSQ_ERR_NO_CONN: return -ECONNRESET;
        case MOSQ_ERR_PROTOCOL:
        case MOSQ_ERR_MALFORMED_PACKET:
        case MOSQ_ERR_MALFORMED_UTF8:
        case MOSQ_ERR_OVERSIZE_PACKET: return -EPROTO;
        default: return -EIO;
        }
}

int probe_mqtt(const char *host, unsigned port, usec_t timeout_usec, int *ret_connack, Error *reterr) {
        static bool initialized = false;
        _cleanup_(mosquittop) struct mosquitto *m = NULL;
        usec_t deadline_usec = usec_from_now(timeout_usec);
        char client_id[32];
        uint32_t random;
        Answer answer = { .came = false };
        int code, r;

        assert(host);
        assert(ret_connack);

        if (!initialized && mosquitto_lib_init() != MOSQ_ERR_SUCCESS)
                return -ENOMEM;
        initialized = true;

        /* At most 23 characters: what every broker must accept (MQTT 3.1.1, 3.1.3.1). */
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        (void) snprintf(client_id, sizeof(client_id), "emqx-upgrade-%08" PRIx32, random);
        m = mosquitto_new(client_id, true, &answer);
        if (!m)
                return -errno;
        mosquitto_connect_callback_set(m, on_connect);

        errno = 0;
        code = mosquitto_connect_async(m, host, (int) port, KEEPALIVE_SECONDS); /* does not wait for TCP */
        while (code == MOSQ_ERR_SUCCESS && !answer.came) {
                usec_t left = usec_left(deadline_usec);

                if (left == 0)
                        return error_set(reterr, -ETIMEDOUT, NULL, "%s port %u: no CONNACK came in time", host, port);
                errno = 0;
                code = mosquitto_loop(m, (int) MIN(left / USEC_PER_MSEC + 1, (usec_t) INT32_MAX), 1);
        }
        if (!answer.came) {
                r = errno_from_mosquitto(code);
                return error_set(reterr, r, NULL, "%s port %u: no CONNACK: %m", host, port);
        }

        (void) mosquitto_disconnect(m);
        *ret_connack = answer.connack;
        return 0;
}
