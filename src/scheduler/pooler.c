/*
 * pooler.c - PgBouncer beside a compute: started for the first client that asks for it, gone with the compute
 *
 * An endpoint that nobody pools has no process, no file and no session of it.  Nothing of it is in the
 * metadata: the lock that it holds says which process it is, and so one that survived us is found again.  One
 * that ends by itself is started again for the next client.
 */
#include "scheduler/internal.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "pg/pooler.h"
#include "pg/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define READY_MS 10000
#define PROBE_MS 2 /* it takes some 10 ms, and says nothing when it listens */
#define END_MS   2000

enum pooler_state { POOLER_PREPARING, POOLER_STARTING, POOLER_READY };

struct pooler {
    struct compute *c;
    enum pooler_state state;
    bool stale; /* the roles have changed before it could be told */
    int pidfd;
    struct loop_fd *source;
    struct loop_timer *probe; /* STARTING */
    int64_t since_ms;
    char *socket;
};

const char *pooler_socket(const struct compute *c)
{
    return c->pooler && c->pooler->state == POOLER_READY ? c->pooler->socket : NULL;
}

static struct pooler *pooler_new(struct compute *c)
{
    auto_arena *a = arena_new(0);
    struct pooler *p = xcalloc(1, sizeof(*p));
    p->c = c;
    p->pidfd = -1;
    p->since_ms = clock_mono_ms();
    p->socket = xstrdup(pg_pooler_socket(a, env_socket_dir(&c->s->env, a, c->id)));
    return p;
}

void pooler_free(struct pooler *p)
{
    if (!p)
        return;
    loop_fd_del(p->source);
    loop_timer_del(p->probe);
    fd_close(&p->pidfd);
    free(p->socket);
    free(p);
}

/* Those who wait for it are told; the next one that asks finds it tried again. */
static void give_up(struct compute *c, const char *sqlstate, const char *why, const char *hint)
{
    pooler_free(TAKE(c->pooler));
    wake_refuse_pooled(c, sqlstate, why, hint);
}

static void fail(struct compute *c, const struct err *err)
{
    log_event(LOG_WARN, "pooler", "cannot start", "ep", c->id, "error", err->msg, "detail", err->detail,
              NULL);
    give_up(c, "57P03", "the pooler of this endpoint could not be started", err->msg);
}

/* ---- the roles it knows ---- */

static int write_users(struct sched *s, const struct compute *c, struct err *err)
{
    auto_arena *a = arena_new(0);
    auto_buf users = { 0 };
    struct role *roles;
    size_t n;
    {
        auto_dbc *db = NULL;
        if (db_read(s->env.db, &db, err) < 0 || role_list(db, a, c->branch_id, false, &roles, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        const char *verifier;
        if (!roles[i].verifier || roles[i].no_login)
            continue;
        if (secret_open_verifier(s, a, &roles[i], &verifier, err) < 0)
            return -1;
        pg_pooler_user_add(&users, roles[i].name, verifier);
    }
    const char *path = arena_printf(a, "%s/" PG_POOLER_USERS_FILE, env_pool_dir(&s->env, a, c->id));
    int rc = fs_write_plain(path, buf_str(&users), users.len, 0600, s->env.uid, s->env.gid, err);
    explicit_bzero(users.data, users.len);
    return rc;
}

/* Its login of a client that comes from now on finds them. */
static void tell_users(struct pooler *p)
{
    struct err err = ERR_INIT;
    p->stale = false;
    if (write_users(p->c->s, p->c, &err) < 0)
        log_event(LOG_ERROR, "pooler", "cannot tell it the roles", "ep", p->c->id, "error", err.msg, "detail",
                  err.detail, NULL);
    else
        (void)proc_signal(p->pidfd, SIGHUP);
}

void pooler_users_changed(struct sched *s, const char *endpoint_id)
{
    struct compute *c = compute_find(s, endpoint_id);
    if (c && pooler_socket(c))
        tell_users(c->pooler);
    else if (c && c->pooler)
        c->pooler->stale = true;
}

/* ---- watching it ---- */

static void on_end(void *arg, int fd, unsigned events)
{
    struct pooler *p = arg;
    struct compute *c = p->c;
    (void)events;
    (void)proc_reap(fd);
    log_event(LOG_WARN, "pooler", "pgbouncer ended by itself", "ep", c->id, NULL);
    give_up(c, "57P03", "the pooler of this endpoint ended while it started",
            "Try again; the log of the endpoint says why.");
}

/* The door is shut, or was never open: there is nothing that it could do in order. */
static void kill_process(struct pooler *p)
{
    if (p->pidfd >= 0 && proc_signal(p->pidfd, SIGKILL) == 0 && proc_wait_exit(p->pidfd, END_MS))
        (void)proc_reap(p->pidfd);
}

/* It listens first, and only then lets others than its own user come near. */
static bool is_listening(const char *path)
{
    struct stat st;
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || strlen(path) >= sizeof(addr.sun_path) || stat(path, &st) < 0 || !(st.st_mode & S_IWOTH))
        return false;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 || errno == EAGAIN;
}

static void on_probe(void *arg)
{
    struct pooler *p = arg;
    struct compute *c = p->c;
    if (is_listening(p->socket)) {
        p->state = POOLER_READY;
        if (p->stale)
            tell_users(p);
        if (c->state == COMPUTE_RUNNING)
            wake_answer(c);
    } else if (clock_mono_ms() - p->since_ms < READY_MS) {
        loop_timer_set(p->probe, PROBE_MS);
    } else {
        struct err err = ERR_INIT;
        (void)!err_set(&err, ERR_TIMEOUT, "pgbouncer did not listen in time");
        kill_process(p);
        fail(c, &err);
    }
}

static void watch(struct pooler *p)
{
    p->state = POOLER_STARTING;
    p->source = loop_fd_add(p->c->s->loop, p->pidfd, LOOP_READ, on_end, p);
    p->probe = loop_timer_new(p->c->s->loop, on_probe, p);
    loop_timer_set(p->probe, PROBE_MS);
}

/* ---- its control group (worker) ---- */

struct join {
    struct task t;
    char id[ID_MAX + 1];
    int64_t pid;
};

static void join_run(struct task *t)
{
    struct join *j = (struct join *)t;
    t->rc = cgroup_join(j->id, j->pid, &t->err);
}

static void join_done(struct task *t)
{
    if (t->rc < 0)
        log_event(LOG_ERROR, "pooler", "no control group", "ep", t->c->id, "error", t->err.msg, "detail",
                  t->err.detail, NULL);
}

static void join_group(struct compute *c, int64_t pid)
{
    struct join *j = task_new(c->s, sizeof(*j), join_run, join_done);
    j->t.c = c;
    j->pid = pid;
    snprintf(j->id, sizeof(j->id), "%s", c->id);
    task_submit(&j->t);
}

/* ---- starting it ---- */

struct prepare {
    struct task t;
    char id[ID_MAX + 1];
    int64_t generation, max_clients;
    int lock_fd;
    const char *const *argv;
};

static int write_conf(struct prepare *p, int64_t version, struct err *err)
{
    struct sched *s = p->t.s;
    auto_buf text = { 0 };
    const struct pg_pooler_conf conf = { .socket_dir = env_socket_dir(&s->env, p->t.a, p->id),
                                         .conf_dir = env_pool_view(&s->env, p->t.a, p->id),
                                         .max_connections = p->max_clients,
                                         .version = version };
    pg_pooler_conf_text(&conf, &text);
    return fs_write_plain(
        arena_printf(p->t.a, "%s/" PG_POOLER_CONF_FILE, env_pool_dir(&s->env, p->t.a, p->id)), text.data,
        text.len, 0600, s->env.uid, s->env.gid, err);
}

static int prepare(struct prepare *p, struct err *err)
{
    struct sched *s = p->t.s;
    int64_t version = pg_pooler_version(s->info.pooler);
    if (version == 0)
        return err_set(err, ERR_NOT_SUPPORTED, "%s cannot be run; install the package " PG_POOLER_PACKAGE,
                       pg_pooler_program_path(s->info.pooler));
    if (fs_mkdir(env_pool_dir(&s->env, p->t.a, p->id), 0700, s->env.uid, s->env.gid, err) < 0)
        return -1;
    int got = fs_lock(env_pool_lock(&s->env, p->t.a, p->id), true, &p->lock_fd, err);
    if (got == 0)
        return err_set(err, ERR_UNAVAILABLE, "an earlier pgbouncer of endpoint %s is still there", p->id);
    if (got < 0 || write_conf(p, version, err) < 0)
        return -1;
    p->argv = env_pool_exec_argv(&s->env, p->t.a, p->id,
                                 pg_pooler_argv(p->t.a, pg_pooler_program_path(s->info.pooler),
                                                env_pool_view(&s->env, p->t.a, p->id)));
    return 0;
}

static void prepare_run(struct task *t)
{
    t->rc = prepare((struct prepare *)t, &t->err);
}

static int spawn(struct pooler *p, const struct prepare *k, struct err *err)
{
    struct compute *c = p->c;
    struct proc_identity who;
    auto_fd log_fd =
        open(env_log(&c->s->env, k->t.a, c->id), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct proc_spec spec = {
        .argv = k->argv, .stdin_fd = -1, .stdout_fd = log_fd, .stderr_fd = log_fd, .keep_fd = k->lock_fd
    };
    if (write_users(c->s, c, err) < 0 || proc_spawn(&spec, &who, &p->pidfd, err) < 0)
        return -1;
    CRASH_POINT("pooler.spawned");
    join_group(c, who.pid);
    watch(p);
    return 0;
}

static void prepare_done(struct task *t)
{
    struct prepare *k = (struct prepare *)t;
    struct compute *c = t->c;
    struct err ignored = ERR_INIT;
    bool wanted = c->pooler && c->pooler->state == POOLER_PREPARING && c->generation == k->generation;
    if (wanted && (t->rc < 0 || spawn(c->pooler, k, &t->err) < 0))
        fail(c, &t->err);
    if (!wanted && !c->pooler) /* the compute ended meanwhile */
        (void)!fs_remove_tree(env_pool_dir(&c->s->env, t->a, c->id), false, &ignored);
    fd_close(&k->lock_fd); /* the process has its own */
}

void pooler_start(struct compute *c)
{
    if (c->pooler)
        return;
    c->pooler = pooler_new(c);
    struct prepare *k = task_new(c->s, sizeof(*k), prepare_run, prepare_done);
    k->t.c = c;
    k->generation = c->generation;
    k->max_clients = c->max_clients;
    k->lock_fd = -1;
    snprintf(k->id, sizeof(k->id), "%s", c->id);
    task_submit(&k->t);
}

/* ---- its end, and finding it again ---- */

void pooler_stop(struct compute *c)
{
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    struct pooler *p = TAKE(c->pooler);
    if (!p)
        return;
    kill_process(p);
    pooler_free(p);
    (void)!fs_remove_tree(env_pool_dir(&c->s->env, a, c->id), false, &ignored);
}

/* The process that holds the lock of this endpoint's pooler; -1 = none. */
static int find_holder(const struct env *env, struct arena *a, const char *endpoint_id, struct err *err)
{
    const char *lock = env_pool_lock(env, a, endpoint_id);
    auto_fd free_fd = -1, pidfd = -1;
    int64_t *pids, *still;
    size_t n, n_still;
    if (fs_lock(lock, true, &free_fd, err) != 0 || proc_holders(a, lock, &pids, &n, err) < 0 || n != 1)
        return -1;
    pidfd = pidfd_open((pid_t)pids[0], 0);
    /* Whose descriptor is open and who still holds the lock is not somebody else with the same number. */
    if (pidfd < 0 || proc_holders(a, lock, &still, &n_still, err) < 0 || n_still != 1 || still[0] != pids[0])
        return -1;
    return TAKE_FD(pidfd);
}

static void adopt_one(struct sched *s, struct arena *a, const char *endpoint_id)
{
    struct err err = ERR_INIT;
    struct compute *c = compute_find(s, endpoint_id);
    auto_fd pidfd = find_holder(&s->env, a, endpoint_id, &err);
    if (pidfd >= 0 && c && c->state == COMPUTE_RUNNING) {
        c->pooler = pooler_new(c);
        c->pooler->pidfd = TAKE_FD(pidfd);
        c->pooler->stale = true; /* what it was told last is not known */
        watch(c->pooler);
        return;
    }
    if (pidfd >= 0 && proc_signal(pidfd, SIGKILL) == 0)
        (void)proc_wait_exit(pidfd, END_MS);
    if (fs_remove_tree(env_pool_dir(&s->env, a, endpoint_id), false, &err) < 0)
        log_event(LOG_WARN, "pooler", "cannot remove what is left of a pooler", "ep", endpoint_id, "error",
                  err.msg, NULL);
}

void pooler_adopt(struct sched *s)
{
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    const char **names;
    size_t n;
    if (fs_list(a, arena_printf(a, "%s/pool", s->env.run_dir), &names, &n, &err) < 0) {
        log_event(LOG_ERROR, "pooler", "cannot look for poolers", "error", err.msg, "detail", err.detail,
                  NULL);
        return;
    }
    for (size_t i = 0; i < n; i++)
        adopt_one(s, a, names[i]);
}
