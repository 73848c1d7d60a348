/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Store: the directory that an operator puts packages into, each with its checksum in NAME.sha256. Does not log. */

#include "package/package.h"

/* Finds the one package that says it is name, version, arch, whatever its file is called; files that are no packages
 * are passed over. reterr says what is there instead. -ENOENT: none; -ENOTUNIQ: two; -ENOEXEC: only for another
 * architecture. Reads no more of each than its metadata. */
int store_find(const char *dir, const PackageKind *kind, const char *name, const char *version, const char *arch,
                Package **ret, Error *reterr);

/* Versions of all packages that say they are name and arch, as a strv in no order; NULL: there is none. */
int store_versions(const char *dir, const PackageKind *kind, const char *name, const char *arch, char ***ret,
                Error *reterr);

/* Compares p with its .sha256 (64 hex digits, or sha256sum(1)'s line), then reads it to its end. ret_hex is its
 * digest. -ENODATA: there is no checksum; -EKEYREJECTED: it differs; -EBADMSG: damaged. */
int store_verify(const PackageKind *kind, const Package *p, char ret_hex[static SHA256_HEX_SIZE], Error *reterr);

/* The same in the cache of the package manager. 1: *ret; 0: it has none. What cannot be read there is passed over. */
int store_find_cached(const PackageKind *kind, const char *name, const char *version, const char *arch, Package **ret,
                Error *reterr);

/* Reads p to its end: ret_hex is its digest, which nobody vouches for but the package's own checksums. */
int store_digest(const PackageKind *kind, const Package *p, char ret_hex[static SHA256_HEX_SIZE], Error *reterr);

/* The digest in the text of a .sha256 file: 0 or -EBADMSG. */
int checksum_parse(const char *text, char ret_hex[static SHA256_HEX_SIZE]);
