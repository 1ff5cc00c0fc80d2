/*
 * catalog.c - the catalogue of a running compute is the truth: brings what SQL, a fork in the past or a
 * restore made of roles and databases into our rows
 *
 * In a worker that has the compute's admin session, and so never beside a job that makes or drops roles of
 * the same branch.  Rows of wishes (creating, dropping) are never touched: whoever made them is waiting.
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "pg/scram.h"

#include <stdio.h>
#include <string.h>

struct sync {
    struct sched *s;
    struct arena *a;
    const char *branch_id;
    const struct pg_catalog *cat;
    struct role *roles;
    struct database *dbs;
    size_t n_roles, n_dbs;
    struct weighed *weighed;
    struct dbc *c; /* in a write transaction; NULL: only counts */
    int n_changes;
    bool missed; /* a row was changed after its password was weighed: the next look sees to it */
};

/* A stored password whose role has another verifier in Postgres: is it still the one? */
struct weighed {
    struct weighed *next;
    const char *name;
    int64_t updated_at; /* of the row that has it */
    bool fits;
};

static bool is_in(const char *state, const char *wanted)
{
    return strcmp(state, wanted) == 0;
}

/* A wish that is not fulfilled yet. */
static bool is_wish(const char *state)
{
    return is_in(state, "creating") || is_in(state, "dropping");
}

/* One that no request could name is left out. */
static bool can_be_named(const char *name)
{
    return text_is_name(name, 63) && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool is_called(const char *name, const char *made_name, const char *asked)
{
    return strcmp(name, asked) == 0 || (made_name && strcmp(made_name, asked) == 0);
}

/* ---- roles ---- */

static const struct pg_catalog_role *role_in_catalog(const struct pg_catalog *cat, const char *name)
{
    for (size_t i = 0; i < cat->n_roles; i++)
        if (strcmp(cat->roles[i].name, name) == 0)
            return &cat->roles[i];
    return NULL;
}

static bool role_is_known(const struct sync *y, const char *name)
{
    for (size_t i = 0; i < y->n_roles; i++)
        if (is_called(y->roles[i].name, y->roles[i].made_name, name))
            return true;
    return false;
}

static bool needs_password(const struct role *r, const struct pg_catalog_role *is)
{
    return is_in(r->state, "inherited") && r->verifier && !is->no_login;
}

/* What we cannot open is as good as another one: it is replaced. */
static bool has_verifier(const struct sync *y, const struct role *r, const char *verifier)
{
    struct err ignored = ERR_INIT;
    const char *ours;
    if (secret_open_verifier(y->s, y->a, r, &ours, &ignored) < 0)
        return false;
    return ours && verifier ? strcmp(ours, verifier) == 0 : !ours && !verifier;
}

/* May take long, where whoever set the password has asked for many iterations. */
static void weigh_role(struct sync *y, const struct role *r, const struct pg_catalog_role *is)
{
    struct scram_verifier v;
    struct err ignored = ERR_INIT;
    const char *plain;
    if (!r->sealed || is_wish(r->state) || needs_password(r, is) || has_verifier(y, r, is->verifier))
        return;
    struct weighed *w = arena_alloc(y->a, sizeof(*w));
    *w = (struct weighed){ .next = y->weighed, .name = r->name, .updated_at = r->updated_at };
    w->fits = is->verifier && scram_verifier_parse(is->verifier, &v, &ignored) == 0 &&
              secret_open(y->s, y->a, r, &plain, &ignored) == 0 && scram_verifier_fits(&v, plain);
    y->weighed = w;
}

static void weigh_passwords(struct sync *y)
{
    for (size_t i = 0; i < y->n_roles; i++) {
        const struct pg_catalog_role *is = role_in_catalog(y->cat, y->roles[i].name);
        if (is)
            weigh_role(y, &y->roles[i], is);
    }
}

static const struct weighed *find_weighed(const struct sync *y, const struct role *r)
{
    for (const struct weighed *w = y->weighed; w; w = w->next)
        if (strcmp(w->name, r->name) == 0 && w->updated_at == r->updated_at)
            return w;
    return NULL;
}

/* The password was changed by SQL: a stored one that is not it any more is worth nothing. */
static int take_password(struct sync *y, struct role *r, const struct pg_catalog_role *is, struct err *err)
{
    const struct weighed *w = find_weighed(y, r);
    if (r->sealed && !w) {
        y->missed = true;
        return 0;
    }
    if (r->sealed && !w->fits) {
        r->sealed = NULL;
        r->sealed_len = 0;
    }
    r->verifier = NULL;
    r->verifier_len = 0;
    return is->verifier ? secret_seal_verifier(y->s, y->a, r->branch_id, r->name, is->verifier, r, err) : 0;
}

static int sync_role(struct sync *y, const struct role *r, struct err *err)
{
    const struct pg_catalog_role *is = role_in_catalog(y->cat, r->name);
    struct role now = *r;
    if (is_wish(r->state) || (is && needs_password(r, is)))
        return 0;
    bool same_password = is && has_verifier(y, r, is->verifier);
    if (is && is_in(r->state, "ready") && r->no_login == is->no_login && r->valid_until == is->valid_until &&
        same_password)
        return 0;
    y->n_changes++;
    if (!y->c)
        return 0;
    if (!is)
        return role_delete(y->c, r, err);
    if (!same_password && take_password(y, &now, is, err) < 0)
        return -1;
    now.state = "ready";
    now.no_login = is->no_login;
    now.valid_until = is->valid_until;
    now.updated_at = clock_wall_us();
    return role_update(y->c, &now, err);
}

static int add_role(struct sync *y, const struct pg_catalog_role *is, struct err *err)
{
    int64_t now = clock_wall_us();
    struct role r = { .branch_id = y->branch_id,
                      .name = is->name,
                      .valid_until = is->valid_until,
                      .no_login = is->no_login,
                      .state = "ready",
                      .created_at = now,
                      .updated_at = now };
    if (role_is_known(y, is->name) || !can_be_named(is->name))
        return 0;
    y->n_changes++;
    if (!y->c)
        return 0;
    if (is->verifier && secret_seal_verifier(y->s, y->a, y->branch_id, r.name, is->verifier, &r, err) < 0)
        return -1;
    return role_insert(y->c, &r, err);
}

/* ---- databases ---- */

static const struct pg_catalog_database *database_in_catalog(const struct pg_catalog *cat, const char *name)
{
    for (size_t i = 0; i < cat->n_databases; i++)
        if (strcmp(cat->databases[i].name, name) == 0)
            return &cat->databases[i];
    return NULL;
}

static bool database_is_known(const struct sync *y, const char *name)
{
    for (size_t i = 0; i < y->n_dbs; i++)
        if (is_called(y->dbs[i].name, y->dbs[i].made_name, name))
            return true;
    return false;
}

static int sync_database(struct sync *y, const struct database *d, struct err *err)
{
    const struct pg_catalog_database *is = database_in_catalog(y->cat, d->name);
    struct database now = *d;
    if (is_wish(d->state) || (is && is_in(d->state, "ready") && strcmp(d->owner_name, is->owner_name) == 0))
        return 0;
    y->n_changes++;
    if (!y->c)
        return 0;
    if (!is)
        return database_delete(y->c, d, err);
    now.state = "ready";
    now.owner_name = is->owner_name;
    now.updated_at = clock_wall_us();
    return database_update(y->c, &now, err);
}

static int add_database(struct sync *y, const struct pg_catalog_database *is, struct err *err)
{
    int64_t now = clock_wall_us();
    struct database d = { .branch_id = y->branch_id,
                          .name = is->name,
                          .owner_name = is->owner_name,
                          .state = "ready",
                          .created_at = now,
                          .updated_at = now };
    if (database_is_known(y, is->name) || !can_be_named(is->name))
        return 0;
    y->n_changes++;
    return y->c ? database_insert(y->c, &d, err) : 0;
}

/* ---- all of it ---- */

static int read_rows(struct sync *y, struct dbc *c, struct arena *a, struct err *err)
{
    if (role_list(c, a, y->branch_id, true, &y->roles, &y->n_roles, err) < 0)
        return -1;
    return database_list(c, a, y->branch_id, true, &y->dbs, &y->n_dbs, err);
}

static int compare(struct sync *y, struct err *err)
{
    y->n_changes = 0;
    for (size_t i = 0; i < y->n_roles; i++)
        if (sync_role(y, &y->roles[i], err) < 0)
            return -1;
    for (size_t i = 0; i < y->n_dbs; i++)
        if (sync_database(y, &y->dbs[i], err) < 0)
            return -1;
    for (size_t i = 0; i < y->cat->n_roles; i++)
        if (add_role(y, &y->cat->roles[i], err) < 0)
            return -1;
    for (size_t i = 0; i < y->cat->n_databases; i++)
        if (add_database(y, &y->cat->databases[i], err) < 0)
            return -1;
    return 0;
}

/* Those of the past had the passwords of their time. */
static int give_passwords(struct sched *s, struct arena *a, struct sync *y, struct pg_admin *admin,
                          struct err *err)
{
    for (size_t i = 0; i < y->n_roles; i++) {
        struct role *r = &y->roles[i];
        const struct pg_catalog_role *is = role_in_catalog(y->cat, r->name);
        if (is && needs_password(r, is) && job_make_role(s, a, r, admin, err) < 0)
            return -1;
    }
    return 0;
}

int catalog_sync(struct sched *s, struct arena *a, const char *branch_id, struct pg_admin *admin,
                 char mark[PG_CATALOG_MARK_SIZE], struct err *err)
{
    struct pg_catalog cat;
    struct sync y = { .s = s, .a = a, .branch_id = branch_id, .cat = &cat };
    if (pg_admin_catalog(admin, a, &cat, err) < 0)
        return -1;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || read_rows(&y, c, a, err) < 0)
            return -1;
    }
    if (give_passwords(s, a, &y, admin, err) < 0)
        return -1;
    weigh_passwords(&y);
    CRASH_POINT("catalog.read");
    /* Most of the time nothing is different, and nobody has to wait for the disk. */
    if (compare(&y, err) < 0)
        return -1;
    if (y.n_changes > 0) {
        auto_dbc *c = NULL;
        if (db_write(s->env.db, &c, err) < 0 || read_rows(&y, c, a, err) < 0)
            return -1;
        y.c = c;
        if (compare(&y, err) < 0 || db_commit(c, err) < 0)
            return -1;
        auto_free char *n = xasprintf("%d", y.n_changes);
        log_event(LOG_INFO, "catalog", "roles and databases are those of the compute", "br", branch_id,
                  "changes", n, NULL);
    }
    if (!y.missed)
        memcpy(mark, cat.mark, sizeof(cat.mark));
    return 0;
}
