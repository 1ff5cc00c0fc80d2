/*
 * main.c - the mere command: a table of subcommands, options, help
 */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>

#include "base/text.h"
#include "version.h"

#define GLOBAL_OPTIONS  "json api-url api-key-file help version"
#define WAITING_OPTIONS "timeout no-wait"

struct command {
    const char *noun;
    const char *verb; /* NULL = a word of its own */
    const char *args; /* as shown; [x] may be left out */
    size_t min_args, max_args;
    const char *options; /* besides GLOBAL_OPTIONS */
    const char *help;
    int (*fn)(struct cli *c);
};

static const struct command COMMANDS[] = {
    { "projects", "list", "", 0, 0, "search limit", "list projects", cli_projects_list },
    { "projects", "create", "[NAME]", 0, 1,
      "name pg-version branch database role suspend-timeout timeout no-wait",
      "make a project: a Postgres with a branch, a database and a role", cli_projects_create },
    { "projects", "get", "[PROJECT]", 0, 1, "project", "show one", cli_projects_get },
    { "projects", "delete", "PROJECT", 1, 1, "hard " WAITING_OPTIONS, "delete a project and all its branches",
      cli_projects_delete },
    { "branches", "list", "", 0, 0, "project search limit deleted", "list branches", cli_branches_list },
    { "branches", "create", "[NAME]", 0, 1,
      "project name parent at no-endpoint durability ttl expires-at suspend-timeout park-sessions timeout "
      "no-wait",
      "branch off: a copy-on-write copy, with an endpoint", cli_branches_create },
    { "branches", "get", "BRANCH", 1, 1, "project", "show one", cli_branches_get },
    { "branches", "update", "BRANCH", 1, 1, "project name ttl expires-at",
      "rename it, or change when it expires", cli_branches_update },
    { "branches", "delete", "BRANCH", 1, 1, "project hard " WAITING_OPTIONS,
      "delete a branch; it can be recovered for a while", cli_branches_delete },
    { "branches", "recover", "BRANCH", 1, 1, "project", "bring a deleted branch back", cli_branches_recover },
    { "branches", "restore", "BRANCH SOURCE[@LSN|@TIME]", 2, 2,
      "project preserve-under-name " WAITING_OPTIONS,
      "make it what SOURCE was then (^self, ^parent or a branch)", cli_branches_restore },
    { "branches", "reset", "BRANCH", 1, 1, "project preserve-under-name " WAITING_OPTIONS,
      "make it what its parent is now", cli_branches_reset },
    { "snapshots", "list", "", 0, 0, "project", "list snapshots", cli_snapshots_list },
    { "snapshots", "create", "[BRANCH]", 0, 1, "project name at expires-at " WAITING_OPTIONS,
      "keep a moment of a branch", cli_snapshots_create },
    { "snapshots", "restore", "SNAPSHOT", 1, 1, "project name finalize " WAITING_OPTIONS,
      "make a branch of a snapshot", cli_snapshots_restore },
    { "snapshots", "delete", "SNAPSHOT", 1, 1, "project " WAITING_OPTIONS, "delete a snapshot",
      cli_snapshots_delete },
    { "bookmarks", "list", "", 0, 0, "project branch", "list the bookmarks of a branch", cli_bookmarks_list },
    { "bookmarks", "set", "NAME", 1, 1, "project branch at hold ttl", "give a moment of a branch a name",
      cli_bookmarks_set },
    { "bookmarks", "delete", "NAME", 1, 1, "project branch", "delete a bookmark", cli_bookmarks_delete },
    { "endpoints", "list", "", 0, 0, "project branch", "list endpoints", cli_endpoints_list },
    { "endpoints", "create", "[BRANCH]", 0, 1,
      "project branch name type suspend-timeout park-sessions timeout no-wait", "give a branch an endpoint",
      cli_endpoints_create },
    { "endpoints", "get", "ENDPOINT|BRANCH", 1, 1, "project", "show one", cli_endpoints_get },
    { "endpoints", "delete", "ENDPOINT|BRANCH", 1, 1, "project " WAITING_OPTIONS,
      "delete an endpoint; the branch stays", cli_endpoints_delete },
    { "endpoints", "start", "ENDPOINT|BRANCH", 1, 1, "project " WAITING_OPTIONS,
      "start it now (a connect does that, too)", cli_endpoints_start },
    { "endpoints", "suspend", "ENDPOINT|BRANCH", 1, 1, "project " WAITING_OPTIONS,
      "stop it until somebody connects", cli_endpoints_suspend },
    { "endpoints", "restart", "ENDPOINT|BRANCH", 1, 1, "project " WAITING_OPTIONS, "stop and start it",
      cli_endpoints_restart },
    { "databases", "list", "", 0, 0, "project branch", "list the databases of a branch", cli_databases_list },
    { "databases", "create", "NAME", 1, 1, "project branch role " WAITING_OPTIONS, "make a database",
      cli_databases_create },
    { "databases", "get", "NAME", 1, 1, "project branch", "show one", cli_databases_get },
    { "databases", "delete", "NAME", 1, 1, "project branch " WAITING_OPTIONS, "drop a database",
      cli_databases_delete },
    { "roles", "list", "", 0, 0, "project branch", "list the roles of a branch", cli_roles_list },
    { "roles", "create", "NAME", 1, 1, "project branch no-login " WAITING_OPTIONS,
      "make a role; shows its password", cli_roles_create },
    { "roles", "get", "NAME", 1, 1, "project branch", "show one", cli_roles_get },
    { "roles", "delete", "NAME", 1, 1, "project branch " WAITING_OPTIONS, "drop a role", cli_roles_delete },
    { "roles", "password", "NAME", 1, 1, "project branch", "print its password", cli_roles_password },
    { "roles", "reset-password", "NAME", 1, 1, "project branch " WAITING_OPTIONS,
      "give it a new password and show that", cli_roles_reset_password },
    { "operations", "list", "", 0, 0, "project limit", "list operations, newest first", cli_operations_list },
    { "operations", "get", "ID", 1, 1, "project", "show one", cli_operations_get },
    { "url", NULL, "[BRANCH]", 0, 1, "project branch database role",
      "print a connection string, password included; BRANCH@LSN or BRANCH@TIME is the branch as it was",
      cli_url },
    { "psql", NULL, "[BRANCH] [-- ARGS]", 0, 1, "project branch database role",
      "run psql on a branch, or on BRANCH@LSN or BRANCH@TIME", cli_psql },
    { "ca", NULL, "", 0, 0, "", "print the file that sslmode=verify-full needs as sslrootcert", cli_ca },
    { "doctor", NULL, "[PROJECT]", 0, 1, "project",
      "look whether all that is kept can be reached, and what takes the space", cli_doctor },
    { "schema", NULL, "[BRANCH]", 0, 1, "project branch database at", "print the schema of a database as SQL",
      cli_schema },
    { "schema-diff", NULL, "[BASE] BRANCH", 1, 2, "project database at",
      "print how a branch's schema differs from that of the base, or of its parent", cli_schema_diff },
};

static const struct {
    const char *name;
    const char *arg;
    const char *help;
} OPTIONS[] = {
#define X(id, name, arg, help) { name, arg, help },
    CLI_OPTIONS(X)
#undef X
};

/* What an option means to one command, where that is not what it means to most. */
static const struct {
    const char *noun, *verb, *option, *help;
} MEANINGS[] = {
    { "projects", "create", "name", "its name (default: its id)" },
    { "projects", "create", "branch", "what its branch is called (default: main)" },
    { "projects", "create", "database", "what its database is called (default: neondb)" },
    { "projects", "create", "role", "what the owner of its database is called (default: DATABASE_owner)" },
    { "projects", "create", "suspend-timeout",
      "its endpoints suspend after this long without activity (-1: never)" },
    { "databases", "create", "role", "its owner (not needed when there is one role)" },
    { "branches", "create", "name", "its name (default: its id)" },
    { "branches", "update", "name", "its new name" },
    { "schema", NULL, "at", "what it was at this past moment: 0/16B3748 or 2025-01-16T21:02:01Z" },
    { "schema-diff", NULL, "at", "what that of BRANCH was at this past moment: 0/16B3748 or a time" },
    { "snapshots", "create", "name", "its name (default: that of the branch, and the time)" },
    { "snapshots", "create", "at", "this past moment of it: 0/16B3748 or 2025-01-16T21:02:01Z" },
    { "snapshots", "restore", "name", "the name of the branch (default: its id)" },
    { "bookmarks", "set", "at", "this moment of it (default: now): 0/16B3748 or 2025-01-16T21:02:01Z" },
};

const char *cli_option_name(enum cli_option o)
{
    return OPTIONS[o].name;
}

int cli_fail(enum cli_exit code, const char *fmt, ...)
{
    va_list ap;

    fputs("mere: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return (int)code;
}

/* Is word one of the blank-separated words of list? */
static bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (len == n && strncmp(p, word, n) == 0)
            return true;
        p += len + strspn(p + len, " ");
    }
    return false;
}

/* Without a command: what most of them know. */
static bool option_allowed(const struct command *cmd, const char *name)
{
    return list_has(GLOBAL_OPTIONS, name) || list_has(cmd != NULL ? cmd->options : "project", name);
}

/* "mere branches get BRANCH", in the arena; words false: without what follows the verb. */
static const char *usage_of(struct cli *c, const struct command *cmd, bool words)
{
    return arena_printf(c->arena, "mere %s%s%s%s%s", cmd->noun, cmd->verb != NULL ? " " : "",
                        cmd->verb != NULL ? cmd->verb : "", words && cmd->args[0] != '\0' ? " " : "",
                        words ? cmd->args : "");
}

/* Edits between two short words (insert, delete, replace); longer words than 31 are never close to anything.
 */
static size_t distance(const char *a, const char *b)
{
    size_t row[33], na = strlen(a), nb = strlen(b);

    if (na > 31 || nb > 31)
        return 99;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

/* Keeps the closer of two candidates for a mistyped word; two edits are the most that looks like a typo. */
static void suggest(const char *word, const char *candidate, const char **best, size_t *best_distance)
{
    size_t d = distance(word, candidate);

    if (d < *best_distance && d < strlen(word)) {
        *best = candidate;
        *best_distance = d;
    }
}

/* given: as it was written, dashes and perhaps =VALUE included. */
static int unknown_option(struct cli *c, const struct command *cmd, const char *given)
{
    const char *word = arena_strndup(c->arena, given, strcspn(given, "=")), *best = NULL;
    const char *what = cmd != NULL ? usage_of(c, cmd, false) : "mere";
    size_t best_distance = 3;

    for (size_t i = 0; i < N_ELEMENTS(OPTIONS); i++)
        if (option_allowed(cmd, OPTIONS[i].name))
            suggest(word + strspn(word, "-"), OPTIONS[i].name, &best, &best_distance);
    if (best != NULL)
        return cli_fail(CLI_USAGE, "%s has no option %s; did you mean --%s? (%s --help)", what, word, best,
                        what);
    if (cmd != NULL && cmd->fn == cli_psql)
        return cli_fail(
            CLI_USAGE, "mere psql has no option %s; psql's own options go after --: mere psql [BRANCH] -- %s",
            word, word);
    return cli_fail(CLI_USAGE, "%s has no option %s (%s --help)", what, word, what);
}

static int unknown_command(const char *noun, const char *verb)
{
    const char *best = NULL;
    size_t best_distance = 3;
    bool noun_known = false;

    for (size_t i = 0; i < N_ELEMENTS(COMMANDS); i++)
        noun_known |= strcmp(COMMANDS[i].noun, noun) == 0;
    for (size_t i = 0; i < N_ELEMENTS(COMMANDS); i++) {
        if (!noun_known)
            suggest(noun, COMMANDS[i].noun, &best, &best_distance);
        else if (strcmp(COMMANDS[i].noun, noun) == 0 && verb != NULL)
            suggest(verb, COMMANDS[i].verb, &best, &best_distance);
    }
    if (!noun_known)
        return best != NULL
                   ? cli_fail(CLI_USAGE, "there is no command \"%s\"; did you mean mere %s?", noun, best)
                   : cli_fail(CLI_USAGE, "there is no command \"%s\"; see mere --help", noun);
    if (verb == NULL)
        return cli_fail(CLI_USAGE, "mere %s needs a verb; see mere %s --help", noun, noun);
    return best != NULL ? cli_fail(CLI_USAGE, "there is no mere %s %s; did you mean %s?", noun, verb, best)
                        : cli_fail(CLI_USAGE, "there is no mere %s %s; see mere %s --help", noun, verb, noun);
}

/* `branch` and `project` are understood as their plurals. */
static bool noun_is(const char *noun, const char *word)
{
    size_t n = strlen(word);

    return strcmp(noun, word) == 0 || (n > 2 && strncmp(noun, word, n) == 0 &&
                                       (strcmp(noun + n, "s") == 0 || strcmp(noun + n, "es") == 0));
}

static const struct command *find_command(const char *noun, const char *verb)
{
    for (size_t i = 0; i < N_ELEMENTS(COMMANDS); i++) {
        const struct command *cmd = &COMMANDS[i];
        if (noun_is(cmd->noun, noun) && (cmd->verb == NULL || (verb != NULL && strcmp(cmd->verb, verb) == 0)))
            return cmd;
    }
    return NULL;
}

static bool same_verb(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static const char *meaning(const struct command *cmd, size_t option)
{
    for (size_t i = 0; cmd != NULL && i < N_ELEMENTS(MEANINGS); i++)
        if (strcmp(MEANINGS[i].noun, cmd->noun) == 0 && same_verb(MEANINGS[i].verb, cmd->verb) &&
            strcmp(MEANINGS[i].option, OPTIONS[option].name) == 0)
            return MEANINGS[i].help;
    return OPTIONS[option].help;
}

static void print_options(const struct command *cmd)
{
    for (size_t i = 0; i < N_ELEMENTS(OPTIONS); i++) {
        char usage[64];
        if (!option_allowed(cmd, OPTIONS[i].name))
            continue;
        snprintf(usage, sizeof(usage), "--%s %s", OPTIONS[i].name,
                 OPTIONS[i].arg != NULL ? OPTIONS[i].arg : "");
        printf("  %-28s %s\n", usage, meaning(cmd, i));
    }
}

/* Help for everything, for a noun, or for one command. */
static void print_help(struct cli *c, const struct command *cmd, const char *noun)
{
    if (cmd == NULL && noun == NULL)
        puts("mere - projects, branches and endpoints of a Mere server\n\n"
             "Examples:\n"
             "  mere projects create --name shop\n"
             "  mere branches create dev\n"
             "  mere psql dev -- -c 'select version()'\n"
             "  mere psql main@2026-01-31T17:00:00Z\n"
             "  psql \"$(mere url dev)\"\n");
    puts(cmd != NULL ? "Usage:" : "Commands:");
    for (size_t i = 0; i < N_ELEMENTS(COMMANDS); i++)
        if (cmd != NULL ? cmd == &COMMANDS[i] : noun == NULL || noun_is(COMMANDS[i].noun, noun))
            printf("  %-40s %s\n", usage_of(c, &COMMANDS[i], true), COMMANDS[i].help);
    puts("\nOptions:");
    print_options(cmd);
    puts("\nExit status: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, refused value or precondition,\n"
         "5 key refused or missing, 6 timed out, 7 server unreachable.");
}

/* One option at argv[*i]; *i is left on its last word. */
static int take_option(struct cli *c, int argc, char **argv, int *i)
{
    const char *name = strcmp(argv[*i], "-h") == 0 ? "help" : argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");

    for (size_t o = 0; o < N_ELEMENTS(OPTIONS); o++) {
        if (strncmp(OPTIONS[o].name, name, len) != 0 || OPTIONS[o].name[len] != '\0')
            continue;
        if (OPTIONS[o].arg == NULL) {
            if (name[len] == '=')
                return cli_fail(CLI_USAGE, "--%s takes no value", OPTIONS[o].name);
            c->opt[o] = "";
        } else if (name[len] == '=') {
            c->opt[o] = name + len + 1;
        } else if (*i + 1 < argc) {
            c->opt[o] = argv[++*i];
        } else {
            return cli_fail(CLI_USAGE, "--%s needs a value: --%s %s", OPTIONS[o].name, OPTIONS[o].name,
                            OPTIONS[o].arg);
        }
        return CLI_OK;
    }
    if (c->unknown == NULL) /* said once the command is known */
        c->unknown = argv[*i];
    return CLI_OK;
}

/* Splits the words into options, plain words (c->args) and what follows `--`. */
static int parse(struct cli *c, int argc, char **argv)
{
    static char *nothing[] = { NULL };

    c->args = arena_alloc(c->arena, (size_t)(argc + 1) * sizeof(*c->args));
    c->rest = nothing;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!text_is_utf8(argv[i], strlen(argv[i]))) /* JSON could not say it: it would be left out */
            return cli_fail(CLI_USAGE, "word %d of the command is not UTF-8", i);
    for (int i = 1; i < argc; i++) {
        int rc = CLI_OK;

        if (strcmp(argv[i], "--") == 0) {
            c->rest = &argv[i + 1];
            break;
        }
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            rc = take_option(c, argc, argv, &i);
        else
            c->args[c->n_args++] = argv[i];
        if (rc != CLI_OK)
            return rc;
    }
    return CLI_OK;
}

/* Options that the command does not know, too few or too many words, numbers that are none. */
static int check_usage(struct cli *c, const struct command *cmd)
{
    int64_t n;

    if (c->unknown != NULL)
        return unknown_option(c, cmd, c->unknown);
    for (size_t o = 0; o < OPT_COUNT; o++)
        if (c->opt[o] != NULL && !option_allowed(cmd, OPTIONS[o].name))
            return unknown_option(c, cmd, arena_printf(c->arena, "--%s", OPTIONS[o].name));
    if (c->n_args < cmd->min_args || c->n_args > cmd->max_args)
        return cli_fail(CLI_USAGE, "usage: %s", usage_of(c, cmd, true));
    if (c->rest[0] != NULL && cmd->fn != cli_psql)
        return cli_fail(CLI_USAGE, "nothing may follow -- here");
    c->timeout_s = 60;
    if (c->opt[OPT_TIMEOUT] != NULL) {
        if (!text_to_i64(c->opt[OPT_TIMEOUT], 0, 86400, &n))
            return cli_fail(CLI_USAGE, "--timeout must be a number of seconds from 0 to 86400");
        c->timeout_s = (int)n;
    }
    for (size_t i = 0; i < c->n_args; i++)
        if (c->args[i][0] == '\0')
            return cli_fail(CLI_USAGE, "an empty word names nothing");
    return CLI_OK;
}

static int run(struct cli *c, int argc, char **argv)
{
    const struct command *cmd;
    const char *noun, *verb;
    int rc = parse(c, argc, argv);

    if (rc != CLI_OK)
        return rc;
    if (c->opt[OPT_VERSION] != NULL) {
        printf("mere %s (%s)\n", MERE_VERSION, MERE_COMMIT);
        return CLI_OK;
    }
    if (c->n_args > 0 && strcmp(c->args[0], "help") == 0) {
        c->opt[OPT_HELP] = "";
        c->args++;
        c->n_args--;
    }
    noun = c->n_args > 0 ? c->args[0] : NULL;
    verb = c->n_args > 1 ? c->args[1] : NULL;
    cmd = noun != NULL ? find_command(noun, verb) : NULL;
    if (c->unknown != NULL && cmd == NULL && c->opt[OPT_HELP] == NULL)
        return unknown_option(c, NULL, c->unknown);
    if (noun == NULL && c->opt[OPT_HELP] == NULL) {
        dup2(STDERR_FILENO, STDOUT_FILENO); /* unasked for, help is a message and not an answer */
        print_help(c, NULL, NULL);
        return CLI_USAGE;
    }
    if (c->opt[OPT_HELP] != NULL) {
        print_help(c, cmd, noun);
        return CLI_OK;
    }
    if (cmd == NULL)
        return unknown_command(noun, verb);
    c->args += cmd->verb != NULL ? 2 : 1;
    c->n_args -= cmd->verb != NULL ? 2 : 1;
    rc = check_usage(c, cmd);
    if (rc == CLI_OK)
        rc = cli_find_server(c);
    return rc != CLI_OK ? rc : cmd->fn(c);
}

int main(int argc, char **argv)
{
    struct cli c = { .arena = arena_new(0) };
    int rc = run(&c, argc, argv);

    if (fflush(stdout) != 0 || ferror(stdout))
        rc = cli_fail(CLI_FAILURE, "could not write the answer: %s", strerror(errno));
    arena_free(c.arena);
    return rc;
}
