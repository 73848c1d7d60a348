/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/difference.h"

#include <fcntl.h>

#include "archive/where.h"

struct LinkGroup {
        char *first; /* its path in live, which rules may have made another than in the manifest; NULL: none yet */
        dev_t dev;
        ino_t ino;
        unsigned differences;
};

int comparison_init(Comparison *c, const Manifest *m, int live_fd, const TreeRules *rules, Owners *owners,
                const TreeProgress *progress, Error *reterr) {
        static const TreeRules carry_all = { 0 };

        *c = (Comparison){
                .metadata = { .owners = owners, .root_fd = live_fd, .reterr = reterr },
                .copier = { .root_fd = live_fd,
                                .progress = progress,
                                .bytes_total = manifest_n_bytes(m),
                                .reterr = reterr },
                .rules = rules ?: &carry_all,
                .groups = calloc(manifest_n_link_groups(m) + 1, sizeof(LinkGroup)),
                .n_groups = manifest_n_link_groups(m),
        };
        return c->groups ? 0 : -ENOMEM;
}

void comparison_done(Comparison *c) {
        for (size_t i = 0; i < c->n_groups && c->groups; i++)
                free(c->groups[i].first);
        c->groups = mfree(c->groups);
        copier_done(&c->copier);
}

TreeVerdict verdict(const Comparison *c, const WalkNode *n) {
        if (!n->parent || !c->rules->decide)
                return TREE_CARRY;
        return c->rules->decide(n->path, n->entry, c->rules->userdata);
}

const ManifestEntry *node_entry(const WalkNode *n) {
        return n->entry && !is_special(n->entry->mode) ? n->entry : NULL;
}

/* NULL: no other entry is a link to e. */
static LinkGroup *group_of(const Comparison *c, const ManifestEntry *e) {
        const ManifestEntry *first = e->link_to ?: e;

        return manifest_is_first_link(first) ? c->groups + first->link_group : NULL;
}

int group_set(Comparison *c, const ManifestEntry *e, const struct stat *st, unsigned differences) {
        LinkGroup *g = group_of(c, e);
        int r;

        if (!g || !S_ISREG(st->st_mode))
                return 0;
        r = free_and_strdup(&g->first, e->path);
        if (r < 0)
                return r;
        g->dev = st->st_dev;
        g->ino = st->st_ino;
        g->differences = differences;
        return 0;
}

const char *group_first(const Comparison *c, const ManifestEntry *e) {
        const LinkGroup *g = group_of(c, e);

        return g ? g->first : NULL;
}

static int same_content(Comparison *c, const WalkNode *n) {
        _cleanup_close_ int fd = -1;
        char sha256[SHA256_HEX_SIZE];
        int r;

        assert(n->parent); /* the tree itself is a directory */
        fd = open_regular(n->parent->fd, n->name, &n->st);
        if (fd < 0)
                return where_error(c->metadata.reterr, fd, c->metadata.root_fd, n->path, "cannot be read:");
        c->copier.path = n->path;
        r = digest_file(&c->copier, fd, sha256);
        return r < 0 ? r : streq(sha256, n->entry->sha256);
}

static int same_target(Comparison *c, const WalkNode *n) {
        _cleanup_free_ char *target = NULL;
        int r;

        assert(n->parent);
        r = read_target(n->parent->fd, n->name, &target);
        if (r < 0)
                return where_error(c->metadata.reterr, r, c->metadata.root_fd, n->path, "cannot be read:");
        return streq(target, n->entry->target);
}

/* Whether a file of the right size need not be read; d is how its metadata differ. */
static bool told_by_times(const TreeRules *rules, const WalkNode *n, unsigned d) {
        return !(d & TREE_TIME) && (rules->trust_times || (rules->trust_inode && n->entry->inode == n->st.st_ino));
}

int difference(Comparison *c, const WalkNode *n, unsigned *ret) {
        const ManifestEntry *e = n->entry;
        unsigned d = 0;
        int r = 1;

        *ret = TREE_MISSING;
        if (!n->exists)
                return 0;
        *ret = TREE_TYPE;
        if ((n->st.st_mode & S_IFMT) != (e->mode & S_IFMT))
                return 0;

        if (S_ISREG(e->mode)) {
                const LinkGroup *g = group_of(c, e);

                if (g && g->first && g->dev == n->st.st_dev && g->ino == n->st.st_ino) {
                        *ret = g->differences;
                        return 0;
                }
                if ((g && g->first) || (uint64_t) n->st.st_nlink > e->n_links)
                        d |= TREE_LINKS;
        }

        if (manifest_untouched(e, &n->st)) {
                r = metadata_compare(&c->metadata, -1, NULL, &n->st, e, ret);
                *ret |= d;
                return r;
        }

        r = metadata_compare(&c->metadata, n->parent ? n->parent->fd : c->metadata.root_fd, n->name, &n->st, e, ret);
        if (r < 0)
                return r;
        d |= *ret;

        if (S_ISLNK(e->mode))
                r = same_target(c, n);
        else if (S_ISREG(e->mode) && (uint64_t) n->st.st_size != e->size_bytes)
                r = 0;
        else if (S_ISREG(e->mode) && !told_by_times(c->rules, n, d))
                r = same_content(c, n);
        else
                r = 1;
        if (r < 0)
                return r;
        *ret = d | (r == 0 ? TREE_CONTENT : 0);
        return 0;
}
