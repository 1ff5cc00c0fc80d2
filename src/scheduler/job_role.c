/*
 * job_role.c - makes the catalogue of a running compute hold the roles and databases that are wanted
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define ADMIN_OPEN_MS 10000

/* How a row is written after Postgres has said yes or no. */
static int write_role(struct sched *s, const struct role *r,
                      int (*how)(struct dbc *, const struct role *, int64_t, struct err *), struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || how(c, r, clock_wall_us(), err) < 0)
        return -1;
    return db_commit(c, err);
}

static int write_database(struct sched *s, const struct database *d,
                          int (*how)(struct dbc *, const struct database *, int64_t, struct err *),
                          struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || how(c, d, clock_wall_us(), err) < 0)
        return -1;
    return db_commit(c, err);
}

int job_make_role(struct sched *s, struct arena *a, struct role *r, struct pg_admin *admin, struct err *err)
{
    const char *verifier;
    if (secret_open_verifier(s, a, r, &verifier, err) < 0)
        return -1;
    if (pg_admin_role_ensure(admin, r->name, verifier, r->no_login, err) < 0)
        return err_wrap(err, "role");
    return write_role(s, r, role_settle, err);
}

/* Not Postgres's no to one thing: the next one would fare the same. */
static bool is_lost(const struct err *err)
{
    return err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT;
}

/* All that waits in one branch. */
struct waiting {
    struct sched *s;
    struct arena *a;
    const char *branch_id;
    struct pg_admin *admin;
    bool at_start; /* no operation is there to say why not: what Postgres refuses to drop goes on waiting */
    struct role *roles;
    struct database *dbs;
    size_t n_roles, n_dbs;
    bool failed; /* first: why the first one could not be applied */
    struct err first;
};

static int read_rows(struct waiting *w, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(w->s->env.db, &c, err) < 0 ||
        role_list(c, w->a, w->branch_id, true, &w->roles, &w->n_roles, err) < 0)
        return -1;
    return database_list(c, w->a, w->branch_id, true, &w->dbs, &w->n_dbs, err);
}

/* One that could not be applied does not keep the others from it.  false: go no further. */
static bool note(struct waiting *w, const char *what, const char *name, const struct err *why)
{
    log_event(LOG_INFO, "apply", "refused", "br", w->branch_id, what, name, "error", why->msg, "detail",
              why->detail, NULL);
    if (!w->failed)
        err_set(&w->first, why->code, "%s \"%s\" was not applied: %s", what, name, why->msg);
    w->failed = true;
    return !is_lost(why);
}

static bool is_in(const char *state, const char *wanted)
{
    return strcmp(state, wanted) == 0;
}

/* A role of this name is still to be dropped first. */
static bool role_in_the_way(const struct waiting *w, const char *name)
{
    for (size_t i = 0; i < w->n_roles; i++)
        if (is_in(w->roles[i].state, "dropping") && strcmp(w->roles[i].made_name, name) == 0)
            return true;
    return false;
}

static bool database_in_the_way(const struct waiting *w, const char *name)
{
    for (size_t i = 0; i < w->n_dbs; i++)
        if (is_in(w->dbs[i].state, "dropping") && strcmp(w->dbs[i].made_name, name) == 0)
            return true;
    return false;
}

/* final: what cannot be dropped now is there to stay, and the operation says why. */
static bool drop_roles(struct waiting *w, bool final)
{
    for (size_t i = 0; i < w->n_roles; i++) {
        struct role *r = &w->roles[i];
        struct err err = ERR_INIT;
        if (!is_in(r->state, "dropping"))
            continue;
        int rc = pg_admin_role_drop(w->admin, r->made_name, &err);
        if (rc == 0)
            rc = write_role(w->s, r, role_settle, &err);
        else if (!final && !is_lost(&err))
            continue;
        else if (!is_lost(&err) && !w->at_start) {
            struct err ignored = ERR_INIT;
            (void)!write_role(w->s, r, role_undo_drop, &ignored);
        }
        r->state = "done";
        if (rc < 0 && !note(w, "role", r->made_name, &err))
            return false;
    }
    return true;
}

static bool make_roles(struct waiting *w)
{
    for (size_t i = 0; i < w->n_roles; i++) {
        struct role *r = &w->roles[i];
        struct err err = ERR_INIT;
        if (!is_in(r->state, "creating") || role_in_the_way(w, r->name))
            continue;
        int rc = job_make_role(w->s, w->a, r, w->admin, &err);
        r->state = "done";
        if (rc < 0 && !note(w, "role", r->name, &err))
            return false;
    }
    return true;
}

static bool drop_databases(struct waiting *w)
{
    for (size_t i = 0; i < w->n_dbs; i++) {
        struct database *d = &w->dbs[i];
        struct err err = ERR_INIT, ignored = ERR_INIT;
        if (!is_in(d->state, "dropping"))
            continue;
        int rc = pg_admin_database_drop(w->admin, d->made_name, &err);
        if (rc == 0)
            rc = write_database(w->s, d, database_settle, &err);
        else if (!is_lost(&err) && !w->at_start)
            (void)!write_database(w->s, d, database_undo_drop, &ignored);
        if (rc == 0)
            d->state = "done";
        else if (!note(w, "database", d->made_name, &err))
            return false;
    }
    return true;
}

static int make_database(struct waiting *w, const struct database *d, struct err *err)
{
    if (database_in_the_way(w, d->name))
        return err_set(err, ERR_CONFLICT, "the database of this name that was deleted is still there");
    if (pg_admin_database_ensure(w->admin, d->made_name, d->name, d->owner_name, err) < 0)
        return -1;
    return write_database(w->s, d, database_settle, err);
}

static bool make_databases(struct waiting *w)
{
    for (size_t i = 0; i < w->n_dbs; i++) {
        struct database *d = &w->dbs[i];
        struct err err = ERR_INIT;
        if (is_in(d->state, "creating") && make_database(w, d, &err) < 0 &&
            !note(w, "database", d->name, &err))
            return false;
    }
    return true;
}

static bool any_inherited(const struct waiting *w)
{
    for (size_t i = 0; i < w->n_roles; i++)
        if (is_in(w->roles[i].state, "inherited"))
            return true;
    for (size_t i = 0; i < w->n_dbs; i++)
        if (is_in(w->dbs[i].state, "inherited"))
            return true;
    return false;
}

int job_apply_pending(struct sched *s, struct arena *a, const char *branch_id, struct pg_admin *admin,
                      bool at_start, struct err *err)
{
    struct waiting w = { .s = s, .a = a, .branch_id = branch_id, .admin = admin, .at_start = at_start };
    char mark[PG_CATALOG_MARK_SIZE];
    if (read_rows(&w, err) < 0)
        return -1;
    if (any_inherited(&w) && (catalog_sync(s, a, branch_id, admin, mark, err) < 0 || read_rows(&w, err) < 0))
        return -1;
    /* A role may own what is dropped or given away here, and have the name of one that is made. */
    (void)(drop_databases(&w) && drop_roles(&w, false) && make_roles(&w) && make_databases(&w) &&
           drop_roles(&w, true) && make_roles(&w));
    if (w.failed)
        *err = w.first;
    return w.failed ? -1 : 0;
}

/* ---- the operation ---- */

struct apply_job {
    struct task t;
    struct op *op;
    char id[ID_MAX + 1];
    char branch_id[ID_MAX + 1];
    struct pg_admin *admin;
};

static void apply_run(struct task *t)
{
    struct apply_job *j = (struct apply_job *)t;
    const char *socket_dir = env_socket_dir(&t->s->env, t->a, j->id);
    struct err second = ERR_INIT;
    t->rc = 0;
    if (!j->admin)
        t->rc = pg_admin_open(socket_dir, ADMIN_OPEN_MS, &j->admin, &t->err);
    if (t->rc == 0)
        t->rc = job_apply_pending(t->s, t->a, j->branch_id, j->admin, false, &t->err);
    /* A role that Postgres refuses keeps nobody from his extensions. */
    if ((t->rc == 0 || !is_lost(&t->err)) &&
        job_apply_extensions(t->s, t->a, j->branch_id, socket_dir, false, &second) < 0 && t->rc == 0) {
        t->err = second;
        t->rc = -1;
    }
    if (t->rc < 0 && is_lost(&t->err)) {
        pg_admin_close(j->admin);
        j->admin = NULL;
    }
}

static void apply_done(struct task *t)
{
    struct apply_job *j = (struct apply_job *)t;
    struct compute *c = j->t.c;
    j->op->tasked = false;
    supervise_give_back(c, j->admin);
    c->pins--;
    idle_begin(&c->idle, clock_wall_us());
    if (t->rc < 0)
        log_event(LOG_INFO, "apply", "refused", "br", j->branch_id, "error", t->err.msg, "detail",
                  t->err.detail, NULL);
    ops_finish(j->op, t->rc < 0 ? "failed" : "finished", t->rc < 0 ? t->err.msg : NULL);
    compute_step(c);
}

void job_apply_start(struct op *op, struct compute *c)
{
    struct apply_job *j = task_new(op->s, sizeof(*j), apply_run, apply_done);
    j->op = op;
    op->tasked = true;
    j->t.c = c;
    j->admin = c->admin;
    snprintf(j->id, sizeof(j->id), "%s", c->id);
    snprintf(j->branch_id, sizeof(j->branch_id), "%s", c->branch_id);
    c->pins++;
    c->admin_busy = true;
    task_submit(&j->t);
}
