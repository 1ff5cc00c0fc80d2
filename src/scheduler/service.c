/*
 * service.c - signals, settings that change while it runs, and what the service manager hears of the loop
 *
 * The watchdog is fed by a timer of the loop itself: it proves that the loop turns, and nothing else would.
 */
#include "base/log.h"
#include "base/notify.h"
#include "scheduler/internal.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void on_alive(void *arg)
{
    struct sched *s = arg;
    notify_alive();
    loop_timer_set(s->alive_timer, notify_alive_ms());
}

/* ---- settings ---- */

void service_live(struct sched *s, const struct sched_live *live)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    s->suspend_default_seconds = live->suspend_default_seconds;
    s->suspend_min_seconds = live->suspend_min_seconds;
    s->reserve_bytes = live->reserve_bytes;
    s->max_starting = live->max_starting > 0 ? live->max_starting : (int)(cores > 0 ? 2 * cores : 2);
}

/* One that has been idle for longer than it may now is found to be so at once. */
static void take_default(struct compute *c, void *arg)
{
    (void)arg;
    if (!c->suspend_default)
        return;
    c->suspend_timeout_ms = c->s->suspend_default_seconds * 1000;
    if (c->state == COMPUTE_RUNNING)
        supervise_look_at(c, 0);
}

static void reload(struct sched *s)
{
    auto_arena *a = arena_new(0);
    struct sched_live live;
    if (!s->reload(s->reload_arg, a, &live))
        return;
    service_live(s, &live);
    compute_each(s, take_default, NULL);
    keeper_change(s, live.proxy_flags, live.drain_ms);
    compute_step_all(s); /* more may start at once */
}

/* ---- signals ---- */

/* Once a terminal is hung up, none of those that were started on it has one. */
static bool has_terminal(void)
{
    auto_fd fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0;
}

/* SIGHUP has two meanings: the terminal was closed, or somebody asks to read settings and certificate again.
 */
static void on_signal(void *arg, int signo)
{
    struct sched *s = arg;
    log_event(LOG_INFO, "sched", "signal", "name", sigabbrev_np(signo), NULL);
    if (signo == SIGHUP && !(s->hangup_ends && !has_terminal())) {
        notify_reloading();
        certs_reload(s); /* first: a mere-proxy that the settings start takes what is there */
        reload(s);
        notify_reloaded();
        return;
    }
    pthread_mutex_lock(&s->change_mutex);
    if (s->signalled == 0) /* how it ends is what was asked first */
        s->signalled = signo;
    s->changes++;
    pthread_cond_broadcast(&s->change_cond);
    pthread_mutex_unlock(&s->change_mutex);
}

int service_start(struct sched *s, struct err *err)
{
    static const int SIGNALS[] = { SIGTERM, SIGINT, SIGHUP };
    if (loop_signals(s->loop, SIGNALS, N_ELEMENTS(SIGNALS), on_signal, s, err) < 0)
        return -1;
    s->alive_timer = loop_timer_new(s->loop, on_alive, s);
    if (notify_alive_ms() > 0)
        loop_timer_set(s->alive_timer, 0);
    return 0;
}

void service_stop(struct sched *s)
{
    loop_timer_del(s->alive_timer);
}
