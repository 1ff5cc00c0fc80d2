/*
 * operations.c - operations
 */
#include "body.h"

static const struct cli_column OPERATION[] = {
    { "ID", "id" },
    { "ACTION", "action" },
    { "STATUS", "status" },
    { "BRANCH", "branch_id" },
    { "CREATED", "created_at" },
    { "MS", "total_duration_ms" },
    { "ERROR", "error" },
};

int cli_operations_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_LIMIT] == NULL)
        c->opt[OPT_LIMIT] = "50";
    rc = cli_call_list(c, arena_printf(c->arena, "%s/operations", path), "operations", "cursor", &answer);
    return rc != CLI_OK ? rc : cli_show_list(c, answer, "operations", COLUMNS(OPERATION));
}

int cli_operations_get(struct cli *c)
{
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    if (rc != CLI_OK)
        return rc;
    return cli_show_now(c, arena_printf(c->arena, "%s/operations/%s", path, cli_enc(c, c->args[0])),
                        "operation", COLUMNS(OPERATION));
}

int cli_operations_wait(struct cli *c)
{
    json_auto_t *answer = NULL;
    json_auto_t *one = NULL;
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "GET", arena_printf(c->arena, "%s/operations/%s", path, cli_enc(c, c->args[0])),
                      NULL, &answer);
    if (rc != CLI_OK)
        return rc;
    one = json_pack("{s:[O]}", "operations", json_object_get(answer, "operation"));
    rc = cli_wait(c, project, one);
    if (rc != CLI_OK)
        return rc;
    json_object_set(answer, "operation", json_array_get(json_object_get(one, "operations"), 0));
    return cli_show_one(c, answer, "operation", COLUMNS(OPERATION));
}
