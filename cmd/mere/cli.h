/*
 * cli.h - what the files of the mere command share
 *
 * mere is a client of the REST API like any other: each subcommand is one line of COMMANDS (table.c) and a
 * function that makes a call or two and shows the answer.  Functions of that kind return an exit code and
 * have said on standard error what went wrong.  One thread; everything lives in one arena until exit.
 */
#ifndef MERE_CLI_H
#define MERE_CLI_H

#include "base/arena.h"
#include "base/err.h"

#include <jansson.h>

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILURE = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_CONFLICT = 4, /* or a value that is not possible, or a precondition that does not hold */
    CLI_AUTH = 5,
    CLI_TIMED_OUT = 6,
    CLI_UNREACHABLE = 7,
};

/* Options: name, placeholder of the value (NULL = a switch), what it does. */
#define CLI_OPTIONS(X)                                                                                       \
    X(HELP, "help", NULL, "show help")                                                                       \
    X(VERSION, "version", NULL, "show the version")                                                          \
    X(JSON, "json", NULL, "print the answer of the API as it is")                                            \
    X(OUTPUT, "output", "json|table", "-o json is --json")                                                   \
    X(PROJECT, "project", "ID", "the project, by id or name (MERE_PROJECT; not needed when there is one)")   \
    X(API_URL, "api-url", "URL", "where the server is (MERE_API_URL; default http://127.0.0.1:7432)")        \
    X(API_KEY_FILE, "api-key-file", "FILE", "a file with the key, or - (or the key itself in MERE_API_KEY)") \
    X(QUIET, "quiet", NULL, "say nothing but answers and errors")                                            \
    X(NO_COLOR, "no-color", NULL, "no colours (NO_COLOR)")                                                   \
    X(NO_INPUT, "no-input", NULL, "never ask")                                                               \
    X(YES, "yes", NULL, "do not ask before it is done")                                                      \
    X(WAIT, "wait", NULL, "wait for the work to be done, which is what it does anyway")                      \
    X(TIMEOUT, "timeout", "SECONDS", "how long to wait for the work to be done (default 60)")                \
    X(NO_WAIT, "no-wait", NULL, "do not wait for the work to be done")                                       \
    X(NAME, "name", "NAME", "its name")                                                                      \
    X(PG_VERSION, "pg-version", "N", "major version of Postgres (default: the newest installed)")            \
    X(DATABASE, "database", "NAME", "the database")                                                          \
    X(ROLE, "role", "NAME", "the role")                                                                      \
    X(BRANCH, "branch", "NAME", "the branch, by name or id")                                                 \
    X(PARENT, "parent", "BRANCH", "branch from this one (default: the default branch)")                      \
    X(NO_ENDPOINT, "no-endpoint", NULL, "a branch without an endpoint")                                      \
    X(AT, "at", "LSN|TIME", "branch from this past moment: 0/16B3748 or 2025-01-16T21:02:01Z")               \
    X(PRESERVE, "preserve-under-name", "NAME", "keep its present state as a branch of this name")            \
    X(DURABILITY, "durability", "full|relaxed", "relaxed: fsync off, for data nobody needs after a crash")   \
    X(SUSPEND_TIMEOUT, "suspend-timeout", "SECONDS", "suspend after this long without activity (-1: never)") \
    X(PARK_SESSIONS, "park-sessions", NULL, "idle sessions outlive a suspend, where they can be restored")   \
    X(TTL, "ttl", "DURATION", "it deletes itself after this long: 90s, 30m, 12h, 7d; or never")              \
    X(EXPIRES_AT, "expires-at", "TIME", "it deletes itself at this time: 2030-01-16T21:02:01Z; or never")    \
    X(FINALIZE, "finalize", NULL, "put it in the place of the branch that the snapshot is of")               \
    X(HOLD, "hold", NULL, "keep the place for as long as the bookmark is there")                             \
    X(HARD, "hard", NULL, "for good: it cannot be recovered")                                                \
    X(DELETED, "deleted", NULL, "also those that were deleted and can be recovered")                         \
    X(TYPE, "type", "read_write|read_only", "what it can do (default read_write)")                           \
    X(NO_LOGIN, "no-login", NULL, "a role that cannot log in and has no password")                           \
    X(FROM, "from", "BRANCH[@LSN|@TIME]", "branch from this one (default: the pinned or default branch)")    \
    X(KEEP_ON_FAILURE, "keep-on-failure", NULL, "let it live out its time when the program failed")          \
    X(CREATE, "create", NULL, "make it when it is not there")                                                \
    X(RETENTION, "retention", "DURATION", "how much of the past can be reached: 12h, 7d; 0: nothing")        \
    X(ALLOWED_IPS, "allowed-ips", "LIST", "from where its endpoints take connections, with commas; or all")  \
    X(DISABLE, "disable", NULL, "suspend it, and do not wake it again")                                      \
    X(ENABLE, "enable", NULL, "let it be woken again")                                                       \
    X(NO_PARK_SESSIONS, "no-park-sessions", NULL, "idle sessions end with a suspend")                        \
    X(EVERY, "every", "FREQUENCY", "hourly, daily, weekly, monthly, yearly; or never")                       \
    X(HOUR, "hour", "N", "of the day, UTC (default 0)")                                                      \
    X(DAY, "day", "N", "of the week (1 is Monday) or of the month (default 1)")                              \
    X(MONTH, "month", "N", "of the year (default 1)")                                                        \
    X(KEEP, "keep", "DURATION", "they delete themselves after this long: 12h, 7d (default: never)")          \
    X(ADD, "add", NULL, "beside what is scheduled already")                                                  \
    X(TO, "to", "VERSION", "the version (default: the newest)")                                              \
    X(SCHEMA, "schema", "NAME", "the schema (default: extensions)")                                          \
    X(SEARCH, "search", "TEXT", "only those whose name contains TEXT")                                       \
    X(LIMIT, "limit", "N", "at most N of them")

enum cli_option {
#define X(id, name, arg, help) OPT_##id,
    CLI_OPTIONS(X)
#undef X
        OPT_COUNT
};

struct cli {
    struct arena *arena;
    const char *opt[OPT_COUNT]; /* NULL = not given; "" for a switch that was */
    const char **args;          /* words after noun and verb */
    size_t n_args;
    const char *unknown; /* the first option that nobody knows, as it was written, or NULL */
    char **rest;         /* after --, NULL-terminated */
    const char *api_url;
    const char *key;
    bool keyless; /* the command needs no key */
    int timeout_s;
};

/* A column of a table: a title and a dotted path into the object. */
struct cli_column {
    const char *title;
    const char *path;
};

/* say.c: all of it on standard error. */
int cli_fail(enum cli_exit code, const char *fmt, ...) PRINTF_LIKE(2, 3); /* "mere: ..."; returns code */
void cli_say(struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);      /* not with --quiet */
/* One line that is written over and over, on a terminal only. */
void cli_progress(struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
void cli_progress_end(void);
/* Asks before something is done for good, where somebody sits who can answer. */
int cli_confirm(struct cli *c, const char *what, const char *help);
void cli_choose_colour(struct cli *c); /* once the options are known */

/* signals.c: between the two, SIGINT, SIGTERM and SIGHUP are noted and end nothing; but a second one does.
 * They nest. */
void cli_hold_signals(void);
void cli_release_signals(void);
int cli_signal(void); /* the first that came, 0 = none */

/* server.c: fills api_url and key from flags, environment, or a server of this machine. */
int cli_find_server(struct cli *c);

#define CLI_API "/api/v2"

/* What is done about once a second while an answer is awaited; true gives it up. */
struct cli_patience {
    bool (*tick)(void *arg);
    void *arg;
};

/*
 * call.c: one call of a path that begins at the root; body is borrowed, may be NULL.  0 for any answer: its
 * status and JSON (NULL when it is none).
 */
int cli_exchange(struct cli *c, const char *method, const char *path, json_t *body,
                 const struct cli_patience *patience, int *ret_status, json_t **ret,
                 struct err *err) MUST_CHECK;
/* Says why there was none. */
int cli_no_answer(struct cli *c, const struct err *err);
/* The same below /api/v2; has said why when there was no answer. */
int cli_ask(struct cli *c, const char *method, const char *path, json_t *body, int *ret_status, json_t **ret);
/* Says what the server said against it. */
int cli_refused(struct cli *c, int status, json_t *answer);
/* path begins with '/' below /api/v2; body is borrowed, may be NULL.  *ret is the caller's. */
int cli_call(struct cli *c, const char *method, const char *path, json_t *body, json_t **ret);
/* Follows pages until the end (or --limit); *ret is the first answer with all of array `key` in it. */
int cli_call_list(struct cli *c, const char *path, const char *key, const char *cursor_key, json_t **ret);
/* The answer of a DELETE: JSON when asked for, else a word on standard error, where messages go. */
int cli_show_deleted(struct cli *c, json_t *answer, const char *noun, const char *name);
int cli_project(struct cli *c, const char *ref,
                const char **ret);                 /* ref NULL: what was said of it, else the only one */
const char *cli_enc(struct cli *c, const char *s); /* percent-encoded, in the arena */

/* wait.c: waits for every operation of an answer, unless --no-wait; what the answer says is then as it is
 * after that. */
int cli_wait(struct cli *c, const char *project, json_t *answer);
/* After DELETE of a project, whose answer names no operations (Neon's shape): waits for those that are open.
 */
int cli_wait_gone(struct cli *c, const char *project);

/* catalogue.c: the branch ref, else the pinned one, else the default one, as a path; and what to call it. */
int cli_branch_path(struct cli *c, const char *project, const char *ref, const char **ret_path,
                    const char **ret_name);
/* The one database ("databases") or role ("roles") of a branch; or, of several, their names and the option to
 * choose with. */
int cli_only_one(struct cli *c, const char *branch_path, const char *branch, const char *noun,
                 enum cli_option option, const char **ret);

/* table.c */
const char *cli_option_name(enum cli_option o); /* "database" */

/* show.c */
int cli_show_list(struct cli *c, json_t *answer, const char *key, const struct cli_column *cols, size_t n);
int cli_show_one(struct cli *c, json_t *answer, const char *key, const struct cli_column *cols, size_t n);
const char *cli_text(struct cli *c, json_t *obj, const char *path); /* "" when absent */

/* The commands. */
int cli_projects_list(struct cli *c);
int cli_projects_create(struct cli *c);
int cli_projects_get(struct cli *c);
int cli_projects_delete(struct cli *c);
int cli_projects_recover(struct cli *c);
int cli_branches_list(struct cli *c);
int cli_branches_create(struct cli *c);
int cli_branches_get(struct cli *c);
int cli_branches_delete(struct cli *c);
int cli_branches_restore(struct cli *c);
int cli_branches_reset(struct cli *c);
int cli_branches_update(struct cli *c);
int cli_branches_recover(struct cli *c);
int cli_snapshots_list(struct cli *c);
int cli_snapshots_create(struct cli *c);
int cli_snapshots_restore(struct cli *c);
int cli_snapshots_delete(struct cli *c);
int cli_bookmarks_list(struct cli *c);
int cli_bookmarks_get(struct cli *c);
int cli_bookmarks_set(struct cli *c);
int cli_bookmarks_delete(struct cli *c);
int cli_endpoints_list(struct cli *c);
int cli_endpoints_create(struct cli *c);
int cli_endpoints_get(struct cli *c);
int cli_endpoints_delete(struct cli *c);
int cli_endpoints_start(struct cli *c);
int cli_endpoints_suspend(struct cli *c);
int cli_endpoints_restart(struct cli *c);
int cli_databases_list(struct cli *c);
int cli_databases_create(struct cli *c);
int cli_databases_get(struct cli *c);
int cli_databases_delete(struct cli *c);
int cli_schema(struct cli *c);
int cli_schema_diff(struct cli *c);
int cli_roles_list(struct cli *c);
int cli_roles_create(struct cli *c);
int cli_roles_get(struct cli *c);
int cli_roles_delete(struct cli *c);
int cli_roles_reset_password(struct cli *c);
int cli_roles_password(struct cli *c);
int cli_operations_list(struct cli *c);
int cli_operations_get(struct cli *c);
int cli_branches_set_default(struct cli *c);
int cli_branches_protect(struct cli *c);
int cli_branches_unprotect(struct cli *c);
int cli_branches_finalize(struct cli *c);
int cli_branches_lsn(struct cli *c);
int cli_projects_update(struct cli *c);
int cli_limits(struct cli *c);
int cli_snapshots_update(struct cli *c);
int cli_schedule_get(struct cli *c);
int cli_schedule_set(struct cli *c);
int cli_endpoints_update(struct cli *c);
int cli_databases_update(struct cli *c);
int cli_extensions_list(struct cli *c);
int cli_extensions_get(struct cli *c);
int cli_extensions_install(struct cli *c);
int cli_extensions_remove(struct cli *c);
int cli_operations_wait(struct cli *c);
int cli_api_keys_list(struct cli *c);
int cli_api_keys_create(struct cli *c);
int cli_api_keys_revoke(struct cli *c);
int cli_me(struct cli *c);
int cli_regions(struct cli *c);
int cli_health(struct cli *c);
int cli_ca(struct cli *c);
int cli_import(struct cli *c);
int cli_completion(struct cli *c);
int cli_complete(struct cli *c);
int cli_man(struct cli *c);
int cli_checkout(struct cli *c);
int cli_doctor(struct cli *c);
int cli_url(struct cli *c);
int cli_psql(struct cli *c);
int cli_run(struct cli *c);

#endif
