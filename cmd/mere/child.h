/*
 * child.h - programs that are run for the user, in the foreground
 */
#ifndef MERE_CLI_CHILD_H
#define MERE_CLI_CHILD_H

#include "cli.h"

struct child_var {
    const char *name;
    const char *value; /* NULL = not in the environment of the child */
};

/*
 * Our environment with other values for these.  where_to false: without what would send libpq elsewhere,
 * which takes what a connection string leaves open from the environment.
 */
char **child_env(struct cli *c, bool where_to, const struct child_var *vars, size_t n);

/* Descriptors of the child, -1 = ours. */
struct child_fds {
    int in, out, err;
};

/* Finds argv[0] in PATH.  0, or an errno. */
int child_start(char *const argv[], char *const envp[], const struct child_fds *fds, pid_t *ret);
/* Its exit status as a shell says it: 128 + signal when it was ended by one. */
int child_status(int wait_status);

#endif
