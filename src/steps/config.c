/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/config.h"

#include <dirent.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "base/size.h"
#include "base/strv.h"

#define CONFIG_FILE "/etc/emqx-upgrade/emqx-upgrade.conf"
#define CONFIG_DIR "/etc/emqx-upgrade/emqx-upgrade.conf.d"
#define FILE_BYTES_MAX (256 * 1024)
#define LINE_BYTES_MAX 190 /* inih cuts at 200, and would take the rest for another line */
#define ATTEMPTS_MAX 100
#define SPAN_USEC_MAX (30 * 24 * USEC_PER_HOUR)
#define PORT_MAX 65535
#define LEVEL_MAX 19 /* of zstd; those above take memory for which the node has better use */
#define THREADS_MAX 64
#define KEEP_MAX 1000000
#define PEERS_MAX 1000

/* A parser returns what it expected where the value is not that, else NULL. */
typedef const char *(*ParseFunc)(const char *value, void *field);

static const char out_of_memory[] = "memory";

static const char *parse_boolean(const char *value, void *field) {
        static const char *const yes[] = { "1", "yes", "true", "on" }, *const no[] = { "0", "no", "false", "off" };

        for (size_t i = 0; i < ELEMENTSOF(yes); i++)
                if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
                        *(bool *) field = strcasecmp(value, yes[i]) == 0;
                        return NULL;
                }
        return "yes or no";
}

static const char *parse_conflicts(const char *value, void *field) {
        bool drop = streq(value, "drop-defaults");

        if (!drop && !streq(value, "refuse"))
                return "refuse or drop-defaults";
        *(bool *) field = drop;
        return NULL;
}

static const char *parse_span(const char *value, void *field) {
        usec_t usec;

        if (parse_timespan(value, &usec) < 0 || usec == 0 || usec > SPAN_USEC_MAX)
                return "a time span above 0, of 30 days at most, such as 90s or 5min";
        *(usec_t *) field = usec;
        return NULL;
}

static const char *parse_span_or_none(const char *value, void *field) {
        if (!streq(value, "0"))
                return parse_span(value, field) ? "a time span of 30 days at most, such as 90s or 5min, or 0" : NULL;
        *(usec_t *) field = 0;
        return NULL;
}

/* true for the first word. */
static const char *parse_either(
                const char *value, const char *yes, const char *no, const char *expected, void *field) {
        if (!streq(value, yes) && !streq(value, no))
                return expected;
        *(bool *) field = streq(value, yes);
        return NULL;
}

static const char *parse_watch_failure(const char *value, void *field) {
        return parse_either(value, "roll-back", "report", "roll-back or report", field);
}

static const char *parse_log_errors(const char *value, void *field) {
        return parse_either(value, "fail", "warn", "fail or warn", field);
}

static const char *parse_text(const char *value, void *field) {
        return free_and_strdup(field, value) < 0 ? out_of_memory : NULL;
}

/* The units have a /tmp of their own (PrivateTmp=). */
static const char *parse_directory(const char *value, void *field) {
        static const char *const private[] = { "/tmp", "/var/tmp" };

        if (value[0] != '/' || strstr(value, "/../") || endswith(value, "/.."))
                return "an absolute path without '..'";
        for (size_t i = 0; i < ELEMENTSOF(private); i++)
                if (path_is_within(value, private[i]))
                        return "a path outside /tmp and /var/tmp";
        return free_and_strdup(field, value) < 0 ? out_of_memory : NULL;
}

static const char *parse_optional_directory(const char *value, void *field) {
        if (!*value)
                return free_and_strdup(field, value) < 0 ? out_of_memory : NULL;
        return parse_directory(value, field);
}

static const char *parse_service(const char *value, void *field) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";

        if (!endswith(value, ".service") || value[0] == '.' || value[strspn(value, allowed)] || strlen(value) > 200)
                return "the name of a service, such as emqx.service";
        return free_and_strdup(field, value) < 0 ? out_of_memory : NULL;
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

static const char *parse_level(const char *value, void *field) {
        return parse_number(value, LEVEL_MAX, field) && *(uint64_t *) field > 0 ? NULL : "a number from 1 to 19";
}

static const char *parse_threads(const char *value, void *field) {
        return parse_number(value, THREADS_MAX, field) && *(uint64_t *) field > 0 ? NULL : "a number from 1 to 64";
}

static const char *parse_keep(const char *value, void *field) {
        if (streq(value, "infinity")) {
                *(uint64_t *) field = UINT64_MAX;
                return NULL;
        }
        return parse_number(value, KEEP_MAX, field) && *(uint64_t *) field > 0 ? NULL
                                                                               : "a number above 0, or infinity";
}

static const char *parse_age(const char *value, void *field) {
        return parse_timespan(value, field) < 0 || *(usec_t *) field == 0
                        ? "a time span above 0, such as 90d or 12months, or infinity"
                        : NULL;
}

static const char *parse_bytes(const char *value, void *field) {
        return parse_size(value, field) < 0 || *(uint64_t *) field == 0
                        ? "a size in bytes above 0, such as 500M or 20G, or infinity"
                        : NULL;
}

static const char *parse_peers(const char *value, void *field) {
        return parse_number(value, PEERS_MAX, field) ? NULL : "a number from 0 to 1000";
}

static const char *parse_port(const char *value, void *field) {
        if (!*value) {
                *(uint64_t *) field = 0;
                return NULL;
        }
        return parse_number(value, PORT_MAX, field) && *(uint64_t *) field > 0
                        ? NULL
                        : "a TCP port, or nothing for the one in emqx.conf";
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
        KEY("Upgrade", "RequireAcceptedConfiguration", "yes", parse_boolean, require_accepted_configuration),
        KEY("Upgrade", "ConfigConflicts", "refuse", parse_conflicts, drop_defaults),
        KEY("Upgrade", "AllowLostFixes", "no", parse_boolean, allow_lost_fixes),
        KEY("Upgrade", "AutoStart", "no", parse_boolean, auto_start),
        KEY("Upgrade", "HoldAfterRollback", "no", parse_boolean, hold_after_rollback),
        KEY("Upgrade", "RefuseOtherUpgrades", "no", parse_boolean, refuse_other_upgrades),
        KEY("Upgrade", "LockTimeoutSec", "5min", parse_span, lock_timeout_usec),
        KEY("Upgrade", "StopTimeoutSec", "3min", parse_span, stop_timeout_usec),
        KEY("Upgrade", "StartTimeoutSec", "5min", parse_span, start_timeout_usec),
        KEY("Upgrade", "VerifyTimeoutSec", "2min", parse_span, verify_timeout_usec),
        KEY("Upgrade", "StallTimeoutSec", "5min", parse_span, stall_timeout_usec),
        KEY("Upgrade", "HookTimeoutSec", "5min", parse_span, hook_timeout_usec),
        KEY("Upgrade", "WatchSec", "60s", parse_span_or_none, watch_usec),
        KEY("Upgrade", "WatchFailure", "roll-back", parse_watch_failure, watch_goes_back),
        KEY("Upgrade", "LogErrors", "fail", parse_log_errors, log_errors_fail),
        KEY("Upgrade", "Attempts", "3", parse_attempts, attempts),
        KEY("Backup", "Archive", "yes", parse_boolean, archive),
        KEY("Backup", "CompressionLevel", "1", parse_level, compression_level),
        KEY("Backup", "CompressionThreads", "1", parse_threads, compression_threads),
        KEY("Backup", "KeepBackups", "3", parse_keep, keep_backups),
        KEY("Backup", "KeepBackupsForSec", "infinity", parse_age, keep_backups_for_usec),
        KEY("Backup", "KeepBackupsMaxBytes", "infinity", parse_bytes, keep_backups_max_bytes),
        KEY("Node", "Unit", "emqx.service", parse_service, unit),
        KEY("Node", "ProgramDirectory", "", parse_optional_directory, program_dir),
        KEY("Node", "MqttProbe", "yes", parse_boolean, mqtt_probe),
        KEY("Node", "MqttPort", "", parse_port, mqtt_port),
        KEY("Node", "MqttTLS", "no", parse_boolean, mqtt_tls),
        KEY("Node", "MqttCAFile", "", parse_optional_directory, mqtt_ca_file),
        KEY("Node", "MqttCertFile", "", parse_optional_directory, mqtt_cert_file),
        KEY("Node", "MqttKeyFile", "", parse_optional_directory, mqtt_key_file),
        KEY("Node", "MqttUsername", "", parse_text, mqtt_username),
        KEY("Node", "MqttPasswordFile", "", parse_optional_directory, mqtt_password_file),
        KEY("Metrics", "TextfileDirectory", "", parse_optional_directory, textfile_dir),
        KEY("Cluster", "MinPeers", "0", parse_peers, min_peers),
#undef KEY
};

bool config_key(size_t i, const char **ret_section, const char **ret_key, const char **ret_default) {
        if (i >= ELEMENTSOF(keys))
                return false;
        *ret_section = keys[i].section;
        *ret_key = keys[i].key;
        *ret_default = keys[i].default_value;
        return true;
}

usec_t config_patience_usec(const Config *c) {
        return MAX(MAX(MAX(c->stall_timeout_usec, c->hook_timeout_usec), c->start_timeout_usec),
                               MAX(c->stop_timeout_usec, c->verify_timeout_usec)) +
                        USEC_PER_MINUTE;
}

Config *config_free(Config *c) {
        if (!c)
                return NULL;
        free(c->packages_dir);
        free(c->unit);
        free(c->program_dir);
        free(c->mqtt_ca_file);
        free(c->mqtt_cert_file);
        free(c->mqtt_key_file);
        free(c->mqtt_username);
        free(c->mqtt_password_file);
        free(c->textfile_dir);
        for (size_t i = 0; c->values && i < ELEMENTSOF(keys); i++)
                free(c->values[i]);
        free(c->values);
        return mfree(c);
}

/* Returns as a parser. */
static const char *set_value(Config *c, size_t i, const char *value) {
        const char *expected = keys[i].parse(value, (char *) c + keys[i].offset);

        if (expected)
                return expected;
        return free_and_strdup(&c->values[i], value) < 0 ? out_of_memory : NULL;
}

static int config_new(Config **ret) {
        _cleanup_(config_freep) Config *c = calloc(1, sizeof(Config));

        if (!c)
                return -ENOMEM;
        c->values = calloc(ELEMENTSOF(keys), sizeof(char *));
        if (!c->values)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (set_value(c, i, keys[i].default_value))
                        return -ENOMEM;
        *ret = TAKE_PTR(c);
        return 0;
}

typedef struct Parsing {
        Config *config;
        char *wrong; /* what is wrong with the first line that is wrong */
        bool out_of_memory;
} Parsing;

static int set_wrong(Parsing *p, const char *format, ...) _printf_(2, 3);

/* Returns 0, inih's word for an error; its return value is the first such line. */
static int set_wrong(Parsing *p, const char *format, ...) {
        va_list ap;

        if (p->wrong)
                return 0;
        va_start(ap, format);
        p->wrong = format_text(format, ap);
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
                expected = set_value(p->config, i, *value ? value : keys[i].default_value);
                if (expected == out_of_memory)
                        p->out_of_memory = true;
                return expected ? set_wrong(p, "%s=%s: expected %s", key, value, expected) : 1;
        }
        if (!*section)
                return set_wrong(p, "%s=: expected a section, such as [Upgrade], before it", key);
        if (!known_section)
                return set_wrong(p, "[%s]: expected a section of emqx-upgrade.conf(5), such as [Upgrade]", section);
        return set_wrong(p, "%s=: no such key in [%s]", key, section);
}

/* The length of the UTF-8 sequence at s (RFC 3629: shortest form, no surrogates), 0 where it is none. */
static size_t utf8_length(const unsigned char *s) {
        size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

        for (size_t i = 1; i < n; i++)
                if ((s[i] & 0xc0) != 0x80) /* the NUL at the end of the text is none either */
                        return 0;
        if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
                        (s[0] == 0xf4 && s[1] > 0x8f))
                return 0;
        return n;
}

/* What is wrong with one line, NULL: nothing. inih is laxer than systemd: it cuts long lines, takes ':' for '=', a
 * comment behind a value, and text behind a section. */
static const char *check_line(const char *line) {
        size_t n = strlen(line);
        const char *equals;

        if (n > LINE_BYTES_MAX)
                return "expected a line of at most 190 characters";
        for (const char *s = line; *s;) {
                size_t length = utf8_length((const unsigned char *) s);

                if (length == 0)
                        return "expected text in UTF-8";
                if (((unsigned char) *s < ' ' && *s != '\t') || *s == 0x7f)
                        return "a control character: expected text";
                s += length;
        }
        if (n == 0 || strchr("#;", line[0]))
                return NULL;
        if (line[0] == '[')
                return line[n - 1] == ']' ? NULL : "expected [Section] alone on its line";
        equals = strchr(line, '=');
        if (!equals || equals == line || memchr(line, ':', (size_t) (equals - line)))
                return "expected [Section] or Key=value";
        return strstr(line, " ;") || strstr(line, "\t;") ? "expected a comment on a line of its own" : NULL;
}

/* Checks text line by line, and strips white space around them: inih takes an indented line for more of the value
 * above. Returns the number of the first line that is wrong, 0 for none. */
static int strip_and_check(char *text, size_t size_bytes, const char **ret_wrong) {
        char *in = text, *out = text, *end = text + size_bytes;
        int number = 0;

        while (in < end) {
                char *stop = memchr(in, '\n', (size_t) (end - in)) ?: end, *next = stop + 1;

                number++;
                while (in < stop && strchr(" \t\r", *in) && *in)
                        in++;
                while (stop > in && strchr(" \t\r", stop[-1]) && stop[-1])
                        stop--;
                if (memchr(in, 0, (size_t) (stop - in))) {
                        *ret_wrong = "a control character: expected text";
                        return number;
                }
                *stop = 0;
                *ret_wrong = check_line(in);
                if (*ret_wrong)
                        return number;
                memmove(out, in, (size_t) (stop - in));
                out += stop - in;
                if (next <= end)
                        *out++ = '\n';
                in = next;
        }
        *out = 0;
        return 0;
}

static const char mend[] = "Mend the file; emqx-upgrade.conf(5) lists what it may say.";

/* Writes into text. */
static int parse_config(Config *c, const char *name, char *text, size_t size_bytes, Error *reterr) {
        Parsing p = { .config = c };
        const char *wrong = NULL;
        int r = 0, line;

        line = strip_and_check(text, size_bytes, &wrong);
        if (line == 0)
                line = ini_parse_string(text, on_key, &p);
        if (line < 0 || p.out_of_memory)
                r = -ENOMEM;
        else if (line > 0)
                r = error_set(reterr, -EINVAL, mend, "%s:%i: %s", name, line,
                                wrong ?: p.wrong ?: "expected [Section] or Key=value");
        free(p.wrong);
        return r;
}

static int read_config(Config *c, const char *root, const char *path, Error *reterr) {
        static const char bom[] = "\xef\xbb\xbf";
        _cleanup_free_ char *full = NULL, *text = NULL;
        size_t size, skip;
        struct stat st;
        int r;

        if (asprintf(&full, "%s%s", root, path) < 0)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, full, FILE_BYTES_MAX, &text, &size);
        if (r == -ENOENT && lstat(full, &st) < 0) /* a dangling link was meant to be something */
                return 0;
        if (r < 0)
                return error_set(reterr, r, mend, "Cannot read the configuration file %s: %m", full);

        skip = startswith(text, bom) ? strlen(bom) : 0;
        return parse_config(c, full, text + skip, size - skip, reterr);
}

static int is_conf(const struct dirent *de) {
        return de->d_name[0] != '.' && endswith(de->d_name, ".conf");
}

/* alphasort() would ask the locale. */
static int compare_names(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_directory(Config *c, const char *root, Error *reterr) {
        _cleanup_free_ char *dir = NULL;
        struct dirent **names = NULL;
        int n, r = 0;

        if (asprintf(&dir, "%s" CONFIG_DIR, root) < 0)
                return -ENOMEM;
        n = scandir(dir, &names, is_conf, compare_names);
        if (n < 0)
                return errno == ENOENT ? 0
                                       : error_set(reterr, -errno, "Make it a directory that root can read.",
                                                         "Cannot read the configuration directory %s: %m", dir);
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
        _cleanup_(config_freep) Config *c = NULL;
        int r;

        assert(root);
        assert(ret);

        r = config_new(&c);
        if (r >= 0)
                r = read_config(c, root, CONFIG_FILE, reterr);
        if (r >= 0)
                r = read_directory(c, root, reterr);
        if (r >= 0 && !*c->mqtt_cert_file != !*c->mqtt_key_file)
                r = error_set(reterr, -EINVAL, "Set the other one too, or none.",
                                "%s= is set without %s=, in " CONFIG_FILE " or " CONFIG_DIR,
                                *c->mqtt_cert_file ? "MqttCertFile" : "MqttKeyFile",
                                *c->mqtt_cert_file ? "MqttKeyFile" : "MqttCertFile");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

char *config_text(const Config *c) {
        _cleanup_strv_ char **lines = NULL;

        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                bool same = i > 0 && streq(keys[i].section, keys[i - 1].section);

                if ((!same && strv_extendf(&lines, "[%s]", keys[i].section) < 0) ||
                                strv_extendf(&lines, "%s=%s", keys[i].key, c->values[i]) < 0)
                        return NULL;
        }
        return strv_join(lines, "\n");
}

static int from_text(const char *text, Config **ret) {
        _cleanup_(config_freep) Config *c = NULL;
        _cleanup_free_ char *copy = strdup(text);
        int r;

        r = copy ? config_new(&c) : -ENOMEM;
        if (r >= 0)
                r = parse_config(c, "text", copy, strlen(copy), NULL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

int config_restore(const char *root, const char *text, Config **ret) {
        assert(ret);

        if ((text && from_text(text, ret) >= 0) || config_load(root, ret, NULL) >= 0)
                return 0;
        return from_text("", ret);
}
