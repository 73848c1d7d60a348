/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Word: what stands between white space in what a command has printed. Borrowed from that text. */

#include "base/macro.h"

#define BLANK " \t\r\n"

typedef struct Word {
        const char *p;
        size_t n; /* 0: there is none */
} Word;

/* The next word at *p, which is moved behind it; quotes around it stripped; n is 0 at the end. */
static inline Word next_word(const char **p) {
        Word w;

        *p += strspn(*p, BLANK);
        w = (Word){ *p, strcspn(*p, BLANK) };
        *p += w.n;
        if (w.n >= 2 && w.p[0] == '\'' && w.p[w.n - 1] == '\'')
                w = (Word){ w.p + 1, w.n - 2 };
        return w;
}

static inline bool word_is(Word w, const char *s) {
        return w.n == strlen(s) && memcmp(w.p, s, w.n) == 0;
}

static inline int word_copy(Word w, char **ret) {
        char *s;

        if (!ret)
                return 0;
        s = strndup(w.p, w.n);
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}
