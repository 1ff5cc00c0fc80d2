/*
 * endpoints.c - endpoints
 */
#include "body.h"

#include "base/id.h"

static const struct cli_column ENDPOINT[] = {
    { "ID", "id" },     { "BRANCH", "branch_id" },        { "TYPE", "type" }, { "STATE", "current_state" },
    { "HOST", "host" }, { "LAST ACTIVE", "last_active" },
};

int cli_endpoints_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_BRANCH] != NULL)
        path = arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, c->opt[OPT_BRANCH]));
    rc = cli_call(c, "GET", arena_printf(c->arena, "%s/endpoints", path), NULL, &answer);
    return rc != CLI_OK ? rc : cli_show_list(c, answer, "endpoints", COLUMNS(ENDPOINT));
}

/* An endpoint by id, or the read-write one of a branch; *ret is its path. */
static int endpoint_path(struct cli *c, const char *ref, const char **ret_project, const char **ret)
{
    json_auto_t *answer = NULL;
    json_t *endpoint;
    const char *path, *id = NULL;
    size_t i;
    int rc = cli_project_path(c, ret_project, &path);

    if (rc != CLI_OK)
        return rc;
    if (id_looks_like_endpoint(ref)) {
        id = ref;
    } else {
        rc = cli_call(c, "GET", arena_printf(c->arena, "%s/branches/%s/endpoints", path, cli_enc(c, ref)),
                      NULL, &answer);
        if (rc != CLI_OK)
            return rc;
        json_array_foreach(json_object_get(answer, "endpoints"), i, endpoint)
        {
            if (strcmp(cli_text(c, endpoint, "type"), "read_write") == 0)
                id = cli_text(c, endpoint, "id");
        }
        if (id == NULL)
            return cli_fail(CLI_NOT_FOUND,
                            "branch \"%s\" has no read-write endpoint; make one: mere endpoints create %s",
                            ref, ref);
    }
    *ret = arena_printf(c->arena, "%s/endpoints/%s", path, cli_enc(c, id));
    return CLI_OK;
}

int cli_endpoints_create(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *endpoint = cli_nested(body, "endpoint");
    const char *project, *path, *branch = NULL, *id;
    int rc = cli_word_or_option(c, OPT_BRANCH, &branch);

    if (rc == CLI_OK && branch == NULL)
        rc = cli_fail(CLI_USAGE, "which branch? mere endpoints create BRANCH");
    if (rc == CLI_OK)
        rc = cli_put_endpoint_options(c, endpoint);
    if (rc == CLI_OK)
        rc = cli_project_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = cli_branch_id(c, path, branch, &id);
    if (rc != CLI_OK)
        return rc;
    cli_put(endpoint, "branch_id", id);
    cli_put(endpoint, "type", c->opt[OPT_TYPE] != NULL ? c->opt[OPT_TYPE] : "read_write");
    cli_put(endpoint, "name", c->opt[OPT_NAME]);
    rc = cli_call(c, "POST", arena_printf(c->arena, "%s/endpoints", path), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "endpoint", COLUMNS(ENDPOINT));
}

int cli_endpoints_get(struct cli *c)
{
    const char *project, *path;
    int rc = endpoint_path(c, c->args[0], &project, &path);

    return rc != CLI_OK ? rc : cli_show_now(c, path, "endpoint", COLUMNS(ENDPOINT));
}

int cli_endpoints_delete(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = endpoint_path(c, c->args[0], &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "DELETE", path, NULL, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, "endpoint", cli_text(c, answer, "endpoint.id"));
}

/* POST .../start and the like, then how it stands after the waiting. */
static int act(struct cli *c, const char *verb)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = endpoint_path(c, c->args[0], &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "POST", arena_printf(c->arena, "%s/%s", path, verb), NULL, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_now(c, path, "endpoint", COLUMNS(ENDPOINT));
}

int cli_endpoints_start(struct cli *c)
{
    return act(c, "start");
}

int cli_endpoints_suspend(struct cli *c)
{
    return act(c, "suspend");
}

int cli_endpoints_restart(struct cli *c)
{
    return act(c, "restart");
}

/* A pair of switches: *ret is which was given, NULL for neither. */
static int one_of(struct cli *c, enum cli_option yes, enum cli_option no, json_t **ret)
{
    *ret = NULL;
    if (c->opt[yes] != NULL && c->opt[no] != NULL)
        return cli_fail(CLI_USAGE, "--%s and --%s: which?", cli_option_name(yes), cli_option_name(no));
    if (c->opt[yes] != NULL || c->opt[no] != NULL)
        *ret = json_boolean(c->opt[yes] != NULL);
    return CLI_OK;
}

int cli_endpoints_update(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *endpoint = cli_nested(body, "endpoint"), *disabled, *parks = NULL;
    const char *project, *path;
    int rc = one_of(c, OPT_DISABLE, OPT_ENABLE, &disabled);

    if (rc == CLI_OK)
        rc = one_of(c, OPT_PARK_SESSIONS, OPT_NO_PARK_SESSIONS, &parks);
    if (rc == CLI_OK)
        rc = cli_put_suspend_timeout(c, endpoint);
    if (disabled != NULL)
        json_object_set_new(endpoint, "disabled", disabled);
    if (parks != NULL)
        json_object_set_new(endpoint, "park_sessions", parks);
    cli_put(endpoint, "name", c->opt[OPT_NAME]);
    if (rc == CLI_OK && json_object_size(endpoint) == 0)
        rc = cli_fail(CLI_USAGE, "what shall be changed? --name, --suspend-timeout, --park-sessions, "
                                 "--no-park-sessions, --disable or --enable");
    if (rc == CLI_OK)
        rc = endpoint_path(c, c->args[0], &project, &path);
    if (rc == CLI_OK)
        rc = cli_call(c, "PATCH", path, body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "endpoint", COLUMNS(ENDPOINT));
}
