/*
 * table.c - what commands and options there are
 */
#include "table.h"

#define WAITING_OPTIONS "wait timeout no-wait"

const struct command COMMANDS[] = {
    { "projects", "list", "", 0, 0, 0, "search limit", "list projects", cli_projects_list },
    { "projects", "create", "[NAME]", 0, 1, 0,
      "name pg-version branch database role suspend-timeout " WAITING_OPTIONS,
      "make a project: a Postgres with a branch, a database and a role", cli_projects_create },
    { "projects", "get", "[PROJECT]", 0, 1, 0, "project", "show one", cli_projects_get },
    { "projects", "update", "PROJECT", 1, 1, 0, "name retention suspend-timeout allowed-ips " WAITING_OPTIONS,
      "change a project", cli_projects_update },
    { "projects", "delete", "PROJECT", 1, 1, CMD_ASKS, "hard " WAITING_OPTIONS,
      "delete a project and all its branches; it can be recovered for a while", cli_projects_delete },
    { "projects", "recover", "PROJECT", 1, 1, 0, "", "bring a deleted project back, by its id",
      cli_projects_recover },
    { "branches", "list", "", 0, 0, 0, "project search limit deleted", "list branches", cli_branches_list },
    { "branches", "create", "[NAME]", 0, 1, 0,
      "project name parent at no-endpoint durability ttl expires-at "
      "suspend-timeout "
      "park-sessions " WAITING_OPTIONS,
      "branch off: a copy-on-write copy, with an endpoint", cli_branches_create },
    { "branches", "get", "[BRANCH]", 0, 1, 0, "project", "show one", cli_branches_get },
    { "branches", "update", "BRANCH", 1, 1, 0, "project name ttl expires-at",
      "rename it, or change when it expires", cli_branches_update },
    { "branches", "protect", "BRANCH", 1, 1, 0, "project", "do not let it be deleted, reset or restored",
      cli_branches_protect },
    { "branches", "unprotect", "BRANCH", 1, 1, 0, "project", "let it be deleted, reset and restored again",
      cli_branches_unprotect },
    { "branches", "set-default", "BRANCH", 1, 1, 0, "project", "make it the default branch",
      cli_branches_set_default },
    { "branches", "lsn", "[BRANCH]", 0, 1, 0, "project at", "what LSN a time means, or when an LSN was",
      cli_branches_lsn },
    { "branches", "delete", "BRANCH", 1, 1, CMD_ASKS, "project hard " WAITING_OPTIONS,
      "delete a branch; it can be recovered for a while", cli_branches_delete },
    { "branches", "recover", "BRANCH", 1, 1, 0, "project", "bring a deleted branch back",
      cli_branches_recover },
    { "branches", "restore", "BRANCH SOURCE[@LSN|@TIME]", 2, 2, 0,
      "project preserve-under-name " WAITING_OPTIONS,
      "make it what SOURCE was then (^self, ^parent or a branch)", cli_branches_restore },
    { "branches", "finalize", "BRANCH", 1, 1, 0, "project name " WAITING_OPTIONS,
      "put a branch made of a snapshot in the place of the one that the "
      "snapshot is of",
      cli_branches_finalize },
    { "branches", "reset", "BRANCH", 1, 1, 0, "project preserve-under-name " WAITING_OPTIONS,
      "make it what its parent is now", cli_branches_reset },
    { "snapshots", "list", "", 0, 0, 0, "project", "list snapshots", cli_snapshots_list },
    { "snapshots", "create", "[BRANCH]", 0, 1, 0, "project name at expires-at " WAITING_OPTIONS,
      "keep a moment of a branch", cli_snapshots_create },
    { "snapshots", "update", "SNAPSHOT", 1, 1, 0, "project name expires-at",
      "rename it, or change when it expires", cli_snapshots_update },
    { "snapshots", "restore", "SNAPSHOT", 1, 1, 0, "project name finalize " WAITING_OPTIONS,
      "make a branch of a snapshot", cli_snapshots_restore },
    { "snapshots", "delete", "SNAPSHOT", 1, 1, CMD_ASKS, "project " WAITING_OPTIONS, "delete a snapshot",
      cli_snapshots_delete },
    { "schedule", "get", "[BRANCH]", 0, 1, 0, "project", "when snapshots are taken by themselves",
      cli_schedule_get },
    { "schedule", "set", "[BRANCH]", 0, 1, 0, "project every hour day month keep add",
      "have snapshots taken by themselves, instead of when they were", cli_schedule_set },
    { "bookmarks", "list", "", 0, 0, 0, "project branch", "list the bookmarks of a branch",
      cli_bookmarks_list },
    { "bookmarks", "get", "NAME", 1, 1, 0, "project branch", "show one", cli_bookmarks_get },
    { "bookmarks", "set", "NAME", 1, 1, 0, "project branch at hold ttl", "give a moment of a branch a name",
      cli_bookmarks_set },
    { "bookmarks", "delete", "NAME", 1, 1, CMD_ASKS, "project branch", "delete a bookmark",
      cli_bookmarks_delete },
    { "endpoints", "list", "", 0, 0, 0, "project branch", "list endpoints", cli_endpoints_list },
    { "endpoints", "create", "[BRANCH]", 0, 1, 0,
      "project branch name type suspend-timeout park-sessions " WAITING_OPTIONS, "give a branch an endpoint",
      cli_endpoints_create },
    { "endpoints", "get", "ENDPOINT|BRANCH", 1, 1, 0, "project", "show one", cli_endpoints_get },
    { "endpoints", "update", "ENDPOINT|BRANCH", 1, 1, 0,
      "project name suspend-timeout park-sessions no-park-sessions disable "
      "enable " WAITING_OPTIONS,
      "change an endpoint", cli_endpoints_update },
    { "endpoints", "delete", "ENDPOINT|BRANCH", 1, 1, CMD_ASKS, "project " WAITING_OPTIONS,
      "delete an endpoint; the branch stays", cli_endpoints_delete },
    { "endpoints", "start", "ENDPOINT|BRANCH", 1, 1, 0, "project " WAITING_OPTIONS,
      "start it now (a connect does that, too)", cli_endpoints_start },
    { "endpoints", "suspend", "ENDPOINT|BRANCH", 1, 1, 0, "project " WAITING_OPTIONS,
      "stop it until somebody connects", cli_endpoints_suspend },
    { "endpoints", "restart", "ENDPOINT|BRANCH", 1, 1, 0, "project " WAITING_OPTIONS, "stop and start it",
      cli_endpoints_restart },
    { "databases", "list", "", 0, 0, 0, "project branch", "list the databases of a branch",
      cli_databases_list },
    { "databases", "create", "NAME", 1, 1, 0, "project branch role " WAITING_OPTIONS, "make a database",
      cli_databases_create },
    { "databases", "get", "NAME", 1, 1, 0, "project branch", "show one", cli_databases_get },
    { "databases", "update", "NAME", 1, 1, 0, "project branch name role " WAITING_OPTIONS,
      "rename a database, or give it another owner", cli_databases_update },
    { "databases", "delete", "NAME", 1, 1, CMD_ASKS, "project branch " WAITING_OPTIONS, "drop a database",
      cli_databases_delete },
    { "extensions", "list", "", 0, 0, 0, "project branch database", "list the extensions that can be had",
      cli_extensions_list },
    { "extensions", "get", "NAME", 1, 1, 0, "project branch database", "show one", cli_extensions_get },
    { "extensions", "install", "NAME", 1, 1, 0, "project branch database to schema " WAITING_OPTIONS,
      "install or update an extension", cli_extensions_install },
    { "extensions", "remove", "NAME", 1, 1, CMD_ASKS, "project branch database " WAITING_OPTIONS,
      "remove an extension", cli_extensions_remove },
    { "roles", "list", "", 0, 0, 0, "project branch", "list the roles of a branch", cli_roles_list },
    { "roles", "create", "NAME", 1, 1, 0, "project branch no-login " WAITING_OPTIONS,
      "make a role; shows its password", cli_roles_create },
    { "roles", "get", "NAME", 1, 1, 0, "project branch", "show one", cli_roles_get },
    { "roles", "delete", "NAME", 1, 1, CMD_ASKS, "project branch " WAITING_OPTIONS, "drop a role",
      cli_roles_delete },
    { "roles", "password", "NAME", 1, 1, 0, "project branch", "print its password", cli_roles_password },
    { "roles", "reset-password", "NAME", 1, 1, 0, "project branch " WAITING_OPTIONS,
      "give it a new password and show that", cli_roles_reset_password },
    { "operations", "list", "", 0, 0, 0, "project limit", "list operations, newest first",
      cli_operations_list },
    { "operations", "get", "ID", 1, 1, 0, "project", "show one", cli_operations_get },
    { "operations", "wait", "ID", 1, 1, 0, "project timeout", "wait for one, and show it",
      cli_operations_wait },
    { "api-keys", "list", "", 0, 0, 0, "", "list the keys of the API", cli_api_keys_list },
    { "api-keys", "create", "NAME", 1, 1, 0, "", "make a key, and show it this once", cli_api_keys_create },
    { "api-keys", "revoke", "ID", 1, 1, CMD_ASKS, "", "let a key be good for nothing", cli_api_keys_revoke },
    { "checkout", NULL, "BRANCH", 1, 1, 0,
      "project create parent at no-endpoint durability ttl expires-at "
      "suspend-timeout "
      "park-sessions " WAITING_OPTIONS,
      "write a .mere here, so that commands below this directory are about this "
      "branch",
      cli_checkout },
    { "restore", NULL, "BRANCH SOURCE[@LSN|@TIME]", 2, 2, 0, "project preserve-under-name " WAITING_OPTIONS,
      "the same as branches restore", cli_branches_restore },
    { "url", NULL, "[BRANCH]", 0, 1, 0, "project branch database role",
      "print a connection string, password included; BRANCH@LSN or BRANCH@TIME "
      "is the branch as it was",
      cli_url },
    { "psql", NULL, "[BRANCH] [-- ARGS]", 0, 1, CMD_REST, "project branch database role",
      "run psql on a branch, or on BRANCH@LSN or BRANCH@TIME", cli_psql },
    { "run", NULL, "-- PROGRAM [ARGS]", 0, 0, CMD_REST,
      "project from name ttl expires-at keep-on-failure durability "
      "suspend-timeout database role timeout",
      "run a program on a branch of its own, which is deleted afterwards; exits "
      "as the program does",
      cli_run },
    { "limits", NULL, "[PROJECT]", 0, 1, 0, "project", "what a project may hold (-1: no limit)", cli_limits },
    { "me", NULL, "", 0, 0, 0, "", "who calls", cli_me },
    { "regions", NULL, "", 0, 0, 0, "", "list regions: this server", cli_regions },
    { "health", NULL, "", 0, 0, CMD_NO_KEY, "", "ask whether the server can accept work; needs no key",
      cli_health },
    { "import", NULL, "URL", 1, 1, 0,
      "project branch parent database role durability suspend-timeout timeout",
      "dump a running Postgres and load it into a new branch (URL -: the first "
      "line of standard input)",
      cli_import },
    { "completion", NULL, "bash|zsh|fish", 1, 1, CMD_NO_SERVER, "",
      "print a script that makes the shell complete commands, options and names", cli_completion },
    { "__complete", NULL, "-- WORDS", 0, 0, CMD_NO_SERVER | CMD_REST | CMD_HIDDEN, "",
      "what can stand where the cursor is", cli_complete },
    { "__man", NULL, "-- DATE", 0, 0, CMD_NO_SERVER | CMD_REST | CMD_HIDDEN, "", "the manual page", cli_man },
    { "ca", NULL, "", 0, 0, 0, "", "print the file that sslmode=verify-full needs as sslrootcert", cli_ca },
    { "doctor", NULL, "[PROJECT]", 0, 1, 0, "project",
      "look whether all that is kept can be reached, and what takes the space", cli_doctor },
    { "schema", NULL, "[BRANCH]", 0, 1, 0, "project branch database at",
      "print the schema of a database as SQL", cli_schema },
    { "schema-diff", NULL, "[BASE] BRANCH", 1, 2, 0, "project database at",
      "print how a branch's schema differs from that of the base, or of its "
      "parent",
      cli_schema_diff },
    { "diff-schema", NULL, "[BASE] BRANCH", 1, 2, 0, "project database at", "the same as schema-diff",
      cli_schema_diff },
};

const size_t N_COMMANDS = N_ELEMENTS(COMMANDS);

const struct option_info OPTIONS[OPT_COUNT] = {
#define X(id, name, arg, help) { name, arg, help },
    CLI_OPTIONS(X)
#undef X
};

const struct exit_info EXITS[] = {
    { CLI_OK, "done" },
    { CLI_FAILURE, "failed; the sentence on standard error says why" },
    { CLI_USAGE, "usage" },
    { CLI_NOT_FOUND, "not found" },
    { CLI_CONFLICT, "conflict, a value or a wish that is refused, or a "
                    "precondition that does not hold" },
    { CLI_AUTH, "key refused or missing" },
    { CLI_TIMED_OUT, "timed out waiting, or told to stop waiting; the work goes on" },
    { CLI_UNREACHABLE, "server unreachable" },
};

const size_t N_EXITS = N_ELEMENTS(EXITS);

/* What an option means to one command, where that is not what it means to most.
 */
static const struct {
    const char *noun, *verb, *option, *help;
} MEANINGS[] = {
    { "projects", "create", "name", "its name (default: its id)" },
    { "projects", "create", "branch", "what its branch is called (default: main)" },
    { "projects", "create", "database", "what its database is called (default: neondb)" },
    { "projects", "create", "role", "what the owner of its database is called (default: DATABASE_owner)" },
    { "projects", "create", "suspend-timeout",
      "its endpoints suspend after this long without activity (-1: never)" },
    { "import", NULL, "branch", "the name of the new branch (default: its id)" },
    { "import", NULL, "database",
      "the database to load into (default: that of the URL; made when not "
      "there)" },
    { "import", NULL, "role", "its owner (not needed when there is one role)" },
    { "run", NULL, "name", "the name of the branch (default: its id)" },
    { "run", NULL, "ttl", "the branch deletes itself after this long at the latest (default 1h)" },
    { "databases", "create", "role", "its owner (not needed when there is one role)" },
    { "branches", "create", "name", "its name (default: its id)" },
    { "projects", "update", "name", "its new name" },
    { "projects", "update", "suspend-timeout",
      "new endpoints suspend after this long without activity (-1: never)" },
    { "snapshots", "update", "name", "its new name" },
    { "databases", "update", "name", "its new name" },
    { "databases", "update", "role", "its new owner" },
    { "endpoints", "update", "name", "its new name" },
    { "branches", "finalize", "name", "what the one that was there is called then" },
    { "branches", "lsn", "at", "this time or LSN of it (default: now)" },
    { "branches", "update", "name", "its new name" },
    { "schema", NULL, "at", "what it was at this past moment: 0/16B3748 or 2025-01-16T21:02:01Z" },
    { "diff-schema", NULL, "at", "what that of BRANCH was at this past moment: 0/16B3748 or a time" },
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

bool command_takes_always(const char *option)
{
    return list_has(GLOBAL_OPTIONS, option);
}

bool command_takes(const struct command *cmd, const char *option)
{
    if (cmd != NULL && (cmd->flags & CMD_ASKS) != 0 && strcmp(option, "yes") == 0)
        return true;
    return list_has(GLOBAL_OPTIONS, option) || list_has(cmd != NULL ? cmd->options : "project", option);
}

const char *command_usage(struct cli *c, const struct command *cmd, bool words)
{
    return arena_printf(c->arena, "mere %s%s%s%s%s", cmd->noun, cmd->verb != NULL ? " " : "",
                        cmd->verb != NULL ? cmd->verb : "", words && cmd->args[0] != '\0' ? " " : "",
                        words ? cmd->args : "");
}

bool noun_is(const char *noun, const char *word)
{
    size_t n = strlen(word);

    return strcmp(noun, word) == 0 || (n > 2 && strncmp(noun, word, n) == 0 &&
                                       (strcmp(noun + n, "s") == 0 || strcmp(noun + n, "es") == 0));
}

const struct command *command_find(const char *noun, const char *verb)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
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

const char *command_meaning(const struct command *cmd, enum cli_option o)
{
    for (size_t i = 0; cmd != NULL && i < N_ELEMENTS(MEANINGS); i++)
        if (strcmp(MEANINGS[i].noun, cmd->noun) == 0 && same_verb(MEANINGS[i].verb, cmd->verb) &&
            strcmp(MEANINGS[i].option, OPTIONS[o].name) == 0)
            return MEANINGS[i].help;
    return OPTIONS[o].help;
}
