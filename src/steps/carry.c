/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/carry.h"

#include <fnmatch.h>

/* Facts 4.1 and 4.2. What is carried comes first, for completeness: so is what no row names. */
static const CarryRule rules[] = {
        { true, "mnesia", false, TREE_CARRY, false, false,
                        "membership of the cluster, users, rules, applications, what is retained on disc" },
        { true, "loaded_plugins", false, TREE_CARRY, false, false,
                        "without it no plugin is loaded; a package has its default in that place" },
        { true, "loaded_modules", false, TREE_CARRY, false, false,
                        "without it no module is loaded, and acl.conf not enforced; a package has its default there" },
        { true, "rules", false, TREE_CARRY, false, false, "TLS files of resources, which name them by their paths" },
        { true, "replayq", false, TREE_CARRY, false, false, "messages of bridges that were not delivered yet" },
        { true, "scripts", false, TREE_CARRY, false, false, "hooks in Lua" },
        { true, "emqx-export-*.json", false, TREE_CARRY, false, false, "exports, made by hand" },
        { true, "backup", false, TREE_CARRY, false, false, "exports of 4.4.2 and later" },
        { true, ".erlang.cookie", false, TREE_CARRY, false, false,
                        "with its mode and owner, without which no VM starts" },
        { true, "plugins", false, TREE_CARRY, false, false,
                        "external plugins, compiled for the old release: inspect warns of them, what to do is yours" },
        { true, "trace", false, TREE_CARRY, false, false, "traces, which 4.4 alone makes" },
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

/* Of a rule that is not in_data: its pattern is "*" and an ending. */
static bool carry_name_ends(const char *name, const CarryRule *rule) {
        return endswith(name, rule->pattern + 1);
}

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

        assert(path);
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                const CarryRule *r = &rules[i];

                if (r->verdict == TREE_CARRY || (r->new_only && old))
                        continue;
                if (r->in_data ? in_data && fnmatch(r->pattern, in_data, FNM_PATHNAME) == 0 : carry_name_ends(path, r))
                        return r;
        }
        return NULL;
}

bool carry_keeps_aside(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(rules); i++)
                if (rules[i].keep_aside && carry_name_ends(name, &rules[i]))
                        return true;
        return false;
}

const CarryRule *carry_rule_at(size_t i) {
        return i < ELEMENTSOF(rules) ? &rules[i] : NULL;
}
