/* SPDX-License-Identifier: Apache-2.0 */

#include "txn/metrics.h"

#include <fcntl.h>

#include "base/fileio.h"

#define PREFIX "emqx_upgrade_last_"

static void write_help(FILE *out, const char *name, const char *help) {
        (void) fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s gauge\n", name, help, name);
}

/* The value of a label, as the exposition format has it. */
static void write_label(FILE *out, const char *name, const char *value) {
        (void) fprintf(out, "%s=\"", name);
        for (const char *s = value; *s; s++)
                switch (*s) {
                case '\\': (void) fputs("\\\\", out); break;
                case '"': (void) fputs("\\\"", out); break;
                case '\n': (void) fputs("\\n", out); break;
                default: (void) fputc(*s, out);
                }
        (void) fputc('"', out);
}

static void write_seconds(FILE *out, const char *name, const char *help, usec_t usec) {
        write_help(out, name, help);
        (void) fprintf(out, PREFIX "%s %" PRIu64 ".%06" PRIu64 "\n", name, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
}

/* One for each that there is, 1 for the one that it was: an alert names the one it is for. */
static void write_result(const Txn *t, FILE *out) {
        static const char *const results[] = { "done", "refused", "rolled-back", "stuck" };
        const char *result = t->direction == TXN_STUCK ? "stuck" : txn_result_name(t->result);

        write_help(out, "result", "How the last upgrade ended: 1 for the result that it had, 0 for the others.");
        for (size_t i = 0; i < ELEMENTSOF(results); i++) {
                (void) fputs(PREFIX "result{", out);
                write_label(out, "result", results[i]);
                (void) fprintf(out, "} %i\n", streq(results[i], result));
        }
}

static void write_info(const Txn *t, FILE *out) {
        write_help(out, "info", "Which upgrade was the last one; always 1.");
        (void) fputs(PREFIX "info{", out);
        write_label(out, "id", t->plan->id);
        (void) fputc(',', out);
        write_label(out, "from", t->plan->from ?: "");
        (void) fputc(',', out);
        write_label(out, "to", t->plan->to);
        (void) fputs("} 1\n", out);
}

static void write_step(FILE *out, const char *name, const TxnStep *s) {
        (void) fprintf(out, PREFIX "%s{", name);
        write_label(out, "step", s->name);
        (void) fputs("} ", out);
}

static void write_steps(const Txn *t, FILE *out) {
        write_help(out, "step_duration_seconds", "How long a step of the last upgrade took.");
        for (size_t i = 0; i < t->n_steps; i++) {
                usec_t took = t->steps[i].took_usec;

                if (t->steps[i].begun_realtime_usec == 0)
                        continue;
                write_step(out, "step_duration_seconds", &t->steps[i]);
                (void) fprintf(out, "%" PRIu64 ".%06" PRIu64 "\n", took / USEC_PER_SEC, took % USEC_PER_SEC);
        }
        write_help(out, "step_bytes", "Bytes that a step of the last upgrade worked through, where it counts them.");
        for (size_t i = 0; i < t->n_steps; i++)
                if (t->steps[i].bytes > 0) {
                        write_step(out, "step_bytes", &t->steps[i]);
                        (void) fprintf(out, "%" PRIu64 "\n", t->steps[i].bytes);
                }
}

int metrics_format(const Txn *t, FILE *out) {
        usec_t end = t->ended_realtime_usec ?: now_usec(CLOCK_REALTIME);

        write_info(t, out);
        write_result(t, out);
        write_seconds(out, "start_timestamp_seconds", "When the last upgrade began.", t->started_realtime_usec);
        write_seconds(out, "end_timestamp_seconds", "When the last upgrade ended.", end);
        write_seconds(out, "downtime_seconds", "How long the node was down; while the way back has failed, so far.",
                        plan_downtime_usec(t->plan));
        write_seconds(out, "predicted_downtime_seconds",
                        "How long it was expected to be down; 0 where that was not known.",
                        t->plan->predicted_downtime_usec);
        write_help(out, "data_bytes", "Size of the configuration and the data that the last upgrade backed up.");
        (void) fprintf(out, PREFIX "data_bytes %" PRIu64 "\n", t->plan->tree_bytes);
        write_steps(t, out);
        return ferror(out) ? -EIO : 0;
}

int metrics_write(const Txn *t, const char *directory) {
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int dir_fd = -1;
        size_t size;
        FILE *out;
        int r;

        dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return -errno;
        out = open_memstream(&text, &size);
        if (!out)
                return -ENOMEM;
        r = metrics_format(t, out);
        if (fclose(out) != 0)
                r = -ENOMEM;
        return r < 0 ? r : replace_file_at(dir_fd, METRICS_NAME, text, size, 0644);
}
