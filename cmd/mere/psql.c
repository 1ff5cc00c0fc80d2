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

/* BRANCH@LSN and BRANCH@TIME: *ret_word is what says so in options, NULL for a plain name, which may have an
 * @ too. */
static const char *split_moment(struct cli *c, const char *named, const char **ret_word)
{
    const char *at = named != NULL ? strrchr(named, '@') : NULL;
    uint64_t lsn;
    int64_t time_us;

    *ret_word = NULL;
    if (at == NULL || at == named)
        return named;
    if (text_to_lsn(at + 1, &lsn))
        *ret_word = arena_printf(c->arena, "neon_lsn:%s", at + 1);
    else if (text_to_time(at + 1, &time_us))
        *ret_word = arena_printf(c->arena, "neon_timestamp:%s", at + 1);
    return *ret_word != NULL ? arena_strndup(c->arena, named, (size_t)(at - named)) : named;
}

/* Adds a word to the options of a connection string. */
static const char *add_option(struct cli *c, const char *uri, const char *word)
{
    const char *options = strstr(uri, "options=");
    size_t n = options != NULL ? strcspn(options, "&") : 0;

    if (options == NULL)
        return arena_printf(c->arena, "%s%soptions=%s", uri, strchr(uri, '?') != NULL ? "&" : "?",
                            cli_enc(c, word));
    return arena_printf(c->arena, "%.*s%%20%s%s", (int)(options + n - uri), uri, cli_enc(c, word),
                        options + n);
}

/* connection_uri of the branch named by word or option; without one the API takes the default branch. */
static int connection_uri(struct cli *c, json_t **ret_answer, const char **ret)
{
    const char *moment, *branch = split_moment(c, c->n_args > 0 ? c->args[0] : c->opt[OPT_BRANCH], &moment);
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
    if (moment != NULL) {
        *ret = add_option(c, *ret, moment);
        json_object_set_new(*ret_answer, "uri", json_string(*ret));
    }
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
