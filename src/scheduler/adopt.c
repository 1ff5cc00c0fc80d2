/*
 * adopt.c - at start: finds the computes that survived us, and settles those that did not
 */
#include "scheduler/internal.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "meta/usage.h"
#include "pg/conf.h"
#include "pg/control.h"
#include "pg/settings.h"

#include <string.h>

static int mark_lost(struct sched *s, const struct branch *b, struct err *err)
{
    auto_dbc *c = NULL;
    log_event(LOG_WARN, "start", "a relaxed branch did not survive the machine's crash", "br", b->id, NULL);
    if (db_write(s->env.db, &c, err) < 0 ||
        branch_set_state(c, b->id, "ready", "damaged", clock_wall_us(), err) < 0)
        return -1;
    return db_commit(c, err);
}

/* It said once that it serves: without its status file, which goes first, it is on its way out, not on its
 * way in. */
static bool was_up(const struct endpoint *e)
{
    return strcmp(e->observed, compute_state_name(COMPUTE_PREPARING)) != 0 &&
           strcmp(e->observed, compute_state_name(COMPUTE_STARTING)) != 0;
}

/* Clients were let in: a primary's volume says so, a standby has nothing to go by but what was recorded. */
static bool was_let_in(const struct compute *c, const struct branch *b, const struct endpoint *e)
{
    return c->standby ? was_up(e) : strcmp(b->volume, "ready") == 0;
}

static void adopt_running(struct compute *c, const struct branch *b, const struct endpoint *e)
{
    auto_arena *a = arena_new(0);
    struct sched *s = c->s;
    int64_t pid;
    json_auto_t *settings = e->pg_settings ? json_loads(e->pg_settings, 0, NULL) : NULL;
    enum pg_status status = pg_status_read(env_pgdata(&s->env, a, c->volume_id), &pid);
    c->start_arena = arena_new(0);
    c->socket = pg_conf_socket(c->start_arena, env_socket_dir(&s->env, c->start_arena, c->id));
    c->max_clients = pg_settings_max_connections(settings) - PG_SLOTS_KEPT; /* a standby may have more */
    c->want_run = true; /* a suspend that was under way is decided anew: by its operation, or by idleness */
    c->who = e->process;
    supervise_watch(c);
    supervise_join_group(c); /* we may have ended between its spawn and that */
    if (was_let_in(c, b, e) && status == PG_STATUS_READY) {
        compute_found(c, COMPUTE_RUNNING);
        cgroup_favour(c->id, false);
        idle_begin(&c->idle, clock_wall_us());
        supervise_look_at(c, 1000);
    } else if (status == PG_STATUS_STOPPING || (status == PG_STATUS_NONE && was_up(e)) ||
               supervise_follows(e, b)) { /* how far it has to replay is not known any more */
        compute_found(c, COMPUTE_STOPPING);
        supervise_stop(c);
    } else {
        compute_found(c, COMPUTE_STARTING);
        c->first = !c->standby && strcmp(b->volume, "ready") != 0;
        c->pending_roles = !c->standby;
        supervise_watch_data(c);
        loop_timer_set(c->timer, SUPERVISE_START_TIMEOUT_MS);
        supervise_look_at_status(c);
    }
}

/* When it ended nobody knows: what is noted of its time is what counts. */
static int stop_metering(struct sched *s, const struct endpoint *e, struct err *err)
{
    auto_dbc *c = NULL;
    if (e->metered_until == 0)
        return 0;
    if (db_write(s->env.db, &c, err) < 0 || usage_forget(c, e->id, err) < 0)
        return -1;
    return db_commit(c, err);
}

int supervise_adopt(struct sched *s, const struct endpoint *e, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct branch b;
    {
        auto_dbc *db = NULL;
        if (db_read(s->env.db, &db, err) < 0 || branch_get_id(db, a, e->branch_id, &b, err) < 0)
            return -1;
    }
    const char *volume_id = supervise_volume(e, &b);
    auto_fd lock_fd = -1;
    int free_lock = fs_lock(env_lock(&s->env, a, volume_id), true, &lock_fd, err);
    bool quiet = strcmp(e->observed, "STOPPED") == 0 || strcmp(e->observed, "FAILED") == 0;
    if (free_lock < 0)
        return -1;
    if (free_lock == 1 && supervise_is_lost(&b) && strcmp(b.state, "ready") == 0 && mark_lost(s, &b, err) < 0)
        return -1;
    if (free_lock == 1 && quiet && strcmp(e->desired, "deleted") != 0)
        return 0;
    struct compute *c = compute_get(s, e);
    c->deleted = strcmp(e->desired, "deleted") == 0;
    snprintf(c->volume_id, sizeof(c->volume_id), "%s", volume_id);
    int alive = free_lock == 1 ? 0 : proc_adopt(&e->process, &c->pidfd, err);
    if (alive < 0 || (alive == 0 && stop_metering(s, e, err) < 0))
        return -1;
    if (free_lock == 1) {
        c->lock_fd = TAKE_FD(lock_fd);
        compute_found(c, COMPUTE_CAPTURING);
        supervise_capture(c);
        return 0;
    }
    if (alive == 1) {
        adopt_running(c, &b, e);
        return 0;
    }
    /* Spawned but never recorded, or orphans of a dead postmaster: nobody was let in, nothing may stay. */
    if (supervise_kill_holders(&s->env, a, volume_id, err) < 0)
        return -1;
    compute_found(c, COMPUTE_STOPPING);
    supervise_exited(c);
    return 0;
}
