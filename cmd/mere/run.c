/*
 * run.c - a program on a branch of its own
 *
 * The branch is there for as long as the program runs, and for no longer than its time to live, whatever
 * becomes of us: a kill -9, a lost network, a server that was away when it should have been deleted.
 */
#include "body.h"
#include "child.h"
#include "connect.h"
#include "context.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#define TTL_DEFAULT "1h"

#define EXIT_NOT_EXECUTABLE 126 /* as a shell says it */
#define EXIT_NO_PROGRAM     127

/* --- the program --- */

/* Waits for it, and hands on what reaches us alone: the terminal's own signals reach all of its group. */
static int await(pid_t pid, const sigset_t *signals)
{
    siginfo_t info;
    int status;

    for (;;) {
        int signo = sigwaitinfo(signals, &info);

        if (signo < 0)
            continue;
        if (signo != SIGCHLD && info.si_code != SI_KERNEL)
            kill(pid, signo);
        if (signo == SIGCHLD && waitpid(pid, &status, WNOHANG) == pid)
            return child_status(status);
    }
}

static int cannot_run(const char *program, int why)
{
    if (why == ENOENT)
        return cli_fail((enum cli_exit)EXIT_NO_PROGRAM, "there is no program \"%s\"", program);
    return cli_fail((enum cli_exit)EXIT_NOT_EXECUTABLE, "\"%s\" cannot be run: %s", program, strerror(why));
}

/* Runs it unless somebody wants us to end already. */
static int run_child(struct cli *c, char **envp)
{
    static const int HANDED_ON[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD };
    static const struct child_fds OURS = { -1, -1, -1 };
    sigset_t signals, before;
    pid_t pid;
    int rc;

    sigemptyset(&signals);
    for (size_t i = 0; i < N_ELEMENTS(HANDED_ON); i++)
        sigaddset(&signals, HANDED_ON[i]);
    signal(SIGCHLD, SIG_DFL); /* inherited as ignored there would be no status to wait for */
    sigprocmask(SIG_BLOCK, &signals, &before);
    if (cli_signal() != 0) {
        rc = 128 + cli_signal();
    } else {
        fflush(stdout);
        rc = child_start(c->rest, envp, &OURS, &pid);
        rc = rc != 0 ? cannot_run(c->rest[0], rc) : await(pid, &signals);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* The branch in the words of every client, and of this one. */
static char **environment(struct cli *c, const char *uri, const struct cli_uri *at, const char *project,
                          const char *branch)
{
    const struct child_var VARS[] = {
        { "DATABASE_URL", uri },      { "PGHOST", at->host },         { "PGPORT", at->port },
        { "PGUSER", at->user },       { "PGPASSWORD", at->password }, { "PGDATABASE", at->database },
        { "PGSSLMODE", at->sslmode }, { "PGOPTIONS", at->options },   { "MERE_PROJECT", project },
        { "MERE_BRANCH", branch },    { "MERE_API_URL", c->api_url },
    };

    return child_env(c, false, VARS, N_ELEMENTS(VARS));
}

/* *ret_ran: it has got as far as the program. */
static int run_on(struct cli *c, const char *project, const char *branch, bool *ret_ran)
{
    json_auto_t *answer = NULL;
    struct cli_uri at;
    const char *uri;
    int rc = cli_connection(c, project, branch, &answer, &uri);

    if (rc == CLI_OK)
        rc = cli_uri_read(c, uri, &at);
    *ret_ran = rc == CLI_OK;
    return rc != CLI_OK ? rc : run_child(c, environment(c, uri, &at, project, branch));
}

/* --- the branch --- */

/* --from, else the pinned branch, as the options of `mere branches create`. */
static int choose_parent(struct cli *c, const char *project)
{
    const char *moment = NULL, *parent = cli_split_moment(c, c->opt[OPT_FROM], &moment);
    int rc = parent == NULL ? cli_pinned_branch(c, project, &parent) : CLI_OK;

    c->opt[OPT_PARENT] = parent;
    c->opt[OPT_AT] = moment;
    if (c->opt[OPT_TTL] == NULL && c->opt[OPT_EXPIRES_AT] == NULL)
        c->opt[OPT_TTL] = TTL_DEFAULT;
    return rc;
}

static int run_held(struct cli *c, const char *project, const char *path)
{
    json_auto_t *answer = NULL;
    const char *id;
    json_t *branch;
    bool ran = false;
    int rc = cli_branch_make(c, project, path, c->opt[OPT_NAME], &answer);

    branch = json_object_get(answer, "branch");
    if (branch == NULL)
        return rc;
    id = cli_text(c, branch, "id");
    if (rc == CLI_OK)
        rc = run_on(c, project, id, &ran);
    else if (cli_signal() != 0)
        rc = 128 + cli_signal();
    if (ran && rc != CLI_OK && c->opt[OPT_KEEP_ON_FAILURE] != NULL)
        cli_say(c, "branch %s is kept until %s: mere psql %s", cli_text(c, branch, "name"),
                cli_text(c, branch, "expires_at")[0] != '\0' ? cli_text(c, branch, "expires_at")
                                                             : "somebody deletes it",
                id);
    else
        cli_branch_discard(c, path, branch);
    return rc;
}

int cli_run(struct cli *c)
{
    const char *project, *path;
    int rc;

    if (c->rest[0] == NULL)
        return cli_fail(CLI_USAGE, "which program? mere run --from main -- PROGRAM");
    rc = cli_project_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = choose_parent(c, project);
    if (rc != CLI_OK)
        return rc;
    cli_hold_signals();
    rc = run_held(c, project, path);
    cli_release_signals();
    return rc;
}
