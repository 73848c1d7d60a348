/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Probe: ask the node from outside, as its clients do. Each has one time limit over all it does, and blocks for at
 * most that. Does not log. */

#include "base/error.h"
#include "base/time.h"

/* GET http://HOST:PORT/status, no proxy. 1: "emqx is running"; 0: it answered anything else (not_running, 503);
 * negative errno: no answer, -ECONNREFUSED (also while booting), -ETIMEDOUT, -EIO. *ret_body (optional) is what it
 * said, at most 4 KiB, NULL without an answer. host is a literal address. */
int probe_http_status(const char *host, unsigned port, usec_t timeout_usec, char **ret_body, Error *reterr);

/* An MQTT 3.1.1 CONNECT with a clean session and a client id of its own, then DISCONNECT. 0: a CONNACK came,
 * *ret_connack is its code (0 accepted; 5 not authorised is an answer too); negative errno: none came, -ECONNREFUSED,
 * -ETIMEDOUT (also for a peer that accepts and is silent), -ECONNRESET (closed first), -EPROTO (that was no MQTT). */
int probe_mqtt(const char *host, unsigned port, usec_t timeout_usec, int *ret_connack, Error *reterr);
