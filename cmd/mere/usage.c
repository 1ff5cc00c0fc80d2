/*
 * usage.c - help, and what may have been meant by a mistyped word
 */
#include "table.h"

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

int usage_unknown_option(struct cli *c, const struct command *cmd, const char *given)
{
    const char *word = arena_strndup(c->arena, given, strcspn(given, "=")), *best = NULL;
    const char *what = cmd != NULL ? command_usage(c, cmd, false) : "mere";
    size_t best_distance = 3;

    for (size_t i = 0; i < OPT_COUNT; i++)
        if (command_takes(cmd, OPTIONS[i].name))
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

int usage_unknown_command(const char *noun, const char *verb)
{
    const char *best = NULL;
    size_t best_distance = 3;
    bool noun_known = false;

    for (size_t i = 0; i < N_COMMANDS; i++)
        noun_known |= strcmp(COMMANDS[i].noun, noun) == 0;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (!noun_known && (COMMANDS[i].flags & CMD_HIDDEN) == 0)
            suggest(noun, COMMANDS[i].noun, &best, &best_distance);
        else if (noun_known && strcmp(COMMANDS[i].noun, noun) == 0 && verb != NULL)
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

static void print_options(const struct command *cmd)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        char usage[64];
        if (!command_takes(cmd, OPTIONS[i].name))
            continue;
        snprintf(usage, sizeof(usage), "--%s %s", OPTIONS[i].name,
                 OPTIONS[i].arg != NULL ? OPTIONS[i].arg : "");
        printf("  %-28s %s\n", usage, command_meaning(cmd, (enum cli_option)i));
    }
}

void usage_print(struct cli *c, const struct command *cmd, const char *noun)
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
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (cmd != NULL
                ? cmd == &COMMANDS[i]
                : (noun == NULL || noun_is(COMMANDS[i].noun, noun)) && (COMMANDS[i].flags & CMD_HIDDEN) == 0)
            printf("  %-40s %s\n", command_usage(c, &COMMANDS[i], true), COMMANDS[i].help);
    puts("\nOptions:");
    print_options(cmd);
    puts("\nExit status: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, refused value or precondition,\n"
         "5 key refused or missing, 6 timed out, 7 server unreachable.");
}
