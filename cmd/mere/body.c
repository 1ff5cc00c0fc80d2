/*
 * body.c - what several commands put into a request, and show of an answer
 */
#include "body.h"

#include "base/id.h"
#include "base/text.h"

void cli_put(json_t *obj, const char *key, const char *value)
{
    if (value != NULL)
        json_object_set_new(obj, key, json_string(value));
}

int cli_put_number(json_t *obj, const char *key, const char *option, const char *value, int64_t min,
                   int64_t max)
{
    int64_t n;

    if (value == NULL)
        return CLI_OK;
    if (!text_to_i64(value, min, max, &n))
        return cli_fail(CLI_USAGE, "--%s must be a whole number from %lld to %lld", option, (long long)min,
                        (long long)max);
    json_object_set_new(obj, key, json_integer(n));
    return CLI_OK;
}

int cli_put_suspend_timeout(struct cli *c, json_t *obj)
{
    return cli_put_number(obj, "suspend_timeout_seconds", "suspend-timeout", c->opt[OPT_SUSPEND_TIMEOUT], -1,
                          604800);
}

int cli_put_endpoint_options(struct cli *c, json_t *obj)
{
    if (c->opt[OPT_PARK_SESSIONS] != NULL)
        json_object_set_new(obj, "park_sessions", json_true());
    return cli_put_suspend_timeout(c, obj);
}

bool cli_duration(struct cli *c, const char *text, int64_t *ret)
{
    static const struct {
        char unit;
        int64_t seconds;
    } UNITS[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    size_t n = strlen(text);
    int64_t factor = 1;

    for (size_t i = 0; i < N_ELEMENTS(UNITS); i++)
        if (n > 1 && text[n - 1] == UNITS[i].unit) {
            factor = UNITS[i].seconds;
            text = arena_strndup(c->arena, text, n - 1);
            break;
        }
    if (!text_to_i64(text, 1, INT64_MAX / factor, ret))
        return false;
    *ret *= factor;
    return true;
}

int cli_put_expiry(struct cli *c, json_t *obj)
{
    const char *ttl = c->opt[OPT_TTL], *at = c->opt[OPT_EXPIRES_AT];
    int64_t seconds;

    if (ttl != NULL && strcmp(ttl, "never") == 0)
        json_object_set_new(obj, "ttl_seconds", json_null());
    else if (ttl != NULL && !cli_duration(c, ttl, &seconds))
        return cli_fail(CLI_USAGE, "--ttl must be a duration like 90s, 30m, 12h or 7d, or never");
    else if (ttl != NULL)
        json_object_set_new(obj, "ttl_seconds", json_integer(seconds));
    if (at != NULL && strcmp(at, "never") == 0)
        json_object_set_new(obj, "expires_at", json_null());
    else
        cli_put(obj, "expires_at", at);
    return CLI_OK;
}

json_t *cli_nested(json_t *obj, const char *key)
{
    json_t *inner = json_object();

    json_object_set_new(obj, key, inner);
    return inner;
}

int cli_word_or_option(struct cli *c, enum cli_option o, const char **ret)
{
    if (c->n_args > 0 && c->opt[o] != NULL)
        return cli_fail(CLI_USAGE, "\"%s\" and \"%s\": name it once", c->args[0], c->opt[o]);
    *ret = c->n_args > 0 ? c->args[0] : c->opt[o];
    return CLI_OK;
}

int cli_show_now(struct cli *c, const char *path, const char *key, const struct cli_column *cols, size_t n)
{
    json_auto_t *answer = NULL;
    int rc = cli_call(c, "GET", path, NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, key, cols, n);
}

int cli_show_made(struct cli *c, json_t *answer, const char *noun)
{
    static const struct cli_column MADE[] = {
        { "PROJECT", "project" },       { "NAME", "name" },
        { "BRANCH", "branch" },         { "STATE", "state" },
        { "PARENT LSN", "parent_lsn" }, { "ENDPOINT", "endpoint" },
        { "CONNECT", "uri" },
    };
    json_auto_t *made = json_object();
    json_t *first_uri = json_array_get(json_object_get(answer, "connection_uris"), 0);
    json_t *first_endpoint = json_array_get(json_object_get(answer, "endpoints"), 0);

    if (c->opt[OPT_JSON] != NULL)
        return cli_show_one(c, answer, NULL, COLUMNS(MADE));
    cli_put(made, "project", cli_text(c, answer, "branch.project_id"));
    cli_put(made, "name", cli_text(c, json_object_get(answer, noun), "name"));
    cli_put(made, "branch", cli_text(c, answer, "branch.id"));
    cli_put(made, "state", cli_text(c, answer, "branch.current_state"));
    cli_put(made, "parent_lsn", cli_text(c, answer, "branch.parent_lsn"));
    cli_put(made, "endpoint", cli_text(c, first_endpoint, "id"));
    cli_put(made, "uri", cli_text(c, first_uri, "connection_uri"));
    return cli_show_one(c, made, NULL, COLUMNS(MADE));
}

int cli_project_path(struct cli *c, const char **ret_project, const char **ret_path)
{
    int rc = cli_project(c, NULL, ret_project);

    if (rc == CLI_OK)
        *ret_path = arena_printf(c->arena, "/projects/%s", cli_enc(c, *ret_project));
    return rc;
}

int cli_branch_id(struct cli *c, const char *project_path, const char *ref, const char **ret)
{
    json_auto_t *answer = NULL;
    int rc;

    if (id_looks_like_branch(ref)) {
        *ret = ref;
        return CLI_OK;
    }
    rc = cli_call(c, "GET", arena_printf(c->arena, "%s/branches/%s", project_path, cli_enc(c, ref)), NULL,
                  &answer);
    if (rc == CLI_OK)
        *ret = cli_text(c, answer, "branch.id");
    return rc;
}
