/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/carry.h"

#include <fnmatch.h>

static const CarryRule rules[] = {
        { true, "patches/*", false, TREE_DROP, false, true,
                        "hot patches of the old release would shadow code of the new one" },
        { true, "configs/*", false, TREE_DROP, false, false,
                        "generated at each boot; an old vm.args would point commands at paths of the old release" },
        { true, "emqx_erl_pipes", false, TREE_LEAVE, false, false, "pipes of run_erl, made anew at each start" },
        { false, "*.dpkg-dist", true, TREE_DROP, true, true, "a default of the new package beside a file of yours" },
        { false, "*.dpkg-new", true, TREE_DROP, true, true, "a default of the new package beside a file of yours" },
        { false, "*.dpkg-old", true, TREE_DROP, true, true, "a file that the package manager has replaced" },
        { false, "*.rpmnew", true, TREE_DROP, true, true, "a default of the new package beside a file of yours" },
        { false, "*.rpmsave", true, TREE_DROP, true, true,
                        "a file of yours that the package manager has set aside, and that is restored" },
        { false, "*.rpmorig", true, TREE_DROP, true, true, "a file that the package manager has replaced" },
};

/* path of tree, as seen from dir; NULL: it is not in there. */
static const char *seen_from(const char *dir, const PlanTree *tree, const char *path) {
        size_t n = strlen(tree->real);
        const char *rest = startswith(tree->real, dir);

        if (rest && *rest == 0)
                return path;
        if (rest && *rest == '/')
                return NULL; /* the tree lies deeper in dir: a tree of its own has none of what the rules name */
        /* dir lies in the tree: what is above it in path has to fit. */
        rest = startswith(dir, tree->real);
        if (!rest || *rest != '/')
                return NULL;
        rest = startswith(path, dir + n + 1);
        return rest && *rest == '/' ? rest + 1 : NULL;
}

const CarryRule *carry_rule(const Plan *p, const PlanTree *tree, const char *path, bool old) {
        const char *in_data = seen_from(p->data_real, tree, path);

        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                const CarryRule *r = &rules[i];

                if (r->new_only && old)
                        continue;
                if (r->in_data ? in_data && fnmatch(r->pattern, in_data, FNM_PATHNAME) == 0
                               : fnmatch(r->pattern, path, 0) == 0)
                        return r;
        }
        return NULL;
}
