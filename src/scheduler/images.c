/*
 * images.c - images beside what anybody asked for: what is still to be read of them
 *
 * Looked at from housekeeping; one slow task at a time.
 */
#include "scheduler/internal.h"

#include "base/log.h"
#include "branch/stamp.h"

#define STAMPS_AT_ONCE 20

static void stamp_run(struct task *t)
{
    bool more = true;
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
