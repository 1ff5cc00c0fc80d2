/*
 * schema.c - the schema of a database, and how two branches differ in theirs
 */
#include "cli.h"

/* "/projects/…/branches/…/what?db_name=…" of the branch, for more parameters to follow. */
static int query(struct cli *c, const char *project, const char *branch, const char *what, const char **ret)
{
    const char *path, *name, *database = c->opt[OPT_DATABASE];
    int rc = cli_branch_path(c, project, branch, &path, &name);

    if (rc == CLI_OK && database == NULL)
        rc = cli_only_one(c, path, name, "databases", OPT_DATABASE, &database);
    if (rc != CLI_OK)
        return rc;
    *ret = arena_printf(c->arena, "%s/%s?db_name=%s", path, what, cli_enc(c, database));
    if (c->opt[OPT_AT] != NULL)
        *ret = arena_printf(c->arena, "%s&%s=%s", *ret,
                            strchr(c->opt[OPT_AT], '/') != NULL ? "lsn" : "timestamp",
                            cli_enc(c, c->opt[OPT_AT]));
    return CLI_OK;
}

static int show(struct cli *c, const char *path, const char *key)
{
    json_auto_t *answer = NULL;
    int rc = cli_call(c, "GET", path, NULL, &answer);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] != NULL)
        return cli_show_one(c, answer, NULL, NULL, 0);
    fputs(cli_text(c, answer, key), stdout);
    return CLI_OK;
}

int cli_schema(struct cli *c)
{
    const char *project, *path, *branch = c->n_args > 0 ? c->args[0] : c->opt[OPT_BRANCH];
    int rc;

    if (c->n_args > 0 && c->opt[OPT_BRANCH] != NULL)
        return cli_fail(CLI_USAGE, "\"%s\" and \"%s\": name the branch once", c->args[0], c->opt[OPT_BRANCH]);
    rc = cli_project(c, NULL, &project);
    if (rc == CLI_OK)
        rc = query(c, project, branch, "schema", &path);
    return rc != CLI_OK ? rc : show(c, path, "sql");
}

/* One word is the branch, compared with its parent; of two the first is the base. */
int cli_schema_diff(struct cli *c)
{
    const char *project, *path;
    int rc = cli_project(c, NULL, &project);

    if (rc == CLI_OK)
        rc = query(c, project, c->args[c->n_args - 1], "compare_schema", &path);
    if (rc == CLI_OK && c->n_args == 2)
        path = arena_printf(c->arena, "%s&base_branch_id=%s", path, cli_enc(c, c->args[0]));
    return rc != CLI_OK ? rc : show(c, path, "diff");
}
