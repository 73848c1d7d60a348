/* SPDX-License-Identifier: Apache-2.0 */

#include "node/log.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/sha256.h"
#include "base/time.h"

#define RINGS 2 /* that of run_erl, and that of EMQX's logger */
#define RING_FILES_MAX 64
#define LINE_BYTES_MAX 4096
#define TAIL_BYTES_MAX 64
#define WATCHED (IN_CREATE | IN_MODIFY | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)

/* One file, by its inode: a rename keeps it, a new file under an old name is another one. fd stays open, so that the
 * last lines of a file that was deleted are still read, and its inode number is not used again. */
typedef struct LogFile {
        char name[NAME_MAX + 1];
        int fd;
        dev_t dev;
        ino_t ino;
        off_t offset;              /* everything before it was reported, or was there before */
        char tail[TAIL_BYTES_MAX]; /* the bytes before offset: when they are others, the file was begun anew */
        size_t tail_size;
        char line[LINE_BYTES_MAX];
        size_t line_size;
        bool in_line; /* bytes of the current line were seen, maybe more than line holds */
        bool present; /* its name was seen in the last scan */
        bool fresh;   /* the last scan found it new, or begun anew */
        struct timespec mtime;
} LogFile;

struct NodeLog {
        int dir_fd;
        int inotify_fd;
        bool stale;
        LogFile *files[2 * RINGS * RING_FILES_MAX]; /* in a scan, those of the one before too */
        size_t n_files;
        struct timespec left_out[RINGS]; /* the newest of those that were too many */
};

/* The newest files of one ring, as a scan comes across them. */
typedef struct Ring {
        struct RingFile {
                char name[NAME_MAX + 1];
                struct timespec mtime;
        } files[RING_FILES_MAX + 1];
        size_t n;
} Ring;

typedef struct Sink {
        void (*on_line)(const char *file, const char *line, void *userdata);
        void *userdata;
} Sink;

static LogFile *log_file_free(LogFile *f) {
        if (f)
                safe_close(f->fd);
        return mfree(f);
}

NodeLog *node_log_free(NodeLog *log) {
        if (!log)
                return NULL;
        for (size_t i = 0; i < log->n_files; i++)
                log_file_free(log->files[i]);
        safe_close(log->dir_fd);
        safe_close(log->inotify_fd);
        return mfree(log);
}

/* erlang.log.N, emqx.log.N, and emqx.log, which is there with log.rotation = off; not emqx.log.idx, emqx.log.siz. */
static bool is_log_name(const char *name) {
        const char *number;

        if (streq(name, "emqx.log"))
                return true;
        number = startswith(name, "erlang.log.") ?: startswith(name, "emqx.log.");
        return number && *number && number[strspn(number, "0123456789")] == 0;
}

static size_t ring_of(const char *name) {
        return startswith(name, "erlang.log.") ? 0 : 1;
}

static void flush_line(LogFile *f, const Sink *sink) {
        if (!f->in_line)
                return;
        /* A terminal's line end; two, where the runtime writes its own before run_erl's terminal adds one. */
        while (f->line_size > 0 && f->line[f->line_size - 1] == '\r')
                f->line_size--;
        f->line[f->line_size] = 0;
        sink->on_line(f->name, f->line, sink->userdata);
        f->line_size = 0;
        f->in_line = false;
}

static void take_bytes(LogFile *f, const char *data, size_t n, const Sink *sink) {
        for (size_t i = 0; i < n; i++) {
                f->in_line = true;
                if (data[i] == '\n')
                        flush_line(f, sink);
                else if (f->line_size < LINE_BYTES_MAX - 1)
                        f->line[f->line_size++] = data[i] ? data[i] : ' ';
        }
}

static int remember_tail(LogFile *f) {
        size_t want = MIN((size_t) f->offset, (size_t) TAIL_BYTES_MAX);
        ssize_t n = pread(f->fd, f->tail, want, f->offset - (off_t) want);

        if (n < 0)
                return -errno;
        f->tail_size = (size_t) n == want ? want : 0;
        return 0;
}

/* run_erl and disk_log begin a file of the ring anew by truncating it; it may have grown past our offset since. */
static bool was_begun_anew(const LogFile *f, off_t size) {
        char now[TAIL_BYTES_MAX];

        if (size < f->offset)
                return true;
        return pread(f->fd, now, f->tail_size, f->offset - (off_t) f->tail_size) != (ssize_t) f->tail_size ||
                        memcmp(now, f->tail, f->tail_size) != 0;
}

/* Reads up to the size that the file has now, so that a fast writer cannot keep us here. */
static void follow(LogFile *f, const Sink *sink) {
        char buffer[16 * 1024];
        struct stat st;

        if (fstat(f->fd, &st) < 0)
                return;
        if (was_begun_anew(f, st.st_size)) {
                flush_line(f, sink);
                f->offset = 0;
        }
        while (f->offset < st.st_size) {
                ssize_t n = pread(f->fd, buffer, MIN(sizeof(buffer), (size_t) (st.st_size - f->offset)), f->offset);

                if (n <= 0)
                        break;
                take_bytes(f, buffer, (size_t) n, sink);
                f->offset += n;
        }
        (void) remember_tail(f);
}

static int compare_times(const struct timespec *a, const struct timespec *b) {
        if (a->tv_sec != b->tv_sec)
                return a->tv_sec < b->tv_sec ? -1 : 1;
        return (a->tv_nsec > b->tv_nsec) - (a->tv_nsec < b->tv_nsec);
}

static LogFile *find_file(NodeLog *log, const struct stat *st) {
        for (size_t i = 0; i < log->n_files; i++)
                if (log->files[i]->dev == st->st_dev && log->files[i]->ino == st->st_ino)
                        return log->files[i];
        return NULL;
}

/* Root reads what the broker's user may have put there: no links, no FIFOs, not without end. What was left out before
 * has come back because another file is gone: nothing in it is new. */
static int note_file(NodeLog *log, const char *name, bool from_end) {
        _cleanup_close_ int fd = -1;
        struct stat st;
        LogFile *f;

        fd = openat(log->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return 0;

        f = find_file(log, &st);
        if (f)
                f->fresh = was_begun_anew(f, st.st_size);
        else {
                if (log->n_files == ELEMENTSOF(log->files))
                        return 0;
                f = calloc(1, sizeof(*f));
                if (!f)
                        return -ENOMEM;
                f->fd = TAKE_FD(fd);
                f->dev = st.st_dev;
                f->ino = st.st_ino;
                if (from_end || compare_times(&st.st_mtim, &log->left_out[ring_of(name)]) <= 0)
                        f->offset = st.st_size;
                f->fresh = true;
                (void) remember_tail(f);
                log->files[log->n_files++] = f;
        }
        (void) snprintf(f->name, sizeof(f->name), "%s", name);
        f->present = true;
        f->mtime = st.st_mtim;
        return 0;
}

/* A ring of files reads as it was written: the end of the one that was being written, then the next. Times alone do
 * not tell, they stand still for milliseconds. */
static int by_age(const void *a, const void *b) {
        const LogFile *x = *(LogFile *const *) a, *y = *(LogFile *const *) b;

        if (x->fresh != y->fresh)
                return x->fresh ? 1 : -1;
        return compare_times(&x->mtime, &y->mtime) ?: strverscmp(x->name, y->name);
}

static int by_newness(const void *a, const void *b) {
        const struct RingFile *x = a, *y = b;

        return compare_times(&y->mtime, &x->mtime) ?: strverscmp(y->name, x->name);
}

/* Where there are too many the oldest is left out: what is written goes to the newest. */
static void ring_add(Ring *ring, const char *name, const struct stat *st, struct timespec *left_out) {
        struct RingFile *f = ring->files + ring->n++;

        (void) snprintf(f->name, sizeof(f->name), "%s", name);
        f->mtime = st->st_mtim;
        if (ring->n < ELEMENTSOF(ring->files))
                return;
        qsort(ring->files, ring->n, sizeof(*ring->files), by_newness);
        f = ring->files + --ring->n;
        if (compare_times(&f->mtime, left_out) > 0)
                *left_out = f->mtime;
}

/* Looks which files there are. */
static int scan(NodeLog *log, bool from_end) {
        _cleanup_free_ Ring *rings = calloc(RINGS, sizeof(*rings));
        struct stat st;
        DIR *dir;
        int fd, r = 0;

        if (!rings)
                return -ENOMEM;
        for (size_t i = 0; i < log->n_files; i++) {
                log->files[i]->present = log->files[i]->fresh = false;
                log->files[i]->mtime = (struct timespec){ 0 };
        }

        fd = openat(log->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                safe_close(fd);
                return r;
        }
        for (struct dirent *e; (e = readdir(dir));) {
                size_t i = ring_of(e->d_name);

                if (is_log_name(e->d_name) && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                                S_ISREG(st.st_mode))
                        ring_add(&rings[i], e->d_name, &st, &log->left_out[i]);
        }
        (void) closedir(dir);

        for (size_t i = 0; i < RINGS; i++)
                for (size_t j = 0; r >= 0 && j < rings[i].n; j++)
                        r = note_file(log, rings[i].files[j].name, from_end);

        qsort(log->files, log->n_files, sizeof(*log->files), by_age);
        return r;
}

/* Of at most TAIL_BYTES_MAX bytes before offset, so that no text of the log leaves it. */
static int tail_digest(const LogFile *f, off_t offset, char ret_hex[static SHA256_HEX_SIZE]) {
        size_t want = MIN((size_t) offset, (size_t) TAIL_BYTES_MAX);
        char tail[TAIL_BYTES_MAX];

        if (pread(f->fd, tail, want, offset - (off_t) want) != (ssize_t) want)
                return -EIO;
        return sha256_buffer(tail, want, ret_hex);
}

int node_log_marks(const NodeLog *log, char ***ret) {
        _cleanup_strv_ char **marks = NULL;

        assert(log);
        assert(ret);

        for (size_t i = 0; i < log->n_files; i++) {
                const LogFile *f = log->files[i];
                char hex[SHA256_HEX_SIZE];

                if (!f->present || tail_digest(f, f->offset, hex) < 0)
                        continue;
                if (strv_extendf(&marks, "%s %" PRIu64 " %s", f->name, (uint64_t) f->offset, hex) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(marks);
        return 0;
}

/* Where a mark is for f; its begin where there is none that fits. */
static off_t marked_offset(const LogFile *f, char *const *marks) {
        struct stat st;

        if (fstat(f->fd, &st) < 0)
                return 0;
        for (; marks && *marks; marks++) {
                const char *rest = startswith(*marks, f->name);
                char hex[SHA256_HEX_SIZE], *end;
                unsigned long long offset;

                if (!rest || *rest != ' ')
                        continue;
                errno = 0;
                offset = strtoull(rest + 1, &end, 10);
                if (errno == 0 && *end == ' ' && offset <= (unsigned long long) st.st_size &&
                                tail_digest(f, (off_t) offset, hex) >= 0 && streq(end + 1, hex))
                        return (off_t) offset;
        }
        return 0;
}

int node_log_open(const char *log_dir, char *const *marks, NodeLog **ret, Error *reterr) {
        _cleanup_(node_log_freep) NodeLog *log = NULL;
        int r;

        assert(log_dir);
        assert(ret);

        log = calloc(1, sizeof(*log));
        if (!log)
                return -ENOMEM;
        log->dir_fd = log->inotify_fd = -1;

        log->dir_fd = open(log_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (log->dir_fd < 0)
                return error_set(reterr, -errno, NULL, "%s: the log directory cannot be opened: %m", log_dir);
        log->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (log->inotify_fd < 0 || inotify_add_watch(log->inotify_fd, log_dir, WATCHED | IN_ONLYDIR) < 0)
                return error_set(reterr, -errno, NULL, "%s: the log directory cannot be watched: %m", log_dir);

        r = scan(log, true); /* after the watch: what is written in between is noticed */
        if (r < 0)
                return error_set(reterr, r, NULL, "%s: the log directory cannot be read: %m", log_dir);
        for (size_t i = 0; marks && i < log->n_files; i++) {
                log->files[i]->offset = marked_offset(log->files[i], marks);
                (void) remember_tail(log->files[i]);
        }
        *ret = TAKE_PTR(log);
        return 0;
}

int node_log_fd(NodeLog *log) {
        assert(log);
        return log->inotify_fd;
}

/* The events only wake us: what has changed is read from the directory itself. */
static void drain_events(NodeLog *log) {
        char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
        ssize_t n;

        while ((n = read(log->inotify_fd, buffer, sizeof(buffer))) > 0)
                for (char *p = buffer; p < buffer + n;) {
                        const struct inotify_event *e = (const struct inotify_event *) (void *) p;

                        if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED))
                                log->stale = true;
                        p += sizeof(*e) + e->len;
                }
}

int node_log_read(NodeLog *log, void (*on_line)(const char *file, const char *line, void *userdata), void *userdata) {
        const Sink sink = { on_line, userdata };
        size_t kept = 0;
        int r;

        assert(log);
        assert(on_line);

        drain_events(log);
        r = scan(log, false);

        for (size_t i = 0; i < log->n_files; i++) {
                LogFile *f = log->files[i];

                follow(f, &sink);
                if (f->present || r < 0)
                        log->files[kept++] = f;
                else {
                        flush_line(f, &sink); /* its name is gone: that was all */
                        log_file_free(f);
                }
        }
        log->n_files = kept;

        return log->stale ? -ESTALE : r;
}

enum {
        RUNNING = NODE_LINE_RUNNING,
        FATAL = NODE_LINE_FATAL,
        FAILURE = NODE_LINE_FAILURE,
        WARNING = NODE_LINE_WARNING,
};

/* What a line means. Both texts must be in it; the first row that fits decides. Printed by bin/emqx, emqx_app.erl,
 * emqx_listeners.erl, emqx_plugins.erl, ekka_mnesia.erl, cuttlefish and the Erlang runtime. */
static const struct {
        const char *text, *also;
        int kind;
} patterns[] = {
        { "esockd_connection_sup", NULL, WARNING },           /* a connection failed, not the node */
        { "Ranch listener ", "connection process", WARNING }, /* the same, of HTTP and WebSocket */
        { "[MQTT/WS] ", NULL, WARNING },                      /* the same, before its peer is noted */
        { "Authorization Failure", NULL, WARNING },           /* somebody's at the dashboard */
        { "is running now!", NULL, RUNNING },                 /* the last act of emqx_app:start/2 */
        { "Error generating configuration", NULL, FATAL },    /* cuttlefish refused emqx.conf */
        { "attempted to set unknown variable", NULL, FATAL }, /* which key it was */
        { "Syntax error in ", " line ", FATAL },              /* the same, for a line */
        { "You've tried to set", NULL, FAILURE },             /* of a plugin's file too: not fatal */
        { "Please set node.cookie", NULL, FATAL },            /* bin/emqx gave up */
        { "Failed to start mqtt", "listener", FATAL },        /* its port is taken: ends the start */
        { "Failed to start", NULL, FAILURE },                 /* a plugin's: ends the plugin alone */
        { "register/listen error", NULL, FATAL },             /* the distribution's port is taken */
        { "in use by another Erlang node", NULL, FATAL },     /* the node's name is taken */
        { "FATAL: Unable to start Erlang", NULL, FATAL },     /* libcrypto or ncurses is missing */
        { "Please make sure openssl", NULL, FATAL },          /* the same, next line */
        { "Error when reading ", ".erlang.cookie", FATAL },   /* its owner is wrong */
        { "Cookie file ", "by owner only", FATAL },           /* its mode is wrong */
        { "Failed to create cookie file", NULL, FATAL },      /* HOME is wrong */
        { "Kernel pid terminated", NULL, FATAL },             /* an application could not start */
        { "terminating during boot", NULL, FATAL },           /* nor could the runtime */
        { "init terminating in do_boot", NULL, FATAL },       /* nor could the runtime */
        { "Crash dump is being written to", NULL, FATAL },    /* the VM is ending */
        { "still waiting for table", NULL, WARNING },         /* Mnesia waits for peers */
        { "cannot_find_plugins", NULL, FAILURE },             /* in loaded_plugins, not installed */
        { "Plugin ", "load failed", FAILURE },                /* its configuration was refused */
        { "Load plugin ", "failed", FAILURE },                /* it could not start */
        { "Failed to read", NULL, FAILURE },                  /* loaded_modules: no module loads */
        { "bad cookie", NULL, WARNING },                      /* a peer has another cookie */
        { "attempt from disallowed node", NULL, WARNING },    /* the same, seen from here */
        { "** Node ", "not responding **", WARNING },         /* a peer is gone */
        { "Alarm ", " is activated", WARNING },               /* emqx_alarm */
        { "[error]", NULL, FAILURE },                         /* the logger's levels */
        { "[critical]", NULL, FAILURE },
        { "[alert]", NULL, FAILURE },
        { "[emergency]", NULL, FAILURE },
};

/* Behind "TIME [LEVEL] ", with which EMQX's logger begins a line; NULL: another one has written it. */
static const char *after_level(const char *line) {
        static const char *const tags[] = { "[debug] ", "[info] ", "[notice] ", "[warning] ", "[error] ",
                "[critical] ", "[alert] ", "[emergency] " };

        for (; (line = strchr(line, '[')); line++)
                for (size_t i = 0; i < ELEMENTSOF(tags); i++)
                        if (startswith(line, tags[i]))
                                return line + strlen(tags[i]);
        return NULL;
}

/* "ADDRESS:PORT ", as esockd writes it; one of IPv6 in brackets too, as others do. */
static bool is_peer(const char *text) {
        char word[sizeof("[]:65535") + INET6_ADDRSTRLEN], *address = word, *port;
        struct in6_addr parsed;
        size_t n = strcspn(text, " ");

        if (n >= sizeof(word))
                return false;
        *(char *) mempcpy(word, text, n) = 0;
        port = strrchr(word, ':');
        if (!port || !port[1] || port[1 + strspn(port + 1, "0123456789")])
                return false;
        *port = 0;
        if (*address == '[' && port[-1] == ']') {
                address++;
                port[-1] = 0;
        }
        return inet_pton(AF_INET, address, &parsed) == 1 || inet_pton(AF_INET6, address, &parsed) == 1;
}

/* "TIME [LEVEL] CLIENT@PEER …", before its CONNECT "TIME [LEVEL] PEER …", or an object that has them as members:
 * whoever it is, the text behind may be of his choice. So may be all of a line that was cut, before it comes to PEER. */
static bool names_a_client(const char *line) {
        const char *text = after_level(line);

        if (text && (is_peer(text) || strlen(line) == LINE_BYTES_MAX - 1))
                return true;
        for (const char *p = line; (p = strchr(p, '@'));)
                if (is_peer(++p))
                        return true;
        return strstr(line, "\"clientid\":") || strstr(line, "\"peername\":");
}

NodeLineKind node_line_classify(const char *file, const char *line) {
        bool console;

        assert(file);
        assert(line);

        console = startswith(file, "erlang.log.");
        for (size_t i = 0; i < ELEMENTSOF(patterns); i++) {
                if (!strstr(line, patterns[i].text) || (patterns[i].also && !strstr(line, patterns[i].also)))
                        continue;
                if (patterns[i].kind == NODE_LINE_WARNING)
                        return NODE_LINE_WARNING;
                if (patterns[i].kind == NODE_LINE_RUNNING)
                        return console && !names_a_client(line) ? NODE_LINE_RUNNING : NODE_LINE_OTHER;
                if (names_a_client(line))
                        return NODE_LINE_WARNING;
                return console ? (NodeLineKind) patterns[i].kind : NODE_LINE_FAILURE;
        }
        return NODE_LINE_OTHER;
}
