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
 * FIFOs and sockets are recorded with their type alone; device nodes cannot be recorded.
 *
 * However many there are, they are never all in memory: a Manifest is its open file, and what it holds is one entry for
 * each file with more than one link. The file is read again by every ManifestReader, and is not to be changed in place.
 *
 *     manifest_new() ─▶ manifest_add() … ─▶ manifest_seal() ─▶ manifest_write_at()
 *     manifest_load_at() ─▶ manifest_reader_new() ─▶ manifest_read() …
 *
 * Does not log. */

#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/sha256.h"

/* Longer paths are refused. 16 times PATH_MAX. */
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
        size_t link_group;            /* of a first one with more than one link: how many such stand above it */
};

/* Whether e is a file that further entries may be links to. */
static inline bool manifest_is_first_link(const ManifestEntry *e) {
        return S_ISREG(e->mode) && e->n_links > 1 && !e->link_to;
}

/* --- building: add in order, fill in, seal --- */

/* Its text grows in a file without a name on the file system of the directory dir_fd. */
int manifest_new(int dir_fd, Manifest **ret);
Manifest *manifest_free(Manifest *m);
DEFINE_CLEANUP(Manifest *, manifest_free)

/* Appends an entry with a copy of path and all else empty; the caller fills it in before the next one is added, which
 * writes it. *ret is the manifest's, and stays until something is added that is not below it; where it is a first link,
 * as long as the manifest. -EBADMSG with *ret_why (static) where path is no proper relative one, is not behind the last
 * one in order, or has no directory before it; other errors are of the entry before, which cannot be written. */
int manifest_add(Manifest *m, const char *path, ManifestEntry **ret, const char **ret_why);

/* Takes the entry that was added last, and is no directory, out again. */
void manifest_take_back(Manifest *m);

/* Makes all of e but its path what it is in from, except that it is no link. */
int manifest_entry_copy(ManifestEntry *e, const ManifestEntry *from);

/* Frees what an entry has, for one that stands in no manifest. */
void manifest_entry_done(ManifestEntry *e);

/* Completes the manifest: nothing is added afterwards, and only now it can be read. */
int manifest_seal(Manifest *m);

/* --- reading --- */

size_t manifest_n_entries(const Manifest *m);
uint64_t manifest_n_bytes(const Manifest *m); /* content of regular files, hard-linked ones counted once */
size_t manifest_n_link_groups(const Manifest *m);

/* The first link of a hard-linked file, among what has been added or loaded so far; NULL: path is none. */
const ManifestEntry *manifest_first_link(const Manifest *m, const char *path);

typedef struct ManifestReader ManifestReader;

/* Borrows m, which is sealed; there may be several at a time. */
int manifest_reader_new(const Manifest *m, ManifestReader **ret);
ManifestReader *manifest_reader_free(ManifestReader *r);
DEFINE_CLEANUP(ManifestReader *, manifest_reader_free)

/* 1: *ret is the next entry, the reader's, until the next one is read; 0: there is none, *ret is NULL. The manifest was
 * found to be good when it was loaded: -EBADMSG is of a disk that gives something else now. */
int manifest_read(ManifestReader *r, const ManifestEntry **ret);

/* Makes the entry that was read last the caller's. */
ManifestEntry manifest_take(ManifestReader *r);

/* path stands below directory, at any depth. */
bool manifest_path_is_below(const char *path, const char *directory);

/* Order of entries: strcmp() with '/' below every other byte, and "." before all. */
int manifest_path_compare(const char *a, const char *b);

/* The file that st describes is the one of e, and nothing about it has changed since e was filled in. False where that
 * cannot be told without looking at it. Owners are to be compared nevertheless: the names of ids may have changed. */
bool manifest_untouched(const ManifestEntry *e, const struct stat *st);

/* Fills in inode and ctime from st, unless a change after now_realtime (CLOCK_REALTIME_COARSE, by which the kernel stamps
 * files, when reading e's file began) could leave the file with the same times. */
void manifest_note_untouched(ManifestEntry *e, const struct stat *st, const struct timespec *now_realtime);

/* The boot of the machine that inode and ctime hold in; 32 hex digits. */
const char *manifest_boot(const Manifest *m);

/* --- the file --- */

/* Replaces dir_fd/name durably (mode 0600): after 0 it survives a power cut. m can be read as before. */
int manifest_write_at(const Manifest *m, int dir_fd, const char *name, Error *reterr);

/* -EBADMSG with file and line where it is truncated, damaged, or says what no tree can be: absolute names, "..",
 * duplicates, missing parents, unknown or doubled keywords, device nodes. -ENOENT: there is none. */
int manifest_load_at(int dir_fd, const char *name, Manifest **ret, Error *reterr);
