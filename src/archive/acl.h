/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* ACL: POSIX ACLs, which the kernel keeps in two xattrs (acl(5), linux/posix_acl_xattr.h) and an archive in a form of its
 * own. Does not log. */

#include <archive_entry.h>

#include "archive/manifest.h"
#include "archive/owner.h"

/* Whether x is an ACL at all. */
bool acl_is_xattr(const Xattr *x);

/* Gives entry the ACL that x holds, with the names that its ids have here. -EBADMSG: it is none that the kernel makes. */
int acl_to_entry(const Xattr *x, Owners *owners, struct archive_entry *entry);

/* Whether the ACL of the kind of x that entry has is that of x. */
bool acl_equals_entry(const Xattr *x, struct archive_entry *entry);

/* How many ACLs entry has: access and default. */
unsigned acl_count(struct archive_entry *entry);
