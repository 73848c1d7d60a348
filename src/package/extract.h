/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Extract: the program out of a package file, to look at it aside: not as a package manager would install it. Does not
 * log. */

#include <archive.h>

#include "package/package.h"

/* Extracts what p has below prefix ("/usr/lib/emqx") of what a has been opened on into dir_fd, which is empty: files,
 * directories and links, all ours, without bits for setuid. Nothing is written outside of dir_fd, and nothing through a
 * link. -EBADMSG: damaged, nothing below prefix, or more than the package says. */
int extract_program(const Package *p, struct archive *a, const char *prefix, int dir_fd, Error *reterr);
