/*
 * context.h - what is meant where nothing was said
 *
 * Flags come first, then the environment, then .mere (of the working directory or one above it), then the
 * user's own file, then defaults.
 */
#ifndef MERE_CLI_CONTEXT_H
#define MERE_CLI_CONTEXT_H

#include "cli.h"

/* .mere: which project and branch this directory is about. */
struct cli_here {
    const char *path; /* NULL = there is none */
    const char *project, *branch;
};

/* $XDG_CONFIG_HOME/mere/config; a member is NULL when it is not said there. */
struct cli_config {
    const char *api_url, *api_key_file, *project;
};

const char *cli_env(const char *name); /* NULL when absent or empty */
int cli_read_here(struct cli *c, struct cli_here *ret);
int cli_read_config(struct cli *c, struct cli_config *ret);
/* What names the project, as it was said: NULL when nothing does. */
int cli_said_project(struct cli *c, const char **ret);
/* The branch that MERE_BRANCH or .mere names, NULL when none does.  A .mere speaks of its own project only.
 */
int cli_pinned_branch(struct cli *c, const char *project, const char **ret);

#endif
