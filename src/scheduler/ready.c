/*
 * ready.c - between spawned and running: watches, joins the control group, verifies a first start, applies
 * what waits
 */
#include "scheduler/internal.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "branch/materialise.h"
#include "branch/volume.h"
#include "pg/control.h"
#include "pg/empty.h"
#include "pg/relmap.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Postgres says what it is doing in postmaster.pid and in global/pg_control. */
void supervise_watch_data(struct compute *c)
{
    auto_arena *a = arena_new(0);
    const char *pgdata = env_pgdata(&c->s->env, a, c->volume_id);
    c->inotify_wd[0] = inotify_add_watch(c->s->inotify_fd, pgdata, IN_CREATE | IN_MODIFY);
    c->inotify_wd[1] = inotify_add_watch(c->s->inotify_fd, arena_printf(a, "%s/global", pgdata), IN_MODIFY);
}

void supervise_unwatch_data(struct compute *c)
{
    for (size_t i = 0; i < N_ELEMENTS(c->inotify_wd); i++) {
        if (c->inotify_wd[i] >= 0)
            (void)inotify_rm_watch(c->s->inotify_fd, c->inotify_wd[i]);
        c->inotify_wd[i] = -1;
    }
}

/* ---- ready: verify a first start, apply what waits ---- */

struct finish {
    struct task t;
    char id[ID_MAX + 1];
    char branch_id[ID_MAX + 1];
    int64_t generation;
    bool standby, first, pending_roles;
    uint64_t least;
    struct pg_admin *admin;
};

static int open_admin(struct finish *f, struct err *err)
{
    struct task *t = &f->t;
    return f->admin ? 0 : pg_admin_open(env_socket_dir(&t->s->env, t->a, f->id), 10000, &f->admin, err);
}

/* What the parent's publisher sends is the parent's.  Most branches have no subscription: then no session is
 * on the way of the first client. */
static int disable_subscriptions(struct finish *f, const struct branch *b, struct err *err)
{
    int64_t n;
    if (!pg_may_have_subscriptions(env_pgdata(&f->t.s->env, f->t.a, b->volume_id)))
        return 0;
    if (open_admin(f, err) < 0 || pg_admin_disable_subscriptions(f->admin, &n, err) < 0)
        return -1;
    if (n > 0)
        log_event(LOG_INFO, "start", "subscriptions disabled", "br", b->id, "n",
                  arena_printf(f->t.a, "%" PRId64, n), NULL);
    return 0;
}

/* What it was cloned from has rows that are not its own.  Up to where it has them nobody ever comes. */
static int empty_first(struct finish *f, uint64_t *ret_lsn, struct err *err)
{
    const char *socket_dir = env_socket_dir(&f->t.s->env, f->t.a, f->id);
    if (pg_empty(socket_dir, SUPERVISE_START_TIMEOUT_MS, err) < 0 || open_admin(f, err) < 0 ||
        pg_admin_mark(f->admin, "emptied", ret_lsn, err) < 0)
        return err_wrap(err, "emptying");
    log_event(LOG_INFO, "start", "a schema without its rows", "br", f->branch_id, NULL);
    CRASH_POINT("start.emptied");
    return 0;
}

static int verify_first(struct finish *f, struct err *err)
{
    struct sched *s = f->t.s;
    struct branch b;
    uint32_t tli;
    uint64_t begins_lsn = 0;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || branch_get_id(c, f->t.a, f->branch_id, &b, err) < 0)
            return -1;
    }
    if (materialise_verify(&s->env, f->t.a, &b, &tli, err) < 0 || disable_subscriptions(f, &b, err) < 0)
        return -1;
    if (branch_awaits_emptying(&b) && empty_first(f, &begins_lsn, err) < 0)
        return -1;
    CRASH_POINT("start.verified");
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 ||
        (begins_lsn != 0 && branch_set_begins(c, f->branch_id, begins_lsn, err) < 0) ||
        branch_set_volume(c, f->branch_id, "ready", err) < 0 || branch_set_tli(c, f->branch_id, tli, err) < 0)
        return -1;
    return db_commit(c, err);
}

/* A standby is looked at from inside: what it has replayed shows in no file. */
static int verify_standby(struct finish *f, struct err *err)
{
    struct sched *s = f->t.s;
    struct branch b;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || branch_get_id(c, f->t.a, f->branch_id, &b, err) < 0)
            return -1;
    }
    if (pg_admin_open(env_socket_dir(&s->env, f->t.a, f->id), 10000, &f->admin, err) < 0)
        return -1;
    CRASH_POINT("start.replaying");
    if (f->least != 0)
        return materialise_verify_follower(f->least, f->admin, SUPERVISE_START_TIMEOUT_MS, err);
    return materialise_verify_moment(&b, f->admin, SUPERVISE_START_TIMEOUT_MS, err);
}

/* An operation that tries again and says why not, unless there is one for the branch already. */
static int add_apply(struct finish *f, struct err *err)
{
    auto_dbc *c = NULL;
    struct branch b;
    struct operation *open;
    size_t n;
    int64_t now = clock_wall_us();
    if (db_write(f->t.s->env.db, &c, err) < 0 || branch_get_id(c, f->t.a, f->branch_id, &b, err) < 0 ||
        operation_list_open(c, f->t.a, &open, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(open[i].action, "apply_config") == 0 && !open[i].endpoint_id && open[i].branch_id &&
            strcmp(open[i].branch_id, b.id) == 0)
            return 0;
    struct operation o = { .id = id_uuid(f->t.a),
                           .project_id = b.project_id,
                           .branch_id = b.id,
                           .action = "apply_config",
                           .status = "scheduling",
                           .created_at = now,
                           .updated_at = now };
    return operation_insert(c, &o, err) < 0 ? -1 : db_commit(c, err);
}

/* Whoever has all he needs is let in: what could not be applied goes on waiting, and is seen to. */
static void apply_waiting(struct finish *f)
{
    struct task *t = &f->t;
    struct err err = ERR_INIT;
    const char *socket_dir = env_socket_dir(&t->s->env, t->a, f->id);
    if (open_admin(f, &err) == 0 && job_apply_pending(t->s, t->a, f->branch_id, f->admin, true, &err) == 0 &&
        job_apply_extensions(t->s, t->a, f->branch_id, socket_dir, true, &err) == 0)
        return;
    log_event(t->s->stop_asked ? LOG_INFO : LOG_WARN, "start",
              "a role, database or extension is not applied yet", "ep", f->id, "error", err.msg, "detail",
              err.detail, NULL);
    pg_admin_close(f->admin);
    f->admin = NULL;
    if (add_apply(f, &err) < 0)
        log_event(LOG_ERROR, "start", "cannot make an operation", "ep", f->id, "error", err.msg, "detail",
                  err.detail, NULL);
    sched_kick(t->s);
}

static void finish_run(struct task *t)
{
    struct finish *f = (struct finish *)t;
    t->rc = f->standby ? verify_standby(f, &t->err) : f->first ? verify_first(f, &t->err) : 0;
    if (t->rc == 0 && f->pending_roles)
        apply_waiting(f);
}

static void finish_done(struct task *t)
{
    struct finish *f = (struct finish *)t;
    struct compute *c = f->t.c;
    c->finishing = false;
    if (c->state != COMPUTE_STARTING || c->generation != f->generation) { /* it ended meanwhile */
        pg_admin_close(f->admin);
        supervise_look_at_status(c); /* what is starting now may have waited for us */
        return;
    }
    if (t->rc < 0) {
        pg_admin_close(f->admin);
        log_event(LOG_ERROR, "start", "first start refused", "ep", c->id, "error", t->err.msg, "detail",
                  t->err.detail, NULL);
        compute_fail(c, t->err.code, t->err.msg);
        compute_event(c, EVENT_ERROR);
        return;
    }
    c->admin = f->admin;
    compute_event(c, EVENT_READY);
}

static void server_ready(struct compute *c)
{
    supervise_unwatch_data(c);
    c->phases.up_ms = clock_mono_ms();
    if (!c->standby && !c->first && !c->pending_roles) {
        compute_event(c, EVENT_READY);
        return;
    }
    struct finish *f = task_new(c->s, sizeof(*f), finish_run, finish_done);
    f->t.c = c;
    f->generation = c->generation;
    f->standby = c->standby;
    f->least = c->least;
    f->t.slow = c->standby || c->empties; /* how much there is to replay or to empty nobody knows */
    f->first = c->first;
    f->pending_roles = c->pending_roles;
    snprintf(f->id, sizeof(f->id), "%s", c->id);
    snprintf(f->branch_id, sizeof(f->branch_id), "%s", c->branch_id);
    c->finishing = true;
    task_submit(&f->t);
}

/* "ready" is also what a server in recovery says that lets readers in: a first start has to be out of it, and
 * a standby stays there. */
static bool is_ready(struct compute *c)
{
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    struct pg_control control;
    const char *pgdata = env_pgdata(&c->s->env, a, c->volume_id);
    int64_t pid;
    if (pg_status_read(pgdata, &pid) != PG_STATUS_READY)
        return false;
    return pg_control_read(pgdata, &control, &ignored) == 0 &&
           control.state == (c->standby ? PG_STATE_ARCHIVE_RECOVERY : PG_STATE_PRODUCTION);
}

/* Its recovery is done but for this word; said once, and again by who adopts it. */
static void promote_if_due(struct compute *c)
{
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    struct pg_control control;
    const struct env *env = &c->s->env;
    const char *pgdata = env_pgdata(env, a, c->volume_id);
    if (c->standby || !c->first || c->promoted || pg_control_read(pgdata, &control, &err) < 0 ||
        control.state != PG_STATE_ARCHIVE_RECOVERY || !volume_awaits_promotion(pgdata))
        return;
    const char *path = arena_printf(a, "%s/" PG_PROMOTE_FILE, pgdata);
    if (fs_write_plain(path, "", 0, 0600, env->uid, env->gid, &err) < 0) {
        log_event(LOG_ERROR, "start", "cannot promote", "ep", c->id, "error", err.msg, "detail", err.detail,
                  NULL);
        compute_fail(c, err.code, err.msg);
        compute_event(c, EVENT_ERROR);
        return;
    }
    c->promoted = true;
    (void)proc_signal(c->pidfd, SIGUSR1);
}

void supervise_look_at_status(struct compute *c)
{
    if (c->state == COMPUTE_STARTING)
        promote_if_due(c);
    if (c->state == COMPUTE_STARTING && !c->finishing && !c->joining && is_ready(c))
        server_ready(c);
}

static void look_if_watched(struct compute *c, void *arg)
{
    const int *wd = arg;
    if (c->inotify_wd[0] == *wd || c->inotify_wd[1] == *wd)
        supervise_look_at_status(c);
}

void supervise_on_inotify(void *arg, int fd, unsigned events)
{
    struct sched *s = arg;
    char data[16384] __attribute__((aligned(8)));
    (void)events;
    ssize_t n = read(fd, data, sizeof(data));
    for (ssize_t at = 0; n > 0 && at < n;) {
        struct inotify_event *ev = (struct inotify_event *)(data + at);
        if (ev->len > 0 && (strcmp(ev->name, "postmaster.pid") == 0 || strcmp(ev->name, "pg_control") == 0))
            compute_each(s, look_if_watched, &ev->wd);
        at += (ssize_t)(sizeof(*ev) + ev->len);
    }
}

/* ---- its control group (worker, beside the start) ---- */

struct join {
    struct task t;
    char id[ID_MAX + 1];
    int64_t pid, generation;
};

static void join_run(struct task *t)
{
    struct join *j = (struct join *)t;
    t->rc = cgroup_join(j->id, j->pid, &t->err);
}

static void join_done(struct task *t)
{
    struct join *j = (struct join *)t;
    struct compute *c = j->t.c;
    if (c->generation != j->generation)
        return;
    c->joining = false;
    if (c->state != COMPUTE_STARTING)
        return;
    if (t->rc < 0) {
        log_event(LOG_ERROR, "start", "no control group", "ep", c->id, "error", t->err.msg, "detail",
                  t->err.detail, NULL);
        compute_fail(c, t->err.code, t->err.msg);
        compute_event(c, EVENT_ERROR);
        return;
    }
    supervise_look_at_status(c);
}

void supervise_join_group(struct compute *c)
{
    struct join *j = task_new(c->s, sizeof(*j), join_run, join_done);
    j->t.c = c;
    j->pid = c->who.pid;
    j->generation = c->generation;
    snprintf(j->id, sizeof(j->id), "%s", c->id);
    c->joining = true;
    task_submit(&j->t);
}
