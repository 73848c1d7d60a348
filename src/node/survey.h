/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Survey: many questions to a running node in one `emqx eval`, since each command costs the start of a VM. The node
 * runs the commands of emqx_ctl itself; their texts come between lines with a mark that nobody can foresee. They may
 * hold passwords (those of resources do): what is taken out of them is node/listing.h's business. */

#include "base/macro.h"

typedef enum SurveyPart {
        SURVEY_STATUS,      /* emqx_ctl status */
        SURVEY_BROKER,      /* emqx_ctl broker */
        SURVEY_APPLICATION, /* done: the application emqx runs */
        SURVEY_TABLES,      /* done: all local tables are loaded; else which are not */
        SURVEY_PEERS,       /* how many other nodes of its cluster run */
        SURVEY_ALARMS,      /* the names of those that are activated, one in a line */
        SURVEY_STATS,       /* emqx_ctl broker stats */
        SURVEY_LISTENERS,   /* emqx_ctl listeners */
        SURVEY_PLUGINS,     /* emqx_ctl plugins list */
        SURVEY_MODULES,     /* emqx_ctl modules list */
        SURVEY_RULES,       /* emqx_ctl rules list */
        SURVEY_RESOURCES,   /* emqx_ctl resources list */
        _SURVEY_PART_MAX,
} SurveyPart;

typedef struct SurveyAnswer {
        char *text; /* NULL: none came, or not all of it */
        bool done;  /* the node did it; a command of a plugin that is not loaded is not */
} SurveyAnswer;

typedef struct Survey {
        SurveyAnswer answers[_SURVEY_PART_MAX];
} Survey;

#define SURVEY_NULL ((Survey){ .answers = { { NULL, false } } })
void survey_done(Survey *s);

/* The expression to evaluate, the caller's; NULL: out of memory. mark is a word of letters and digits. */
char *survey_expression(const char *mark);

/* What the evaluation with mark printed. *ret is overwritten, not freed. 0; -EBADMSG: not one answer is in there. */
int survey_parse(const char *output, const char *mark, Survey *ret);

/* The text of a part that the node did, else NULL. */
const char *survey_text(const Survey *s, SurveyPart part);

/* "rules": for people. */
const char *survey_part_name(SurveyPart part);
