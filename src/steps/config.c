/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/config.h"

#include <dirent.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>

#include "base/fileio.h"
#include "base/strv.h"

#define CONFIG_FILE "/etc/emqx-upgrade/emqx-upgrade.conf"
#define CONFIG_DIR "/etc/emqx-upgrade/emqx-upgrade.conf.d"
#define FILE_BYTES_MAX (256 * 1024)
#define LINE_BYTES_MAX 190 /* inih cuts at 200, and would take the rest for another line */
#define ATTEMPTS_MAX 100
#define PORT_MAX 65535

/* A parser returns what it expected where the value is not that, else NULL. */
typedef const char *(*ParseFunc)(const char *value, void *field);

static const char *parse_boolean(const char *value, void *field) {
        static const char *const yes[] = { "1", "yes", "true", "on" }, *const no[] = { "0", "no", "false", "off" };

        for (size_t i = 0; i < ELEMENTSOF(yes); i++)
                if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
                        *(bool *) field = strcasecmp(value, yes[i]) == 0;
                        return NULL;
                }
        return "yes or no";
}

static const char *parse_span(const char *value, void *field) {
        usec_t usec;

        if (parse_timespan(value, &usec) < 0 || usec == 0 || usec == USEC_INFINITY)
                return "a time span above 0, such as 90s or 5min";
        *(usec_t *) field = usec;
        return NULL;
}

static const char *parse_directory(const char *value, void *field) {
        if (value[0] != '/' || strstr(value, "/../") || endswith(value, "/.."))
                return "an absolute path";
        return free_and_strdup(field, value) < 0 ? "memory" : NULL;
}

static const char *parse_service(const char *value, void *field) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";

        if (!endswith(value, ".service") || value[0] == '.' || value[strspn(value, allowed)] || strlen(value) > 200)
                return "the name of a service, such as emqx.service";
        return free_and_strdup(field, value) < 0 ? "memory" : NULL;
}

static bool parse_number(const char *value, uint64_t max, uint64_t *ret) {
        char *end;
        unsigned long long n;

        if (!*value || value[strspn(value, "0123456789")])
                return false;
        errno = 0;
        n = strtoull(value, &end, 10);
        if (errno != 0 || n > max)
                return false;
        *ret = n;
        return true;
}

static const char *parse_attempts(const char *value, void *field) {
        return parse_number(value, ATTEMPTS_MAX, field) && *(uint64_t *) field > 0 ? NULL : "a number from 1 to 100";
}

static const char *parse_port(const char *value, void *field) {
        return parse_number(value, PORT_MAX, field) ? NULL : "a TCP port, or 0 for the one in emqx.conf";
}

static const struct {
        const char *section, *key, *default_value;
        ParseFunc parse;
        size_t offset;
} keys[] = {
#define KEY(section, key, default_value, parse, field)                                                                \
        { section, key, default_value, parse, offsetof(Config, field) }
        KEY("Upgrade", "PackagesDirectory", "/var/lib/emqx-upgrade/packages", parse_directory, packages_dir),
        KEY("Upgrade", "RequireOldPackage", "yes", parse_boolean, require_old_package),
        KEY("Upgrade", "LockTimeoutSec", "5min", parse_span, lock_timeout_usec),
        KEY("Upgrade", "StopTimeoutSec", "3min", parse_span, stop_timeout_usec),
        KEY("Upgrade", "StartTimeoutSec", "5min", parse_span, start_timeout_usec),
        KEY("Upgrade", "VerifyTimeoutSec", "2min", parse_span, verify_timeout_usec),
        KEY("Upgrade", "StallTimeoutSec", "5min", parse_span, stall_timeout_usec),
        KEY("Upgrade", "Attempts", "3", parse_attempts, attempts),
        KEY("Node", "Unit", "emqx.service", parse_service, unit),
        KEY("Node", "MqttProbe", "yes", parse_boolean, mqtt_probe),
        KEY("Node", "MqttPort", "0", parse_port, mqtt_port),
#undef KEY
};

usec_t config_patience_usec(const Config *c) {
        return MAX(MAX(c->stall_timeout_usec, c->start_timeout_usec),
                               MAX(c->stop_timeout_usec, c->verify_timeout_usec)) +
                        USEC_PER_MINUTE;
}

Config *config_free(Config *c) {
        if (!c)
                return NULL;
        free(c->packages_dir);
        free(c->unit);
        return mfree(c);
}

typedef struct Parsing {
        Config *config;
        char *wrong; /* what is wrong with the first line that is wrong */
} Parsing;

static int set_wrong(Parsing *p, const char *format, ...) _printf_(2, 3);

/* Returns 0, inih's word for an error; its return value is the first such line. */
static int set_wrong(Parsing *p, const char *format, ...) {
        va_list ap;

        if (p->wrong)
                return 0;
        va_start(ap, format);
        if (vasprintf(&p->wrong, format, ap) < 0)
                p->wrong = NULL;
        va_end(ap);
        return 0;
}

static int on_key(void *userdata, const char *section, const char *key, const char *value) {
        Parsing *p = userdata;
        bool known_section = false;

        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                const char *expected;

                if (!streq(keys[i].section, section))
                        continue;
                known_section = true;
                if (!streq(keys[i].key, key))
                        continue;
                /* An empty value is the default again, as in systemd's files. */
                expected = keys[i].parse(*value ? value : keys[i].default_value, (char *) p->config + keys[i].offset);
                return expected ? set_wrong(p, "%s=%s: expected %s", key, value, expected) : 1;
        }
        if (!*section)
                return set_wrong(p, "%s=: expected a section, [Upgrade] or [Node], before it", key);
        if (!known_section)
                return set_wrong(p, "[%s]: expected the section [Upgrade] or [Node]", section);
        return set_wrong(p, "%s=: no such key in [%s]", key, section);
}

/* Lines that inih would cut, and bytes that are no text: the number of the first one, 0 for none. */
static int find_bad_line(const char *text, size_t size_bytes, const char **ret_what) {
        int line = 1;
        size_t length = 0;

        for (size_t i = 0; i < size_bytes; i++) {
                if ((unsigned char) text[i] < ' ' && !strchr("\t\r\n", text[i] ?: 'x')) {
                        *ret_what = "a control character: expected text";
                        return line;
                }
                if (text[i] == '\n') {
                        line++;
                        length = 0;
                } else if (++length > LINE_BYTES_MAX) {
                        *ret_what = "expected a line of at most 190 characters";
                        return line;
                }
        }
        return 0;
}

static int read_config(Config *c, const char *root, const char *path, Error *reterr) {
        static const char advice[] = "Mend the file; emqx-upgrade.conf(5) lists what it may say.";
        _cleanup_free_ char *full = NULL, *text = NULL;
        Parsing p = { .config = c };
        const char *what = NULL;
        size_t size;
        int r, line;

        if (asprintf(&full, "%s%s", root, path) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, full, FILE_BYTES_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(reterr, r, advice, "Cannot read the configuration file %s: %m", full);

        line = find_bad_line(text, size, &what);
        if (line == 0)
                line = ini_parse_string(text, on_key, &p);
        if (line > 0)
                r = error_set(reterr, -EINVAL, advice, "%s:%i: %s", full, line,
                        what ?: p.wrong ?: "expected [Section] or Key=value");
        else if (line < 0)
                r = -ENOMEM;
        free(p.wrong);
        return r;
}

static int is_conf(const struct dirent *de) {
        return de->d_name[0] != '.' && endswith(de->d_name, ".conf");
}

static int read_directory(Config *c, const char *root, Error *reterr) {
        _cleanup_free_ char *dir = NULL;
        struct dirent **names = NULL;
        int n, r = 0;

        if (asprintf(&dir, "%s" CONFIG_DIR, root) < 0)
                return -ENOMEM;
        n = scandir(dir, &names, is_conf, alphasort);
        if (n < 0)
                return errno == ENOENT ? 0 : error_set(reterr, -errno, NULL, "Cannot read the directory %s: %m", dir);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL;

                if (r >= 0)
                        r = asprintf(&path, CONFIG_DIR "/%s", names[i]->d_name) < 0
                                        ? -ENOMEM
                                        : read_config(c, root, path, reterr);
                free(names[i]);
        }
        free(names);
        return r;
}

int config_load(const char *root, Config **ret, Error *reterr) {
        _cleanup_(config_freep) Config *c = calloc(1, sizeof(Config));
        int r;

        assert(root);
        assert(ret);

        if (!c)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (keys[i].parse(keys[i].default_value, (char *) c + keys[i].offset))
                        return -ENOMEM;

        r = read_config(c, root, CONFIG_FILE, reterr);
        if (r >= 0)
                r = read_directory(c, root, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}
