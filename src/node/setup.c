/* SPDX-License-Identifier: Apache-2.0 */

#include "node/setup.h"

#include <fcntl.h>

#include "base/fileio.h"

#define LOADED_PLUGINS_BYTES_MAX (256 * 1024)
#define CONF_BYTES_MAX (4 * 1024 * 1024)

Setup *setup_free(Setup *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n_files; i++) {
                free(s->files[i].path);
                free(s->files[i].plugin);
                (void) conf_free(s->files[i].conf);
        }
        free(s->files);
        free(s->root_dir);
        free(s->loaded_file);
        free(s->plugins_dir);
        strv_free(s->plugins);
        strv_free(s->environment);
        return mfree(s);
}

char *setup_path(const Setup *s, const char *value) {
        char *path;

        if (*value == '/')
                return strdup(value);
        return asprintf(&path, "%s/%s", s->root_dir, value) < 0 ? NULL : path;
}

static int add_file(Setup *s, const char *path, const char *plugin, Error *reterr) {
        SetupFile *larger = reallocarray(s->files, s->n_files + 1, sizeof(SetupFile)), *f;
        int r;

        if (!larger)
                return -ENOMEM;
        s->files = larger;
        f = &larger[s->n_files++];
        *f = (SetupFile){ .path = strdup(path) };
        if (!f->path)
                return -ENOMEM;
        r = free_and_strdup(&f->plugin, plugin);
        return r < 0 ? r : conf_load(path, plugin ? NULL : s->root_dir, &f->conf, reterr);
}

/* A path that emqx.conf may set. */
static int set_path(const Setup *s, const char *key, const char *fallback, char **ret, Error *reterr) {
        _cleanup_free_ char *value = NULL;
        int r;

        r = conf_value(s->files[0].conf, key, s->environment, &value, reterr);
        if (r < 0)
                return r;
        *ret = setup_path(s, r > 0 ? value : fallback);
        return *ret ? 0 : -ENOMEM;
}

/* One line of loaded_plugins: "{emqx_retainer, true}." or "emqx_retainer.". The name, cut out of line; NULL: not active. */
static char *active_plugin(char *line) {
        char *name = line + strspn(line, " \t{");
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@");
        const char *rest = name + n;

        if (n == 0 || *line == '%' || (strchr(line, '{') && !strstr(rest, "true")))
                return NULL;
        name[n] = 0;
        return name;
}

static int add_plugins(Setup *s, Error *reterr) {
        _cleanup_free_ char *text = NULL;
        char *rest;
        size_t size;
        int r;

        r = read_file_at(AT_FDCWD, s->loaded_file, LOADED_PLUGINS_BYTES_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", s->loaded_file);

        rest = text;
        for (char *line; (line = strsep(&rest, "\n"));) {
                _cleanup_free_ char *conf = NULL, *terms = NULL;
                const char *name = active_plugin(line);

                if (!name || strv_contains(s->plugins, name))
                        continue;
                if (strv_extend(&s->plugins, name) < 0 || asprintf(&conf, "%s/%s.conf", s->plugins_dir, name) < 0 ||
                                asprintf(&terms, "%s/%s.config", s->plugins_dir, name) < 0)
                        return -ENOMEM;
                if (access(terms, F_OK) >= 0 || access(conf, F_OK) < 0)
                        continue;
                r = add_file(s, conf, name, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int setup_read(const char *root_dir, const char *etc_dir, const char *data_dir, char **environment, Setup **ret,
                Error *reterr) {
        _cleanup_free_ char *conf_path = NULL, *loaded = NULL, *plugins = NULL;
        _cleanup_(setup_freep) Setup *s = calloc(1, sizeof(Setup));
        int r;

        if (!s || !(s->root_dir = strdup(root_dir)) || !(s->environment = strv_copy(environment)) ||
                        asprintf(&conf_path, "%s/emqx.conf", etc_dir) < 0 ||
                        asprintf(&loaded, "%s/loaded_plugins", data_dir) < 0 ||
                        asprintf(&plugins, "%s/plugins", etc_dir) < 0)
                return -ENOMEM;
        r = add_file(s, conf_path, NULL, reterr);
        if (r >= 0)
                r = set_path(s, "plugins.loaded_file", loaded, &s->loaded_file, reterr);
        if (r >= 0)
                r = set_path(s, "plugins.etc_dir", plugins, &s->plugins_dir, reterr);
        if (r < 0)
                return r;
        /* The default one has a slash at its end. */
        for (size_t n = strlen(s->plugins_dir); n > 1 && s->plugins_dir[n - 1] == '/'; n--)
                s->plugins_dir[n - 1] = 0;
        r = add_plugins(s, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

static int add_to_digest(Sha256 *digest, const char *path, Error *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int r;

        r = read_file_at(AT_FDCWD, path, CONF_BYTES_MAX, &text, &size);
        if (r < 0 && r != -ENOENT)
                return error_set(reterr, r, NULL, "Cannot read %s: %m", path);
        r = sha256_add(digest, path, strlen(path) + 1);
        if (r >= 0)
                r = sha256_add(digest, &size, sizeof(size));
        return r >= 0 && size > 0 ? sha256_add(digest, text, size) : r;
}

int setup_sha256(const Setup *s, char ret_hex[static SHA256_HEX_SIZE], Error *reterr) {
        _cleanup_(sha256_freep) Sha256 *digest = NULL;
        int r;

        r = sha256_new(&digest);
        if (r >= 0)
                r = add_to_digest(digest, s->loaded_file, reterr);
        for (size_t i = 0; i < s->n_files && r >= 0; i++) {
                const char *file;

                for (size_t j = 0; r >= 0 && (file = conf_file(s->files[i].conf, j)); j++)
                        r = add_to_digest(digest, file, reterr);
        }
        return r < 0 ? r : sha256_finish(digest, ret_hex);
}
