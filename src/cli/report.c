/* SPDX-License-Identifier: Apache-2.0 */

/* report: gathers what is known of an upgrade, from its record and from the journal, and writes it as a page. */

#include <fcntl.h>
#include <syslog.h>
#include <systemd/sd-journal.h>

#include "base/fileio.h"
#include "cli/page.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "steps/diff.h"

#define ENTRIES_MAX 600 /* of the journal; what is between the first and the last half of them is left out */
#define MESSAGE_BYTES_MAX 4096

/* The text of a field, the caller's to free; NULL: the entry has none. */
static char *entry_text(sd_journal *j, const char *field) {
        const void *data;
        size_t size, skip = strlen(field) + 1;

        if (sd_journal_get_data(j, field, &data, &size) < 0 || size <= skip)
                return NULL;
        return strndup((const char *) data + skip, MIN(size - skip, (size_t) MESSAGE_BYTES_MAX));
}

/* Adds the entry that j is at, in place of one from the middle where there are too many. -ENOMEM. */
static int add_entry(Page *p, sd_journal *j) {
        _cleanup_free_ char *priority = entry_text(j, "PRIORITY");
        PageEntry e = { .message = entry_text(j, "MESSAGE"),
                .event = entry_text(j, "EMQX_UPGRADE_EVENT"),
                .step = entry_text(j, "EMQX_UPGRADE_STEP"),
                .priority = priority && priority[0] >= '0' && priority[0] <= '7' ? priority[0] - '0' : LOG_INFO };

        (void) sd_journal_get_realtime_usec(j, &e.realtime_usec);
        if (!e.message || e.priority >= LOG_DEBUG) {
                page_entry_done(&e);
                return 0;
        }
        if (p->n_entries == ENTRIES_MAX) {
                PageEntry *middle = p->entries + ENTRIES_MAX / 2;

                page_entry_done(middle);
                (void) memmove(middle, middle + 1, (ENTRIES_MAX - ENTRIES_MAX / 2 - 1) * sizeof(PageEntry));
                p->n_entries--;
                p->n_left_out++;
        }
        p->entries[p->n_entries++] = e;
        return 0;
}

/* No journal, or none that may be read, is no error: the record has the rest. */
static int read_entries(Page *p) {
        _cleanup_free_ char *match = NULL;
        sd_journal *j;
        int r = 0;

        p->entries = calloc(ENTRIES_MAX, sizeof(PageEntry));
        if (!p->entries || asprintf(&match, "EMQX_UPGRADE_ID=%s", p->record->txn->plan->id) < 0)
                return -ENOMEM;
        if (sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM) < 0)
                return 0;
        if (sd_journal_add_match(j, match, 0) >= 0 && sd_journal_seek_head(j) >= 0)
                while (r >= 0 && sd_journal_next(j) > 0)
                        r = add_entry(p, j);
        sd_journal_close(j);
        return r;
}

static int write_page(const char *content, size_t size_bytes, Error *reterr) {
        int r;

        if (arg_output) {
                r = replace_file_at(
                                AT_FDCWD, arg_output, content, size_bytes, 0600); /* it has entries of the journal */
                return r < 0 ? error_set(reterr, r, NULL, "Cannot write %s: %m", arg_output) : 0;
        }
        r = write_all(STDOUT_FILENO, content, size_bytes);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot write the report: %m") : 0;
}

ExitStatus verb_report(char **args) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_(record_freep) Record *record = NULL;
        _cleanup_free_ char *content = NULL, *diff = NULL;
        _cleanup_(page_done) Page page = { .entries = NULL };
        char host[256] = "";
        size_t size = 0;
        FILE *out;
        int r;

        if (args[0] && !is_upgrade_id(args[0]))
                return EXIT_USAGE;
        if (!arg_output && isatty(STDOUT_FILENO)) {
                (void) fprintf(stderr,
                                "emqx-upgrade: a page of HTML is not for a terminal. Name a file: --output=FILE\n");
                return EXIT_USAGE;
        }
        r = record_load(args[0], &record, &error);
        if (r == -ENOENT)
                (void) error_set(&error, r, "See: emqx-upgrade history", "There is no upgrade '%s' on this host",
                                args[0] ?: "last");
        if (r < 0)
                return say_error(&error, r, EXIT_INTERRUPTED);

        (void) gethostname(host, sizeof(host) - 1);
        page = (Page){ .record = record,
                .state = record_state(record),
                .host = host,
                .written_realtime_usec = now_usec(CLOCK_REALTIME) };
        /* Of what there is now, which is that upgrade's where it was the last. */
        if (page.state == RECORD_DONE && configuration_diff(record->txn->plan, &diff, NULL) >= 0)
                page.diff = diff;
        r = read_entries(&page);
        out = r >= 0 ? open_memstream(&content, &size) : NULL;
        if (!out)
                return say_error(NULL, -ENOMEM, EXIT_INTERRUPTED);
        r = page_write(&page, out);
        if (fclose(out) != 0 || r < 0)
                return say_error(NULL, -ENOMEM, EXIT_INTERRUPTED);
        r = write_page(content, size, &error);
        return r < 0 ? say_error(&error, r, EXIT_INTERRUPTED) : EXIT_DONE;
}
