/*
 * extension.c - statements on extensions
 *
 * Runs on the thread that borrowed the connection.  Rows go with their database.
 */
#include "meta/extension.h"

#include "meta/row.h"

static const struct field EXTENSION[] = {
    FIELD(extension, database_id, F_I64, 0, 0), FIELD(extension, name, F_STR, 0, 0),
    FIELD(extension, version, F_STR, 0, 0),     FIELD(extension, schema, F_STR, 0, 0),
    FIELD(extension, state, F_STR, 0, 0),       FIELD(extension, created_at, F_TIME, 0, 0),
    FIELD(extension, updated_at, F_TIME, 0, 0),
};
#define COLUMNS      "database_id, name, version, schema, state, created_at, updated_at"
#define EXTENSION_OF " FROM extension WHERE database_id = :database"

static const struct noun EXTENSION_NOUN = {
    .name = "extension",
    .fields = EXTENSION,
    .n_fields = N_ELEMENTS(EXTENSION),
    .size = sizeof(struct extension),
};

static const char SQL_EXTENSION_FIND[] = "SELECT " COLUMNS EXTENSION_OF " AND name = :name";

int extension_find(struct dbc *c, struct arena *a, int64_t database_id, const char *name,
                   struct extension *ret, bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_EXTENSION_FIND, &st, err) < 0)
        return -1;
    bind_i64(st, ":database", database_id);
    bind_text(st, ":name", name);
    int rc = row_find(c, st, &EXTENSION_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_EXTENSION_LIST[] = "SELECT " COLUMNS EXTENSION_OF " ORDER BY name";

int extension_list(struct dbc *c, struct arena *a, int64_t database_id, struct extension **ret, size_t *ret_n,
                   struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_EXTENSION_LIST, &st, err) < 0)
        return -1;
    bind_i64(st, ":database", database_id);
    *ret = row_list(c, st, &EXTENSION_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_EXTENSION_LIST_PENDING[] =
    "SELECT " COLUMNS
    " FROM extension WHERE state <> 'ready' AND database_id IN (SELECT id FROM database WHERE branch_id = "
    ":branch AND state = 'ready') ORDER BY database_id, name";

int extension_list_pending(struct dbc *c, struct arena *a, const char *branch_id, struct extension **ret,
                           size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_EXTENSION_LIST_PENDING, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    *ret = row_list(c, st, &EXTENSION_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static int run(struct dbc *c, const char *sql, const struct extension *e, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return -1;
    bind_struct(st, &EXTENSION_NOUN, e);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_EXTENSION_PUT[] =
    "INSERT INTO extension (" COLUMNS
    ") VALUES (:database_id, :name, :version, :schema, :state, :created_at, "
    ":updated_at) ON CONFLICT (database_id, name) DO UPDATE SET version = excluded.version, schema = "
    "excluded.schema, state = excluded.state, updated_at = max(excluded.updated_at, updated_at + 1)";

int extension_put(struct dbc *c, const struct extension *e, struct err *err)
{
    return run(c, SQL_EXTENSION_PUT, e, err);
}

#define AS_READ " WHERE database_id = :database_id AND name = :name AND updated_at = :updated_at"
static const char SQL_EXTENSION_SETTLE[] =
    "UPDATE extension SET version = :version, schema = :schema, state = 'ready', updated_at = updated_at + "
    "1" AS_READ;
static const char SQL_EXTENSION_SETTLE_GONE[] = "DELETE FROM extension" AS_READ;

int extension_settle(struct dbc *c, const struct extension *e, bool installed, struct err *err)
{
    return run(c, installed ? SQL_EXTENSION_SETTLE : SQL_EXTENSION_SETTLE_GONE, e, err);
}

/* What is only wished for now was not wished for then. */
static const char SQL_EXTENSION_COPY[] =
    "INSERT INTO extension (" COLUMNS ") SELECT :to, name, version, schema, CASE WHEN :past THEN 'inherited' "
    "ELSE state END, :now, :now" EXTENSION_OF " AND (NOT :past OR state IN ('ready', 'inherited'))";

int extension_copy_all(struct dbc *c, int64_t from, int64_t to, bool past, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_EXTENSION_COPY, &st, err) < 0)
        return -1;
    bind_i64(st, ":database", from);
    bind_i64(st, ":to", to);
    bind_i64(st, ":past", past);
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, NULL, err);
}
