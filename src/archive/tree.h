/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tree: a directory copied, compared with its manifest, and made equal to it again.
 *
 *     tree_measure(live)                                   how large (any time, the node may run)
 *     tree_measure_changed(manifest, live)                 and how much of it is new (the same)
 *     tree_backup(live, backup) ─▶ Manifest                then manifest_write_at()
 *     tree_restore(manifest, backup, live, rules)          live becomes what the manifest says
 *     tree_compare(manifest, live, rules, …, func)         does it hold?
 *     tree_save_differences(manifest, live, beside, rules) what live has that the manifest has not
 *
 * Trees are given as open directories and are only ever walked through descriptors: no symlink inside one is followed,
 * and paths may be longer than PATH_MAX. Each level holds up to two descriptors: a caller who expects trees deeper
 * than 500 directories raises RLIMIT_NOFILE. FIFOs and sockets are never opened, copied, compared or made, and one
 * that is in the way of nothing stays. Mounts below a tree belong to it, kernel file systems (proc, …) are refused.
 *
 * All return 0 or a negative errno with reterr naming the file: -EBUSY it changed meanwhile, -ENOSPC, -EDQUOT, -EROFS,
 * -EIO from the kernel, -EOPNOTSUPP a file of a kind that cannot be copied. Does not log. */

#include "archive/manifest.h"

/* --- progress --- */

/* Called per file, and within large ones about every 8 MiB, be they read or written. bytes_done never gets less; bytes_total
 * gets more where what was read has to be written, too. Less than 0 ends the work with that error. */
typedef int (*TreeProgressFunc)(uint64_t bytes_done, uint64_t bytes_total, const char *path, void *userdata);

typedef struct TreeProgress {
        TreeProgressFunc func;
        void *userdata;
        uint64_t bytes_total; /* handed back to func; tree_backup(): from tree_measure(); the others: ignored */
} TreeProgress;

/* --- measure --- */

typedef struct TreeSize {
        uint64_t n_entries;       /* without the tree itself */
        uint64_t apparent_bytes;  /* sum of the sizes of regular files, hard-linked ones counted once */
        uint64_t allocated_bytes; /* what a copy will take: blocks of files and directories, holes not counted */
} TreeSize;

/* What vanishes meanwhile is not counted. */
int tree_measure(int dir_fd, TreeSize *ret, Error *reterr);

/* The same of a tree that is to be changed: -EPERM where it, or a file or directory in it, is immutable or append-only
 * (chattr(1)). */
int tree_measure_changeable(int dir_fd, TreeSize *ret, Error *reterr);

/* The same, with what of its allocated bytes is in files that m has not with the same size and mtime: about what
 * tree_save_differences() will copy. No content is read. */
int tree_measure_changed(const Manifest *m, int dir_fd, TreeSize *ret, uint64_t *ret_changed_bytes, Error *reterr);

/* Whether func says yes to the name of anything below dir_fd: 1 or 0. Names alone are read, so it is far quicker than to look
 * at the files. The tree is not in use. */
int tree_has_name(int dir_fd, bool (*func)(const char *name), Error *reterr);

/* --- back up --- */

/* One of several passes over the same tree into the same copy. */
typedef struct TreePass {
        const Manifest *earlier; /* what the pass before has copied to dst_fd; NULL: this is the first */
        bool serving;            /* the tree is in use, and another pass follows, when it is not any more */
        uint64_t n_copied;       /* set: files and symlinks that this pass has copied, and their bytes */
        uint64_t copied_bytes;
} TreePass;

/* Copies the content of src_fd into dst_fd, with src_fd's own metadata as entry ".". Kept: owner, mode, times to the
 * ns, xattrs, ACLs, hard links, holes, symlinks. On return everything is on disk, in both trees (syncfs). progress may
 * be NULL. *ret is sealed and the caller's.
 *
 * Without pass->earlier (or pass NULL) dst_fd is emptied first: it may hold what an earlier attempt left. With it, only
 * what manifest_untouched() does not vouch for is copied, and what is gone from src_fd is removed; interrupted, it can
 * be done again with the same earlier, or without.
 *
 * A file or directory that changes while it is copied: -EBUSY. With pass->serving it is left for the next pass instead,
 * as files with more than one link are; *ret is then good for nothing but to be its `earlier`. */
int tree_backup(int src_fd, int dst_fd, TreePass *pass, const TreeProgress *progress, Manifest **ret, Error *reterr);

/* --- restore and compare --- */

typedef enum TreeVerdict {
        TREE_CARRY, /* shall be as in the manifest */
        TREE_LEAVE, /* is not looked at, nor what is below it */
        TREE_DROP,  /* shall not exist in live, nor what is below it */
} TreeVerdict;

typedef struct TreeRules {
        /* Asked for every path in the manifest or in live, parents first, never for "."; entry is NULL for a path in
         * live alone, for which TREE_CARRY means: removed if exact, left if not. NULL: carry everything. */
        TreeVerdict (*decide)(const char *path, const ManifestEntry *entry, void *userdata);
        void *userdata;
        bool exact;       /* live has nothing that the manifest has not, FIFOs and sockets aside */
        bool trust_times; /* the same size and mtime are the same content: for a copy that nobody else has written to */

        /* The same inode with the same size and mtime has the same content, whatever its ctime is: where nobody has come by
         * since but a package's scripts, which change owners and modes of every file there is. */
        bool trust_inode;
} TreeRules;

typedef struct TreeCounts {
        uint64_t n_written;     /* files, symlinks and directories made anew */
        uint64_t written_bytes; /* content */
        uint64_t n_fixed;       /* right content, but owner, mode, time or xattrs put right */
        uint64_t n_removed;     /* entries of live, those below a directory not counted */
} TreeCounts;

/* Makes live equal to the manifest under rules, writing only what differs: a file that manifest_untouched() does not
 * vouch for is read and compared by digest. backup_fd holds the content as tree_backup() left it; it is checked against the digest on
 * its way: -EBADMSG, and the file is not left in live. Interrupted anywhere, a power cut included, a second run comes
 * to the same end: nothing has a temporary name, and what the first has written is told by its content alone.
 * On return live is on disk. rules, progress and ret may be NULL (carry everything, not exact). */
int tree_restore(const Manifest *m, int backup_fd, int live_fd, const TreeRules *rules, const TreeProgress *progress,
                TreeCounts *ret, Error *reterr);

typedef enum TreeDifference {
        TREE_MISSING = 1 << 0, /* in the manifest, not in live */
        TREE_EXTRA = 1 << 1,   /* in live, and should not be: not in the manifest (exact), or dropped */
        TREE_TYPE = 1 << 2,
        TREE_CONTENT = 1 << 3, /* size, digest, symlink target */
        TREE_LINKS = 1 << 4,   /* a hard link that is none, or one too many */
        TREE_OWNER = 1 << 5,
        TREE_MODE = 1 << 6,
        TREE_XATTRS = 1 << 7, /* ACLs included */
        TREE_TIME = 1 << 8,
} TreeDifference;

#define TREE_DIFFERENCE_TEXT_MAX 96

/* "missing", "content, owner, time". Returns buf. */
const char *tree_difference_text(char buf[static TREE_DIFFERENCE_TEXT_MAX], unsigned differences);

typedef void (*TreeDifferenceFunc)(const char *path, unsigned differences, void *userdata);

/* Calls func (may be NULL) for every path that is not as the manifest and rules say; reports what tree_restore() would
 * change. Returns 0 if there is none, 1 if there are. A directory missing or extra is reported once, without what is
 * below it. progress may be NULL. */
int tree_compare(const Manifest *m, int live_fd, const TreeRules *rules, const TreeProgress *progress,
                TreeDifferenceFunc func, void *userdata, Error *reterr);

/* Copies whatever in live differs from the manifest or is not in it into dst_fd (emptied first), under the same paths,
 * with its directories and all metadata; FIFOs, sockets and device nodes are left out, and so is a directory that
 * differs in nothing but its time. rules->exact does not matter, what rules leave is left. On return it is on disk.
 * progress may be NULL. *ret_n (optional): entries saved. */
int tree_save_differences(const Manifest *m, int live_fd, int dst_fd, const TreeRules *rules,
                const TreeProgress *progress, uint64_t *ret_n, Error *reterr);

/* --- remove --- */

/* rm -rf of dir_fd/name, which is one component. -ENOENT is 0. A mount point in it: -EBUSY, and it stays. */
int tree_remove(int dir_fd, const char *name, Error *reterr);

/* The same for everything in dir_fd. */
int tree_empty(int dir_fd, Error *reterr);
