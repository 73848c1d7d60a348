/* SPDX-License-Identifier: Apache-2.0 */

#include "node/listing.h"

#include "node/word.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@"

static bool is_blank(const char *s) {
        return s[strspn(s, BLANK)] == 0;
}

static const char *skip_blank(const char *s) {
        return s + strspn(s, BLANK);
}

/* Some entries, or nothing to list: what is else is no list. */
static int take_list(const char *output, char ***list, char ***ret) {
        if (!*list && !is_blank(output))
                return -EBADMSG;
        strv_sort_unique(*list);
        *ret = TAKE_PTR(*list);
        return 0;
}

int listeners_parse(const char *output, char ***ret) {
        _cleanup_strv_ char **list = NULL;
        Word id = { NULL, 0 };

        assert(output);
        assert(ret);

        for (const char *p = output;;) {
                Word w = next_word(&p), address;
                const char *q = p;

                if (w.n == 0)
                        break;
                if (!word_is(w, "listen_on") && !word_is(w, "listen_on:")) {
                        id = w;
                        continue;
                }
                address = next_word(&q);
                if (word_is(address, ":"))
                        address = next_word(&q);
                if (address.n > 1 && *address.p == ':')
                        address = (Word){ address.p + 1, address.n - 1 };
                if (address.n == 0 || id.n == 0 || !memchr(id.p, ':', id.n))
                        continue;
                if (strv_extendf(&list, "%.*s %.*s", (int) id.n, id.p, (int) address.n, address.p) < 0)
                        return -ENOMEM;
                p = q;
        }
        return take_list(output, &list, ret);
}

/* The next entry at the begin of a line: "Plugin(", with white space allowed before it. NULL: none. */
static const char *next_entry(const char *p, const char *text, const char *opening) {
        for (; (p = strstr(p, opening)); p++) {
                const char *before = p;

                while (before > text && (before[-1] == ' ' || before[-1] == '\t'))
                        before--;
                if (before == text || before[-1] == '\n' || before[-1] == '\r')
                        return p;
        }
        return NULL;
}

typedef int (*EntryFunc)(const char *entry, void *userdata);

/* Calls func with each entry, from behind its opening to the begin of the next. */
static int each_entry(const char *output, const char *opening, EntryFunc func, void *userdata) {
        int r = 0;

        for (const char *p = next_entry(output, output, opening); p && r >= 0;) {
                const char *begin = p + strlen(opening), *next = next_entry(begin, output, opening);
                _cleanup_free_ char *entry = next ? strndup(begin, (size_t) (next - begin)) : strdup(begin);

                if (!entry)
                        return -ENOMEM;
                r = func(entry, userdata);
                p = next;
        }
        return r;
}

/* Behind the last NAME in entry, white space passed over, and then the sign, "=" or "=>"; NULL: there is none. */
static const char *last_value(const char *entry, const char *name, const char *sign) {
        const char *found = NULL;

        for (const char *p = entry; (p = strstr(p, name)); p++) {
                const char *rest = startswith(skip_blank(p + strlen(name)), sign);

                if (rest)
                        found = skip_blank(rest);
        }
        return found;
}

/* "emqx_retainer, description=EMQ X Retainer, active=true)". What the description says comes before. */
static int take_active(const char *entry, void *userdata) {
        const char *name = skip_blank(entry), *active = last_value(entry, "active", "=");
        size_t n = strspn(name, NAME_CHARACTERS);
        char ***list = userdata;

        if (n == 0 || *skip_blank(name + n) != ',' || !active || !startswith(active, "true"))
                return 0;
        return strv_extendf(list, "%.*s", (int) n, name);
}

static int active_parse(const char *output, const char *opening, char ***ret) {
        _cleanup_strv_ char **list = NULL;
        int r;

        assert(output);
        assert(ret);

        r = each_entry(output, opening, take_active, &list);
        if (r < 0)
                return r;
        if (!list && next_entry(output, output, opening)) { /* there are some, and none of them is active */
                *ret = NULL;
                return 0;
        }
        return take_list(output, &list, ret);
}

int plugins_parse(const char *output, char ***ret) {
        return active_parse(output, "Plugin(", ret);
}

int modules_parse(const char *output, char ***ret) {
        return active_parse(output, "Module(", ret);
}

typedef struct Ids {
        char **all, **good;
        bool (*is_good)(const char *entry);
} Ids;

static void ids_done(Ids *l) {
        l->all = strv_free(l->all);
        l->good = strv_free(l->good);
}

/* "='rule:1', for='…', …": the id stands first. */
static int take_id(const char *entry, void *userdata) {
        const char *id = startswith(skip_blank(entry), "id"), *end;
        Ids *l = userdata;
        int r;

        id = id ? startswith(skip_blank(id), "=") : NULL;
        id = id ? startswith(skip_blank(id), "'") : NULL;
        end = id ? strchr(id, '\'') : NULL;
        if (!end || end == id)
                return 0;
        r = strv_extendf(&l->all, "%.*s", (int) (end - id), id);
        if (r >= 0 && l->is_good(entry))
                r = strv_extendf(&l->good, "%.*s", (int) (end - id), id);
        return r;
}

static int ids_parse(const char *output, const char *opening, bool (*is_good)(const char *entry), char ***ret_ids,
                char ***ret_good) {
        _cleanup_(ids_done) Ids l = { .is_good = is_good };
        int r;

        assert(output);
        assert(ret_ids);
        assert(ret_good);

        r = each_entry(output, opening, take_id, &l);
        if (r >= 0)
                r = take_list(output, &l.all, ret_ids);
        if (r < 0)
                return r;
        strv_sort_unique(l.good);
        *ret_good = TAKE_PTR(l.good);
        return 0;
}

static bool is_enabled(const char *entry) {
        const char *value = last_value(entry, "enabled", "=");

        return value && startswith(value, "'true'");
}

/* One for each node; what the configuration says before them can make it look dead, but no dead one
 * alive. */
static bool is_alive(const char *entry) {
        bool alive = false;

        for (const char *p = entry; (p = strstr(p, "is_alive")); p++) {
                const char *value = startswith(skip_blank(p + strlen("is_alive")), "=>");

                if (!value || !startswith(skip_blank(value), "true"))
                        return false;
                alive = true;
        }
        return alive;
}

int rules_parse(const char *output, char ***ret_ids, char ***ret_enabled) {
        return ids_parse(output, "rule(", is_enabled, ret_ids, ret_enabled);
}

int resources_parse(const char *output, char ***ret_ids, char ***ret_alive) {
        return ids_parse(output, "resource(", is_alive, ret_ids, ret_alive);
}

int stat_parse(const char *output, const char *key, uint64_t *ret) {
        assert(output);
        assert(key);
        assert(ret);

        for (const char *p = output;;) {
                Word w = next_word(&p), value;
                const char *q = p;
                uint64_t n = 0;

                if (w.n == 0)
                        return -EBADMSG;
                if (w.n == strlen(key) + 1 && w.p[w.n - 1] == ':')
                        w.n--;
                else {
                        value = next_word(&q);
                        if (!word_is(value, ":"))
                                continue;
                }
                if (!word_is(w, key))
                        continue;
                value = next_word(&q);
                for (size_t i = 0; i < value.n; i++) {
                        if (value.p[i] < '0' || value.p[i] > '9' || n > (UINT64_MAX - 9) / 10)
                                return -EBADMSG;
                        n = 10 * n + (uint64_t) (value.p[i] - '0');
                }
                if (value.n == 0)
                        return -EBADMSG;
                *ret = n;
                return 0;
        }
}
