/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Cluster: whether the node's cluster can do without it for a while, and whether it has it back afterwards: asked of the
 * node itself, and through it of every other member. A node that is in no cluster is asked once, by cluster_check().
 *
 * Only one node at a time is upgraded. There is no service that all nodes share but the cluster itself, so an upgrade
 * leaves a mark in the memory of its node's VM, from before the stop (cluster_claim) until its end (cluster_release), and
 * refuses where another member has one, or does not run. Each marks first and looks then: of two that begin at the same
 * time one is refused, or both are. What is guaranteed: two nodes that see each other are never stopped at the same time
 * by two upgrades. What is not: from the moment at which a new version has booted until acceptance has marked it, about a
 * second, nobody knows that it is not accepted yet; and what people stop by hand, nobody asks. */

#include "steps/step.h"

/* Finds c->plan->members. 1: all is well, 0: with a warning, negative errno: refused. *ret_text, the caller's, is what was
 * found. */
int cluster_check(Context *c, char **ret_text, Error *reterr);

/* Marks the node as one that is being upgraded, and makes the same checks again: the members have to be the plan's.
 * -ECANCELED: refused, and the mark is taken away. Undone by cluster_release(). */
int cluster_claim(Context *c, Error *reterr);

/* Takes the mark away; 0 also where that fails, which is told: others are refused until the node is started anew. */
int cluster_release(Context *c, Error *reterr);

/* Whether the cluster has the node back: 1 yes; 0 not yet, and reterr says who misses whom; negative errno. A member that
 * has gone meanwhile, for all who remain, is told as a warning: the node cannot help it. Marks the node anew. */
int cluster_rejoined(Context *c, Error *reterr);
