/*
 * intent_extension.c - extensions of a database: a row now, Postgres by an operation
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/text.h"

#include <string.h>

static int load(struct sched *s, struct dbc *c, struct arena *a, const struct extension_place *at,
                struct outcome *out, struct database *d, const struct pg_install **install, struct err *err)
{
    if (intent_load(c, a, at->project_id, at->branch, out, err) < 0 ||
        database_get(c, a, out->branch.id, at->database, d, err) < 0)
        return -1;
    *install = env_install(&s->env, out->project.pg_version);
    return *install ? 0
                    : err_set(err, ERR_PRECONDITION,
                              "the Postgres of this project is not installed any more; install it again");
}

/* One that is being dropped is, to users, not there. */
static void take_row(struct extension_info *e, const struct extension *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].name, e->available.name) == 0 && strcmp(rows[i].state, "dropping") != 0) {
            e->row = rows[i];
            e->known = true;
        }
}

int intent_extension_list(struct sched *s, struct arena *a, const struct extension_place *at,
                          struct extension_info **ret, size_t *ret_n, struct err *err)
{
    struct outcome out = { 0 };
    struct database d;
    struct extension *rows;
    const struct pg_install *install;
    struct pg_extension *available;
    size_t n_rows;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || load(s, c, a, at, &out, &d, &install, err) < 0 ||
        extension_list(c, a, d.id, &rows, &n_rows, err) < 0 ||
        pg_extension_list(install, a, &available, ret_n, err) < 0)
        return -1;
    *ret = arena_alloc(a, (*ret_n + 1) * sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        (*ret)[i] = (struct extension_info){ .available = available[i] };
        take_row(&(*ret)[i], rows, n_rows);
    }
    return 0;
}

int intent_preload_list(struct sched *s, struct arena *a, const char *project_id, struct pg_extension **ret,
                        size_t *ret_n, struct err *err)
{
    struct outcome out = { 0 };
    const struct pg_install *install;
    auto_dbc *c = NULL;
    *ret_n = 0;
    if (db_read(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, &out, err) < 0)
        return -1;
    install = env_install(&s->env, out.project.pg_version);
    return install ? pg_preload_list(install, a, ret, ret_n, err) : 0;
}

static int not_there(const struct extension_place *at, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND,
                   "extension not found: \"%.63s\" is not among those that may be installed here", at->name);
}

int intent_extension_get(struct sched *s, struct arena *a, const struct extension_place *at,
                         struct extension_info *ret, struct err *err)
{
    struct extension_info *list;
    size_t n;
    if (intent_extension_list(s, a, at, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].available.name, at->name) == 0) {
            *ret = list[i];
            return 0;
        }
    return not_there(at, err);
}

/* Where everybody may create objects, or only we may, nothing of ours is put: what is there already would be
 * run by a superuser, or what we put would pass for Postgres's own. */
static int check_schema(const char *schema, struct err *err)
{
    static const char POINTER[] = "/extension/schema";
    if (!schema)
        return 0;
    if (intent_check_name(schema, 63, POINTER, "a schema name", err) < 0)
        return -1;
    if (strcmp(schema, "public") == 0)
        return err_field(err, ERR_INVALID, POINTER,
                         "an extension is not installed into schema public, where users may put objects of "
                         "their own; leave schema out for \"extensions\", which is on the search_path, or "
                         "name another one that does not exist yet");
    if (text_starts_with(schema, "pg_") || strcmp(schema, "information_schema") == 0)
        return err_field(err, ERR_INVALID, POINTER, "the schema name \"%s\" is reserved", schema);
    return 0;
}

static int check_wish(const struct extension_info *e, const char *version, const char *schema,
                      struct err *err)
{
    if (check_schema(schema, err) < 0)
        return -1;
    if (version && !pg_extension_has_version(&e->available, version))
        return err_field(err, ERR_INVALID, "/extension/version",
                         "extension \"%s\" has no version \"%.40s\" on this machine; the default is \"%s\"",
                         e->available.name, version, e->available.default_version);
    if (schema && e->known && e->row.schema && strcmp(e->row.schema, schema) != 0)
        return err_field(err, ERR_CONFLICT, "/extension/schema",
                         "extension \"%s\" is in schema \"%s\" already; delete it first", e->available.name,
                         e->row.schema);
    return 0;
}

static bool is_fulfilled(const struct extension_info *e, const char *version)
{
    return e->known && strcmp(e->row.state, "ready") == 0 &&
           (!version || (e->row.version && strcmp(version, e->row.version) == 0));
}

/* The row, its operation, and the commit. */
static int wish(struct sched *s, struct dbc *c, struct arena *a, const struct extension *row,
                struct outcome *out, struct err *err)
{
    if (extension_put(c, row, err) < 0 ||
        intent_add_operation(c, a, out, "apply_config", "scheduling", out->branch.id, NULL, NULL, err) < 0 ||
        db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("extension.wished");
    sched_kick(s);
    return 0;
}

int intent_extension_put(struct sched *s, struct arena *a, const struct extension_place *at,
                         const char *version, const char *schema, struct extension_info *ret,
                         struct outcome *out, struct err *err)
{
    struct database d;
    struct extension *rows;
    const struct pg_install *install;
    size_t n;
    int64_t now = clock_wall_us();
    *out = (struct outcome){ 0 };
    *ret = (struct extension_info){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load(s, c, a, at, out, &d, &install, err) < 0 ||
        pg_extension_get(install, a, at->name, &ret->available, err) < 0 ||
        extension_list(c, a, d.id, &rows, &n, err) < 0)
        return -1;
    take_row(ret, rows, n);
    if (check_wish(ret, version, schema, err) < 0)
        return -1;
    if (is_fulfilled(ret, version))
        return 0;
    if (!ret->known)
        ret->row = (struct extension){ .database_id = d.id, .name = ret->available.name, .created_at = now };
    ret->row.version = version ? version : ret->row.version;
    ret->row.schema = schema ? schema : ret->row.schema;
    ret->row.state = "creating";
    ret->row.updated_at = now;
    ret->known = true;
    return wish(s, c, a, &ret->row, out, err);
}

int intent_extension_delete(struct sched *s, struct arena *a, const struct extension_place *at,
                            struct extension_info *ret, struct outcome *out, struct err *err)
{
    struct database d;
    const struct pg_install *install;
    int64_t now = clock_wall_us();
    *out = (struct outcome){ 0 };
    *ret = (struct extension_info){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load(s, c, a, at, out, &d, &install, err) < 0)
        return -1;
    if (!pg_extension_is_allowed(at->name) ||
        pg_extension_get(install, a, at->name, &ret->available, err) < 0)
        return not_there(at, err);
    /* Also where no row is: a user may have installed it by SQL. */
    struct extension row = { .database_id = d.id,
                             .name = ret->available.name,
                             .state = "dropping",
                             .created_at = now,
                             .updated_at = now };
    return wish(s, c, a, &row, out, err);
}
