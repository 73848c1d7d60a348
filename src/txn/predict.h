/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Predict: for how long the node will be down, and what that is made of. Each part is the best of what is known: what
 * this upgrade has measured, what the last one took on this host, what systemd remembers of the node, and else an
 * assumption, which says that it is one. */

#include "bus/manager.h"
#include "txn/txn.h"

typedef enum PredictionPart {
        PREDICT_STOP,
        PREDICT_DATA,     /* what `backup` and `restore` have left to do */
        PREDICT_PACKAGES, /* `remove` and `install` */
        PREDICT_START,
        _PREDICT_MAX,
} PredictionPart;

typedef struct Prediction {
        struct {
                usec_t usec;
                const char *why; /* for people, static */
        } parts[_PREDICT_MAX];
        usec_t total_usec;
} Prediction;

/* For a plan that the checks have filled in. dir_fd is STATE_DIR, for the history; m may be NULL, and systemd is not
 * asked then. What cannot be found out is assumed: this does not fail. */
void predict(Manager *m, int dir_fd, const Plan *p, Prediction *ret);

const char *prediction_part_name(PredictionPart part); /* "stop", "data", "packages", "start" */
