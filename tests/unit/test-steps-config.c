/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "base/fileio.h"
#include "steps/config.h"

typedef struct Fixture {
        char *root;
        Config *config;
        Error error;
} Fixture;

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(Fixture));
        _cleanup_free_ char *dir = NULL;

        f->root = make_tmpdir();
        assert_true(asprintf(&dir, "%s/etc/emqx-upgrade/emqx-upgrade.conf.d", f->root) > 0);
        assert_int_equal(mkdir_parents(dir, 0755), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        (void) config_free(f->config);
        error_done(&f->error);
        remove_tmpdir(f->root);
        free(f);
        return 0;
}

static void write_config(Fixture *f, const char *name, const char *text, size_t size) {
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "%s/etc/emqx-upgrade/%s", f->root, name) > 0);
        assert_int_equal(replace_volatile_file_at(AT_FDCWD, path, text, size, 0644), 0);
}

static int load(Fixture *f) {
        f->config = config_free(f->config);
        error_done(&f->error);
        return config_load(f->root, &f->config, &f->error);
}

static void nothing_is_all_defaults(void **state) {
        Fixture *f = *state;

        assert_int_equal(load(f), 0);
        assert_string_equal(f->config->packages_dir, "/var/lib/emqx-upgrade/packages");
        assert_true(f->config->require_old_package);
        assert_true(f->config->start_timeout_usec == 5 * USEC_PER_MINUTE);
        assert_int_equal(f->config->attempts, 3);
        assert_string_equal(f->config->unit, "emqx.service");
}

static void later_files_win_in_the_order_of_their_names(void **state) {
        static const char main_file[] = "# comment\n[Upgrade]\nAttempts=5\nStartTimeoutSec=1h 30min\n",
                          b[] = "[Upgrade]\nAttempts = 7\n[Node]\nMqttProbe=off\nMqttPort=1884\n",
                          a[] = "[Upgrade]\r\nAttempts=6\r\nPackagesDirectory=/srv/packages\r\n", other[] = "garbage";
        Fixture *f = *state;

        write_config(f, "emqx-upgrade.conf", main_file, strlen(main_file));
        write_config(f, "emqx-upgrade.conf.d/b.conf", b, strlen(b));
        write_config(f, "emqx-upgrade.conf.d/a.conf", a, strlen(a));
        write_config(f, "emqx-upgrade.conf.d/a.conf~", other, strlen(other));
        assert_int_equal(load(f), 0);
        assert_int_equal(f->config->attempts, 7);
        assert_true(f->config->start_timeout_usec == 90 * USEC_PER_MINUTE);
        assert_false(f->config->mqtt_probe);
        assert_int_equal(f->config->mqtt_port, 1884);
        assert_string_equal(f->config->packages_dir, "/srv/packages");
}

static void what_is_in_force_is_read_back_whatever_becomes_of_the_files(void **state) {
        static const char main_file
                        [] = "\xef\xbb\xbf[Upgrade]\nAttempts = 5\nAttempts=7\nStartTimeoutSec=1h 30min\n",
               other[] = "[Node]\nMqttUsername=Jürgen = \"1\"\nMqttProbe=off\n[Backup]\nKeepBackups=infinity\n",
               broken[] = "[Upgrade]\nAttempts=many\n";
        _cleanup_free_ char *text = NULL, *again = NULL;
        const char *section, *key, *value;
        Config *kept = NULL;
        Fixture *f = *state;

        write_config(f, "emqx-upgrade.conf", main_file, strlen(main_file));
        write_config(f, "emqx-upgrade.conf.d/a.conf", other, strlen(other));
        assert_int_equal(load(f), 0);
        text = config_text(f->config);
        write_config(f, "emqx-upgrade.conf", broken, strlen(broken));
        assert_int_equal(load(f), -EINVAL);

        assert_int_equal(config_restore(f->root, text, &kept), 0);
        assert_int_equal(kept->attempts, 7);
        assert_true(kept->start_timeout_usec == 90 * USEC_PER_MINUTE);
        assert_true(kept->keep_backups == UINT64_MAX);
        assert_string_equal(kept->mqtt_username, "Jürgen = \"1\"");
        assert_false(kept->mqtt_probe);
        again = config_text(kept);
        assert_string_equal(again, text);
        for (size_t i = 0; config_key(i, &section, &key, &value); i++)
                assert_non_null(strstr(text, key));
        (void) config_free(kept);
}

static void what_cannot_be_read_back_is_in_the_files_or_default(void **state) {
        static const char *const texts[] = { NULL, "[Upgrade]\nNoLongerThere=1\n" };
        static const char good[] = "[Upgrade]\nAttempts=5\n", broken[] = "[Upgrade]\nAttempts=5\nNonsense=1\n";
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                Config *c = NULL;

                write_config(f, "emqx-upgrade.conf", good, strlen(good));
                assert_int_equal(config_restore(f->root, texts[i], &c), 0);
                assert_int_equal(c->attempts, 5);
                c = config_free(c);
                write_config(f, "emqx-upgrade.conf", broken, strlen(broken));
                assert_int_equal(config_restore(f->root, texts[i], &c), 0);
                assert_int_equal(c->attempts, 3);
                (void) config_free(c);
        }
}

static void a_certificate_needs_its_key(void **state) {
        static const char cert[] = "[Node]\nMqttCertFile=/etc/me.pem\n", key[] = "[Node]\nMqttKeyFile=/etc/me.key\n";
        Fixture *f = *state;

        write_config(f, "emqx-upgrade.conf", cert, strlen(cert));
        assert_int_equal(load(f), -EINVAL);
        assert_non_null(strstr(f->error.message, "MqttCertFile= is set without MqttKeyFile="));
        write_config(f, "emqx-upgrade.conf.d/key.conf", key, strlen(key));
        assert_int_equal(load(f), 0);
        assert_string_equal(f->config->mqtt_key_file, "/etc/me.key");
}

static void empty_value_is_the_default_again(void **state) {
        static const char text[] = "[Upgrade]\nAttempts=9\nAttempts=\n[Node]\nMqttPort=\n";
        Fixture *f = *state;

        write_config(f, "emqx-upgrade.conf", text, strlen(text));
        assert_int_equal(load(f), 0);
        assert_int_equal(f->config->attempts, 3);
}

static void wrong_lines_are_refused_with_file_line_and_expectation(void **state) {
        static const struct {
                const char *text;
                int line;
                const char *expected;
        } wrong[] = {
                { "[Upgrade]\nAttempts=many\n", 2, "expected a number from 1 to 100" },
                { "[Upgrade]\nAttempts=0\n", 2, "expected a number from 1 to 100" },
                { "[Upgrade]\n\nAttempts=18446744073709551617\n", 3, "expected a number from 1 to 100" },
                { "[Upgrade]\nStartTimeoutSec=soon\n", 2, "expected a time span" },
                { "[Upgrade]\nStartTimeoutSec=infinity\n", 2, "expected a time span" },
                { "[Upgrade]\nPackagesDirectory=packages\n", 2, "expected an absolute path" },
                { "[Upgrade]\nPackagesDirectory=/a/../b\n", 2, "expected an absolute path" },
                { "[Upgrade]\nRequireOldPackage=maybe\n", 2, "expected yes or no" },
                { "[Upgrade]\nAttemps=3\n", 2, "no such key in [Upgrade]" },
                { "[Upgrad]\nAttempts=3\n", 2, "expected a section of emqx-upgrade.conf(5)" },
                { "[Backup]\nCompressionLevel=20\n", 2, "expected a number from 1 to 19" },
                { "[Backup]\nCompressionThreads=0\n", 2, "expected a number from 1 to 64" },
                { "[Backup]\nKeepBackups=0\n", 2, "expected a number above 0" },
                { "[Backup]\nKeepBackupsForSec=0\n", 2, "expected a time span above 0" },
                { "[Backup]\nKeepBackupsMaxBytes=10X\n", 2, "expected a size" },
                { "Attempts=3\n", 1, "expected a section" },
                { "[Node]\nUnit=../emqx.service\n", 2, "expected the name of a service" },
                { "[Node]\nUnit=emqx\n", 2, "expected the name of a service" },
                { "[Node]\nMqttPort=70000\n", 2, "expected a TCP port" },
                { "[Upgrade]\nnonsense\n", 2, "expected [Section] or Key=value" },
                { "[Upgrade]\nAttempts=3\x01\n", 2, "a control character" },
                { "[Upgrade]\nAttempts=3\n  4\n", 3, "expected [Section] or Key=value" },
                { "[Upgrade]\nAttempts: 3\n", 2, "expected [Section] or Key=value" },
                { "[Upgrade]\n=3\n", 2, "expected [Section] or Key=value" },
                { "[Upgrade\n", 1, "expected [Section] alone on its line" },
                { "[Upgrade] x\n", 1, "expected [Section] alone on its line" },
                { "[Upgrade]\nAttempts=3 ; or so\n", 2, "expected a comment on a line of its own" },
                { "[Upgrade]\nPackagesDirectory=/tmp/x\n", 2, "expected a path outside /tmp" },
                { "[Upgrade]\nPackagesDirectory=/var/tmp\n", 2, "expected a path outside /tmp" },
                { "[Upgrade]\nStallTimeoutSec=1000h\n", 2, "expected a time span" },
                { "[Upgrade]\nStallTimeoutSec=0\n", 2, "expected a time span" },
                { "[Upgrade]\nattempts=3\n", 2, "no such key in [Upgrade]" },
                { "[Node]\nMqttPort=0\n", 2, "expected a TCP port" },
                { "[Upgrade]\nMqttPort=1883\n", 2, "no such key in [Upgrade]" },
                { "# \xff\n", 1, "expected text in UTF-8" },
                { "\n# \xc0\x80\n", 2, "expected text in UTF-8" },
                { "# \xed\xa0\x80\n", 1, "expected text in UTF-8" },
                { "# cut \xe2\x82", 1, "expected text in UTF-8" },
                { "[Upgrade]\nAttempts=0\nnonsense\n", 3, "expected [Section] or Key=value" },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                _cleanup_free_ char *place = NULL;

                write_config(f, "emqx-upgrade.conf", wrong[i].text, strlen(wrong[i].text));
                assert_int_equal(load(f), -EINVAL);
                assert_true(asprintf(&place, "%s/etc/emqx-upgrade/emqx-upgrade.conf:%i: ", f->root, wrong[i].line) >
                                0);
                assert_non_null(startswith(f->error.message, place));
                assert_non_null(strstr(f->error.message, wrong[i].expected));
                assert_non_null(f->error.advice);
        }
}

static void what_systemd_accepts_is_accepted(void **state) {
        static const char text[] =
                        "\xef\xbb\xbf\r\n; r\xc3\xa9sum\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n\t[Upgrade]  \n"
                        "\t Attempts\t=\t4 \n  # indented\nStopTimeoutSec=90\nPackagesDirectory=/tmpfs/a:b;c";
        Fixture *f = *state;

        write_config(f, "emqx-upgrade.conf", text, strlen(text));
        assert_int_equal(load(f), 0);
        assert_int_equal(f->config->attempts, 4);
        assert_true(f->config->stop_timeout_usec == 90 * USEC_PER_SEC);
        assert_string_equal(f->config->packages_dir, "/tmpfs/a:b;c");
}

static void link_to_nothing_is_refused(void **state) {
        static const char *const names[] = { "emqx-upgrade.conf", "emqx-upgrade.conf.d/a.conf" };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *path = NULL;

                assert_true(asprintf(&path, "%s/etc/emqx-upgrade/%s", f->root, names[i]) > 0);
                assert_int_equal(symlink("/nowhere", path), 0);
                assert_int_equal(load(f), -ENOENT);
                assert_non_null(strstr(f->error.message, path));
                assert_int_equal(unlink(path), 0);
        }
}

static void file_in_place_of_the_directory_is_refused(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *f = *state;

        assert_true(asprintf(&path, "%s/etc/emqx-upgrade/emqx-upgrade.conf.d", f->root) > 0);
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(load(f), 0);
        write_config(f, "emqx-upgrade.conf.d", "", 0);
        assert_int_equal(load(f), -ENOTDIR);
        assert_non_null(strstr(f->error.message, path));
}

/* One line "#Key=default" for every key, under its section, and nothing else that is not a comment for people. */
static void installed_file_shows_every_key_at_its_default(void **state) {
        _cleanup_free_ char *text = NULL, *rest = NULL;
        const char *section, *key, *value, *last_section = "";
        Fixture *f = *state;

        assert_int_equal(read_file_at(AT_FDCWD, DEFAULT_CONFIG, 65536, &text, NULL), 0);
        write_config(f, "emqx-upgrade.conf", text, strlen(text));
        assert_int_equal(load(f), 0);
        for (size_t i = 0; config_key(i, &section, &key, &value); i++) {
                char *longer;

                assert_true(asprintf(&longer, "%s%s%s%s#%s=%s\n", rest ?: "",
                                            streq(section, last_section) ? "" : "\n[",
                                            streq(section, last_section) ? "" : section,
                                            streq(section, last_section) ? "" : "]\n", key, value) > 0);
                free(rest);
                rest = longer;
                last_section = section;
        }
        assert_non_null(rest);
        assert_true(endswith(text, rest));
        text[strlen(text) - strlen(rest)] = 0;
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
                assert_true(startswith(line, "# "));
}

static void man_page_describes_every_key_and_no_other(void **state) {
        _cleanup_free_ char *text = NULL;
        const char *section, *key, *value, *at;
        size_t n_keys = 0, n_described = 0;

        (void) state;
        assert_int_equal(read_file_at(AT_FDCWD, MAN_PAGE, 1024 * 1024, &text, NULL), 0);
        for (; config_key(n_keys, &section, &key, &value); n_keys++) {
                _cleanup_free_ char *heading = NULL, *item = NULL;
                const char *begin, *default_text, *next;

                assert_true(asprintf(&heading, "\n.Sh SECTION [%s]\n", section) > 0);
                assert_true(asprintf(&item, "\n.It Cm %s=\n", key) > 0);
                begin = strstr(text, heading);
                begin = begin ? strstr(begin, item) : NULL;
                if (!begin)
                        fail_msg("%s does not describe [%s] %s=", MAN_PAGE, section, key);
                next = strstr(begin + strlen(item), "\n.It ") ?: strstr(begin, "\n.El");
                default_text = strstr(begin, "Default:");
                default_text = default_text ? strstr(default_text, *value ? value : "empty") : NULL;
                if (!next || !default_text || default_text > next)
                        fail_msg("%s does not say that the default of %s= is '%s'", MAN_PAGE, key, value);
        }
        for (at = text; (at = strstr(at, "\n.It Cm ")); at++)
                if (memchr(at + 1, '=', strcspn(at + 1, "\n")))
                        n_described++;
        assert_int_equal(n_keys, n_described);
}

static void line_that_is_too_long_is_refused(void **state) {
        char text[4096];
        Fixture *f = *state;

        (void) snprintf(text, sizeof(text), "[Upgrade]\nPackagesDirectory=/%0*d\n", 3000, 0);
        write_config(f, "emqx-upgrade.conf", text, strlen(text));
        assert_int_equal(load(f), -EINVAL);
        assert_non_null(strstr(f->error.message, ":2: expected a line of at most 190 characters"));
}

static void nul_byte_is_refused(void **state) {
        static const char text[] = "[Upgrade]\nAttempts=3\0\nAttempts=4\n";
        Fixture *f = *state;

        write_config(f, "emqx-upgrade.conf", text, sizeof(text) - 1);
        assert_int_equal(load(f), -EINVAL);
}

static void directory_in_place_of_the_file_is_refused(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *f = *state;

        assert_true(asprintf(&path, "%s/etc/emqx-upgrade/emqx-upgrade.conf", f->root) > 0);
        assert_int_equal(mkdir(path, 0755), 0);
        assert_int_equal(load(f), -EISDIR);
        assert_non_null(strstr(f->error.message, "Cannot read the configuration file"));
}

static void random_bytes_never_crash(void **state) {
        static const char pieces[] = "[]=#;\n\r\t Upgrade Node Attempts=3 \\\"'";
        char text[512];
        Fixture *f = *state;
        unsigned seed = 1;

        for (unsigned i = 0; i < 500; i++) {
                size_t n = (size_t) rand_r(&seed) % sizeof(text);

                for (size_t j = 0; j < n; j++)
                        text[j] = rand_r(&seed) % 4 ? pieces[(size_t) rand_r(&seed) % (sizeof(pieces) - 1)]
                                                    : (char) rand_r(&seed);
                write_config(f, "emqx-upgrade.conf", text, n);
                (void) load(f);
                assert_true(f->config || f->error.message);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(nothing_is_all_defaults),
                TEST(later_files_win_in_the_order_of_their_names),
                TEST(what_is_in_force_is_read_back_whatever_becomes_of_the_files),
                TEST(what_cannot_be_read_back_is_in_the_files_or_default),
                TEST(a_certificate_needs_its_key),
                TEST(empty_value_is_the_default_again),
                TEST(wrong_lines_are_refused_with_file_line_and_expectation),
                TEST(what_systemd_accepts_is_accepted),
                TEST(link_to_nothing_is_refused),
                TEST(file_in_place_of_the_directory_is_refused),
                TEST(installed_file_shows_every_key_at_its_default),
                TEST(man_page_describes_every_key_and_no_other),
                TEST(line_that_is_too_long_is_refused),
                TEST(nul_byte_is_refused),
                TEST(directory_in_place_of_the_file_is_refused),
                TEST(random_bytes_never_crash),
        };

        return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
