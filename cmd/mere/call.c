/*
 * call.c - one call of the API, its errors as exit codes, pages, and which project
 */
#include "cli.h"
#include "context.h"

#include "base/httpc.h"
#include "base/text.h"

#define ANSWER_MAX (64u << 20)
#define ANSWER_MS  60000

static enum cli_exit exit_of_status(int status, const char *code)
{
    switch (status) {
    case 401:
    case 403:
        return CLI_AUTH;
    case 404:
        return CLI_NOT_FOUND;
    case 409:
    case 412:
    case 422:
        return CLI_CONFLICT;
    default:
        return strcmp(code, "timeout") == 0 ? CLI_TIMED_OUT : CLI_FAILURE;
    }
}

/* The sentence of an error answer, or the status when it has none. */
int cli_refused(struct cli *c, int status, json_t *answer)
{
    const char *msg = json_string_value(json_object_get(answer, "message"));
    const char *code = json_string_value(json_object_get(answer, "code"));
    enum cli_exit rc = exit_of_status(status, code != NULL ? code : "");

    if (status == 401)
        return cli_fail(rc, "the key was refused by %s", c->api_url);
    if (msg == NULL || msg[0] == '\0')
        return cli_fail(rc, "the server answered HTTP %d without saying why", status);
    return cli_fail(rc, "%s", msg);
}

int cli_exchange(struct cli *c, const char *method, const char *path, json_t *body,
                 const struct cli_patience *patience, int *ret_status, json_t **ret, struct err *err)
{
    auto_buf answer = { 0 };
    auto_free char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    struct httpc_request req = {
        .method = method,
        .url = arena_printf(c->arena, "%s%s", c->api_url, path),
        .bearer = c->key,
        .body = text,
        .timeout_ms = ANSWER_MS,
        .max_bytes = ANSWER_MAX,
        .tick = patience != NULL ? patience->tick : NULL,
        .tick_arg = patience != NULL ? patience->arg : NULL,
    };

    if (httpc_call(&req, ret_status, &answer, err) < 0)
        return -1;
    *ret = json_loadb(answer.data, answer.len, 0, NULL);
    return 0;
}

int cli_no_answer(struct cli *c, const struct err *err)
{
    if (err->code == ERR_TIMEOUT)
        return cli_fail(CLI_TIMED_OUT, "%s did not answer in time", c->api_url);
    if (err->code == ERR_UNAVAILABLE)
        return cli_fail(CLI_UNREACHABLE, "no server answers at %s; is it running?", c->api_url);
    return cli_fail(CLI_FAILURE, "%s", err->msg);
}

int cli_ask(struct cli *c, const char *method, const char *path, json_t *body, int *ret_status, json_t **ret)
{
    struct err err = ERR_INIT;
    const char *full = arena_printf(c->arena, "%s%s", CLI_API, path);

    if (cli_exchange(c, method, full, body, NULL, ret_status, ret, &err) < 0)
        return cli_no_answer(c, &err);
    return CLI_OK;
}

int cli_call(struct cli *c, const char *method, const char *path, json_t *body, json_t **ret)
{
    json_auto_t *answer = NULL;
    int status, rc = cli_ask(c, method, path, body, &status, &answer);

    if (rc != CLI_OK)
        return rc;
    if (status < 200 || status > 299 || answer == NULL)
        return cli_refused(c, status, answer);
    *ret = json_incref(answer);
    return CLI_OK;
}

/* The whole list, or --limit of it; *more false after the last page. */
static const char *next_page(struct cli *c, json_t *page, const char *key, const char *cursor_key,
                             size_t wanted, size_t have)
{
    const char *cursor = json_string_value(json_object_get(json_object_get(page, "pagination"), cursor_key));

    if (json_array_size(json_object_get(page, key)) == 0 || cursor == NULL || have >= wanted)
        return NULL;
    return arena_strdup(c->arena, cursor);
}

static int wanted_items(struct cli *c, size_t *ret)
{
    int64_t n = 1000000;

    if (c->opt[OPT_LIMIT] != NULL && !text_to_i64(c->opt[OPT_LIMIT], 1, 1000000, &n))
        return cli_fail(CLI_USAGE, "--limit must be a number from 1 to 1000000");
    *ret = (size_t)n;
    return CLI_OK;
}

int cli_call_list(struct cli *c, const char *path, const char *key, const char *cursor_key, json_t **ret)
{
    const char *cursor = NULL, *sep = strchr(path, '?') != NULL ? "&" : "?";
    json_auto_t *all = json_array();
    json_auto_t *first = NULL;
    size_t wanted = 0;
    int rc = wanted_items(c, &wanted);

    if (rc != CLI_OK)
        return rc;
    do {
        size_t left = wanted - json_array_size(all);
        json_auto_t *page = NULL;
        const char *url = arena_printf(c->arena, "%s%slimit=%zu", path, sep, left < 100 ? left : 100);

        if (cursor != NULL)
            url = arena_printf(c->arena, "%s&cursor=%s", url, cli_enc(c, cursor));
        rc = cli_call(c, "GET", url, NULL, &page);
        if (rc != CLI_OK)
            return rc;
        json_array_extend(all, json_object_get(page, key));
        cursor = next_page(c, page, key, cursor_key, wanted, json_array_size(all));
        if (first == NULL)
            first = json_incref(page);
    } while (cursor != NULL);
    json_object_set(first, key, all);
    json_object_del(first, "pagination");
    *ret = json_incref(first);
    return CLI_OK;
}

/* Does it have the shape of our ids, word-word-NNNNNNNN? */
static bool looks_like_project_id(const char *s)
{
    size_t n = strlen(s);

    return n > 9 && s[n - 9] == '-' && strspn(s + n - 8, "0123456789") == 8;
}

/* The id of the only project of that name. */
static int project_by_name(struct cli *c, const char *name, const char **ret)
{
    json_auto_t *answer = NULL;
    json_t *project;
    size_t i, found = 0;
    int rc = cli_call(c, "GET", arena_printf(c->arena, "/projects?limit=400&search=%s", cli_enc(c, name)),
                      NULL, &answer);

    if (rc != CLI_OK)
        return rc;
    json_array_foreach(json_object_get(answer, "projects"), i, project)
    {
        if (strcmp(cli_text(c, project, "name"), name) == 0 ||
            strcmp(cli_text(c, project, "id"), name) == 0) {
            *ret = cli_text(c, project, "id");
            found++;
        }
    }
    if (found == 0)
        return cli_fail(CLI_NOT_FOUND, "there is no project \"%s\"; see mere projects list", name);
    if (found > 1)
        return cli_fail(CLI_USAGE, "%zu projects are named \"%s\"; use the id (mere projects list)", found,
                        name);
    return CLI_OK;
}

/* The id of the only project there is. */
static int only_project(struct cli *c, const char **ret)
{
    json_auto_t *answer = NULL;
    json_t *projects;
    int rc = cli_call(c, "GET", "/projects?limit=2", NULL, &answer);

    if (rc != CLI_OK)
        return rc;
    projects = json_object_get(answer, "projects");
    if (json_array_size(projects) == 0)
        return cli_fail(CLI_NOT_FOUND, "there is no project yet; make one: mere projects create");
    if (json_array_size(projects) > 1)
        return cli_fail(
            CLI_USAGE,
            "there are several projects; choose one with --project or MERE_PROJECT (mere projects list)");
    *ret = cli_text(c, json_array_get(projects, 0), "id");
    return CLI_OK;
}

int cli_project(struct cli *c, const char *ref, const char **ret)
{
    int rc = ref == NULL ? cli_said_project(c, &ref) : CLI_OK;

    if (rc != CLI_OK)
        return rc;
    if (ref == NULL)
        return only_project(c, ret);
    if (!looks_like_project_id(ref))
        return project_by_name(c, ref, ret);
    *ret = ref;
    return CLI_OK;
}

const char *cli_enc(struct cli *c, const char *s)
{
    auto_free char *encoded = text_url_encode(s);

    return arena_strdup(c->arena, encoded);
}
