/*
 * main.c - the mere command: calls what the table says
 */
#include "table.h"

#include <errno.h>

#include "version.h"

static int run(struct cli *c, int argc, char **argv)
{
    const struct command *cmd;
    const char *noun, *verb;
    int rc = cli_parse(c, argc, argv);

    cli_choose_colour(c);
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
    cmd = noun != NULL ? command_find(noun, verb) : NULL;
    if (c->unknown != NULL && cmd == NULL && c->opt[OPT_HELP] == NULL)
        return usage_unknown_option(c, NULL, c->unknown);
    if (noun == NULL && c->opt[OPT_HELP] == NULL) {
        dup2(STDERR_FILENO, STDOUT_FILENO); /* unasked for, help is a message and not an answer */
        usage_print(c, NULL, NULL);
        return CLI_USAGE;
    }
    if (c->opt[OPT_HELP] != NULL) {
        usage_print(c, cmd, noun);
        return CLI_OK;
    }
    if (cmd == NULL)
        return usage_unknown_command(noun, verb);
    c->args += cmd->verb != NULL ? 2 : 1;
    c->n_args -= cmd->verb != NULL ? 2 : 1;
    rc = cli_check_usage(c, cmd);
    if (rc == CLI_OK && (cmd->flags & CMD_ASKS) != 0)
        rc = cli_confirm(c, arena_printf(c->arena, "%s %s", command_usage(c, cmd, false), c->args[0]),
                         cmd->help);
    c->keyless = (cmd->flags & CMD_NO_KEY) != 0;
    if (rc == CLI_OK && (cmd->flags & CMD_NO_SERVER) == 0)
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
