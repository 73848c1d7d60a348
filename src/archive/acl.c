/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/acl.h"

#include <archive.h>
#include <endian.h>

#define ACL_VERSION 2
#define ENTRIES_MAX 8192 /* what an xattr of the kernel's largest size has room for */

/* linux/posix_acl_xattr.h, little-endian */
typedef struct KernelEntry {
        uint16_t tag, perm;
        uint32_t id;
} KernelEntry;

static const struct {
        uint16_t kernel;
        int archive;
        bool is_user, is_group;
} tags[] = {
        { 0x01, ARCHIVE_ENTRY_ACL_USER_OBJ, false, false },
        { 0x02, ARCHIVE_ENTRY_ACL_USER, true, false },
        { 0x04, ARCHIVE_ENTRY_ACL_GROUP_OBJ, false, false },
        { 0x08, ARCHIVE_ENTRY_ACL_GROUP, false, true },
        { 0x10, ARCHIVE_ENTRY_ACL_MASK, false, false },
        { 0x20, ARCHIVE_ENTRY_ACL_OTHER, false, false },
};

static int type_of(const char *name) {
        return streq(name, "system.posix_acl_access")             ? ARCHIVE_ENTRY_ACL_TYPE_ACCESS
                        : streq(name, "system.posix_acl_default") ? ARCHIVE_ENTRY_ACL_TYPE_DEFAULT
                                                                  : 0;
}

bool acl_is_xattr(const Xattr *x) {
        return type_of(x->name) != 0;
}

/* -EBADMSG, or how many entries x has. */
static int n_entries(const Xattr *x) {
        uint32_t version;

        if (x->size_bytes < sizeof(version) || (x->size_bytes - sizeof(version)) % sizeof(KernelEntry) != 0 ||
                        x->size_bytes > ENTRIES_MAX * sizeof(KernelEntry))
                return -EBADMSG;
        memcpy(&version, x->value, sizeof(version));
        return le32toh(version) == ACL_VERSION ? (int) ((x->size_bytes - sizeof(version)) / sizeof(KernelEntry))
                                               : -EBADMSG;
}

/* Entry i of x, in the host's order; *ret_tag is an index of tags[]. */
static int entry_at(const Xattr *x, int i, KernelEntry *ret, size_t *ret_tag) {
        memcpy(ret, (const char *) x->value + sizeof(uint32_t) + (size_t) i * sizeof(KernelEntry),
                        sizeof(KernelEntry));
        *ret = (KernelEntry){ le16toh(ret->tag), le16toh(ret->perm), le32toh(ret->id) };
        for (size_t k = 0; k < ELEMENTSOF(tags); k++)
                if (tags[k].kernel == ret->tag && ret->perm <= 7) {
                        *ret_tag = k;
                        return 0;
                }
        return -EBADMSG;
}

int acl_to_entry(const Xattr *x, Owners *owners, struct archive_entry *entry) {
        int n = n_entries(x), r;

        if (n < 0)
                return n;
        for (int i = 0; i < n; i++) {
                const char *name = NULL;
                KernelEntry e;
                size_t k;

                r = entry_at(x, i, &e, &k);
                if (r >= 0 && tags[k].is_user)
                        r = owners_user_name(owners, e.id, &name);
                if (r >= 0 && tags[k].is_group)
                        r = owners_group_name(owners, e.id, &name);
                if (r < 0)
                        return r;
                /* The kernel's bits for rwx are those of libarchive. */
                if (archive_entry_acl_add_entry(entry, type_of(x->name), e.perm, tags[k].archive,
                                    tags[k].is_user || tags[k].is_group ? (int) e.id : -1, name) != ARCHIVE_OK)
                        return -ENOMEM;
        }
        return 0;
}

bool acl_equals_entry(const Xattr *x, struct archive_entry *entry) {
        int type, permset, tag, id, n = n_entries(x), n_found = 0;
        const char *name;

        (void) archive_entry_acl_reset(entry, type_of(x->name));
        while (n >= 0 &&
                        archive_entry_acl_next(entry, type_of(x->name), &type, &permset, &tag, &id, &name) ==
                                        ARCHIVE_OK) {
                bool found = false;

                for (int i = 0; i < n && !found; i++) {
                        KernelEntry e;
                        size_t k;

                        if (entry_at(x, i, &e, &k) < 0)
                                return false;
                        found = tags[k].archive == tag && e.perm == permset &&
                                        (!(tags[k].is_user || tags[k].is_group) || e.id == (uint32_t) id);
                }
                if (!found)
                        return false;
                n_found++;
        }
        return n >= 0 && n_found == n;
}

unsigned acl_count(struct archive_entry *entry) {
        return (archive_entry_acl_count(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS) > 0) +
                        (archive_entry_acl_count(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT) > 0);
}
