/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Environment: the file format of EnvironmentFile=, systemd.exec(5). */

#include "base/error.h"
#include "base/strv.h"

#define ENVIRONMENT_FILE_MAX_BYTES (1024 * 1024)

/* Sets NAME=VALUE in *env in place of an earlier assignment of NAME. */
int environment_set(char ***env, const char *name, const char *value);

/* Takes NAME, or NAME=VALUE where that is its value, out of *env: UnsetEnvironment=. */
void environment_unset(char **env, const char *what);

/* Parses text as systemd does and merges it into *env: "#" and ";" comments, a backslash at the end of a line joins
 * it with the next, single quotes are literal, double quotes and bare values unescape as systemd does, no variables
 * are expanded. As in systemd, a line that is not an assignment and an invalid name are passed over. 0 or -ENOMEM. */
int environment_parse(const char *text, char ***env);

/* environment_parse() of every file that pattern (glob(7), absolute) matches, in order. None is -ENOENT unless
 * optional. reterr says which file and why. */
int environment_read(const char *pattern, bool optional, char ***env, Error *reterr);
