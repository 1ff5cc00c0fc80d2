/*
 * man.c - the manual page, out of the tables
 *
 * `mere __man -- DATE` prints it; the build does that (make man).
 */
#include "table.h"

#include "version.h"

/* What a program reads besides its words. */
static const struct named {
    const char *name, *help;
} ENVIRONMENT[] = {
    { "MERE_API_URL", "where the server is" },
    { "MERE_API_KEY", "the key" },
    { "MERE_PROJECT", "the project, by id or name" },
    { "MERE_BRANCH", "the branch that is meant when none is named" },
    { "NO_COLOR", "when it is not empty: no colours" },
    { "XDG_CONFIG_HOME", "where mere/config lies; ~/.config without it" },
};

static const struct named FILES[] = {
    { ".mere",
      "of the working directory or the nearest one above it: project and branch, as \"name = value\" lines; "
      "mere checkout writes it" },
    { "$XDG_CONFIG_HOME/mere/config", "api-url, api-key-file and project, as \"name = value\" lines" },
    { "data/admin.key", "the key of a server that runs in the working directory" },
};

/* Text between macros: nothing in it is one. */
static void put(const char *text)
{
    if (text[0] == '.' || text[0] == '\'')
        fputs("\\&", stdout);
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

/* A term in bold, and a text about it in the next line. */
static void put_term(const char *term, const char *more)
{
    fputs(".TP\n\\fB", stdout);
    put(term);
    fputs("\\fR", stdout);
    if (more[0] != '\0') {
        fputs(" \\fI", stdout);
        put(more);
        fputs("\\fR", stdout);
    }
    putchar('\n');
}

static void put_item(const char *term, const char *more, const char *help)
{
    put_term(term, more);
    put(help);
    putchar('\n');
}

static void put_command(struct cli *c, const struct command *cmd)
{
    const char *sep = "Options:";

    put_item(command_usage(c, cmd, false), cmd->args, arena_printf(c->arena, "%s.", cmd->help));
    for (size_t o = 0; o < OPT_COUNT; o++) {
        const char *meaning = command_meaning(cmd, (enum cli_option)o);

        if (!command_takes(cmd, OPTIONS[o].name) || command_takes_always(OPTIONS[o].name))
            continue;
        printf("%s \\fB", sep);
        put(arena_printf(c->arena, "--%s", OPTIONS[o].name));
        fputs("\\fR", stdout);
        if (meaning != OPTIONS[o].help) {
            fputs(" (", stdout);
            put(meaning);
            putchar(')');
        }
        sep = ",";
    }
    if (sep[0] == ',')
        puts(".");
}

static void put_commands(struct cli *c)
{
    puts(".SH COMMANDS");
    for (size_t i = 0; i < N_COMMANDS; i++)
        if ((COMMANDS[i].flags & CMD_HIDDEN) == 0)
            put_command(c, &COMMANDS[i]);
    puts(".SH OPTIONS");
    for (size_t o = 0; o < OPT_COUNT; o++)
        put_item(arena_printf(c->arena, "--%s", OPTIONS[o].name),
                 OPTIONS[o].arg != NULL ? OPTIONS[o].arg : "", OPTIONS[o].help);
}

int cli_man(struct cli *c)
{
    const char *date = c->rest[0] != NULL ? c->rest[0] : "";

    printf(".TH MERE 1 \"%s\" \"mere %s\" \"Mere\"\n", date, MERE_VERSION);
    puts(
        ".SH NAME\nmere \\- projects, branches and endpoints of a Mere server\n"
        ".SH SYNOPSIS\n\\fBmere\\fR \\fINOUN\\fR [\\fIVERB\\fR] [\\fIWORD\\fR...] [\\fB\\-\\-option\\fR...]\n"
        ".SH DESCRIPTION\n"
        "A client of the REST API of a Mere server. Answers go to standard output, all else to standard "
        "error.\n"
        "What is not said with an option is looked for in the environment, then in .mere, then in the user's "
        "file.");
    put_commands(c);
    puts(".SH ENVIRONMENT");
    for (size_t i = 0; i < N_ELEMENTS(ENVIRONMENT); i++)
        put_item(ENVIRONMENT[i].name, "", ENVIRONMENT[i].help);
    puts(".SH FILES");
    for (size_t i = 0; i < N_ELEMENTS(FILES); i++)
        put_item(FILES[i].name, "", FILES[i].help);
    puts(".SH \"EXIT STATUS\"");
    for (size_t i = 0; i < N_EXITS; i++)
        put_item(arena_printf(c->arena, "%d", EXITS[i].code), "", EXITS[i].meaning);
    puts(".PP\nmere psql exits as psql does, mere run as its program does: 128 and the number of the signal\n"
         "when one ended it, 127 when it is not there, 126 when it cannot be run.\n"
         ".SH \"SEE ALSO\"\n.BR psql (1),\n.BR pg_dump (1)");
    return CLI_OK;
}
