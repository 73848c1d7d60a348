/* SPDX-License-Identifier: Apache-2.0 */

#include "node/status.h"

#include <ctype.h>

#define BLANK " \t\r\n"

typedef struct Word {
        const char *p;
        size_t n;
} Word;

/* The next word, quotes around it stripped; n is 0 at the end. */
static Word next_word(const char **p) {
        Word w;

        *p += strspn(*p, BLANK);
        w = (Word){ *p, strcspn(*p, BLANK) };
        *p += w.n;
        if (w.n >= 2 && w.p[0] == '\'' && w.p[w.n - 1] == '\'')
                w = (Word){ w.p + 1, w.n - 2 };
        return w;
}

static bool word_is(Word w, const char *s) {
        return w.n == strlen(s) && memcmp(w.p, s, w.n) == 0;
}

static bool word_is_version(Word w) {
        return w.n > 0 && isdigit((unsigned char) w.p[0]) && memchr(w.p, '.', w.n);
}

static int word_copy(Word w, char **ret) {
        char *s;

        if (!ret)
                return 0;
        s = strndup(w.p, w.n);
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

/* "Application emqx 4.3.0 is running": where 4.3.0 and 4.3.1 say their version. */
static Word application_version(const char *output) {
        for (const char *p = output; *p;) {
                Word w = next_word(&p);
                const char *q = p;

                if (!word_is(w, "Application"))
                        continue;
                (void) next_word(&q);
                w = next_word(&q);
                if (word_is_version(w))
                        return w;
        }
        return (Word){ NULL, 0 };
}

int status_parse(const char *output, char **ret_node, char **ret_version, bool *ret_started) {
        assert(output);

        for (const char *p = output; *p;) {
                _cleanup_free_ char *node_copy = NULL;
                Word w = next_word(&p), node, version;
                const char *q = p;

                if (!word_is(w, "Node"))
                        continue;
                node = next_word(&q);
                w = next_word(&q);
                if (word_is_version(w)) {
                        version = w;
                        w = next_word(&q);
                } else
                        version = application_version(output);
                if (node.n == 0 || version.n == 0 || !word_is(w, "is"))
                        continue; /* "Node 'emqx@127.0.0.1' not responding to pings." */

                w = next_word(&q);
                if (w.n == 0)
                        continue;
                if (word_copy(node, ret_node ? &node_copy : NULL) < 0 || word_copy(version, ret_version) < 0)
                        return -ENOMEM;
                if (ret_node)
                        *ret_node = TAKE_PTR(node_copy);
                if (ret_started)
                        *ret_started = word_is(w, "started");
                return 0;
        }
        return -EBADMSG;
}

int broker_version_parse(const char *output, char **ret_version) {
        assert(output);
        assert(ret_version);

        for (const char *p = output; *p;) {
                const char *rest = startswith(p + strspn(p, BLANK), "version");
                Word w;

                p += strcspn(p, "\r\n");
                p += strspn(p, "\r\n");
                if (!rest)
                        continue;
                rest += strspn(rest, " \t");
                if (*rest++ != ':')
                        continue;
                w = next_word(&rest);
                if (word_is_version(w))
                        return word_copy(w, ret_version);
        }
        return -EBADMSG;
}
