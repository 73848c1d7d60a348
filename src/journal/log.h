/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Log: the one place that sends journal entries. Each is a sentence for people and fields for programs,
 * emqx-upgrade.journal-fields(7):
 *
 *         journal_event(&ctx, EVENT_STEP_DONE, &(JournalFields){ .step = "stop", .usec = elapsed_usec },
 *                         "Step %s done in %s", "stop", format_timespan(buf, elapsed_usec));
 *
 * Where stderr is a terminal the sentence goes there too; where no journal runs, there alone. Never fails: an upgrade
 * does not stop because nobody listens. A message must hold no secret; it is sent as one line of UTF-8, with control
 * characters and stray bytes written as \n, \t and \xNN. Keeps errno. */

#include <sys/types.h>

#include "base/time.h"
#include "journal/events.h"

/* Which upgrade an entry belongs to. Any of it may be unknown yet: NULL or 0. Borrowed. */
typedef struct JournalContext {
        const char *upgrade_id; /* EMQX_UPGRADE_ID */
        const char *from;       /* EMQX_UPGRADE_FROM */
        const char *to;         /* EMQX_UPGRADE_TO */
        pid_t conductor_pid;    /* set in a step unit: OBJECT_PID=, which brings its entries under the main unit */
} JournalContext;

/* What is known beside the sentence. Zero or NULL: not sent. */
typedef struct JournalFields {
        const char *step;      /* EMQX_UPGRADE_STEP */
        const char *result;    /* EMQX_UPGRADE_RESULT */
        const char *error;     /* EMQX_UPGRADE_ERROR, one line */
        const char *check;     /* EMQX_UPGRADE_CHECK */
        uint64_t bytes_done;   /* EMQX_UPGRADE_BYTES_DONE, sent even if 0 where bytes_total is set */
        uint64_t bytes_total;  /* EMQX_UPGRADE_BYTES_TOTAL */
        usec_t usec;           /* EMQX_UPGRADE_USEC: how long what is reported took */
        usec_t downtime_usec;  /* EMQX_UPGRADE_DOWNTIME_USEC */
        usec_t predicted_usec; /* EMQX_UPGRADE_PREDICTED_USEC */
        int error_number;      /* ERRNO, either sign */
        int priority;          /* PRIORITY; 0: the event's own (LOG_EMERG is never meant) */
} JournalFields;

/* journal_event(const JournalContext *ctx, Event event, const JournalFields *fields, const char *format, ...)
 *
 * ctx and fields may be NULL. format makes MESSAGE=; %m is errno. */
#define journal_event(...) journal_event_full(__FILE__, __LINE__, __func__, __VA_ARGS__)

void journal_event_full(const char *file, int line, const char *func, const JournalContext *ctx, Event event,
                const JournalFields *fields, const char *format, ...) _printf_(7, 8);

/* One line of UTF-8 from any text, the caller's to free; NULL: out of memory. */
char *journal_escape(const char *text);

/* The same, with "…" at its end where it would be longer than max_bytes. */
char *journal_line(const char *text, size_t max_bytes);
