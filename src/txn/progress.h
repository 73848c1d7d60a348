/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Progress: how fast what a step counts in bytes goes on, and how long it takes still.
 *
 * The rate is that of the last PROGRESS_WINDOW_USEC, so that it follows a disk which becomes slow. It is known after
 * PROGRESS_RATE_USEC, the time left when twice that has been seen: the first second of a copy says little of the rest. */

#include "base/time.h"
#include "steps/step.h"

#define PROGRESS_WINDOW_USEC (10 * USEC_PER_SEC)
#define PROGRESS_RATE_USEC USEC_PER_SEC
#define PROGRESS_SAMPLES 20

typedef struct Progress {
        StepProgress bytes;     /* total 0: nothing is counted */
        uint64_t bytes_per_sec; /* 0: not known */
        usec_t left_usec;       /* 0: not known, or over */

        struct {
                usec_t at_usec;
                uint64_t bytes_done;
        } samples[PROGRESS_SAMPLES]; /* the first is the oldest */
        size_t n_samples;
} Progress;

/* bytes may be NULL: nothing is counted from here on. What has become less, or has another total, is another count,
 * and begins anew. now_usec is of CLOCK_MONOTONIC. */
void progress_note(Progress *p, const StepProgress *bytes, usec_t now_usec);

#define PROGRESS_TEXT_MAX 128

/* "31 % of 4.0 GiB, 210.3 MiB/s, 13 s left", as far as it is known; empty where nothing is counted. Returns buf. */
const char *progress_text(char buf[static PROGRESS_TEXT_MAX], const Progress *p);

/* A step unit tells its bytes at the end of its words, "Copying ahead (1024 of 4096 bytes)": systemd carries a text and
 * nothing else, and passes over one that is too long or no UTF-8; so words become one line of at most 3 KiB. The text is
 * the caller's to free; NULL: out of memory. bytes may be NULL. */
char *progress_join(const char *words, const StepProgress *bytes);

/* The other way: cuts them off words. False: it has none, and stays as it is. */
bool progress_split(char *words, StepProgress *ret);
