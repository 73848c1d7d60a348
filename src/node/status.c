/* SPDX-License-Identifier: Apache-2.0 */

#include "node/status.h"

#include <ctype.h>

#include "node/word.h"

static bool word_is_version(Word w) {
        return w.n > 0 && isdigit((unsigned char) w.p[0]) && memchr(w.p, '.', w.n);
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
