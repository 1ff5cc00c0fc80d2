/*
 * intent_role.c - roles and databases: rows now, the catalogue by an operation
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "scheduler/given.h"

#include <string.h>

#define ROLES_MAX     500
#define DATABASES_MAX 500

static int add_apply(struct dbc *c, struct arena *a, struct outcome *out, struct err *err)
{
    return intent_add_operation(c, a, out, "apply_config", "scheduling", out->branch.id, NULL, NULL, err);
}

static int commit_and_kick(struct sched *s, struct dbc *c, struct err *err)
{
    if (db_commit(c, err) < 0)
        return -1;
    sched_kick(s);
    return 0;
}

void intent_give_role(struct arena *a, struct outcome *out, const struct role *r, const char *plain)
{
    out->roles = arena_alloc(a, sizeof(*out->roles));
    out->passwords = arena_alloc(a, sizeof(*out->passwords));
    out->roles[0] = *r;
    out->passwords[0] = plain;
    out->n_roles = 1;
}

void intent_give_database(struct arena *a, struct outcome *out, const struct database *d)
{
    out->databases = arena_alloc(a, sizeof(*out->databases));
    out->databases[0] = *d;
    out->n_databases = 1;
}

int intent_role_create(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                       const struct role_spec *spec, struct outcome *ret, struct err *err)
{
    struct role r, *others;
    size_t n;
    const char *plain;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (intent_check_role_name(spec->name, "/role/name", err) < 0 || db_write(s->env.db, &c, err) < 0 ||
        intent_load(c, a, project_id, branch, ret, err) < 0 ||
        role_list(c, a, ret->branch.id, true, &others, &n, err) < 0)
        return -1;
    if (n >= ROLES_MAX)
        return err_set(err, ERR_INVALID, "a branch has at most %d roles", ROLES_MAX);
    if (intent_new_role(s, a, &ret->project, ret->branch.id, spec->name, spec->no_login, &r, &plain, err) < 0)
        return -1;
    r.spec = given_merge(a, NULL, spec->given);
    if (role_insert(c, &r, err) < 0 || add_apply(c, a, ret, err) < 0)
        return -1;
    intent_give_role(a, ret, &r, plain);
    return commit_and_kick(s, c, err);
}

int intent_role_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                       const char *name, struct outcome *ret, struct err *err)
{
    struct role r;
    struct database *dbs;
    size_t n;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0 ||
        role_get(c, a, ret->branch.id, name, &r, err) < 0 ||
        database_list(c, a, ret->branch.id, false, &dbs, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(dbs[i].owner_name, name) == 0)
            return err_set(err, ERR_INVALID,
                           "role \"%s\" owns database \"%s\"; give it another owner or delete it first", name,
                           dbs[i].name);
    if (role_begin_drop(c, &r, clock_wall_us(), err) < 0 || add_apply(c, a, ret, err) < 0)
        return -1;
    intent_give_role(a, ret, &r, NULL);
    return commit_and_kick(s, c, err);
}

int intent_role_reset_password(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                               const char *name, struct outcome *ret, struct err *err)
{
    struct role r, fresh;
    const char *plain;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0 ||
        role_get(c, a, ret->branch.id, name, &r, err) < 0)
        return -1;
    if (r.no_login)
        return err_set(err, ERR_PRECONDITION, "role \"%s\" cannot log in, so it has no password", name);
    if (intent_new_role(s, a, &ret->project, ret->branch.id, name, false, &fresh, &plain, err) < 0)
        return -1;
    fresh.created_at = r.created_at;
    fresh.valid_until = r.valid_until;
    if (role_update(c, &fresh, err) < 0 || add_apply(c, a, ret, err) < 0)
        return -1;
    intent_give_role(a, ret, &fresh, plain);
    return commit_and_kick(s, c, err);
}

static int get_owner(struct dbc *c, struct arena *a, const char *branch_id, const char *name, struct err *err)
{
    struct role owner;
    if (role_get(c, a, branch_id, name, &owner, err) == 0)
        return 0;
    return err->code == ERR_NOT_FOUND
               ? err_field(err, ERR_NOT_FOUND, "/database/owner_name", "role not found: \"%.63s\"", name)
               : -1;
}

int intent_database_create(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const struct database_spec *spec, struct outcome *ret, struct err *err)
{
    struct database *others;
    size_t n;
    int64_t now = clock_wall_us();
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (intent_check_database_name(spec->name, "/database/name", err) < 0 ||
        db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0 ||
        database_list(c, a, ret->branch.id, true, &others, &n, err) < 0)
        return -1;
    if (n >= DATABASES_MAX)
        return err_set(err, ERR_INVALID, "a branch has at most %d databases", DATABASES_MAX);
    if (get_owner(c, a, ret->branch.id, spec->owner_name, err) < 0)
        return -1;
    struct database d = { .branch_id = ret->branch.id,
                          .name = spec->name,
                          .owner_name = spec->owner_name,
                          .spec = given_merge(a, NULL, spec->given),
                          .state = "creating",
                          .created_at = now,
                          .updated_at = now };
    if (database_insert(c, &d, err) < 0 || add_apply(c, a, ret, err) < 0)
        return -1;
    intent_give_database(a, ret, &d);
    return commit_and_kick(s, c, err);
}

/* What it is called in Postgres stays known until it is called otherwise. */
static void rename_database(struct database *d, const char *name)
{
    if (strcmp(name, d->name) == 0)
        return;
    d->made_name = d->made_name ? d->made_name : d->name;
    d->name = name;
}

int intent_database_change(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out,
                           struct database *d, const struct database_spec *spec, struct err *err)
{
    struct database was = *d;
    if (spec->owner_name && get_owner(c, a, out->branch.id, spec->owner_name, err) < 0)
        return -1;
    if (spec->name)
        rename_database(d, spec->name);
    d->owner_name = spec->owner_name ? spec->owner_name : d->owner_name;
    d->spec = given_merge(a, d->spec, spec->given);
    bool differs = strcmp(d->name, was.name) != 0 || strcmp(d->owner_name, was.owner_name) != 0;
    if (!differs)
        return given_equal(d->spec, was.spec) ? 0 : database_set_spec(c, d, err) < 0 ? -1 : db_commit(c, err);
    d->state = "creating";
    d->updated_at = clock_wall_us();
    if (database_update(c, d, err) < 0 || add_apply(c, a, out, err) < 0)
        return -1;
    return commit_and_kick(s, c, err);
}

int intent_database_update(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *name, const struct database_spec *spec, struct outcome *ret,
                           struct err *err)
{
    struct database d;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if ((spec->name && intent_check_database_name(spec->name, "/database/name", err) < 0) ||
        db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0 ||
        database_get(c, a, ret->branch.id, name, &d, err) < 0 ||
        intent_database_change(s, c, a, ret, &d, spec, err) < 0)
        return -1;
    intent_give_database(a, ret, &d);
    return 0;
}

int intent_database_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *name, struct outcome *ret, struct err *err)
{
    struct database d;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0 ||
        database_get(c, a, ret->branch.id, name, &d, err) < 0)
        return -1;
    if (database_begin_drop(c, &d, clock_wall_us(), err) < 0 || add_apply(c, a, ret, err) < 0)
        return -1;
    intent_give_database(a, ret, &d);
    return commit_and_kick(s, c, err);
}

int intent_reveal_password(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *role, const char **ret, struct err *err)
{
    struct outcome out = { 0 };
    struct role r;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, &out, err) < 0 ||
        role_get(c, a, out.branch.id, role, &r, err) < 0)
        return -1;
    if (!out.project.store_passwords)
        return err_set(err, ERR_PRECONDITION,
                       "this project does not store passwords; reset the password to get a new one");
    if (r.no_login)
        return err_set(err, ERR_PRECONDITION, "role \"%s\" cannot log in, so it has no password", role);
    return secret_open(s, a, &r, ret, err);
}
