/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/cluster.h"

#include "node/cluster.h"
#include "steps/ask.h"

#define DOWNTIME_GUESS_USEC (60 * USEC_PER_SEC) /* a real node by hand took 15 s, of which 11 s were its start */
#define WAY_BACK_FACTOR 3                       /* down for the upgrade, and for going back at its end */

typedef struct Cluster {
        ClusterStatus status; /* as the node sees it */
        ClusterView *views;   /* of it and of the members that it sees running; none where it is alone */
        size_t n_views;
} Cluster;

#define CLUSTER_NULL ((Cluster){ CLUSTER_STATUS_NULL, NULL, 0 })

static void cluster_done(Cluster *k) {
        cluster_status_done(&k->status);
        k->views = cluster_views_free(k->views, k->n_views);
        k->n_views = 0;
}

static const ClusterView *view_of(const Cluster *k, const char *node) {
        for (size_t i = 0; i < k->n_views; i++)
                if (streq(k->views[i].node, node))
                        return &k->views[i];
        return NULL;
}

/* --- asking --- */

/* mark: leaves it, in the same call. -EAGAIN: no answer that could be understood. */
static int ask_views(Context *c, bool mark, Cluster *k, Error *reterr) {
        _cleanup_free_ char *query = cluster_views_query(mark ? c->plan->id : NULL), *output = NULL;
        int r;

        if (!query)
                return -ENOMEM;
        r = node_eval(c, query, NODE_COMMAND_TIMEOUT_USEC, &output, reterr);
        if (r == 0)
                r = cluster_views_parse(output, &k->views, &k->n_views);
        if (r > 0 || r == -EBADMSG)
                return error_set(reterr, -EAGAIN, NULL,
                                "`emqx eval` does not answer what the members of the cluster see");
        return r;
}

static int ask_status(Context *c, Cluster *k, Error *reterr) {
        _cleanup_free_ char *output = NULL;
        int r;

        r = node_command(c, "emqx_ctl", STRV_MAKE("cluster", "status"), NODE_COMMAND_TIMEOUT_USEC, &output, reterr);
        if (r == 0)
                r = cluster_status_parse(output, &k->status);
        if (r > 0 || r == -EBADMSG)
                return error_set(reterr, -EAGAIN, NULL, "`emqx_ctl cluster status` does not answer");
        return r;
}

/* Without the management plugin there is no `emqx_ctl cluster`: the node's own view says the same. */
static int status_from_view(const Context *c, Cluster *k, Error *reterr) {
        const ClusterView *own = view_of(k, c->plan->node_name);

        if (!own)
                return error_set(reterr, -EAGAIN, NULL, "%s is not among the nodes that it sees itself",
                                c->plan->node_name);
        STRV_FOREACH (node, own->members) {
                char ***to = strv_contains(own->running, *node) ? &k->status.running : &k->status.stopped;

                if (strv_extend(to, *node) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Fills *k. A node that is in no cluster has no views. */
static int look(Context *c, bool mark, Cluster *k, Error *reterr) {
        int r;

        if (!c->plan->ctl_works) {
                r = ask_views(c, mark, k, reterr);
                return r < 0 ? r : status_from_view(c, k, reterr);
        }
        r = ask_status(c, k, reterr);
        if (r < 0 || strv_length(k->status.running) + strv_length(k->status.stopped) <= 1)
                return r;
        return ask_views(c, mark, k, reterr);
}

/* --- before --- */

static int refuse_absent(Context *c, const Cluster *k, Error *reterr) {
        if (k->status.stopped)
                return error_set(reterr, -ECANCELED,
                                "Start it, or wait until its upgrade is over. One that is gone for ever: emqx_ctl cluster force-leave NODE",
                                "The cluster is not whole: %s does not run", k->status.stopped[0]);
        STRV_FOREACH (node, k->status.running) {
                const ClusterView *v = view_of(k, *node);

                if (!v || !v->running)
                        return error_set(reterr, -ECANCELED, "Look at that node: emqx_ctl cluster status",
                                        "The cluster is not whole: %s does not answer", *node);
                if (!v->started)
                        return error_set(reterr, -ECANCELED, "Wait until it is, then start the upgrade again.",
                                        "The cluster is not whole: %s is not started yet", *node);
                STRV_FOREACH (other, k->status.running)
                        if (!strv_contains(v->running, *other))
                                return error_set(reterr, -ECANCELED, "Look at both nodes: emqx_ctl cluster status",
                                                "The cluster is not whole: %s does not see %s", *node, *other);
                if (strv_length(v->members) != strv_length(k->status.running))
                        return error_set(reterr, -ECANCELED, "Look at both nodes: emqx_ctl cluster status",
                                        "The cluster is not whole: %s knows of %zu members, %s of %zu", *node,
                                        strv_length(v->members), c->plan->node_name, strv_length(k->status.running));
        }
        return 0;
}

static int refuse_other_upgrade(Context *c, const Cluster *k, Error *reterr) {
        for (size_t i = 0; i < k->n_views; i++)
                if (k->views[i].upgrade && !streq(k->views[i].upgrade, c->plan->id) &&
                                !streq(k->views[i].node, c->plan->node_name))
                        return error_set(reterr, -ECANCELED,
                                        "One node at a time: wait until that upgrade is over. If none runs there: emqx eval '" CLUSTER_UNMARK_QUERY
                                        "' on that node",
                                        "%s is being upgraded (%s)", k->views[i].node, k->views[i].upgrade);
        return 0;
}

/* Members drop one that is down for longer than the autoclean interval of any of them. 0: it is short, with *ret_text. */
static int compare_autoclean(Context *c, const Cluster *k, char **ret_text, Error *reterr) {
        usec_t down_usec = c->plan->predicted_downtime_usec ?: DOWNTIME_GUESS_USEC, least_usec = USEC_INFINITY;
        char interval[TIMESPAN_TEXT_MAX], down[TIMESPAN_TEXT_MAX];
        const char *who = NULL;

        for (size_t i = 0; i < k->n_views; i++) {
                usec_t usec = k->views[i].autoclean_msec * USEC_PER_MSEC;

                if (usec == 0 || streq(k->views[i].node, c->plan->node_name) || usec >= least_usec)
                        continue;
                least_usec = usec;
                who = k->views[i].node;
        }
        if (!who || least_usec >= WAY_BACK_FACTOR * down_usec)
                return 1;
        format_timespan(interval, least_usec);
        format_timespan(down, down_usec);
        if (least_usec <= down_usec)
                return error_set(reterr, -ECANCELED,
                                "Set cluster.autoclean to 5m or more in the emqx.conf of each node, and restart them one by one.",
                                "%s drops members that are down for %s, and the upgrade is expected to take %s", who,
                                interval, down);
        return asprintf(ret_text,
                               "%s drops members that are down for %s, which is short if the upgrade has to go back",
                               who, interval) < 0
                        ? -ENOMEM
                        : 0;
}

static int refuse_too_few(Context *c, size_t n_peers, Error *reterr) {
        uint64_t min = c->config->min_peers;

        if (n_peers >= min)
                return 0;
        return error_set(reterr, -ECANCELED, "See MinPeers= in emqx-upgrade.conf(5).",
                        "%zu other nodes run and can take the load, MinPeers=%" PRIu64 " asks for more", n_peers, min);
}

/* 1, 0 with a warning in *ret_text, or refused. */
static int judge(Context *c, const Cluster *k, char **ret_text, Error *reterr) {
        int r;

        if (!strv_contains(k->status.running, c->plan->node_name))
                return error_set(reterr, -ECANCELED,
                                "Its name was changed since it was started: put it back, or restart the node first.",
                                "The node is configured as %s, but its cluster knows it as %s", c->plan->node_name,
                                k->status.running ? k->status.running[0] : "nobody");
        r = strv_length(k->status.running) > 1 || k->status.stopped ? refuse_absent(c, k, reterr) : 0;
        if (r >= 0)
                r = refuse_too_few(c, strv_length(k->status.running) - 1, reterr);
        if (r >= 0)
                r = refuse_other_upgrade(c, k, reterr);
        return r < 0 ? r : compare_autoclean(c, k, ret_text, reterr);
}

int cluster_check(Context *c, char **ret_text, Error *reterr) {
        _cleanup_(cluster_done) Cluster k = CLUSTER_NULL;
        _cleanup_free_ char *names = NULL, *warning = NULL;
        int r;

        r = look(c, false, &k, reterr);
        if (r >= 0)
                r = judge(c, &k, &warning, reterr);
        if (r < 0)
                return r;
        if (strv_length(k.status.running) <= 1)
                return asprintf(ret_text, "%s is in no cluster", c->plan->node_name) < 0 ? -ENOMEM : 1;

        c->plan->members = strv_free(c->plan->members);
        STRV_FOREACH (node, k.status.running)
                if (strv_extend(&c->plan->members, *node) < 0)
                        return -ENOMEM;
        names = strv_join(k.status.running, ", ");
        if (!names ||
                        asprintf(ret_text, "all %zu members run and see each other: %s%s%s",
                                        strv_length(k.status.running), names, warning ? "; but " : "",
                                        warning ?: "") < 0)
                return -ENOMEM;
        return r;
}

static int judge_again(Context *c, Error *reterr) {
        _cleanup_(cluster_done) Cluster k = CLUSTER_NULL;
        _cleanup_free_ char *warning = NULL, *was = NULL, *is = NULL;
        bool same;
        int r;

        r = look(c, true, &k, reterr);
        if (r >= 0)
                r = judge(c, &k, &warning, reterr);
        if (r < 0)
                return r;
        was = strv_join(c->plan->members, ", ");
        is = strv_join(k.status.running, ", ");
        if (!was || !is)
                return -ENOMEM;
        same = strv_length(c->plan->members) == strv_length(k.status.running);
        STRV_FOREACH (member, c->plan->members)
                same = same && strv_contains(k.status.running, *member);
        return same ? 0
                    : error_set(reterr, -ECANCELED, "Start the upgrade again; it will go by what is there now.",
                                      "The cluster was %s when the upgrade was planned, and is %s now", was, is);
}

int cluster_claim(Context *c, Error *reterr) {
        int r;

        if (!c->plan->members)
                return 0;
        r = judge_again(c, reterr);
        if (r < 0) {
                (void) cluster_release(c, NULL);
                return r == -EAGAIN ? -ECANCELED : r;
        }
        return 0;
}

int cluster_release(Context *c, Error *reterr) {
        _cleanup_(error_done) Error why = ERROR_NULL;
        _cleanup_free_ char *output = NULL;
        int r;

        if (!c->plan->members)
                return 0;
        r = node_eval(c, CLUSTER_UNMARK_QUERY, NODE_COMMAND_TIMEOUT_USEC, &output, &why);
        if (r == 0)
                return 0;
        if (r == -ENOMEM || r == -EINTR || r == -ECONNRESET)
                return error_set(reterr, r, why.advice, "%s", error_text(&why, r));
        journal_event(&c->journal, EVENT_CHECK_WARNED, &(JournalFields){ .step = c->step, .check = "cluster" },
                        "%s is still marked as being upgraded, and other nodes will be refused (%s). Take the mark away: emqx eval '" CLUSTER_UNMARK_QUERY
                        "'",
                        c->plan->node_name, r < 0 ? error_text(&why, r) : "`emqx eval` does not answer");
        return 0;
}

/* --- after --- */

/* Of a member that is in the plan: 1 it is there; 0 gone for all who remain; -EAGAIN: some see it and some do not. */
static int compare_views(Context *c, const Cluster *k, const char *member, Error *reterr) {
        bool here = strv_contains(k->status.running, member);

        for (size_t i = 0; i < k->n_views; i++) {
                const ClusterView *v = &k->views[i];

                if (!v->running)
                        return error_set(reterr, -EAGAIN, NULL, "%s does not answer %s", v->node, c->plan->node_name);
                if (strv_contains(v->running, member) != here)
                        return error_set(reterr, -EAGAIN, NULL, "%s does not see %s",
                                        here ? v->node : c->plan->node_name, member);
        }
        return here;
}

static int compare_members(Context *c, const Cluster *k, char ***ret_gone, Error *reterr) {
        size_t n_peers = 0;
        int r;

        STRV_FOREACH (member, c->plan->members) {
                r = compare_views(c, k, *member, reterr);
                if (r == 0 && strv_extend(ret_gone, *member) < 0)
                        return -ENOMEM;
                if (r < 0)
                        return r;
                n_peers += r > 0 && !streq(*member, c->plan->node_name);
        }
        if (strv_contains(*ret_gone, c->plan->node_name) || n_peers == 0)
                return error_set(reterr, -EAGAIN, NULL, "%s sees no other member of its cluster", c->plan->node_name);
        return 0;
}

int cluster_rejoined(Context *c, Error *reterr) {
        _cleanup_(cluster_done) Cluster k = CLUSTER_NULL;
        _cleanup_(error_done) Error why = ERROR_NULL;
        _cleanup_strv_ char **gone = NULL;
        _cleanup_free_ char *names = NULL;
        const char *peer = NULL;
        int r;

        if (!c->plan->members)
                return 1;
        r = look(c, true, &k, &why);
        if (r >= 0)
                r = compare_members(c, &k, &gone, &why);
        if (r == -EAGAIN) {
                STRV_FOREACH (member, c->plan->members)
                        if (!peer && !streq(*member, c->plan->node_name))
                                peer = *member;
                (void) error_set(reterr, r, NULL,
                                "It has not rejoined its cluster: %s. If its members have dropped it: emqx_ctl cluster join %s, which "
                                "deletes this node's tables and copies those of the cluster",
                                error_text(&why, r), peer);
                return 0;
        }
        if (r < 0)
                return error_set(reterr, r, why.advice, "%s", error_text(&why, r));
        if (gone) {
                names = strv_join(gone, ", ");
                journal_event(&c->journal, EVENT_CHECK_WARNED, &(JournalFields){ .step = c->step, .check = "cluster" },
                                "The node is back in its cluster, but meanwhile others have stopped: %s",
                                names ?: gone[0]);
        }
        return 1;
}
