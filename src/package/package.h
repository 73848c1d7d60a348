/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Package: a package file, and the package manager that installs it. One row of a table per kind. What a file is, is
 * read from the file itself, never from its name. Does not log. */

#include "base/error.h"
#include "base/process.h"
#include "base/sha256.h"
#include "base/strv.h"

typedef struct Package {
        char *path;
        char *name;    /* "emqx" */
        char *version; /* the release: "4.4.0" */
        char *arch;    /* in the package manager's own words: "amd64" */
        char *release; /* of an rpm: "otp24.1.5_3.el8"; else NULL */
        uint64_t size_bytes;
        uint64_t installed_bytes; /* 0: it does not say */
} Package;

Package *package_free(Package *p);
DEFINE_CLEANUP(Package *, package_free)

typedef struct Installed {
        char *name;
        char *version;
        char *arch;
        char *state;   /* for people: "install ok installed" */
        bool complete; /* unpacked, configured, and meant to stay */
        bool held;     /* not to be upgraded, unless somebody names it */
} Installed;

typedef struct InstalledList {
        Installed *items;
        size_t n;
} InstalledList;

void installed_list_done(InstalledList *l);

/* How a package manager is run. */
typedef struct PackageRun {
        ProcessLineFunc on_line; /* what it prints */
        void *userdata;

        /* For remove: the file of the package that is to go. Where its installation was broken off in the middle of
         * the unpacking, it is unpacked again, so that all of it can be removed. NULL: the rest of it may stay. */
        const char *repair_path;
} PackageRun;

typedef struct PackageKind {
        const char *name;             /* "deb" */
        const char *default_root_dir; /* where its packages put the program */

        /* The lock of the package manager, taken with lock_take(); NULL: none. lock_kept: its programs can be told that
         * it is ours, so it is while remove, install and mend run. Otherwise it is waited for while the node serves,
         * and given back: they take it themselves, and wait for it. */
        const char *lock_path;
        bool lock_kept;

        /* Where it keeps what it has downloaded: directories as glob(7) patterns, NULL-terminated; NULL: nowhere. */
        const char *const *cache_dirs;

        /* Whether this package manager looks after this host. */
        bool (*present)(void);

        /* Metadata of a package file; -EBADMSG: it is none, or damaged as far as it was read. */
        int (*read)(const char *path, Package **ret, Error *reterr);

        /* Reads all of it, to its end: -EBADMSG where something is missing or broken. */
        int (*verify)(const char *path, Error *reterr);

        /* Architecture of this host. */
        int (*host_arch)(char **ret, Error *reterr);

        /* Which of names (strv) are known to it, whatever their state. root_dir: where the program is, for a kind that
         * keeps no records. */
        int (*query)(char *const *names, const char *root_dir, InstalledList *ret, Error *reterr);

        /* 0 where no package, whichever it is, is half installed; -EUCLEAN: reterr names those that are. */
        int (*check_state)(Error *reterr);

        /* Whether p can take the place of what is there: architecture, dependencies, conflicts, packages that depend
         * on what would go. Changes nothing, needs no lock and no network. -ENOPKG: a dependency is missing. */
        int (*check_install)(const Package *p, Error *reterr);

        /* All three can be run again after an interruption anywhere. mend brings the package manager itself back to
         * work after one. remove leaves configuration and data; a package that is not installed is 0. install keeps
         * the configuration that is there, and goes to a lower version too. */
        int (*mend)(const PackageRun *run, Error *reterr);
        int (*remove)(const char *name, const PackageRun *run, Error *reterr);
        int (*install)(const Package *p, const PackageRun *run, Error *reterr);

        /* What makes upgrades of everything pass name over, or no longer: a command to run as root while the lock is the
         * caller's, which can be run again. The caller's; NULL: out of memory. can_hold NULL, or false: it has no such thing
         * here. */
        bool (*can_hold)(void);
        bool removal_ends_hold; /* so that it is to be put back with the next installation */
        char **(*hold_command)(const char *name, bool on);
        const char *unhold; /* what a person takes a hold away with, before the name */

        /* Extracts the program of p, what its package would have below root_dir, into dir_fd, which is empty: to ask it
         * something, never to run the node. Files are ours, for everybody to read. */
        int (*extract)(const Package *p, const char *root_dir, int dir_fd, Error *reterr);

        /* Writes to, a package with the same content as p, which installs in less time. NULL: there is nothing to gain. */
        int (*prepare)(const Package *p, const char *to, Error *reterr);

        /* A kind without a package manager has these instead of the three above: its program is a directory, and both
         * versions lie beside each other. unpack makes beside_dir of p, with the owner of root_dir, while the node
         * serves; it is there when all of it is on disk, and not before. exchange makes root_dir the one of both that is
         * version, at once; 0 where it is already. */
        int (*unpack)(const Package *p, const char *root_dir, const char *beside_dir, Error *reterr);
        int (*exchange)(const char *root_dir, const char *beside_dir, const char *version, Error *reterr);
} PackageKind;

extern const PackageKind package_kind_deb;
extern const PackageKind package_kind_rpm;
extern const PackageKind package_kind_zip;

/* The kind that has any of names (strv) installed, root_dir as in query; NULL with -ENOENT where none has. */
int package_kind_detect(char *const *names, const char *root_dir, const PackageKind **ret, Error *reterr);

/* By name; a name from a record of ours, so it is there. */
const PackageKind *package_kind_find(const char *name);
