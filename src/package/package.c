/* SPDX-License-Identifier: Apache-2.0 */

#include "package/package.h"

static const PackageKind *const kinds[] = {
        &package_kind_deb,
        &package_kind_rpm,
        &package_kind_zip,
};

Package *package_free(Package *p) {
        if (!p)
                return NULL;
        free(p->path);
        free(p->name);
        free(p->version);
        free(p->arch);
        free(p->release);
        return mfree(p);
}

void installed_list_done(InstalledList *l) {
        for (size_t i = 0; i < l->n; i++) {
                free(l->items[i].name);
                free(l->items[i].version);
                free(l->items[i].arch);
                free(l->items[i].state);
        }
        l->items = mfree(l->items);
        l->n = 0;
}

int package_kind_detect(char *const *names, const char *root_dir, const PackageKind **ret, Error *reterr) {
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
                _cleanup_(installed_list_done) InstalledList list = { NULL, 0 };
                int r;

                if (!kinds[i]->present())
                        continue;
                r = kinds[i]->query(names, root_dir, &list, reterr);
                if (r < 0)
                        return r;
                if (list.n > 0) {
                        *ret = kinds[i];
                        return 0;
                }
        }
        return error_set(reterr, -ENOENT, "Install EMQX 4.3 from its package first.",
                        "No EMQX is installed on this host");
}

const PackageKind *package_kind_find(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++)
                if (streq_ptr(kinds[i]->name, name))
                        return kinds[i];
        return NULL;
}
