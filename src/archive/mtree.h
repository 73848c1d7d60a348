/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Mtree: the text of a manifest, mtree(5) as manifest.h shows it. */

#include "archive/manifest.h"

/* *ret_text is the caller's. */
int mtree_format(const Manifest *m, char **ret_text, size_t *ret_size_bytes);

/* Takes nothing but what mtree_format() writes. text has a NUL behind its size_bytes and is written to. -EBADMSG:
 * *ret_why (the caller's, may stay NULL) says what is wrong in *ret_line. */
int mtree_parse(char *text, size_t size_bytes, Manifest **ret, unsigned *ret_line, char **ret_why);
