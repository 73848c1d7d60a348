/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Archive: the trees of a backup as one file, and back.
 *
 *     tree/ ──▶ backup.tar.zst.part ──read back against the manifests──▶ backup.tar.zst ──▶ tree.gone/ ──▶ removed
 *     tree/ ◀── tree.part/ ◀──────────extracted, compared────────────── backup.tar.zst
 *
 * tree/ is all of it wherever it exists, and so is backup.tar.zst: each appears under its name when it has been read
 * back, and is on disk, and tree/ goes only after the archive has come. The manifests, the packages and what is to be
 * looked at (defaults/, after/) stay files beside it. Interrupted anywhere, each can be done again. */

#include "archive/tree.h"
#include "steps/step.h"

#define ARCHIVE_NAME "backup.tar.zst"

/* Its sha256sum(1), written before it gets its name. */
#define ARCHIVE_DIGEST_NAME ARCHIVE_NAME ".sha256"

/* What of tree/ is still to be removed. */
#define ARCHIVE_GONE_NAME "tree.gone"

/* What extracting the backup of p takes is there: 0; -ENOSPC. */
int archive_check_room(const Plan *p, Error *reterr);

/* Ends what an archive that was given up has left, as far as that goes: half an archive, half of tree/, or all of tree/ where
 * the archive has come. Nothing depends on it; half of tree/ that stays is tried again by the next pruning. */
void archive_settle(Context *c);

/* The same for the helper, which has the right: what is in a directory of the node's user is not the conductor's to remove.
 * Returns 0 or a negative errno, with which something is left. */
int archive_forget(const Plan *p);

/* Reads all of the backup of p, archived or not. 0: it is what its manifests say; 1: func (may be NULL) was told what is
 * not, by "<tree>/<path>"; -EBADMSG: reterr says what is damaged; -ENOENT: it is incomplete. */
int backup_check(const Plan *p, const TreeProgress *progress, TreeDifferenceFunc func, void *userdata, Error *reterr);

/* Makes a directory for each tree of the backup in dir_fd, which is empty, equal to it; on disk on return. After an error
 * what was made stays. */
int backup_extract(const Plan *p, int dir_fd, const TreeProgress *progress, Error *reterr);
