/*
 * doctor.c - whether all that is kept can be reached, and what takes the space
 */
#include "cli.h"

#define MB 1048576.0

static const struct cli_column FINDING[] = {
    { "OF", "of" },
    { "NAME", "name" },
    { "BRANCH", "branch_id" },
    { "WHAT", "what" },
};

static double megabytes(json_t *branch, const char *key)
{
    return (double)json_integer_value(json_object_get(branch, key)) / MB;
}

static void show_space(struct cli *c, json_t *answer)
{
    json_t *space = json_object_get(answer, "space"), *branch;
    size_t i;

    printf("%-24s %12s %12s %12s %7s\n", "BRANCH", "LOGICAL MB", "OWN MB", "HISTORY MB", "IMAGES");
    json_array_foreach(json_object_get(answer, "branches"), i, branch)
    {
        printf("%-24s", cli_text(c, branch, "name"));
        if (json_object_get(branch, "images") == NULL)
            puts(" not started, or not measured yet");
        else
            printf(" %12.1f %12.1f %12.1f %7lld\n", megabytes(branch, "logical_bytes"),
                   megabytes(branch, "own_bytes"), megabytes(branch, "history_bytes"),
                   (long long)json_integer_value(json_object_get(branch, "images")));
    }
    printf("free: %.0f of %.0f MB for data, %.0f of %.0f MB for WAL\n",
           megabytes(space, "volumes_free_bytes"), megabytes(space, "volumes_total_bytes"),
           megabytes(space, "data_free_bytes"), megabytes(space, "data_total_bytes"));
}

static void show_pooler(struct cli *c, json_t *answer)
{
    json_t *pooler = json_object_get(answer, "pooler");

    if (!json_is_true(json_object_get(pooler, "installed")))
        puts("pooled connections: not available; they need the package pgbouncer on the server");
    else
        printf("pooled connections: PgBouncer %s%s\n", cli_text(c, pooler, "version"),
               json_is_true(json_object_get(pooler, "prepared_statements"))
                   ? ""
                   : ", which knows no prepared statements (1.21 does)");
}

int cli_doctor(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project;
    int rc = cli_project(c, c->n_args > 0 ? c->args[0] : NULL, &project);

    if (rc == CLI_OK)
        rc = cli_call(c, "GET", arena_printf(c->arena, "/projects/%s/doctor", cli_enc(c, project)), NULL,
                      &answer);
    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_JSON] != NULL)
        rc = cli_show_one(c, answer, NULL, NULL, 0);
    else {
        show_space(c, answer);
        show_pooler(c, answer);
    }
    size_t n = json_array_size(json_object_get(answer, "findings"));
    if (n == 0)
        return rc;
    if (c->opt[OPT_JSON] == NULL)
        (void)!cli_show_list(c, answer, "findings", FINDING, N_ELEMENTS(FINDING));
    return cli_fail(CLI_FAILURE, "%zu thing%s that should be there cannot be reached", n, n == 1 ? "" : "s");
}
