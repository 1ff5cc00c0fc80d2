/*
 * role.c - statements on roles and databases
 *
 * Runs on the thread that borrowed the connection.  Passwords pass through sealed.
 */
#include "meta/role.h"

#include "base/id.h"
#include "meta/extension.h"
#include "meta/row.h"

static const struct field ROLE[] = {
    FIELD(role, branch_id, F_STR, 0, 0),    FIELD(role, name, F_STR, 0, 0),
    FIELD(role, valid_until, F_TIME, 0, 0), FIELD(role, no_login, F_BOOL, 0, 0),
    FIELD(role, made_name, F_STR, 0, 0),    FIELD(role, spec, F_JSON, 0, 0),
    FIELD(role, state, F_STR, 0, 0),        FIELD(role, created_at, F_TIME, 0, 0),
    FIELD(role, updated_at, F_TIME, 0, 0),
};
/* sealed and verifier, blobs, come last and are read by hand. */
#define ROLE_COLUMNS                                                                                         \
    "branch_id, name, valid_until, no_login, made_name, spec, state, created_at, updated_at, sealed, "       \
    "verifier"

static const struct field DATABASE[] = {
    FIELD(database, id, F_I64, 0, 0),          FIELD(database, branch_id, F_STR, 0, 0),
    FIELD(database, name, F_STR, 0, 0),        FIELD(database, owner_name, F_STR, 0, 0),
    FIELD(database, made_name, F_STR, 0, 0),   FIELD(database, spec, F_JSON, 0, 0),
    FIELD(database, state, F_STR, 0, 0),       FIELD(database, created_at, F_TIME, 0, 0),
    FIELD(database, updated_at, F_TIME, 0, 0),
};
#define DATABASE_COLUMNS "id, branch_id, name, owner_name, made_name, spec, state, created_at, updated_at"

static const struct noun DATABASE_NOUN = {
    .name = "database",
    .fields = DATABASE,
    .n_fields = N_ELEMENTS(DATABASE),
    .size = sizeof(struct database),
};

static int read_blob(sqlite3_stmt *st, int at, struct arena *a, const uint8_t **ret, size_t *ret_len,
                     struct err *err)
{
    const void *blob = sqlite3_column_blob(st, at);
    uint8_t *copy;
    if (!blob)
        return 0;
    *ret_len = (size_t)sqlite3_column_bytes(st, at);
    copy = arena_alloc(a, *ret_len);
    if (!copy)
        return err_memory(err);
    memcpy(copy, blob, *ret_len);
    *ret = copy;
    return 0;
}

static int read_secrets(sqlite3_stmt *st, int at, struct arena *a, void *strct, struct err *err)
{
    struct role *r = strct;
    return read_blob(st, at, a, &r->sealed, &r->sealed_len, err) < 0
               ? -1
               : read_blob(st, at + 1, a, &r->verifier, &r->verifier_len, err);
}

static void bind_secrets(sqlite3_stmt *st, const struct role *r)
{
    bind_blob(st, ":sealed", r->sealed, r->sealed_len);
    bind_blob(st, ":verifier", r->verifier, r->verifier_len);
}

static const struct noun ROLE_NOUN = {
    .name = "role",
    .fields = ROLE,
    .n_fields = N_ELEMENTS(ROLE),
    .size = sizeof(struct role),
    .rest = "sealed",
    .n_more_rest = 1,
    .read_rest = read_secrets,
};

static const char SQL_ROLE_GET[] =
    "SELECT " ROLE_COLUMNS " FROM role WHERE branch_id = :branch AND name = :name AND state <> 'dropping'";

int role_get(struct dbc *c, struct arena *a, const char *branch_id, const char *name, struct role *ret,
             struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ROLE_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_text(st, ":name", name);
    return row_get(c, st, &ROLE_NOUN, a, ret, err);
}

static const char SQL_ROLE_LIST[] =
    "SELECT " ROLE_COLUMNS
    " FROM role WHERE branch_id = :branch AND (:all OR state <> 'dropping') ORDER BY name";

int role_list(struct dbc *c, struct arena *a, const char *branch_id, bool with_dropping, struct role **ret,
              size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ROLE_LIST, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":all", with_dropping);
    *ret = row_list(c, st, &ROLE_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_ROLE_FIND_SEALED[] =
    "SELECT " ROLE_COLUMNS " FROM role WHERE verifier IS NOT NULL AND state <> 'dropping' LIMIT 1";

int role_find_sealed(struct dbc *c, struct arena *a, struct role *ret, bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    int rc;
    if (stmt_get(c, SQL_ROLE_FIND_SEALED, &st, err) < 0)
        return -1;
    rc = row_find(c, st, &ROLE_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_ROLE_INSERT[] =
    "INSERT INTO role (" ROLE_COLUMNS
    ") VALUES (:branch_id, :name, :valid_until, :no_login, :made_name, :spec, :state, :created_at,"
    " :updated_at, :sealed, :verifier)";

int role_insert(struct dbc *c, const struct role *r, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ROLE_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &ROLE_NOUN, r);
    bind_secrets(st, r);
    if (stmt_run(c, st, NULL, err) == 0)
        return 0;
    if (err->code == ERR_CONFLICT)
        return err_field(err, ERR_CONFLICT, "/role/name", "role already exists; role_name:\"%s\"", r->name);
    return -1;
}

static const char SQL_ROLE_UPDATE[] =
    "UPDATE role SET sealed = :sealed, verifier = :verifier, valid_until = :valid_until, no_login = "
    ":no_login, state = :state, updated_at = max(:updated_at, updated_at + 1) WHERE branch_id = :branch_id "
    "AND name = :name";

int role_update(struct dbc *c, const struct role *r, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ROLE_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, &ROLE_NOUN, r);
    bind_secrets(st, r);
    return stmt_change(c, st, &ROLE_NOUN, err);
}

static const char SQL_ROLE_SET_SPEC[] =
    "UPDATE role SET spec = :spec WHERE branch_id = :branch_id AND name = :name";

int role_set_spec(struct dbc *c, const struct role *r, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ROLE_SET_SPEC, &st, err) < 0)
        return -1;
    bind_struct(st, &ROLE_NOUN, r);
    return stmt_change(c, st, &ROLE_NOUN, err);
}

static const char SQL_ROLE_DELETE[] = "DELETE FROM role WHERE branch_id = :branch_id AND name = :name";

int role_delete(struct dbc *c, const struct role *r, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ROLE_DELETE, &st, err) < 0)
        return -1;
    bind_struct(st, &ROLE_NOUN, r);
    return stmt_run(c, st, NULL, err);
}

const char *role_dropping_name(struct arena *a)
{
    return arena_printf(a, "\001%s", id_uuid(a));
}

/* What the statements of one family share; not each of them names all of it. */
static void bind_change(sqlite3_stmt *st, const char *dropping, int64_t now_us)
{
    if (sqlite3_bind_parameter_index(st, ":dropping") > 0)
        bind_text(st, ":dropping", dropping);
    if (sqlite3_bind_parameter_index(st, ":now") > 0)
        bind_i64(st, ":now", now_us);
}

static int run_role(struct dbc *c, const char *sql, const struct role *r, const char *dropping,
                    int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return -1;
    bind_struct(st, &ROLE_NOUN, r);
    bind_change(st, dropping, now_us);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_ROLE_BEGIN_DROP[] =
    "UPDATE role SET made_name = coalesce(made_name, name), name = :dropping, state = 'dropping',"
    " updated_at = max(:now, updated_at + 1) WHERE branch_id = :branch_id AND name = :name";

int role_begin_drop(struct dbc *c, const struct role *r, int64_t now_us, struct err *err)
{
    auto_arena *a = arena_new(0);
    return run_role(c, SQL_ROLE_BEGIN_DROP, r, role_dropping_name(a), now_us, err);
}

/* The first takes the row away where the name was taken, and then the second finds nothing. */
static const char SQL_ROLE_GIVE_UP[] =
    "DELETE FROM role WHERE branch_id = :branch_id AND name = :name AND state = 'dropping' AND EXISTS"
    " (SELECT 1 FROM role AS newer WHERE newer.branch_id = :branch_id AND newer.name = :made_name)";
static const char SQL_ROLE_UNDO_DROP[] =
    "UPDATE role SET name = made_name, made_name = NULL, state = 'ready', updated_at = max(:now, updated_at "
    "+ 1)"
    " WHERE branch_id = :branch_id AND name = :name AND state = 'dropping'";

int role_undo_drop(struct dbc *c, const struct role *r, int64_t now_us, struct err *err)
{
    return run_role(c, SQL_ROLE_GIVE_UP, r, NULL, now_us, err) < 0
               ? -1
               : run_role(c, SQL_ROLE_UNDO_DROP, r, NULL, now_us, err);
}

static const char SQL_ROLE_SETTLE[] =
    "UPDATE role SET state = 'ready', updated_at = max(:now, updated_at + 1)"
    " WHERE branch_id = :branch_id AND name = :name AND state IN ('creating', 'inherited') AND updated_at = "
    ":updated_at";
static const char SQL_ROLE_SETTLE_DROP[] =
    "DELETE FROM role WHERE branch_id = :branch_id AND name = :name AND state = 'dropping'";

int role_settle(struct dbc *c, const struct role *r, int64_t now_us, struct err *err)
{
    bool drop = strcmp(r->state, "dropping") == 0;
    return run_role(c, drop ? SQL_ROLE_SETTLE_DROP : SQL_ROLE_SETTLE, r, NULL, now_us, err);
}

static const char SQL_DATABASE_GET[] =
    "SELECT " DATABASE_COLUMNS
    " FROM database WHERE branch_id = :branch AND name = :name AND state <> 'dropping'";

int database_get(struct dbc *c, struct arena *a, const char *branch_id, const char *name,
                 struct database *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_DATABASE_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_text(st, ":name", name);
    return row_get(c, st, &DATABASE_NOUN, a, ret, err);
}

static const char SQL_DATABASE_LIST[] =
    "SELECT " DATABASE_COLUMNS
    " FROM database WHERE branch_id = :branch AND (:all OR state <> 'dropping') ORDER BY name";

int database_list(struct dbc *c, struct arena *a, const char *branch_id, bool with_dropping,
                  struct database **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_DATABASE_LIST, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":all", with_dropping);
    *ret = row_list(c, st, &DATABASE_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static int database_taken(const struct database *d, struct err *err)
{
    if (err->code == ERR_CONFLICT)
        return err_field(err, ERR_CONFLICT, "/database/name", "database already exists; database_name:\"%s\"",
                         d->name);
    return -1;
}

static const char SQL_DATABASE_INSERT[] = "INSERT INTO database (branch_id, name, owner_name, made_name, "
                                          "spec, state, created_at, updated_at) VALUES (:branch_id, :name, "
                                          ":owner_name, :made_name, :spec, :state, :created_at, :updated_at)"
                                          " RETURNING id";

int database_insert(struct dbc *c, struct database *d, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_DATABASE_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &DATABASE_NOUN, d);
    return stmt_number(c, st, &d->id, err) < 0 ? database_taken(d, err) : 0;
}

static const char SQL_DATABASE_UPDATE[] =
    "UPDATE database SET name = :name, made_name = :made_name, owner_name = :owner_name, spec = :spec,"
    " state = :state, updated_at = max(:updated_at, updated_at + 1) WHERE id = :id";

int database_update(struct dbc *c, const struct database *d, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_DATABASE_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, &DATABASE_NOUN, d);
    return stmt_change(c, st, &DATABASE_NOUN, err) < 0 ? database_taken(d, err) : 0;
}

static const char SQL_DATABASE_SET_SPEC[] = "UPDATE database SET spec = :spec WHERE id = :id";

int database_set_spec(struct dbc *c, const struct database *d, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_DATABASE_SET_SPEC, &st, err) < 0)
        return -1;
    bind_struct(st, &DATABASE_NOUN, d);
    return stmt_change(c, st, &DATABASE_NOUN, err);
}

static const char SQL_DATABASE_DELETE[] = "DELETE FROM database WHERE id = :id";

int database_delete(struct dbc *c, const struct database *d, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_DATABASE_DELETE, &st, err) < 0)
        return -1;
    bind_struct(st, &DATABASE_NOUN, d);
    return stmt_run(c, st, NULL, err);
}

static int run_database(struct dbc *c, const char *sql, const struct database *d, const char *dropping,
                        int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return -1;
    bind_struct(st, &DATABASE_NOUN, d);
    bind_change(st, dropping, now_us);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_DATABASE_BEGIN_DROP[] =
    "UPDATE database SET made_name = coalesce(made_name, name), name = :dropping, state = 'dropping',"
    " updated_at = max(:now, updated_at + 1) WHERE id = :id";

int database_begin_drop(struct dbc *c, const struct database *d, int64_t now_us, struct err *err)
{
    auto_arena *a = arena_new(0);
    return run_database(c, SQL_DATABASE_BEGIN_DROP, d, role_dropping_name(a), now_us, err);
}

static const char SQL_DATABASE_UNDO_DROP[] =
    "UPDATE database SET name = made_name, made_name = NULL, state = 'ready', updated_at = max(:now, "
    "updated_at + 1)"
    " WHERE id = :id AND state = 'dropping' AND NOT EXISTS"
    " (SELECT 1 FROM database AS newer WHERE newer.branch_id = :branch_id AND newer.name = :made_name)";

int database_undo_drop(struct dbc *c, const struct database *d, int64_t now_us, struct err *err)
{
    return run_database(c, SQL_DATABASE_UNDO_DROP, d, NULL, now_us, err);
}

/* Whatever was asked for since, Postgres now calls it :name. */
static const char SQL_DATABASE_SETTLE[] =
    "UPDATE database SET made_name = CASE name WHEN :name THEN NULL ELSE :name END,"
    " state = CASE updated_at WHEN :updated_at THEN 'ready' ELSE state END,"
    " updated_at = max(:now, updated_at + 1) WHERE id = :id";
static const char SQL_DATABASE_SETTLE_DROP[] = "DELETE FROM database WHERE id = :id AND state = 'dropping'";

int database_settle(struct dbc *c, const struct database *d, int64_t now_us, struct err *err)
{
    bool drop = strcmp(d->state, "dropping") == 0;
    return run_database(c, drop ? SQL_DATABASE_SETTLE_DROP : SQL_DATABASE_SETTLE, d, NULL, now_us, err);
}

/* What becomes of a row in a branch that begins in the past; NULL: it does not go along. */
static const char *inherited_state(const char *state, bool carries_password)
{
    bool is_there = strcmp(state, "ready") == 0 || strcmp(state, "inherited") == 0;
    /* One that waits for another password may have been there for long. */
    return is_there || (carries_password && strcmp(state, "creating") == 0) ? "inherited" : NULL;
}

static int copy_roles(struct dbc *c, struct arena *a, const char *from_branch, const char *to_branch,
                      bool past, int64_t now_us, role_reseal_fn reseal, void *arg, struct err *err)
{
    struct role *roles;
    size_t n;
    if (role_list(c, a, from_branch, true, &roles, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct role to = roles[i];
        to.branch_id = to_branch;
        to.sealed = to.verifier = NULL;
        to.sealed_len = to.verifier_len = 0;
        to.created_at = to.updated_at = now_us;
        to.state = past ? inherited_state(to.state, true) : to.state;
        if (!to.state)
            continue;
        bool keeps = strcmp(to.state, "dropping") != 0;
        if ((keeps && reseal(arg, a, &roles[i], &to, err) < 0) || role_insert(c, &to, err) < 0)
            return -1;
    }
    return 0;
}

int role_copy_all(struct dbc *c, struct arena *a, const char *from_branch, const char *to_branch, bool past,
                  int64_t now_us, role_reseal_fn reseal, void *arg, struct err *err)
{
    struct database *databases;
    size_t n;
    if (copy_roles(c, a, from_branch, to_branch, past, now_us, reseal, arg, err) < 0 ||
        database_list(c, a, from_branch, true, &databases, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct database *d = &databases[i];
        int64_t from = d->id;
        d->branch_id = to_branch;
        d->created_at = d->updated_at = now_us;
        d->state = past ? inherited_state(d->state, false) : d->state;
        if (d->state &&
            (database_insert(c, d, err) < 0 || extension_copy_all(c, from, d->id, past, now_us, err) < 0))
            return -1;
    }
    return 0;
}

static const char SQL_ROLE_BEGIN_ANEW[] =
    "UPDATE role SET state = 'inherited', updated_at = max(:now, updated_at + 1)"
    " WHERE branch_id = :branch AND state = 'ready'";
static const char SQL_DATABASE_BEGIN_ANEW[] =
    "UPDATE database SET state = 'inherited', updated_at = max(:now, updated_at + 1)"
    " WHERE branch_id = :branch AND state = 'ready'";

static const char SQL_EXTENSION_BEGIN_ANEW[] =
    "UPDATE extension SET state = 'inherited', updated_at = max(:now, updated_at + 1) WHERE state = 'ready'"
    " AND database_id IN (SELECT id FROM database WHERE branch_id = :branch)";

int role_begin_anew(struct dbc *c, const char *branch_id, int64_t now_us, struct err *err)
{
    static const char *const STEPS[] = { SQL_ROLE_BEGIN_ANEW, SQL_DATABASE_BEGIN_ANEW,
                                         SQL_EXTENSION_BEGIN_ANEW };
    for (size_t i = 0; i < N_ELEMENTS(STEPS); i++) {
        auto_stmt *st = NULL;
        if (stmt_get(c, STEPS[i], &st, err) < 0)
            return -1;
        bind_text(st, ":branch", branch_id);
        bind_i64(st, ":now", now_us);
        if (stmt_run(c, st, NULL, err) < 0)
            return -1;
    }
    return 0;
}

static const char SQL_ROLE_ANY_PENDING[] =
    "SELECT EXISTS (SELECT 1 FROM role WHERE branch_id = :branch AND state <> 'ready')"
    " OR EXISTS (SELECT 1 FROM database WHERE branch_id = :branch AND state <> 'ready')"
    " OR EXISTS (SELECT 1 FROM extension JOIN database ON database.id = database_id WHERE branch_id = :branch"
    " AND extension.state <> 'ready')";

int role_any_pending(struct dbc *c, const char *branch_id, bool *ret, struct err *err)
{
    auto_stmt *st = NULL;
    int64_t pending;
    if (stmt_get(c, SQL_ROLE_ANY_PENDING, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    if (stmt_number(c, st, &pending, err) < 0)
        return -1;
    *ret = pending != 0;
    return 0;
}
