/*
 * account.c - keys of the API, who calls, where, and whether anybody is well
 */
#include "body.h"

static const struct cli_column KEY[] = {
    { "ID", "id" },
    { "NAME", "name" },
    { "CREATED", "created_at" },
    { "LAST USED", "last_used_at" },
    { "FROM", "last_used_from_addr" },
};

int cli_api_keys_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    json_auto_t *wrapped = NULL;
    int rc = cli_call(c, "GET", "/api_keys", NULL, &answer);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] != NULL) /* an array, as the API has it */
        return cli_show_one(c, answer, NULL, COLUMNS(KEY));
    wrapped = json_pack("{s:O}", "api_keys", answer);
    return cli_show_list(c, wrapped, "api_keys", COLUMNS(KEY));
}

int cli_api_keys_create(struct cli *c)
{
    static const struct cli_column MADE[] = { { "ID", "id" }, { "NAME", "name" }, { "KEY", "key" } };
    json_auto_t *answer = NULL;
    json_auto_t *body = json_pack("{s:s}", "key_name", c->args[0]);
    int rc = cli_call(c, "POST", "/api_keys", body, &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, NULL, COLUMNS(MADE));
}

int cli_api_keys_revoke(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc =
        cli_call(c, "DELETE", arena_printf(c->arena, "/api_keys/%s", cli_enc(c, c->args[0])), NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, "API key", c->args[0]);
}

int cli_me(struct cli *c)
{
    static const struct cli_column USER[] = {
        { "ID", "id" },
        { "NAME", "name" },
        { "LOGIN", "login" },
        { "PLAN", "plan" },
        { "BRANCHES", "branches_limit" },
        { "PROJECTS", "projects_limit" },
    };

    return cli_show_now(c, "/users/me", NULL, COLUMNS(USER));
}

int cli_regions(struct cli *c)
{
    static const struct cli_column REGION[] = { { "ID", "region_id" },
                                                { "NAME", "name" },
                                                { "DEFAULT", "default" } };
    json_auto_t *answer = NULL;
    int rc = cli_call(c, "GET", "/regions", NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_list(c, answer, "regions", COLUMNS(REGION));
}

/* Needs no key: what asks (a container, a load balancer) has none. */
int cli_health(struct cli *c)
{
    static const struct cli_column HEALTH[] = { { "STATUS", "status" } };
    json_auto_t *answer = NULL;
    struct err err = ERR_INIT;
    int status;

    if (cli_exchange(c, "GET", "/readyz", NULL, NULL, &status, &answer, &err) < 0)
        return cli_no_answer(c, &err);
    return status == 200 ? cli_show_one(c, answer, NULL, COLUMNS(HEALTH)) : cli_refused(c, status, answer);
}
