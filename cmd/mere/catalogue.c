/*
 * catalogue.c - databases and roles of a branch, and the branch that is meant when none is named
 */
#include "cli.h"

#include "base/buf.h"

#define NAMES_SHOWN 20

static const struct cli_column DATABASE[] = {
    { "NAME", "name" },
    { "OWNER", "owner_name" },
    { "CREATED", "created_at" },
};

static const struct cli_column ROLE[] = {
    { "NAME", "name" },
    { "LOGIN", "authentication_method" },
    { "PASSWORD", "password" },
    { "CREATED", "created_at" },
};

/* A list shows no passwords. */
static const struct cli_column ROLES[] = {
    { "NAME", "name" },
    { "LOGIN", "authentication_method" },
    { "CREATED", "created_at" },
};

#define COLUMNS(table) table, N_ELEMENTS(table)

static int default_branch(struct cli *c, const char *project_path, const char **ret_id, const char **ret_name)
{
    json_auto_t *answer = NULL;
    json_t *branch;
    size_t i;
    int rc = cli_call(c, "GET", arena_printf(c->arena, "%s/branches", project_path), NULL, &answer);

    if (rc != CLI_OK)
        return rc;
    *ret_id = NULL;
    json_array_foreach(json_object_get(answer, "branches"), i, branch)
    {
        if (json_is_true(json_object_get(branch, "default"))) {
            *ret_id = cli_text(c, branch, "id");
            *ret_name = cli_text(c, branch, "name");
        }
    }
    return *ret_id != NULL ? CLI_OK
                           : cli_fail(CLI_NOT_FOUND, "there is no default branch; name one with --branch");
}

int cli_branch_path(struct cli *c, const char *project, const char *ref, const char **ret_path,
                    const char **ret_name)
{
    const char *path = arena_printf(c->arena, "/projects/%s", cli_enc(c, project)), *id = ref;
    int rc = CLI_OK;

    *ret_name = ref;
    if (ref == NULL)
        rc = default_branch(c, path, &id, ret_name);
    if (rc == CLI_OK)
        *ret_path = arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, id));
    return rc;
}

/* "a, b, c", and how many more there are. */
static const char *names_of(struct cli *c, json_t *list)
{
    auto_buf names = { 0 };
    json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        if (i < NAMES_SHOWN)
            buf_addf(&names, "%s%s", i > 0 ? ", " : "", cli_text(c, one, "name"));
    }
    if (i > NAMES_SHOWN)
        buf_addf(&names, " and %zu more", i - NAMES_SHOWN);
    return arena_strdup(c->arena, buf_str(&names));
}

int cli_only_one(struct cli *c, const char *branch_path, const char *branch, const char *noun,
                 enum cli_option option, const char **ret)
{
    json_auto_t *answer = NULL;
    json_t *list;
    int rc = cli_call(c, "GET", arena_printf(c->arena, "%s/%s", branch_path, noun), NULL, &answer);

    if (rc != CLI_OK)
        return rc;
    list = json_object_get(answer, noun);
    if (json_array_size(list) == 0)
        return cli_fail(CLI_NOT_FOUND, "branch \"%s\" has no %s; make one: mere %s create NAME", branch, noun,
                        noun);
    if (json_array_size(list) > 1)
        return cli_fail(CLI_USAGE, "branch \"%s\" has %zu %s: %s; choose one with --%s NAME", branch,
                        json_array_size(list), noun, names_of(c, list), cli_option_name(option));
    *ret = cli_text(c, json_array_get(list, 0), "name");
    return CLI_OK;
}

/* --- both nouns --- */

/* The project, and the branch of --branch or the default one. */
static int place(struct cli *c, const char **ret_project, const char **ret_path, const char **ret_branch)
{
    int rc = cli_project(c, NULL, ret_project);

    return rc != CLI_OK ? rc : cli_branch_path(c, *ret_project, c->opt[OPT_BRANCH], ret_path, ret_branch);
}

static int list_all(struct cli *c, const char *noun, const struct cli_column *columns, size_t n)
{
    json_auto_t *answer = NULL;
    const char *project, *path, *branch;
    int rc = place(c, &project, &path, &branch);

    if (rc == CLI_OK)
        rc = cli_call(c, "GET", arena_printf(c->arena, "%s/%s", path, noun), NULL, &answer);
    return rc != CLI_OK ? rc : cli_show_list(c, answer, noun, columns, n);
}

/* One call about the thing that the first word names; suffix: what follows it in the path. */
static int call_one(struct cli *c, const char *method, const char *noun, const char *suffix, json_t **ret)
{
    const char *project, *path, *branch;
    int rc = place(c, &project, &path, &branch);

    if (rc != CLI_OK)
        return rc;
    path = arena_printf(c->arena, "%s/%s/%s%s", path, noun, cli_enc(c, c->args[0]), suffix);
    rc = cli_call(c, method, path, NULL, ret);
    return rc != CLI_OK ? rc : cli_wait(c, project, *ret);
}

static int delete_one(struct cli *c, const char *noun, const char *key)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "DELETE", noun, "", &answer);

    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, key, c->args[0]);
}

/* --- databases --- */

int cli_databases_list(struct cli *c)
{
    return list_all(c, "databases", COLUMNS(DATABASE));
}

int cli_databases_create(struct cli *c)
{
    json_auto_t *answer = NULL;
    json_auto_t *body = NULL;
    const char *project, *path, *branch, *owner = c->opt[OPT_ROLE];
    int rc = place(c, &project, &path, &branch);

    if (rc == CLI_OK && owner == NULL)
        rc = cli_only_one(c, path, branch, "roles", OPT_ROLE, &owner);
    if (rc != CLI_OK)
        return rc;
    body = json_pack("{s:{s:s, s:s}}", "database", "name", c->args[0], "owner_name", owner);
    rc = cli_call(c, "POST", arena_printf(c->arena, "%s/databases", path), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "database", COLUMNS(DATABASE));
}

int cli_databases_get(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "GET", "databases", "", &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, "database", COLUMNS(DATABASE));
}

int cli_databases_delete(struct cli *c)
{
    return delete_one(c, "databases", "database");
}

/* --- roles --- */

int cli_roles_list(struct cli *c)
{
    return list_all(c, "roles", COLUMNS(ROLES));
}

int cli_roles_create(struct cli *c)
{
    json_auto_t *answer = NULL;
    json_auto_t *body = json_pack("{s:{s:s}}", "role", "name", c->args[0]);
    const char *project, *path, *branch;
    int rc = place(c, &project, &path, &branch);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_NO_LOGIN] != NULL)
        json_object_set_new(json_object_get(body, "role"), "no_login", json_true());
    rc = cli_call(c, "POST", arena_printf(c->arena, "%s/roles", path), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "role", COLUMNS(ROLE));
}

int cli_roles_get(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "GET", "roles", "", &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, "role", COLUMNS(ROLE));
}

int cli_roles_delete(struct cli *c)
{
    return delete_one(c, "roles", "role");
}

int cli_roles_reset_password(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "POST", "roles", "/reset_password", &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, "role", COLUMNS(ROLE));
}

int cli_roles_password(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "GET", "roles", "/reveal_password", &answer);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] != NULL)
        return cli_show_one(c, answer, NULL, NULL, 0);
    puts(cli_text(c, answer, "password"));
    return CLI_OK;
}
