/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* SHA-256 over libcrypto, as 64 lower-case hex digits. */

#include "base/macro.h"

#define SHA256_HEX_SIZE 65

typedef struct Sha256 Sha256;

int sha256_new(Sha256 **ret);
Sha256 *sha256_free(Sha256 *h);
DEFINE_CLEANUP(Sha256 *, sha256_free)
int sha256_add(Sha256 *h, const void *data, size_t size_bytes);
/* May be called once; h can only be freed afterwards. */
int sha256_finish(Sha256 *h, char ret_hex[static SHA256_HEX_SIZE]);

/* Digest of fd from its current offset to the end. Errors are read(2)'s. */
int sha256_fd(int fd, char ret_hex[static SHA256_HEX_SIZE]);

int sha256_buffer(const void *data, size_t size_bytes, char ret_hex[static SHA256_HEX_SIZE]);
