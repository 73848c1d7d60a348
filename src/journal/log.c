/* SPDX-License-Identifier: Apache-2.0 */

#include "journal/log.h"

#include <stdarg.h>
#include <sys/uio.h>

#define SD_JOURNAL_SUPPRESS_LOCATION /* the caller's is sent, not ours */
#include <systemd/sd-journal.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define DOCUMENTATION "man:emqx-upgrade@.service(8)"
#define FIELDS_MAX 24

/* How many bytes the UTF-8 sequence at s has (RFC 3629, no overlong forms, no surrogates); 0: it is none. */
static size_t utf8_length(const unsigned char *s) {
        size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

        for (size_t i = 1; i < n; i++)
                if ((s[i] & 0xc0) != 0x80) /* also stops at the end of the string */
                        return 0;
        if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
                        (s[0] == 0xf4 && s[1] > 0x8f))
                return 0;
        return n;
}

/* C0, DEL, and the C1 controls U+0080…U+009F, which terminals obey too. */
static bool is_control(const unsigned char *s) {
        return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

char *journal_escape(const char *text) {
        char *escaped, *p;

        escaped = p = malloc(4 * strlen(text) + 1);
        if (!escaped)
                return NULL;

        for (const unsigned char *s = (const unsigned char *) text; *s;) {
                size_t n = utf8_length(s);

                if (n > 0 && !is_control(s)) {
                        p = mempcpy(p, s, n);
                        s += n;
                        continue;
                }
                if (*s == '\n' || *s == '\t')
                        p += sprintf(p, "\\%c", *s == '\n' ? 'n' : 't');
                else
                        p += sprintf(p, "\\x%02x", *s);
                s++;
        }
        *p = '\0';
        return escaped;
}

char *journal_line(const char *text, size_t max_bytes) {
        static const char more[] = "…";
        char *line = journal_escape(text);
        size_t n = max_bytes - strlen(more);

        if (line && strlen(line) > max_bytes) {
                while ((line[n] & 0xc0) == 0x80) /* not in the middle of a character */
                        n--;
                (void) strcpy(line + n, more);
        }
        return line;
}

typedef struct Entry {
        struct iovec fields[FIELDS_MAX];
        int n_fields;
} Entry;

static void entry_done(Entry *e) {
        for (int i = 0; i < e->n_fields; i++)
                free(e->fields[i].iov_base);
}

/* A field that there is no memory for is left out. */
static void add_number(Entry *e, const char *name, uint64_t value) {
        char *s;
        int n;

        assert(e->n_fields < FIELDS_MAX);

        n = asprintf(&s, "%s=%" PRIu64, name, value);
        if (n >= 0)
                e->fields[e->n_fields++] = (struct iovec){ s, (size_t) n };
}

static void add_text(Entry *e, const char *name, const char *value) {
        _cleanup_free_ char *escaped = NULL;
        char *s;
        int n;

        assert(e->n_fields < FIELDS_MAX);

        if (!value)
                return;
        escaped = journal_escape(value);
        n = escaped ? asprintf(&s, "%s=%s", name, escaped) : -1;
        if (n >= 0)
                e->fields[e->n_fields++] = (struct iovec){ s, (size_t) n };
}

static void add_context(Entry *e, const JournalContext *ctx) {
        add_text(e, "EMQX_UPGRADE_ID", ctx->upgrade_id);
        add_text(e, "EMQX_UPGRADE_FROM", ctx->from);
        add_text(e, "EMQX_UPGRADE_TO", ctx->to);
        if (ctx->conductor_pid > 0 && ctx->conductor_pid != getpid())
                add_number(e, "OBJECT_PID", (uint64_t) ctx->conductor_pid);
}

static void add_fields(Entry *e, const JournalFields *f) {
        add_text(e, "EMQX_UPGRADE_STEP", f->step);
        add_text(e, "EMQX_UPGRADE_RESULT", f->result);
        add_text(e, "EMQX_UPGRADE_ERROR", f->error);
        add_text(e, "EMQX_UPGRADE_CHECK", f->check);
        if (f->bytes_done != 0 || f->bytes_total != 0)
                add_number(e, "EMQX_UPGRADE_BYTES_DONE", f->bytes_done);
        if (f->bytes_total != 0)
                add_number(e, "EMQX_UPGRADE_BYTES_TOTAL", f->bytes_total);
        if (f->usec != 0)
                add_number(e, "EMQX_UPGRADE_USEC", f->usec);
        if (f->downtime_usec != 0)
                add_number(e, "EMQX_UPGRADE_DOWNTIME_USEC", f->downtime_usec);
        if (f->predicted_usec != 0)
                add_number(e, "EMQX_UPGRADE_PREDICTED_USEC", f->predicted_usec);
        if (f->error_number != 0)
                add_number(e, "ERRNO", (uint64_t) abs(f->error_number));
}

void journal_event_full(const char *file, int line, const char *func, const JournalContext *ctx, Event event,
                const JournalFields *fields, const char *format, ...) {
        _cleanup_(entry_done) Entry e = { 0 };
        _cleanup_free_ char *message = NULL, *shown = NULL;
        int saved = errno, priority = event_priority(event);
        bool journal = access(JOURNAL_SOCKET, F_OK) >= 0;
        va_list ap;

        errno = saved; /* for %m */
        va_start(ap, format);
        message = format_text(format, ap);
        va_end(ap);

        if (fields && fields->priority > 0)
                priority = fields->priority;

        add_text(&e, "MESSAGE", message ?: event_name(event));
        add_text(&e, "MESSAGE_ID", event_id(event));
        add_number(&e, "PRIORITY", (uint64_t) priority);
        add_text(&e, "EMQX_UPGRADE_EVENT", event_name(event));
        if (ctx)
                add_context(&e, ctx);
        if (fields)
                add_fields(&e, fields);
        add_text(&e, "DOCUMENTATION", DOCUMENTATION);
        add_text(&e, "CODE_FILE", file);
        add_number(&e, "CODE_LINE", (uint64_t) line);
        add_text(&e, "CODE_FUNC", func);

        if (journal)
                (void) sd_journal_sendv(e.fields, e.n_fields);
        if (!journal || isatty(STDERR_FILENO)) {
                shown = journal_escape(message ?: event_name(event));
                if (shown)
                        fprintf(stderr, "%s\n", shown);
        }
        errno = saved;
}
