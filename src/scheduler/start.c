/*
 * start.c - from wanted to running: prepare, spawn, watch, verify, release; and finding again what survived
 * us
 */
#include "scheduler/internal.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "branch/materialise.h"
#include "branch/volume.h"
#include "meta/image.h"
#include "meta/project.h"
#include "meta/usage.h"
#include "pg/conf.h"
#include "pg/control.h"
#include "pg/extension.h"
#include "pg/settings.h"
#include "scheduler/moment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MAX_MS  60000
#define LOG_KEEP_BYTES  (16 << 20)
#define LOG_TAIL_BYTES  16384
#define CU_MEMORY_BYTES ((uint64_t)4 << 30)

/* ---- prepare (worker) ---- */

struct prepare {
    struct task t;
    char id[ID_MAX + 1];
    char start_op[ID_MAX + 1];
    bool make_op;
    int lock_fd;
    struct endpoint e;
    struct branch b;
    const char *const *argv;
    const char *socket;
    int64_t max_clients;
    bool standby, first, pending_roles;
    struct pg_needs needs; /* of a standby */
    const char *volume_id;
    uint64_t least;
};

static int read_rows(struct prepare *p, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(p->t.s->env.db, &c, err) < 0 || endpoint_get_id(c, p->t.a, p->id, &p->e, err) < 0 ||
        branch_get_id(c, p->t.a, p->e.branch_id, &p->b, err) < 0 ||
        role_any_pending(c, p->b.id, &p->pending_roles, err) < 0)
        return -1;
    p->volume_id = supervise_volume(&p->e, &p->b);
    if (strcmp(p->b.state, "damaged") == 0 || supervise_is_lost(&p->b))
        return err_set(err, ERR_DAMAGED,
                       "branch %s is damaged: its computer went down while durability was relaxed, or its "
                       "data is missing",
                       p->b.id);
    if (strcmp(p->b.state, "ready") != 0)
        return err_set(err, ERR_UNAVAILABLE, "branch %s is not ready yet", p->b.id);
    if (p->e.disabled)
        return err_set(err, ERR_PRECONDITION, "endpoint %s is disabled", p->e.id);
    if (branch_awaits_emptying(&p->b) && strcmp(p->e.type, "read_only") == 0)
        return err_set(
            err, ERR_PRECONDITION,
            "branch %s gets its schema when its read_write endpoint is started for the first time; "
            "start that one first",
            p->b.id);
    return 0;
}

bool supervise_follows(const struct endpoint *e, const struct branch *b)
{
    return strcmp(e->type, "read_only") == 0 && strcmp(b->kind, "user") == 0;
}

const char *supervise_volume(const struct endpoint *e, const struct branch *b)
{
    return supervise_follows(e, b) ? e->id : b->volume_id;
}

bool supervise_is_lost(const struct branch *b)
{
    return strcmp(b->durability, "relaxed") == 0 && strcmp(b->volume, "ready") == 0 && b->head_lsn == 0 &&
           b->boot_id && strcmp(b->boot_id, proc_boot_id()) != 0;
}

static int insert_start_op(struct prepare *p, struct dbc *c, struct err *err)
{
    int64_t now = clock_wall_us();
    struct operation o = { .id = id_uuid(p->t.a),
                           .project_id = p->e.project_id,
                           .branch_id = p->b.id,
                           .endpoint_id = p->e.id,
                           .action = "start_compute",
                           .status = "running",
                           .created_at = now,
                           .updated_at = now };
    snprintf(p->start_op, sizeof(p->start_op), "%s", o.id);
    return operation_insert(c, &o, err);
}

/* Before anything happens on disk: it is wanted, the generation is new, and where its WAL ends is unknown
 * from here on. */
static int write_intent(struct prepare *p, struct err *err)
{
    auto_dbc *c = NULL;
    int64_t now = clock_wall_us();
    p->e.generation++;
    p->e.observed = compute_state_name(COMPUTE_PREPARING);
    p->e.process = (struct proc_identity){ 0 };
    snprintf(p->e.process.boot_id, sizeof(p->e.process.boot_id), "%s", proc_boot_id());
    p->e.last_error = NULL;
    if (db_write(p->t.s->env.db, &c, err) < 0 || endpoint_set_desired(c, p->e.id, "running", now, err) < 0 ||
        endpoint_set_observed(c, &p->e, err) < 0 || (!p->standby && branch_set_head(c, p->b.id, 0, err) < 0))
        return -1;
    if (!p->standby && strcmp(p->b.durability, "relaxed") == 0 &&
        branch_set_boot(c, p->b.id, proc_boot_id(), err) < 0)
        return -1;
    if (p->make_op && insert_start_op(p, c, err) < 0)
        return -1;
    return db_commit(c, err);
}

/* Holding the lock, what these files say of an earlier process is stale: Postgres itself would trust any live
 * pid in them. */
static void remove_stale(struct prepare *p)
{
    struct sched *s = p->t.s;
    const char *socket = pg_conf_socket(p->t.a, env_socket_dir(&s->env, p->t.a, p->id));
    (void)unlink(arena_printf(p->t.a, "%s/postmaster.pid", env_pgdata(&s->env, p->t.a, p->b.volume_id)));
    (void)unlink(socket);
    (void)unlink(arena_printf(p->t.a, "%s.lock", socket));
}

static int make_dirs(struct prepare *p, struct err *err)
{
    const struct env *env = &p->t.s->env;
    const char *socket_dir = env_socket_dir(env, p->t.a, p->id);
    if (fs_mkdir(socket_dir, 0750, env->uid, env->as_root ? env->proxy_gid : env->gid, err) < 0)
        return -1;
    return fs_mkdir(env_conf_dir(env, p->t.a, p->id), 0755, (uid_t)-1, (gid_t)-1, err);
}

/* Those of the endpoint, else those of its project.  One that is gone is told, not left out: nobody would
 * know what is missing. */
static int preload_of(struct prepare *p, const struct project *project, const struct pg_install *install,
                      const char **ret, struct err *err)
{
    json_auto_t *settings = project->settings ? json_loads(project->settings, 0, NULL) : NULL;
    json_auto_t *own = p->e.preload_libraries ? json_loads(p->e.preload_libraries, 0, NULL) : NULL;
    json_t *chosen = own ? own : json_object_get(settings, "preload_libraries");
    json_t *names = json_object_get(chosen, "enabled_libraries");
    if (pg_preload_check(install, names, "", err) < 0)
        return err_wrap(err, "preload_libraries");
    *ret = pg_preload_text(p->t.a, names);
    return 0;
}

static int configure(struct prepare *p, const struct project *project, struct err *err)
{
    struct sched *s = p->t.s;
    struct arena *a = p->t.a;
    const struct pg_install *install = env_install(&s->env, project->pg_version);
    struct env_view view;
    const char *preload = "";
    json_auto_t *settings = p->e.pg_settings ? json_loads(p->e.pg_settings, 0, NULL) : NULL;
    if (!install)
        return err_set(err, ERR_PRECONDITION,
                       "Postgres %" PRId64 " is not installed any more; install it again to use this branch",
                       project->pg_version);
    if (preload_of(p, project, install, &preload, err) < 0)
        return -1;
    double cu = p->e.max_cu < 1 ? 1 : p->e.max_cu; /* a start must not crawl: never less than one CPU */
    if (cgroup_create(p->id, cgroup_has_limits() ? (uint64_t)(p->e.max_cu * (double)CU_MEMORY_BYTES) : 0,
                      cgroup_has_limits() ? (int64_t)(cu * 1000) : 0, err) < 0)
        return -1;
    const char *followed = supervise_follows(&p->e, &p->b) ? p->b.volume_id : NULL;
    env_view(&s->env, a, p->volume_id, p->volume_id, followed, &view);
    struct pg_conf conf = { .bindir = install->bindir,
                            .data_dir = view.data_dir,
                            .archive_dir = view.archive,
                            .wal_tool = view.wal_tool,
                            .socket_dir = env_socket_dir(&s->env, a, p->id),
                            .conf_dir = env_conf_dir(&s->env, a, p->id),
                            .os_user = s->env.os_user,
                            .first_start = p->first && !p->standby,
                            .promoted = volume_awaits_promotion(env_pgdata(&s->env, a, p->volume_id)),
                            .fork_tli = (uint32_t)p->b.fork_tli,
                            .standby = p->standby,
                            .followed = view.followed,
                            .needs = p->needs,
                            .private_shm = s->env.as_root,
                            .relaxed = p->standby || strcmp(p->b.durability, "relaxed") == 0,
                            .preload = preload,
                            .settings = settings };
    if (pg_conf_write(&conf, err) < 0)
        return -1;
    p->argv = env_exec_argv(&s->env, a, p->volume_id, p->volume_id, followed, true, pg_conf_argv(a, &conf));
    p->socket = pg_conf_socket(a, conf.socket_dir);
    p->max_clients = pg_conf_max_connections(&conf) - PG_SLOTS_KEPT;
    return 0;
}

static int project_of(struct sched *s, struct arena *a, const struct branch *b, struct project *ret,
                      struct err *err)
{
    auto_dbc *c = NULL;
    return db_read(s->env.db, &c, err) < 0 || project_get_any(c, a, b->project_id, ret, err) < 0 ? -1 : 0;
}

static void mark_damaged(struct prepare *p)
{
    auto_dbc *c = NULL;
    struct err err = ERR_INIT;
    if (db_write(p->t.s->env.db, &c, &err) < 0 ||
        branch_set_state(c, p->b.id, "ready", "damaged", clock_wall_us(), &err) < 0 || db_commit(c, &err) < 0)
        log_event(LOG_ERROR, "start", "cannot mark a branch damaged", "br", p->b.id, "detail", err.detail,
                  NULL);
}

/* The branch's own endpoint may have been given more since: its next start will tell the WAL. */
static int raise_to_writer(struct prepare *p, struct err *err)
{
    auto_dbc *c = NULL;
    struct endpoint writer;
    bool found;
    if (db_read(p->t.s->env.db, &c, err) < 0 ||
        endpoint_find_writer(c, p->t.a, p->b.id, &writer, &found, err) < 0)
        return -1;
    json_auto_t *settings = found && writer.pg_settings ? json_loads(writer.pg_settings, 0, NULL) : NULL;
    const struct pg_needs needs = {
        .max_connections = (uint32_t)pg_settings_max_connections(settings),
        .max_worker_processes = (uint32_t)pg_settings_integer(settings, "max_worker_processes", 0),
        .max_locks_per_transaction = (uint32_t)pg_settings_integer(settings, "max_locks_per_transaction", 0),
    };
    pg_needs_raise(&p->needs, &needs);
    return 0;
}

static int make_volume(struct prepare *p, struct err *err)
{
    const struct env *env = &p->t.s->env;
    auto_moment *hold UNUSED = moment_hold(p->t.s); /* no row holds all of what it begins with */
    if (!p->standby)
        return materialise(env, p->t.a, &p->b, &p->first, err);
    p->pending_roles = false; /* nothing can be applied to it */
    if (!supervise_follows(&p->e, &p->b))
        return materialise_moment(env, p->t.a, &p->b, &p->needs, err);
    if (materialise_follower(env, p->t.a, &p->b, p->volume_id, &p->needs, &p->least, err) < 0 ||
        follow_write_password(p->t.s, p->t.a, p->b.project_id, p->volume_id, err) < 0)
        return -1;
    p->least = p->least > p->b.begins_lsn ? p->least : p->b.begins_lsn;
    return raise_to_writer(p, err);
}

static int prepare(struct prepare *p, struct err *err)
{
    struct sched *s = p->t.s;
    struct project project;
    if (read_rows(p, err) < 0) {
        if (err->code == ERR_DAMAGED && strcmp(p->b.state, "ready") == 0)
            mark_damaged(p);
        return -1;
    }
    if (sched_space(s, err) < 0 || project_of(s, p->t.a, &p->b, &project, err) < 0)
        return -1;
    int got = fs_lock(env_lock(&s->env, p->t.a, p->volume_id), true, &p->lock_fd, err);
    if (got == 0)
        return err_set(
            err, ERR_UNAVAILABLE,
            "processes of an earlier compute of branch %s are still there; it is not started beside them",
            p->b.id);
    if (got < 0 || write_intent(p, err) < 0)
        return -1;
    CRASH_POINT("start.intended");
    if (make_volume(p, err) < 0) {
        if (err->code == ERR_DAMAGED)
            mark_damaged(p);
        return -1;
    }
    if (make_dirs(p, err) < 0)
        return -1;
    remove_stale(p);
    return configure(p, &project, err);
}

static void prepare_run(struct task *t)
{
    t->rc = prepare((struct prepare *)t, &t->err);
}

static void prepare_done(struct task *t)
{
    struct prepare *p = (struct prepare *)t;
    struct compute *c = p->t.c;
    c->lock_fd = p->lock_fd;
    if (p->volume_id)
        snprintf(c->volume_id, sizeof(c->volume_id), "%s", p->volume_id);
    c->led_to[0] = '\0';
    c->least = p->least;
    c->generation = p->e.generation > c->generation ? p->e.generation : c->generation;
    if (p->start_op[0])
        snprintf(c->start_op, sizeof(c->start_op), "%s", p->start_op);
    if (t->rc < 0 && p->b.state && strcmp(p->b.state, "deleting") == 0) { /* its end is on the way */
        c->want_run = false;
        compute_event(c, EVENT_WANT_STOP);
        return;
    }
    if (t->rc < 0) {
        log_event(LOG_WARN, "start", "cannot prepare", "ep", c->id, "error", t->err.msg, "detail",
                  t->err.detail, NULL);
        compute_fail(c, t->err.code, t->err.msg);
        compute_event(c, EVENT_ERROR);
        return;
    }
    arena_free(c->start_arena);
    c->start_arena = TAKE(t->a);
    c->argv = p->argv;
    c->socket = p->socket;
    c->max_clients = p->max_clients;
    c->first = p->first;
    c->pending_roles = p->pending_roles;
    c->empties = branch_awaits_emptying(&p->b);
    compute_event(c, !c->want_run && c->force ? EVENT_WANT_STOP : EVENT_PREPARED);
}

/* A first start that has so much WAL to gather and to read takes none of the workers that quick starts need.
 */
#define QUICK_WAL_BYTES ((uint64_t)32 << 20)

static bool gathers_much(struct compute *c)
{
    auto_arena *a = arena_new(0);
    auto_dbc *db = NULL;
    struct err ignored = ERR_INIT; /* the task meets it again and tells */
    struct branch b;
    struct image image;
    if (db_read(c->s->env.db, &db, &ignored) < 0 || branch_get_id(db, a, c->branch_id, &b, &ignored) < 0 ||
        strcmp(b.volume, "ready") == 0 || !b.image_id || image_get(db, a, b.image_id, &image, &ignored) < 0)
        return false;
    uint64_t from = strcmp(image.state, "ready") == 0 ? image.lsn : image.redo_lsn;
    uint64_t to = b.parent_id ? b.parent_lsn : image.lsn;
    return to > from && to - from > QUICK_WAL_BYTES;
}

void supervise_prepare(struct compute *c)
{
    struct prepare *p = task_new(c->s, sizeof(*p), prepare_run, prepare_done);
    c->error[0] = '\0';
    p->t.c = c;
    p->lock_fd = -1;
    p->standby = c->standby;
    p->make_op = c->start_op[0] == '\0';
    p->t.slow = gathers_much(c);
    snprintf(p->id, sizeof(p->id), "%s", c->id);
    task_submit(&p->t);
}

/* ---- spawn and watch ---- */

/* From when clients are let in until the last process has ended. */
static int meter(const struct compute *c, struct dbc *db, int64_t now, struct err *err)
{
    if (c->state == COMPUTE_RUNNING)
        return usage_begin(db, c->id, now, err);
    if (c->state == COMPUTE_STOPPED || c->state == COMPUTE_FAILED)
        return usage_note(db, c->id, now, true, err);
    return 0;
}

void supervise_record(struct compute *c, const char *desired)
{
    auto_dbc *db = NULL;
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    struct endpoint e;
    int64_t now = clock_wall_us();
    if (db_write(c->s->env.db, &db, &err) < 0 || endpoint_get_id(db, a, c->id, &e, &err) < 0)
        goto failed;
    e.observed = compute_state_name(c->state);
    e.generation = c->generation;
    e.process = c->who;
    e.last_error = c->error[0] ? c->error : NULL;
    if (c->state == COMPUTE_RUNNING && c->wake_started_ms != 0)
        e.started_at = e.last_active = now;
    if (c->state == COMPUTE_STOPPED) {
        e.suspended_at = now;
        e.last_active = c->idle.active_us ? c->idle.active_us : e.last_active;
    }
    if (endpoint_set_observed(db, &e, &err) < 0 || meter(c, db, now, &err) < 0 ||
        (desired && strcmp(e.desired, "deleted") != 0 &&
         endpoint_set_desired(db, c->id, desired, now, &err) < 0) ||
        db_commit(db, &err) < 0)
        goto failed;
    sched_changed(c->s);
    return;
failed:
    log_event(LOG_ERROR, "compute", "cannot record a state", "ep", c->id, "error", err.msg, "detail",
              err.detail, NULL);
}

static int open_log(struct compute *c)
{
    auto_arena *a = arena_new(0);
    const char *path = env_log(&c->s->env, a, c->id);
    struct stat st;
    c->log_from = 0;
    if (stat(path, &st) == 0) {
        c->log_from = st.st_size;
        if (st.st_size > LOG_KEEP_BYTES && rename(path, arena_printf(a, "%s.1", path)) == 0)
            c->log_from = 0;
    }
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void supervise_spawn(struct compute *c)
{
    struct err err = ERR_INIT;
    auto_fd log_fd = open_log(c);
    struct proc_spec spec = {
        .argv = c->argv, .stdin_fd = -1, .stdout_fd = log_fd, .stderr_fd = log_fd, .keep_fd = c->lock_fd
    };
    c->wait_status = -1;
    c->promoted = false;
    supervise_watch_data(c);
    int rc = proc_spawn(&spec, &c->who, &c->pidfd, &err);
    fd_close(&c->lock_fd); /* from here on it is Postgres's */
    if (rc < 0) {
        log_event(LOG_ERROR, "start", "cannot spawn", "ep", c->id, "error", err.msg, "detail", err.detail,
                  NULL);
        compute_fail(c, err.code, err.msg);
        compute_event(c, EVENT_EXITED);
        return;
    }
    CRASH_POINT("start.spawned");
    cgroup_favour(c->id, true); /* somebody waits for it */
    supervise_join_group(c);
    loop_timer_set(c->timer, SUPERVISE_START_TIMEOUT_MS);
    supervise_watch(c);
    supervise_record(c, NULL);
    CRASH_POINT("start.recorded");
}

static void on_pid(void *arg, int fd, unsigned events)
{
    struct compute *c = arg;
    (void)events;
    loop_fd_del(c->pid_source);
    c->pid_source = NULL;
    c->wait_status = proc_reap(fd);
    fd_close(&c->pidfd);
    c->who = (struct proc_identity){ 0 };
    supervise_exited(c);
}

void supervise_watch(struct compute *c)
{
    c->pid_source = loop_fd_add(c->s->loop, c->pidfd, LOOP_READ, on_pid, c);
    c->exited_ms = 0;
}

void supervise_release(struct compute *c)
{
    int64_t now = clock_wall_us();
    cgroup_favour(c->id, false);
    c->n_failures = 0;
    c->image_look_lsn = 0;
    idle_begin(&c->idle, now);
    c->catalog_mark[0] = '\0';
    wake_answer(c);
    supervise_record(c, NULL);
    CRASH_POINT("start.released");
    c->wake_started_ms = 0;
    supervise_look_at(c, 1000);
}

/* ---- failure ---- */

static const char *how_it_ended(struct arena *a, int status)
{
    if (status < 0)
        return "";
    return WIFSIGNALED(status) ? arena_printf(a, " (signal %d)", WTERMSIG(status))
                               : arena_printf(a, " (status %d)", WEXITSTATUS(status));
}

/* What it logged since it was spawned, at most the end of it. */
static char *read_log(struct compute *c, struct arena *a)
{
    auto_fd fd = open(env_log(&c->s->env, a, c->id), O_RDONLY | O_CLOEXEC);
    char *text = arena_alloc(a, LOG_TAIL_BYTES + 1);
    struct stat st;
    ssize_t n = 0;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        off_t from = st.st_size - c->log_from > LOG_TAIL_BYTES ? st.st_size - LOG_TAIL_BYTES : c->log_from;
        n = pread(fd, text, LOG_TAIL_BYTES, from);
    }
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* Its last fatal message is why; a program that never became postgres says it in its last line. */
void supervise_explain(struct compute *c)
{
    auto_arena *a = arena_new(0);
    const char *fatal = NULL, *last = NULL;
    if (c->error[0])
        return;
    char *text = read_log(c, a);
    for (char *line = strsep(&text, "\n"); line; line = strsep(&text, "\n")) {
        const char *at = strstr(line, "FATAL:  ");
        at = at ? at : strstr(line, "PANIC:  ");
        fatal = at ? at + strlen("FATAL:  ") : fatal;
        last = line[0] ? line : last;
    }
    const char *why = fatal ? fatal : last;
    compute_fail(c, ERR_INTERNAL,
                 arena_printf(a, "postgres ended while starting%s%s%.300s", how_it_ended(a, c->wait_status),
                              why ? ": " : "", why ? why : ""));
}

const char *supervise_sqlstate(const struct compute *c)
{
    return c->error_code == ERR_DISK_FULL ? "53100" : "57P03";
}

void supervise_failed(struct compute *c)
{
    int64_t backoff_ms = 1000;
    supervise_unwatch_data(c);
    /* A start that was refused for want of space has not failed: it is tried again as soon as somebody asks.
     */
    bool counts = c->error_code != ERR_DISK_FULL;
    for (int i = 0; counts && i < c->n_failures && backoff_ms < BACKOFF_MAX_MS; i++)
        backoff_ms *= 2;
    c->n_failures += counts;
    c->want_run = false;
    c->wake_started_ms = 0;
    supervise_clear(c);
    wake_gone(c);
    wake_refuse(c, supervise_sqlstate(c), "the compute of this endpoint could not be started", c->error);
    supervise_record(c, "stopped");
    loop_timer_set(c->timer, backoff_ms < BACKOFF_MAX_MS ? backoff_ms : BACKOFF_MAX_MS);
}
