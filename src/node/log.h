/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* NodeLog: follows erlang.log.N and emqx.log.N of one directory from now on: what is appended, files that begin
 * anew, and new ones. What stood there before is never reported. Of more than 64 of either it follows the newest. Does
 * not log.
 *
 *     open: sizes remembered ──▶ poll node_log_fd() ──▶ node_log_read() ──▶ poll … */

#include "base/error.h"
#include "base/strv.h"

typedef struct NodeLog NodeLog;

/* Begins at the current end of every file; of a line that is incomplete then, the rest is a line. With marks: where
 * node_log_marks() was then, at the begin of files that are new or were begun anew since. -ENOENT: no such directory. */
int node_log_open(const char *log_dir, char *const *marks, NodeLog **ret, Error *reterr);
NodeLog *node_log_free(NodeLog *log);
DEFINE_CLEANUP(NodeLog *, node_log_free)

/* For poll(2), level-triggered POLLIN: there may be something to read. Borrowed. */
int node_log_fd(NodeLog *log);

/* Hands each complete new line to on_line, without its end, NULs as spaces, at most 4 KiB of it; file is the name in
 * log_dir. A line without an end yet waits for its rest. Never blocks; may be called at any time. 0 or negative errno
 * of the directory (-ESTALE: it was removed or moved, nothing more will come). Files that vanish or cannot be opened
 * are passed over. */
int node_log_read(NodeLog *log, void (*on_line)(const char *file, const char *line, void *userdata), void *userdata);

/* Where log is in each file, for later: "NAME OFFSET DIGEST" of the bytes before it, so that a copy of the file will do.
 * *ret is a strv, the caller's. */
int node_log_marks(const NodeLog *log, char ***ret);

typedef enum NodeLineKind {
        NODE_LINE_OTHER,
        NODE_LINE_RUNNING, /* "is running now!": the last act of a successful start */
        NODE_LINE_FATAL,   /* this start cannot succeed */
        NODE_LINE_FAILURE, /* something of the node does not work: a plugin, a file, what the logger calls an error */
        NODE_LINE_WARNING, /* an operator should see it: waits for tables, peers that are gone, alarms, clients' errors */
} NodeLineKind;

/* By what the line of file (as given to on_line) says, whatever the product calls itself. A line of emqx.log.N is at
 * most NODE_LINE_FAILURE. One of any file is at most NODE_LINE_WARNING where a client is named in it, or its address, or
 * it is about one: clients choose parts of its text, and must not be able to end an upgrade with it. With log.to = both
 * or console erlang.log.N has such lines, too.
 *
 * For the reason of a failure keep the warnings before the first fatal line, and the fatal ones after it: the line
 * that names the unknown key stands beside the one that says that it is over. */
NodeLineKind node_line_classify(const char *file, const char *line);
