#include "meta/endpoint.h"

#include "meta/row.h"

#include <stdio.h>

#define PROCESS(column, member, ftype)                                                                       \
    {                                                                                                        \
        .name = column, .type = ftype, .offset = offsetof(struct endpoint, process.member)                   \
    }

static const struct field ENDPOINT[] = {
    FIELD(endpoint, id, F_STR, 0, 0),
    FIELD(endpoint, project_id, F_STR, 0, 0),
    FIELD(endpoint, branch_id, F_STR, 0, 0),
    FIELD(endpoint, type, F_STR, 0, 0),
    FIELD(endpoint, name, F_STR, 0, 0),
    FIELD(endpoint, desired, F_STR, 0, 0),
    FIELD(endpoint, observed, F_STR, 0, 0),
    FIELD(endpoint, disabled, F_BOOL, 0, 0),
    FIELD(endpoint, suspend_timeout_seconds, F_I64, 0, 0),
    FIELD(endpoint, min_cu, F_DOUBLE, 0, 0),
    FIELD(endpoint, max_cu, F_DOUBLE, 0, 0),
    FIELD(endpoint, pg_settings, F_JSON, 0, 0),
    FIELD(endpoint, generation, F_I64, 0, 0),
    PROCESS("pid", pid, F_I64),
    PROCESS("pid_start", start_time, F_I64),
    FIELD(endpoint, last_error, F_STR, 0, 0),
    FIELD(endpoint, last_active, F_TIME, 0, 0),
    FIELD(endpoint, started_at, F_TIME, 0, 0),
    FIELD(endpoint, suspended_at, F_TIME, 0, 0),
    FIELD(endpoint, created_at, F_TIME, 0, 0),
    FIELD(endpoint, updated_at, F_TIME, 0, 0),
};
/* boot_id, an array in the struct, comes last and is read by hand. */
#define COLUMNS                                                                                              \
    "id, project_id, branch_id, type, name, desired, observed, disabled, suspend_timeout_seconds, min_cu, "  \
    "max_cu, pg_settings, generation, pid, pid_start, last_error, last_active, started_at, suspended_at, "   \
    "created_at, updated_at, boot_id"
#define N_COLUMNS N_ELEMENTS(ENDPOINT)

static void read_boot_id(sqlite3_stmt *st, struct endpoint *e)
{
    const char *text = (const char *)sqlite3_column_text(st, (int)N_COLUMNS);
    snprintf(e->process.boot_id, sizeof(e->process.boot_id), "%s", text ? text : "");
}

/* 1, 0 or -1 */
static int find(struct dbc *c, struct arena *a, sqlite3_stmt *st, struct endpoint *ret, struct err *err)
{
    int rc = row_find(c, st, ENDPOINT, N_COLUMNS, a, ret, err);
    if (rc == 1)
        read_boot_id(st, ret);
    return rc;
}

static int must_find(struct dbc *c, struct arena *a, sqlite3_stmt *st, struct endpoint *ret, struct err *err)
{
    int rc = find(c, a, st, ret, err);
    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "endpoint not found");
    return rc < 0 ? -1 : 0;
}

static const char SQL_ENDPOINT_GET[] =
    "SELECT " COLUMNS " FROM endpoint WHERE id = :id AND project_id = :project AND desired <> 'deleted'";

int endpoint_get(struct dbc *c, struct arena *a, const char *project_id, const char *id, struct endpoint *ret,
                 struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":project", project_id);
    return must_find(c, a, st, ret, err);
}

static const char SQL_ENDPOINT_GET_ID[] = "SELECT " COLUMNS " FROM endpoint WHERE id = :id";

int endpoint_get_id(struct dbc *c, struct arena *a, const char *id, struct endpoint *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_GET_ID, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return must_find(c, a, st, ret, err);
}

static const char SQL_ENDPOINT_WRITER[] =
    "SELECT " COLUMNS
    " FROM endpoint WHERE branch_id = :branch AND type = 'read_write' AND desired <> 'deleted'";

int endpoint_find_writer(struct dbc *c, struct arena *a, const char *branch_id, struct endpoint *ret,
                         bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_WRITER, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    int rc = find(c, a, st, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_ENDPOINT_LIST[] =
    "SELECT " COLUMNS " FROM endpoint WHERE (:project IS NULL OR project_id = :project) AND (:branch IS NULL "
                      "OR branch_id = :branch)"
    " AND (:all OR desired <> 'deleted') ORDER BY created_at, id";
static const char SQL_ENDPOINT_LIST_BRANCH[] =
    "SELECT " COLUMNS
    " FROM endpoint WHERE branch_id = :branch AND (:all OR desired <> 'deleted') ORDER BY created_at, id";

int endpoint_list(struct dbc *c, struct arena *a, const char *project_id, const char *branch_id,
                  bool with_deleted, struct endpoint **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    size_t n = 0, cap = 0;
    struct endpoint *list = arena_alloc(a, sizeof(*list));
    bool by_branch = branch_id && !project_id;
    int rc;
    if (stmt_get(c, by_branch ? SQL_ENDPOINT_LIST_BRANCH : SQL_ENDPOINT_LIST, &st, err) < 0)
        return -1;
    if (!by_branch)
        bind_text(st, ":project", project_id);
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":all", with_deleted);
    while ((rc = stmt_step(c, st, err)) == 1) {
        if (n == cap) {
            cap = cap ? cap * 2 : 8;
            struct endpoint *bigger = arena_alloc(a, cap * sizeof(*bigger));
            for (size_t i = 0; i < n; i++)
                bigger[i] = list[i];
            list = bigger;
        }
        row_read(st, ENDPOINT, N_COLUMNS, a, &list[n]);
        read_boot_id(st, &list[n++]);
    }
    *ret = list;
    *ret_n = n;
    return rc < 0 ? -1 : 0;
}

static const char SQL_ENDPOINT_INSERT[] =
    "INSERT INTO endpoint (" COLUMNS
    ") VALUES (:id, :project_id, :branch_id, :type, :name, :desired, :observed, :disabled,"
    " :suspend_timeout_seconds, :min_cu, :max_cu, :pg_settings, :generation, :pid, :pid_start, :last_error, "
    ":last_active, :started_at,"
    " :suspended_at, :created_at, :updated_at, NULL)";

int endpoint_insert(struct dbc *c, const struct endpoint *e, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, ENDPOINT, N_COLUMNS, e);
    if (stmt_run(c, st, NULL, err) == 0)
        return 0;
    if (err->code == ERR_CONFLICT)
        return err_set(err, ERR_CONFLICT, "read-write endpoint already exists; branch_id:\"%s\"",
                       e->branch_id);
    return -1;
}

static const char SQL_ENDPOINT_UPDATE[] =
    "UPDATE endpoint SET name = :name, disabled = :disabled, suspend_timeout_seconds = "
    ":suspend_timeout_seconds, min_cu = :min_cu,"
    " max_cu = :max_cu, pg_settings = :pg_settings, updated_at = :updated_at WHERE id = :id";

int endpoint_update(struct dbc *c, const struct endpoint *e, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, ENDPOINT, N_COLUMNS, e);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_ENDPOINT_SET_DESIRED[] =
    "UPDATE endpoint SET desired = :desired, updated_at = :now WHERE id = :id AND desired <> 'deleted'";

int endpoint_set_desired(struct dbc *c, const char *id, const char *desired, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_SET_DESIRED, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":desired", desired);
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_ENDPOINT_SET_OBSERVED[] =
    "UPDATE endpoint SET observed = :observed, generation = :generation, pid = :pid, pid_start = :pid_start, "
    "boot_id = :boot_id,"
    " last_error = :last_error, last_active = :last_active, started_at = :started_at, suspended_at = "
    ":suspended_at WHERE id = :id";

int endpoint_set_observed(struct dbc *c, const struct endpoint *e, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_SET_OBSERVED, &st, err) < 0)
        return -1;
    bind_struct(st, ENDPOINT, N_COLUMNS, e);
    bind_text(st, ":boot_id", e->process.boot_id[0] ? e->process.boot_id : NULL);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_ENDPOINT_DELETE[] = "DELETE FROM endpoint WHERE id = :id";

int endpoint_delete(struct dbc *c, const char *id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return stmt_run(c, st, NULL, err);
}
