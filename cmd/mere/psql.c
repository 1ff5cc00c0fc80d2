/*
 * psql.c - psql on a branch
 *
 * The password goes to psql in its environment, never on its command line, where every user of the machine
 * could read it.
 */
#include "child.h"
#include "connect.h"

#include <errno.h>

int cli_psql(struct cli *c)
{
    json_auto_t *answer = NULL;
    struct cli_uri parts;
    const char *uri;
    size_t n = 0;
    char **argv;
    int rc = cli_named_connection(c, &answer, &uri);

    if (rc == CLI_OK)
        rc = cli_uri_read(c, uri, &parts);
    if (rc != CLI_OK)
        return rc;
    while (c->rest[n] != NULL)
        n++;
    argv = arena_alloc(c->arena, (n + 4) * sizeof(*argv));
    argv[0] = arena_strdup(c->arena, "psql");
    argv[1] = arena_strdup(c->arena, "-d");
    argv[2] = arena_strdup(c->arena, parts.bare);
    memcpy(&argv[3], c->rest, n * sizeof(*argv));
    fflush(stdout);
    execvpe("psql", argv, child_env(c, false, &(struct child_var){ "PGPASSWORD", parts.password }, 1));
    if (errno == ENOENT)
        return cli_fail(CLI_FAILURE, "psql is not installed; on Debian: apt-get install postgresql-client");
    return cli_fail(CLI_FAILURE, "psql cannot be run: %s", strerror(errno));
}
