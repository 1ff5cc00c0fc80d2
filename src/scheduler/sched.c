/*
 * sched.c - the scheduler's life: start, recovery, the loop thread, housekeeping, stop
 */
#include "scheduler/internal.h"
#include "scheduler/start_stop.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "branch/capture.h"
#include "branch/measure.h"
#include "branch/sweep.h"
#include "branch/template.h"
#include "meta/image.h"
#include "meta/replay.h"
#include "pg/pooler.h"
#include "scheduler/intent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <unistd.h>

#define HOUSEKEEPING_MS      2000
#define SWEEP_EVERY          15 /* housekeepings */
#define MEASURE_EVERY        3
#define MEASURE_NICE         10
#define MEASURE_REST         30 /* times as long as the last one took */
#define WORKERS              6
#define DEFAULT_MIN_CU       0.25
#define DEFAULT_MAX_CU       2.0
#define OPERATIONS_KEEP_DAYS 30

/* ---- questions from other threads ---- */

const struct sched_info *sched_info(const struct sched *s)
{
    return &s->info;
}

struct db *sched_db(const struct sched *s)
{
    return s->env.db;
}

void sched_kick(struct sched *s)
{
    loop_kick(s->loop);
}

void sched_changed(struct sched *s)
{
    pthread_mutex_lock(&s->change_mutex);
    s->changes++;
    pthread_cond_broadcast(&s->change_cond);
    pthread_mutex_unlock(&s->change_mutex);
}

uint64_t sched_seen(struct sched *s)
{
    pthread_mutex_lock(&s->change_mutex);
    uint64_t seen = s->changes;
    pthread_mutex_unlock(&s->change_mutex);
    return seen;
}

bool sched_wait_change(struct sched *s, uint64_t seen, int64_t deadline_ms)
{
    /* The condition variable counts on CLOCK_MONOTONIC, as clock_mono_ms does. */
    struct timespec until = { .tv_sec = deadline_ms / 1000, .tv_nsec = (deadline_ms % 1000) * 1000000 };
    int rc = 0;
    pthread_mutex_lock(&s->change_mutex);
    while (s->changes == seen && rc == 0)
        rc = pthread_cond_timedwait(&s->change_cond, &s->change_mutex, &until);
    bool changed = s->changes != seen;
    pthread_mutex_unlock(&s->change_mutex);
    return changed;
}

static bool is_final(const char *status)
{
    return strcmp(status, "scheduling") != 0 && strcmp(status, "running") != 0;
}

int sched_wait_operation(struct sched *s, const char *operation_id, int timeout_ms, struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    for (;;) {
        auto_arena *a = arena_new(0);
        struct operation o;
        uint64_t seen = sched_seen(s);
        {
            auto_dbc *c = NULL;
            if (db_read(s->env.db, &c, err) < 0 || operation_get_id(c, a, operation_id, &o, err) < 0)
                return -1;
        }
        if (is_final(o.status))
            return 1;
        if (!sched_wait_change(s, seen, deadline))
            return 0;
    }
}

static int check_space(uint64_t total, uint64_t left, uint64_t reserve_bytes, struct err *err)
{
    uint64_t reserve = reserve_bytes                      ? reserve_bytes
                       : total / 20 < ((uint64_t)1 << 30) ? total / 20
                                                          : (uint64_t)1 << 30;
    if (left < reserve)
        return err_set(err, ERR_DISK_FULL,
                       "only %" PRIu64
                       " MB are free where Mere keeps its data, less than the reserve of %" PRIu64
                       " MB; nothing was created or started: free some space, delete branches, or lower the "
                       "setting `reserve`",
                       left >> 20, reserve >> 20);
    return 0;
}

int sched_space(struct sched *s, struct err *err)
{
    uint64_t total, left, reserve = s->reserve_bytes;
    if (fs_space(s->env.data_dir, &total, &left, err) < 0 || check_space(total, left, reserve, err) < 0)
        return -1;
    if (store_space(s->env.store, &total, &left, err) < 0)
        return -1;
    return check_space(total, left, reserve, err);
}

int sched_ready(struct sched *s, struct err *err)
{
    auto_dbc *c = NULL;
    if (sched_space(s, err) < 0 || db_write(s->env.db, &c, err) < 0)
        return -1;
    return 0;
}

/* ---- housekeeping ---- */

struct sweep {
    struct task t;
    bool history; /* the rarer, slower part too */
    int64_t told; /* changes up to this one are no news to mere-proxy */
};

void sched_sweep_soon(struct sched *s)
{
    s->sweep_asked = true;
}

static int decide(struct sweep *w, struct sweep_plan *ret, struct err *err)
{
    struct sched *s = w->t.s;
    pthread_rwlock_wrlock(&s->history_lock);
    int rc = sweep_decide(&s->env, w->t.a, ret, err);
    pthread_rwlock_unlock(&s->history_lock);
    return rc;
}

static int sweep_history(struct sweep *w, struct err *err)
{
    struct sweep_plan plan;
    return decide(w, &plan, err) < 0 ? -1 : sweep_carry_out(&w->t.s->env, w->t.a, &plan, err);
}

/* What a crash left of work that had a branch for itself, and those whose compute has gone idle. */
static int sweep_temporaries(struct sweep *w, struct err *err)
{
    struct branch *list;
    size_t n;
    {
        auto_dbc *c = NULL;
        if (db_read(w->t.s->env.db, &c, err) < 0 ||
            branch_list_left_over(c, w->t.a, NULL, &list, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        if (intent_branch_discard_left_over(w->t.s, w->t.a, list[i].id, err) < 0)
            return -1;
    return 0;
}

static int prune_rows(struct sweep *w, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(w->t.s->env.db, &c, err) < 0 || directory_forget_changes(c, w->told, err) < 0 ||
        operation_prune(c, clock_wall_us() - (int64_t)OPERATIONS_KEEP_DAYS * 86400 * 1000000, 1000, err) <
            0 ||
        replay_prune(c, clock_wall_us() - (int64_t)REPLAY_KEEP_S * 1000000, 1000, err) < 0)
        return -1;
    return db_commit(c, err);
}

static void sweep_run(struct task *t)
{
    struct sweep *w = (struct sweep *)t;
    bool grown = false;
    uint64_t reserve = t->s->reserve_bytes;
    t->rc = 0;
    if (store_features(t->s->env.store) & STORE_GROWS)
        t->rc = store_grow(t->s->env.store, reserve ? reserve : (uint64_t)1 << 30, &grown, &t->err);
    if (grown)
        log_event(LOG_INFO, "store", "the disk file has grown", NULL);
    if (t->rc == 0)
        t->rc = sweep_temporaries(w, &t->err);
    if (t->rc == 0)
        t->rc = meter_sweep(t->s, &t->err);
    if (t->rc == 0)
        t->rc = intent_sweep_projects(t->s, &t->err);
    if (t->rc == 0)
        t->rc = intent_sweep_ended(t->s, &t->err);
    if (t->rc == 0 && w->history)
        t->rc = intent_sweep_schedules(t->s, &t->err);
    if (t->rc == 0 && w->history && (sweep_history(w, &t->err) < 0 || prune_rows(w, &t->err) < 0))
        t->rc = -1;
}

static void sweep_done(struct task *t)
{
    t->s->sweeping = false;
    if (t->rc < 0)
        log_event(LOG_WARN, "sched", "housekeeping failed", "error", t->err.msg, "detail", t->err.detail,
                  NULL);
}

struct measure {
    struct task t;
    int64_t took_ms;
};

/* Looking at every extent of a large branch takes many seconds of a CPU: it steps back for all others. */
static void *measure_politely(void *arg)
{
    struct task *t = arg;
    bool found;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), MEASURE_NICE);
    t->rc = measure_next(&t->s->env, t->a, &found, &t->err);
    return NULL;
}

/* A thread of its own, since who is no superuser cannot take its niceness back. */
static void measure_run(struct task *t)
{
    struct measure *m = (struct measure *)t;
    int64_t begun = clock_mono_ms();
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, measure_politely, t);
    if (rc == 0)
        (void)pthread_join(thread, NULL);
    else
        t->rc = err_set(&t->err, ERR_UNAVAILABLE, "no thread to measure with: %s", strerror(rc));
    m->took_ms = clock_mono_ms() - begun;
}

/* What cannot be measured now is tried again; nothing depends on it. */
static void measure_done(struct task *t)
{
    struct measure *m = (struct measure *)t;
    t->s->measuring = false;
    t->s->measure_after_ms = clock_mono_ms() + m->took_ms * MEASURE_REST;
    if (t->rc < 0)
        log_event(LOG_INFO, "sched", "cannot measure a branch", "error", t->err.msg, "detail", t->err.detail,
                  NULL);
}

static void measure(struct sched *s)
{
    struct measure *m = task_new(s, sizeof(*m), measure_run, measure_done);
    m->t.slow = true;
    s->measuring = true;
    task_submit(&m->t);
}

static bool measure_is_due(const struct sched *s)
{
    return s->housekeepings % MEASURE_EVERY == 0 && s->n_starting == 0 && !s->measuring && !s->stopping &&
           clock_mono_ms() >= s->measure_after_ms;
}

static void forget(struct compute *c, void *arg)
{
    (void)arg;
    compute_forget(c);
}

static void on_housekeeping(void *arg)
{
    struct sched *s = arg;
    compute_each(s, forget, NULL);
    ops_look(s);
    if (!s->stopping)
        images_look(s);
    if (!s->sweeping && !s->stopping) {
        struct sweep *w = task_new(s, sizeof(*w), sweep_run, sweep_done);
        w->history = atomic_exchange(&s->sweep_asked, false) || s->housekeepings % SWEEP_EVERY == 0;
        w->told = wake_told(s);
        w->t.slow = true;
        s->sweeping = true;
        task_submit(&w->t);
    }
    s->housekeepings++;
    if (measure_is_due(s))
        measure(s);
    loop_timer_set(s->housekeeping, HOUSEKEEPING_MS);
}

/* ---- stop ---- */

static void count_alive(struct compute *c, void *arg)
{
    int *n = arg;
    *n += c->state != COMPUTE_STOPPED && c->state != COMPUTE_FAILED;
}

static void want_stop(struct compute *c, void *arg)
{
    (void)arg;
    compute_want(c, false, true);
}

static void stop_when_quiet(struct sched *s)
{
    int alive = 0;
    compute_each(s, count_alive, &alive);
    if (s->keep_computes || (alive == 0 && !workers_busy(s)))
        loop_stop(s->loop);
}

/* After all that has to be made in it. */
static void session_free(struct compute *c, void *arg)
{
    (void)arg;
    supervise_session_free(c);
    catalog_look(c);
}

static void on_kick(void *arg)
{
    struct sched *s = arg;
    workers_collect(s);
    /* While sessions drain all goes on as ever: they may need a compute for what they are at. */
    if (!s->stopping && s->stop_asked && (s->keep_computes || !keeper_drain(s))) {
        s->stopping = true;
        loop_timer_clear(s->housekeeping);
        if (!s->keep_computes)
            compute_each(s, want_stop, NULL);
    }
    if (s->stopping) {
        if (!s->keep_computes)
            ops_look(s);
        stop_when_quiet(s);
        return;
    }
    ops_look(s);
    compute_step_all(s); /* a branch may have been acknowledged */
    compute_each(s, session_free, NULL);
    if (atomic_exchange(&s->directory_changed, false))
        wake_news(s);
}

/* On the thread that committed it. */
static void on_directory_change(void *arg)
{
    struct sched *s = arg;
    s->directory_changed = true;
    sched_kick(s);
}

int sched_wait_signal(struct sched *s)
{
    pthread_mutex_lock(&s->change_mutex);
    while (s->signalled == 0)
        pthread_cond_wait(&s->change_cond, &s->change_mutex);
    int signo = s->signalled;
    pthread_mutex_unlock(&s->change_mutex);
    return signo;
}

static void *run_loop(void *arg)
{
    struct sched *s = arg;
    loop_run(s->loop);
    return NULL;
}

static void end(struct sched *s, bool keep, bool own_only)
{
    if (s->loop_running) {
        s->keep_computes = keep;
        s->stop_asked = true;
        loop_kick(s->loop);
        pthread_join(s->loop_thread, NULL);
    }
    workers_stop(s);
    keeper_stop(s, own_only ? keeper_adopted(s) : keep);
    wake_stop(s);
    certs_stop(s);
    service_stop(s);
    ops_free(s);
    computes_free(s);
    cgroup_fini(); /* what is left of it by computes that live on stays */
    loop_fd_del(s->inotify_source);
    loop_timer_del(s->housekeeping);
    fd_close(&s->inotify_fd);
    db_on_insert(s->env.db, NULL, NULL, NULL);
    loop_free(s->loop);
    pthread_cond_destroy(&s->change_cond);
    pthread_mutex_destroy(&s->change_mutex);
    pthread_rwlock_destroy(&s->history_lock);
    pg_pooler_program_free(s->info.pooler);
    arena_free(s->arena);
    free(s);
}

void sched_stop(struct sched *s, bool keep)
{
    if (s)
        end(s, keep, false);
}

void sched_abandon(struct sched *s)
{
    if (s)
        end(s, true, true);
}

/* ---- start ---- */

static int recover_images(struct sched *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct image *list;
    size_t n;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || image_list(c, a, NULL, &list, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].state, "taking") != 0 && strcmp(list[i].state, "trash") != 0)
            continue;
        log_event(LOG_INFO, "sched", "an unfinished image is removed", "image", list[i].id, NULL);
        if (capture_discard(&s->env, list[i].id, err) < 0)
            return -1;
    }
    return 0;
}

static int is_known(struct dbc *c, struct arena *a, const char *volume, bool *ret, struct err *err)
{
    struct branch b;
    struct image i;
    struct endpoint e;
    *ret = true;
    if (branch_get_id(c, a, volume, &b, err) == 0 ||
        (err->code == ERR_NOT_FOUND && image_get(c, a, volume, &i, err) == 0) ||
        (err->code == ERR_NOT_FOUND && endpoint_get_id(c, a, volume, &e, err) == 0))
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *ret = false;
    return 0;
}

/* A volume that no row knows is reported and left alone: it may be somebody's only copy. */
static int report_unknown(struct sched *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char **ids;
    size_t n;
    if (store_list(s->env.store, a, &ids, &n, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        bool known;
        if (is_known(c, a, ids[i], &known, err) < 0)
            return -1;
        if (!known)
            log_event(LOG_WARN, "sched", "a volume that belongs to nothing; it is left alone", "volume",
                      ids[i], NULL);
    }
    return 0;
}

static int adopt(struct sched *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct endpoint *list;
    size_t n;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || endpoint_list(c, a, NULL, NULL, true, &list, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        struct err why = ERR_INIT;
        if (supervise_adopt(s, &list[i], &why) < 0) /* one broken endpoint must not keep all others down */
            log_event(LOG_ERROR, "sched", "cannot take over an endpoint", "ep", list[i].id, "error", why.msg,
                      "detail", why.detail, NULL);
    }
    pooler_adopt(s);
    follow_look(s);
    return 0;
}

static void fill_info(struct sched *s, const struct sched_config *cfg)
{
    int64_t *versions = arena_alloc(s->arena, cfg->env.n_installs * sizeof(*versions));
    for (size_t i = 0; i < cfg->env.n_installs; i++)
        versions[i] = cfg->env.installs[i].major;
    bool any = strcmp(cfg->pg_host, "0.0.0.0") == 0 || strcmp(cfg->pg_host, "::") == 0;
    const char *run_name = strrchr(cfg->env.run_dir, '/') + 1;
    s->info = (struct sched_info){ .version = arena_strdup(s->arena, cfg->version),
                                   .pg_host = any ? "127.0.0.1" : arena_strdup(s->arena, cfg->pg_host),
                                   .pg_port = cfg->pg_port,
                                   .host_suffix = cfg->host_suffix ? arena_strdup(s->arena, cfg->host_suffix)
                                                                   : "localhost",
                                   .has_domain = cfg->host_suffix != NULL,
                                   .region_id = "local",
                                   .pg_versions = versions,
                                   .n_pg_versions = cfg->env.n_installs,
                                   .store_driver = store_driver(cfg->env.store),
                                   .cgroups = cgroup_kind_name(cgroup_init(run_name)),
                                   .default_min_cu = DEFAULT_MIN_CU,
                                   .default_max_cu = DEFAULT_MAX_CU,
                                   .pooler = pg_pooler_program_new(cfg->pgbouncer) };
}

static struct sched *sched_new(const struct sched_config *cfg)
{
    struct sched *s = xcalloc(1, sizeof(*s));
    pthread_condattr_t attr;
    pthread_rwlock_init(&s->history_lock, NULL);
    pthread_mutex_init(&s->change_mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->change_cond, &attr);
    pthread_condattr_destroy(&attr);
    s->env = cfg->env;
    s->arena = arena_new(0);
    s->inotify_fd = s->cert_fd = s->cert_key_fd = -1;
    s->certs = cfg->certs;
    s->hangup_ends = cfg->hangup_ends;
    s->reload = cfg->reload;
    s->reload_arg = cfg->reload_arg;
    service_live(s, &cfg->live);
    memcpy(s->secret, cfg->secret, sizeof(s->secret));
    fill_info(s, cfg);
    return s;
}

static int start_loop(struct sched *s, const struct sched_config *cfg, struct err *err)
{
    struct keeper_spec proxy = { .listen_host = cfg->pg_host,
                                 .listen_port = cfg->pg_port,
                                 .listen_fd = cfg->pg_fd,
                                 .flags = cfg->live.proxy_flags,
                                 .drain_ms = cfg->live.drain_ms,
                                 .uid = cfg->proxy_uid,
                                 .gid = cfg->proxy_gid };
    s->loop = loop_new(err);
    if (!s->loop || service_start(s, err) < 0)
        return -1;
    s->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (s->inotify_fd < 0)
        return err_sys(err, "inotify");
    s->inotify_source = loop_fd_add(s->loop, s->inotify_fd, LOOP_READ, supervise_on_inotify, s);
    s->housekeeping = loop_timer_new(s->loop, on_housekeeping, s);
    loop_timer_set(s->housekeeping, HOUSEKEEPING_MS);
    loop_on_kick(s->loop, on_kick, s);
    db_on_insert(s->env.db, DIRECTORY_CHANGES, on_directory_change, s);
    if (workers_start(s, WORKERS, err) < 0 || certs_start(s, err) < 0 || wake_start(s, err) < 0 ||
        keeper_start(s, &proxy, err) < 0 || adopt(s, err) < 0)
        return -1;
    ops_look(s);
    if (pthread_create(&s->loop_thread, NULL, run_loop, s) != 0)
        return err_set(err, ERR_INTERNAL, "cannot start the loop thread");
    s->loop_running = true;
    return 0;
}

int sched_start(const struct sched_config *cfg, struct sched **ret, struct err *err)
{
    struct sched *s = sched_new(cfg);
    for (size_t i = 0; i < cfg->env.n_installs; i++)
        if (template_ensure(&s->env, &cfg->env.installs[i], err) < 0)
            goto failed;
    if (recover_images(s, err) < 0 || report_unknown(s, err) < 0 || start_loop(s, cfg, err) < 0 ||
        keeper_wait(s, err) < 0)
        goto failed;
    *ret = s;
    return 0;
failed:
    sched_abandon(s);
    return -1;
}
