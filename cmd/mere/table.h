/*
 * table.h - what commands and options there are
 *
 * What reads words, prints help, completes, and writes the manual page all go by these two tables.
 */
#ifndef MERE_CLI_TABLE_H
#define MERE_CLI_TABLE_H

#include "cli.h"

#define GLOBAL_OPTIONS "json output api-url api-key-file quiet no-color no-input help version"

enum command_flags {
    CMD_NO_SERVER = 1, /* asks no server */
    CMD_NO_KEY = 2,    /* asks a server what anybody may */
    CMD_REST = 4,      /* words of another program follow -- */
    CMD_ASKS = 8,      /* takes something away: a question comes first, unless --yes */
    CMD_HIDDEN = 16,   /* for our own scripts */
};

struct command {
    const char *noun;
    const char *verb; /* NULL = a word of its own */
    const char *args; /* as shown; [x] may be left out */
    size_t min_args, max_args;
    unsigned flags;
    const char *options; /* besides GLOBAL_OPTIONS */
    const char *help;
    int (*fn)(struct cli *c);
};

struct option_info {
    const char *name;
    const char *arg; /* placeholder of the value; NULL = a switch */
    const char *help;
};

extern const struct command COMMANDS[];
extern const size_t N_COMMANDS;
extern const struct option_info OPTIONS[OPT_COUNT];

struct exit_info {
    enum cli_exit code;
    const char *meaning;
};

extern const struct exit_info EXITS[];
extern const size_t N_EXITS;

/* `branch` and `project` are understood as their plurals. */
bool noun_is(const char *noun, const char *word);
const struct command *command_find(const char *noun, const char *verb); /* NULL = there is none */
/* Without a command: what most of them know. */
bool command_takes(const struct command *cmd, const char *option);
/* Does every command? */
bool command_takes_always(const char *option);
/* "mere branches get BRANCH", in the arena; words false: without what follows the verb. */
const char *command_usage(struct cli *c, const struct command *cmd, bool words);
/* What an option means to a command. */
const char *command_meaning(const struct command *cmd, enum cli_option o);

/* parse.c: splits the words into options, plain words (c->args) and what follows `--`. */
int cli_parse(struct cli *c, int argc, char **argv);
/* Options that the command does not know, too few or too many words, numbers that are none. */
int cli_check_usage(struct cli *c, const struct command *cmd);

/* usage.c: help for everything, for a noun, or for one command. */
void usage_print(struct cli *c, const struct command *cmd, const char *noun);
/* Each says what was mistyped, what may have been meant, and is CLI_USAGE.  given: as it was written, dashes
 * and perhaps =VALUE included. */
int usage_unknown_option(struct cli *c, const struct command *cmd, const char *given);
int usage_unknown_command(const char *noun, const char *verb);

#endif
