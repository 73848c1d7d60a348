/* SPDX-License-Identifier: Apache-2.0 */

#include "package/control.h"

#include <ctype.h>

#define WORD_BYTES_MAX 128

static const char fetch_again[] = "Fetch the package again.";

/* Names, versions and architectures are made of these; with it, they are safe in messages and as arguments. */
static bool is_word(const char *s, const char *more) {
        if (!isalnum((unsigned char) *s) || strlen(s) > WORD_BYTES_MAX)
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && !strchr(more, *s))
                        return false;
        return true;
}

/* KiB, deb-control(5). An estimate only, so one that makes no sense counts as none. */
static uint64_t parse_installed_size(const char *s) {
        unsigned long long kib;

        if (!s || strspn(s, "0123456789") != strlen(s))
                return 0;
        errno = 0;
        kib = strtoull(s, NULL, 10);
        return errno != 0 || kib > UINT64_MAX / 1024 ? 0 : kib * 1024;
}

typedef struct Fields {
        char *name, *version, *arch, *installed_size;
} Fields;

static void fields_done(Fields *f) {
        free(f->name);
        free(f->version);
        free(f->arch);
        free(f->installed_size);
}

static int take_field(const char *line, Fields *f, Error *reterr) {
        const struct {
                const char *name;
                char **value;
        } fields[] = {
                { "Package", &f->name },
                { "Version", &f->version },
                { "Architecture", &f->arch },
                { "Installed-Size", &f->installed_size },
        };
        size_t n = strcspn(line, ": \t");

        if (n == 0 || line[n] != ':')
                return error_set(reterr, -EBADMSG, fetch_again, "its control data is not made of fields");
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                if (strlen(fields[i].name) != n || strncasecmp(line, fields[i].name, n) != 0)
                        continue;
                if (*fields[i].value)
                        return error_set(reterr, -EBADMSG, fetch_again, "its control data has two fields '%s'",
                                        fields[i].name);
                return free_and_strdup(fields[i].value, line + n + 1 + strspn(line + n + 1, " \t"));
        }
        return 0;
}

static int split_fields(char *text, Fields *f, Error *reterr) {
        bool began = false, ended = false;

        for (char *line; (line = strsep(&text, "\n"));) {
                size_t n = strlen(line);
                int r;

                while (n > 0 && isspace((unsigned char) line[n - 1]))
                        line[--n] = 0;
                if (n == 0) {
                        ended = began;
                        continue;
                }
                if (ended)
                        return error_set(reterr, -EBADMSG, fetch_again, "its control data has a second paragraph");
                if (began && isspace((unsigned char) *line)) /* the rest of a folded field */
                        continue;
                r = take_field(line, f, reterr);
                if (r < 0)
                        return r;
                began = true;
        }
        return 0;
}

int control_parse(const char *text, Package *p, Error *reterr) {
        _cleanup_(fields_done) Fields f = { NULL };
        _cleanup_free_ char *copy = strdup(text);
        const struct {
                const char *name;
                char **value, **field;
                const char *more; /* characters beside letters and digits */
        } required[] = {
                { "Package", &f.name, &p->name, "+-." },
                { "Version", &f.version, &p->version, ".+-:~" },
                { "Architecture", &f.arch, &p->arch, "-" },
        };
        int r;

        if (!copy)
                return -ENOMEM;
        r = split_fields(copy, &f, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(required); i++) {
                if (!*required[i].value)
                        return error_set(reterr, -EBADMSG, fetch_again, "its control data lacks the field '%s'",
                                        required[i].name);
                if (!is_word(*required[i].value, required[i].more))
                        return error_set(reterr, -EBADMSG, fetch_again,
                                        "its control data has a field '%s' that cannot be", required[i].name);
                free(*required[i].field);
                *required[i].field = TAKE_PTR(*required[i].value);
        }
        p->installed_bytes = parse_installed_size(f.installed_size);
        return 0;
}
