/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/status.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fileio.h"

#define STATUS_BYTES_MAX (1024 * 1024)

unsigned status_percent(const Txn *t) {
        size_t begun = 0, over = 0;

        for (size_t i = 0; i < t->n_steps; i++) {
                StepState s = t->steps[i].state;

                begun += s != STEP_TODO;
                over += t->direction == TXN_FORWARD ? s == STEP_DONE || s == STEP_FAILED : s == STEP_UNDONE;
        }
        if (t->direction == TXN_FORWARD)
                begun = t->n_steps;
        return begun > 0 ? (unsigned) (over * 100 / begun) : 0;
}

/* What is not known is left out, all of it where nothing is counted. */
static int add_progress(json_object *o, const Progress *p) {
        json_object *progress;
        int r;

        if (!p || p->bytes.bytes_total == 0)
                return 0;
        progress = json_object_new_object();
        r = json_add(o, "progress", progress);
        if (r >= 0)
                r = json_add_number(progress, "bytes_done", p->bytes.bytes_done);
        if (r >= 0)
                r = json_add_number(progress, "bytes_total", p->bytes.bytes_total);
        if (r >= 0 && p->bytes_per_sec > 0)
                r = json_add_number(progress, "bytes_per_sec", p->bytes_per_sec);
        if (r >= 0 && p->left_usec > 0)
                r = json_add_number(progress, "left_usec", p->left_usec);
        return r;
}

void status_write(const Txn *t, const char *step, const char *text, const Progress *progress) {
        _cleanup_json_ json_object *o = NULL;
        json_object *plan = NULL;
        const char *content;
        size_t size;

        if (txn_to_json(t, &o) < 0 || json_add_text(o, "step", step) < 0 || json_add_text(o, "status", text) < 0 ||
                        json_add_number(o, "percent", status_percent(t)) < 0 ||
                        json_add_number(o, "downtime_usec", plan_downtime_usec(t->plan)) < 0 ||
                        add_progress(o, progress) < 0 ||
                        (t->plan->predicted_downtime_usec > 0 &&
                                        json_add_number(o, "predicted_downtime_usec",
                                                        t->plan->predicted_downtime_usec) < 0))
                return;
        if (json_object_object_get_ex(o, "plan", &plan)) /* its file may be for root alone, and this one is for all */
                json_object_object_del(plan, "settings");
        content = json_object_to_json_string_length(
                        o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
        if (!content || replace_volatile_file_at(AT_FDCWD, STATUS_PATH, content, size, 0644) >= 0)
                return;
        /* What is over must not be told as going on; without it the record is read. */
        if (t->result != TXN_INTERRUPTED || t->direction == TXN_STUCK)
                (void) unlink(STATUS_PATH);
}

void status_forget(int state_dir_fd) {
        _cleanup_(txn_freep) Txn *last = NULL;

        if (txn_load_history(state_dir_fd, "last", &last, NULL) >= 0)
                status_write(last, NULL, NULL, NULL);
        else
                (void) unlink(STATUS_PATH);
}

int status_read(json_object **ret, Error *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_file_at(AT_FDCWD, STATUS_PATH, STATUS_BYTES_MAX, &text, &size);
        if (r == -ENOENT)
                return r;
        if (r >= 0)
                r = json_parse(text, size, ret);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot read %s: %m", STATUS_PATH) : 0;
}
