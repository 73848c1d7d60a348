/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reserve: room that nobody else can take while the node is apart, for the record and for the way back.
 *
 *     reserve_begin()    a little, for the record    where the upgrade begins
 *     reserve_find()     which files, how large      by `inspect`, kept in the plan
 *     reserve_make()     files of that size          by `recheck`, the last thing before the node is stopped
 *     reserve_release()  they are gone               where the upgrade turns back, and at its end
 *
 * One file for each file system that something is written to: in the state directory, elsewhere in the directory where
 * the file system is mounted. It has blocks and no content. What the way back needs is then there, whoever fills the
 * disk once the node is down:
 *
 *     state directory  SPARE for the record, and the size of all trees, which is what set_aside() can find changed
 *     program          the old version unpacked: dpkg or rpm brings it back
 *     trees            their size, or half of what is free where that is less: a restore writes what the new version has
 *                      changed, in the place of what that has left, so it takes more only where others fill the disk
 *
 * On one file system what is set aside and what is restored is counted once, for the same reason. */

#include "steps/step.h"

#define RESERVE_SPARE_BYTES (16ULL << 20)

/* Enough to write down that the upgrade is refused, if somebody fills the disk before there is more. What fails is found
 * by reserve_make(). */
void reserve_begin(void);

/* Fills in p->reserves; needs trees with their sizes, root_dir, old_program_bytes. */
int reserve_find(Plan *p, Error *reterr);

/* -ENOSPC: there is no room any more. A file system that cannot reserve is told, and no error. Can be done again. */
int reserve_make(Context *c, Error *reterr);

/* Can be done again, and where none was made. */
int reserve_release(Context *c, Error *reterr);

/* Whether there is room where any was reserved: as much as the record is given, or a twentieth of a small file system. Else
 * *ret_path is the file whose file system is full. */
bool reserve_has_room(const Plan *p, const char **ret_path);

/* A file of bytes at path, which holds blocks and no content; 0: none. What was there is removed, never written to, and no
 * link is followed. For the helper, where the conductor may not write. -EOPNOTSUPP, -ENOSPC, …: there is none then. */
int reserve_file(const char *path, uint64_t bytes);
