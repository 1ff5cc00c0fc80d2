/*
 * say.c - what goes to standard error: errors, messages, progress, questions
 */
#include "cli.h"

#include <stdarg.h>

#define CLEAR_LINE "\r\033[K"

/* Of the process's own standard error: nothing a command would have to hand around. */
static bool in_colour;
static bool on_line; /* the last line is one of cli_progress */

/* A terminal that understands more than a typewriter. */
static bool is_smart_terminal(void)
{
    const char *term = getenv("TERM");

    return isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
}

void cli_choose_colour(struct cli *c)
{
    const char *no = getenv("NO_COLOR");

    in_colour = is_smart_terminal() && c->opt[OPT_NO_COLOR] == NULL && (no == NULL || no[0] == '\0');
}

void cli_progress_end(void)
{
    if (on_line)
        fputs(CLEAR_LINE, stderr);
    on_line = false;
}

int cli_fail(enum cli_exit code, const char *fmt, ...)
{
    va_list ap;

    cli_progress_end();
    fputs(in_colour ? "\033[1;31mmere:\033[0m " : "mere: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return (int)code;
}

void cli_say(struct cli *c, const char *fmt, ...)
{
    va_list ap;

    cli_progress_end();
    if (c->opt[OPT_QUIET] != NULL)
        return;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void cli_progress(struct cli *c, const char *fmt, ...)
{
    va_list ap;

    if (c->opt[OPT_QUIET] != NULL || !is_smart_terminal())
        return;
    fputs(CLEAR_LINE, stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fflush(stderr);
    on_line = true;
}

int cli_confirm(struct cli *c, const char *what, const char *help)
{
    char line[16] = "";

    if (c->opt[OPT_YES] != NULL || c->opt[OPT_NO_INPUT] != NULL || !isatty(STDIN_FILENO) ||
        !isatty(STDERR_FILENO))
        return CLI_OK;
    fprintf(stderr, "%s: %s. Go on? [y/N] ", what, help);
    fflush(stderr);
    if (fgets(line, sizeof(line), stdin) != NULL && (line[0] == 'y' || line[0] == 'Y'))
        return CLI_OK;
    return cli_fail(CLI_FAILURE, "nothing was done");
}
