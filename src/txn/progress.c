/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/progress.h"

#include "base/size.h"
#include "journal/log.h"

#define WORDS_BYTES_MAX 3072 /* PID 1 passes over messages above 4096 (PIPE_BUF) */

static void forget_samples(Progress *p, size_t n) {
        memmove(p->samples, p->samples + n, (p->n_samples - n) * sizeof(p->samples[0]));
        p->n_samples -= n;
}

/* Not every report: the window is to be as long however often a step speaks. */
static void add_sample(Progress *p, usec_t now_usec) {
        size_t n_old = 0;

        if (p->n_samples > 0 &&
                        now_usec - p->samples[p->n_samples - 1].at_usec < PROGRESS_WINDOW_USEC / PROGRESS_SAMPLES)
                return;
        /* One from before the window stays: it is where the window begins. */
        while (n_old + 1 < p->n_samples && now_usec - p->samples[n_old + 1].at_usec >= PROGRESS_WINDOW_USEC)
                n_old++;
        if (p->n_samples - n_old == PROGRESS_SAMPLES)
                n_old++;
        forget_samples(p, n_old);
        p->samples[p->n_samples].at_usec = now_usec;
        p->samples[p->n_samples++].bytes_done = p->bytes.bytes_done;
}

void progress_note(Progress *p, const StepProgress *bytes, usec_t now_usec) {
        usec_t span_usec;
        uint64_t left_bytes;

        if (!bytes || bytes->bytes_total == 0 || bytes->bytes_total != p->bytes.bytes_total ||
                        bytes->bytes_done < p->bytes.bytes_done)
                *p = (Progress){ 0 };
        if (!bytes)
                return;
        p->bytes = (StepProgress){ MIN(bytes->bytes_done, bytes->bytes_total), bytes->bytes_total };
        p->bytes_per_sec = p->left_usec = 0;
        if (p->bytes.bytes_total == 0)
                return;
        add_sample(p, now_usec);

        span_usec = now_usec - p->samples[0].at_usec;
        if (span_usec < PROGRESS_RATE_USEC)
                return;
        p->bytes_per_sec = (uint64_t) ((double) (p->bytes.bytes_done - p->samples[0].bytes_done) *
                        (double) USEC_PER_SEC / (double) span_usec);
        left_bytes = p->bytes.bytes_total - p->bytes.bytes_done;
        if (p->bytes_per_sec > 0 && span_usec >= 2 * PROGRESS_RATE_USEC)
                p->left_usec = (usec_t) ((double) left_bytes * (double) USEC_PER_SEC / (double) p->bytes_per_sec);
}

const char *progress_text(char buf[static PROGRESS_TEXT_MAX], const Progress *p) {
        char total[SIZE_TEXT_MAX], rate[SIZE_TEXT_MAX], left[TIMESPAN_TEXT_MAX];
        bool moves = p->bytes_per_sec > 0, ends = p->left_usec >= USEC_PER_SEC;

        buf[0] = 0;
        if (p->bytes.bytes_total == 0)
                return buf;
        if (p->left_usec < USEC_PER_MINUTE)
                (void) snprintf(left, sizeof(left), "%" PRIu64 " s", p->left_usec / USEC_PER_SEC);
        else
                (void) format_timespan(left, p->left_usec);
        (void) snprintf(buf, PROGRESS_TEXT_MAX, "%u %% of %s%s%s%s%s%s%s",
                        (unsigned) ((double) p->bytes.bytes_done * 100 / (double) p->bytes.bytes_total),
                        format_size(total, p->bytes.bytes_total), moves ? ", " : "",
                        moves ? format_size(rate, p->bytes_per_sec) : "", moves ? "/s" : "", ends ? ", " : "",
                        ends ? left : "", ends ? " left" : "");
        return buf;
}

char *progress_join(const char *words, const StepProgress *bytes) {
        _cleanup_free_ char *line = journal_line(words, WORDS_BYTES_MAX);
        char *joined;

        if (!line || !bytes)
                return TAKE_PTR(line);
        return asprintf(&joined, "%s (%" PRIu64 " of %" PRIu64 " bytes)", line, bytes->bytes_done,
                               bytes->bytes_total) < 0
                        ? NULL
                        : joined;
}

bool progress_split(char *words, StepProgress *ret) {
        char *open = strrchr(words, '(');
        uint64_t done, total;
        int end = 0;

        if (!open || open == words || open[-1] != ' ' || open[1] < '0' || open[1] > '9' ||
                        sscanf(open, "(%" SCNu64 " of %" SCNu64 " bytes)%n", &done, &total, &end) != 2 || end == 0 ||
                        open[end])
                return false;
        open[-1] = 0;
        *ret = (StepProgress){ done, total };
        return true;
}
