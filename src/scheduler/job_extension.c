/*
 * job_extension.c - makes the databases of a running compute have the extensions that are wanted
 *
 * In a worker, on a superuser's session in a user's database: pg/admin.h says what makes that safe.
 */
#include "scheduler/internal.h"

#include "base/log.h"
#include "meta/extension.h"
#include "pg/extension.h"

#include <string.h>

#define ADMIN_OPEN_MS 10000

/* What waits in one database. */
struct waiting {
    struct sched *s;
    struct arena *a;
    const char *branch_id;
    const char *database;
    struct extension *rows;
    size_t n;
    struct pg_admin *admin;
    bool at_start; /* no operation is there to say why not: what Postgres refuses goes on waiting */
    struct pg_installed *installed;
    size_t n_installed;
};

static const struct pg_installed *find_installed(const struct waiting *w, const char *name)
{
    for (size_t i = 0; i < w->n_installed; i++)
        if (strcmp(w->installed[i].name, name) == 0)
            return &w->installed[i];
    return NULL;
}

static int settle(struct waiting *w, const struct extension *row, struct err *err)
{
    const struct pg_installed *is = find_installed(w, row->name);
    struct extension e = *row;
    e.version = is ? is->version : NULL;
    e.schema = is ? is->schema : NULL;
    auto_dbc *c = NULL;
    return db_write(w->s->env.db, &c, err) < 0 || extension_settle(c, &e, is != NULL, err) < 0 ||
                   db_commit(c, err) < 0
               ? -1
               : 0;
}

static int attempt(struct waiting *w, const struct extension *row, struct err *err)
{
    if (strcmp(row->state, "creating") == 0)
        return pg_admin_extension_ensure(w->admin, w->a, row->name, row->version, row->schema, err);
    if (strcmp(row->state, "dropping") == 0)
        return pg_admin_extension_drop(w->admin, row->name, err);
    return 0;
}

/* What Postgres refuses once is not wished for any longer: the operation says why, and the row what is. */
static int apply_one(struct waiting *w, const struct extension *row, struct err *err)
{
    struct err ignored = ERR_INIT;
    int rc = attempt(w, row, err);
    CRASH_POINT("extension.applied");
    if (rc < 0 && (w->at_start || err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT))
        return -1;
    if (pg_admin_extensions(w->admin, w->a, &w->installed, &w->n_installed, rc < 0 ? &ignored : err) < 0 ||
        settle(w, row, rc < 0 ? &ignored : err) < 0)
        return -1;
    return rc;
}

static int apply_database(struct waiting *w, const char *socket_dir, struct err *err)
{
    int rc = 0;
    if (pg_admin_open_database(socket_dir, w->database, ADMIN_OPEN_MS, &w->admin, err) < 0)
        return err_wrap(err, "database \"%s\"", w->database);
    for (size_t i = 0; i < w->n; i++) {
        struct err one = ERR_INIT;
        if (apply_one(w, &w->rows[i], &one) == 0)
            continue;
        log_event(LOG_INFO, "apply", "refused", "br", w->branch_id, "extension", w->rows[i].name, "error",
                  one.msg, "detail", one.detail, NULL);
        if (rc == 0)
            err_set(err, one.code, "extension \"%s\" of database \"%s\" was not applied: %s", w->rows[i].name,
                    w->database, one.msg);
        rc = -1;
    }
    pg_admin_close(w->admin);
    return rc;
}

static const char *name_of(const struct database *dbs, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (dbs[i].id == id)
            return dbs[i].made_name ? dbs[i].made_name : dbs[i].name;
    return NULL;
}

int job_apply_extensions(struct sched *s, struct arena *a, const char *branch_id, const char *socket_dir,
                         bool at_start, struct err *err)
{
    struct extension *rows;
    struct database *dbs;
    size_t n, n_dbs;
    int rc = 0;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || extension_list_pending(c, a, branch_id, &rows, &n, err) < 0 ||
            database_list(c, a, branch_id, false, &dbs, &n_dbs, err) < 0)
            return -1;
    }
    for (size_t i = 0, next; i < n; i = next) {
        struct err one = ERR_INIT;
        for (next = i; next < n && rows[next].database_id == rows[i].database_id;)
            next++;
        struct waiting w = { .s = s, .a = a, .branch_id = branch_id, .at_start = at_start };
        w.database = name_of(dbs, n_dbs, rows[i].database_id);
        w.rows = &rows[i];
        w.n = next - i;
        if (w.database && apply_database(&w, socket_dir, &one) < 0) {
            if (rc == 0)
                *err = one;
            rc = -1;
        }
    }
    return rc;
}
