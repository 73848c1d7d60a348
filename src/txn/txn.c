/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/txn.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "archive/walk.h"
#include "base/fileio.h"
#include "base/strv.h"
#include "base/version.h"

#define TXN_NAME "transaction"
#define TXN_BYTES_MAX (1024 * 1024)
#define STEPS_MAX 64

static const char *const state_names[_STEP_STATE_MAX] = {
        [STEP_TODO] = "todo",
        [STEP_BEGUN] = "begun",
        [STEP_DONE] = "done",
        [STEP_UNDO_BEGUN] = "undo-begun",
        [STEP_UNDONE] = "undone",
        [STEP_FAILED] = "failed",
};

static const char *const direction_names[_TXN_DIRECTION_MAX] = {
        [TXN_FORWARD] = "forward",
        [TXN_BACK] = "back",
        [TXN_STUCK] = "stuck",
};

static const char *const result_names[_TXN_RESULT_MAX] = {
        [TXN_INTERRUPTED] = "interrupted",
        [TXN_DONE] = "done",
        [TXN_REFUSED] = "refused",
        [TXN_ROLLED_BACK] = "rolled-back",
};

const char *step_state_name(StepState s) {
        return state_names[s];
}

const char *txn_direction_name(TxnDirection d) {
        return direction_names[d];
}

const char *txn_result_name(TxnResult r) {
        return result_names[r];
}

static int name_index(const char *const *names, size_t n, const char *name) {
        for (size_t i = 0; name && i < n; i++)
                if (streq(names[i], name))
                        return (int) i;
        return -EBADMSG;
}

Txn *txn_free(Txn *t) {
        if (!t)
                return NULL;
        (void) plan_free(t->plan);
        free(t->unit);
        free(t->cause_step);
        free(t->cause);
        free(t->advice);
        free(t->back_cause_step);
        free(t->back_cause);
        for (size_t i = 0; i < t->n_steps; i++) {
                free(t->steps[i].name);
                free(t->steps[i].why);
        }
        free(t->steps);
        return mfree(t);
}

/* --- JSON --- */

static int step_to_json(const TxnStep *s, json_object *list) {
        json_object *o = json_object_new_object();
        int r;

        r = json_append(list, o);
        if (r >= 0)
                r = json_add_text(o, "name", s->name);
        if (r >= 0)
                r = json_add_text(o, "state", state_names[s->state]);
        if (r >= 0)
                r = json_add_number(o, "attempts", s->attempts);
        if (r >= 0)
                r = json_add_number(o, "begun_realtime_usec", s->begun_realtime_usec);
        if (r >= 0)
                r = json_add_number(o, "took_usec", s->took_usec);
        if (r >= 0 && s->undo_begun_realtime_usec > 0)
                r = json_add_number(o, "undo_begun_realtime_usec", s->undo_begun_realtime_usec);
        if (r >= 0 && s->undo_begun_realtime_usec > 0)
                r = json_add_number(o, "undo_took_usec", s->undo_took_usec);
        if (r >= 0 && s->bytes > 0)
                r = json_add_number(o, "bytes", s->bytes);
        if (r >= 0)
                r = json_add_text(o, "why", s->why);
        return r;
}

static int fill_json(const Txn *t, json_object *o) {
        json_object *plan = NULL, *steps;
        int r;

        const struct {
                const char *key, *value;
        } texts[] = {
                { "unit", t->unit },
                { "direction", direction_names[t->direction] },
                { "result", result_names[t->result] },
                { "cause_step", t->cause_step },
                { "cause", t->cause },
                { "advice", t->advice },
                { "back_cause_step", t->back_cause_step },
                { "back_cause", t->back_cause },
        };

        r = json_add_number(o, "format", TXN_FORMAT);
        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = json_add_text(o, texts[i].key, texts[i].value);
        if (r >= 0)
                r = json_add_number(o, "started_realtime_usec", t->started_realtime_usec);
        if (r >= 0)
                r = json_add_number(o, "ended_realtime_usec", t->ended_realtime_usec);
        if (r >= 0)
                r = plan_to_json(t->plan, &plan);
        if (r >= 0)
                r = json_add(o, "plan", plan);
        if (r < 0)
                return r;

        steps = json_object_new_array();
        r = json_add(o, "steps", steps);
        for (size_t i = 0; i < t->n_steps && r >= 0; i++)
                r = step_to_json(&t->steps[i], steps);
        return r;
}

int txn_to_json(const Txn *t, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = fill_json(t, o);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int get_name(json_object *o, const char *key, const char *const *names, size_t n) {
        return name_index(names, n, json_peek_text(o, key));
}

/* 0 where it is missing. */
static int get_optional_number(json_object *o, const char *key, uint64_t *ret) {
        return json_object_object_get_ex(o, key, NULL) ? json_get_number(o, key, ret) : 0;
}

static bool take_step(json_object *o, TxnStep *s) {
        uint64_t attempts;
        int state;

        if (!json_object_is_type(o, json_type_object))
                return false;
        state = get_name(o, "state", state_names, _STEP_STATE_MAX);
        if (state < 0 || json_get_text(o, "name", &s->name) || !s->name || json_get_number(o, "attempts", &attempts) ||
                        json_get_number(o, "begun_realtime_usec", &s->begun_realtime_usec) ||
                        json_get_number(o, "took_usec", &s->took_usec) ||
                        get_optional_number(o, "undo_begun_realtime_usec", &s->undo_begun_realtime_usec) ||
                        get_optional_number(o, "undo_took_usec", &s->undo_took_usec) ||
                        get_optional_number(o, "bytes", &s->bytes) || json_get_text(o, "why", &s->why))
                return false;
        s->state = (StepState) state;
        s->attempts = (unsigned) attempts;
        return true;
}

int txn_from_json(json_object *o, Txn **ret) {
        _cleanup_(txn_freep) Txn *t = calloc(1, sizeof(Txn));
        json_object *plan, *steps;
        uint64_t format;
        int direction, result, r;

        if (!t)
                return -ENOMEM;
        if (!json_object_is_type(o, json_type_object) || json_get_number(o, "format", &format) || format != TXN_FORMAT)
                return -EBADMSG;

        direction = get_name(o, "direction", direction_names, _TXN_DIRECTION_MAX);
        result = get_name(o, "result", result_names, _TXN_RESULT_MAX);
        if (direction < 0 || result < 0 || json_get_text(o, "unit", &t->unit) || !t->unit ||
                        json_get_text(o, "cause_step", &t->cause_step) || json_get_text(o, "cause", &t->cause) ||
                        json_get_text(o, "advice", &t->advice) ||
                        json_get_text(o, "back_cause_step", &t->back_cause_step) ||
                        json_get_text(o, "back_cause", &t->back_cause) ||
                        json_get_number(o, "started_realtime_usec", &t->started_realtime_usec) ||
                        json_get_number(o, "ended_realtime_usec", &t->ended_realtime_usec) ||
                        !json_object_object_get_ex(o, "plan", &plan) ||
                        !json_object_object_get_ex(o, "steps", &steps) ||
                        !json_object_is_type(steps, json_type_array) || json_object_array_length(steps) > STEPS_MAX)
                return -EBADMSG;
        t->direction = (TxnDirection) direction;
        t->result = (TxnResult) result;

        r = plan_from_json(plan, &t->plan);
        if (r < 0)
                return r;

        t->steps = calloc(json_object_array_length(steps) + 1, sizeof(TxnStep));
        if (!t->steps)
                return -ENOMEM;
        for (; t->n_steps < json_object_array_length(steps); t->n_steps++)
                if (!take_step(json_object_array_get_idx(steps, t->n_steps), &t->steps[t->n_steps])) {
                        t->n_steps++; /* its name may be allocated */
                        return -EBADMSG;
                }

        *ret = TAKE_PTR(t);
        return 0;
}

/* --- files --- */

static int write_json(const Txn *t, int dir_fd, const char *name) {
        _cleanup_json_ json_object *o = NULL;
        const char *text;
        size_t size;
        int r;

        r = txn_to_json(t, &o);
        if (r < 0)
                return r;
        text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
        return text ? replace_file_at(dir_fd, name, text, size, 0600) : -ENOMEM;
}

static int read_json(int dir_fd, const char *name, Txn **ret, Error *reterr) {
        static const char advice[] =
                        "Nothing was done. Compare the node with its backup in /var/lib/emqx-upgrade/backups, "
                        "then move the file away.";
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        size_t size;
        int r;

        r = read_file_at(dir_fd, name, TXN_BYTES_MAX, &text, &size);
        if (r == -ENOENT)
                return r;
        if (r < 0)
                return error_set(reterr, r == -EFBIG ? -EBADMSG : r, advice, "Cannot read the record %s: %m", name);

        r = json_parse(text, size, &o);
        if (r >= 0)
                r = txn_from_json(o, ret);
        if (r < 0)
                return error_set(reterr, r, advice, "The record %s is damaged, or was written by another program",
                                name);
        (*ret)->dir_fd = dir_fd;
        return 0;
}

/* The first record of a transaction. One that may be there, and may not outlast a power cut, is none: who asked is told
 * that nothing was begun, and nobody goes on with it. */
static int save_first(Txn *t) {
        int r;

        if (faccessat(t->dir_fd, TXN_NAME, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                return -EEXIST;
        r = txn_save(t);
        if (r < 0)
                (void) remove_file_at(t->dir_fd, TXN_NAME);
        return r;
}

int txn_create(int dir_fd, Plan *plan, const char *unit, char *const *names, Txn **ret) {
        _cleanup_(txn_freep) Txn *t = calloc(1, sizeof(Txn));
        int r;

        assert(plan);
        assert(unit);
        assert(ret);

        if (!t) {
                (void) plan_free(plan);
                return -ENOMEM;
        }
        t->dir_fd = dir_fd;
        t->plan = plan;
        t->started_realtime_usec = now_usec(CLOCK_REALTIME);
        t->unit = strdup(unit);
        t->steps = calloc(strv_length(names) + 1, sizeof(TxnStep));
        if (!t->unit || !t->steps)
                return -ENOMEM;
        for (; names[t->n_steps]; t->n_steps++) {
                t->steps[t->n_steps].name = strdup(names[t->n_steps]);
                if (!t->steps[t->n_steps].name)
                        return -ENOMEM;
        }

        r = save_first(t);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

static int finish_closing(Txn *t);

int txn_load(int dir_fd, Txn **ret, Error *reterr) {
        _cleanup_(txn_freep) Txn *t = NULL;
        int r;

        assert(ret);

        r = read_json(dir_fd, TXN_NAME, &t, reterr);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;

        if (t->result != TXN_INTERRUPTED) {
                r = finish_closing(t);
                return r < 0 ? error_set(reterr, r, NULL, "Cannot finish closing the transaction: %m") : 0;
        }
        *ret = TAKE_PTR(t);
        return 1;
}

bool txn_may_be_of(int dir_fd, const char *unit) {
        _cleanup_(txn_freep) Txn *t = NULL;
        int r;

        assert(unit);

        r = read_json(dir_fd, TXN_NAME, &t, NULL);
        return r < 0 ? r != -ENOENT : streq(t->unit, unit);
}

static bool is_any(const Txn *t) {
        (void) t;
        return true;
}

static bool is_made(const Txn *t) {
        return t->result != TXN_REFUSED;
}

static bool is_done(const Txn *t) {
        return t->result == TXN_DONE;
}

static bool is_rolled_back(const Txn *t) {
        Version to;

        return t->result == TXN_ROLLED_BACK && version_parse(t->plan->to, &to) >= 0;
}

static int order_by_start(const Txn *a, const Txn *b) {
        return a->started_realtime_usec < b->started_realtime_usec ? -1 : 1;
}

/* Of records that is_rolled_back() says yes to. */
static int order_by_target(const Txn *a, const Txn *b) {
        Version x, y;

        (void) version_parse(a->plan->to, &x);
        (void) version_parse(b->plan->to, &y);
        return version_compare(&x, &y);
}

/* Of the records that are wanted, the one that order puts last. -ENOENT: there is none. */
static int load_last(int dir_fd, bool (*is_wanted)(const Txn *), int (*order)(const Txn *, const Txn *), Txn **ret) {
        _cleanup_(txn_freep) Txn *last = NULL;
        _cleanup_(closedirp) DIR *dir = NULL;
        struct dirent *de;
        int r;

        assert(ret);

        r = opendir_child(dir_fd, "history", &dir);
        if (r < 0)
                return r;
        while ((errno = 0, de = readdir(dir))) {
                _cleanup_(txn_freep) Txn *t = NULL;

                if (de->d_name[0] == '.' || !endswith(de->d_name, ".json") ||
                                read_json(dirfd(dir), de->d_name, &t, NULL) < 0 || !is_wanted(t) ||
                                (last && order(t, last) < 0))
                        continue;
                (void) txn_free(last);
                last = TAKE_PTR(t);
        }
        if (errno != 0)
                return -errno;
        if (!last)
                return -ENOENT;
        last->dir_fd = dir_fd;
        *ret = TAKE_PTR(last);
        return 0;
}

int txn_other_is_open(const Txn *t, Error *reterr) {
        return error_set(reterr, -EBUSY, NULL,
                        "Another upgrade is not over: %s is open, to be gone on with by: systemctl start %s",
                        t->plan->id, t->unit);
}

int txn_load_history(int dir_fd, const char *id, Txn **ret, Error *reterr) {
        _cleanup_close_ int history_fd = -1;
        _cleanup_free_ char *name = NULL;
        int r;

        assert(id);
        assert(ret);

        if (streq(id, "last"))
                return load_last(dir_fd, is_any, order_by_start, ret);
        if (!plan_is_id(id))
                return -ENOENT;
        if (asprintf(&name, "%s.json", id) < 0)
                return -ENOMEM;
        history_fd = openat(dir_fd, "history", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (history_fd < 0)
                return -errno;
        r = read_json(history_fd, name, ret, reterr);
        if (r >= 0)
                (*ret)->dir_fd = dir_fd;
        return r;
}

int txn_load_last_made(int dir_fd, Txn **ret) {
        return load_last(dir_fd, is_made, order_by_start, ret);
}

int txn_load_last_done(int dir_fd, Txn **ret) {
        return load_last(dir_fd, is_done, order_by_start, ret);
}

int txn_load_highest_rolled_back(int dir_fd, Txn **ret) {
        return load_last(dir_fd, is_rolled_back, order_by_target, ret);
}

int txn_save(Txn *t) {
        return write_json(t, t->dir_fd, TXN_NAME);
}

/* --- changes --- */

static usec_t since_usec(usec_t begun_realtime_usec) {
        usec_t now = now_usec(CLOCK_REALTIME);

        return now > begun_realtime_usec ? now - begun_realtime_usec : 0;
}

int txn_mark(Txn *t, size_t i, StepState state) {
        TxnStep *s = &t->steps[i];

        assert(i < t->n_steps);

        if (state == STEP_BEGUN) {
                s->attempts++;
                s->begun_realtime_usec = now_usec(CLOCK_REALTIME);
                s->took_usec = s->bytes = 0;
        } else if (state == STEP_UNDO_BEGUN) {
                s->attempts++;
                s->undo_begun_realtime_usec = now_usec(CLOCK_REALTIME);
                s->undo_took_usec = 0;
        } else if (s->state == STEP_BEGUN)
                s->took_usec = since_usec(s->begun_realtime_usec);
        else if (s->state == STEP_UNDO_BEGUN)
                s->undo_took_usec = since_usec(s->undo_begun_realtime_usec);
        s->state = state;
        return txn_save(t);
}

int txn_give_up(Txn *t, size_t i, const char *why) {
        assert(i < t->n_steps);

        return free_and_strdup(&t->steps[i].why, why) < 0 ? -ENOMEM : txn_mark(t, i, STEP_FAILED);
}

int txn_set_cause(Txn *t, const char *step, const char *cause, const char *advice) {
        if (t->cause)
                return 0;
        if (free_and_strdup(&t->cause_step, step) < 0 || free_and_strdup(&t->advice, advice) < 0)
                return -ENOMEM;
        return free_and_strdup(&t->cause, cause);
}

static int turn_back(Txn *t, const char *step, const char *cause, const char *advice) {
        int r;

        r = txn_set_cause(t, step, cause, advice);
        if (r < 0)
                return r;
        t->direction = TXN_BACK;
        t->back_cause = mfree(t->back_cause);
        t->back_cause_step = mfree(t->back_cause_step);
        for (size_t i = 0; i < t->n_steps; i++) {
                t->steps[i].attempts = 0;
                if (t->steps[i].state == STEP_BEGUN &&
                                t->steps[i].took_usec == 0) /* that is how long it took to fail */
                        t->steps[i].took_usec = since_usec(t->steps[i].begun_realtime_usec);
        }
        t->plan->ready_since_realtime_usec = 0;
        return 0;
}

int txn_turn_back(Txn *t, const char *step, const char *cause, const char *advice) {
        int r = turn_back(t, step, cause, advice);

        return r < 0 ? r : txn_save(t);
}

int txn_stick(Txn *t, const char *step, const char *cause) {
        if (free_and_strdup(&t->back_cause_step, step) < 0 || free_and_strdup(&t->back_cause, cause) < 0)
                return -ENOMEM;
        t->direction = TXN_STUCK;
        return txn_save(t);
}

/* The history first: what is in it may be read by anyone, and a transaction with a result set is only a leftover, which a
 * power cut may bring back. */
static int finish_closing(Txn *t) {
        _cleanup_close_ int history_fd = -1;
        char name[PLAN_ID_SIZE + sizeof(".json")];
        int r;

        if (mkdirat(t->dir_fd, "history", 0700) < 0 && errno != EEXIST)
                return -errno;
        history_fd = openat(t->dir_fd, "history", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (history_fd < 0)
                return -errno;
        (void) snprintf(name, sizeof(name), "%s.json", t->plan->id);
        r = write_json(t, history_fd, name);
        if (r < 0)
                return r;
        return unlinkat(t->dir_fd, TXN_NAME, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int txn_close(Txn *t, TxnResult result) {
        int r;

        assert(result != TXN_INTERRUPTED);

        t->result = result;
        t->ended_realtime_usec = now_usec(CLOCK_REALTIME);
        r = txn_save(t);
        return r < 0 ? r : finish_closing(t);
}

int txn_forget(Txn *t) {
        return remove_file_at(t->dir_fd, TXN_NAME);
}

int txn_reopen(Txn *t, const char *unit, const char *cause) {
        int r;

        if (t->result != TXN_DONE)
                return -EINVAL;
        if (free_and_strdup(&t->unit, unit) < 0)
                return -ENOMEM;
        t->result = TXN_INTERRUPTED;
        t->ended_realtime_usec = 0;
        t->plan->down_since_realtime_usec = 0;
        r = turn_back(t, NULL, cause, NULL);
        return r < 0 ? r : save_first(t);
}

/* --- questions --- */

size_t txn_find(const Txn *t, const char *name) {
        for (size_t i = 0; i < t->n_steps; i++)
                if (streq(t->steps[i].name, name))
                        return i;
        return SIZE_MAX;
}

static StepState state_of(const Txn *t, const char *name) {
        size_t i = txn_find(t, name);

        return i == SIZE_MAX ? STEP_TODO : t->steps[i].state;
}

bool txn_needs_hold(const Txn *t) {
        StepState stop = state_of(t, "stop"), start = state_of(t, "start");

        return stop != STEP_TODO && stop != STEP_UNDONE && start != STEP_DONE;
}

bool txn_touched_node(const Txn *t) {
        return state_of(t, "stop") != STEP_TODO;
}
