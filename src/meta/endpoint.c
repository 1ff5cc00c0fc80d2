/*
 * endpoint.c - statements on endpoints
 *
 * Runs on the thread that borrowed the connection.  What users want and what is observed have statements of
 * their own, so that neither writer undoes the other.
 */
#include "meta/endpoint.h"

#include <assert.h>

#include "base/clock.h"
#include "meta/row.h"

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
    FIELD(endpoint, park_sessions, F_BOOL, 0, 0),
    FIELD(endpoint, min_cu, F_DOUBLE, 0, 0),
    FIELD(endpoint, max_cu, F_DOUBLE, 0, 0),
    FIELD(endpoint, pg_settings, F_JSON, 0, 0),
    FIELD(endpoint, preload_libraries, F_JSON, 0, 0),
    FIELD(endpoint, spec, F_JSON, 0, 0),
    FIELD(endpoint, generation, F_I64, 0, 0),
    PROCESS("pid", pid, F_I64),
    PROCESS("pid_start", start_time, F_I64),
    FIELD(endpoint, last_error, F_STR, 0, 0),
    FIELD(endpoint, archive_failed_wal, F_STR, 0, 0),
    FIELD(endpoint, archive_failed_at, F_TIME, 0, 0),
    FIELD(endpoint, archive_failed_count, F_I64, 0, 0),
    FIELD(endpoint, archive_backlog, F_I64, 0, 0),
    FIELD(endpoint, last_active, F_TIME, 0, 0),
    FIELD(endpoint, started_at, F_TIME, 0, 0),
    FIELD(endpoint, suspended_at, F_TIME, 0, 0),
    FIELD(endpoint, metered_until, F_TIME, 0, 0),
    FIELD(endpoint, created_at, F_TIME, 0, 0),
    FIELD(endpoint, updated_at, F_TIME, 0, 0),
};
/* boot_id, an array in the struct, comes last and is read by hand. */
#define COLUMNS                                                                                              \
    "id, project_id, branch_id, type, name, desired, observed, disabled, suspend_timeout_seconds, "          \
    "park_sessions, min_cu, "                                                                                \
    "max_cu, pg_settings, preload_libraries, spec, generation, pid, pid_start, last_error, "                 \
    "archive_failed_wal, "                                                                                   \
    "archive_failed_at, archive_failed_count, archive_backlog, last_active, started_at, suspended_at, "      \
    "metered_until, created_at, updated_at, boot_id"

static int read_boot_id(sqlite3_stmt *st, int at, struct arena *a UNUSED, void *strct, struct err *err UNUSED)
{
    struct endpoint *e = strct;
    const char *text = (const char *)sqlite3_column_text(st, at);
    snprintf(e->process.boot_id, sizeof(e->process.boot_id), "%s", text ? text : "");
    return 0;
}

static const struct noun ENDPOINT_NOUN = {
    .name = "endpoint",
    .fields = ENDPOINT,
    .n_fields = N_ELEMENTS(ENDPOINT),
    .size = sizeof(struct endpoint),
    .rest = "boot_id",
    .read_rest = read_boot_id,
};

#define OF_SEEN                                                                                              \
    " AND branch_id IN (SELECT id FROM branch WHERE " BRANCH_SEEN                                            \
    " AND (expires_at IS NULL OR expires_at > :now))"

/* One statement for each, so that each has its index. */
static const char SQL_ENDPOINT_GET[] =
    "SELECT " COLUMNS
    " FROM endpoint WHERE id = :ref AND project_id = :project AND desired <> 'deleted'" OF_SEEN;
static const char SQL_ENDPOINT_GET_NAMED[] =
    "SELECT " COLUMNS
    " FROM endpoint WHERE project_id = :project AND name = :ref AND desired <> 'deleted'" OF_SEEN " LIMIT 2";

static struct endpoint *list_meant(struct dbc *c, struct arena *a, const char *sql, const char *project_id,
                                   const char *ref, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return NULL;
    bind_text(st, ":ref", ref);
    bind_text(st, ":project", project_id);
    bind_i64(st, ":now", clock_wall_us());
    return row_list(c, st, &ENDPOINT_NOUN, a, ret_n, err);
}

int endpoint_get(struct dbc *c, struct arena *a, const char *project_id, const char *ref,
                 struct endpoint *ret, struct err *err)
{
    size_t n;
    struct endpoint *list = list_meant(c, a, SQL_ENDPOINT_GET, project_id, ref, &n, err);
    if (list && n == 0)
        list = list_meant(c, a, SQL_ENDPOINT_GET_NAMED, project_id, ref, &n, err);
    if (!list)
        return -1;
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "endpoint not found: \"%.80s\"", ref);
    if (n > 1)
        return err_set(err, ERR_CONFLICT, "several endpoints are called \"%.80s\"; name one by its id", ref);
    *ret = list[0];
    return 0;
}

static const char SQL_ENDPOINT_GET_ID[] = "SELECT " COLUMNS " FROM endpoint WHERE id = :id";

int endpoint_get_id(struct dbc *c, struct arena *a, const char *id, struct endpoint *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_GET_ID, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return row_get(c, st, &ENDPOINT_NOUN, a, ret, err);
}

static const char SQL_ENDPOINT_WRITER[] =
    "SELECT " COLUMNS
    " FROM endpoint WHERE branch_id = :branch AND type = 'read_write' AND desired <> 'deleted'";

int endpoint_find_writer(struct dbc *c, struct arena *a, const char *branch_id, struct endpoint *ret,
                         bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    int rc;
    if (stmt_get(c, SQL_ENDPOINT_WRITER, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    rc = row_find(c, st, &ENDPOINT_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

/* One statement for each, so that each has its index. */
#define LIST_REST "(:all OR desired <> 'deleted') ORDER BY created_at, id"
static const char SQL_ENDPOINT_LIST[] = "SELECT " COLUMNS " FROM endpoint WHERE " LIST_REST;
static const char SQL_ENDPOINT_LIST_PROJECT[] =
    "SELECT " COLUMNS " FROM endpoint WHERE project_id = :of" OF_SEEN " AND " LIST_REST;
static const char SQL_ENDPOINT_LIST_BRANCH[] =
    "SELECT " COLUMNS " FROM endpoint WHERE branch_id = :of AND " LIST_REST;

int endpoint_list(struct dbc *c, struct arena *a, const char *project_id, const char *branch_id,
                  bool with_deleted, struct endpoint **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    const char *of = branch_id ? branch_id : project_id;
    assert(!project_id || !branch_id);
    if (stmt_get(c,
                 branch_id    ? SQL_ENDPOINT_LIST_BRANCH
                 : project_id ? SQL_ENDPOINT_LIST_PROJECT
                              : SQL_ENDPOINT_LIST,
                 &st, err) < 0)
        return -1;
    if (of)
        bind_text(st, ":of", of);
    if (project_id)
        bind_i64(st, ":now", clock_wall_us());
    bind_i64(st, ":all", with_deleted);
    *ret = row_list(c, st, &ENDPOINT_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_ENDPOINT_INSERT[] =
    "INSERT INTO endpoint (" COLUMNS
    ") VALUES (:id, :project_id, :branch_id, :type, :name, :desired, :observed, :disabled,"
    " :suspend_timeout_seconds, :park_sessions, :min_cu, :max_cu, :pg_settings, :preload_libraries, :spec,"
    " :generation, :pid, :pid_start, :last_error, :archive_failed_wal, :archive_failed_at,"
    " :archive_failed_count, :archive_backlog, :last_active, :started_at, :suspended_at, :metered_until,"
    " :created_at,"
    " :updated_at, :boot_id)";

int endpoint_insert(struct dbc *c, const struct endpoint *e, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &ENDPOINT_NOUN, e);
    bind_text(st, ":boot_id", e->process.boot_id[0] ? e->process.boot_id : NULL);
    if (stmt_run(c, st, NULL, err) == 0)
        return 0;
    if (err->code == ERR_CONFLICT && strstr(err->detail, "endpoint.branch_id"))
        return err_set(err, ERR_CONFLICT, "read-write endpoint already exists; branch_id:\"%s\"",
                       e->branch_id);
    return -1;
}

static const char SQL_ENDPOINT_UPDATE[] =
    "UPDATE endpoint SET name = :name, disabled = :disabled, suspend_timeout_seconds = "
    ":suspend_timeout_seconds, park_sessions = :park_sessions, min_cu = :min_cu,"
    " max_cu = :max_cu, pg_settings = :pg_settings, preload_libraries = :preload_libraries, spec = :spec,"
    " updated_at = :updated_at WHERE id = :id";

int endpoint_update(struct dbc *c, const struct endpoint *e, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, &ENDPOINT_NOUN, e);
    return stmt_change(c, st, &ENDPOINT_NOUN, err);
}

/* deleted is final: a later wish changes nothing, and that is no error. */
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
    bind_struct(st, &ENDPOINT_NOUN, e);
    bind_text(st, ":boot_id", e->process.boot_id[0] ? e->process.boot_id : NULL);
    return stmt_change(c, st, &ENDPOINT_NOUN, err);
}

static const char SQL_ENDPOINT_ARCHIVER[] =
    "UPDATE endpoint SET archive_failed_wal = :archive_failed_wal, archive_failed_at = :archive_failed_at,"
    " archive_failed_count = :archive_failed_count, archive_backlog = :archive_backlog WHERE id = :id";

int endpoint_set_archiver(struct dbc *c, const struct endpoint *e, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_ARCHIVER, &st, err) < 0)
        return -1;
    bind_struct(st, &ENDPOINT_NOUN, e);
    return stmt_change(c, st, &ENDPOINT_NOUN, err);
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

static const char SQL_ENDPOINT_MOVE_ALL[] =
    "UPDATE endpoint SET branch_id = :to, updated_at = :now WHERE branch_id = :from";

int endpoint_move_all(struct dbc *c, const char *from_branch, const char *to_branch, int64_t now_us,
                      struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_ENDPOINT_MOVE_ALL, &st, err) < 0)
        return -1;
    bind_text(st, ":from", from_branch);
    bind_text(st, ":to", to_branch);
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, NULL, err);
}
