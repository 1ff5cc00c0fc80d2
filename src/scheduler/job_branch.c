/*
 * job_branch.c - the slow part of creating and of deleting a branch: check-then-do steps over branch/, safe
 * to run again
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "branch/capture.h"
#include "branch/materialise.h"
#include "meta/image.h"
#include "meta/project.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ADMIN_OPEN_MS  10000
#define FORK_TRIES     3
#define COMPLETE_TRIES 20 /* then it is left to the start that needs it */

/* ---- fork ---- */

struct fork_job {
    struct task t; /* its compute is the parent's, pinned, or NULL */
    struct op *op;
    bool hot;
    char branch_id[ID_MAX + 1];
    char parent_endpoint[ID_MAX + 1];
    struct pg_admin *admin;
};

static int read_pair(struct fork_job *j, struct branch *child, struct branch *parent, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(j->t.s->env.db, &c, err) < 0 || branch_get_id(c, j->t.a, j->branch_id, child, err) < 0)
        return -1;
    return branch_get_id(c, j->t.a, child->parent_id, parent, err);
}

/* taken: the image's row is still as it was when the image was begun. */
static int commit_fork(struct fork_job *j, const struct image *image, uint64_t lsn, bool taken,
                       struct err *err)
{
    auto_dbc *c = NULL;
    int64_t now = clock_wall_us();
    if (db_write(j->t.s->env.db, &c, err) < 0 || (taken && image_update(c, image, err) < 0) ||
        branch_set_fork(c, j->branch_id, lsn, now, image->id, now, err) < 0 || db_commit(c, err) < 0)
        return -1;
    sched_changed(j->t.s);
    return 0;
}

static int get_image(struct fork_job *j, const char *id, struct image *ret, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(j->t.s->env.db, &c, err) < 0)
        return -1;
    return image_get(c, j->t.a, id, ret, err);
}

/* A parent that has never been started is still exactly what it was cloned from. */
static int fork_cold(struct fork_job *j, const struct branch *parent, struct err *err)
{
    struct sched *s = j->t.s;
    struct image image;
    uint64_t lsn = parent->parent_lsn;
    if (strcmp(parent->volume, "ready") != 0) {
        if (get_image(j, parent->image_id, &image, err) < 0)
            return -1;
        lsn = parent->parent_id ? lsn : image.lsn;
    } else {
        auto_fd lock_fd = -1;
        int got = fs_lock(env_lock(&s->env, j->t.a, parent->volume_id), true, &lock_fd, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_UNAVAILABLE, "the parent branch is in use");
        if (capture_cold(&s->env, j->t.a, parent, &image, err) < 0)
            return -1;
        lsn = image.lsn;
    }
    return commit_fork(j, &image, lsn, false, err);
}

static int fork_running(struct fork_job *j, const struct branch *parent, struct err *err)
{
    struct sched *s = j->t.s;
    struct image image;
    if (!j->admin &&
        pg_admin_open(env_socket_dir(&s->env, j->t.a, j->parent_endpoint), ADMIN_OPEN_MS, &j->admin, err) < 0)
        return -1;
    if (capture_running(&s->env, j->t.a, parent, j->admin, &image, err) < 0)
        return -1;
    CRASH_POINT("fork.captured");
    image.state = "snapped";
    if (commit_fork(j, &image, image.lsn, true, err) < 0) {
        struct err ignored = ERR_INIT;
        (void)!capture_discard(&s->env, image.id, &ignored);
        return -1;
    }
    CRASH_POINT("fork.committed");
    return 0;
}

static int fork_branch(struct fork_job *j, struct err *err)
{
    struct branch child, parent;
    struct image image;
    if (read_pair(j, &child, &parent, err) < 0)
        return -1;
    if (strcmp(child.state, "init") == 0 &&
        (j->hot ? fork_running(j, &parent, err) : fork_cold(j, &parent, err)) < 0)
        return -1;
    if (read_pair(j, &child, &parent, err) < 0 || get_image(j, child.image_id, &image, err) < 0)
        return -1;
    j->op->acknowledged = true;
    sched_kick(j->t.s); /* it can be started from here on */
    return capture_complete(&j->t.s->env, j->t.a, image.id, err);
}

static void fork_run(struct task *t)
{
    t->rc = fork_branch((struct fork_job *)t, &t->err);
}

/* Their operations find them gone at the next look. */
static int delete_waiting(struct dbc *c, struct arena *a, const struct branch *b, struct err *err)
{
    struct branch *all;
    struct endpoint *list;
    size_t n_all, n;
    if (branch_list_all(c, a, b->project_id, &all, &n_all, err) < 0 ||
        endpoint_list(c, a, NULL, b->id, true, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n_all; i++)
        if (all[i].parent_id && strcmp(all[i].parent_id, b->id) == 0 &&
            delete_waiting(c, a, &all[i], err) < 0)
            return -1;
    for (size_t i = 0; i < n; i++)
        if (endpoint_delete(c, list[i].id, err) < 0)
            return -1;
    return branch_delete(c, b->id, err);
}

void job_fork_undo(struct op *op)
{
    auto_dbc *c = NULL;
    struct err err = ERR_INIT;
    struct branch b;
    if (db_write(op->s->env.db, &c, &err) < 0 || branch_get_id(c, op->a, op->row.branch_id, &b, &err) < 0)
        goto failed;
    if (strcmp(b.state, "init") != 0)
        return;
    if (delete_waiting(c, op->a, &b, &err) < 0 || db_commit(c, &err) < 0)
        goto failed;
    return;
failed:
    log_event(LOG_ERROR, "fork", "cannot undo a branch", "br", op->row.branch_id, "error", err.msg, "detail",
              err.detail, NULL);
}

/* The parent changed under us: look again.  An acknowledged branch only goes on: its image is completed by
 * this operation, or by the start that needs it. */
static bool goes_on(const struct fork_job *j)
{
    const struct err *err = &j->t.err;
    if (j->op->acknowledged)
        return j->op->row.failures_count < COMPLETE_TRIES;
    return err_retryable(err->code) && err->code != ERR_DISK_FULL && j->op->row.failures_count < FORK_TRIES;
}

static void fork_done(struct task *t)
{
    struct fork_job *j = (struct fork_job *)t;
    struct op *op = j->op;
    struct compute *parent = t->c;
    op->tasked = false;
    if (parent) {
        if (j->hot)
            supervise_give_back(parent, j->admin);
        parent->pins--;
    }
    if (t->rc == 0) {
        ops_finish(op, "finished", NULL);
    } else {
        log_event(LOG_WARN, "fork", "fork failed", "br", j->branch_id, "error", t->err.msg, "detail",
                  t->err.detail, NULL);
        if (goes_on(j)) {
            /* The first time at once; a parent that died is known to have died a moment later. */
            ops_retry(op, !op->acknowledged && op->row.failures_count == 0);
        } else {
            job_fork_undo(op);
            ops_finish(op, "failed", t->err.msg);
        }
    }
    if (parent)
        compute_step(parent);
    compute_step_all(t->s);
}

/* The parent's compute as it is at this moment: pinned, with its session where it runs. */
static void take_parent(struct fork_job *j, struct compute *c)
{
    j->t.c = c;
    j->hot = c->state == COMPUTE_RUNNING;
    c->pins++;
    snprintf(j->parent_endpoint, sizeof(j->parent_endpoint), "%s", c->id);
    if (j->hot) {
        j->admin = c->admin;
        c->admin_busy = true;
    }
}

void job_fork_start(struct op *op)
{
    struct fork_job *j = task_new(op->s, sizeof(*j), fork_run, fork_done);
    struct branch child, parent;
    struct endpoint e;
    struct err err = ERR_INIT;
    bool found = false;
    j->op = op;
    j->t.slow = true;
    op->tasked = true;
    snprintf(j->branch_id, sizeof(j->branch_id), "%s", op->row.branch_id);
    if (read_pair(j, &child, &parent, &err) == 0 && strcmp(child.state, "init") == 0) {
        struct compute *running = compute_of_branch(op->s, parent.id, NULL);
        auto_dbc *c = NULL;
        if (running)
            take_parent(j, running);
        else if (db_read(op->s->env.db, &c, &err) == 0 &&
                 endpoint_find_writer(c, j->t.a, parent.id, &e, &found, &err) == 0 && found)
            take_parent(j, compute_get(op->s, &e));
    }
    task_submit(&j->t);
}

/* ---- delete ---- */

struct delete_job {
    struct task t;
    struct op *op;
    char branch_id[ID_MAX + 1];
    char project_id[ID_MAX + 1];
};

static int remove_images(struct delete_job *j, struct err *err)
{
    struct image *list;
    size_t n;
    {
        auto_dbc *c = NULL;
        if (db_read(j->t.s->env.db, &c, err) < 0 || image_list(c, j->t.a, j->branch_id, &list, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        if (store_remove(j->t.s->env.store, list[i].id, err) < 0)
            return -1;
    return 0;
}

static int remove_rows(struct delete_job *j, struct err *err)
{
    auto_dbc *c = NULL;
    struct image *images;
    struct endpoint *endpoints;
    struct branch *left;
    struct project project;
    size_t n_images, n_endpoints, n_left;
    if (db_write(j->t.s->env.db, &c, err) < 0 ||
        endpoint_list(c, j->t.a, NULL, j->branch_id, true, &endpoints, &n_endpoints, err) < 0 ||
        image_list(c, j->t.a, j->branch_id, &images, &n_images, err) < 0)
        return -1;
    for (size_t i = 0; i < n_endpoints; i++)
        if (endpoint_delete(c, endpoints[i].id, err) < 0)
            return -1;
    /* Its own images point to it and it may point to one of them (never across: children are gone). */
    for (size_t i = 0; i < n_images; i++)
        if (image_delete(c, images[i].id, err) < 0)
            return -1;
    if (branch_delete(c, j->branch_id, err) < 0 ||
        project_get_any(c, j->t.a, j->project_id, &project, err) < 0 ||
        branch_list_all(c, j->t.a, j->project_id, &left, &n_left, err) < 0)
        return -1;
    if (n_left == 0 && strcmp(project.state, "deleting") == 0 && project_delete(c, project.id, err) < 0)
        return -1;
    return db_commit(c, err);
}

static int branch_is_gone(struct delete_job *j, struct branch *ret_branch, bool *ret, struct err *err)
{
    auto_dbc *c = NULL;
    *ret = false;
    if (db_read(j->t.s->env.db, &c, err) < 0)
        return -1;
    if (branch_get_id(c, j->t.a, j->branch_id, ret_branch, err) == 0)
        return 0;
    *ret = err->code == ERR_NOT_FOUND;
    return *ret ? 0 : -1;
}

/* What its endpoints have left: logs, and the volume of one that followed it and crashed. */
static int remove_of_endpoints(struct delete_job *j, struct err *err)
{
    const struct env *env = &j->t.s->env;
    struct endpoint *list;
    size_t n;
    {
        auto_dbc *c = NULL;
        if (db_read(env->db, &c, err) < 0 ||
            endpoint_list(c, j->t.a, NULL, j->branch_id, true, &list, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        const char *path = env_log(env, j->t.a, list[i].id);
        if (strcmp(list[i].type, "read_only") == 0 && materialise_remove(env, list[i].id, err) < 0)
            return -1;
        (void)unlink(path);
        (void)unlink(arena_printf(j->t.a, "%s.1", path));
    }
    return 0;
}

static int delete_branch(struct delete_job *j, struct err *err)
{
    const struct env *env = &j->t.s->env;
    struct branch b;
    bool gone;
    if (branch_is_gone(j, &b, &gone, err) < 0 || gone)
        return gone ? 0 : -1;
    {
        auto_fd lock_fd = -1;
        int got = fs_lock(env_lock(env, j->t.a, b.volume_id), true, &lock_fd, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_UNAVAILABLE, "processes of the branch are still there");
        if (materialise_remove(env, b.volume_id, err) < 0)
            return -1;
    }
    if (remove_images(j, err) < 0 || remove_of_endpoints(j, err) < 0)
        return -1;
    CRASH_POINT("delete.removed");
    if (remove_rows(j, err) < 0)
        return -1;
    CRASH_POINT("delete.rows");
    return store_empty_trash(env->store, err); /* "finished" means that the storage is released */
}

static void delete_run(struct task *t)
{
    t->rc = delete_branch((struct delete_job *)t, &t->err);
}

static void delete_done(struct task *t)
{
    struct delete_job *j = (struct delete_job *)t;
    struct op *op = j->op;
    op->tasked = false;
    if (t->rc == 0) {
        ops_finish(op, "finished", NULL);
        return;
    }
    /* A deletion only rolls forward. */
    log_event(LOG_WARN, "delete", "not done yet", "br", j->branch_id, "error", t->err.msg, "detail",
              t->err.detail, NULL);
    ops_retry(op, false);
}

void job_delete_start(struct op *op)
{
    struct delete_job *j = task_new(op->s, sizeof(*j), delete_run, delete_done);
    struct err err = ERR_INIT;
    auto_dbc *db = NULL;
    struct endpoint *list;
    size_t n;
    j->op = op;
    j->t.slow = true;
    op->tasked = true;
    snprintf(j->branch_id, sizeof(j->branch_id), "%s", op->row.branch_id);
    snprintf(j->project_id, sizeof(j->project_id), "%s", op->row.project_id);
    if (db_read(op->s->env.db, &db, &err) == 0 &&
        endpoint_list(db, j->t.a, NULL, op->row.branch_id, true, &list, &n, &err) == 0)
        for (size_t i = 0; i < n; i++) {
            struct compute *c = compute_find(op->s, list[i].id);
            if (c)
                wake_drop(c);
        }
    task_submit(&j->t);
}
