/*
 * look.c - a client knows a role or a password that we do not: the roles of a running compute are read again
 */
#include "scheduler/internal.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define ADMIN_OPEN_MS 5000

struct catalog_look {
    struct task t;
    char id[ID_MAX + 1];
    char branch_id[ID_MAX + 1];
    int64_t generation;
    struct waiter *lookers;
    struct pg_admin *admin;
    char mark[PG_CATALOG_MARK_SIZE];
};

static void look_run(struct task *t)
{
    struct catalog_look *l = (struct catalog_look *)t;
    t->rc = 0;
    if (!l->admin)
        t->rc = pg_admin_open(env_socket_dir(&t->s->env, t->a, l->id), ADMIN_OPEN_MS, &l->admin, &t->err);
    if (t->rc == 0)
        t->rc = catalog_sync(t->s, t->a, l->branch_id, l->admin, l->mark, &t->err);
    if (t->rc < 0) {
        pg_admin_close(l->admin);
        l->admin = NULL;
    }
}

static void look_done(struct task *t)
{
    struct catalog_look *l = (struct catalog_look *)t;
    struct compute *c = t->c;
    supervise_give_back(c, l->admin);
    if (t->rc < 0)
        log_event(LOG_WARN, "catalog", "cannot bring roles and databases up to date", "ep", l->id, "error",
                  t->err.msg, "detail", t->err.detail, NULL);
    else if (c->generation == l->generation)
        memcpy(c->catalog_mark, l->mark, sizeof(c->catalog_mark));
    teller_looked(t->s, &l->lookers);
    compute_step(c);
}

void catalog_look(struct compute *c)
{
    if (!c->lookers || c->admin_busy)
        return;
    if (c->standby || (c->state != COMPUTE_RUNNING && c->state != COMPUTE_DRAINING)) {
        teller_looked(c->s, &c->lookers);
        return;
    }
    struct catalog_look *l = task_new(c->s, sizeof(*l), look_run, look_done);
    l->t.c = c;
    l->t.slow = true; /* it may wait for a server that hangs */
    l->generation = c->generation;
    l->lookers = TAKE(c->lookers);
    l->admin = c->admin;
    snprintf(l->id, sizeof(l->id), "%s", c->id);
    snprintf(l->branch_id, sizeof(l->branch_id), "%s", c->branch_id);
    c->admin_busy = true;
    task_submit(&l->t);
}
