/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/record.h"

#include <dirent.h>
#include <fcntl.h>

#include "bus/unit.h"
#include "cli/terminal.h"
#include "txn/engine.h"
#include "txn/status.h"

Record *record_free(Record *r) {
        if (!r)
                return NULL;
        (void) txn_free(r->txn);
        (void) json_free(r->json);
        return mfree(r);
}

Record **records_free(Record **records, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) record_free(records[i]);
        return mfree(records);
}

static uint64_t number(json_object *o, const char *key) {
        uint64_t value = 0;

        (void) json_get_number(o, key, &value);
        return value;
}

int record_from_json(json_object *json, Record **ret) {
        _cleanup_(record_freep) Record *r = calloc(1, sizeof(Record));
        json_object *progress;
        int k;

        if (!r) {
                (void) json_free(json);
                return -ENOMEM;
        }
        r->json = json;
        k = txn_from_json(json, &r->txn);
        if (k < 0)
                return k;
        r->step = json_peek_text(json, "step");
        r->text = json_peek_text(json, "status");
        r->percent = (unsigned) MIN(number(json, "percent"), (uint64_t) 100);
        r->predicted_downtime_usec = r->txn->plan->predicted_downtime_usec;
        if (json_object_object_get_ex(json, "progress", &progress))
                r->progress = (StepProgress){ number(progress, "bytes_done"), number(progress, "bytes_total") };
        *ret = TAKE_PTR(r);
        return 0;
}

static int record_from_txn(const Txn *t, Record **ret) {
        json_object *json = NULL;
        int r;

        r = txn_to_json(t, &json);
        return r < 0 ? r : record_from_json(json, ret);
}

/* Returns 0, -ENOENT, or what is wrong. */
static int load_running(Record **ret, Error *reterr) {
        json_object *json = NULL;
        int r;

        r = status_read(&json, reterr);
        if (r < 0)
                return r;
        r = record_from_json(json, ret);
        return r < 0 ? error_set(reterr, r, NULL, "%s was written by another program", STATUS_PATH) : 0;
}

static int open_state(Error *reterr) {
        int fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0 || errno == ENOENT)
                return fd < 0 ? -ENOENT : fd;
        return error_set(reterr, -errno, errno == EACCES ? "Run it as root." : NULL, "Cannot open %s: %m", STATE_DIR);
}

int record_load(const char *id, Record **ret, Error *reterr) {
        bool last = !id || streq(id, "last");
        _cleanup_(record_freep) Record *running = NULL;
        _cleanup_(txn_freep) Txn *t = NULL;
        _cleanup_close_ int state_fd = -1;
        int r;

        r = load_running(&running, reterr);
        if (r < 0 && r != -ENOENT)
                return r;
        if (running && (last || streq(running->txn->plan->id, id))) {
                *ret = TAKE_PTR(running);
                return 0;
        }

        state_fd = open_state(reterr);
        if (state_fd < 0)
                return state_fd;
        r = txn_load(state_fd, &t, reterr);
        if (r > 0 && !last && !streq(t->plan->id, id)) {
                t = txn_free(t);
                r = 0;
        }
        if (r == 0)
                r = txn_load_history(state_fd, id ?: "last", &t, reterr);
        return r < 0 ? r : record_from_txn(t, ret);
}

static int latest_first(const void *a, const void *b) {
        const Txn *x = (*(Record *const *) a)->txn, *y = (*(Record *const *) b)->txn;

        return (x->started_realtime_usec < y->started_realtime_usec) -
                        (x->started_realtime_usec > y->started_realtime_usec);
}

int record_load_history(Record ***ret, size_t *ret_n, Error *reterr) {
        _cleanup_close_ int state_fd = open_state(reterr);
        Record **records = NULL;
        struct dirent *de;
        size_t n = 0;
        DIR *dir;
        int fd, r = 0;

        *ret = NULL;
        *ret_n = 0;
        if (state_fd < 0)
                return state_fd == -ENOENT ? 0 : state_fd;
        fd = openat(state_fd, "history", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot open %s/history: %m", STATE_DIR);
        dir = fdopendir(fd);
        if (!dir) {
                (void) safe_close(fd);
                return -errno;
        }
        while (r >= 0 && (de = readdir(dir))) {
                _cleanup_(txn_freep) Txn *t = NULL;
                char id[PLAN_ID_SIZE];
                Record **larger;

                if (strlen(de->d_name) != PLAN_ID_SIZE - 1 + strlen(".json") || !endswith(de->d_name, ".json"))
                        continue;
                (void) snprintf(id, sizeof(id), "%.*s", PLAN_ID_SIZE - 1, de->d_name);
                larger = reallocarray(records, n + 1, sizeof(Record *));
                if (!larger) {
                        r = -ENOMEM;
                        break;
                }
                records = larger;
                r = txn_load_history(state_fd, id, &t, reterr);
                if (r >= 0)
                        r = record_from_txn(t, &records[n]);
                if (r >= 0)
                        n++;
        }
        (void) closedir(dir);
        if (r < 0) {
                (void) records_free(records, n);
                return r;
        }
        if (n > 0)
                qsort(records, n, sizeof(Record *), latest_first);
        *ret = records;
        *ret_n = n;
        return 0;
}

/* Whether unit runs, or systemd is about to start it: -EIO where it does not say. */
static int is_conducted(const char *unit) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_(manager_freep) Manager *manager = NULL;
        sd_event *event = NULL;
        int r;

        r = sd_event_new(&event);
        if (r >= 0)
                r = manager_new(event, &manager, NULL);
        if (r >= 0)
                r = unit_state_get(manager, unit, &state, NULL);
        manager = manager_free(manager);
        (void) sd_event_unref(event);
        if (r < 0 || !state.active_state)
                return -EIO;
        return !streq(state.active_state, "inactive") && !streq(state.active_state, "failed");
}

RecordState record_state(const Record *r) {
        if (r->txn->direction == TXN_STUCK)
                return RECORD_STUCK;
        switch (r->txn->result) {
        case TXN_DONE: return RECORD_DONE;
        case TXN_REFUSED: return RECORD_REFUSED;
        case TXN_ROLLED_BACK: return RECORD_ROLLED_BACK;
        default: return is_conducted(r->txn->unit) == 0 ? RECORD_INTERRUPTED : RECORD_RUNS;
        }
}

usec_t step_took_usec(const TxnStep *s) {
        bool back = s->state == STEP_UNDO_BEGUN || s->state == STEP_UNDONE;
        usec_t begun = back ? s->undo_begun_realtime_usec : s->begun_realtime_usec,
               took = back ? s->undo_took_usec : s->took_usec, now = now_usec(CLOCK_REALTIME);

        if (s->state == STEP_BEGUN || s->state == STEP_UNDO_BEGUN)
                return now > begun ? now - begun : 0;
        return took;
}

int record_exit_status(RecordState state) {
        static const ExitStatus statuses[] = {
                [RECORD_RUNS] = EXIT_INTERRUPTED,
                [RECORD_INTERRUPTED] = EXIT_INTERRUPTED,
                [RECORD_STUCK] = EXIT_STUCK,
                [RECORD_DONE] = EXIT_DONE,
                [RECORD_REFUSED] = EXIT_REFUSED,
                [RECORD_ROLLED_BACK] = EXIT_ROLLED_BACK,
        };

        return statuses[state];
}

char *record_headline(const Record *r, RecordState state) {
        static const char *const words[] = {
                [RECORD_RUNS] = "is running",
                [RECORD_INTERRUPTED] = "was interrupted, and is not over",
                [RECORD_STUCK] = "failed, and so did the way back: a person is needed",
                [RECORD_DONE] = "is done",
                [RECORD_REFUSED] = "was refused; nothing was touched",
                [RECORD_ROLLED_BACK] = "was rolled back",
        };
        const Plan *p = r->txn->plan;
        const char *word = state == RECORD_RUNS && r->txn->direction == TXN_BACK ? "is going back" : words[state];
        char *line;

        if (asprintf(&line, "Upgrade %s%s%s%s %s", p->from ? "from EMQX " : "to EMQX ", p->from ?: "",
                            p->from ? " to " : "", p->to, word) < 0)
                return NULL;
        return line;
}

char *record_what_now(const Record *r, RecordState state) {
        const Txn *t = r->txn;
        const char *to = t->plan->to, *id = t->plan->id, *advice = t->advice;
        char *text;
        int n = -1;

        switch (state) {
        case RECORD_RUNS:
                n = asprintf(&text,
                                "Nothing: it ends by itself. Watch it: emqx-upgrade watch. End it early, in order: systemctl stop %s",
                                t->unit);
                break;
        case RECORD_INTERRUPTED: n = asprintf(&text, "Let it go on: systemctl start %s", t->unit); break;
        case RECORD_STUCK:
                n = asprintf(&text,
                                "Mend what stopped the way back, then: systemctl start emqx-upgrade-rollback@%s.service. Nothing is lost: configuration and data are in " STATE_DIR
                                "/backups/%s",
                                id, id);
                break;
        case RECORD_DONE:
                n = asprintf(&text, "Nothing. To return to %s after all: emqx-upgrade rollback %s",
                                t->plan->from ?: "the old version", id);
                break;
        case RECORD_REFUSED:
                /* Advice that ends in a command has no full stop; a semicolon does not harm it where it is copied. */
                n = asprintf(&text, "%s%s look again: emqx-upgrade plan %s", advice ?: "Mend the cause",
                                advice && endswith(advice, ".") ? " Then" : "; then", to);
                break;
        case RECORD_ROLLED_BACK:
                n = asprintf(&text, "The node runs %s as before. %s%s try again: systemctl start emqx-upgrade@%s",
                                t->plan->from ?: "the old version", advice ?: "",
                                !advice                                 ? "To"
                                                : endswith(advice, ".") ? " To"
                                                                        : "; to",
                                to);
                break;
        }
        return n < 0 ? NULL : text;
}
