/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Page: one upgrade as a self-contained HTML page, for who was not there. No scripts, nothing from elsewhere; light and dark
 * as the reader's browser is. Everything in it that we have not written ourselves is escaped. */

#include "cli/record.h"

/* An entry of the journal. */
typedef struct PageEntry {
        usec_t realtime_usec;
        int priority;
        char *event; /* EMQX_UPGRADE_EVENT=; NULL: a program's own line */
        char *step;  /* NULL: none */
        char *message;
} PageEntry;

typedef struct Page {
        const Record *record;
        RecordState state;
        const char *host;
        usec_t written_realtime_usec;
        const char *diff;   /* of the configuration, a unified one; NULL: there is none to show */
        PageEntry *entries; /* in their order */
        size_t n_entries;
        size_t n_left_out; /* entries between the first and the last ones that are not among them */
} Page;

void page_entry_done(PageEntry *e);
void page_done(Page *p); /* frees the entries; the rest is borrowed */

/* Writes the page. -ENOMEM. */
int page_write(const Page *p, FILE *out);
