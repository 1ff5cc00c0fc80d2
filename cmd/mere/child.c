/*
 * child.c - programs that are run for the user, in the foreground
 *
 * They are in our process group, so that the terminal's signals reach them as they reach us.
 */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

/* Of libpq's variables those that say where to, as whom, and how. */
static const char *const WHERE_TO[] = {
    "DATABASE_URL",
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGREQUIREPEER",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
};

static bool is_named(const char *entry, const char *name)
{
    size_t n = strlen(name);

    return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

static bool is_left_out(const char *entry, bool where_to, const struct child_var *vars, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_named(entry, vars[i].name))
            return true;
    for (size_t i = 0; !where_to && i < N_ELEMENTS(WHERE_TO); i++)
        if (is_named(entry, WHERE_TO[i]))
            return true;
    return false;
}

char **child_env(struct cli *c, bool where_to, const struct child_var *vars, size_t n)
{
    size_t n_ours = 0, n_env = 0;
    char **env;

    while (environ[n_ours] != NULL)
        n_ours++;
    env = arena_alloc(c->arena, (n_ours + n + 1) * sizeof(*env));
    for (size_t i = 0; i < n_ours; i++)
        if (!is_left_out(environ[i], where_to, vars, n))
            env[n_env++] = environ[i];
    for (size_t i = 0; i < n; i++)
        if (vars[i].value != NULL)
            env[n_env++] = arena_printf(c->arena, "%s=%s", vars[i].name, vars[i].value);
    return env;
}

static int add_fds(posix_spawn_file_actions_t *actions, const struct child_fds *fds)
{
    const int all[] = { fds->in, fds->out, fds->err };
    int rc = 0;

    for (int i = 0; i < (int)N_ELEMENTS(all) && rc == 0; i++)
        if (all[i] >= 0)
            rc = posix_spawn_file_actions_adddup2(actions, all[i], i);
    return rc;
}

int child_start(char *const argv[], char *const envp[], const struct child_fds *fds, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, pipe;
    int rc = posix_spawn_file_actions_init(&actions);

    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        sigemptyset(&none);
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE); /* where we ignore it, others should not */
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setsigdefault(&attr, &pipe);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        rc = add_fds(&actions, fds);
        if (rc == 0)
            rc = posix_spawnp(ret, argv[0], &actions, &attr, argv, envp);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

int child_status(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
