/* SPDX-License-Identifier: Apache-2.0 */

#include "steps/ask.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "base/fileio.h"
#include "base/strv.h"
#include "bus/transient.h"
#include "bus/unit.h"

#define COMMAND_UNIT "emqx-upgrade-step-command-%016" PRIx64 ".service"
#define PASSWORD_BYTES_MAX 4096

/* --- commands --- */

int node_command(Context *c, const char *program, char *const *arguments, usec_t timeout_usec, char **ret_output,
                Error *reterr) {
        _cleanup_unit_state_ UnitState node = UNIT_STATE_NULL;
        _cleanup_strv_ char **fields = NULL, **argv = NULL;
        _cleanup_free_ char *name = NULL;
        TransientUnit unit = TRANSIENT_UNIT_NULL;
        sd_id128_t random;
        int r, status;

        r = unit_state_get(c->manager, c->plan->unit, &node, reterr);
        if (r >= 0)
                r = sd_id128_randomize(&random);
        if (r < 0)
                return r;
        /* HOME= too is the unit's, or else systemd's for the user: .erlang.cookie is there. */
        if (strv_extendf(&fields, "EMQX_UPGRADE_ID=%s", c->plan->id) < 0 ||
                        strv_extendf(&argv, "%s/bin/%s", c->plan->root_dir, program) < 0 ||
                        asprintf(&name, COMMAND_UNIT, random.qwords[0]) < 0)
                return -ENOMEM;
        STRV_FOREACH (argument, (char **) arguments)
                if (strv_extend(&argv, *argument) < 0)
                        return -ENOMEM;

        unit.name = name;
        unit.description = "EMQX Upgrade: a command of the node";
        unit.argv = argv;
        unit.environment_of = &node;
        unit.log_extra_fields = fields;
        unit.user = c->plan->user;
        unit.slice = "emqx-upgrade.slice";
        r = transient_capture(c->manager, &unit, timeout_usec, ret_output, &status, reterr);
        return r < 0 ? r : status;
}

int node_eval(Context *c, const char *expression, usec_t timeout_usec, char **ret_output, Error *reterr) {
        return node_command(c, "emqx", STRV_MAKE("eval", expression), timeout_usec, ret_output, reterr);
}

int node_survey(Context *c, Survey *ret, Error *reterr) {
        _cleanup_free_ char *expression = NULL, *output = NULL;
        char mark[SD_ID128_STRING_MAX];
        sd_id128_t random;
        int r;

        r = sd_id128_randomize(&random);
        if (r < 0)
                return r;
        expression = survey_expression(sd_id128_to_string(random, mark));
        if (!expression)
                return -ENOMEM;
        r = node_eval(c, expression, NODE_COMMAND_TIMEOUT_USEC, &output, reterr);
        if (r < 0)
                return r;
        if (survey_parse(output, mark, ret) < 0)
                return error_set(reterr, -EAGAIN, NULL, "`emqx eval` does not get an answer from the node (exit %i)",
                                r);
        return 0;
}

/* --- clients --- */

/* Its first line. Others' eyes are kept off, as systemd does with credentials. */
static int read_password(const char *path, char **ret, Error *reterr) {
        _cleanup_free_ char *text = NULL;
        struct stat st;
        int r;

        if (stat(path, &st) < 0)
                return error_set(reterr, -errno, NULL, "MqttPasswordFile=%s: %m", path);
        if (st.st_uid != 0 || (st.st_mode & 077) != 0)
                return error_set(reterr, -EPERM, "chown root, chmod 0600.",
                                "MqttPasswordFile=%s can be read by others than root", path);
        r = read_file_at(AT_FDCWD, path, PASSWORD_BYTES_MAX, &text, NULL);
        if (r < 0)
                return error_set(reterr, r, NULL, "MqttPasswordFile=%s: %m", path);
        text[strcspn(text, "\r\n")] = 0;
        *ret = TAKE_PTR(text);
        return 0;
}

int mqtt_target(Context *c, MqttTarget *ret, char **ret_password, Error *reterr) {
        const Config *config = c->config;
        int r;

        *ret = (MqttTarget){ .host = c->plan->mqtt_host,
                .port = (unsigned) c->plan->mqtt_port,
                .tls = config->mqtt_tls,
                .ca_file = *config->mqtt_ca_file ? config->mqtt_ca_file : NULL,
                .cert_file = *config->mqtt_cert_file ? config->mqtt_cert_file : NULL,
                .key_file = *config->mqtt_key_file ? config->mqtt_key_file : NULL,
                .username = *config->mqtt_username ? config->mqtt_username : NULL };
        if (!*config->mqtt_password_file)
                return 0;
        r = read_password(config->mqtt_password_file, ret_password, reterr);
        ret->password = r < 0 ? NULL : *ret_password;
        return r < 0 ? r : 0;
}
