/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Version: MAJOR.MINOR.PATCH of an EMQX release, as in instance names, package metadata and `emqx_ctl broker`. */

#include "base/macro.h"

typedef struct Version {
        unsigned major, minor, patch;
} Version;

#define VERSION_TEXT_MAX 32

/* Exactly three decimal numbers below 1000 without leading zeros, joined by dots, nothing else: -EINVAL. */
int version_parse(const char *s, Version *ret);
int version_compare(const Version *a, const Version *b); /* <0, 0, >0 */
const char *version_format(char buf[static VERSION_TEXT_MAX], const Version *v);
