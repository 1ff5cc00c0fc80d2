/*
 * import.c - a running Postgres, dumped and loaded into a branch of its own
 *
 * pg_dump writes into a pipe, pg_restore reads from another, and what goes from one to the other is counted
 * here. Passwords are in the environment of the program that needs them, never among its words.
 */
#include "body.h"
#include "child.h"
#include "connect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"

#define PROGRAMS_DIR "/usr/lib/postgresql"
#define URL_MAX      8192
#define CHUNK        65536
#define SAID_MAX     16384
#define PROGRESS_MS  1000
#define MB           1048576.0

struct import {
    struct cli *c;
    const char *project, *project_path;
    struct cli_uri source;
    char **source_env;
    int64_t source_major, project_major;
    const char *programs; /* the directory of pg_dump and pg_restore; "" = found in PATH */
    uint64_t bytes;
};

/* A program, what it says on standard error, and how it ended. */
struct part {
    const char *name;
    pid_t pid;
    int err_fd;
    struct buf said;
    int status; /* of wait; -1 = it runs */
};

static void part_fini(struct part *p)
{
    fd_close(&p->err_fd);
    buf_fini(&p->said);
}

#define auto_part CLEANUP(part_fini) struct part

/* --- programs --- */

/* fds: its input and output, -1 = ours. */
static int start(struct part *p, const char *const *argv, char **envp, int in, int out)
{
    int fds[2], rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return cli_fail(CLI_FAILURE, "no pipe can be made: %s", strerror(errno));
    rc = child_start((char *const *)argv, envp, &(struct child_fds){ in, out, fds[1] }, &p->pid);
    close(fds[1]);
    p->err_fd = fds[0];
    p->status = -1;
    if (rc == 0)
        return CLI_OK;
    p->status = 0;
    return cli_fail(CLI_FAILURE, "%s cannot be run: %s%s", argv[0], strerror(rc),
                    rc == ENOENT ? "; on Debian: apt-get install postgresql-client" : "");
}

static void reap(struct part *p)
{
    while (p->status < 0 && waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
        continue;
}

/* Takes what it said; false at the end. */
static bool listen_to(struct part *p)
{
    char text[4096];
    ssize_t n = read(p->err_fd, text, sizeof(text));

    if (n > 0 && p->said.len < SAID_MAX)
        buf_add(&p->said, text, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

/* The line of it that says what went wrong. */
static int failed(struct cli *c, struct part *p, const char *what)
{
    const char *text = buf_str(&p->said), *error = strstr(text, "error: ");

    error = error != NULL ? error + strlen("error: ") : text;
    return cli_fail(CLI_FAILURE, "%s: %s", what,
                    error[0] != '\0' ? arena_strndup(c->arena, error, strcspn(error, "\n"))
                                     : arena_printf(c->arena, "%s ended with status %d", p->name,
                                                    child_status(p->status)));
}

/* Runs a program to its end; *ret is the first line that it writes. */
static int first_line(struct import *im, const char *const *argv, const char *what, const char **ret)
{
    auto_part p = { .name = argv[0], .err_fd = -1 };
    char line[256] = "";
    size_t n = 0;
    ssize_t got;
    int fds[2], rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return cli_fail(CLI_FAILURE, "no pipe can be made: %s", strerror(errno));
    rc = start(&p, argv, im->source_env, -1, fds[1]);
    close(fds[1]);
    if (rc == CLI_OK) {
        while (n < sizeof(line) - 1 && (got = read(fds[0], &line[n], sizeof(line) - 1 - n)) > 0)
            n += (size_t)got;
        while (listen_to(&p))
            continue;
        reap(&p);
    }
    close(fds[0]);
    if (rc == CLI_OK && p.status != 0)
        rc = failed(im->c, &p, what);
    *ret = arena_strndup(im->c->arena, line, strcspn(line, "\n"));
    return rc;
}

/* --- from where to where --- */

/* The word, or with "-" the first line of standard input, which nobody else can see. */
static int read_source(struct import *im)
{
    struct cli *c = im->c;
    const char *url = c->args[0];
    char line[URL_MAX] = "";
    struct child_var more[2];
    int rc;

    if (strcmp(url, "-") == 0) {
        if (fgets(line, sizeof(line), stdin) == NULL)
            return cli_fail(CLI_USAGE, "standard input has no connection string in its first line");
        line[strcspn(line, "\r\n")] = '\0';
        url = arena_strdup(c->arena, line);
    }
    rc = cli_uri_read(c, url, &im->source);
    if (rc != CLI_OK)
        return rc;
    if (strstr(im->source.bare, "password=") != NULL)
        return cli_fail(CLI_USAGE,
                        "a password goes before the @ of the connection string, or into PGPASSWORD");
    more[0] = (struct child_var){ "PGCONNECT_TIMEOUT", "10" };
    more[1] = (struct child_var){ "PGPASSWORD", im->source.password };
    im->source_env = child_env(c, true, more, im->source.password != NULL ? 2 : 1);
    return CLI_OK;
}

static int read_versions(struct import *im)
{
    const char *const ASK[] = {
        "psql", "-X", "-A", "-t", "-q", "-w", "-d", im->source.bare, "-c", "show server_version_num", NULL
    };
    struct cli *c = im->c;
    json_auto_t *answer = NULL;
    const char *text;
    int64_t number;
    int rc = cli_call(c, "GET", im->project_path, NULL, &answer);

    if (rc == CLI_OK)
        rc = first_line(im, ASK, "the source cannot be read", &text);
    if (rc != CLI_OK)
        return rc;
    if (!text_to_i64(text, 80000, 9999999, &number))
        return cli_fail(CLI_FAILURE, "the source says nothing that is a version of Postgres: \"%s\"", text);
    im->source_major = number / 10000;
    im->project_major = json_integer_value(json_object_get(json_object_get(answer, "project"), "pg_version"));
    if (im->source_major > im->project_major)
        return cli_fail(
            CLI_CONFLICT,
            "the source is Postgres %d and the project %d, which is too old for it; make one with mere "
            "projects create --pg-version %d",
            (int)im->source_major, (int)im->project_major, (int)im->source_major);
    return CLI_OK;
}

/* Major version of "pg_dump (PostgreSQL) 15.5 (Debian ...)"; 0 when it is not that. */
static int64_t major_of(struct cli *c, const char *line)
{
    const char *p = strchr(line, ')');
    int64_t major = 0;

    if (p == NULL)
        return 0;
    p += strspn(p, ") ");
    (void)text_to_i64(arena_strndup(c->arena, p, strspn(p, "0123456789")), 1, 999, &major);
    return major;
}

/* They read a source that is not newer than they are, and write what a project that is not older can take. */
static int choose_programs(struct import *im)
{
    static const char *const ASK[] = { "pg_dump", "--version", NULL };
    struct cli *c = im->c;
    const char *line = "";
    int64_t major = 0;

    for (major = im->project_major; major >= im->source_major; major--) {
        im->programs = arena_printf(c->arena, "%s/%d/bin/", PROGRAMS_DIR, (int)major);
        if (access(arena_printf(c->arena, "%spg_dump", im->programs), X_OK) == 0)
            break;
    }
    if (major < im->source_major)
        im->programs = "";
    if (first_line(im, ASK, "pg_dump does not work", &line) != CLI_OK)
        return CLI_FAILURE;
    major = major_of(c, line);
    if (major >= im->source_major && major <= im->project_major)
        im->programs = "";
    else if (im->programs[0] == '\0')
        return cli_fail(CLI_FAILURE,
                        "the source is Postgres %d, and pg_dump here is %d; on Debian: apt-get install "
                        "postgresql-client-%d",
                        (int)im->source_major, (int)major, (int)im->source_major);
    return CLI_OK;
}

/* The database to load into, made when the branch has not inherited one of that name. */
static int choose_database(struct import *im, const char *branch)
{
    struct cli *c = im->c;
    json_auto_t *answer = NULL;
    json_auto_t *body = NULL;
    const char *path = arena_printf(c->arena, "%s/branches/%s", im->project_path, cli_enc(c, branch));
    const char *owner = c->opt[OPT_ROLE], *name = c->opt[OPT_DATABASE];
    int status, rc;

    if (name == NULL)
        name = im->source.database;
    if (name == NULL)
        return cli_fail(CLI_USAGE, "the connection string names no database; say --database NAME");
    c->opt[OPT_DATABASE] = name;
    rc = owner == NULL ? cli_only_one(c, path, branch, "roles", OPT_ROLE, &owner) : CLI_OK;
    c->opt[OPT_ROLE] = owner;
    if (rc == CLI_OK)
        rc = cli_ask(c, "GET", arena_printf(c->arena, "%s/databases/%s", path, cli_enc(c, name)), NULL,
                     &status, &answer);
    if (rc != CLI_OK || status == 200)
        return rc;
    json_decref(TAKE(answer));
    body = json_pack("{s:{s:s, s:s}}", "database", "name", name, "owner_name", owner);
    rc = cli_call(c, "POST", arena_printf(c->arena, "%s/databases", path), body, &answer);
    return rc != CLI_OK ? rc : cli_wait(c, im->project, answer);
}

/* --- the stream --- */

struct stream {
    struct import *im;
    struct part *dump, *restore;
    int from, to; /* -1 = ended */
    char chunk[CHUNK];
    size_t at, len;
    int64_t since_ms, told_ms;
};

static void show_progress(struct stream *s)
{
    int64_t now = clock_mono_ms();

    if (now - s->told_ms < PROGRESS_MS)
        return;
    s->told_ms = now;
    cli_progress(s->im->c, "loading, %.1f MB, %lld s", (double)s->im->bytes / MB,
                 (long long)((now - s->since_ms) / 1000));
}

static void read_chunk(struct stream *s)
{
    ssize_t n = read(s->from, s->chunk, sizeof(s->chunk));

    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        fd_close(&s->from);
        fd_close(&s->to);
        return;
    }
    s->at = 0;
    s->len = (size_t)n;
}

/* pg_restore that has closed its input has given up; then nobody needs pg_dump any more. */
static void write_chunk(struct stream *s)
{
    ssize_t n = write(s->to, s->chunk + s->at, s->len - s->at);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0) {
        fd_close(&s->from);
        fd_close(&s->to);
        return;
    }
    s->at += (size_t)n;
    s->im->bytes += (uint64_t)n;
    if (s->at == s->len)
        s->at = s->len = 0;
}

/* Until both have said all they have to say; a signal ends both. */
static void pump(struct stream *s)
{
    while (s->dump->err_fd >= 0 || s->restore->err_fd >= 0) {
        bool full = s->len > 0;
        struct pollfd p[] = {
            { .fd = full ? -1 : s->from, .events = POLLIN },
            { .fd = full ? s->to : -1, .events = POLLOUT },
            { .fd = s->dump->err_fd, .events = POLLIN },
            { .fd = s->restore->err_fd, .events = POLLIN },
        };
        int n = poll(p, N_ELEMENTS(p), PROGRESS_MS);

        if (cli_signal() != 0) {
            kill(s->dump->pid, SIGTERM);
            kill(s->restore->pid, SIGTERM);
            return;
        }
        show_progress(s);
        if (n <= 0)
            continue;
        if (p[0].revents != 0)
            read_chunk(s);
        if (p[1].revents != 0)
            write_chunk(s);
        if (p[2].revents != 0 && !listen_to(s->dump))
            fd_close(&s->dump->err_fd);
        if (p[3].revents != 0 && !listen_to(s->restore))
            fd_close(&s->restore->err_fd);
    }
}

static const char *program(struct import *im, const char *name)
{
    return arena_printf(im->c->arena, "%s%s", im->programs, name);
}

/* Both programs with a pipe each; the ends that are theirs are closed here. */
static int start_both(struct stream *s, const struct cli_uri *target)
{
    struct import *im = s->im;
    const char *const DUMP[] = { program(im, "pg_dump"),
                                 "-Fc",
                                 "-Z0",
                                 "-w",
                                 "--no-owner",
                                 "--no-privileges",
                                 "--no-publications",
                                 "--no-subscriptions",
                                 "-d",
                                 im->source.bare,
                                 NULL };
    const char *const RESTORE[] = { program(im, "pg_restore"), "-w", "--no-owner", "--no-privileges",
                                    "--exit-on-error",         "-d", target->bare, NULL };
    char **envp = child_env(im->c, false, &(struct child_var){ "PGPASSWORD", target->password }, 1);
    int in[2], out[2], rc;

    if (pipe2(in, O_CLOEXEC) < 0)
        return cli_fail(CLI_FAILURE, "no pipe can be made: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(in[0]);
        close(in[1]);
        return cli_fail(CLI_FAILURE, "no pipe can be made: %s", strerror(errno));
    }
    rc = start(s->dump, DUMP, im->source_env, -1, in[1]);
    if (rc == CLI_OK)
        rc = start(s->restore, RESTORE, envp, out[0], -1);
    if (rc != CLI_OK && s->dump->status < 0)
        kill(s->dump->pid, SIGTERM);
    close(in[1]);
    close(out[0]);
    s->from = in[0];
    s->to = out[1];
    return rc;
}

static int load(struct import *im, const struct cli_uri *target)
{
    auto_part dump = { .name = "pg_dump", .err_fd = -1 };
    auto_part restore = { .name = "pg_restore", .err_fd = -1 };
    auto_free struct stream *s = xcalloc(1, sizeof(*s));
    bool gave_up;
    int rc;

    *s = (struct stream){ .im = im,
                          .dump = &dump,
                          .restore = &restore,
                          .from = -1,
                          .to = -1,
                          .since_ms = clock_mono_ms(),
                          .told_ms = clock_mono_ms() };
    signal(SIGPIPE, SIG_IGN); /* a pg_restore that gives up is an error, not our end */
    rc = start_both(s, target);
    if (rc == CLI_OK)
        pump(s);
    gave_up = s->len > 0;
    fd_close(&s->from);
    fd_close(&s->to);
    reap(&dump);
    reap(&restore);
    cli_progress_end();
    if (rc != CLI_OK)
        return rc;
    if (cli_signal() != 0)
        return cli_fail((enum cli_exit)(128 + cli_signal()), "stopped");
    if (dump.status != 0 && !gave_up)
        return failed(im->c, &dump, "the source cannot be dumped");
    return restore.status != 0 ? failed(im->c, &restore, "the dump cannot be loaded") : CLI_OK;
}

/* --- the branch --- */

static int fill(struct import *im, json_t *branch, const char **ret_uri)
{
    json_auto_t *answer = NULL;
    const char *id = cli_text(im->c, branch, "id");
    struct cli_uri target;
    int rc = choose_database(im, id);

    if (rc == CLI_OK)
        rc = cli_connection(im->c, im->project, id, &answer, ret_uri);
    if (rc == CLI_OK)
        rc = cli_uri_read(im->c, *ret_uri, &target);
    return rc != CLI_OK ? rc : load(im, &target);
}

static int show(struct import *im, json_t *branch, const char *uri)
{
    static const struct cli_column MADE[] = {
        { "PROJECT", "project" },   { "NAME", "branch.name" }, { "BRANCH", "branch.id" },
        { "DATABASE", "database" }, { "BYTES", "bytes" },      { "CONNECT", "uri" },
    };
    json_auto_t *made =
        json_pack("{s:s, s:O, s:s, s:I, s:s}", "project", im->project, "branch", branch, "database",
                  im->c->opt[OPT_DATABASE], "bytes", (json_int_t)im->bytes, "uri", uri);

    return cli_show_one(im->c, made, NULL, COLUMNS(MADE));
}

static int import_held(struct import *im)
{
    json_auto_t *answer = NULL;
    const char *uri;
    json_t *branch;
    int rc = cli_branch_make(im->c, im->project, im->project_path, im->c->opt[OPT_BRANCH], &answer);

    branch = json_object_get(answer, "branch");
    if (rc == CLI_OK)
        rc = fill(im, branch, &uri);
    if (rc == CLI_OK)
        return show(im, branch, uri);
    if (branch != NULL)
        cli_branch_discard(im->c, im->project_path, branch);
    return rc;
}

int cli_import(struct cli *c)
{
    struct import im = { .c = c };
    int rc = read_source(&im);

    if (rc == CLI_OK)
        rc = cli_project_path(c, &im.project, &im.project_path);
    if (rc == CLI_OK)
        rc = read_versions(&im);
    if (rc == CLI_OK)
        rc = choose_programs(&im);
    if (rc != CLI_OK)
        return rc;
    cli_hold_signals();
    rc = import_held(&im);
    cli_release_signals();
    return rc;
}
