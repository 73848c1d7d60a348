/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Aside: a package's files, extracted below our own directory to look at or to ask, never to run the node from. */

#include "steps/step.h"

/* Extracts what target has below prefix ("/usr/lib/emqx"; all of it for a kind without places) into STATE_DIR/name, made
 * anew. Nobody but root comes there. */
int aside_extract(
                const PackageKind *kind, const Package *package, const char *prefix, const char *name, Error *reterr);

/* Removes STATE_DIR/name. Not there is 0. */
int aside_remove(const char *name, Error *reterr);
