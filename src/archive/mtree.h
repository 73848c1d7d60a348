/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Mtree: the text of a manifest, mtree(5) as manifest.h shows it, line by line. */

#include "archive/manifest.h"

/* The lines above the first entry. What goes wrong with f shows in ferror(3). */
void mtree_put_header(FILE *f, const char *boot);

/* e's line. -ENOMEM, or ferror(3). */
int mtree_put_entry(FILE *f, const ManifestEntry *e);

/* The last line, without its end; the caller's. NULL: out of memory. sha256 is that of all lines above. */
char *mtree_seal(size_t n_entries, uint64_t n_bytes, const char *sha256);
bool mtree_is_seal(const char *line);

/* Of a line that begins with '#': the boot that it names, or NULL. */
const char *mtree_boot(const char *line);

/* Points *ret_path at the path in an entry's line (which is written to, and goes on at *rest). -EBADMSG with *ret_why
 * (static): it is none. */
int mtree_parse_path(char *line, const char **ret_path, char **rest, const char **ret_why);

/* The keywords behind it, into e, which has its path and nothing else: nothing but what mtree_put_entry() writes. Links
 * are to first links of m. -EBADMSG with *ret_why, the caller's. */
int mtree_parse_keywords(const Manifest *m, char *rest, ManifestEntry *e, char **ret_why);
