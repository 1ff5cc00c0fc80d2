/*
 * server.c - which server, and with which key
 *
 * Flags, then environment, then the user's own file, then what a server of this machine has left:
 * ./data/admin.key, or the small state file that mered writes beside its sockets ({"api": URL, "key_file":
 * PATH, "ca_file": PATH}).  A state file is believed only when it and its directory belong to us or to root,
 * and a key that was found, not given, is sent to this machine only.
 */
#include "cli.h"
#include "context.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/httpc.h"
#include "base/text.h"

#define DEFAULT_URL "http://127.0.0.1:7432"
#define KEY_MAX     4096
#define STATE_MAX   4096

/* A server that has told where it is. */
struct local_server {
    const char *api;
    const char *key_file;
    const char *ca_file; /* NULL: its certificate is not its own */
};

/* The first line of a key file. */
static int read_key(struct cli *c, const char *path, const char **ret, struct err *err)
{
    char *text;
    size_t len;

    if (fs_read(c->arena, path, KEY_MAX, &text, &len, err) < 0)
        return -1;
    text[strcspn(text, "\r\n")] = '\0';
    if (text[0] == '\0')
        return err_set(err, ERR_UNAUTHORIZED, "%s is empty", path);
    *ret = text;
    return 0;
}

static bool ours_or_root(const struct stat *st)
{
    return st->st_uid == 0 || st->st_uid == geteuid();
}

/* <dir>/<name>/cli.json into *ret; false when it is not there, not ours, or not what it should be. */
static bool read_state(struct cli *c, const char *dir, const char *name, struct local_server *ret)
{
    const char *at = arena_printf(c->arena, "%s/%s", dir, name);
    const char *path = arena_printf(c->arena, "%s/cli.json", at);
    char text[STATE_MAX];
    struct stat st;
    ssize_t n;
    json_auto_t *state = NULL;
    auto_fd fd = -1;

    if (lstat(at, &st) < 0 || !S_ISDIR(st.st_mode) || !ours_or_root(&st))
        return false;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !ours_or_root(&st))
        return false;
    n = read(fd, text, sizeof(text));
    if (n <= 0)
        return false;
    state = json_loadb(text, (size_t)n, 0, NULL);
    ret->api = arena_strdup(c->arena, json_string_value(json_object_get(state, "api")));
    ret->key_file = arena_strdup(c->arena, json_string_value(json_object_get(state, "key_file")));
    ret->ca_file = arena_strdup(c->arena, json_string_value(json_object_get(state, "ca_file")));
    return ret->api != NULL && ret->key_file != NULL;
}

/* Every server that left a state file under dir, added to list (at most max). */
static void list_states(struct cli *c, const char *dir, struct local_server *list, size_t max, size_t *n)
{
    struct err err = ERR_INIT;
    const char **names;
    size_t n_names;

    if (fs_list(c->arena, dir, &names, &n_names, &err) < 0)
        return;
    for (size_t i = 0; i < n_names && *n < max; i++)
        if (read_state(c, dir, names[i], &list[*n]))
            (*n)++;
}

static size_t find_states(struct cli *c, struct local_server *list, size_t max)
{
    const char *runtime = cli_env("XDG_RUNTIME_DIR");
    size_t n = 0;

    list_states(c, "/run/mere", list, max, &n);
    if (runtime != NULL)
        list_states(c, arena_printf(c->arena, "%s/mere", runtime), list, max, &n);
    list_states(c, arena_printf(c->arena, "/tmp/mere-%ld", (long)geteuid()), list, max, &n);
    return n;
}

/* Does anybody answer there?  Only asked when there are several to choose from: a killed server leaves its
 * file. */
static bool answers(const char *api)
{
    auto_buf body = { 0 };
    auto_buf url = { 0 };
    struct err err = ERR_INIT;
    struct httpc_request req = { .method = "GET", .timeout_ms = 1000, .max_bytes = 65536 };
    int status;

    buf_addf(&url, "%s/livez", api);
    req.url = buf_str(&url);
    return httpc_call(&req, &status, &body, &err) == 0;
}

/* What a URL says of the place; false when that cannot be told, as with a user name in it. */
struct place {
    bool tls;
    char host[64];
    int64_t port;
};

static bool read_place(const char *url, struct place *ret)
{
    const char *host = strstr(url, "://"), *end, *port;
    char number[8];

    *ret = (struct place){ .tls = text_starts_with(url, "https:") };
    if (host == NULL || strchr(url, '@') != NULL)
        return false;
    host += 3;
    end = host + (host[0] == '[' ? strcspn(host, "]/") + 1 : strcspn(host, ":/"));
    if (end > host + strlen(host) || (size_t)(end - host) >= sizeof(ret->host))
        return false;
    memcpy(ret->host, host, (size_t)(end - host));
    ret->port = ret->tls ? 443 : 80;
    if (end[0] != ':')
        return end[0] == '\0' || end[0] == '/';
    port = end + 1;
    if (strcspn(port, "/") >= sizeof(number))
        return false;
    snprintf(number, sizeof(number), "%.*s", (int)strcspn(port, "/"), port);
    return text_to_i64(number, 0, 65535, &ret->port);
}

/* Loopback, spelt plainly. */
static bool is_loopback(const struct place *p)
{
    return strcasecmp(p->host, "localhost") == 0 || strcmp(p->host, "127.0.0.1") == 0 ||
           strcmp(p->host, "[::1]") == 0;
}

static bool is_this_machine(const char *url)
{
    struct place p;

    return read_place(url, &p) && is_loopback(&p);
}

/* Is what was asked for (url) the server that says of itself to be at api?  It may have been asked for by any
 * name of this machine, and it may serve all addresses. */
static bool is_server(const char *api, const char *url)
{
    struct place a, u;

    if (strcmp(api, url) == 0)
        return true;
    return read_place(api, &a) && read_place(url, &u) && a.tls == u.tls && a.port == u.port &&
           is_loopback(&u) &&
           (is_loopback(&a) || strcmp(a.host, "0.0.0.0") == 0 || strcmp(a.host, "[::]") == 0);
}

/* The one server to talk to among those found: by URL when one was given, else the only one that answers. */
static int choose(struct cli *c, struct local_server *list, size_t n, const struct local_server **ret)
{
    size_t live = 0;

    *ret = NULL;
    for (size_t i = 0; i < n; i++) {
        if (c->api_url != NULL && !is_server(list[i].api, c->api_url))
            continue;
        if (n > 1 && c->api_url == NULL && !answers(list[i].api))
            continue;
        *ret = &list[i];
        live++;
    }
    if (live > 1 && c->api_url == NULL)
        return cli_fail(CLI_USAGE,
                        "several servers run on this machine; choose one with --api-url (one is %s)",
                        (*ret)->api);
    return CLI_OK;
}

static const struct local_server *server_of_key(struct local_server *list, size_t n, const char *key_file)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].key_file, key_file) == 0)
            return &list[i];
    return NULL;
}

/* ./data/admin.key belongs to the server whose state file names the same file; without one, to any on this
 * machine.  NULL when it is not there or for another server. */
static const char *key_of_here(struct cli *c, struct local_server *list, size_t n,
                               const struct local_server **ret)
{
    struct err err = ERR_INIT;
    const char *path;

    *ret = NULL;
    if (fs_realpath(c->arena, "data/admin.key", &path, &err) < 0)
        return NULL;
    *ret = server_of_key(list, n, path);
    if (c->api_url == NULL ||
        (*ret != NULL ? is_server((*ret)->api, c->api_url) : is_this_machine(c->api_url)))
        return path;
    *ret = NULL;
    return NULL;
}

/* Where nobody is, a key would not help. */
static int no_key(struct cli *c, bool url_given)
{
    if (is_this_machine(c->api_url) && !answers(c->api_url))
        return cli_fail(CLI_UNREACHABLE, "no server answers at %s%s", c->api_url,
                        url_given
                            ? "; is it running?"
                            : " and none was found elsewhere on this machine; start one with make run, or "
                              "say where it is with --api-url");
    if (is_this_machine(c->api_url) && access("data/admin.key", R_OK) < 0 && errno == EACCES)
        return cli_fail(CLI_AUTH,
                        "no key is known for %s; that in data/admin.key cannot be read: run as the user who "
                        "started the server, or with sudo",
                        c->api_url);
    return cli_fail(CLI_AUTH,
                    "no key is known for %s; put it in MERE_API_KEY or name a file with --api-key-file",
                    c->api_url);
}

static int find_local(struct cli *c)
{
    struct err err = ERR_INIT;
    struct local_server list[16];
    const struct local_server *found = NULL;
    bool url_given = c->api_url != NULL;
    size_t n = find_states(c, list, N_ELEMENTS(list));
    const char *key_file = key_of_here(c, list, n, &found);
    int rc;

    if (key_file == NULL) {
        rc = choose(c, list, n, &found);
        if (rc != CLI_OK)
            return rc;
        key_file = found != NULL ? found->key_file : NULL;
    }
    if (c->api_url == NULL)
        c->api_url = found != NULL ? found->api : DEFAULT_URL;
    if (c->key != NULL || c->keyless)
        return CLI_OK;
    if (key_file == NULL)
        return no_key(c, url_given);
    if (read_key(c, key_file, &c->key, &err) < 0)
        return cli_fail(CLI_AUTH,
                        "the key in %s cannot be read; run as the user who started the server, or with sudo",
                        key_file);
    return CLI_OK;
}

/* A URL of a server without what may follow it; NULL when it is none. */
static const char *plain_url(struct cli *c, const char *url)
{
    size_t n = strlen(url);

    if (!text_starts_with(url, "http://") && !text_starts_with(url, "https://"))
        return NULL;
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (n > 7 && strncmp(url + n - 7, CLI_API, 7) == 0)
        n -= 7;
    return arena_strndup(c->arena, url, n);
}

static int choose_url(struct cli *c, struct cli_config *config)
{
    const char *url = c->opt[OPT_API_URL] != NULL ? c->opt[OPT_API_URL] : cli_env("MERE_API_URL");

    if (url == NULL)
        url = config->api_url;
    c->api_url = url != NULL ? plain_url(c, url) : NULL;
    if (url != NULL && c->api_url == NULL)
        return cli_fail(CLI_USAGE, "\"%s\" is not a URL of a server; it looks like %s", url, DEFAULT_URL);
    return CLI_OK;
}

/* The user's file may name a key for the server that it names, else for one of this machine; for no other. */
static bool is_key_for(struct cli *c, const struct cli_config *config)
{
    const char *url = config->api_url != NULL ? plain_url(c, config->api_url) : NULL;

    if (config->api_url == NULL)
        return c->api_url == NULL || is_this_machine(c->api_url);
    return url != NULL && is_server(url, c->api_url);
}

/* The first line of standard input, and not a byte more: the rest may be for the program that we become. */
static int read_stdin_key(struct cli *c, const char **ret)
{
    char line[KEY_MAX];
    size_t n = 0;

    while (n < sizeof(line) - 1 && read(STDIN_FILENO, &line[n], 1) == 1 && line[n] != '\n')
        n++;
    line[n] = '\0';
    line[strcspn(line, "\r")] = '\0';
    if (line[0] == '\0')
        return cli_fail(CLI_AUTH, "standard input has no key in its first line");
    *ret = arena_strdup(c->arena, line);
    return CLI_OK;
}

/* What was given: by the flag, the environment or the user's file. */
static int choose_key(struct cli *c, const struct cli_config *config)
{
    const char *file = c->opt[OPT_API_KEY_FILE];
    struct err err = ERR_INIT;

    if (file != NULL && strcmp(file, "-") == 0)
        return read_stdin_key(c, &c->key);
    c->key = file == NULL ? cli_env("MERE_API_KEY") : NULL;
    if (file == NULL && c->key == NULL && is_key_for(c, config))
        file = config->api_key_file;
    if (file != NULL && read_key(c, file, &c->key, &err) < 0)
        return cli_fail(CLI_AUTH, "no key can be read from %s", file);
    return CLI_OK;
}

int cli_find_server(struct cli *c)
{
    struct cli_config config;
    int rc = cli_read_config(c, &config);

    if (rc == CLI_OK)
        rc = choose_url(c, &config);
    if (rc == CLI_OK && !c->keyless)
        rc = choose_key(c, &config);
    if (rc != CLI_OK || ((c->key != NULL || c->keyless) && c->api_url != NULL))
        return rc;
    return find_local(c);
}

int cli_ca(struct cli *c)
{
    struct local_server list[16];
    json_auto_t *answer = NULL;
    size_t n = find_states(c, list, N_ELEMENTS(list)), i = 0;

    while (i < n && !is_server(list[i].api, c->api_url))
        i++;
    if (i == n)
        return cli_fail(CLI_NOT_FOUND,
                        "%s is no server of this machine; what verifies it is the file ca.crt of its data "
                        "directory, unless it was given a certificate",
                        c->api_url);
    if (list[i].ca_file == NULL)
        return cli_fail(
            CLI_NOT_FOUND,
            "the server at %s was given its certificate (tls-cert); what verifies it is the root of "
            "whoever issued that",
            c->api_url);
    if (c->opt[OPT_JSON] == NULL) {
        puts(list[i].ca_file);
        return CLI_OK;
    }
    answer = json_pack("{s:s}", "ca_file", list[i].ca_file);
    return cli_show_one(c, answer, NULL, NULL, 0);
}
