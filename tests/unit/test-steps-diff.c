/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test-util.h"

#include "steps/diff.h"

static void assert_masked(const char *line, const char *as) {
        _cleanup_free_ char *masked = mask_secrets(line);

        assert_string_equal(masked, as);
}

static void what_may_be_secret_is_hidden(void **state) {
        (void) state;
        assert_masked("node.cookie = abc", "node.cookie = (hidden)");
        assert_masked("## auth.mysql.password = abc = d", "## auth.mysql.password = (hidden)");
        assert_masked("dashboard.default_user.Password=abc\r", "dashboard.default_user.Password = (hidden)");
        assert_masked("auth.jwt.secret = abc", "auth.jwt.secret = (hidden)");
        assert_masked("web.hook.api.key = abc", "web.hook.api.key = (hidden)");
        assert_masked("listener.ssl.external.key_password = abc", "listener.ssl.external.key_password = (hidden)");
        assert_masked("-setcookie abc", "-setcookie (hidden)");
        assert_masked("{password, \"abc\"}", "{password (hidden)");
        assert_masked("auth.ldap.filter = (password=abc)", "auth.ldap.filter = (password (hidden)");
        assert_masked("auth.mongo.server = mongodb://me:abc@host/db",
                        "auth.mongo.server = mongodb://(hidden)@host/db");
        assert_masked("cluster.etcd.server = http://a:2379, http://u:pw@b:2379,http://c:2379,http://u:p,w@d",
                        "cluster.etcd.server = http://a:2379, http://(hidden)@b:2379,http://c:2379,http://(hidden)@d");
        assert_masked("auth.redis.server = redis://:p@s/s@host", "auth.redis.server = redis://(hidden)@host");
        assert_masked("auth.http.auth_req.headers.authorization = Basic abc",
                        "auth.http.auth_req.headers.authorization = (hidden)");
        assert_masked("web.hook.url = http://me:abc@host/token/1",
                        "web.hook.url = http://(hidden)@host/token (hidden)");
        assert_masked("web.hook.headers = x-auth:Bearer abc", "web.hook.headers = x-auth:Bearer (hidden)");
}

static void all_else_is_shown(void **state) {
        static const char *const lines[] = { "", "listener.ssl.external.keyfile = /etc/emqx/certs/key.pem",
                "mqtt.keepalive_backoff = 0.75", "log.level = error", "{allow, all}.",
                "web.hook.url = http://host:80/a", "## See https://host/a, or write to me@host." };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                assert_masked(lines[i], lines[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_may_be_secret_is_hidden),
                cmocka_unit_test(all_else_is_shown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
