/*
 * ops.c - open operations: which can move now, in what order, and their end
 *
 * One list, oldest first.  Two operations on one branch never overlap: the later one waits.  What an
 * operation needs of a compute is arranged by wanting it and looking again when the compute has changed.
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000

struct action {
    const char *name;
    enum verdict (*look)(struct op *op); /* may finish (free) the op: then DONE */
};

static void look_again(struct sched *s);

/* ---- helpers ---- */

static int writer_of(struct sched *s, struct arena *a, const char *branch_id, struct endpoint *ret,
                     bool *ret_found)
{
    auto_dbc *db = NULL;
    struct err err = ERR_INIT;
    *ret_found = false;
    if (db_read(s->env.db, &db, &err) < 0 ||
        endpoint_find_writer(db, a, branch_id, ret, ret_found, &err) < 0) {
        log_event(LOG_ERROR, "ops", "cannot read an endpoint", "br", branch_id, "error", err.msg, "detail",
                  err.detail, NULL);
        return -1;
    }
    return 0;
}

/* The compute of the operation's endpoint, brought up to date with its row; NULL when the row is gone. */
static struct compute *compute_of(struct op *op)
{
    auto_arena *a = arena_new(0);
    auto_dbc *db = NULL;
    struct err err = ERR_INIT;
    struct endpoint e;
    if (db_read(op->s->env.db, &db, &err) < 0 || endpoint_get_id(db, a, op->row.endpoint_id, &e, &err) < 0)
        return NULL;
    struct compute *c = compute_get(op->s, &e);
    c->deleted = strcmp(e.desired, "deleted") == 0;
    return c;
}

static bool same_branch(const struct op *x, const struct op *y)
{
    return x->row.branch_id && y->row.branch_id && strcmp(x->row.branch_id, y->row.branch_id) == 0;
}

static bool behind_another(const struct op *op)
{
    for (const struct op *o = op->s->ops; o && o != op; o = o->next)
        if (same_branch(o, op))
            return true;
    return false;
}

static void mark_running(struct op *op)
{
    auto_dbc *db = NULL;
    struct err err = ERR_INIT;
    if (strcmp(op->row.status, "running") == 0)
        return;
    op->row.status = "running";
    if (db_write(op->s->env.db, &db, &err) < 0 || operation_update(db, &op->row, clock_wall_us(), &err) < 0 ||
        db_commit(db, &err) < 0)
        log_event(LOG_ERROR, "ops", "cannot record an operation", "op", op->row.id, "error", err.msg,
                  "detail", err.detail, NULL);
}

/* ---- what each action waits for ---- */

static enum verdict look_start(struct op *op)
{
    struct compute *c = compute_of(op);
    if (!c || c->deleted) {
        ops_finish(op, "cancelled", "the endpoint is gone");
        return DONE;
    }
    if (c->state == COMPUTE_RUNNING && c->want_run) {
        ops_finish(op, "finished", NULL);
        return DONE;
    }
    if (c->state == COMPUTE_FAILED) {
        if (op->running) {
            ops_finish(op, "failed", c->error);
            return DONE;
        }
        compute_event(c, EVENT_TIMEOUT); /* a user asks: try now, not when the back-off ends */
    }
    mark_running(op);
    op->running = true;
    if (c->start_op[0] == '\0')
        snprintf(c->start_op, sizeof(c->start_op), "%s", op->row.id);
    if (!c->want_run)
        compute_want(c, true, false);
    return WAIT;
}

static enum verdict look_suspend(struct op *op)
{
    struct compute *c = compute_of(op);
    if (!c) {
        ops_finish(op, "finished", NULL);
        return DONE;
    }
    if (c->state == COMPUTE_FAILED)
        compute_event(c, EVENT_TIMEOUT);
    if (c->state == COMPUTE_STOPPED) {
        c->want_run = c->waiters && !c->deleted;
        if (c->deleted)
            supervise_stopped(c);
        ops_finish(op, "finished", NULL);
        return DONE;
    }
    mark_running(op);
    if (c->want_run || !c->force)
        compute_want(c, false, true);
    return WAIT;
}

static bool volume_has_head(const struct branch *b)
{
    return strcmp(b->volume, "ready") != 0 || b->head_lsn != 0;
}

/* A child that cannot be made goes, and those that wait for it. */
static enum verdict fail_fork(struct op *op, const char *why)
{
    job_fork_undo(op);
    ops_finish(op, "failed", why);
    return DONE;
}

bool ops_forked_from(struct sched *s, const char *branch_id)
{
    for (const struct op *o = s->ops; o; o = o->next)
        if (o->tasked && strcmp(o->parent_id, branch_id) == 0)
            return true;
    return false;
}

/* It stands still with a known end, or is brought to run: recovery first, then a fork of the running branch.
 */
static enum verdict look_stopped_parent(struct op *op, const struct branch *parent, const struct endpoint *e,
                                        bool has_writer)
{
    struct compute *c = has_writer ? compute_get(op->s, e) : NULL;
    if (volume_has_head(parent))
        return ops_forked_from(op->s, parent->id) ? WAIT : GO; /* taking its image needs its lock */
    if (!c)
        return fail_fork(op,
                         "the parent was not shut down cleanly and has no compute endpoint to recover it; "
                         "add one and try again");
    if (e->disabled)
        return fail_fork(op,
                         "the parent was not shut down cleanly and its endpoint is disabled; enable it and "
                         "try again");
    if (c->state == COMPUTE_FAILED)
        return fail_fork(op, c->error);
    compute_want(c, true, false);
    return WAIT;
}

static int read_fork(struct op *op, struct arena *a, struct branch *child, struct branch *parent)
{
    auto_dbc *db = NULL;
    struct err err = ERR_INIT;
    if (db_read(op->s->env.db, &db, &err) < 0 || branch_get_id(db, a, op->row.branch_id, child, &err) < 0 ||
        branch_get_id(db, a, child->parent_id, parent, &err) < 0)
        return -1;
    return 0;
}

/* The parent must stand still in one of two ways: suspended with a known end, or running. */
static enum verdict look_fork(struct op *op)
{
    auto_arena *a = arena_new(0);
    struct branch child, parent;
    struct endpoint e;
    bool found;
    if (read_fork(op, a, &child, &parent) < 0) {
        ops_finish(op, "cancelled", "the branch is gone");
        return DONE;
    }
    if (strcmp(child.state, "deleting") == 0) {
        ops_finish(op, "cancelled", "the branch is being deleted");
        return DONE;
    }
    op->acknowledged = strcmp(child.state, "init") != 0;
    if (op->acknowledged)
        return GO;
    if (strcmp(parent.state, "init") == 0)
        return WAIT;
    snprintf(op->parent_id, sizeof(op->parent_id), "%s", parent.id);
    struct compute *c =
        compute_of_branch(op->s, parent.id, NULL); /* also of an endpoint that is being deleted */
    if (c)
        return c->state == COMPUTE_RUNNING && !c->admin_busy && c->pidfd >= 0 ? GO : WAIT;
    if (writer_of(op->s, a, parent.id, &e, &found) < 0)
        return WAIT;
    return look_stopped_parent(op, &parent, &e, found);
}

/* An endpoint's own settings: a compute in memory takes them from its row. */
static enum verdict look_endpoint(struct op *op)
{
    struct compute *c = compute_of(op);
    if (c && c->state == COMPUTE_RUNNING)
        supervise_look_at(c, 0);
    ops_finish(op, "finished", NULL);
    return DONE;
}

static enum verdict look_apply(struct op *op)
{
    auto_arena *a = arena_new(0);
    struct endpoint e;
    bool found;
    if (op->row.endpoint_id)
        return look_endpoint(op);
    if (writer_of(op->s, a, op->row.branch_id, &e, &found) < 0)
        return WAIT;
    if (!found) {
        ops_finish(op, "skipped",
                   NULL); /* applied at the first start of an endpoint that is yet to be made */
        return DONE;
    }
    struct compute *c = compute_get(op->s, &e);
    if (c->state == COMPUTE_RUNNING)
        return c->admin_busy ? WAIT : GO;
    if (c->state == COMPUTE_FAILED && op->running) {
        ops_finish(op, "failed", c->error);
        return DONE;
    }
    op->running = c->state == COMPUTE_PREPARING || c->state == COMPUTE_STARTING;
    if (!c->want_run)
        compute_want(c, true, false);
    return WAIT;
}

/* Brings one to a standstill; true when it stands.  refuse: what those are told who wait for it, NULL = they
 * go on waiting. */
static bool stop_compute(struct compute *c, const char *refuse)
{
    if (refuse)
        wake_refuse(c, "3D000", refuse, NULL);
    if (c->state == COMPUTE_FAILED)
        compute_event(c, EVENT_TIMEOUT);
    if (c->state == COMPUTE_STOPPED && c->pins == 0) {
        c->want_run = c->want_run && !refuse;
        return true;
    }
    if (c->want_run || !c->force)
        compute_want(c, false, true);
    return false;
}

static int endpoints_of(struct sched *s, struct arena *a, const char *branch_id, struct endpoint **ret,
                        size_t *ret_n)
{
    auto_dbc *db = NULL;
    struct err err = ERR_INIT;
    if (db_read(s->env.db, &db, &err) == 0 &&
        endpoint_list(db, a, NULL, branch_id, true, ret, ret_n, &err) == 0)
        return 0;
    log_event(LOG_ERROR, "ops", "cannot read the endpoints of a branch", "br", branch_id, "error", err.msg,
              "detail", err.detail, NULL);
    return -1;
}

bool ops_stop_branch(struct sched *s, const char *branch_id, const char *refuse)
{
    auto_arena *a = arena_new(0);
    struct endpoint *list;
    size_t n;
    bool stand = true;
    if (endpoints_of(s, a, branch_id, &list, &n) < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct compute *c = compute_find(s, list[i].id);
        stand &= !c || stop_compute(c, refuse);
    }
    return stand;
}

void ops_wake_branch(struct sched *s, const char *branch_id)
{
    auto_arena *a = arena_new(0);
    struct endpoint *list;
    size_t n;
    if (endpoints_of(s, a, branch_id, &list, &n) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        struct compute *c = compute_find(s, list[i].id);
        if (c && c->waiters && !c->deleted)
            compute_want(c, true, false);
    }
}

static bool has_children(const struct branch *all, size_t n, const char *id)
{
    for (size_t i = 0; i < n; i++)
        if (all[i].parent_id && strcmp(all[i].parent_id, id) == 0)
            return true;
    return false;
}

/* One that stays, seen by nobody, is deleted when it stands still; one that was recovered meanwhile is not at
 * all. */
static enum verdict look_delete(struct op *op)
{
    auto_arena *a = arena_new(0);
    auto_dbc *db = NULL;
    struct err err = ERR_INIT;
    struct branch b, *branches;
    size_t n_branches;
    if (db_read(op->s->env.db, &db, &err) < 0 ||
        branch_list_all(db, a, op->row.project_id, &branches, &n_branches, &err) < 0) {
        log_event(LOG_ERROR, "ops", "cannot read a branch", "op", op->row.id, "error", err.msg, "detail",
                  err.detail, NULL);
        return WAIT;
    }
    bool there = branch_get_id(db, a, op->row.branch_id, &b, &err) == 0;
    db_end(&db);
    if (there && strcmp(b.state, "deleting") != 0 && strcmp(b.state, "deleted") != 0) {
        ops_finish(op, "cancelled", "the branch was recovered");
        return DONE;
    }
    /* Children that are being deleted go first: they may still stand on its images. */
    bool stays = there && strcmp(b.state, "deleted") == 0;
    if ((!stays && has_children(branches, n_branches, op->row.branch_id)) ||
        !ops_stop_branch(op->s, op->row.branch_id, "the endpoint was deleted"))
        return WAIT;
    if (!stays)
        return GO;
    ops_finish(op, "finished", NULL);
    return DONE;
}

static enum verdict look_finalize(struct op *op)
{
    struct err err = ERR_INIT;
    struct sched *s = op->s;
    char ids[2][ID_MAX + 1];
    mark_running(op);
    if (!job_finalize(op, &err))
        return WAIT;
    snprintf(ids[0], sizeof(ids[0]), "%s", op->row.branch_id);
    snprintf(ids[1], sizeof(ids[1]), "%s", op->parent_id);
    ops_finish(op, err.code == ERR_NONE ? "finished" : "failed", err.code == ERR_NONE ? NULL : err.msg);
    for (size_t i = 0; i < N_ELEMENTS(ids); i++)
        ops_wake_branch(s, ids[i]);
    return DONE;
}

static const struct action ACTIONS[] = {
    { "start_compute", look_start },        { "suspend_compute", look_suspend },
    { "create_branch", look_fork },         { "apply_config", look_apply },
    { "delete_timeline", look_delete },     { "finalize_restore", look_finalize },
    { "restore_branch", job_restore_look },
};

/* ---- going ---- */

static void go(struct op *op)
{
    auto_arena *a = arena_new(0);
    struct endpoint e;
    bool found;
    mark_running(op);
    op->running = true;
    if (strcmp(op->row.action, "create_branch") == 0)
        job_fork_start(op);
    else if (strcmp(op->row.action, "delete_timeline") == 0)
        job_delete_start(op);
    else if (writer_of(op->s, a, op->row.branch_id, &e, &found) == 0 && found)
        job_apply_start(op, compute_get(op->s, &e));
}

static enum verdict look(struct op *op)
{
    for (size_t i = 0; i < N_ELEMENTS(ACTIONS); i++)
        if (strcmp(ACTIONS[i].name, op->row.action) == 0)
            return ACTIONS[i].look(op);
    ops_finish(op, "failed", "this Mere does not know the operation");
    return DONE;
}

/* Ending one operation changes computes, and they ask to look again: once more round instead of deeper. */
static void look_again(struct sched *s)
{
    s->ops_again = true;
    if (s->ops_looking)
        return;
    s->ops_looking = true;
    while (s->ops_again) {
        s->ops_again = false;
        for (struct op *op = s->ops, *next; op && !s->ops_again; op = next) {
            next = op->next;
            if (op->tasked || behind_another(op) || op->retry_ms > clock_mono_ms())
                continue;
            enum verdict v = look(op);
            if (v == GO)
                go(op);
            s->ops_again |= v == DONE;
        }
    }
    s->ops_looking = false;
}

static struct op *find_op(struct sched *s, int64_t seq)
{
    for (struct op *op = s->ops; op; op = op->next)
        if (op->row.seq == seq)
            return op;
    return NULL;
}

static void adopt_row(struct sched *s, const struct operation *row)
{
    struct op *op = xcalloc(1, sizeof(*op)), **tail = &s->ops;
    op->s = s;
    op->a = arena_new(0);
    op->row = *row;
    op->row.id = arena_strdup(op->a, row->id);
    op->row.project_id = arena_strdup(op->a, row->project_id);
    op->row.branch_id = arena_strdup(op->a, row->branch_id);
    op->row.endpoint_id = arena_strdup(op->a, row->endpoint_id);
    op->row.action = arena_strdup(op->a, row->action);
    op->row.status = arena_strdup(op->a, row->status);
    op->row.args = arena_strdup(op->a, row->args);
    op->row.error = arena_strdup(op->a, row->error);
    while (*tail)
        tail = &(*tail)->next;
    *tail = op;
}

static void load(struct sched *s)
{
    auto_dbc *db = NULL;
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    struct operation *list;
    size_t n;
    if (db_read(s->env.db, &db, &err) < 0 || operation_list_open(db, a, &list, &n, &err) < 0) {
        log_event(LOG_ERROR, "ops", "cannot read the open operations", "error", err.msg, "detail", err.detail,
                  NULL);
        return;
    }
    db_end(&db);
    for (size_t i = 0; i < n; i++) {
        struct compute *c = list[i].endpoint_id ? compute_find(s, list[i].endpoint_id) : NULL;
        if (find_op(s, list[i].seq) || (c && strcmp(c->start_op, list[i].id) == 0))
            continue;
        adopt_row(s, &list[i]);
    }
}

void ops_look(struct sched *s)
{
    load(s);
    look_again(s);
}

static bool keeps_from_starting(const struct op *op)
{
    return (strcmp(op->row.action, "create_branch") == 0 && !op->acknowledged) ||
           (strcmp(op->row.action, "restore_branch") == 0 && op->running);
}

bool ops_keep_from_starting(struct sched *s, const char *branch_id)
{
    for (const struct op *op = s->ops; op; op = op->next) {
        bool replaces = strcmp(op->row.action, "finalize_restore") == 0 && op->running;
        if ((replaces || keeps_from_starting(op)) && strcmp(op->row.branch_id, branch_id) == 0)
            return true;
        if (replaces && strcmp(op->parent_id, branch_id) == 0)
            return true;
    }
    return false;
}

void ops_free(struct sched *s)
{
    while (s->ops) {
        struct op *op = s->ops;
        s->ops = op->next;
        arena_free(op->a);
        free(op);
    }
}

static const char *phases_text(const struct compute *c, struct arena *a)
{
    const struct start_phases *p = &c->phases;
    json_auto_t *phases = json_pack("{s:I, s:I, s:I, s:I}", "wait_ms", (json_int_t)p->wait, "prepare_ms",
                                    (json_int_t)p->prepare, "recover_ms", (json_int_t)p->recover, "ready_ms",
                                    (json_int_t)p->ready);
    auto_free char *text = json_dumps(phases, JSON_COMPACT);
    return text ? arena_strdup(a, text) : NULL;
}

/* The operation of a wake by a client has no op of its own in the list: the compute carries its id. */
static void finish_wake(struct compute *c, const char *status)
{
    auto_dbc *db = NULL;
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    struct operation o;
    if (db_write(c->s->env.db, &db, &err) < 0 || operation_get_id(db, a, c->start_op, &o, &err) < 0)
        goto failed;
    o.status = status;
    o.error = c->error[0] ? c->error : NULL;
    o.phases = phases_text(c, a);
    if (operation_update(db, &o, clock_wall_us(), &err) < 0 || db_commit(db, &err) < 0)
        goto failed;
    sched_changed(c->s);
    return;
failed:
    log_event(LOG_ERROR, "ops", "cannot end an operation", "op", c->start_op, "error", err.msg, "detail",
              err.detail, NULL);
}

void ops_compute_changed(struct compute *c)
{
    bool settled = c->state == COMPUTE_RUNNING || c->state == COMPUTE_FAILED || c->state == COMPUTE_STOPPED;
    if (settled && c->start_op[0]) {
        bool listed = false;
        for (struct op *op = c->s->ops; op; op = op->next)
            if (strcmp(op->row.id, c->start_op) == 0) {
                op->row.phases = phases_text(c, op->a);
                listed = true;
            }
        if (!listed)
            finish_wake(c, c->state == COMPUTE_RUNNING ? "finished" : "failed");
        c->start_op[0] = '\0';
    }
    if (c->s->ops)
        look_again(c->s);
}

void ops_retry(struct op *op, bool at_once)
{
    op->tasked = op->running = false;
    op->row.failures_count++;
    op->retry_ms = at_once ? 0 : clock_mono_ms() + RETRY_MS; /* housekeeping looks again */
}

void ops_finish(struct op *op, const char *status, const char *error)
{
    struct sched *s = op->s;
    auto_dbc *db = NULL;
    struct err err = ERR_INIT;
    op->row.status = status;
    op->row.error = error;
    op->row.failures_count += strcmp(status, "failed") == 0;
    if (db_write(s->env.db, &db, &err) < 0 || operation_update(db, &op->row, clock_wall_us(), &err) < 0 ||
        db_commit(db, &err) < 0)
        log_event(LOG_ERROR, "ops", "cannot end an operation", "op", op->row.id, "error", err.msg, "detail",
                  err.detail, NULL);
    db_end(&db);
    log_event(strcmp(status, "failed") == 0 ? LOG_WARN : LOG_INFO, "ops", status, "op", op->row.id, "action",
              op->row.action, "br", op->row.branch_id, "error", error, NULL);
    struct op **p = &s->ops;
    while (*p != op)
        p = &(*p)->next;
    *p = op->next;
    arena_free(op->a);
    free(op);
    sched_changed(s);
    compute_step_all(s); /* who waited for its branch may start */
    look_again(s);
}
