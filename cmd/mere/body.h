/*
 * body.h - what several commands put into a request, and show of an answer
 */
#ifndef MERE_CLI_BODY_H
#define MERE_CLI_BODY_H

#include "cli.h"

#define COLUMNS(table) table, N_ELEMENTS(table)

/* Adds a member unless it has no value. */
void cli_put(json_t *obj, const char *key, const char *value);
/* The same as a number in a range; option: what to call it when it is none. */
int cli_put_number(json_t *obj, const char *key, const char *option, const char *value, int64_t min,
                   int64_t max);
int cli_put_suspend_timeout(struct cli *c, json_t *obj);
/* What only an endpoint has. */
int cli_put_endpoint_options(struct cli *c, json_t *obj);
/* --ttl and --expires-at, where given. */
int cli_put_expiry(struct cli *c, json_t *obj);
/* A new object inside obj. */
json_t *cli_nested(json_t *obj, const char *key);

/* Seconds of "90s", "30m", "12h", "7d" or "90". */
bool cli_duration(struct cli *c, const char *text, int64_t *ret);
/* The word after the verb, or its option; both is one too many. */
int cli_word_or_option(struct cli *c, enum cli_option o, const char **ret);
/* /projects/<p> of the project in question. */
int cli_project_path(struct cli *c, const char **ret_project, const char **ret_path);
/* A branch is a name or an id to us; the API wants an id in a body. */
int cli_branch_id(struct cli *c, const char *project_path, const char *ref, const char **ret);

/* branches.c: makes a branch of the options of `mere branches create`, and waits; path is that of the
 * project. */
int cli_branch_make(struct cli *c, const char *project, const char *path, const char *name, json_t **ret);

/* Deletes a branch of ours for good: nobody wants it back.  Says so when it could not. */
void cli_branch_discard(struct cli *c, const char *project_path, json_t *branch);

/* What a path answers now; for after the waiting. */
int cli_show_now(struct cli *c, const char *path, const char *key, const struct cli_column *cols, size_t n);
/* A record of what was made, with the connection string: this is the moment at which a user wants it. */
int cli_show_made(struct cli *c, json_t *answer, const char *noun);

#endif
