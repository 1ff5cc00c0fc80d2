/*
 * catalogue.c - databases, their extensions, and roles of a branch, and the branch that is meant when none is
 * named
 */
#include "body.h"
#include "context.h"

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

static const struct cli_column EXTENSION[] = {
    { "NAME", "name" },
    { "STATE", "state" },
    { "VERSION", "version" },
    { "SCHEMA", "schema" },
    { "DEFAULT VERSION", "default_version" },
    { "WHAT", "comment" },
};

static int default_branch(struct cli *c, const char *project_path, const char **ret_id, const char **ret_name)
{
    json_auto_t *answer = NULL;
    json_t *branch;
    size_t i;
    int rc =
        cli_call_list(c, arena_printf(c->arena, "%s/branches", project_path), "branches", "next", &answer);

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

    if (ref == NULL)
        rc = cli_pinned_branch(c, project, &id);
    *ret_name = id;
    if (rc == CLI_OK && id == NULL)
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
static int call_one(struct cli *c, const char *method, const char *noun, const char *suffix, json_t *body,
                    json_t **ret)
{
    const char *project, *path, *branch;
    int rc = place(c, &project, &path, &branch);

    if (rc != CLI_OK)
        return rc;
    path = arena_printf(c->arena, "%s/%s/%s%s", path, noun, cli_enc(c, c->args[0]), suffix);
    rc = cli_call(c, method, path, body, ret);
    return rc != CLI_OK ? rc : cli_wait(c, project, *ret);
}

static int delete_one(struct cli *c, const char *noun, const char *key)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "DELETE", noun, "", NULL, &answer);

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
    int rc = call_one(c, "GET", "databases", "", NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, "database", COLUMNS(DATABASE));
}

int cli_databases_update(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *database = cli_nested(body, "database");
    int rc;

    cli_put(database, "name", c->opt[OPT_NAME]);
    cli_put(database, "owner_name", c->opt[OPT_ROLE]);
    if (json_object_size(database) == 0)
        return cli_fail(CLI_USAGE, "what shall be changed? --name or --role, its owner");
    rc = call_one(c, "PATCH", "databases", "", body, &answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "database", COLUMNS(DATABASE));
}

int cli_databases_delete(struct cli *c)
{
    return delete_one(c, "databases", "database");
}

/* --- extensions --- */

/* .../databases/D/extensions of --database, or of the one there is. */
static int extensions_path(struct cli *c, const char **ret_project, const char **ret)
{
    const char *path, *branch, *database = c->opt[OPT_DATABASE];
    int rc = place(c, ret_project, &path, &branch);

    if (rc == CLI_OK && database == NULL)
        rc = cli_only_one(c, path, branch, "databases", OPT_DATABASE, &database);
    if (rc == CLI_OK)
        *ret = arena_printf(c->arena, "%s/databases/%s/extensions%s%s", path, cli_enc(c, database),
                            c->n_args > 0 ? "/" : "", c->n_args > 0 ? cli_enc(c, c->args[0]) : "");
    return rc;
}

int cli_extensions_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = extensions_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "GET", path, NULL, &answer);
    return rc != CLI_OK ? rc : cli_show_list(c, answer, "extensions", COLUMNS(EXTENSION));
}

int cli_extensions_get(struct cli *c)
{
    const char *project, *path;
    int rc = extensions_path(c, &project, &path);

    return rc != CLI_OK ? rc : cli_show_now(c, path, "extension", COLUMNS(EXTENSION));
}

int cli_extensions_install(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *extension = cli_nested(body, "extension");
    const char *project, *path;
    int rc = extensions_path(c, &project, &path);

    cli_put(extension, "version", c->opt[OPT_TO]);
    cli_put(extension, "schema", c->opt[OPT_SCHEMA]);
    if (rc == CLI_OK)
        rc = cli_call(c, "PUT", path, body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    if (rc != CLI_OK || c->opt[OPT_JSON] != NULL || c->opt[OPT_NO_WAIT] != NULL)
        return rc != CLI_OK ? rc : cli_show_one(c, answer, "extension", COLUMNS(EXTENSION));
    return cli_show_now(c, path, "extension", COLUMNS(EXTENSION));
}

int cli_extensions_remove(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = extensions_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "DELETE", path, NULL, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, "extension", c->args[0]);
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
    int rc = call_one(c, "GET", "roles", "", NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, "role", COLUMNS(ROLE));
}

int cli_roles_delete(struct cli *c)
{
    return delete_one(c, "roles", "role");
}

int cli_roles_reset_password(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "POST", "roles", "/reset_password", NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, "role", COLUMNS(ROLE));
}

int cli_roles_password(struct cli *c)
{
    json_auto_t *answer = NULL;
    int rc = call_one(c, "GET", "roles", "/reveal_password", NULL, &answer);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] != NULL)
        return cli_show_one(c, answer, NULL, NULL, 0);
    puts(cli_text(c, answer, "password"));
    return CLI_OK;
}
