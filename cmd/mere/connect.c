/*
 * connect.c - connection strings: where they come from, and what is in them
 */
#include "connect.h"

#include "base/text.h"
#include "context.h"

/* --- what is in them --- */

static const char *decoded(struct cli *c, const char *from, const char *to)
{
    auto_free char *text = text_url_decode(from, (size_t)(to - from));

    return arena_strdup(c->arena, text);
}

/* user:password@ at the beginning of the authority, which goes from p to end; what follows it is returned. */
static const char *read_user(struct cli *c, const char *p, const char *end, const char **ret_colon,
                             struct cli_uri *ret)
{
    const char *at = memrchr(p, '@', (size_t)(end - p)), *colon;

    *ret_colon = NULL;
    if (at == NULL)
        return p;
    colon = memchr(p, ':', (size_t)(at - p));
    ret->user = decoded(c, p, colon != NULL ? colon : at);
    if (colon != NULL)
        ret->password = decoded(c, colon + 1, at);
    *ret_colon = colon;
    return at + 1;
}

/* name:port, [::1]:port, or neither. */
static void read_host(struct cli *c, const char *p, const char *end, struct cli_uri *ret)
{
    const char *bracket = p < end && p[0] == '[' ? memchr(p, ']', (size_t)(end - p)) : NULL;
    const char *colon =
        memchr(bracket != NULL ? bracket : p, ':', (size_t)(end - (bracket != NULL ? bracket : p)));
    const char *stop = colon != NULL ? colon : end;

    if (bracket != NULL)
        ret->host = decoded(c, p + 1, bracket);
    else if (stop > p)
        ret->host = decoded(c, p, stop);
    if (colon != NULL && colon + 1 < end)
        ret->port = decoded(c, colon + 1, end);
}

static void read_parameters(struct cli *c, const char *p, struct cli_uri *ret)
{
    const struct {
        const char *name;
        const char **value;
    } KNOWN[] = { { "options=", &ret->options }, { "sslmode=", &ret->sslmode } };

    for (const char *end; *p != '\0'; p = end + (*end == '&')) {
        end = p + strcspn(p, "&");
        for (size_t i = 0; i < N_ELEMENTS(KNOWN); i++)
            if (strncmp(p, KNOWN[i].name, strlen(KNOWN[i].name)) == 0)
                *KNOWN[i].value = decoded(c, p + strlen(KNOWN[i].name), end);
    }
}

int cli_uri_read(struct cli *c, const char *uri, struct cli_uri *ret)
{
    const char *p = strstr(uri, "://"), *end, *host, *colon, *query;

    *ret = (struct cli_uri){ .bare = uri };
    if (p == NULL || (!text_starts_with(uri, "postgresql://") && !text_starts_with(uri, "postgres://")))
        return cli_fail(CLI_USAGE,
                        "this is no connection string; one looks like postgresql://USER@HOST:5432/DATABASE");
    p += 3;
    end = p + strcspn(p, "/?");
    host = read_user(c, p, end, &colon, ret);
    read_host(c, host, end, ret);
    query = end + strcspn(end, "?");
    if (end[0] == '/' && query > end + 1)
        ret->database = decoded(c, end + 1, query);
    if (query[0] == '?')
        read_parameters(c, query + 1, ret);
    if (colon != NULL && ret->password == NULL)
        return cli_fail(CLI_USAGE,
                        "the password of the connection string is not percent-encoded as it should be");
    if (colon != NULL)
        ret->bare = arena_printf(c->arena, "%.*s@%s", (int)(colon - uri), uri, host);
    return CLI_OK;
}

/* --- where they come from --- */

const char *cli_split_moment(struct cli *c, const char *named, const char **ret_moment)
{
    const char *at = named != NULL ? strrchr(named, '@') : NULL;
    uint64_t lsn;
    int64_t time_us;

    *ret_moment = NULL;
    if (at == NULL || at == named || (!text_to_lsn(at + 1, &lsn) && !text_to_time(at + 1, &time_us)))
        return named;
    *ret_moment = at + 1;
    return arena_strndup(c->arena, named, (size_t)(at - named));
}

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

int cli_connection(struct cli *c, const char *project, const char *branch, json_t **ret_answer,
                   const char **ret)
{
    const struct {
        const char *name, *value;
    } QUERY[] = {
        { "branch_id", branch },
        { "database_name", c->opt[OPT_DATABASE] },
        { "role_name", c->opt[OPT_ROLE] },
    };
    const char *path = arena_printf(c->arena, "/projects/%s/connection_uri", cli_enc(c, project)), *sep = "?";
    int rc, status;

    for (size_t i = 0; i < N_ELEMENTS(QUERY); i++) {
        if (QUERY[i].value == NULL)
            continue;
        path = arena_printf(c->arena, "%s%s%s=%s", path, sep, QUERY[i].name, cli_enc(c, QUERY[i].value));
        sep = "&";
    }
    rc = cli_ask(c, "GET", path, NULL, &status, ret_answer);
    if (rc != CLI_OK)
        return rc;
    if (status != 200)
        return ask_to_choose(c, project, branch, status, *ret_answer);
    *ret = cli_text(c, *ret_answer, "uri");
    return (*ret)[0] != '\0' ? CLI_OK : cli_fail(CLI_FAILURE, "the server gave no connection string");
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

int cli_named_connection(struct cli *c, json_t **ret_answer, const char **ret)
{
    const char *moment,
        *branch = cli_split_moment(c, c->n_args > 0 ? c->args[0] : c->opt[OPT_BRANCH], &moment);
    const char *project;
    int rc;

    if (c->n_args > 0 && c->opt[OPT_BRANCH] != NULL)
        return cli_fail(CLI_USAGE, "\"%s\" and \"%s\": name the branch once", c->args[0], c->opt[OPT_BRANCH]);
    rc = cli_project(c, NULL, &project);
    if (rc == CLI_OK && branch == NULL)
        rc = cli_pinned_branch(c, project, &branch);
    if (rc == CLI_OK)
        rc = cli_connection(c, project, branch, ret_answer, ret);
    if (rc == CLI_OK && moment != NULL) {
        *ret = add_option(c, *ret,
                          arena_printf(c->arena, "%s:%s",
                                       strchr(moment, '/') != NULL ? "neon_lsn" : "neon_timestamp", moment));
        json_object_set_new(*ret_answer, "uri", json_string(*ret));
    }
    return rc;
}

int cli_url(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *uri;
    int rc = cli_named_connection(c, &answer, &uri);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] != NULL)
        return cli_show_one(c, answer, NULL, NULL, 0);
    puts(uri);
    return CLI_OK;
}
