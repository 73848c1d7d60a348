/* SPDX-License-Identifier: Apache-2.0 */

#include "package/extract.h"

#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SPARE_BYTES ((uint64_t) 64 << 20) /* what a package says of its size is an estimate */

static struct archive *writer_free(struct archive *a) {
        (void) archive_write_free(a);
        return NULL;
}
DEFINE_CLEANUP(struct archive *, writer_free)

/* "./usr/lib/emqx/bin/emqx" to "bin/emqx"; NULL: it is not below prefix, or is prefix itself. */
static const char *below(const char *name, const char *prefix) {
        const char *rest;

        if (!name)
                return NULL;
        name += startswith(name, "./") ? 1 : 0;
        if (*name != '/')
                prefix++;
        rest = startswith(name, prefix);
        return rest && *rest == '/' && rest[1] ? rest + 1 : NULL;
}

static int bad(const Package *p, struct archive *a, const char *why, Error *reterr) {
        return error_set(reterr, -EBADMSG, "Fetch the package again.", "%s: %s", p->path,
                        why ?: archive_error_string(a) ?: "damaged");
}

/* libarchive's words are "Write failed", say, and the reason is in its number, which is -1 where there is none. */
static int cannot_extract(const Package *p, struct archive *disk, Error *reterr) {
        int why = archive_errno(disk);

        return error_set(reterr, why > 0 ? -why : -EIO,
                        why == ENOSPC || why == EDQUOT ? "Make room in the state directory." : NULL,
                        "Cannot extract %s: %s%s%s", p->path, archive_error_string(disk), why > 0 ? ": " : "",
                        why > 0 ? strerror(why) : "");
}

static int copy_content(const Package *p, struct archive *a, struct archive *disk, uint64_t *left, Error *reterr) {
        const void *block;
        int64_t offset;
        size_t size;
        int r;

        while ((r = archive_read_data_block(a, &block, &size, &offset)) == ARCHIVE_OK) {
                if (size > *left)
                        return bad(p, NULL, "it holds more than it says", reterr);
                *left -= size;
                if (archive_write_data_block(disk, block, size, offset) < 0)
                        return cannot_extract(p, disk, reterr);
        }
        return r == ARCHIVE_EOF ? 0 : bad(p, a, NULL, reterr);
}

/* In the working directory. */
static int extract(const Package *p, struct archive *a, const char *prefix, Error *reterr) {
        _cleanup_(writer_freep) struct archive *disk = archive_write_disk_new();
        uint64_t left = 2 * p->installed_bytes + SPARE_BYTES;
        struct archive_entry *entry;
        bool any = false;
        int r;

        if (!disk)
                return -ENOMEM;
        (void) archive_write_disk_set_options(disk,
                        ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                                        ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS | ARCHIVE_EXTRACT_PERM |
                                        ARCHIVE_EXTRACT_UNLINK);
        while ((r = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
                const char *name = below(archive_entry_pathname(entry), prefix), *link = archive_entry_hardlink(entry);
                _cleanup_free_ char *name_copy = NULL, *link_copy = NULL;
                mode_t type = archive_entry_filetype(entry);

                if (!name || (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK && !link))
                        continue;
                name_copy = strdup(name);
                link_copy = link && below(link, prefix) ? strdup(below(link, prefix)) : NULL;
                if (!name_copy || (link && below(link, prefix) && !link_copy))
                        return -ENOMEM;
                archive_entry_set_pathname(entry, name_copy);
                if (link)
                        archive_entry_set_hardlink(entry, link_copy);
                /* Whoever runs it is not we. */
                archive_entry_set_perm(entry, type == AE_IFDIR || (archive_entry_perm(entry) & 0111) ? 0755 : 0644);
                if (archive_write_header(disk, entry) != ARCHIVE_OK)
                        return cannot_extract(p, disk, reterr);
                r = copy_content(p, a, disk, &left, reterr);
                if (r < 0)
                        return r;
                any = true;
        }
        if (r != ARCHIVE_EOF)
                return bad(p, a, NULL, reterr);
        return any ? 0 : bad(p, NULL, "it has nothing in the directory of the program", reterr);
}

/* libarchive writes below the working directory alone. */
int extract_program(const Package *p, struct archive *a, const char *prefix, int dir_fd, Error *reterr) {
        _cleanup_close_ int old_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        mode_t old_umask;
        int r;

        if (old_fd < 0 || fchdir(dir_fd) < 0)
                return error_set(reterr, -errno, NULL, "Cannot change the working directory: %m");
        old_umask = umask(0022);
        r = extract(p, a, prefix, reterr);
        (void) umask(old_umask);
        if (fchdir(old_fd) < 0 && r >= 0)
                r = error_set(reterr, -errno, NULL, "Cannot change the working directory back: %m");
        return r;
}
