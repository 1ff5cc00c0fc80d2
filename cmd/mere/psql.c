/*
 * psql.c - connection strings, and psql on them
 *
 * The password goes to psql in its environment, never on its command line, where every user of the machine
 * could read it.
 */
#include "cli.h"

#include <errno.h>

#include "base/text.h"

/* What the server cannot choose, in the words of this command: it speaks of parameters of the query. */
static int ask_to_choose(struct cli *c, const char *project, const char *branch, int status, json_t *refusal)
{
    static const struct {
        enum cli_option option;
        const char *noun;
    } CHOICES[] = { { OPT_DATABASE, "databases" }, { OPT_ROLE, "roles" } };
    const char *path, *name, *one;
    int rc =
        status == 400 ? cli_branch_path(c, project, branch, &path, &name) : cli_refused(c, status, refusal);

    for (size_t i = 0; rc == CLI_OK && i < N_ELEMENTS(CHOICES); i++)
        if (c->opt[CHOICES[i].option] == NULL)
            rc = cli_only_one(c, path, name, CHOICES[i].noun, CHOICES[i].option, &one);
    return rc != CLI_OK ? rc : cli_refused(c, status, refusal);
}

/* connection_uri of the branch named by word or option; without one the API takes the default branch. */
static int connection_uri(struct cli *c, json_t **ret_answer, const char **ret)
{
    const char *branch = c->n_args > 0 ? c->args[0] : c->opt[OPT_BRANCH];
    const char *project, *path;
    int rc, status;

    if (c->n_args > 0 && c->opt[OPT_BRANCH] != NULL)
        return cli_fail(CLI_USAGE, "\"%s\" and \"%s\": name the branch once", c->args[0], c->opt[OPT_BRANCH]);
    rc = cli_project(c, NULL, &project);
    if (rc != CLI_OK)
        return rc;
    path = arena_printf(c->arena, "/projects/%s/connection_uri?", cli_enc(c, project));
    if (branch != NULL)
        path = arena_printf(c->arena, "%sbranch_id=%s&", path, cli_enc(c, branch));
    if (c->opt[OPT_DATABASE] != NULL)
        path = arena_printf(c->arena, "%sdatabase_name=%s&", path, cli_enc(c, c->opt[OPT_DATABASE]));
    if (c->opt[OPT_ROLE] != NULL)
        path = arena_printf(c->arena, "%srole_name=%s&", path, cli_enc(c, c->opt[OPT_ROLE]));
    rc = cli_ask(c, "GET", arena_strndup(c->arena, path, strlen(path) - 1), NULL, &status, ret_answer);
    if (rc != CLI_OK)
        return rc;
    if (status != 200)
        return ask_to_choose(c, project, branch, status, *ret_answer);
    *ret = cli_text(c, *ret_answer, "uri");
    if ((*ret)[0] == '\0')
        return cli_fail(CLI_FAILURE, "the server gave no connection string");
    return CLI_OK;
}

int cli_url(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *uri;
    int rc = connection_uri(c, &answer, &uri);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] != NULL)
        return cli_show_one(c, answer, NULL, NULL, 0);
    puts(uri);
    return CLI_OK;
}

/* scheme://role:password@host... into the same without the password, and the password in clear. */
static int split_password(struct cli *c, const char *uri, const char **ret_uri, const char **ret_password)
{
    const char *user = strstr(uri, "://");
    const char *at = user != NULL ? strchr(user + 3, '@') : NULL;
    const char *colon = user != NULL ? strchr(user + 3, ':') : NULL;
    auto_free char *password = NULL;

    *ret_uri = uri;
    *ret_password = NULL;
    if (at == NULL || colon == NULL || colon > at)
        return CLI_OK;
    password = text_url_decode(colon + 1, (size_t)(at - colon - 1));
    if (password == NULL)
        return cli_fail(CLI_FAILURE, "the server gave a malformed connection string");
    *ret_password = arena_strdup(c->arena, password);
    *ret_uri = arena_printf(c->arena, "%.*s%s", (int)(colon - uri), uri, at);
    return CLI_OK;
}

int cli_psql(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *uri, *password;
    size_t n = 0;
    char **argv;
    int rc = connection_uri(c, &answer, &uri);

    if (rc == CLI_OK)
        rc = split_password(c, uri, &uri, &password);
    if (rc != CLI_OK)
        return rc;
    if (password != NULL && setenv("PGPASSWORD", password, 1) < 0)
        return cli_fail(CLI_FAILURE, "no room in the environment");
    while (c->rest[n] != NULL)
        n++;
    argv = arena_alloc(c->arena, (n + 4) * sizeof(*argv));
    argv[0] = arena_strdup(c->arena, "psql");
    argv[1] = arena_strdup(c->arena, "-d");
    argv[2] = arena_strdup(c->arena, uri);
    memcpy(&argv[3], c->rest, n * sizeof(*argv));
    fflush(stdout);
    execvp("psql", argv);
    if (errno == ENOENT)
        return cli_fail(CLI_FAILURE, "psql is not installed; on Debian: apt-get install postgresql-client");
    return cli_fail(CLI_FAILURE, "psql cannot be run: %s", strerror(errno));
}
