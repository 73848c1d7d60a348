/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Packages: what the steps ask of the package that the node is. */

#include "steps/step.h"

/* 1: installed and whole, in that version; NULL: not installed at all. */
int package_is_installed(Context *c, const char *version, Error *reterr);
