/*
 * compute.c - what a compute can be, and the one function that changes it
 *
 * Read TABLE and you know the product.  A pair without an entry keeps the state.  Every change is logged with
 * the table's reason; the row is written by the actions (supervise.c), before anything that depends on it.
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct transition {
    enum compute_state next;
    void (*act)(struct compute *c);
    const char *reason; /* NULL: no such transition */
};

static const struct transition TABLE[COMPUTE_N_STATES][EVENT_N] = {
    [COMPUTE_STOPPED][EVENT_WANT_RUN] = { COMPUTE_PREPARING, supervise_prepare, "wanted" },

    [COMPUTE_PREPARING][EVENT_PREPARED] = { COMPUTE_STARTING, supervise_spawn,
                                            "volume and configuration are there" },
    [COMPUTE_PREPARING][EVENT_WANT_STOP] = { COMPUTE_CAPTURING, supervise_capture, "not wanted any more" },
    [COMPUTE_PREPARING][EVENT_ERROR] = { COMPUTE_FAILED, supervise_failed, "could not be prepared" },

    [COMPUTE_STARTING][EVENT_READY] = { COMPUTE_RUNNING, supervise_release, "postgres accepts connections" },
    [COMPUTE_STARTING][EVENT_WANT_STOP] = { COMPUTE_STOPPING, supervise_stop, "not wanted any more" },
    [COMPUTE_STARTING][EVENT_EXITED] = { COMPUTE_FAILED, supervise_failed, "postgres ended while starting" },
    [COMPUTE_STARTING][EVENT_ERROR] = { COMPUTE_STOPPING, supervise_stop_now, "it is not what it should be" },
    [COMPUTE_STARTING][EVENT_TIMEOUT] = { COMPUTE_STOPPING, supervise_stop_now, "not ready in time" },

    [COMPUTE_RUNNING][EVENT_WANT_STOP] = { COMPUTE_DRAINING, supervise_hold,
                                           "not wanted: close the door, then look" },
    [COMPUTE_RUNNING][EVENT_EXITED] = { COMPUTE_STOPPED, supervise_crashed, "postgres ended by itself" },

    [COMPUTE_DRAINING][EVENT_IDLE] = { COMPUTE_STOPPING, supervise_stop, "nothing is going on" },
    [COMPUTE_DRAINING][EVENT_BUSY] = { COMPUTE_RUNNING, supervise_reopen, "something is going on" },
    [COMPUTE_DRAINING][EVENT_TIMEOUT] = { COMPUTE_RUNNING, supervise_reopen, "mere-proxy did not answer" },
    [COMPUTE_DRAINING][EVENT_EXITED] = { COMPUTE_STOPPED, supervise_crashed, "postgres ended by itself" },

    [COMPUTE_STOPPING][EVENT_EXITED] = { COMPUTE_CAPTURING, supervise_capture, "all its processes are gone" },
    [COMPUTE_STOPPING][EVENT_TIMEOUT] = { COMPUTE_STOPPING, supervise_next_rung, "still not gone" },

    [COMPUTE_CAPTURING][EVENT_CAPTURED] = { COMPUTE_STOPPED, supervise_stopped, "suspended" },
    [COMPUTE_CAPTURING][EVENT_ERROR] = { COMPUTE_FAILED, supervise_failed, "its last start failed" },

    [COMPUTE_FAILED][EVENT_TIMEOUT] = { COMPUTE_STOPPED, NULL, "may be tried again" },
};

static const char *const STATE_NAMES[COMPUTE_N_STATES] = {
    [COMPUTE_STOPPED] = "STOPPED",     [COMPUTE_PREPARING] = "PREPARING", [COMPUTE_STARTING] = "STARTING",
    [COMPUTE_RUNNING] = "RUNNING",     [COMPUTE_DRAINING] = "DRAINING",   [COMPUTE_STOPPING] = "STOPPING",
    [COMPUTE_CAPTURING] = "CAPTURING", [COMPUTE_FAILED] = "FAILED",
};

static const char *const EVENT_NAMES[EVENT_N] = {
    [EVENT_WANT_RUN] = "WANT_RUN", [EVENT_WANT_STOP] = "WANT_STOP", [EVENT_PREPARED] = "PREPARED",
    [EVENT_READY] = "READY",       [EVENT_IDLE] = "IDLE",           [EVENT_BUSY] = "BUSY",
    [EVENT_EXITED] = "EXITED",     [EVENT_CAPTURED] = "CAPTURED",   [EVENT_ERROR] = "ERROR",
    [EVENT_TIMEOUT] = "TIMEOUT",
};

const char *compute_state_name(enum compute_state st)
{
    return STATE_NAMES[st];
}

static bool is_starting(enum compute_state st)
{
    return st == COMPUTE_PREPARING || st == COMPUTE_STARTING;
}

bool compute_has_served(enum compute_state st)
{
    return st == COMPUTE_RUNNING || st == COMPUTE_DRAINING || st == COMPUTE_STOPPING;
}

static void log_change(const struct compute *c, enum compute_state from, const char *reason)
{
    auto_free char *gen = xasprintf("%" PRId64, c->generation);
    auto_free char *ms = xasprintf("%" PRId64, clock_mono_ms() - c->state_since_ms);
    log_event(c->state == COMPUTE_FAILED ? LOG_WARN : LOG_INFO, "compute", reason, "ep", c->id, "from",
              STATE_NAMES[from], "to", STATE_NAMES[c->state], "gen", gen, "ms", ms, "error",
              c->state == COMPUTE_FAILED ? c->error : NULL, NULL);
}

static void measure_phase(struct compute *c, enum compute_state from)
{
    int64_t now = clock_mono_ms(), since = c->state_since_ms;
    struct start_phases *p = &c->phases;
    if (c->state == COMPUTE_PREPARING)
        *p = (struct start_phases){ .wait = c->wake_started_ms ? now - c->wake_started_ms : 0 };
    if (from == COMPUTE_PREPARING)
        p->prepare = now - since;
    if (from == COMPUTE_STARTING) {
        p->recover = (p->up_ms ? p->up_ms : now) - since;
        p->ready = p->up_ms ? now - p->up_ms : 0;
    }
}

void compute_event(struct compute *c, enum compute_event ev)
{
    const struct transition *t = &TABLE[c->state][ev];
    if (!t->reason) {
        log_event(LOG_DEBUG, "compute", "event without effect", "ep", c->id, "state", STATE_NAMES[c->state],
                  "event", EVENT_NAMES[ev], NULL);
        return;
    }
    enum compute_state from = c->state;
    struct sched *s = c->s;
    c->state = t->next;
    log_change(c, from, t->reason);
    if (from != t->next) {
        measure_phase(c, from);
        s->n_starting += is_starting(t->next) - is_starting(from);
        c->state_since_ms = clock_mono_ms();
        loop_timer_clear(c->timer);
    }
    if (t->act)
        t->act(c);
    if (compute_has_served(from) != compute_has_served(t->next))
        follow_changed(c);
    ops_compute_changed(c);
    compute_step(c);
    if ((is_starting(from) && !is_starting(t->next)) || t->next == COMPUTE_STOPPED)
        compute_step_all(s); /* a place at the gate, or the branch, is free */
    if (s->stopping)
        loop_kick(s->loop); /* it may have been the last */
}

void compute_found(struct compute *c, enum compute_state st)
{
    c->s->n_starting += is_starting(st) - is_starting(c->state);
    c->state = st;
    log_event(LOG_INFO, "compute", "found at start", "ep", c->id, "state", STATE_NAMES[st], NULL);
}

void compute_fail(struct compute *c, enum err_code code, const char *why)
{
    c->error_code = code;
    snprintf(c->error, sizeof(c->error), "%s", why);
}

void compute_want(struct compute *c, bool run, bool force)
{
    if (c->s->stopping) { /* what still waits to start does so in our next life */
        run = false;
        force = true;
    }
    c->want_run = run;
    c->force = !run && force;
    if (run && c->state == COMPUTE_STOPPED && c->wake_started_ms == 0)
        c->wake_started_ms = clock_mono_ms();
    compute_step(c);
}

/* An endpoint that was deleted may still be stopping when another one of its branch is asked for; and a
 * branch may be asked for before it is forked, or while it is restored. */
static bool branch_is_free(const struct compute *c)
{
    return (c->standby || !compute_of_branch(c->s, c->branch_id, c)) &&
           !ops_keep_from_starting(c->s, c->branch_id);
}

void compute_step(struct compute *c)
{
    if (c->pins > 0)
        return;
    switch (c->state) {
    case COMPUTE_STOPPED:
        if (c->want_run && !c->s->stopping && c->s->n_starting < c->s->max_starting && branch_is_free(c))
            compute_event(c, EVENT_WANT_RUN);
        break;
    case COMPUTE_STARTING:
        if (!c->want_run && c->force)
            compute_event(c, EVENT_WANT_STOP);
        break;
    case COMPUTE_RUNNING:
        if (!c->want_run)
            compute_event(c, EVENT_WANT_STOP);
        break;
    case COMPUTE_PREPARING:
    case COMPUTE_DRAINING:
    case COMPUTE_STOPPING:
    case COMPUTE_CAPTURING:
    case COMPUTE_FAILED:
    case COMPUTE_N_STATES:
        break; /* its own event comes */
    }
}

/* ---- the table of computes ---- */

static unsigned bucket(const char *id)
{
    unsigned h = 5381;
    for (const char *p = id; *p; p++)
        h = h * 33 + (unsigned char)*p;
    return h % N_ELEMENTS(((struct sched *)NULL)->computes);
}

struct compute *compute_find(struct sched *s, const char *endpoint_id)
{
    for (struct compute *c = s->computes[bucket(endpoint_id)]; c; c = c->next)
        if (strcmp(c->id, endpoint_id) == 0)
            return c;
    return NULL;
}

struct compute *compute_of_branch(struct sched *s, const char *branch_id, const struct compute *but)
{
    for (size_t i = 0; i < N_ELEMENTS(s->computes); i++)
        for (struct compute *c = s->computes[i]; c; c = c->next)
            if (c != but && !c->standby && c->state != COMPUTE_STOPPED && c->state != COMPUTE_FAILED &&
                strcmp(c->branch_id, branch_id) == 0)
                return c;
    return NULL;
}

static void on_timer(void *arg)
{
    compute_event(arg, EVENT_TIMEOUT);
}

struct compute *compute_get(struct sched *s, const struct endpoint *e)
{
    struct compute *c = compute_find(s, e->id);
    if (!c) {
        c = xcalloc(1, sizeof(*c));
        c->s = s;
        snprintf(c->id, sizeof(c->id), "%s", e->id);
        snprintf(c->branch_id, sizeof(c->branch_id), "%s", e->branch_id);
        snprintf(c->project_id, sizeof(c->project_id), "%s", e->project_id);
        c->standby = strcmp(e->type, "read_only") == 0;
        c->archiver.failing = e->archive_failed_wal != NULL;
        c->wait_status = -1;
        c->lock_fd = c->pidfd = c->inotify_wd[0] = c->inotify_wd[1] = -1;
        c->timer = loop_timer_new(s->loop, on_timer, c);
        c->state_since_ms = clock_mono_ms();
        c->next = s->computes[bucket(c->id)];
        s->computes[bucket(c->id)] = c;
    }
    c->generation = e->generation > c->generation ? e->generation : c->generation;
    int64_t seconds =
        e->suspend_timeout_seconds == 0 ? s->suspend_default_seconds : e->suspend_timeout_seconds;
    c->suspend_default = e->suspend_timeout_seconds == 0;
    c->suspend_timeout_ms = seconds < 0 ? -1 : seconds * 1000;
    c->parks = e->park_sessions;
    return c;
}

void compute_forget(struct compute *c)
{
    if (c->state != COMPUTE_STOPPED || c->want_run || c->waiters || c->pins > 0 || c->tasks > 0 ||
        c->start_op[0])
        return;
    struct compute **p = &c->s->computes[bucket(c->id)];
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    loop_timer_del(c->timer);
    loop_timer_del(c->idle_timer);
    loop_timer_del(c->gone_timer);
    arena_free(c->start_arena);
    free(c);
}

/* At the end: only memory and descriptors, whatever still runs goes on. */
static void free_one(struct compute *c, void *arg)
{
    (void)arg;
    loop_fd_del(c->pid_source);
    fd_close(&c->pidfd);
    fd_close(&c->lock_fd);
    pg_admin_close(c->admin);
    pooler_free(c->pooler);
    loop_timer_del(c->timer);
    loop_timer_del(c->idle_timer);
    loop_timer_del(c->gone_timer);
    waiters_drop(&c->waiters, 0);
    waiters_drop(&c->lookers, 0);
    arena_free(c->start_arena);
    free(c);
}

void computes_free(struct sched *s)
{
    compute_each(s, free_one, NULL);
}

void compute_each(struct sched *s, compute_fn fn, void *arg)
{
    for (size_t i = 0; i < N_ELEMENTS(s->computes); i++)
        for (struct compute *c = s->computes[i], *next; c; c = next) {
            next = c->next;
            fn(c, arg);
        }
}

struct longest {
    struct compute *c;
};

static void find_longest_waiting(struct compute *c, void *arg)
{
    struct longest *l = arg;
    if (c->state == COMPUTE_STOPPED && c->want_run && c->pins == 0 && branch_is_free(c) &&
        (!l->c || c->wake_started_ms < l->c->wake_started_ms))
        l->c = c;
}

void compute_step_all(struct sched *s)
{
    /* First come, first served: each start that ends lets in the one that has waited longest. */
    while (s->n_starting < s->max_starting) {
        struct longest l = { 0 };
        compute_each(s, find_longest_waiting, &l);
        if (!l.c || s->stopping)
            return;
        compute_step(l.c);
        if (l.c->state == COMPUTE_STOPPED)
            return;
    }
}
