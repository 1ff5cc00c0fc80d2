/*
 * stop.c - from running to suspended: looks at activity and the catalogue, closes the door, the stop ladder,
 * the image
 */
#include "scheduler/internal.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "branch/capture.h"
#include "branch/materialise.h"
#include "pg/control.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/shm.h>
#include <unistd.h>

#define HELD_TIMEOUT_MS    2000
#define STOP_FAST_MS       30000 /* SIGINT: disconnect everybody, write the shutdown checkpoint */
#define STOP_IMMEDIATE_MS  10000 /* SIGQUIT: no checkpoint, the next start replays */
#define ORPHAN_PATIENCE_MS 5000  /* backends notice by themselves that their postmaster is gone */
#define LOCK_RETRY_MS      10
#define ADMIN_OPEN_MS      5000
#define LAST_LOOK_MS       2000 /* for a stop that waits for nobody */
/* Some 20 ms of a CPU for each session; the first one that keeps the compute ends it, and so does a client.
 */
#define PARKED_TIMEOUT_MS 15000
#define PARKED_FORCED_MS  5000

/* ---- looks at the activity (worker) ---- */

struct look {
    struct task t;
    char id[ID_MAX + 1];
    char branch_id[ID_MAX + 1];
    struct pg_admin *admin;
    struct pg_activity activity;
    char catalog_mark[PG_CATALOG_MARK_SIZE];
    struct err catalog_err; /* why it could not be brought up to date */
    struct pg_archiver archiver;
    int64_t backlog; /* segments that wait for it, where it fails */
    char volume_id[ID_MAX + 1];
    int64_t generation;
    bool final;   /* the door is closed: decides whether it stops */
    bool standby; /* its catalogue is another's, or another time's */
};

/* The next look tries again what could not be read or written now. */
static void look_at_catalog(struct look *l)
{
    struct task *t = &l->t;
    const char *is = l->activity.catalog_mark;
    if (l->standby || is[0] == '\0' || strcmp(is, l->catalog_mark) == 0)
        return;
    (void)!catalog_sync(t->s, t->a, l->branch_id, l->admin, l->catalog_mark, &l->catalog_err);
}

/* Postgres says which segment it could not keep; how many wait lies in its own directory. */
static int count_backlog(struct look *l, struct err *err)
{
    const char *pg_wal = env_pg_wal(&l->t.s->env, l->t.a, l->volume_id);
    const char **names;
    size_t n;
    if (fs_list(l->t.a, arena_printf(l->t.a, "%s/archive_status", pg_wal), &names, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const char *dot = strrchr(names[i], '.');
        l->backlog += dot && strcmp(dot, ".ready") == 0;
    }
    return 0;
}

static void look_run(struct task *t)
{
    struct look *l = (struct look *)t;
    t->rc = 0;
    if (!l->admin)
        t->rc = pg_admin_open(env_socket_dir(&t->s->env, t->a, l->id), ADMIN_OPEN_MS, &l->admin, &t->err);
    if (t->rc == 0)
        t->rc = pg_admin_activity(l->admin, &l->activity, &t->err);
    if (t->rc == 0)
        look_at_catalog(l);
    if (t->rc == 0)
        t->rc = pg_admin_archiver(l->admin, &l->archiver, &t->err);
    if (t->rc == 0 && l->archiver.failing)
        t->rc = count_backlog(l, &t->err);
}

static void close_session(struct compute *c)
{
    if (c->admin_busy)
        return; /* the task that has it gives it back */
    pg_admin_close(c->admin);
    c->admin = NULL;
}

void supervise_give_back(struct compute *c, struct pg_admin *admin)
{
    c->admin_busy = false;
    c->admin = admin;
    if (c->state != COMPUTE_RUNNING && c->state != COMPUTE_DRAINING)
        close_session(c);
}

/* Nothing speaks against a stop but what sessions may hold.  One that was asked for parks whom it can. */
static void drain_end(struct compute *c)
{
    if (!c->parks || c->deleted || c->s->stopping || !c->idle_timer || !wake_anybody(c->s)) {
        compute_event(c, EVENT_IDLE);
        return;
    }
    c->drain = DRAIN_PARK;
    loop_timer_set(c->force ? c->idle_timer : c->timer, c->force ? PARKED_FORCED_MS : PARKED_TIMEOUT_MS);
    wake_park(c);
}

static void drain_decided(struct compute *c, const struct look *l, bool active)
{
    if (c->state != COMPUTE_DRAINING)
        return;
    bool due = idle_due_ms(&c->idle, c->suspend_timeout_ms, clock_wall_us()) == 0;
    bool idle = l->t.rc == 0 && !active && due && c->pins == 0 && !c->want_run;
    if (c->force || (idle && wake_complete(c->s)))
        drain_end(c);
    else
        compute_event(c, EVENT_BUSY);
}

static void look_done(struct task *t)
{
    struct look *l = (struct look *)t;
    struct compute *c = l->t.c;
    bool current =
        (c->state == COMPUTE_RUNNING || c->state == COMPUTE_DRAINING) && c->generation == l->generation;
    supervise_give_back(c, l->admin);
    if (!current || t->rc < 0) {
        if (t->rc < 0 && current)
            log_event(LOG_WARN, "idle", "cannot see the activity", "ep", c->id, "error", t->err.msg, "detail",
                      t->err.detail, NULL);
        close_session(c);
        if (current && l->final)
            drain_decided(c, l, true);
        if (current)
            supervise_look_at(c, 1000);
        compute_step(c);
        return;
    }
    memcpy(c->catalog_mark, l->catalog_mark, sizeof(c->catalog_mark));
    if (l->catalog_err.code != ERR_NONE)
        log_event(LOG_WARN, "catalog", "cannot bring roles and databases up to date", "ep", c->id, "error",
                  l->catalog_err.msg, "detail", l->catalog_err.detail, NULL);
    bool active = idle_update(&c->idle, &l->activity, clock_wall_us());
    /* A password that nobody could read before the compute is gone would let nobody wake it.  More roles than
     * we can read stay that many. */
    bool unread = l->catalog_err.code != ERR_NONE && l->catalog_err.code != ERR_NOT_SUPPORTED;
    archiver_seen(c, &l->archiver, l->backlog);
    images_flushed(c, l->activity.flush_lsn);
    if (l->final) {
        drain_decided(c, l, active || unread);
        return;
    }
    int64_t due = idle_due_ms(&c->idle, c->suspend_timeout_ms, clock_wall_us());
    if (due == 0 && c->want_run && c->state == COMPUTE_RUNNING && c->pins == 0 && !c->waiters)
        compute_want(c, false, false);
    else
        supervise_look_at(c, idle_look_ms(c->suspend_timeout_ms, due));
}

static void look(struct compute *c, bool final)
{
    struct look *l = task_new(c->s, sizeof(*l), look_run, look_done);
    l->t.c = c;
    l->admin = c->admin;
    l->generation = c->generation;
    l->final = final;
    l->standby = c->standby;
    if (final)
        c->drain = DRAIN_LOOK;
    l->t.slow = true; /* it may wait for a server that hangs */
    snprintf(l->id, sizeof(l->id), "%s", c->id);
    snprintf(l->branch_id, sizeof(l->branch_id), "%s", c->branch_id);
    memcpy(l->catalog_mark, c->catalog_mark, sizeof(l->catalog_mark));
    snprintf(l->volume_id, sizeof(l->volume_id), "%s", c->volume_id);
    c->admin_busy = true;
    task_submit(&l->t);
}

static void on_idle_timer(void *arg)
{
    struct compute *c = arg;
    if (c->state == COMPUTE_DRAINING && c->force)
        compute_event(c, EVENT_IDLE);
    if (c->state != COMPUTE_RUNNING)
        return;
    if (c->admin_busy || c->pins > 0)
        supervise_look_at(c, 200);
    else
        look(c, false);
}

void supervise_look_at(struct compute *c, int64_t after_ms)
{
    if (!c->idle_timer)
        c->idle_timer = loop_timer_new(c->s->loop, on_idle_timer, c);
    /* One that never suspends is looked at too: not only its idleness is learnt by it. */
    int64_t look_ms =
        idle_look_ms(c->suspend_timeout_ms, c->suspend_timeout_ms < 0 ? INT64_MAX : c->suspend_timeout_ms);
    loop_timer_set(c->idle_timer, after_ms < look_ms ? after_ms : look_ms);
}

/* ---- the door ---- */

/* A stop that was asked for waits for nobody, and only a moment for a look at what SQL changed last. */
static void last_look(struct compute *c)
{
    if (c->deleted || c->standby || c->s->stopping || !c->idle_timer) {
        drain_end(c);
        return;
    }
    loop_timer_set(c->idle_timer, LAST_LOOK_MS);
    if (!c->admin_busy) /* else when it is given back */
        look(c, true);
}

void supervise_session_free(struct compute *c)
{
    if (c->state == COMPUTE_DRAINING && c->force && c->drain != DRAIN_PARK && !c->admin_busy)
        last_look(c);
}

void supervise_hold(struct compute *c)
{
    c->drain = DRAIN_HOLD;
    wake_hold(c);
    if (c->force)
        last_look(c);
    else if (wake_complete(c->s))
        loop_timer_set(c->timer, HELD_TIMEOUT_MS);
    else
        compute_event(c, EVENT_BUSY); /* a door that nobody closes: nobody can say that nothing comes in */
}

void supervise_held(struct compute *c, int64_t active)
{
    if (c->state != COMPUTE_DRAINING || c->drain == DRAIN_PARK)
        return;
    if (c->force) {
        last_look(c);
    } else if (active > 0 || c->admin_busy) {
        compute_event(c, EVENT_BUSY);
    } else {
        look(c, true);
    }
}

/* An answer to an earlier question came before that one was taken back. */
void supervise_parked(struct compute *c, int64_t active)
{
    if (c->state != COMPUTE_DRAINING || c->drain != DRAIN_PARK)
        return;
    bool idle = active == 0 && c->pins == 0 && !c->want_run;
    compute_event(c, c->force || (idle && wake_complete(c->s)) ? EVENT_IDLE : EVENT_BUSY);
}

void supervise_reopen(struct compute *c)
{
    idle_begin(&c->idle, clock_wall_us()); /* what keeps it now may keep it long */
    wake_release(c);
    wake_answer(c); /* who named the branch has asked meanwhile */
    supervise_look_at(c, 1000);
    compute_want(c, true, false);
}

/* ---- the ladder ---- */

void supervise_stop(struct compute *c)
{
    if (c->idle_timer)
        loop_timer_clear(c->idle_timer);
    close_session(c);
    supervise_record(c, c->want_run ? NULL : "stopped");
    CRASH_POINT("stop.intended");
    pooler_stop(c); /* the door is shut: mere-proxy tells its clients why, and better */
    c->rung = 0;
    if (c->pidfd >= 0)
        (void)proc_signal(c->pidfd, SIGINT);
    CRASH_POINT("stop.signalled");
    loop_timer_set(c->timer, STOP_FAST_MS);
}

void supervise_stop_now(struct compute *c)
{
    if (!c->error[0])
        compute_fail(c, ERR_TIMEOUT, "postgres was not ready in time");
    close_session(c);
    c->rung = 1;
    if (c->pidfd >= 0)
        (void)proc_signal(c->pidfd, SIGQUIT);
    loop_timer_set(c->timer, STOP_IMMEDIATE_MS);
}

struct killing {
    struct task t;
    char id[ID_MAX + 1];
    char volume_id[ID_MAX + 1];
};

static bool is_among(const int64_t *pids, size_t n, int64_t pid)
{
    for (size_t i = 0; i < n; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

int supervise_kill_holders(const struct env *env, struct arena *a, const char *volume_id, struct err *err)
{
    const char *lock = env_lock(env, a, volume_id);
    int64_t *pids, *still;
    size_t n, n_still;
    if (proc_holders(a, lock, &pids, &n, err) < 0)
        return -1;
    int *fds = arena_alloc(a, (n + 1) * sizeof(*fds));
    for (size_t i = 0; i < n; i++)
        fds[i] = pidfd_open((pid_t)pids[i], 0);
    /* Whose descriptor is open and who still holds the lock is not somebody else with the same number. */
    int rc = n > 0 ? proc_holders(a, lock, &still, &n_still, err) : 0;
    for (size_t i = 0; i < n; i++) {
        if (fds[i] >= 0 && rc == 0 && is_among(still, n_still, pids[i]))
            (void)proc_signal(fds[i], SIGKILL);
        fd_close(&fds[i]);
    }
    return rc;
}

/* The last rung: every process of the group, or without groups every process that holds the lock. */
static void kill_run(struct task *t)
{
    struct killing *k = (struct killing *)t;
    t->rc = cgroup_kill(k->id, STOP_IMMEDIATE_MS, &t->err);
    if (t->rc == 0)
        t->rc = supervise_kill_holders(&t->s->env, t->a, k->volume_id, &t->err);
}

static void kill_done(struct task *t)
{
    t->c->pins--;
    compute_step(t->c);
    if (t->rc < 0)
        log_event(LOG_WARN, "stop", "cannot kill all", "ep", ((struct killing *)t)->id, "error", t->err.msg,
                  "detail", t->err.detail, NULL);
}

static void kill_all(struct compute *c)
{
    struct killing *k = task_new(c->s, sizeof(*k), kill_run, kill_done);
    k->t.c = c;
    c->pins++; /* no new start that it could hit */
    snprintf(k->id, sizeof(k->id), "%s", c->id);
    snprintf(k->volume_id, sizeof(k->volume_id), "%s", c->volume_id);
    log_event(LOG_WARN, "stop", "killing what is left", "ep", c->id, NULL);
    task_submit(&k->t);
}

void supervise_next_rung(struct compute *c)
{
    c->rung++;
    if (c->rung == 1 && c->pidfd >= 0) {
        log_event(LOG_WARN, "stop", "fast shutdown took too long", "ep", c->id, NULL);
        (void)proc_signal(c->pidfd, SIGQUIT);
    } else {
        kill_all(c);
    }
    loop_timer_set(c->timer, STOP_IMMEDIATE_MS);
}

/* ---- gone ---- */

static void try_lock(void *arg)
{
    struct compute *c = arg;
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    int got = fs_lock(env_lock(&c->s->env, a, c->volume_id), true, &c->lock_fd, &err);
    if (got == 1) {
        c->exited_ms = 0;
        if (c->state == COMPUTE_STARTING)
            supervise_explain(c);
        compute_event(c, EVENT_EXITED);
        return;
    }
    if (clock_mono_ms() - c->exited_ms > ORPHAN_PATIENCE_MS) {
        kill_all(c);
        c->exited_ms = clock_mono_ms();
    }
    loop_timer_set(c->gone_timer, LOCK_RETRY_MS);
}

void supervise_exited(struct compute *c)
{
    /* "The postmaster is dead" is not "the compute is stopped": an orphan may go on committing. The lock
     * tells. */
    c->exited_ms = clock_mono_ms();
    if (!c->gone_timer)
        c->gone_timer = loop_timer_new(c->s->loop, try_lock, c);
    try_lock(c);
}

/*
 * Without a namespace of its own a killed server leaves its SysV segment; its id is on line 7 of
 * postmaster.pid.  Only one that nobody is attached to.
 */
static void reap_shared_memory(struct compute *c)
{
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    char *text, *line;
    size_t len;
    int line_no = 0;
    unsigned long key;
    int id;
    struct shmid_ds ds;
    const char *path = arena_printf(a, "%s/postmaster.pid", env_pgdata(&c->s->env, a, c->volume_id));
    if (c->s->env.as_root || fs_read(a, path, 4096, &text, &len, &err) < 0)
        return;
    while ((line = strsep(&text, "\n")) != NULL)
        if (++line_no == 7 && sscanf(line, "%lu %d", &key, &id) == 2 && shmctl(id, IPC_STAT, &ds) == 0 &&
            ds.shm_nattch == 0)
            (void)shmctl(id, IPC_RMID, NULL);
}

struct capture {
    struct task t;
    bool standby;
    char branch_id[ID_MAX + 1];
    char id[ID_MAX + 1];
    char volume_id[ID_MAX + 1];
};

static int capture(struct capture *k, struct err *err)
{
    struct sched *s = k->t.s;
    struct branch b;
    struct image image;
    uint64_t redo, head, system_id;
    uint32_t tli;
    if (k->standby) /* it wrote nothing; what follows its branch begins anew next time */
        return strcmp(k->volume_id, k->id) == 0 ? materialise_remove(&s->env, k->id, err) : 0;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || branch_get_id(c, k->t.a, k->branch_id, &b, err) < 0)
            return -1;
    }
    if (strcmp(b.volume, "ready") != 0 || strcmp(b.state, "ready") != 0)
        return 0;
    /* What did not sync while it ran counts as good from here on, so it has to be on disk. */
    if (strcmp(b.durability, "relaxed") == 0 &&
        (fs_syncfs(env_pgdata(&s->env, k->t.a, b.volume_id), err) < 0 ||
         fs_syncfs(env_wal(&s->env, k->t.a, b.volume_id), err) < 0))
        return -1;
    if (store_features(s->env.store) & STORE_SHARES_BLOCKS)
        return capture_cold(&s->env, k->t.a, &b, &image, err);
    /* A copy costs its size each time: only the place is noted, and the first fork takes the image. */
    if (capture_head(&s->env, b.volume_id, &redo, &head, &tli, &system_id, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || branch_set_head(c, b.id, head, err) < 0)
        return -1;
    return db_commit(c, err);
}

static void capture_run(struct task *t)
{
    t->rc = capture((struct capture *)t, &t->err);
}

static void capture_done(struct task *t)
{
    struct capture *k = (struct capture *)t;
    struct compute *c = k->t.c;
    /* Without an image nothing is lost: a fork starts the branch and takes it from the running one. */
    if (t->rc < 0)
        log_event(t->err.code == ERR_PRECONDITION ? LOG_INFO : LOG_WARN, "stop", "no image at suspend", "ep",
                  c->id, "error", t->err.msg, "detail", t->err.detail, NULL);
    compute_event(c, c->error[0] ? EVENT_ERROR : EVENT_CAPTURED);
}

void supervise_capture(struct compute *c)
{
    struct capture *k = task_new(c->s, sizeof(*k), capture_run, capture_done);
    CRASH_POINT("stop.gone");
    wake_gone(c);
    reap_shared_memory(c);
    k->t.c = c;
    k->standby = c->standby;
    snprintf(k->id, sizeof(k->id), "%s", c->id);
    snprintf(k->volume_id, sizeof(k->volume_id), "%s", c->volume_id);
    snprintf(k->branch_id, sizeof(k->branch_id), "%s", c->branch_id);
    task_submit(&k->t);
}

void supervise_clear(struct compute *c)
{
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    close_session(c);
    pooler_stop(c);
    fd_close(&c->lock_fd);
    cgroup_remove(c->id);
    (void)!fs_remove_tree(env_socket_dir(&c->s->env, a, c->id), false, &ignored);
    (void)!fs_remove_tree(env_conf_dir(&c->s->env, a, c->id), false, &ignored);
    c->who = (struct proc_identity){ 0 };
}

static void delete_row(struct compute *c)
{
    auto_dbc *db = NULL;
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    wake_drop(c);
    const char *log = env_log(&c->s->env, a, c->id);
    if (c->standby && materialise_remove(&c->s->env, c->id, &err) < 0) /* one that crashed has left it */
        log_event(LOG_ERROR, "stop", "cannot remove a volume", "ep", c->id, "error", err.msg, "detail",
                  err.detail, NULL);
    (void)unlink(log);
    (void)unlink(arena_printf(a, "%s.1", log));
    if (db_write(c->s->env.db, &db, &err) < 0 || endpoint_delete(db, c->id, &err) < 0 ||
        db_commit(db, &err) < 0)
        log_event(LOG_ERROR, "stop", "cannot delete an endpoint", "ep", c->id, "error", err.msg, "detail",
                  err.detail, NULL);
}

void supervise_stopped(struct compute *c)
{
    CRASH_POINT("stop.captured");
    supervise_clear(c);
    supervise_record(c, c->want_run ? NULL : "stopped");
    if (c->deleted)
        delete_row(c);
}

void supervise_crashed(struct compute *c)
{
    log_event(LOG_WARN, "stop", "postgres ended by itself", "ep", c->id, NULL);
    wake_gone(c); /* before the pooler ends, whose clients would be told less */
    reap_shared_memory(c);
    c->want_run = c->waiters != NULL;
    supervise_clear(c);
    supervise_record(c, c->want_run ? NULL : "stopped");
}
