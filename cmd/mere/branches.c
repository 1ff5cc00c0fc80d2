/*
 * branches.c - branches
 */
#include "body.h"

#include "base/clock.h"
#include "base/text.h"

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

int cli_branches_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

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

static int branch_body(struct cli *c, const char *path, const char *name, json_t *body)
{
    json_t *branch = cli_nested(body, "branch");
    const char *parent;
    int rc = CLI_OK;

    cli_put(branch, "name", name);
    cli_put(branch, "durability", c->opt[OPT_DURABILITY]);
    rc = cli_put_expiry(c, branch);
    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_AT] != NULL)
        cli_put(branch, strchr(c->opt[OPT_AT], '/') != NULL ? "parent_lsn" : "parent_timestamp",
                c->opt[OPT_AT]);
    if (c->opt[OPT_PARENT] != NULL) {
        rc = cli_branch_id(c, path, c->opt[OPT_PARENT], &parent);
        if (rc != CLI_OK)
            return rc;
        cli_put(branch, "parent_id", parent);
    }
    if (c->opt[OPT_NO_ENDPOINT] == NULL) {
        json_t *endpoint = json_object();
        cli_put(endpoint, "type", "read_write");
        rc = cli_put_endpoint_options(c, endpoint);
        json_object_set_new(body, "endpoints", json_pack("[o]", endpoint));
    }
    return rc;
}

int cli_branch_make(struct cli *c, const char *project, const char *path, const char *name, json_t **ret)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    int rc = branch_body(c, path, name, body);

    if (rc == CLI_OK)
        rc = cli_call(c, "POST", arena_printf(c->arena, "%s/branches", path), body, &answer);
    if (rc != CLI_OK)
        return rc;
    *ret = json_incref(answer);
    return cli_wait(c, project, answer);
}

void cli_branch_discard(struct cli *c, const char *project_path, json_t *branch)
{
    json_auto_t *answer = NULL;
    struct err err = ERR_INIT;
    int status = 0;
    const char *expires_at = cli_text(c, branch, "expires_at");
    const char *path = arena_printf(c->arena, "%s%s/branches/%s?hard_delete=true", CLI_API, project_path,
                                    cli_enc(c, cli_text(c, branch, "id")));

    if (cli_exchange(c, "DELETE", path, NULL, NULL, &status, &answer, &err) == 0 &&
        ((status >= 200 && status < 300) || status == 404))
        return;
    (void)cli_fail(CLI_FAILURE, "branch %s was not deleted%s%s%s", cli_text(c, branch, "name"),
                   expires_at[0] != '\0' ? "; it deletes itself at " : "", expires_at,
                   status == 0 ? ": there was no answer" : "");
}

int cli_branches_create(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path, *name = NULL;
    int rc = cli_word_or_option(c, OPT_NAME, &name);

    if (rc == CLI_OK)
        rc = cli_project_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = cli_branch_make(c, project, path, name, &answer);
    return rc != CLI_OK ? rc : cli_show_made(c, answer, "branch");
}

int cli_branches_get(struct cli *c)
{
    const char *project, *path, *name;
    int rc = cli_project(c, NULL, &project);

    if (rc == CLI_OK)
        rc = cli_branch_path(c, project, c->n_args > 0 ? c->args[0] : NULL, &path, &name);
    return rc != CLI_OK ? rc : cli_show_now(c, path, "branch", COLUMNS(BRANCH));
}

int cli_branches_delete(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

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
        return cli_branch_id(c, path, strcmp(ref, "^self") == 0 ? branch : ref, ret);
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
    cli_put(body, "source_branch_id", id);
    cli_put(body, at != NULL && strchr(at, '/') != NULL ? "source_lsn" : "source_timestamp", at);
    return CLI_OK;
}

/* verb: of the API. */
static int put_back(struct cli *c, const char *project, const char *path, const char *verb, json_t *body)
{
    json_auto_t *answer = NULL;
    int rc;

    cli_put(body, "preserve_under_name", c->opt[OPT_PRESERVE]);
    path = arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, c->args[0]));
    rc = cli_call(c, "POST", arena_printf(c->arena, "%s/%s", path, verb), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_now(c, path, "branch", COLUMNS(BRANCH));
}

int cli_branches_restore(struct cli *c)
{
    json_auto_t *body = json_object();
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = restore_body(c, path, body);
    return rc != CLI_OK ? rc : put_back(c, project, path, "restore", body);
}

int cli_branches_reset(struct cli *c)
{
    json_auto_t *body = json_object();
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    return rc != CLI_OK ? rc : put_back(c, project, path, "reset_to_parent", body);
}

/* One call about the branch that the first word names; suffix: what follows it in the path. */
static int change(struct cli *c, const char *method, const char *suffix, json_t *body)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, method,
                      arena_printf(c->arena, "%s/branches/%s%s", path, cli_enc(c, c->args[0]), suffix), body,
                      &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "branch", COLUMNS(BRANCH));
}

static int protect(struct cli *c, bool yes)
{
    json_auto_t *body = json_pack("{s:{s:b}}", "branch", "protected", yes);

    return change(c, "PATCH", "", body);
}

int cli_branches_protect(struct cli *c)
{
    return protect(c, true);
}

int cli_branches_unprotect(struct cli *c)
{
    return protect(c, false);
}

int cli_branches_set_default(struct cli *c)
{
    return change(c, "POST", "/set_as_default", NULL);
}

int cli_branches_recover(struct cli *c)
{
    return change(c, "POST", "/recover", NULL);
}

int cli_branches_finalize(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = cli_project_path(c, &project, &path);

    cli_put(body, "name", c->opt[OPT_NAME]);
    path = rc == CLI_OK ? arena_printf(c->arena, "%s/branches/%s", path, cli_enc(c, c->args[0])) : NULL;
    if (rc == CLI_OK)
        rc = cli_call(c, "POST", arena_printf(c->arena, "%s/finalize_restore", path), body, &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_now(c, path, "branch", COLUMNS(BRANCH));
}

int cli_branches_update(struct cli *c)
{
    json_auto_t *body = json_object();
    json_t *branch = cli_nested(body, "branch");
    int rc = cli_put_expiry(c, branch);

    cli_put(branch, "name", c->opt[OPT_NAME]);
    if (rc == CLI_OK && json_object_size(branch) == 0)
        rc = cli_fail(CLI_USAGE, "what shall be changed? --name, --ttl or --expires-at");
    return rc != CLI_OK ? rc : change(c, "PATCH", "", body);
}

int cli_branches_lsn(struct cli *c)
{
    static const struct cli_column PLACE[] = {
        { "LSN", "lsn" },
        { "TIME", "timestamp" },
        { "KIND", "kind" },
    };
    char now[TIME_TEXT_SIZE];
    const char *project, *path, *name;
    const char *at = c->opt[OPT_AT] != NULL ? c->opt[OPT_AT] : text_time_us(clock_wall_us(), now);
    int rc = cli_project(c, NULL, &project);

    if (rc == CLI_OK)
        rc = cli_branch_path(c, project, c->n_args > 0 ? c->args[0] : NULL, &path, &name);
    if (rc != CLI_OK)
        return rc;
    path = arena_printf(c->arena, "%s/lsn?%s=%s", path, strchr(at, '/') != NULL ? "lsn" : "timestamp",
                        cli_enc(c, at));
    return cli_show_now(c, path, NULL, COLUMNS(PLACE));
}
