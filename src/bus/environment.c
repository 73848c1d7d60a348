/* SPDX-License-Identifier: Apache-2.0 */

#include "bus/environment.h"

#include <fcntl.h>
#include <glob.h>

#include "base/fileio.h"

#define WHITESPACE " \t\n\r"
#define NEWLINE "\n\r"

static char **find(char **env, const char *name, size_t size) {
        STRV_FOREACH (s, env)
                if (strncmp(*s, name, size) == 0 && (*s)[size] == '=')
                        return s;
        return NULL;
}

int environment_set(char ***env, const char *name, const char *value) {
        char **old = find(*env, name, strlen(name));
        char *s;

        if (!old)
                return strv_extendf(env, "%s=%s", name, value);

        if (asprintf(&s, "%s=%s", name, value) < 0)
                return -ENOMEM;
        free(*old);
        *old = s;
        return 0;
}

void environment_unset(char **env, const char *what) {
        char **found = find(env, what, strcspn(what, "="));

        if (!found || (strchr(what, '=') && !streq(*found, what)))
                return;

        free(*found);
        for (; *found; found++)
                *found = found[1];
}

/* environ(7) and shells: letters, digits and "_", no digit first. */
static bool name_valid(const char *name) {
        if (name[0] == '\0' || strchr("0123456789", name[0]))
                return false;
        return name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

typedef struct Parser {
        char ***env;
        char *key, *value;
        size_t n_key, n_value;
        size_t key_end, value_end; /* where trailing white space would be cut */
} Parser;

static bool in(const char *set, char c) {
        return c != '\0' && strchr(set, c);
}

/* Quoted text is kept to its last blank, so it moves the cut. */
static void add_key(Parser *p, char c) {
        p->key[p->n_key++] = c;
        if (!in(WHITESPACE, c))
                p->key_end = p->n_key;
}

static void add_value(Parser *p, char c, bool quoted) {
        p->value[p->n_value++] = c;
        if (quoted || !in(WHITESPACE, c))
                p->value_end = p->n_value;
}

static void forget(Parser *p) {
        p->n_key = p->n_value = p->key_end = p->value_end = 0;
}

static int finish(Parser *p) {
        int r = 0;

        p->key[p->key_end] = '\0';
        p->value[p->value_end] = '\0';
        if (name_valid(p->key))
                r = environment_set(p->env, p->key, p->value);
        forget(p);
        return r;
}

/* The states of systemd's own parser (parse_env_file_internal() in env-file.c), which is the definition of the format:
 * after a closing quote a value goes on, so that 'a'"b" is ab. */
int environment_parse(const char *text, char ***env) {
        enum {
                PRE_KEY,
                KEY,
                PRE_VALUE,
                VALUE,
                VALUE_ESCAPE,
                SINGLE_QUOTE,
                DOUBLE_QUOTE,
                DOUBLE_QUOTE_ESCAPE,
                COMMENT,
                COMMENT_ESCAPE,
        } state = PRE_KEY;
        size_t size = 2 * strlen(text) + 1; /* '\x' inside double quotes stays two characters; no value is longer */
        _cleanup_free_ char *key = malloc(size), *value = malloc(size);
        Parser p = { .env = env, .key = key, .value = value };
        int r;

        if (!key || !value)
                return -ENOMEM;

        for (const char *s = text; *s; s++) {
                char c = *s;

                switch (state) {
                case PRE_KEY:
                        if (in("#;", c))
                                state = COMMENT;
                        else if (!in(WHITESPACE, c)) {
                                state = KEY;
                                add_key(&p, c);
                        }
                        break;
                case KEY:
                        if (in(NEWLINE, c)) {
                                state = PRE_KEY;
                                forget(&p);
                        } else if (c == '=')
                                state = PRE_VALUE;
                        else
                                add_key(&p, c);
                        break;
                case PRE_VALUE:
                case VALUE:
                        if (in(NEWLINE, c)) {
                                state = PRE_KEY;
                                r = finish(&p);
                                if (r < 0)
                                        return r;
                        } else if (c == '\\')
                                state = VALUE_ESCAPE;
                        else if (state == PRE_VALUE && c == '\'')
                                state = SINGLE_QUOTE;
                        else if (state == PRE_VALUE && c == '"')
                                state = DOUBLE_QUOTE;
                        else if (state == VALUE || !in(WHITESPACE, c)) {
                                state = VALUE;
                                add_value(&p, c, false);
                        }
                        break;
                case VALUE_ESCAPE:
                        state = VALUE;
                        if (!in(NEWLINE, c))
                                add_value(&p, c, true);
                        break;
                case SINGLE_QUOTE:
                        if (c == '\'')
                                state = PRE_VALUE;
                        else
                                add_value(&p, c, true);
                        break;
                case DOUBLE_QUOTE:
                        if (c == '"')
                                state = PRE_VALUE;
                        else if (c == '\\')
                                state = DOUBLE_QUOTE_ESCAPE;
                        else
                                add_value(&p, c, true);
                        break;
                case DOUBLE_QUOTE_ESCAPE:
                        state = DOUBLE_QUOTE;
                        if (c == '\n')
                                break;
                        if (!in("\"\\`$", c))
                                add_value(&p, '\\', true);
                        add_value(&p, c, true);
                        break;
                case COMMENT:
                        if (c == '\\')
                                state = COMMENT_ESCAPE;
                        else if (in(NEWLINE, c))
                                state = PRE_KEY;
                        break;
                case COMMENT_ESCAPE:
                        state = COMMENT; /* up to v253: a comment goes on behind a backslash */
                        break;
                }
        }

        return state == PRE_KEY || state == KEY || state == COMMENT || state == COMMENT_ESCAPE ? 0 : finish(&p);
}

static int read_one(const char *path, char ***env) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_file_at(AT_FDCWD, path, ENVIRONMENT_FILE_MAX_BYTES, &text, NULL);
        return r < 0 ? r : environment_parse(text, env);
}

int environment_read(const char *pattern, bool optional, char ***env, Error *reterr) {
        glob_t g = { 0 };
        int r = 0;

        switch (glob(pattern, GLOB_NOSORT, NULL, &g)) {
        case 0: break;
        case GLOB_NOMATCH: r = -ENOENT; break;
        case GLOB_NOSPACE: r = -ENOMEM; break;
        default: r = -EIO;
        }
        if (r < 0 && r != -ENOMEM && optional)
                r = 0;
        if (r < 0)
                (void) error_set(reterr, r, NULL, "Environment file %s: %m", pattern);

        for (size_t i = 0; r >= 0 && i < g.gl_pathc; i++) {
                r = read_one(g.gl_pathv[i], env);
                if (r < 0 && r != -ENOMEM && optional)
                        r = 0;
                if (r < 0)
                        (void) error_set(reterr, r, NULL, "Environment file %s: %m", g.gl_pathv[i]);
        }

        globfree(&g);
        return r;
}
