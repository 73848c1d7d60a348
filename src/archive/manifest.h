/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Manifest: what one directory tree was: every path in it, with all that a restore must bring back.
 *
 * On disk it is mtree(5) text, one line per path, which mtree and bsdtar read too; its first lines name the two
 * keywords that are not in the manual page and the boot in which it was made, its last one seals it:
 *
 *     #mtree
 *     # boot 6f0a…
 *     . type=dir uid=110 gid=114 uname=emqx gname=emqx mode=0750 time=1769000000.123456789
 *     ./acl.conf type=file uid=… size=1024 nlink=1 sha256digest=… inode=77 ctime=1769000000.5 xattr.user.note=<base64>
 *     ./acl.old type=file … hardlink=./acl.conf
 *     ./current type=link … link=mnesia/emqx@127.0.0.1
 *     # sealed: 5 entries, 2048 bytes, sha256 <of every byte above this line>
 *
 * Entries are in one order, parents before children, names of a directory in byte order: the order of a sorted walk.
 * inode and ctime tell, without reading it, that a file has not been touched since; they hold in one boot alone,
 * since a power cut may bring data to the disk and not the time of its change: loaded in another, they are dropped.
 * FIFOs and sockets are recorded with their type alone; device nodes cannot be recorded. Does not log. */

#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/sha256.h"

/* Longer paths are refused: a full path is kept for each entry. 16 times PATH_MAX. */
#define MANIFEST_PATH_MAX 65536
#define MANIFEST_DEPTH_MAX 2048

typedef struct Manifest Manifest;

typedef struct Xattr {
        char *name; /* with its namespace; ACLs are system.posix_acl_access and …_default */
        void *value;
        size_t size_bytes;
} Xattr;

typedef struct ManifestEntry ManifestEntry;

struct ManifestEntry {
        char *path;  /* "." for the tree itself, else without leading "./" */
        mode_t mode; /* with the type; a FIFO or socket has that alone, and nothing below */
        uid_t uid;   /* as it was; a restore goes by uname where this machine knows it, by uid where not */
        gid_t gid;
        char *uname; /* NULL: the id had no name */
        char *gname;
        struct timespec mtime;
        Xattr *xattrs; /* by name */
        size_t n_xattrs;
        char *target;                 /* of a symlink */
        uint64_t size_bytes;          /* of a regular file, as the two below */
        uint64_t n_links;             /* as it was, links from outside the tree included */
        char sha256[SHA256_HEX_SIZE]; /* of the content */
        uint64_t inode;               /* of a regular file or symlink; 0: not known, nothing is told by the next */
        struct timespec ctime;        /* of its last change of any kind */
        const ManifestEntry *link_to; /* the first entry that is the same file; NULL: this is the first, or the only */
        size_t index;                 /* of this entry */
        size_t end;                   /* index behind the last entry below this one */
};

/* --- building: add in order, fill in, seal --- */

int manifest_new(Manifest **ret);
Manifest *manifest_free(Manifest *m);
DEFINE_CLEANUP(Manifest *, manifest_free)

/* Appends an entry with a copy of path and all else empty; the caller fills it in, its mode before the next one is
 * added. *ret is the manifest's, and stays where it is. -EBADMSG with *ret_why (static) where path is no proper
 * relative one, is not behind the last one in order, or has no directory before it. */
int manifest_add(Manifest *m, const char *path, ManifestEntry **ret, const char **ret_why);

/* Takes the entry that was added last, and is no directory, out again. */
void manifest_take_back(Manifest *m);

/* Makes all of e but its path what it is in from, which is no link. */
int manifest_entry_copy(ManifestEntry *e, const ManifestEntry *from);

/* Frees what an entry has, for one that stands in no manifest. */
void manifest_entry_done(ManifestEntry *e);

/* Completes the manifest: nothing is added afterwards, and only now are `end` and the number of bytes right. */
void manifest_seal(Manifest *m);

/* --- reading --- */

size_t manifest_n_entries(const Manifest *m);
uint64_t manifest_n_bytes(const Manifest *m); /* content of regular files, hard-linked ones counted once */
const ManifestEntry *manifest_at(const Manifest *m, size_t index);       /* NULL: behind the last */
const ManifestEntry *manifest_find(const Manifest *m, const char *path); /* NULL: not in it */

#define MANIFEST_FOREACH(e, m) for (const ManifestEntry *e = manifest_at(m, 0); e; e = manifest_at(m, e->index + 1))

/* Order of entries: strcmp() with '/' below every other byte, and "." before all. */
int manifest_path_compare(const char *a, const char *b);

/* The file that st describes is the one of e, and nothing about it has changed since e was filled in. False where that
 * cannot be told without looking at it. Owners are to be compared nevertheless: the names of ids may have changed. */
bool manifest_untouched(const ManifestEntry *e, const struct stat *st);

/* Fills in inode and ctime from st, unless a change after now_realtime (when reading e's file began) could leave the
 * file with the same times. */
void manifest_note_untouched(ManifestEntry *e, const struct stat *st, const struct timespec *now_realtime);

/* The boot of the machine that inode and ctime hold in; 32 hex digits. */
const char *manifest_boot(const Manifest *m);

/* --- the file --- */

/* Replaces dir_fd/name durably (mode 0600): after 0 it survives a power cut. */
int manifest_write_at(const Manifest *m, int dir_fd, const char *name, Error *reterr);

/* -EBADMSG with file and line where it is truncated, damaged, or says what no tree can be: absolute names, "..",
 * duplicates, missing parents, unknown or doubled keywords, device nodes. -ENOENT: there is none. */
int manifest_load_at(int dir_fd, const char *name, Manifest **ret, Error *reterr);
