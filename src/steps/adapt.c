/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/adapt.h"

#include <libgen.h>

#include "base/fileio.h"
#include "node/conf.h"

#define CONF_BYTES_MAX (4 * 1024 * 1024)

/* Of the keys that a 4.3 has and some 4.4 has not (Facts 4.3), those whose behaviour without them is known. A row is a
 * promise: nothing changes for a node whose value is this one. */
static const AdaptRule rules[] = {
        { "node.dist_use_interface", "0.0.0.0", 5, "the distribution port listens on every address",
                        "Facts 4.3; EMQX's configuration reference, node.dist_use_interface" },
        { "mqtt.exclusive_subscription", "false", 5, "there are no exclusive subscriptions", "Facts 4.3" },
        { "auth_order", "none", 11, "authentication plugins are asked in the order in which they were loaded",
                        "Facts 4.3" },
        { "acl_order", "none", 11, "authorisation plugins are asked in the order in which they were loaded",
                        "Facts 4.3" },
        { "broker.client_disconnect_discarded", "off", 11, "a discarded connection makes no client.disconnected event",
                        "emqx#9267, which brought the key and the event" },
        { "broker.client_disconnect_takeovered", "off", 11,
                        "a connection taken over makes no client.disconnected event",
                        "emqx#9267, which brought the key and the event" },
};

const AdaptRule *adapt_rule(const char *key) {
        for (size_t i = 0; i < ELEMENTSOF(rules); i++)
                if (streq(rules[i].key, key))
                        return &rules[i];
        return NULL;
}

int adapt_text(const Plan *p, char *const *dropped, const char *text, char **ret) {
        _cleanup_strv_ char **notes = NULL;
        time_t when = (time_t) (p->adapted_realtime_usec / USEC_PER_SEC);
        char date[32];
        struct tm tm;

        if (!gmtime_r(&when, &tm) || strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
                return -EINVAL;
        for (size_t i = 0; dropped[i]; i++) {
                const AdaptRule *rule = adapt_rule(dropped[i]);

                if (!rule)
                        return -EBADMSG;
                if (strv_extendf(&notes,
                                    "Taken out by emqx-upgrade on %s, upgrade %s: %s has no such setting, and without it %s.",
                                    date, p->id, p->to, rule->without) < 0)
                        return -ENOMEM;
        }
        return conf_comment_out(text, dropped, notes, ret);
}

const PlanAdapted *adapted_find(const Plan *p, const PlanTree *tree, const char *path) {
        for (size_t i = 0; i < p->n_adapted; i++)
                if (streq(p->adapted[i].tree, tree->name) && streq(p->adapted[i].path, path))
                        return &p->adapted[i];
        return NULL;
}

static int adapt_one(Context *c, int backup_fd, const PlanAdapted *a, Error *reterr) {
        _cleanup_free_ char *from = NULL, *to = NULL, *dir = NULL, *text = NULL, *adapted = NULL, *parent = NULL;
        char hex[SHA256_HEX_SIZE];
        int r;

        if (asprintf(&from, "tree/%s/%s", a->tree, a->path) < 0 ||
                        asprintf(&to, "adapted/%s/%s", a->tree, a->path) < 0)
                return -ENOMEM;
        parent = strdup(to);
        if (!parent || asprintf(&dir, STATE_DIR "/backups/%s/%s", c->plan->id, dirname(parent)) < 0)
                return -ENOMEM;

        r = read_file_at(backup_fd, from, CONF_BYTES_MAX, &text, NULL);
        if (r >= 0)
                r = sha256_buffer(text, strlen(text), hex);
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s in the backup %s: %m", from, c->plan->id);
        if (!streq(hex, a->sha256))
                return error_set(reterr, -ESTALE, "Start the upgrade again; it will go by what is there now.",
                                "%s was edited after %s had been asked about it", a->file, c->plan->to);
        r = adapt_text(c->plan, a->dropped, text, &adapted);
        if (r >= 0)
                r = sha256_buffer(adapted, strlen(adapted), hex);
        if (r >= 0 && !streq(hex, a->sha256_adapted))
                r = -EBADMSG;
        if (r >= 0)
                r = mkdir_parents(dir, 0700);
        if (r >= 0)
                r = replace_file_at(backup_fd, to, adapted, strlen(adapted), 0600);
        return r < 0 ? error_set(reterr, r, NULL, "Cannot make %s in the backup %s: %m", to, c->plan->id) : 0;
}

int adapt_backup(Context *c, int backup_fd, Error *reterr) {
        int r = 0;

        for (size_t i = 0; i < c->plan->n_adapted && r >= 0; i++)
                r = adapt_one(c, backup_fd, &c->plan->adapted[i], reterr);
        return r;
}

int adapted_holds(const Plan *p, int backup_fd, Error *reterr) {
        for (size_t i = 0; i < p->n_adapted; i++) {
                const PlanAdapted *a = &p->adapted[i];
                _cleanup_free_ char *name = NULL, *text = NULL;
                char hex[SHA256_HEX_SIZE];
                int r;

                if (asprintf(&name, "adapted/%s/%s", a->tree, a->path) < 0)
                        return -ENOMEM;
                r = read_file_at(backup_fd, name, CONF_BYTES_MAX, &text, NULL);
                if (r == -ENOENT)
                        return 0;
                if (r >= 0)
                        r = sha256_buffer(text, strlen(text), hex);
                if (r < 0)
                        return error_set(reterr, r, NULL, "Cannot read %s in the backup %s: %m", name, p->id);
                if (!streq(hex, a->sha256_adapted))
                        return 0;
        }
        return 1;
}

/* Whether a directory of the tree has something that is adapted in it. */
static bool is_above_adapted(const Plan *p, const PlanTree *tree, const char *path) {
        for (size_t i = 0; i < p->n_adapted; i++) {
                const char *rest = streq(p->adapted[i].tree, tree->name) ? startswith(p->adapted[i].path, path) : NULL;

                if (rest && *rest == '/')
                        return true;
        }
        return false;
}

static int add_entry(const Plan *p, const PlanAdapted *a, Manifest *m, const ManifestEntry *from, Error *reterr) {
        _cleanup_free_ char *name = NULL;
        ManifestEntry *e;
        const char *why;
        struct stat st;
        int r;

        r = manifest_add(m, from->path, &e, &why);
        if (r >= 0)
                r = manifest_entry_copy(e, from);
        if (r < 0 || !a)
                return r;
        if (!S_ISREG(from->mode))
                return error_set(reterr, -EBADMSG, NULL, "%s is no regular file in the backup %s", a->file, p->id);
        if (asprintf(&name, STATE_DIR "/backups/%s/adapted/%s/%s", p->id, a->tree, a->path) < 0)
                return -ENOMEM;
        if (stat(name, &st) < 0)
                return error_set(reterr, -errno, NULL, "Cannot look at %s: %m", name);
        e->size_bytes = (uint64_t) st.st_size;
        memcpy(e->sha256, a->sha256_adapted, SHA256_HEX_SIZE);
        e->mtime = (struct timespec){ (time_t) (p->adapted_realtime_usec / USEC_PER_SEC), 0 };
        e->inode = 0;
        e->n_links = 1;
        return 0;
}

int adapted_open(const Plan *p, int backup_fd, const BackupTree *t, Manifest **ret_manifest, int *ret_fd,
                Error *reterr) {
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_(manifest_reader_freep) ManifestReader *reader = NULL;
        _cleanup_close_ int fd = -1;
        const ManifestEntry *e;
        bool any = false;
        int r;

        for (size_t i = 0; i < p->n_adapted; i++)
                any = any || streq(p->adapted[i].tree, t->tree->name);
        if (!any)
                return 0;
        r = backup_side_open(p, backup_fd, "adapted", t->tree->name, &fd, reterr);
        if (r >= 0)
                r = manifest_new(fd, &m);
        if (r >= 0)
                r = manifest_reader_new(t->manifest, &reader);
        while (r >= 0 && (r = manifest_read(reader, &e)) > 0) {
                const PlanAdapted *a = adapted_find(p, t->tree, e->path);

                if (a || streq(e->path, ".") || is_above_adapted(p, t->tree, e->path))
                        r = add_entry(p, a, m, e, reterr);
        }
        if (r >= 0)
                r = manifest_seal(m);
        if (r < 0)
                return r;
        *ret_manifest = TAKE_PTR(m);
        *ret_fd = TAKE_FD(fd);
        return 1;
}
