/* SPDX-License-Identifier: Apache-2.0 */

/* The check that there is room for the backup, the packages and a way back. */

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/size.h"
#include "steps/backup.h"
#include "steps/checking.h"
#include "steps/reserve.h"

#define SPARE_INODES 2000 /* for records, logs, and for what a package has more than the one before */

/* *ret_inodes: UINT64_MAX where the file system makes them as they are needed. */
static int free_room(const char *path, uint64_t *ret_bytes, uint64_t *ret_inodes, dev_t *ret_dev, Error *reterr) {
        struct statvfs vfs;
        struct stat st;

        if (statvfs(path, &vfs) < 0 || stat(path, &st) < 0)
                return error_set(reterr, -errno, NULL, "Cannot ask how much room is left at %s: %m", path);
        *ret_bytes = (uint64_t) vfs.f_bavail * vfs.f_frsize;
        *ret_inodes = vfs.f_files > 0 ? vfs.f_favail : UINT64_MAX;
        *ret_dev = st.st_dev;
        return 0;
}

int check_space(Checking *k, Error *reterr) {
        Plan *p = k->c->plan;
        uint64_t backup, program = k->target->installed_bytes, backup_free, program_free, entries = 0, inodes,
                         inodes_free = 0, program_inodes = 0;
        char all[SIZE_TEXT_MAX], left[SIZE_TEXT_MAX];
        dev_t backup_dev = 0, program_dev = 0;
        TreeSize staged;
        int r;

        r = backup_measure_staged(&staged, reterr);
        if (r < 0)
                return r;
        p->program_bytes = program;
        p->tree_bytes = 0;
        for (size_t i = 0; i < p->n_trees; i++) {
                p->tree_bytes += p->trees[i].bytes;
                entries += p->trees[i].entries;
        }

        /* One that is exchanged stays beside. */
        p->old_program_bytes = k->old && !p->beside_dir ? k->old->installed_bytes : 0;
        program = MAX(program,
                        p->old_program_bytes); /* whichever of both is there: the other one's room is reserved */

        /* The backup, but for what was staged of it, what the new version may write before a rollback sets it aside, and both
         * packages, the new one unpacked too. */
        inodes = 2 * entries - MIN(staged.n_entries, entries) + SPARE_INODES;
        backup = 2 * p->tree_bytes - MIN(staged.allocated_bytes, p->tree_bytes) + k->target->size_bytes +
                        (k->old ? k->old->size_bytes : 0) + RESERVE_SPARE_BYTES;
        if (k->kind->prepare)
                backup += program;
        r = free_room(STATE_DIR, &backup_free, &inodes_free, &backup_dev, reterr);
        if (r >= 0)
                r = free_room(p->root_dir, &program_free, &program_inodes, &program_dev, reterr);
        if (r < 0)
                return r;
        if (backup_dev == program_dev)
                backup += program;
        if (backup_free < backup)
                return error_set(reterr, -ENOSPC, "Make room there.",
                                "%s needs %" PRIu64 " MiB for the backup, and has %" PRIu64 " MiB", STATE_DIR,
                                backup >> 20, backup_free >> 20);
        if (program_free < program)
                return error_set(reterr, -ENOSPC, "Make room there.",
                                "%s needs %" PRIu64 " MiB for the new version, and has %" PRIu64 " MiB", p->root_dir,
                                program >> 20, program_free >> 20);
        if (inodes_free < inodes || program_inodes < SPARE_INODES)
                return error_set(reterr, -ENOSPC,
                                "Make room there: many small files may go, or the file system is too small.",
                                "%s needs %" PRIu64 " inodes, and %" PRIu64 " are left",
                                inodes_free < inodes ? STATE_DIR : p->root_dir,
                                inodes_free < inodes ? inodes : (uint64_t) SPARE_INODES,
                                MIN(inodes_free, program_inodes));
        r = reserve_find(p, reterr);
        if (r < 0)
                return r;
        found(k, "%s to back up, %s free", format_size(all, p->tree_bytes), format_size(left, backup_free));
        return 1;
}
