/*
 * signals.c - Ctrl-C and its like, noted instead of fatal for a while
 */
#include "cli.h"

#include <signal.h>

static const int HELD[] = { SIGINT, SIGTERM, SIGHUP };

static volatile sig_atomic_t first;
static struct sigaction before[N_ELEMENTS(HELD)];
static int depth;

/* Who says it twice means it; but a terminal that goes says SIGHUP more than once. */
static void on_signal(int signo)
{
    if (first == 0)
        first = signo;
    else if (signo != SIGHUP)
        _exit(128 + signo);
}

void cli_hold_signals(void)
{
    struct sigaction note = { .sa_handler = on_signal };

    if (depth++ > 0)
        return;
    first = 0;
    sigemptyset(&note.sa_mask);
    for (size_t i = 0; i < N_ELEMENTS(HELD); i++) {
        sigaction(HELD[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN) /* as under nohup */
            sigaction(HELD[i], &note, NULL);
    }
}

void cli_release_signals(void)
{
    if (--depth > 0)
        return;
    for (size_t i = 0; i < N_ELEMENTS(HELD); i++)
        sigaction(HELD[i], &before[i], NULL);
}

int cli_signal(void)
{
    return first;
}
