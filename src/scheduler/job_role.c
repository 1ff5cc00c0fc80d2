/*
 * job_role.c - makes the catalogue of a running compute hold the roles and databases that are wanted
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/log.h"
#include "meta/project.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define ADMIN_OPEN_MS 10000

static int store_role(struct sched *s, struct role *r, const char *state, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0)
        return -1;
    r->state = state;
    r->updated_at = clock_wall_us();
    if ((state ? role_update(c, r, err) : role_delete(c, r->branch_id, r->name, err)) < 0)
        return -1;
    return db_commit(c, err);
}

static int store_database(struct sched *s, struct database *d, const char *state, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0)
        return -1;
    d->state = state;
    d->updated_at = clock_wall_us();
    if ((state ? database_update(c, d, err) : database_delete(c, d->id, err)) < 0)
        return -1;
    return db_commit(c, err);
}

static int make_role(struct sched *s, struct arena *a, struct role *r, bool keep_password,
                     struct pg_admin *admin, struct err *err)
{
    const char *plain, *verifier = NULL;
    if (r->sealed &&
        (secret_open(s, a, r, &plain, err) < 0 || crypt_scram_verifier(a, plain, &verifier, err) < 0))
        return -1;
    if (pg_admin_role_ensure(admin, r->name, verifier, r->no_login, err) < 0)
        return err_wrap(err, "role");
    if (!keep_password)
        r->sealed = NULL;
    return store_role(s, r, "ready", err);
}

/* What cannot be dropped goes back to ready, and the operation says why. */
static int drop_role(struct sched *s, struct role *r, struct pg_admin *admin, struct err *err)
{
    struct err ignored = ERR_INIT;
    if (pg_admin_role_drop(admin, r->name, err) == 0)
        return store_role(s, r, NULL, err);
    (void)!store_role(s, r, "ready", &ignored);
    return -1;
}

static int drop_database(struct sched *s, struct database *d, struct pg_admin *admin, struct err *err)
{
    struct err ignored = ERR_INIT;
    if (pg_admin_database_drop(admin, d->name, err) == 0)
        return store_database(s, d, NULL, err);
    (void)!store_database(s, d, "ready", &ignored);
    return -1;
}

static int read_rows(struct sched *s, struct arena *a, const char *branch_id, bool *keep_passwords,
                     struct role **roles, size_t *n_roles, struct database **dbs, size_t *n_dbs,
                     struct err *err)
{
    auto_dbc *c = NULL;
    struct branch b;
    struct project p;
    if (db_read(s->env.db, &c, err) < 0 || role_list(c, a, branch_id, true, roles, n_roles, err) < 0 ||
        branch_get_id(c, a, branch_id, &b, err) < 0 || project_get_any(c, a, b.project_id, &p, err) < 0)
        return -1;
    *keep_passwords = p.store_passwords;
    return database_list(c, a, branch_id, true, dbs, n_dbs, err);
}

int job_apply_pending(struct sched *s, struct arena *a, const char *branch_id, struct pg_admin *admin,
                      struct err *err)
{
    struct role *roles;
    struct database *dbs;
    size_t n_roles, n_dbs;
    bool keep;
    if (read_rows(s, a, branch_id, &keep, &roles, &n_roles, &dbs, &n_dbs, err) < 0)
        return -1;
    for (size_t i = 0; i < n_roles; i++)
        if (strcmp(roles[i].state, "creating") == 0 && make_role(s, a, &roles[i], keep, admin, err) < 0)
            return -1;
    for (size_t i = 0; i < n_dbs; i++) {
        if (strcmp(dbs[i].state, "creating") != 0)
            continue;
        if (pg_admin_database_ensure(admin, dbs[i].name, dbs[i].owner_name, err) < 0 ||
            store_database(s, &dbs[i], "ready", err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n_dbs; i++)
        if (strcmp(dbs[i].state, "dropping") == 0 && drop_database(s, &dbs[i], admin, err) < 0)
            return -1;
    for (size_t i = 0; i < n_roles; i++)
        if (strcmp(roles[i].state, "dropping") == 0 && drop_role(s, &roles[i], admin, err) < 0)
            return -1;
    return 0;
}

/* ---- the operation ---- */

struct apply_job {
    struct task t;
    struct op *op;
    struct compute *c;
    char id[ID_MAX + 1];
    char branch_id[ID_MAX + 1];
    const char *args;
    struct pg_admin *admin;
};

/* {"database": name, "name": new name, "owner_name": new owner}: what a PATCH asked for. */
static int alter_database(struct apply_job *j, struct err *err)
{
    struct sched *s = j->t.s;
    struct database d;
    json_auto_t *args = j->args ? json_loads(j->args, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(args, "database"));
    const char *new_name = json_string_value(json_object_get(args, "name")),
               *new_owner = json_string_value(json_object_get(args, "owner_name"));
    if (!name)
        return 0;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || database_get(c, j->t.a, j->branch_id, name, &d, err) < 0)
            return -1;
    }
    if (pg_admin_database_alter(j->admin, name, new_name, new_owner, err) < 0)
        return -1;
    d.name = new_name ? new_name : d.name;
    d.owner_name = new_owner ? new_owner : d.owner_name;
    return store_database(s, &d, "ready", err);
}

static void apply_run(struct task *t)
{
    struct apply_job *j = (struct apply_job *)t;
    t->rc = 0;
    if (!j->admin)
        t->rc = pg_admin_open(env_socket_dir(&t->s->env, t->a, j->id), ADMIN_OPEN_MS, &j->admin, &t->err);
    if (t->rc == 0)
        t->rc = job_apply_pending(t->s, t->a, j->branch_id, j->admin, &t->err);
    if (t->rc == 0)
        t->rc = alter_database(j, &t->err);
}

static void apply_done(struct task *t)
{
    struct apply_job *j = (struct apply_job *)t;
    struct compute *c = j->c;
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
    j->c = c;
    j->admin = c->admin;
    j->args = arena_strdup(j->t.a, op->row.args);
    snprintf(j->id, sizeof(j->id), "%s", c->id);
    snprintf(j->branch_id, sizeof(j->branch_id), "%s", c->branch_id);
    c->pins++;
    c->admin_busy = true;
    task_submit(&j->t);
}
