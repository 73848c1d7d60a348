/* SPDX-License-Identifier: Apache-2.0 */

/* emqx-upgrade backups: what upgrades can be taken back to. */

#include "txn/backups.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "base/process.h"
#include "base/size.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "steps/archive.h"

/* What every one of them needs. */
typedef struct Looking {
        int state_fd;
        Config *config;
        Backups backups;
} Looking;

#define LOOKING_NULL ((Looking){ -1, NULL, { NULL, 0 } })

static void looking_done(Looking *k) {
        k->state_fd = safe_close(k->state_fd);
        k->config = config_free(k->config);
        backups_done(&k->backups);
}

static ExitStatus say(const Error *error, int r, ExitStatus status) {
        (void) fprintf(stderr, "emqx-upgrade: %s\n", error_text(error, r));
        if (error->advice)
                (void) fprintf(stderr, "%s\n", error->advice);
        return status;
}

static ExitStatus bad_usage(const char *what, const char *why) {
        (void) fprintf(stderr, "emqx-upgrade: backups: %.64s: %s. Try: emqx-upgrade --help\n", what, why);
        return EXIT_USAGE;
}

static int look(Looking *k, Error *reterr) {
        int r;

        r = config_load("", &k->config, reterr);
        if (r < 0)
                return r;
        k->state_fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (k->state_fd < 0)
                return errno == ENOENT ? 0
                                       : error_set(reterr, -errno, "Run it as root.", "Cannot open %s: %m", STATE_DIR);
        return backups_load(k->state_fd, &k->backups, reterr);
}

/* --- list --- */

static const char *form_name(const Backup *b) {
        static const char *const names[] = {
                [BACKUP_INCOMPLETE] = "incomplete",
                [BACKUP_STAGED] = "staged",
                [BACKUP_TREE] = "tree",
                [BACKUP_ARCHIVED] = "archive",
        };

        return names[b->form];
}

static int to_json(const Backup *b, json_object *list) {
        json_object *o = json_object_new_object();
        const Txn *t = b->txn;
        int r;

        r = json_append(list, o);
        if (r >= 0)
                r = json_add_text(o, "id", b->id);
        if (r >= 0)
                r = json_add_text(o, "from", t ? t->plan->from : NULL);
        if (r >= 0)
                r = json_add_text(o, "to", t ? t->plan->to : NULL);
        if (r >= 0)
                r = json_add_text(o, "result", t ? txn_result_name(t->result) : NULL);
        if (r >= 0)
                r = json_add_number(o, "started_realtime_usec", b->started_realtime_usec);
        if (r >= 0)
                r = json_add_number(o, "bytes", b->bytes);
        if (r >= 0)
                r = json_add_text(o, "form", form_name(b));
        if (r >= 0)
                r = json_add_text(o, "kept", b->kept);
        return r >= 0 ? json_add_text(o, "goes", b->goes) : r;
}

/* As history shows an upgrade: a line each, and below it its id and what becomes of it. */
static void print_one(const Backup *b) {
        char when[TIMESPAN_TEXT_MAX], size[SIZE_TEXT_MAX];
        _cleanup_free_ char *versions = NULL;
        const char *why = b->kept ?: b->goes;
        const Txn *t = b->txn;

        if (t && asprintf(&versions, "%s %s %s", t->plan->from ?: "?", glyph(GLYPH_ARROW), t->plan->to) < 0)
                return;
        print_cell(stdout, STYLE_PLAIN, format_local(when, b->started_realtime_usec), 24);
        print_cell(stdout, STYLE_STRONG, versions ?: "?", 18);
        print_cell(stdout, STYLE_PLAIN, t ? txn_result_name(t->result) : "?", 12);
        (void) printf(" %10s  %s\n  %s%s%s\n", format_size(size, b->bytes), form_name(b),
                        style_begin(stdout, STYLE_DIM), b->id, style_end(stdout));
        if (why) {
                _cleanup_free_ char *text = NULL;

                if (asprintf(&text, "%s: %s", b->kept ? "kept" : "goes", why) < 0)
                        return;
                (void) fputs("  ", stdout);
                print_wrapped(stdout, STYLE_PLAIN, 2, 2, text);
        }
}

static ExitStatus list(const Looking *k) {
        const Backups *l = &k->backups;
        _cleanup_json_ json_object *o = NULL;
        int r = 0;

        if (arg_json) {
                o = json_object_new_array();
                for (size_t i = 0; i < l->n && r >= 0; i++)
                        r = to_json(&l->items[i], o);
                if (r < 0)
                        return say(&ERROR_NULL, r, EXIT_INTERRUPTED);
                (void) puts(json_object_to_json_string_ext(
                                o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
                return EXIT_DONE;
        }
        if (l->n == 0)
                (void) puts("There is no backup on this host.");
        for (size_t i = 0; i < l->n; i++)
                print_one(&l->items[i]);
        return EXIT_DONE;
}

/* --- verify --- */

static void print_difference(const char *path, unsigned differences, void *userdata) {
        char text[TREE_DIFFERENCE_TEXT_MAX];

        (void) userdata;
        (void) printf("%s: %s\n", path, tree_difference_text(text, differences));
}

/* EXIT_DONE: *ret has a record. Else the reason has been said. */
static ExitStatus find_recorded(const Looking *k, const char *id, const Backup **ret) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        int r;

        r = backups_find(&k->backups, id, ret, &error);
        if (r < 0)
                return say(&error, r, EXIT_USAGE);
        return (*ret)->txn ? EXIT_DONE : bad_usage((*ret)->id, "it has no record that says what belongs to it");
}

static ExitStatus verify(const Looking *k, const char *id) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        const Backup *b;
        ExitStatus status;
        int r;

        status = find_recorded(k, id, &b);
        if (status != EXIT_DONE)
                return status;
        r = backup_check(b->txn->plan, NULL, print_difference, NULL, &error);
        if (r > 0)
                r = error_set(&error, -EBADMSG, NULL, "The backup %s is not what its manifests say", b->id);
        if (r >= 0)
                r = backup_usable(b->txn->plan, &error);
        if (r < 0)
                return say(&error, r, EXIT_REFUSED);
        (void) printf("%s: all is what its manifests say\n", b->id);
        return EXIT_DONE;
}

/* --- extract --- */

/* A directory of our own: new, or empty. */
static int open_target(const char *path, int *ret_fd, Error *reterr) {
        static const char advice[] = "Name one that does not exist, or is empty.";
        _cleanup_close_ int fd = -1;
        TreeSize size;
        int r;

        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return error_set(reterr, -errno, NULL, "Cannot make the directory %s: %m", path);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return error_set(reterr, -errno, advice, "Cannot extract to %s: %m", path);
        r = tree_measure(fd, &size, reterr);
        if (r >= 0 && size.n_entries > 0)
                r = error_set(reterr, -ENOTEMPTY, advice, "Cannot extract to %s: it is not empty", path);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static ExitStatus extract(const Looking *k, const char *id, const char *path) {
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_close_ int fd = -1;
        const Backup *b;
        ExitStatus status;
        int r;

        status = find_recorded(k, id, &b);
        if (status != EXIT_DONE)
                return status;
        r = open_target(path, &fd, &error);
        if (r < 0)
                return say(&error, r, EXIT_REFUSED);
        r = backup_extract(b->txn->plan, fd, NULL, &error);
        if (r < 0) {
                (void) tree_empty(fd, NULL);
                return say(&error, r, EXIT_REFUSED);
        }
        for (size_t i = 0; i < b->txn->plan->n_trees; i++)
                (void) printf("%s is in %s/%s\n", b->txn->plan->trees[i].path, path, b->txn->plan->trees[i].name);
        return EXIT_DONE;
}

/* --- prune --- */

static int choose(Looking *k, const char *id, Error *reterr) {
        const Backup *b;
        int r;

        if (!id)
                return backups_choose(&k->backups, k->config, now_usec(CLOCK_REALTIME));
        r = backups_find(&k->backups, id, &b, reterr);
        if (r >= 0)
                r = backup_may_go(&k->backups, b, k->config, reterr);
        if (r < 0)
                return r;
        return free_and_strdup(&k->backups.items[b - k->backups.items].goes, "somebody asked for it");
}

static ExitStatus prune(const char *id) {
        _cleanup_(looking_done) Looking k = LOOKING_NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        _cleanup_close_ int lock_fd = -1;
        char name[32], size[SIZE_TEXT_MAX];
        pid_t holder = 0;
        bool any = false;
        int r;

        if (access(STATE_DIR, F_OK) < 0 && errno == ENOENT) {
                (void) puts("There is no backup on this host.");
                return EXIT_DONE;
        }
        r = lock_take(LOCK_PATH, &lock_fd, &holder);
        if (r == 0)
                r = error_set(&error, -EBUSY, "Wait for its end: emqx-upgrade status",
                                "An upgrade is running: process %i (%s)", holder, process_name(name, holder));
        if (r >= 0)
                r = look(&k, &error);
        if (r >= 0 && !arg_dry_run)
                r = backups_sweep(&error);
        if (r >= 0)
                r = choose(&k, id, &error);
        if (r < 0)
                return say(&error, r, r == -ENOENT ? EXIT_USAGE : EXIT_REFUSED);

        for (size_t i = 0; i < k.backups.n; i++) {
                const Backup *b = &k.backups.items[i];

                if (!b->goes)
                        continue;
                any = true;
                if (!arg_dry_run) {
                        r = backup_remove(b, b->goes, &(JournalContext){ .upgrade_id = b->id }, &error);
                        if (r < 0)
                                return say(&error, r, EXIT_INTERRUPTED);
                }
                (void) printf("%s  %s %s: %s\n", b->id, format_size(size, b->bytes),
                                arg_dry_run ? "would be removed" : "removed", b->goes);
        }
        if (!any)
                (void) puts("All backups are to be kept.");
        return EXIT_DONE;
}

ExitStatus verb_backups(char **args) {
        const struct {
                const char *name;
                unsigned min_args, max_args;
        } verbs[] = { { "list", 0, 0 }, { "verify", 1, 1 }, { "extract", 2, 2 }, { "prune", 0, 1 } };
        _cleanup_(looking_done) Looking k = LOOKING_NULL;
        _cleanup_(error_done) Error error = ERROR_NULL;
        const char *verb = args[0] ?: "list";
        struct rlimit files;
        unsigned n = 0;
        int r;

        for (; args[0] && args[1 + n]; n++)
                ;
        for (size_t i = 0; i <= ELEMENTSOF(verbs); i++) {
                if (i == ELEMENTSOF(verbs))
                        return bad_usage(verb, "none of list, verify, extract and prune");
                if (!streq(verbs[i].name, verb))
                        continue;
                if (n < verbs[i].min_args)
                        return bad_usage(verb, "an argument is missing");
                if (n > verbs[i].max_args)
                        return bad_usage(verb, "too many arguments");
                break;
        }
        if (n > 0 && !streq(args[1], "last") && !plan_is_id(args[1]))
                return bad_usage(args[1], "not the id of a backup");
        if (arg_dry_run && !streq(verb, "prune"))
                return bad_usage(verb, "it removes nothing, so --dry-run does not go with it");

        /* Two descriptors for each level of a tree. */
        if (getrlimit(RLIMIT_NOFILE, &files) >= 0) {
                files.rlim_cur = files.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &files);
        }
        if (streq(verb, "prune"))
                return prune(args[1]);
        r = look(&k, &error);
        if (r >= 0 && streq(verb, "list"))
                r = backups_choose(&k.backups, k.config, now_usec(CLOCK_REALTIME));
        if (r < 0)
                return say(&error, r, EXIT_INTERRUPTED);
        return streq(verb, "list")              ? list(&k)
                        : streq(verb, "verify") ? verify(&k, args[1])
                                                : extract(&k, args[1], args[2]);
}
