/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/job.h"

#include "bus/call.h"
#include "bus/unit.h"

struct Job {
        Manager *manager;
        Job *next;
        char *unit;
        char *path;
        bool stop;
        bool doubted;       /* its JobRemoved may have been lost: ask whether it is still there */
        const char *result; /* NULL: has not ended */
};

const char *job_unit(const Job *job) {
        return job->unit;
}

bool job_is_stop(const Job *job) {
        return job->stop;
}

Manager *job_manager(const Job *job) {
        return job->manager;
}

const char *job_result_word(const char *result) {
        static const char *const words[] = { "done", "canceled", "timeout", "failed", "dependency", "invalid",
                "skipped", "assert", "unsupported", "collected", "once" }; /* org.freedesktop.systemd1(5) */

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (streq(result, words[i]))
                        return words[i];
        return "unknown";
}

int job_adopt(Manager *m, const char *unit, const char *path, bool stop, Job **ret) {
        _cleanup_(job_freep) Job *job = NULL;

        job = calloc(1, sizeof(Job));
        if (!job)
                return -ENOMEM;

        job->manager = m;
        job->stop = stop;
        job->next = *manager_jobs(m);
        *manager_jobs(m) = job;

        job->unit = strdup(unit);
        job->path = strdup(path);
        if (!job->unit || !job->path)
                return -ENOMEM;

        *ret = TAKE_PTR(job);
        return 0;
}

Job *job_free(Job *job) {
        if (!job)
                return NULL;

        for (Job **p = manager_jobs(job->manager); *p; p = &(*p)->next)
                if (*p == job) {
                        *p = job->next;
                        break;
                }
        free(job->unit);
        free(job->path);
        return mfree(job);
}

void job_removed(Job *jobs, const char *path, const char *result) {
        for (Job *job = jobs; job; job = job->next)
                if (streq(job->path, path) && !job->result)
                        job->result = job_result_word(result);
}

void job_doubt(Job *jobs) {
        for (Job *job = jobs; job; job = job->next)
                job->doubted = !job->result;
}

int job_queue(Manager *m, JobVerb verb, const char *unit, const char *mode, Job **ret, Error *reterr) {
        /* clang-format off */
        static const struct {
                const char *word, *member;
        } verbs[] = {
                [JOB_START]   = { "start",   "StartUnit"   },
                [JOB_STOP]    = { "stop",    "StopUnit"    },
                [JOB_RESTART] = { "restart", "RestartUnit" },
        };
        /* clang-format on */
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ char *what = NULL;
        const char *path;
        int r;

        assert((size_t) verb < ELEMENTSOF(verbs));
        assert(ret);

        if (asprintf(&what, "%s %s", verbs[verb].word, unit) < 0)
                return error_set(reterr, -ENOMEM, NULL, "Out of memory");

        r = bus_call(m, what, verbs[verb].member, &reply, reterr, "ss", unit, mode ?: "replace");
        if (r < 0)
                return r;

        r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = job_adopt(m, unit, path, verb == JOB_STOP, ret);
        return r < 0 ? bus_fail(m, reterr, what, NULL, r) : 0;
}

static int get_job_type(Manager *m, const char *path, char **ret, Error *reterr) {
        return bus_get_string(m, "read a job", path, "org.freedesktop.systemd1.Job", "JobType", ret, reterr);
}

int job_find(Manager *m, const char *unit, Job **ret, Error *reterr) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        _cleanup_(job_freep) Job *job = NULL;
        _cleanup_free_ char *type = NULL;
        int r;

        r = unit_state_get(m, unit, &state, reterr);
        if (r < 0)
                return r;
        if (state.job_id == 0)
                return 0;

        r = job_adopt(m, unit, state.job_path, false, &job);
        if (r < 0)
                return error_set(reterr, r, NULL, "Out of memory");

        r = get_job_type(m, job->path, &type, &error);
        if (r == -ENOENT) /* ended between the two questions */
                return 0;
        if (r < 0)
                return error_set(reterr, r, error.advice, "%s", error_text(&error, r));

        job->stop = streq(type, "stop");
        *ret = TAKE_PTR(job);
        return 1;
}

/* What became of a job whose JobRemoved nobody can send us any more: its unit tells. */
static int judge_by_unit(Job *job) {
        _cleanup_unit_state_ UnitState state = UNIT_STATE_NULL;
        bool down;
        int r;

        r = unit_state_get(job->manager, job->unit, &state, NULL);
        if (r < 0)
                return r;

        down = streq(state.active_state, "inactive") || streq(state.active_state, "failed");
        if (job->stop == down)
                job->result = "done";
        else
                job->result = streq(state.active_state, "failed") ? "failed" : "canceled";
        return 0;
}

/* Signals that PID 1 sent before it answered are in our queue by then: let them in before giving up on them. */
static int job_look(Job *job) {
        _cleanup_free_ char *type = NULL;
        int r;

        job->doubted = false;

        r = get_job_type(job->manager, job->path, &type, NULL);
        if (r != -ENOENT)
                return MIN(r, 0);

        while (!job->result && (r = sd_event_run(manager_event(job->manager), 0)) > 0)
                ;
        if (r < 0 && r != -ENOENT)
                return r;
        return job->result ? 0 : judge_by_unit(job);
}

static int job_done(void *userdata) {
        Job *job = userdata;
        int r;

        if (!job->result && job->doubted) {
                r = job_look(job);
                if (r < 0)
                        return r;
        }
        return !!job->result;
}

bool job_ended(const Job *job, const char **ret_result) {
        if (job->result && ret_result)
                *ret_result = job->result;
        return job->result;
}

int job_wait(Job *job, usec_t deadline_usec, const char **ret_result, Error *reterr) {
        const char *verb = job->stop ? "stop" : "start";
        int r;

        r = manager_wait(job->manager, job_done, job, deadline_usec);
        if (r == -ETIMEDOUT)
                return error_set(reterr, r, NULL, "The job to %s %s did not end in time", verb, job->unit);
        if (r == -EINTR)
                return error_set(reterr, r, NULL, "Interrupted while waiting to %s %s", verb, job->unit);
        if (r < 0)
                return error_set(reterr, r, NULL, "Failed to wait for the job to %s %s: %m", verb, job->unit);

        if (ret_result)
                *ret_result = job->result;
        if (!streq(job->result, "done"))
                return error_set(reterr, -ECANCELED, NULL, "The job to %s %s ended with result \"%s\"", verb,
                                job->unit, job->result);
        return 0;
}

int job_cancel(Job *job, Error *reterr) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        const char *id = strrchr(job->path, '/'); /* /org/freedesktop/systemd1/job/4711 */
        int r;

        if (job->result)
                return 0;

        r = bus_call(job->manager, "cancel a job", "CancelJob", NULL, &error, "u",
                        (uint32_t) strtoul(id ? id + 1 : "0", NULL, 10));
        if (r < 0 && r != -ENOENT)
                return error_set(reterr, r, error.advice, "%s", error_text(&error, r));
        return 0;
}

int job_run(Manager *m, JobVerb verb, const char *unit, const char *mode, usec_t deadline_usec, Error *reterr) {
        _cleanup_(job_freep) Job *job = NULL;
        int r;

        r = job_queue(m, verb, unit, mode, &job, reterr);
        if (r < 0)
                return r;
        assert(job);
        return job_wait(job, deadline_usec, NULL, reterr);
}
