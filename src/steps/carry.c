/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/carry.h"

#include <fnmatch.h>

static const CarryRule rules[] = {
        { "data", "patches/*", false, TREE_DROP, false, true,
                        "hot patches of the old release would shadow code of the new one" },
        { "data", "configs/*", false, TREE_DROP, false, false,
                        "generated at each boot; an old vm.args would point commands at paths of the old release" },
        { "data", "emqx_erl_pipes", false, TREE_LEAVE, false, false, "pipes of run_erl, made anew at each start" },
        { NULL, "*.dpkg-dist", true, TREE_DROP, true, true, "a default of the new package beside a file of yours" },
        { NULL, "*.dpkg-new", true, TREE_DROP, true, true, "a default of the new package beside a file of yours" },
        { NULL, "*.dpkg-old", true, TREE_DROP, true, true, "a file that the package manager has replaced" },
};

const CarryRule *carry_rule(const char *tree, const char *path, bool old) {
        for (size_t i = 0; i < ELEMENTSOF(rules); i++)
                if ((!rules[i].tree || streq(rules[i].tree, tree)) && !(rules[i].new_only && old) &&
                                fnmatch(rules[i].pattern, path, strchr(rules[i].pattern, '/') ? FNM_PATHNAME : 0) == 0)
                        return &rules[i];
        return NULL;
}
