/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Accepting: the table of questions, and what they hand on to each other. For accept*.c alone. */

#include "node/log.h"
#include "steps/accept.h"
#include "steps/cluster.h"

typedef struct Acceptance {
        Context *c;
        const char *version;
        bool back;     /* the old version, on the way back */
        bool surveyed; /* survey and now are there */
        bool refresh;  /* the last answer did not do: ask the node anew */
        Survey survey;
        Baseline now;
        NodeLog *log;
        char *failure; /* the first line of the log that is one */
        char *text;    /* what the question at hand has found; NULL: what the table says */
        bool warned;   /* it found something that deserves attention */
} Acceptance;

void acceptance_done(Acceptance *a);

typedef struct Question {
        const char *name; /* EMQX_UPGRADE_CHECK= */
        const char *yes;  /* what is asked, and what is said where the question has found nothing more to say */
        /* 1 yes, 0 not yet (reterr says what is missing), negative errno: no, for good. */
        int (*ask)(Acceptance *a, Error *reterr);
        bool quick;   /* no burden: the watch asks it every second */
        bool outside; /* on the way back only a warning: an old version that serves is not kept down for it */
} Question;

/* In the order in which a node comes up, each resting on those before it; ends with one without a name. */
extern const Question accept_questions[];
