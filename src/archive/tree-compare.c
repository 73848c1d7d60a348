/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>

#include "archive/difference.h"
#include "archive/tree.h"
#include "archive/where.h"

const char *tree_difference_text(char buf[static TREE_DIFFERENCE_TEXT_MAX], unsigned differences) {
        static const struct {
                TreeDifference bit;
                const char *name;
        } names[] = {
                { TREE_MISSING, "missing" },
                { TREE_EXTRA, "extra" },
                { TREE_TYPE, "type" },
                { TREE_CONTENT, "content" },
                { TREE_LINKS, "links" },
                { TREE_OWNER, "owner" },
                { TREE_MODE, "mode" },
                { TREE_XATTRS, "xattrs" },
                { TREE_TIME, "time" },
        };
        char *p = buf;

        *p = 0;
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (differences & names[i].bit) {
                        p = stpcpy(p, p > buf ? ", " : "");
                        p = stpcpy(p, names[i].name);
                }
        return buf;
}

/* difference(), which counts as done whatever of the entry's content need not be read. */
static int compare_entry(Comparison *c, const WalkNode *n, unsigned *ret) {
        const ManifestEntry *e = n->entry;
        const uint64_t before_bytes = c->copier.bytes_done;
        const bool counted = S_ISREG(e->mode) && !group_first(c, e);
        uint64_t read_bytes;
        int r;

        r = difference(c, n, ret);
        if (r < 0)
                return r;
        read_bytes = c->copier.bytes_done - before_bytes;
        if (!counted) /* in the bytes of the manifest */
                c->copier.bytes_total += read_bytes;
        c->copier.path = n->path;
        return copier_tick(&c->copier, counted ? e->size_bytes - MIN(read_bytes, e->size_bytes) : 0);
}

/* --- compare --- */

typedef struct Compare {
        Comparison comparison;
        TreeDifferenceFunc func;
        void *userdata;
        uint64_t n_differences;
} Compare;

static void report(Compare *s, const WalkNode *n, unsigned differences) {
        if (differences == 0)
                return;
        s->n_differences++;
        if (s->func)
                s->func(n->path, differences, s->userdata);
}

static int compare_visit(WalkNode *n, void *userdata) {
        Compare *s = userdata;
        Comparison *c = &s->comparison;
        const ManifestEntry *e = node_entry(n);
        unsigned d;
        int r;

        switch (verdict(c, n)) {
        case TREE_LEAVE: return WALK_SKIP;
        case TREE_DROP: report(s, n, n->exists ? TREE_EXTRA : 0); return WALK_SKIP;
        case TREE_CARRY: break;
        }
        if (!e) {
                if (!n->exists || is_special(n->st.st_mode))
                        return WALK_SKIP;
                if (!c->rules->exact)
                        return S_ISDIR(n->st.st_mode) ? WALK_DESCEND : WALK_SKIP;
                report(s, n, TREE_EXTRA);
                return WALK_SKIP;
        }

        r = compare_entry(c, n, &d);
        if (r < 0)
                return r;
        report(s, n, d);
        if (n->exists && !group_first(c, e)) {
                r = group_set(c, e, &n->st, d);
                if (r < 0)
                        return r;
        }
        return S_ISDIR(e->mode) && n->exists && S_ISDIR(n->st.st_mode) ? WALK_DESCEND : WALK_SKIP;
}

int tree_compare(const Manifest *m, int live_fd, const TreeRules *rules, const TreeProgress *progress,
                TreeDifferenceFunc func, void *userdata, Error *reterr) {
        _cleanup_(owners_freep) Owners *owners = NULL;
        Compare s = { .func = func, .userdata = userdata };
        int r;

        r = owners_new(&owners);
        if (r >= 0)
                r = comparison_init(&s.comparison, m, live_fd, rules, owners, progress, reterr);
        if (r >= 0)
                r = walk(&(Walk){ .root_fd = live_fd,
                                .manifest = m,
                                .visit = compare_visit,
                                .userdata = &s,
                                .reterr = reterr });
        comparison_done(&s.comparison);
        return r < 0 ? r : s.n_differences > 0;
}

/* --- save what differs --- */

typedef struct Save {
        Comparison comparison;
        int dst_fd;
        uint64_t n_saved;
        Error *reterr;
} Save;

/* Makes n's directory in dst, and those above it, where that has not been done. */
static int make_peer(Save *s, WalkNode *n) {
        int r;

        if (n->peer_fd >= 0)
                return 0;
        r = make_peer(s, n->parent);
        if (r < 0)
                return r;
        if (mkdirat(n->parent->peer_fd, n->name, 0700) < 0)
                r = -errno;
        else
                r = n->peer_fd = open_child(n->parent->peer_fd, n->name, O_RDONLY | O_DIRECTORY);
        return r < 0 ? where_error(s->reterr, r, n->parent->peer_fd, n->name, "directory cannot be made:") : 0;
}

static int save_file(Save *s, WalkNode *n) {
        _cleanup_(manifest_entry_done) ManifestEntry copy = { .path = strdup(n->path) };
        int r;

        if (!copy.path)
                return -ENOMEM;
        if (S_ISREG(n->st.st_mode))
                s->comparison.copier.bytes_total += (uint64_t) n->st.st_size; /* besides those of the manifest */
        r = make_peer(s, n->parent);
        if (r >= 0)
                r = copy_node(&s->comparison.copier, &s->comparison.metadata, n, n->parent->peer_fd, &copy);
        s->n_saved++;
        return r < 0 ? r : WALK_SKIP;
}

static int save_visit(WalkNode *n, void *userdata) {
        Save *s = userdata;
        Comparison *c = &s->comparison;
        const ManifestEntry *e = node_entry(n);
        unsigned d = TREE_EXTRA;
        int r;

        if (!n->parent) {
                n->peer_fd = fcntl(s->dst_fd, F_DUPFD_CLOEXEC, 3);
                return n->peer_fd < 0 ? -errno : WALK_DESCEND;
        }
        if (!n->exists || is_special(n->st.st_mode) || is_device(n->st.st_mode) || verdict(c, n) == TREE_LEAVE)
                return WALK_SKIP;
        if (e) {
                r = compare_entry(c, n, &d);
                if (r >= 0 && !group_first(c, e))
                        r = group_set(c, e, &n->st, d);
                if (r < 0)
                        return r;
        }

        if (!S_ISDIR(n->st.st_mode))
                return d == 0 ? WALK_SKIP : save_file(s, n);
        if (d & ~TREE_TIME) {
                r = make_peer(s, n);
                if (r < 0)
                        return r;
                s->n_saved++;
        }
        return WALK_DESCEND;
}

static int save_leave(WalkNode *n, void *userdata) {
        _cleanup_(manifest_entry_done) ManifestEntry copy = { 0 };
        Save *s = userdata;
        int r;

        if (n->peer_fd < 0 || !n->parent)
                return 0;
        copy.path = strdup(n->path);
        if (!copy.path)
                return -ENOMEM;
        r = metadata_read(&s->comparison.metadata, n->fd, &n->st, n->path, &copy);
        return r < 0 ? r : metadata_apply(&s->comparison.metadata, n->peer_fd, &copy);
}

int tree_save_differences(const Manifest *m, int live_fd, int dst_fd, const TreeRules *rules,
                const TreeProgress *progress, uint64_t *ret_n, Error *reterr) {
        _cleanup_(owners_freep) Owners *owners = NULL;
        Save s = { .dst_fd = dst_fd, .reterr = reterr };
        int r;

        r = tree_empty(dst_fd, reterr);
        if (r >= 0)
                r = owners_new(&owners);
        if (r >= 0)
                r = comparison_init(&s.comparison, m, live_fd, rules, owners, progress, reterr);
        if (r >= 0)
                r = walk(&(Walk){ .root_fd = live_fd,
                                .manifest = m,
                                .visit = save_visit,
                                .leave = save_leave,
                                .userdata = &s,
                                .reterr = reterr });
        comparison_done(&s.comparison);
        if (r < 0)
                return r;
        if (syncfs(dst_fd) < 0)
                return where_error(reterr, -errno, dst_fd, ".", "cannot be written to disk:");
        if (ret_n)
                *ret_n = s.n_saved;
        return 0;
}
