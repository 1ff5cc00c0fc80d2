/*
 * nouns.c - projects, branches, endpoints, operations: list, create, get, delete, start, suspend, restart
 */
#include "cli.h"

#include "base/id.h"
#include "base/text.h"

static const struct cli_column PROJECT[] = {
    { "ID", "id" },
    { "NAME", "name" },
    { "POSTGRES", "pg_version" },
    { "CREATED", "created_at" },
};

static const struct cli_column BRANCH[] = {
    { "ID", "id" },
    { "NAME", "name" },
    { "STATE", "current_state" },
    { "DEFAULT", "default" },
    { "PARENT", "parent_id" },
    { "PARENT LSN", "parent_lsn" },
    { "CREATED", "created_at" },
    { "EXPIRES", "expires_at" },
};

static const struct cli_column BRANCH_DELETED[] = {
    { "ID", "id" },
    { "NAME", "name" },
    { "CREATED", "created_at" },
    { "DELETED", "recovery.deleted_at" },
    { "RECOVERABLE UNTIL", "recovery.recoverable_until" },
};

static const struct cli_column ENDPOINT[] = {
    { "ID", "id" },     { "BRANCH", "branch_id" },        { "TYPE", "type" }, { "STATE", "current_state" },
    { "HOST", "host" }, { "LAST ACTIVE", "last_active" },
};

static const struct cli_column OPERATION[] = {
    { "ID", "id" },
    { "ACTION", "action" },
    { "STATUS", "status" },
    { "BRANCH", "branch_id" },
    { "CREATED", "created_at" },
    { "MS", "total_duration_ms" },
    { "ERROR", "error" },
};

#define COLUMNS(table) table, N_ELEMENTS(table)

/* Adds a member unless it has no value; numbers as numbers. */
static void put(json_t *obj, const char *key, const char *value)
{
    if (value != NULL)
        json_object_set_new(obj, key, json_string(value));
}

static int put_number(json_t *obj, const char *key, const char *option, const char *value, int64_t min,
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

static int put_suspend_timeout(struct cli *c, json_t *obj)
{
    return put_number(obj, "suspend_timeout_seconds", "suspend-timeout", c->opt[OPT_SUSPEND_TIMEOUT], -1,
                      604800);
}

/* What only an endpoint has. */
static int put_endpoint_options(struct cli *c, json_t *obj)
{
    if (c->opt[OPT_PARK_SESSIONS] != NULL)
        json_object_set_new(obj, "park_sessions", json_true());
    return put_suspend_timeout(c, obj);
}

/* Seconds of "90s", "30m", "12h", "7d" or "90". */
static bool duration(struct cli *c, const char *text, int64_t *ret)
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
    else if (ttl != NULL && !duration(c, ttl, &seconds))
        return cli_fail(CLI_USAGE, "--ttl must be a duration like 90s, 30m, 12h or 7d, or never");
    else if (ttl != NULL)
        json_object_set_new(obj, "ttl_seconds", json_integer(seconds));
    if (at != NULL && strcmp(at, "never") == 0)
        json_object_set_new(obj, "expires_at", json_null());
    else
        put(obj, "expires_at", at);
    return CLI_OK;
}

/* A new object inside obj. */
static json_t *nested(json_t *obj, const char *key)
{
    json_t *inner = json_object();

    json_object_set_new(obj, key, inner);
    return inner;
}

/* The word after the verb, or its option; both is one too many. */
static int word_or_option(struct cli *c, enum cli_option o, const char **ret)
{
    if (c->n_args > 0 && c->opt[o] != NULL)
        return cli_fail(CLI_USAGE, "\"%s\" and \"%s\": name it once", c->args[0], c->opt[o]);
    *ret = c->n_args > 0 ? c->args[0] : c->opt[o];
    return CLI_OK;
}

/* Shows what a path answers now; for after the waiting. */
static int show_now(struct cli *c, const char *path, const char *key, const struct cli_column *cols, size_t n)
{
    json_auto_t *answer = NULL;
    int rc = cli_call(c, "GET", path, NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_one(c, answer, key, cols, n);
}

/* --- projects --- */

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

/* A record of what was made, with the connection string: this is the moment at which a user wants it. */
static int show_made(struct cli *c, json_t *answer, const char *noun)
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
    put(made, "project", cli_text(c, answer, "branch.project_id"));
    put(made, "name", cli_text(c, json_object_get(answer, noun), "name"));
    put(made, "branch", cli_text(c, answer, "branch.id"));
    put(made, "parent_lsn", cli_text(c, answer, "branch.parent_lsn"));
    put(made, "endpoint", cli_text(c, first_endpoint, "id"));
    put(made, "uri", cli_text(c, first_uri, "connection_uri"));
    return cli_show_one(c, made, NULL, COLUMNS(MADE));
}

int cli_projects_create(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *project = nested(body, "project");
    const char *name = NULL;
    int rc = word_or_option(c, OPT_NAME, &name);

    if (rc == CLI_OK)
        rc = put_number(project, "pg_version", "pg-version", c->opt[OPT_PG_VERSION], 1, 99);
    if (rc == CLI_OK && c->opt[OPT_SUSPEND_TIMEOUT] != NULL)
        rc = put_suspend_timeout(c, nested(project, "default_endpoint_settings"));
    if (rc != CLI_OK)
        return rc;
    put(project, "name", name);
    if (c->opt[OPT_BRANCH] != NULL || c->opt[OPT_DATABASE] != NULL || c->opt[OPT_ROLE] != NULL) {
        json_t *branch = nested(project, "branch");
        put(branch, "name", c->opt[OPT_BRANCH]);
        put(branch, "database_name", c->opt[OPT_DATABASE]);
        put(branch, "role_name", c->opt[OPT_ROLE]);
    }
    rc = cli_call(c, "POST", "/projects", body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, cli_text(c, answer, "project.id"), answer);
    return rc != CLI_OK ? rc : show_made(c, answer, "project");
}

int cli_projects_get(struct cli *c)
{
    const char *project;
    int rc = cli_project(c, c->n_args > 0 ? c->args[0] : NULL, &project);

    if (rc != CLI_OK)
        return rc;
    return show_now(c, arena_printf(c->arena, "/projects/%s", cli_enc(c, project)), "project",
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

/* --- branches --- */

/* /projects/<p> of the project in question. */
static int project_path(struct cli *c, const char **ret_project, const char **ret_path)
{
    int rc = cli_project(c, NULL, ret_project);

    if (rc == CLI_OK)
        *ret_path = arena_printf(c->arena, "/projects/%s", cli_enc(c, *ret_project));
    return rc;
}

int cli_branches_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = project_path(c, &project, &path);

    if (rc != CLI_OK)
        return rc;
    path = arena_printf(c->arena, "%s/branches%s", path,
                        c->opt[OPT_DELETED] != NULL ? "?include_deleted=true" : "");
    if (c->opt[OPT_SEARCH] != NULL)
        path = arena_printf(c->arena, "%s%csearch=%s", path, c->opt[OPT_DELETED] != NULL ? '&' : '?',
                            cli_enc(c, c->opt[OPT_SEARCH]));
    rc = cli_call_list(c, path, "branches", "next", &answer);
    if (rc != CLI_OK)
        return rc;
    return c->opt[OPT_DELETED] != NULL ? cli_show_list(c, answer, "branches", COLUMNS(BRANCH_DELETED))
                                       : cli_show_list(c, answer, "branches", COLUMNS(BRANCH));
}

/* The parent is a name or an id to us; the API wants an id in the body. */
static int branch_id(struct cli *c, const char *project_path_, const char *ref, const char **ret)
{
    json_auto_t *answer = NULL;
    int rc;

    if (id_looks_like_branch(ref)) {
        *ret = ref;
        return CLI_OK;
    }
    rc = cli_call(c, "GET", arena_printf(c->arena, "%s/branches/%s", project_path_, cli_enc(c, ref)), NULL,
                  &answer);
    if (rc == CLI_OK)
        *ret = cli_text(c, answer, "branch.id");
    return rc;
}

static int branch_body(struct cli *c, const char *path, const char *name, json_t *body)
{
    json_t *branch = nested(body, "branch");
    const char *parent;
    int rc = CLI_OK;

    put(branch, "name", name);
    put(branch, "durability", c->opt[OPT_DURABILITY]);
    rc = cli_put_expiry(c, branch);
    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_AT] != NULL)
        put(branch, strchr(c->opt[OPT_AT], '/') != NULL ? "parent_lsn" : "parent_timestamp", c->opt[OPT_AT]);
    if (c->opt[OPT_PARENT] != NULL) {
        rc = branch_id(c, path, c->opt[OPT_PARENT], &parent);
        if (rc != CLI_OK)
            return rc;
        put(branch, "parent_id", parent);
    }
    if (c->opt[OPT_NO_ENDPOINT] == NULL) {
        json_t *endpoint = json_object();
        put(endpoint, "type", "read_write");
        rc = put_endpoint_options(c, endpoint);
        json_object_set_new(body, "endpoints", json_pack("[o]", endpoint));
    }
    return rc;
}

int cli_branches_create(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    const char *project, *path, *name = NULL;
    int rc = word_or_option(c, OPT_NAME, &name);

    if (rc == CLI_OK)
        rc = project_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = branch_body(c, path, name, body);
    if (rc == CLI_OK)
        rc = cli_call(c, "POST", arena_printf(c->arena, "%s/branches", path), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : show_made(c, answer, "branch");
}

int cli_branches_get(struct cli *c)
{
    const char *project, *path;
    int rc = project_path(c, &project, &path);

    if (rc != CLI_OK)
        return rc;
    return show_now(c, arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, c->args[0])), "branch",
                    COLUMNS(BRANCH));
}

int cli_branches_delete(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = project_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "DELETE",
                      arena_printf(c->arena, "%s/branches/%s%s", path, cli_enc(c, c->args[0]),
                                   c->opt[OPT_HARD] != NULL ? "?hard_delete=true" : ""),
                      NULL, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, "branch", c->args[0]);
}

/* "^self" and "^parent" are what they say; the answer is the id in any case. */
static int source_id(struct cli *c, const char *path, const char *branch, const char *ref, const char **ret)
{
    json_auto_t *answer = NULL;
    int rc;

    if (strcmp(ref, "^parent") != 0)
        return branch_id(c, path, strcmp(ref, "^self") == 0 ? branch : ref, ret);
    rc =
        cli_call(c, "GET", arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, branch)), NULL, &answer);
    if (rc != CLI_OK)
        return rc;
    *ret = cli_text(c, answer, "branch.parent_id");
    return (*ret)[0] != '\0' ? CLI_OK : cli_fail(CLI_CONFLICT, "branch \"%s\" has no parent", branch);
}

/* SOURCE@MOMENT; a name may have an @ in it, a moment has none. */
static int restore_body(struct cli *c, const char *path, json_t *body)
{
    char *source = arena_strdup(c->arena, c->args[1]), *at = strrchr(source, '@');
    const char *id;
    int rc;

    if (at != NULL)
        *at++ = '\0';
    rc = source_id(c, path, c->args[0], source, &id);
    if (rc != CLI_OK)
        return rc;
    put(body, "source_branch_id", id);
    put(body, at != NULL && strchr(at, '/') != NULL ? "source_lsn" : "source_timestamp", at);
    return CLI_OK;
}

/* verb: of the API. */
static int put_back(struct cli *c, const char *project, const char *path, const char *verb, json_t *body)
{
    json_auto_t *answer = NULL;
    int rc;

    put(body, "preserve_under_name", c->opt[OPT_PRESERVE]);
    path = arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, c->args[0]));
    rc = cli_call(c, "POST", arena_printf(c->arena, "%s/%s", path, verb), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : show_now(c, path, "branch", COLUMNS(BRANCH));
}

int cli_branches_restore(struct cli *c)
{
    json_auto_t *body = json_object();
    const char *project, *path;
    int rc = project_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = restore_body(c, path, body);
    return rc != CLI_OK ? rc : put_back(c, project, path, "restore", body);
}

int cli_branches_reset(struct cli *c)
{
    json_auto_t *body = json_object();
    const char *project, *path;
    int rc = project_path(c, &project, &path);

    return rc != CLI_OK ? rc : put_back(c, project, path, "reset_to_parent", body);
}

int cli_branches_update(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *branch = nested(body, "branch");
    const char *project, *path;
    int rc = cli_put_expiry(c, branch);

    put(branch, "name", c->opt[OPT_NAME]);
    if (rc == CLI_OK && json_object_size(branch) == 0)
        rc = cli_fail(CLI_USAGE, "what shall be changed? --name, --ttl or --expires-at");
    if (rc == CLI_OK)
        rc = project_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = cli_call(c, "PATCH", arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, c->args[0])),
                      body, &answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "branch", COLUMNS(BRANCH));
}

int cli_branches_recover(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = project_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "POST",
                      arena_printf(c->arena, "%s/branches/%s/recover", path, cli_enc(c, c->args[0])), NULL,
                      &answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "branch", COLUMNS(BRANCH));
}

/* --- endpoints --- */

int cli_endpoints_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = project_path(c, &project, &path);

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
    int rc = project_path(c, ret_project, &path);

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
    json_t *endpoint = nested(body, "endpoint");
    const char *project, *path, *branch = NULL, *id;
    int rc = word_or_option(c, OPT_BRANCH, &branch);

    if (rc == CLI_OK && branch == NULL)
        rc = cli_fail(CLI_USAGE, "which branch? mere endpoints create BRANCH");
    if (rc == CLI_OK)
        rc = put_endpoint_options(c, endpoint);
    if (rc == CLI_OK)
        rc = project_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = branch_id(c, path, branch, &id);
    if (rc != CLI_OK)
        return rc;
    put(endpoint, "branch_id", id);
    put(endpoint, "type", c->opt[OPT_TYPE] != NULL ? c->opt[OPT_TYPE] : "read_write");
    put(endpoint, "name", c->opt[OPT_NAME]);
    rc = cli_call(c, "POST", arena_printf(c->arena, "%s/endpoints", path), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "endpoint", COLUMNS(ENDPOINT));
}

int cli_endpoints_get(struct cli *c)
{
    const char *project, *path;
    int rc = endpoint_path(c, c->args[0], &project, &path);

    return rc != CLI_OK ? rc : show_now(c, path, "endpoint", COLUMNS(ENDPOINT));
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
    return rc != CLI_OK ? rc : show_now(c, path, "endpoint", COLUMNS(ENDPOINT));
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

/* --- operations --- */

int cli_operations_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = project_path(c, &project, &path);

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
    int rc = project_path(c, &project, &path);

    if (rc != CLI_OK)
        return rc;
    return show_now(c, arena_printf(c->arena, "%s/operations/%s", path, cli_enc(c, c->args[0])), "operation",
                    COLUMNS(OPERATION));
}
