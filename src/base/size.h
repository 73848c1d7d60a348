/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Size: bytes as people write and read them. */

#include "base/macro.h"

#define SIZE_TEXT_MAX 32

/* "512 B", "1.5 KiB", "4.0 GiB". Returns buf. */
const char *format_size(char buf[static SIZE_TEXT_MAX], uint64_t size_bytes);

/* As in systemd's files: "1048576", "500M", "20G" (K, M, G, T, P, E to the base 1024), "infinity" (UINT64_MAX). -EINVAL,
 * -ERANGE. */
int parse_size(const char *s, uint64_t *ret_bytes);
