/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/predict.h"

#include "bus/unit.h"
#include "steps/backup.h"

/* A broker with a few thousand clients. */
#define ASSUMED_STOP_USEC (5 * USEC_PER_SEC)
#define ASSUMED_START_USEC (10 * USEC_PER_SEC)
#define ASSUMED_DATA_USEC (2 * USEC_PER_SEC)

/* dpkg on an SSD: the test package of a real one's size, 118 MiB in 4,400 files. */
#define PACKAGES_USEC (2 * USEC_PER_SEC)
#define PACKAGE_BYTES_PER_SEC (UINT64_C(50) << 20)

static const char assumed[] = "assumed";

static const struct {
        const char *name, *steps[2];
} parts[_PREDICT_MAX] = {
        [PREDICT_STOP] = { "stop", { "stop" } },
        [PREDICT_DATA] = { "data", { "backup", "restore" } },
        [PREDICT_PACKAGES] = { "packages", { "remove", "install" } },
        [PREDICT_START] = { "start", { "start" } },
};

const char *prediction_part_name(PredictionPart part) {
        return parts[part].name;
}

static void know(Prediction *n, PredictionPart part, usec_t usec, const char *why) {
        n->parts[part].usec = usec;
        n->parts[part].why = why;
}

static void assume(const Plan *p, Prediction *n) {
        know(n, PREDICT_STOP, ASSUMED_STOP_USEC, assumed);
        know(n, PREDICT_START, ASSUMED_START_USEC, assumed);
        know(n, PREDICT_DATA, ASSUMED_DATA_USEC, "assumed, until the upgrade has staged the data");
        if (p->beside_dir)
                know(n, PREDICT_PACKAGES, 0, "two directories are exchanged");
        else
                know(n, PREDICT_PACKAGES, PACKAGES_USEC + p->program_bytes * USEC_PER_SEC / PACKAGE_BYTES_PER_SEC,
                                "by the size of the unpacked package");
}

/* Its last stop, since boot, and the start that made it what it is. */
static void ask_systemd(Manager *m, const Plan *p, Prediction *n) {
        _cleanup_unit_state_ UnitState s = UNIT_STATE_NULL;

        if (!m || !p->unit || unit_state_get(m, p->unit, &s, NULL) < 0)
                return;
        if (s.active_exit_usec > 0 && s.inactive_enter_usec > s.active_exit_usec)
                know(n, PREDICT_STOP, s.inactive_enter_usec - s.active_exit_usec, "as its last stop, says systemd");
        if (s.inactive_exit_usec > 0 && s.active_enter_usec > s.inactive_exit_usec)
                know(n, PREDICT_START, s.active_enter_usec - s.inactive_exit_usec, "as its last start, says systemd");
}

static void ask_history(int dir_fd, const Plan *p, Prediction *n) {
        _cleanup_(txn_freep) Txn *t = NULL;

        if (txn_load_last_done(dir_fd, &t) < 0 || !streq_ptr(t->plan->kind, p->kind))
                return;
        for (size_t i = 0; i < _PREDICT_MAX; i++) {
                usec_t usec = 0;

                for (size_t k = 0; k < ELEMENTSOF(parts[i].steps) && parts[i].steps[k]; k++) {
                        size_t step = txn_find(t, parts[i].steps[k]);

                        usec += step == SIZE_MAX ? 0 : t->steps[step].took_usec;
                }
                if (usec > 0)
                        know(n, (PredictionPart) i, usec, "as in the last upgrade");
        }
}

void predict(Manager *m, int dir_fd, const Plan *p, Prediction *ret) {
        Prediction n = { 0 };
        usec_t pass_usec;

        assume(p, &n);
        ask_systemd(m, p, &n);
        ask_history(dir_fd, p, &n);
        if (backup_last_pass(p, &pass_usec) > 0)
                know(&n, PREDICT_DATA, 2 * pass_usec, "two passes over the data, as the last one took");
        for (size_t i = 0; i < _PREDICT_MAX; i++)
                n.total_usec += n.parts[i].usec;
        *ret = n;
}
