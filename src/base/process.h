/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Process: run a program, read what it prints line by line, and get its end. Does not log. */

#include <sys/types.h>

#include "base/error.h"
#include "base/time.h"

typedef void (*ProcessLineFunc)(const char *line, void *userdata);

typedef struct ProcessOptions {
        char *const *environment; /* NAME=VALUE beside a fixed clean set (PATH, LC_ALL=C.UTF-8); NULL: that alone */
        const char *directory;    /* working directory; NULL: / */
        uid_t uid;                /* with gid: drops privileges (initgroups by user) where user is set */
        gid_t gid;
        const char *user;        /* NULL: as we are */
        usec_t timeout_usec;     /* 0: none. Past it the process group gets SIGKILL: -ETIMEDOUT */
        ProcessLineFunc on_line; /* each line of stdout and stderr, without its end; NULL: dropped */
        void *userdata;
} ProcessOptions;

/* Runs argv with stdin /dev/null and waits. Returns its exit status (0…255); -ECHILD where a signal ended it;
 * another negative errno where it could not be run, -ENOENT: no such program. reterr says which and why. */
int process_run(char *const *argv, const ProcessOptions *options, Error *reterr);

/* process_run() with the output collected into *ret_output (NUL-terminated, at most 1 MiB kept). */
int process_capture(char *const *argv, const ProcessOptions *options, char **ret_output, Error *reterr);

/* The name of a process ("apt-get") from /proc/PID/comm; "?" where it is gone. Returns buf. */
const char *process_name(char buf[static 32], pid_t pid);
