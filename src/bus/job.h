/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Job: a start, stop or restart that PID 1 has queued, and its result.
 *
 *     job_queue() or job_find() ──▶ QUEUED ──JobRemoved──▶ ENDED, with a result
 *
 * A job is judged by the result in its JobRemoved signal. "done" is not "started": a start that a Condition…= stopped
 * ends as "done" too, so read unit_state_get() after a start. Dropping a Job does not cancel it in PID 1. */

#include "bus/manager.h"

typedef enum JobVerb {
        JOB_START,
        JOB_STOP,
        JOB_RESTART,
} JobVerb;

typedef struct Job Job;

/* Queues verb for unit. mode is systemctl --job-mode=: "replace" for the broker, "fail" where another job in the way
 * is to be an error. NULL: "replace". */
int job_queue(Manager *m, JobVerb verb, const char *unit, const char *mode, Job **ret, Error *reterr);

/* The job that unit has already, whoever queued it. 1: found, 0: it has none (*ret untouched), negative errno. */
int job_find(Manager *m, const char *unit, Job **ret, Error *reterr);

Job *job_free(Job *job);
DEFINE_CLEANUP(Job *, job_free)

/* Runs the event loop until the job has ended. Returns
 *      0         it ended as "done"
 *     -ECANCELED any other end; *reterr says which, and so does *ret_result
 *     -ETIMEDOUT deadline_usec came first. The job goes on: wait again, or job_cancel()
 *     -EINTR     the interrupt condition of the manager became true; the job goes on
 *     -ECONNRESET as in manager.h; the job goes on
 * *ret_result (optional) is set whenever the job has ended, to a word of systemd ("done", "canceled", "timeout",
 * "failed", "dependency", "skipped", "invalid", "assert", "unsupported", "collected", "once") or to "unknown" for a
 * word newer than that. It is static. */
int job_wait(Job *job, usec_t deadline_usec, const char **ret_result, Error *reterr);

/* Whether it has ended, without waiting; what job_wait() would return then is in *ret_result. */
bool job_ended(const Job *job, const char **ret_result);

/* Asks PID 1 to drop the job. A job that is gone already is no error. */
int job_cancel(Job *job, Error *reterr);

const char *job_unit(const Job *job);
bool job_is_stop(const Job *job);
Manager *job_manager(const Job *job);

/* job_queue() and job_wait(): the common case. */
int job_run(Manager *m, JobVerb verb, const char *unit, const char *mode, usec_t deadline_usec, Error *reterr);

/* The static word for a result that systemd sent; "unknown" for one that systemd 257 does not have. */
const char *job_result_word(const char *result);

/* For bus/ only. job_adopt() takes note of a job whose path a method call has just returned: as signals are only
 * dispatched from the event loop, its end cannot have been passed over. The others act on all jobs of a manager:
 * job_removed() gives the one with path its result, job_doubt() has each looked up anew after signals may have been
 * lost. */
int job_adopt(Manager *m, const char *unit, const char *path, bool stop, Job **ret);
void job_removed(Job *jobs, const char *path, const char *result);
void job_doubt(Job *jobs);
