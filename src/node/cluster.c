/* SPDX-License-Identifier: Apache-2.0 */

#include "node/cluster.h"

#define BLANK " \t\r\n"
#define WORD "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@."
#define NODE_NAME WORD "-:" /* of a host also an IPv6 address */
#define HEX "0123456789abcdef"
#define WORD_BYTES_MAX 255 /* of an atom */
#define NODES_MAX 1000
#define RPC_TIMEOUT_MSEC 5000 /* for each of a member's answers: an RPC within a cluster takes milliseconds */

/* --- terms --- */

/* Steps over text, and the white space before it. */
static bool skip(const char **p, const char *text) {
        const char *rest = startswith(*p + strspn(*p, BLANK), text);

        if (rest)
                *p = rest;
        return rest;
}

/* The next atom or integer, its quotes stripped; of the characters in allowed alone. 0, -EBADMSG, -ENOMEM. */
static int take_word(const char **p, const char *allowed, char **ret) {
        const char *s = *p + strspn(*p, BLANK);
        bool quoted = *s == '\'';
        size_t n;

        s += quoted;
        n = strspn(s, quoted ? allowed : WORD);
        if (n == 0 || n > WORD_BYTES_MAX || strspn(s, allowed) < n || (quoted && s[n] != '\''))
                return -EBADMSG;
        *ret = strndup(s, n);
        if (!*ret)
                return -ENOMEM;
        *p = s + n + quoted;
        return 0;
}

static int take_node(const char **p, char **ret) {
        _cleanup_free_ char *name = NULL;
        const char *at;
        int r;

        r = take_word(p, NODE_NAME, &name);
        if (r < 0)
                return r;
        at = strchr(name, '@');
        if (!at || at == name || !at[1] || strchr(at + 1, '@'))
                return -EBADMSG;
        *ret = TAKE_PTR(name);
        return 0;
}

/* ['emqx@a','emqx@b'] */
static int take_nodes(const char **p, char ***ret) {
        _cleanup_strv_ char **nodes = NULL;
        size_t n = 0;

        if (!skip(p, "["))
                return -EBADMSG;
        while (!skip(p, "]")) {
                _cleanup_free_ char *node = NULL;
                int r;

                if (n++ >= NODES_MAX || (nodes && !skip(p, ",")))
                        return -EBADMSG;
                r = take_node(p, &node);
                if (r >= 0)
                        r = strv_extend(&nodes, node);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(nodes);
        return 0;
}

/* --- emqx_ctl cluster status --- */

/* The value of key, wherever it is. */
static int find_nodes(const char *output, const char *key, char ***ret) {
        for (const char *p = output; (p = strstr(p, key));) {
                int r = -EBADMSG;

                p += strlen(key);
                if (skip(&p, "=>"))
                        r = take_nodes(&p, ret);
                if (r != -EBADMSG)
                        return r;
        }
        return -EBADMSG;
}

int cluster_status_parse(const char *output, ClusterStatus *ret) {
        _cleanup_(cluster_status_done) ClusterStatus s = CLUSTER_STATUS_NULL;
        int r;

        assert(output);
        assert(ret);

        r = find_nodes(output, "running_nodes", &s.running);
        if (r >= 0)
                r = find_nodes(output, "stopped_nodes", &s.stopped);
        if (r < 0)
                return r;
        *ret = s;
        s = CLUSTER_STATUS_NULL;
        return 0;
}

void cluster_status_done(ClusterStatus *s) {
        s->running = strv_free(s->running);
        s->stopped = strv_free(s->stopped);
}

/* --- the members' views --- */

#define STRING_(x) #x
#define STRING(x) STRING_(x)

/* Without '$', '%' and quotes but those of atoms: it goes through systemd and shell scripts. What a member does not
 * answer becomes the empty list or no. */
static const char views_query[] =
                "[begin "
                "Ask = fun(M, F, A) -> rpc:call(N, M, F, A, " STRING(
                                RPC_TIMEOUT_MSEC) ") end, "
                                                  "List = fun(V) when is_list(V) -> V; (_) -> [] end, "
                                                  "{N, List(Ask(mnesia, system_info, [running_db_nodes])), List(Ask(mnesia, system_info, [db_nodes])), "
                                                  "case Ask(init, get_status, []) of {started, _} -> started; _ -> no end, "
                                                  "case Ask(application, get_env, [ekka, cluster_autoclean]) of "
                                                  "{ok, T} when is_integer(T), T > 0 -> T; _ -> 0 end, "
                                                  "case Ask(application, get_env, [emqx_upgrade, id]) of {ok, I} when is_atom(I) -> I; _ -> no end} "
                                                  "end || N <- mnesia:system_info(running_db_nodes)].";

char *cluster_views_query(const char *id) {
        char *query;

        if (!id)
                return strdup(views_query);
        assert(!id[strspn(id, HEX)]);
        return asprintf(&query, "application:set_env(emqx_upgrade, id, '%s'), %s", id, views_query) < 0 ? NULL : query;
}

static int take_view(const char **p, ClusterView *v) {
        _cleanup_free_ char *started = NULL, *msec = NULL, *upgrade = NULL;
        int r;

        r = skip(p, "{") ? take_node(p, &v->node) : -EBADMSG;
        if (r >= 0)
                r = skip(p, ",") ? take_nodes(p, &v->running) : -EBADMSG;
        if (r >= 0)
                r = skip(p, ",") ? take_nodes(p, &v->members) : -EBADMSG;
        if (r >= 0)
                r = skip(p, ",") ? take_word(p, WORD, &started) : -EBADMSG;
        if (r >= 0)
                r = skip(p, ",") ? take_word(p, "0123456789", &msec) : -EBADMSG;
        if (r >= 0)
                r = skip(p, ",") ? take_word(p, WORD, &upgrade) : -EBADMSG;
        if (r < 0)
                return r;
        if (!skip(p, "}") || strlen(msec) > 15)
                return -EBADMSG;
        v->started = streq(started, "started");
        v->autoclean_msec = strtoull(msec, NULL, 10);
        if (!streq(upgrade, "no"))
                v->upgrade = TAKE_PTR(upgrade);
        return 0;
}

static int take_views(const char *p, ClusterView **ret, size_t *ret_n) {
        ClusterView *views = NULL;
        size_t n = 0;
        int r = 0;

        while (r >= 0 && !skip(&p, "]")) {
                ClusterView *larger;

                if (n >= NODES_MAX || (n > 0 && !skip(&p, ","))) {
                        r = -EBADMSG;
                        break;
                }
                larger = reallocarray(views, n + 1, sizeof(ClusterView));
                if (!larger) {
                        r = -ENOMEM;
                        break;
                }
                views = larger;
                views[n] = (ClusterView){ 0 };
                r = take_view(&p, &views[n++]);
        }
        if (r >= 0 && n == 0)
                r = -EBADMSG;
        if (r < 0) {
                cluster_views_free(views, n);
                return r;
        }
        *ret = views;
        *ret_n = n;
        return 0;
}

int cluster_views_parse(const char *output, ClusterView **ret, size_t *ret_n) {
        assert(output);
        assert(ret);
        assert(ret_n);

        for (const char *p = output; (p = strchr(p, '['));) {
                int r = take_views(++p, ret, ret_n);

                if (r != -EBADMSG)
                        return r;
        }
        return -EBADMSG;
}

ClusterView *cluster_views_free(ClusterView *views, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(views[i].node);
                strv_free(views[i].running);
                strv_free(views[i].members);
                free(views[i].upgrade);
        }
        return mfree(views);
}
