/*
 * images.c - images that nobody asked for: of running computes, every so much WAL; and what is still to be
 * read of images that are there
 *
 * Driven by the looks at a compute's activity and by housekeeping.  All work is in slow tasks; the compute is
 * pinned only until the data is safe.  A session of our own each time: forks and roles need not wait for it.
 */
#include "scheduler/internal.h"

#include "base/log.h"
#include "branch/capture.h"
#include "branch/stamp.h"
#include "meta/image.h"
#include "meta/project.h"
#include "scheduler/moment.h"

#include <stdio.h>
#include <string.h>

#define ADMIN_OPEN_MS  10000
#define STAMPS_AT_ONCE 20
/* How much WAL until it is looked again: the setting may have changed, a failure may have passed. */
#define LOOK_BYTES ((uint64_t)PROJECT_IMAGE_WAL_MIN)

/* ---- background images ---- */

struct background {
    struct task t;
    char branch_id[ID_MAX + 1];
    char image_id[ID_MAX + 1]; /* once its data is safe */
};

static int find_branch(struct background *k, struct branch *ret, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(k->t.s->env.db, &c, err) < 0)
        return -1;
    return branch_get_id(c, k->t.a, k->branch_id, ret, err);
}

static void take_run(struct task *t)
{
    struct background *k = (struct background *)t;
    const struct env *env = &t->s->env;
    struct pg_admin *admin = NULL;
    struct branch b;
    struct image image;
    t->rc = find_branch(k, &b, &t->err);
    if (t->rc == 0)
        t->rc = pg_admin_open(env_socket_dir(env, t->a, t->c->id), ADMIN_OPEN_MS, &admin, &t->err);
    if (t->rc == 0)
        t->rc = capture_background(env, t->a, &b, admin, &image, &t->err);
    pg_admin_close(admin);
    if (t->rc == 0)
        snprintf(k->image_id, sizeof(k->image_id), "%s", image.id);
    CRASH_POINT("image.taken");
}

static void complete_run(struct task *t)
{
    struct background *k = (struct background *)t;
    struct err ignored = ERR_INIT;
    t->rc = capture_complete(&t->s->env, t->a, k->image_id, &t->err);
    if (t->rc < 0)
        (void)!capture_discard(&t->s->env, k->image_id, &ignored);
}

/* A branch that goes takes its images along: that one was lost with it is no news. */
static void image_failed(struct background *k)
{
    struct branch b;
    struct err ignored = ERR_INIT;
    if (find_branch(k, &b, &ignored) < 0 || strcmp(b.state, "deleting") == 0)
        return;
    log_event(LOG_WARN, "images", "no image of a running branch", "br", k->branch_id, "error", k->t.err.msg,
              "detail", k->t.err.detail, NULL);
}

static void complete_done(struct task *t)
{
    struct background *k = (struct background *)t;
    t->c->imaging = false;
    if (t->rc < 0)
        image_failed(k);
    else
        log_event(LOG_INFO, "images", "image of a running branch", "br", k->branch_id, "image", k->image_id,
                  NULL);
}

static void take_done(struct task *t)
{
    struct background *k = (struct background *)t;
    struct compute *c = t->c;
    c->pins--;
    if (t->rc == 0) {
        struct background *next = task_new(t->s, sizeof(*next), complete_run, complete_done);
        memcpy(next->branch_id, k->branch_id, sizeof(next->branch_id));
        memcpy(next->image_id, k->image_id, sizeof(next->image_id));
        next->t.c = c;
        next->t.slow = true;
        task_submit(&next->t);
    } else {
        c->imaging = false;
        image_failed(k);
    }
    compute_step(c);
}

static void take(struct compute *c)
{
    struct background *k = task_new(c->s, sizeof(*k), take_run, take_done);
    snprintf(k->branch_id, sizeof(k->branch_id), "%s", c->branch_id);
    k->t.c = c;
    k->t.slow = true;
    c->pins++;
    c->imaging = true;
    task_submit(&k->t);
}

/* bytes: after how much WAL; base: from where they count. */
static int find_due(struct compute *c, struct arena *a, int64_t *ret_bytes, uint64_t *ret_base,
                    struct err *err)
{
    auto_dbc *db = NULL;
    struct branch b;
    struct image image;
    bool found;
    if (db_read(c->s->env.db, &db, err) < 0 || branch_get_id(db, a, c->branch_id, &b, err) < 0 ||
        project_image_wal_bytes(db, c->project_id, ret_bytes, err) < 0 ||
        image_find_between(db, a, b.id, b.fork_lsn, INT64_MAX, &image, &found, err) < 0)
        return -1;
    *ret_base = found ? image.lsn : b.fork_lsn;
    return 0;
}

void images_flushed(struct compute *c, uint64_t lsn)
{
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    int64_t bytes;
    uint64_t base;
    /* Where an image costs a copy of all the data, only a fork takes one. */
    if (c->imaging || c->s->stopping || c->state != COMPUTE_RUNNING || lsn < c->image_look_lsn ||
        !(store_features(c->s->env.store) & STORE_SHARES_BLOCKS))
        return;
    if (find_due(c, a, &bytes, &base, &err) < 0) {
        log_event(LOG_WARN, "images", "cannot tell whether an image is due", "br", c->branch_id, "error",
                  err.msg, "detail", err.detail, NULL);
        return;
    }
    bool due = bytes > 0 && lsn >= base + (uint64_t)bytes;
    bool soon = bytes > 0 && !due && base + (uint64_t)bytes - lsn < LOOK_BYTES;
    c->image_look_lsn = soon ? base + (uint64_t)bytes : lsn + LOOK_BYTES;
    if (due)
        take(c);
}

/* ---- when images were ---- */

static void stamp_run(struct task *t)
{
    bool more = true;
    auto_moment *hold UNUSED = moment_hold(t->s);
    t->rc = 0;
    for (int i = 0; i < STAMPS_AT_ONCE && more && t->rc == 0; i++)
        t->rc = stamp_next(&t->s->env, t->a, &more, &t->err);
}

static void stamp_done(struct task *t)
{
    t->s->stamping = false;
    if (t->rc < 0)
        log_event(LOG_WARN, "images", "cannot read when an image was", "error", t->err.msg, "detail",
                  t->err.detail, NULL);
}

void images_look(struct sched *s)
{
    if (s->stamping)
        return;
    struct task *t = task_new(s, sizeof(*t), stamp_run, stamp_done);
    t->slow = true; /* it may read as much WAL as lies between two images */
    s->stamping = true;
    task_submit(t);
}
