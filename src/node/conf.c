/* SPDX-License-Identifier: Apache-2.0 */

#include "node/conf.h"

#include <ctype.h>
#include <fcntl.h>

#include "base/fileio.h"
#include "base/strv.h"

/* The stock emqx.conf is 90 KiB. */
#define FILE_BYTES_MAX (4 * 1024 * 1024)
#define INCLUDES_MAX 64
#define SUBSTITUTION_DEPTH_MAX 16
#define VALUE_BYTES_MAX (64 * 1024)
#define BLANK " \t"

typedef struct Setting {
        char *key;
        char *value;
        const char *file; /* one of the Conf's */
        unsigned line;
        bool included;
} Setting;

struct Conf {
        char *path;
        Setting *settings;
        size_t n_settings;
        char **includes;
        char **files; /* that were read */
};

Conf *conf_free(Conf *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n_settings; i++) {
                free(c->settings[i].key);
                free(c->settings[i].value);
        }
        free(c->settings);
        free(c->path);
        strv_free(c->includes);
        strv_free(c->files);
        return mfree(c);
}

/* KEY = WORD('.'WORD)*, WORD of the characters below or `\.`. Returns its length, 0 where none begins. */
static size_t key_length(const char *s) {
        size_t n = 0, word = 0;

        for (;; n++) {
                if (s[n] == '\\' && s[n + 1] == '.') {
                        n++;
                        word++;
                } else if (s[n] == '.') {
                        if (word == 0)
                                return 0;
                        word = 0;
                } else if (s[n] && (isalnum((unsigned char) s[n]) || strchr("_-@/:", s[n])) && !(s[n] & 0x80))
                        word++;
                else
                        return word > 0 ? n : 0;
        }
}

/* cuttlefish keeps values as Latin-1 text: UTF-8 of at most U+00FF, that is ASCII or C2/C3 and one more byte. */
static bool is_latin1(const char *s, size_t n) {
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char) s[i];

                if (c < 0x80)
                        continue;
                if ((c != 0xC2 && c != 0xC3) || i + 1 == n || ((unsigned char) s[++i] & 0xC0) != 0x80)
                        return false;
        }
        return true;
}

static int add_setting(Conf *c, const char *key, size_t key_len, const char *value, size_t value_len, unsigned line,
                bool included) {
        Setting *larger = reallocarray(c->settings, c->n_settings + 1, sizeof(*larger));
        Setting s = { strndup(key, key_len), strndup(value, value_len), c->files[strv_length(c->files) - 1], line,
                included };

        if (larger)
                c->settings = larger;
        if (!larger || !s.key || !s.value) {
                free(s.key);
                free(s.value);
                return -ENOMEM;
        }
        c->settings[c->n_settings++] = s;
        return 0;
}

static bool is_placeholder(const char *s, size_t n) {
        const char *close = n > 4 ? memmem(s + 3, n - 3, "}}", 2) : NULL;

        return close && startswith(s, "{{") && close == s + n - 2;
}

/* One line s of n bytes, without its end. NULL: fine, else what is wrong with it. */
static const char *parse_line(
                Conf *c, const char *s, size_t n, unsigned line, bool at_eof, bool included, int *ret_r) {
        size_t blank = strspn(s, BLANK), key_len, value_len;
        const char *p = s + blank, *end = s + n, *value;

        *ret_r = 0;
        if (p >= end || *p == '#' || is_placeholder(p, (size_t) (end - p)))
                return NULL;

        key_len = key_length(p);
        value = p + key_len + strspn(p + key_len, BLANK);
        if (key_len == 7 && memcmp(p, "include", 7) == 0 && value > p + key_len && value < end && *value != '=') {
                _cleanup_free_ char *path = NULL;

                while (end > value && strchr(BLANK, end[-1]))
                        end--;
                path = strndup(value, (size_t) (end - value));
                *ret_r = !path ? -ENOMEM : included ? 0 : strv_extend(&c->includes, path); /* one level only */
                return NULL;
        }
        if (key_len == 0)
                return "expected a key (letters, digits, _ - @ / : and dots between)";
        if (*value != '=')
                return "expected \"=\" after the key";

        value++;
        value += strspn(value, BLANK);
        while (!at_eof && end > value && strchr(BLANK, end[-1]))
                end--; /* only an end of line takes blanks away */
        if (value >= end)
                return "expected a value after \"=\"";
        value_len = (size_t) (end - value);
        if (!is_latin1(value, value_len))
                return "the value has a character that Latin-1 does not have";
        *ret_r = add_setting(c, p, key_len, value, value_len, line, included);
        return NULL;
}

static int load_file(Conf *c, const char *path, bool included, Error *reterr) {
        _cleanup_free_ char *text = NULL;
        unsigned line = 1;
        size_t size;
        int r;

        r = read_file_at(AT_FDCWD, path, FILE_BYTES_MAX, &text, &size);
        if (r < 0)
                return error_set(reterr, r, NULL, "%s: cannot be read: %m", path);
        r = strv_extend(&c->files, path);
        if (r < 0)
                return r;
        if (strlen(text) != size)
                return error_set(reterr, -EBADMSG, "Put the configuration file back.", "%s: is not a text file", path);

        for (char *s = text; s < text + size; line++) {
                char *end = strchrnul(s, '\n'), *next = *end ? end + 1 : end;
                bool at_eof = !*end;
                const char *wrong;

                if (!at_eof && end > s && end[-1] == '\r')
                        end--;
                *end = 0;
                wrong = parse_line(c, s, (size_t) (end - s), line, at_eof, included, &r);
                if (wrong)
                        return error_set(reterr, -EBADMSG, "Correct that line: the node would not start with it.",
                                        "%s:%u: %s", path, line, wrong);
                if (r < 0)
                        return r;
                s = next;
        }
        return 0;
}

int conf_load(const char *path, const char *root_dir, Conf **ret, Error *reterr) {
        _cleanup_(conf_freep) Conf *c = NULL;
        int r;

        assert(path);
        assert(ret);

        c = calloc(1, sizeof(*c));
        if (!c || !(c->path = strdup(path)))
                return -ENOMEM;
        r = load_file(c, path, false, reterr);
        if (r < 0)
                return r;
        if (root_dir && strv_length(c->includes) > INCLUDES_MAX)
                return error_set(reterr, -E2BIG, NULL, "%s: includes more than %i files", path, INCLUDES_MAX);

        for (char **i = root_dir ? c->includes : NULL; i && *i; i++) {
                _cleanup_free_ char *full = NULL;

                if (asprintf(&full, "%s%s%s", **i == '/' ? "" : root_dir, **i == '/' ? "" : "/", *i) < 0)
                        return -ENOMEM;
                r = load_file(c, full, true, reterr);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(c);
        return 0;
}

/* "node.data_dir" is overridden by EMQX_NODE__DATA_DIR. NULL: no such variable. */
static int env_value(const char *key, char **environment, const char **ret) {
        _cleanup_free_ char *name = NULL;
        char *p;

        name = malloc(strlen("EMQX_") + 2 * strlen(key) + 1);
        if (!name)
                return -ENOMEM;
        for (p = stpcpy(name, "EMQX_"); *key; key++)
                if (*key == '.')
                        p = stpcpy(p, "__");
                else
                        *p++ = (char) toupper((unsigned char) *key);
        *p = 0;
        *ret = strv_env_get(environment, name);
        return 0;
}

static const Setting *file_setting(const Conf *c, const char *key) {
        const Setting *found = NULL;

        for (size_t i = 0; i < c->n_settings; i++) {
                const Setting *s = c->settings + i;

                /* The last one wins, but an included one never over one of the file itself. */
                if (streq(s->key, key) && (!s->included || !found || found->included))
                        found = s;
        }
        return found;
}

bool conf_where(const Conf *c, const char *key, const char **ret_file, unsigned *ret_line) {
        const Setting *s = file_setting(c, key);

        if (!s)
                return false;
        *ret_file = s->file;
        *ret_line = s->line;
        return true;
}

const char *conf_next_value(const Conf *c, size_t i) {
        return i < c->n_settings ? c->settings[i].value : NULL;
}

const char *conf_file(const Conf *c, size_t i) {
        return i < strv_length(c->files) ? c->files[i] : NULL;
}

bool conf_setting(const Conf *c, size_t i, ConfSetting *ret) {
        const Setting *s = c->settings + i;

        if (i >= c->n_settings)
                return false;
        *ret = (ConfSetting){ s->key, s->value, s->file, s->line, s->included };
        return true;
}

/* Which of keys the line at s sets; SIZE_MAX: none. */
static size_t line_key(const char *s, char *const *keys) {
        const char *key = s + strspn(s, BLANK);
        size_t length = key_length(key);

        if (length > 0 && key[length + strspn(key + length, BLANK)] == '=')
                for (size_t i = 0; keys[i]; i++)
                        if (strlen(keys[i]) == length && memcmp(keys[i], key, length) == 0)
                                return i;
        return SIZE_MAX;
}

int conf_comment_out(const char *text, char *const *keys, char *const *notes, char **ret_text) {
        _cleanup_free_ char *out = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&out, &size);

        if (!f)
                return -ENOMEM;
        for (const char *s = text, *next; *s; s = next) {
                size_t length = strcspn(s, "\n"), i = line_key(s, keys);
                bool crlf = length > 0 && s[length - 1] == '\r';

                next = s + length + (s[length] ? 1 : 0);
                if (i != SIZE_MAX)
                        (void) fprintf(f, "# %s%s\n#", notes[i], crlf ? "\r" : "");
                (void) fwrite(s, 1, (size_t) (next - s), f);
        }
        if (fclose(f) != 0 || !out)
                return -ENOMEM;
        *ret_text = TAKE_PTR(out);
        return 0;
}

static int substituted_value(
                const Conf *c, const char *key, char **environment, unsigned depth, char **ret, Error *reterr);

/* A copy of value with each $(key) replaced by that key's value; "$(" without ")" stays as it is. */
static int substitute(const Conf *c, const char *key, const char *value, char **environment, unsigned depth,
                char **ret, Error *reterr) {
        _cleanup_free_ char *out = strdup("");

        for (;;) {
                _cleanup_free_ char *name = NULL, *inner = NULL, *joined = NULL;
                const char *open = strstr(value, "$("), *close = open ? strchr(open, ')') : NULL;
                int r;

                if (!out)
                        return -ENOMEM;
                if (!close) {
                        if (asprintf(&joined, "%s%s", out, value) < 0)
                                return -ENOMEM;
                        *ret = TAKE_PTR(joined);
                        return 1;
                }

                open += 2 + strspn(open + 2, BLANK);
                name = strndup(open, strcspn(open, BLANK ")"));
                if (!name)
                        return -ENOMEM;
                if (depth >= SUBSTITUTION_DEPTH_MAX)
                        return error_set(reterr, -EBADMSG, "Write the value out.",
                                        "%s: the value of %s refers to itself through $(%s)", c->path, key, name);
                r = substituted_value(c, name, environment, depth + 1, &inner, reterr);
                if (r == 0)
                        return error_set(reterr, -EBADMSG, "Write the value out, or set the other key.",
                                        "%s: the value of %s refers to $(%s), which is not set", c->path, key, name);
                if (r < 0)
                        return r;
                if (asprintf(&joined, "%s%.*s%s", out, (int) (strstr(value, "$(") - value), value, inner) < 0)
                        return -ENOMEM;
                if (strlen(joined) > VALUE_BYTES_MAX)
                        return error_set(reterr, -EBADMSG, NULL, "%s: the value of %s is too long", c->path, key);
                free(out);
                out = TAKE_PTR(joined);
                value = close + 1;
        }
}

static int substituted_value(
                const Conf *c, const char *key, char **environment, unsigned depth, char **ret, Error *reterr) {
        const Setting *setting = file_setting(c, key);
        const char *value = NULL;

        if (env_value(key, environment, &value) < 0)
                return -ENOMEM;
        if (!value && setting)
                value = setting->value;
        if (!value || !*value) /* an empty variable takes the key away */
                return 0;
        return substitute(c, key, value, environment, depth, ret, reterr);
}

int conf_value(const Conf *c, const char *key, char **environment, char **ret, Error *reterr) {
        assert(c);
        assert(key);
        assert(ret);

        return substituted_value(c, key, environment, 0, ret, reterr);
}

int conf_get(const char *path, const char *root_dir, const char *key, char **environment, char **ret, Error *reterr) {
        _cleanup_(conf_freep) Conf *c = NULL;
        int r;

        r = conf_load(path, root_dir, &c, reterr);
        return r < 0 ? r : conf_value(c, key, environment, ret, reterr);
}
