/* SPDX-License-Identifier: Apache-2.0 */

#include "node/node.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "base/strv.h"
#include "node/conf.h"
#include "node/vars.h"

#define VARS_BYTES_MAX (1024 * 1024)
#define DEFAULT_NODE_NAME "emqx@127.0.0.1"

Node *node_free(Node *n) {
        if (!n)
                return NULL;
        free(n->root_dir);
        free(n->etc_dir);
        free(n->data_dir);
        free(n->log_dir);
        free(n->user);
        free(n->extra_data_dir);
        free(n->extra_data_dir_source);
        free(n->rel_version);
        free(n->node_name);
        free(n->mqtt_host);
        free(n->management_host);
        return mfree(n);
}

/* path as the node sees it, relative ones from root_dir, without doubled and trailing slashes or "." components:
 * two spellings of one directory must compare equal. ".." stays, because of symlinks. */
static char *absolute_path(const char *root_dir, const char *path) {
        _cleanup_free_ char *joined = NULL;
        char *out, *w;

        if (asprintf(&joined, "%s/%s", *path == '/' ? "" : root_dir, path) < 0)
                return NULL;
        out = w = malloc(strlen(joined) + 2);
        if (!out)
                return NULL;
        for (char *save = NULL, *part = strtok_r(joined, "/", &save); part; part = strtok_r(NULL, "/", &save))
                if (!streq(part, "."))
                        w = stpcpy(stpcpy(w, "/"), part);
        if (w == out)
                w = stpcpy(w, "/");
        *w = 0;
        return out;
}

static int port_parse(const char *s, unsigned *ret) {
        unsigned n = 0;
        size_t digits = strspn(s, "0123456789");

        if (digits == 0 || digits > 5 || s[digits])
                return -EINVAL;
        for (; *s; s++)
                n = n * 10 + (unsigned) (*s - '0');
        if (n == 0 || n > UINT16_MAX)
                return -EINVAL;
        *ret = n;
        return 0;
}

int node_listener_parse(const char *text, char **ret_host, unsigned *ret_port) {
        _cleanup_free_ char *host = NULL;
        unsigned char address[sizeof(struct in6_addr)];
        const char *colon;
        unsigned port;

        assert(text);
        assert(ret_host);
        assert(ret_port);

        colon = strrchr(text, ':');
        if (port_parse(colon ? colon + 1 : text, &port) < 0)
                return -EINVAL;

        if (!colon)
                host = strdup("127.0.0.1");
        else if (*text == '[' && colon - text >= 2 && colon[-1] == ']')
                host = strndup(text + 1, (size_t) (colon - text) - 2);
        else
                host = strndup(text, (size_t) (colon - text));
        if (!host)
                return -ENOMEM;

        if (inet_pton(AF_INET, host, address) == 1) {
                if (streq(host, "0.0.0.0") && free_and_strdup(&host, "127.0.0.1") < 0)
                        return -ENOMEM;
        } else if (inet_pton(AF_INET6, host, address) == 1) {
                if (IN6_IS_ADDR_UNSPECIFIED((struct in6_addr *) address) && free_and_strdup(&host, "::1") < 0)
                        return -ENOMEM;
        } else
                return -EINVAL;

        *ret_host = TAKE_PTR(host);
        *ret_port = port;
        return 0;
}

/* A zip's directories are "$RUNNER_ROOT_DIR/etc" and so on; nothing else of a shell's is understood. */
static int expand_root_dir(const char *root_dir, char **value) {
        const char *rest = startswith(*value, "$RUNNER_ROOT_DIR") ?: startswith(*value, "${RUNNER_ROOT_DIR}");
        char *expanded;

        if (rest && (*rest == '/' || !*rest)) {
                if (asprintf(&expanded, "%s%s", root_dir, rest) < 0)
                        return -ENOMEM;
                free(*value);
                *value = expanded;
        }
        return (*value)[strcspn(*value, "$`")] ? -EBADMSG : 0;
}

static int load_vars(const char *root_dir, char **ret_path, char **ret_text, Error *reterr) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        size_t size;
        int r;

        if (asprintf(&path, "%s/releases/emqx_vars", root_dir) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, path, VARS_BYTES_MAX, &text, &size);
        if (r == -ENOENT || r == -ENOTDIR)
                return error_set(reterr, -ENOENT, "Install EMQX first.", "No EMQX node is installed in %s", root_dir);
        if (r < 0)
                return error_set(reterr, r, NULL, "%s: cannot be read: %m", path);
        if (strlen(text) != size)
                return error_set(reterr, -EBADMSG, "Install the EMQX package again.", "%s: is not a text file", path);
        *ret_path = TAKE_PTR(path);
        *ret_text = TAKE_PTR(text);
        return 0;
}

/* As an absolute path where is_path. */
static int get_var(const char *root_dir, const char *path, const char *text, const char *name, bool is_path,
                char **ret, Error *reterr) {
        _cleanup_free_ char *value = NULL;
        int r;

        r = vars_get(text, name, &value);
        if (r < 0)
                return r;
        if (r == 0 || (!*value && !streq(name, "RUNNER_USER")))
                return error_set(reterr, -EBADMSG, "Install the EMQX package again.", "%s: %s is not set", path, name);
        if (!is_path) {
                *ret = TAKE_PTR(value);
                return 0;
        }
        r = expand_root_dir(root_dir, &value);
        if (r == -EBADMSG)
                return error_set(reterr, r, "Write the directory there as an absolute path.",
                                "%s: %s: \"%s\" is more than a path", path, name, value);
        if (r < 0)
                return r;
        *ret = absolute_path(root_dir, value);
        return *ret ? 0 : -ENOMEM;
}

/* releases/emqx_vars: what is installed where. */
static int read_vars(Node *n, Error *reterr) {
        const struct {
                const char *name;
                char **ret;
                bool is_path;
        } wanted[] = {
                { "REL_VSN", &n->rel_version, false },
                { "RUNNER_ETC_DIR", &n->etc_dir, true },
                { "RUNNER_DATA_DIR", &n->data_dir, true },
                { "RUNNER_LOG_DIR", &n->log_dir, true },
                { "RUNNER_USER", &n->user, false },
        };
        _cleanup_free_ char *path = NULL, *text = NULL;
        int r;

        r = load_vars(n->root_dir, &path, &text, reterr);
        for (size_t i = 0; i < ELEMENTSOF(wanted) && r >= 0; i++)
                r = get_var(n->root_dir, path, text, wanted[i].name, wanted[i].is_path, wanted[i].ret, reterr);
        return r;
}

int node_keep_directories(const char *root_dir, const NodeDirectories *d, bool *ret_changed, Error *reterr) {
        const struct {
                const char *name, *value;
        } wanted[] = {
                { "RUNNER_ETC_DIR", d->etc_dir },
                { "RUNNER_DATA_DIR", d->data_dir },
                { "RUNNER_LOG_DIR", d->log_dir },
        };
        _cleanup_free_ char *path = NULL, *text = NULL;
        struct stat st;
        int r;

        *ret_changed = false;
        r = load_vars(root_dir, &path, &text, reterr);
        for (size_t i = 0; i < ELEMENTSOF(wanted) && r >= 0; i++) {
                _cleanup_free_ char *value = NULL;
                char *longer;

                r = get_var(root_dir, path, text, wanted[i].name, true, &value, reterr);
                if (r < 0 || streq(value, wanted[i].value))
                        continue;
                if (asprintf(&longer, "%s%s%s=\"%s\"\n", text, endswith(text, "\n") ? "" : "\n", wanted[i].name,
                                    wanted[i].value) < 0)
                        return -ENOMEM;
                free(text);
                text = longer;
                *ret_changed = true;
        }
        if (r < 0 || !*ret_changed)
                return r;

        if (stat(path, &st) < 0)
                r = -errno;
        if (r >= 0)
                r = replace_file_at(AT_FDCWD, path, text, strlen(text), st.st_mode & 07777);
        if (r >= 0 && lchown(path, st.st_uid, st.st_gid) < 0)
                r = -errno;
        return r < 0 ? error_set(reterr, r, NULL, "Cannot write %s: %m", path) : 0;
}

/* As bin/emqx does: its arguments' own variables, then node.name by a look-up that follows no include. */
static int resolve_node_name(Node *n, const char *conf_path, char **environment, Error *reterr) {
        const char *arg = strv_env_get(environment, "NAME_ARG"), *node_name, *name, *host;
        int r;

        if (arg && (arg = strchr(arg, ' ')) && arg[strspn(arg, " ")])
                return free_and_strdup(&n->node_name, arg + strspn(arg, " ")); /* "-name emqx@10.0.0.1" */

        node_name = strv_env_get(environment, "EMQX_NODE_NAME");
        if (node_name && *node_name)
                return free_and_strdup(&n->node_name, node_name);

        name = strv_env_get(environment, "EMQX_NAME");
        host = strv_env_get(environment, "EMQX_HOST");
        if (name && *name && host && *host)
                return asprintf(&n->node_name, "%s@%s", name, host) < 0 ? -ENOMEM : 0;

        r = conf_get(conf_path, NULL, "node.name", environment, &n->node_name, reterr);
        return r != 0 ? r : free_and_strdup(&n->node_name, DEFAULT_NODE_NAME);
}

static int resolve_cookie(Node *n, const Conf *conf, char **environment, Error *reterr) {
        _cleanup_free_ char *value = NULL;
        const char *variable = strv_env_get(environment, "EMQX_NODE_COOKIE");
        int r;

        r = conf_value(conf, "node.cookie", environment, &value, reterr);
        n->has_cookie = r > 0 || (variable && *variable);
        if (value)
                explicit_bzero(value, strlen(value));
        return r;
}

static int resolve_extra_data_dir(
                Node *n, const Conf *conf, const char *conf_path, char **environment, Error *reterr) {
        _cleanup_free_ char *value = NULL, *path = NULL;
        const char *variable = strv_env_get(environment, "EMQX_NODE__DATA_DIR");
        int r;

        r = conf_value(conf, "node.data_dir", environment, &value, reterr);
        if (r <= 0)
                return r;
        path = absolute_path(n->root_dir, value);
        if (!path)
                return -ENOMEM;
        if (streq(path, n->data_dir))
                return 0;

        if (variable)
                n->extra_data_dir_source = strdup("EMQX_NODE__DATA_DIR");
        else if (asprintf(&n->extra_data_dir_source, "node.data_dir in %s", conf_path) < 0)
                n->extra_data_dir_source = NULL;
        if (!n->extra_data_dir_source)
                return -ENOMEM;
        n->extra_data_dir = TAKE_PTR(path);
        return 0;
}

static int resolve_listener(const Conf *conf, const char *conf_path, const char *key, char **environment,
                char **ret_host, unsigned *ret_port, Error *reterr) {
        _cleanup_free_ char *value = NULL;
        int r;

        r = conf_value(conf, key, environment, &value, reterr);
        if (r <= 0)
                return r;
        r = node_listener_parse(value, ret_host, ret_port);
        if (r == -EINVAL)
                return error_set(reterr, -EBADMSG, "Correct it: the node would not start with it.",
                                "%s: %s: \"%s\" is neither a port nor an address and a port", conf_path, key, value);
        return r;
}

int node_read(const char *root_dir, char **environment, Node **ret, Error *reterr) {
        _cleanup_(conf_freep) Conf *conf = NULL, *management = NULL;
        _cleanup_free_ char *conf_path = NULL, *management_path = NULL;
        _cleanup_(node_freep) Node *n = NULL;
        int r;

        assert(root_dir);
        assert(ret);

        n = calloc(1, sizeof(*n));
        if (!n || !(n->root_dir = absolute_path("/", root_dir)))
                return -ENOMEM;
        r = read_vars(n, reterr);
        if (r < 0)
                return r;

        if (asprintf(&conf_path, "%s/emqx.conf", n->etc_dir) < 0)
                return -ENOMEM;
        r = conf_load(conf_path, n->root_dir, &conf, reterr);
        if (r < 0)
                return r;
        r = resolve_node_name(n, conf_path, environment, reterr);
        if (r < 0)
                return r;
        r = resolve_cookie(n, conf, environment, reterr);
        if (r < 0)
                return r;
        r = resolve_extra_data_dir(n, conf, conf_path, environment, reterr);
        if (r < 0)
                return r;
        r = resolve_listener(
                        conf, conf_path, "listener.tcp.external", environment, &n->mqtt_host, &n->mqtt_port, reterr);
        if (r < 0)
                return r;

        if (asprintf(&management_path, "%s/plugins/emqx_management.conf", n->etc_dir) < 0)
                return -ENOMEM;
        if (access(management_path, F_OK) < 0 && errno == ENOENT)
                goto finish; /* not installed, or configured in Erlang terms: nothing that we could ask */
        r = conf_load(management_path, n->root_dir, &management, reterr);
        if (r < 0)
                return r;
        r = resolve_listener(management, management_path, "management.listener.http", environment, &n->management_host,
                        &n->management_port, reterr);
        if (r < 0)
                return r;
finish:
        *ret = TAKE_PTR(n);
        return 0;
}
