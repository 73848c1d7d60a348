/* SPDX-License-Identifier: Apache-2.0 */

#include "node/survey.h"

#include "base/strv.h"

/* What a part runs in the node; its value is ok, or what is none. */
static const struct {
        const char *name, *expression;
} parts[_SURVEY_PART_MAX] = {
        [SURVEY_STATUS] = { "status", "emqx_ctl:run_command([\"status\"])" },
        [SURVEY_BROKER] = { "broker", "emqx_ctl:run_command([\"broker\"])" },
        [SURVEY_APPLICATION] = { "application", "case whereis(emqx) of undefined -> no; _ -> ok end" },
        [SURVEY_TABLES] = { "tables",
                        "case mnesia:wait_for_tables(mnesia:system_info(local_tables), 1000) of ok -> ok; "
                        "{timeout, T} -> io:format(\"~0p\", [T]), no end" },
        [SURVEY_PEERS] = { "peers", "io:format(\"~b\", [length(mnesia:system_info(running_db_nodes)) - 1])" },
        [SURVEY_ALARMS] = { "alarms",
                        "lists:foreach(fun(A) -> io:format(\"~0p~n\", [maps:get(name, A)]) end, "
                        "emqx_alarm:get_alarms(activated))" },
        [SURVEY_STATS] = { "statistics", "emqx_ctl:run_command([\"broker\", \"stats\"])" },
        [SURVEY_LISTENERS] = { "listeners", "emqx_ctl:run_command([\"listeners\"])" },
        [SURVEY_PLUGINS] = { "plugins", "emqx_ctl:run_command([\"plugins\", \"list\"])" },
        [SURVEY_MODULES] = { "modules", "emqx_ctl:run_command([\"modules\", \"list\"])" },
        [SURVEY_RULES] = { "rules", "emqx_ctl:run_command([\"rules\", \"list\"])" },
        [SURVEY_RESOURCES] = { "resources", "emqx_ctl:run_command([\"resources\", \"list\"])" },
};

void survey_done(Survey *s) {
        for (size_t i = 0; i < ELEMENTSOF(s->answers); i++)
                free(s->answers[i].text);
        *s = SURVEY_NULL;
}

char *survey_expression(const char *mark) {
        _cleanup_strv_ char **list = NULL;
        _cleanup_free_ char *joined = NULL;
        char *expression;

        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                if (strv_extendf(&list, "{\"%s\", fun() -> %s end}", parts[i].name, parts[i].expression) < 0)
                        return NULL;
        joined = strv_join(list, ", ");
        if (!joined)
                return NULL;
        return asprintf(&expression,
                               "lists:foreach(fun({N, F}) -> io:format(\"~n%s ~s~n\", [N]), R = (catch F()), "
                               "io:format(\"~n%s ~s~n\", [case R of ok -> \"ok\"; _ -> \"no\" end]) end, [%s])",
                               mark, mark, joined) < 0
                        ? NULL
                        : expression;
}

/* The next line "MARK WORD"; *ret_word points behind the mark, what is returned to the begin of the line. */
static const char *next_mark(const char *p, const char *output, const char *mark, const char **ret_word) {
        for (; (p = strstr(p, mark)); p++)
                if ((p == output || p[-1] == '\n') && p[strlen(mark)] == ' ') {
                        *ret_word = p + strlen(mark) + 1;
                        return p;
                }
        return NULL;
}

static bool line_is(const char *line, const char *word) {
        const char *rest = startswith(line, word);

        return rest && (*rest == '\n' || *rest == '\r');
}

int survey_parse(const char *output, const char *mark, Survey *ret) {
        Survey s = SURVEY_NULL;
        const char *word, *line;
        unsigned n = 0;

        assert(output);
        assert(mark);
        assert(ret);

        for (const char *p = output; (line = next_mark(p, output, mark, &word)); p = word) {
                const char *end, *result, *text = strchr(word, '\n');
                size_t i = 0;

                while (i < ELEMENTSOF(parts) && !line_is(word, parts[i].name))
                        i++;
                end = text ? next_mark(text, output, mark, &result) : NULL;
                if (i == ELEMENTSOF(parts) || !end)
                        continue;
                free(s.answers[i].text);
                s.answers[i].text = strndup(text + 1, (size_t) MAX(end - text - 2, 0));
                if (!s.answers[i].text) {
                        survey_done(&s);
                        return -ENOMEM;
                }
                s.answers[i].done = line_is(result, "ok");
                n++;
        }
        if (n == 0)
                return -EBADMSG;
        *ret = s;
        return 0;
}

const char *survey_text(const Survey *s, SurveyPart part) {
        return s->answers[part].done ? s->answers[part].text : NULL;
}

const char *survey_part_name(SurveyPart part) {
        return parts[part].name;
}
