/*
 * connect.h - connection strings: where they come from, and what is in them
 */
#ifndef MERE_CLI_CONNECT_H
#define MERE_CLI_CONNECT_H

#include "cli.h"

/* The parts of a connection string, decoded; NULL where there is none. */
struct cli_uri {
    const char *user, *password, *host, *port, *database;
    const char *options, *sslmode;
    const char *bare; /* the string without its password */
};

int cli_uri_read(struct cli *c, const char *uri, struct cli_uri *ret);

/* BRANCH@LSN and BRANCH@TIME: *ret_moment is the moment, NULL for a plain name, which may have an @, too. */
const char *cli_split_moment(struct cli *c, const char *named, const char **ret_moment);
/* What the server answers for a branch (NULL: it chooses), --database and --role. */
int cli_connection(struct cli *c, const char *project, const char *branch, json_t **ret_answer,
                   const char **ret);
/* That of the branch named by word, option or pin, now or as it was. */
int cli_named_connection(struct cli *c, json_t **ret_answer, const char **ret);

#endif
