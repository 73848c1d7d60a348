/* SPDX-License-Identifier: Apache-2.0 */

#include "archive/owner.h"

#include <grp.h>
#include <pwd.h>

#define NSS_BUFFER_BYTES 65536

typedef enum Kind {
        USER_BY_ID,
        USER_BY_NAME,
        GROUP_BY_ID,
        GROUP_BY_NAME,
} Kind;

typedef struct Answer {
        Kind kind;
        bool found;
        uint32_t id;
        char *name;
} Answer;

struct Owners { /* a tree has a handful of owners: a list is quick */
        Answer *answers;
        size_t n_answers;
        char *buffer;
};

int owners_new(Owners **ret) {
        _cleanup_(owners_freep) Owners *o = calloc(1, sizeof(Owners));

        if (!o)
                return -ENOMEM;
        o->buffer = malloc(NSS_BUFFER_BYTES);
        if (!o->buffer)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

Owners *owners_free(Owners *o) {
        if (!o)
                return NULL;
        for (size_t i = 0; i < o->n_answers; i++)
                free(o->answers[i].name);
        free(o->answers);
        free(o->buffer);
        return mfree(o);
}

/* Fills in what a lacks of id and name. The result codes that mean "no such name" are those of getpwnam(3). */
static int look_up(Owners *o, Answer *a) {
        struct passwd pw, *user = NULL;
        struct group gr, *group = NULL;
        const char *name = NULL;
        int r;

        switch (a->kind) {
        case USER_BY_ID: r = getpwuid_r(a->id, &pw, o->buffer, NSS_BUFFER_BYTES, &user); break;
        case USER_BY_NAME: r = getpwnam_r(a->name, &pw, o->buffer, NSS_BUFFER_BYTES, &user); break;
        case GROUP_BY_ID: r = getgrgid_r(a->id, &gr, o->buffer, NSS_BUFFER_BYTES, &group); break;
        default: r = getgrnam_r(a->name, &gr, o->buffer, NSS_BUFFER_BYTES, &group);
        }
        if (r != 0 && r != ENOENT && r != ESRCH && r != EBADF && r != EPERM)
                return -r;

        a->found = user || group;
        if (user) {
                a->id = user->pw_uid;
                name = user->pw_name;
        } else if (group) {
                a->id = group->gr_gid;
                name = group->gr_name;
        }
        if (name && !a->name) {
                a->name = strdup(name);
                if (!a->name)
                        return -ENOMEM;
        }
        return 0;
}

static int ask(Owners *o, Kind kind, uint32_t id, const char *name, const Answer **ret) {
        Answer a = { .kind = kind, .id = id }, *larger;
        int r;

        for (size_t i = 0; i < o->n_answers; i++)
                if (o->answers[i].kind == kind && (name ? streq(o->answers[i].name, name) : o->answers[i].id == id)) {
                        *ret = o->answers + i;
                        return 0;
                }

        larger = reallocarray(o->answers, o->n_answers + 1, sizeof(Answer));
        if (!larger)
                return -ENOMEM;
        o->answers = larger;

        r = free_and_strdup(&a.name, name);
        if (r >= 0)
                r = look_up(o, &a);
        if (r < 0) {
                free(a.name);
                return r;
        }
        *ret = o->answers + o->n_answers;
        o->answers[o->n_answers++] = a;
        return 0;
}

static int name_of(Owners *o, Kind kind, uint32_t id, const char **ret) {
        const Answer *a;
        int r;

        r = ask(o, kind, id, NULL, &a);
        if (r >= 0)
                *ret = a->found ? a->name : NULL;
        return r;
}

static int id_of(Owners *o, Kind kind, const char *name, uint32_t fallback, uint32_t *ret) {
        const Answer *a;
        int r;

        *ret = fallback;
        if (!name)
                return 0;
        r = ask(o, kind, 0, name, &a);
        if (r >= 0 && a->found)
                *ret = a->id;
        return r;
}

int owners_user_name(Owners *o, uid_t uid, const char **ret) {
        return name_of(o, USER_BY_ID, uid, ret);
}

int owners_group_name(Owners *o, gid_t gid, const char **ret) {
        return name_of(o, GROUP_BY_ID, gid, ret);
}

int owners_uid(Owners *o, const char *name, uid_t fallback, uid_t *ret) {
        return id_of(o, USER_BY_NAME, name, fallback, ret);
}

int owners_gid(Owners *o, const char *name, gid_t fallback, gid_t *ret) {
        return id_of(o, GROUP_BY_NAME, name, fallback, ret);
}
