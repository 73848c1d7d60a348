/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Vars: releases/emqx_vars, shell assignments that bin/emqx sources. */

#include "base/macro.h"

/* The value of NAME="value", NAME='value' or NAME=value in text; the last assignment wins, because a hot upgrade
 * appends. 1: *ret is the caller's (it may be ""); 0: no such assignment; -ENOMEM. */
int vars_get(const char *text, const char *name, char **ret);
