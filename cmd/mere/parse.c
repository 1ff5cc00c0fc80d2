/*
 * parse.c - the words of the command line
 */
#include "table.h"

#include "base/text.h"

/* One option at argv[*i]; *i is left on its last word. */
static int take_option(struct cli *c, int argc, char **argv, int *i)
{
    const char *name = strcmp(argv[*i], "-h") == 0   ? "help"
                       : strcmp(argv[*i], "-o") == 0 ? "output"
                                                     : argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");

    for (size_t o = 0; o < OPT_COUNT; o++) {
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

int cli_parse(struct cli *c, int argc, char **argv)
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

static int choose_output(struct cli *c)
{
    const char *output = c->opt[OPT_OUTPUT];

    if (output == NULL || strcmp(output, "table") == 0)
        return CLI_OK;
    if (strcmp(output, "json") != 0)
        return cli_fail(CLI_USAGE, "--output must be json or table");
    c->opt[OPT_JSON] = "";
    return CLI_OK;
}

int cli_check_usage(struct cli *c, const struct command *cmd)
{
    int64_t n;

    if (c->unknown != NULL)
        return usage_unknown_option(c, cmd, c->unknown);
    for (size_t o = 0; o < OPT_COUNT; o++)
        if (c->opt[o] != NULL && !command_takes(cmd, OPTIONS[o].name))
            return usage_unknown_option(c, cmd, arena_printf(c->arena, "--%s", OPTIONS[o].name));
    if (c->n_args < cmd->min_args || c->n_args > cmd->max_args)
        return cli_fail(CLI_USAGE, "usage: %s", command_usage(c, cmd, true));
    if (c->rest[0] != NULL && (cmd->flags & CMD_REST) == 0)
        return cli_fail(CLI_USAGE, "nothing may follow -- here");
    if (c->opt[OPT_WAIT] != NULL && c->opt[OPT_NO_WAIT] != NULL)
        return cli_fail(CLI_USAGE, "--wait and --no-wait: which?");
    c->timeout_s = 60;
    if (c->opt[OPT_TIMEOUT] != NULL) {
        if (!text_to_i64(c->opt[OPT_TIMEOUT], 0, 86400, &n))
            return cli_fail(CLI_USAGE, "--timeout must be a number of seconds from 0 to 86400");
        c->timeout_s = (int)n;
    }
    for (size_t i = 0; i < c->n_args; i++)
        if (c->args[i][0] == '\0')
            return cli_fail(CLI_USAGE, "an empty word names nothing");
    return choose_output(c);
}
