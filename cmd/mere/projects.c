/*
 * projects.c - projects
 */
#include "body.h"

static const struct cli_column PROJECT[] = {
    { "ID", "id" },
    { "NAME", "name" },
    { "POSTGRES", "pg_version" },
    { "CREATED", "created_at" },
};

int cli_projects_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *path = "/projects";
    int rc;

    if (c->opt[OPT_SEARCH] != NULL)
        path = arena_printf(c->arena, "/projects?search=%s", cli_enc(c, c->opt[OPT_SEARCH]));
    rc = cli_call_list(c, path, "projects", "cursor", &answer);
    return rc != CLI_OK ? rc : cli_show_list(c, answer, "projects", COLUMNS(PROJECT));
}

int cli_projects_create(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *project = cli_nested(body, "project");
    const char *name = NULL;
    int rc = cli_word_or_option(c, OPT_NAME, &name);

    if (rc == CLI_OK)
        rc = cli_put_number(project, "pg_version", "pg-version", c->opt[OPT_PG_VERSION], 1, 99);
    if (rc == CLI_OK && c->opt[OPT_SUSPEND_TIMEOUT] != NULL)
        rc = cli_put_suspend_timeout(c, cli_nested(project, "default_endpoint_settings"));
    if (rc != CLI_OK)
        return rc;
    cli_put(project, "name", name);
    if (c->opt[OPT_BRANCH] != NULL || c->opt[OPT_DATABASE] != NULL || c->opt[OPT_ROLE] != NULL) {
        json_t *branch = cli_nested(project, "branch");
        cli_put(branch, "name", c->opt[OPT_BRANCH]);
        cli_put(branch, "database_name", c->opt[OPT_DATABASE]);
        cli_put(branch, "role_name", c->opt[OPT_ROLE]);
    }
    rc = cli_call(c, "POST", "/projects", body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, cli_text(c, answer, "project.id"), answer);
    return rc != CLI_OK ? rc : cli_show_made(c, answer, "project");
}

int cli_projects_get(struct cli *c)
{
    const char *project;
    int rc = cli_project(c, c->n_args > 0 ? c->args[0] : NULL, &project);

    if (rc != CLI_OK)
        return rc;
    return cli_show_now(c, arena_printf(c->arena, "/projects/%s", cli_enc(c, project)), "project",
                        COLUMNS(PROJECT));
}

int cli_projects_delete(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project;
    int rc = cli_project(c, c->args[0], &project);

    if (rc == CLI_OK)
        rc = cli_call(c, "DELETE",
                      arena_printf(c->arena, "/projects/%s%s", cli_enc(c, project),
                                   c->opt[OPT_HARD] != NULL ? "?hard_delete=true" : ""),
                      NULL, &answer);
    if (rc == CLI_OK)
        rc = cli_wait_gone(c, project);
    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, "project", c->args[0]);
}

/* Nothing is found by the name of what is gone. */
int cli_projects_recover(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc = cli_call(c, "POST", arena_printf(c->arena, "/projects/%s/recover", cli_enc(c, c->args[0])), NULL,
                      &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, "project", COLUMNS(PROJECT));
}

/* "10.0.0.0/8,192.0.2.1", or all. */
static void put_allowed_ips(json_t *project, const char *list)
{
    json_t *ips = json_array();

    json_object_set_new(cli_nested(cli_nested(project, "settings"), "allowed_ips"), "ips", ips);
    if (strcmp(list, "all") == 0)
        return;
    for (const char *p = list; *p != '\0';) {
        size_t n = strcspn(p, ",");

        if (n > 0)
            json_array_append_new(ips, json_stringn(p, n));
        p += n + (p[n] == ',');
    }
}

static int put_retention(struct cli *c, json_t *project)
{
    const char *text = c->opt[OPT_RETENTION];
    int64_t seconds = 0;

    if (text == NULL)
        return CLI_OK;
    if (strcmp(text, "0") != 0 && !cli_duration(c, text, &seconds))
        return cli_fail(CLI_USAGE, "--retention must be a duration like 12h or 7d, or 0");
    json_object_set_new(project, "history_retention_seconds", json_integer(seconds));
    return CLI_OK;
}

int cli_projects_update(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *project = cli_nested(body, "project");
    const char *id;
    int rc = put_retention(c, project);

    cli_put(project, "name", c->opt[OPT_NAME]);
    if (rc == CLI_OK && c->opt[OPT_SUSPEND_TIMEOUT] != NULL)
        rc = cli_put_suspend_timeout(c, cli_nested(project, "default_endpoint_settings"));
    if (c->opt[OPT_ALLOWED_IPS] != NULL)
        put_allowed_ips(project, c->opt[OPT_ALLOWED_IPS]);
    if (rc == CLI_OK && json_object_size(project) == 0)
        rc = cli_fail(CLI_USAGE,
                      "what shall be changed? --name, --retention, --suspend-timeout or --allowed-ips");
    if (rc == CLI_OK)
        rc = cli_project(c, c->args[0], &id);
    if (rc == CLI_OK)
        rc = cli_call(c, "PATCH", arena_printf(c->arena, "/projects/%s", cli_enc(c, id)), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, id, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "project", COLUMNS(PROJECT));
}

int cli_limits(struct cli *c)
{
    static const struct cli_column LIMITS[] = {
        { "BRANCHES", "max_branches" },
        { "READ-ONLY ENDPOINTS", "max_read_only_endpoints" },
    };
    const char *project;
    int rc = cli_project(c, c->n_args > 0 ? c->args[0] : NULL, &project);

    if (rc != CLI_OK)
        return rc;
    return cli_show_now(c, arena_printf(c->arena, "/projects/%s/limits", cli_enc(c, project)), "limits",
                        COLUMNS(LIMITS));
}
