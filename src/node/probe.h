/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Probe: ask the node from outside, as its clients do. Each has one time limit over all it does, and blocks for at
 * most that. Does not log. */

#include "base/error.h"
#include "base/strv.h"
#include "base/time.h"

/* GET http://HOST:PORT/status, no proxy. 1: "emqx is running"; 0: it answered anything else (not_running, 503);
 * negative errno: no answer, -ECONNREFUSED (also while booting), -ETIMEDOUT, -EIO. *ret_body (optional) is what it
 * said, at most 4 KiB, NULL without an answer. host is a literal address. */
int probe_http_status(const char *host, unsigned port, usec_t timeout_usec, char **ret_body, Error *reterr);

/* Connects over TCP and says nothing. 0, or -ECONNREFUSED, -ETIMEDOUT and others. host is a literal address. */
int probe_tcp(const char *host, unsigned port, usec_t timeout_usec, Error *reterr);

/* Where and as whom a client connects. Strings are borrowed. */
typedef struct MqttTarget {
        const char *host; /* a literal address */
        unsigned port;
        bool tls;                         /* the certificate's name is not looked at: it is the node's public one */
        const char *ca_file;              /* NULL: nor is who signed it */
        const char *cert_file, *key_file; /* who we are; both, or NULL: we do not say */
        const char *username, *password;  /* NULL: none */
} MqttTarget;

/* An MQTT 3.1.1 CONNECT with a clean session and a client id of its own, then DISCONNECT. 0: a CONNACK came,
 * *ret_connack is its code (0 accepted; 5 not authorised is an answer too); negative errno: none came, -ECONNREFUSED,
 * -ETIMEDOUT (also for a peer that accepts and is silent), -ECONNRESET (closed first), -EPROTO (that was no MQTT, or no
 * TLS that we accept). */
int probe_mqtt(const MqttTarget *target, usec_t timeout_usec, int *ret_connack, Error *reterr);

typedef enum MqttReach {
        MQTT_NOTHING,
        MQTT_REFUSED,    /* a CONNACK that says no */
        MQTT_CONNECTED,  /* and may not subscribe */
        MQTT_SUBSCRIBED, /* and gets no PUBACK */
        MQTT_PUBLISHED,  /* and does not get it back */
        MQTT_DELIVERED,
        _MQTT_REACH_MAX,
} MqttReach;

/* Connects, subscribes to a topic of its own below "emqx-upgrade/", publishes there at QoS 1 and waits for PUBACK and
 * the message. 0: *ret says how far that went; negative errno as probe_mqtt(). */
int probe_mqtt_round_trip(const MqttTarget *target, usec_t timeout_usec, MqttReach *ret, Error *reterr);

/* Subscribes to filters, a strv, and hands over retained messages until max of them have come, or no more do. 0: that was
 * done; -EACCES: the node lets us subscribe to none of it; or as probe_mqtt(). */
int probe_mqtt_retained(const MqttTarget *target, char *const *filters, unsigned max, usec_t timeout_usec,
                void (*on_message)(const char *topic, const void *payload, size_t size_bytes, void *userdata),
                void *userdata, Error *reterr);

const char *mqtt_reach_text(MqttReach reach); /* "a message came back" */
