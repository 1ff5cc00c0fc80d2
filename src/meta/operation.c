/*
 * operation.c - statements on operations
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/operation.h"

#include "base/text.h"
#include "meta/row.h"

static const struct field OPERATION[] = {
    FIELD(operation, seq, F_I64, 0, 0),         FIELD(operation, id, F_STR, 0, 0),
    FIELD(operation, project_id, F_STR, 0, 0),  FIELD(operation, branch_id, F_STR, 0, 0),
    FIELD(operation, endpoint_id, F_STR, 0, 0), FIELD(operation, action, F_STR, 0, 0),
    FIELD(operation, status, F_STR, 0, 0),      FIELD(operation, args, F_JSON, 0, 0),
    FIELD(operation, error, F_STR, 0, 0),       FIELD(operation, failures_count, F_I64, 0, 0),
    FIELD(operation, retry_at, F_TIME, 0, 0),   FIELD(operation, total_duration_ms, F_I64, 0, 0),
    FIELD(operation, phases, F_JSON, 0, 0),     FIELD(operation, created_at, F_TIME, 0, 0),
    FIELD(operation, updated_at, F_TIME, 0, 0),
};
#define COLUMNS                                                                                              \
    "seq, id, project_id, branch_id, endpoint_id, action, status, args, error, failures_count, retry_at, "   \
    "total_duration_ms, phases, created_at, updated_at"

static const struct noun OPERATION_NOUN = {
    .name = "operation",
    .fields = OPERATION,
    .n_fields = N_ELEMENTS(OPERATION),
    .size = sizeof(struct operation),
};

static const char SQL_OPERATION_GET[] =
    "SELECT " COLUMNS " FROM operation WHERE id = :id AND (:project IS NULL OR project_id = :project)";

int operation_get(struct dbc *c, struct arena *a, const char *project_id, const char *id,
                  struct operation *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_OPERATION_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":project", project_id);
    return row_get(c, st, &OPERATION_NOUN, a, ret, err);
}

int operation_get_id(struct dbc *c, struct arena *a, const char *id, struct operation *ret, struct err *err)
{
    return operation_get(c, a, NULL, id, ret, err);
}

static const char SQL_OPERATION_LIST[] =
    "SELECT " COLUMNS " FROM operation WHERE project_id = :project AND created_at < :before"
    " ORDER BY created_at DESC LIMIT :limit";

int operation_list(struct dbc *c, struct arena *a, const char *project_id, struct page *page,
                   struct operation **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    int64_t before = INT64_MAX;
    char text[TIME_TEXT_SIZE];
    if (page->cursor && !text_to_time(page->cursor, &before))
        return cursor_bad(err);
    if (stmt_get(c, SQL_OPERATION_LIST, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_i64(st, ":before", before);
    bind_i64(st, ":limit", page->limit > 0 ? page->limit : -1);
    *ret = row_list(c, st, &OPERATION_NOUN, a, ret_n, err);
    page->next = NULL;
    if (*ret == NULL || *ret_n == 0)
        return *ret != NULL ? 0 : -1;
    page->next = arena_strdup(a, text_time_us((*ret)[*ret_n - 1].created_at, text));
    return page->next ? 0 : err_memory(err);
}

static const char SQL_OPERATION_OPEN[] =
    "SELECT " COLUMNS " FROM operation WHERE status IN ('scheduling', 'running') ORDER BY seq";

int operation_list_open(struct dbc *c, struct arena *a, struct operation **ret, size_t *ret_n,
                        struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_OPERATION_OPEN, &st, err) < 0)
        return -1;
    *ret = row_list(c, st, &OPERATION_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

/* created_at is later than that of every earlier operation of the project, so that it can be a cursor. */
static const char SQL_OPERATION_INSERT[] =
    "INSERT INTO operation (id, project_id, branch_id, endpoint_id, action, status, args, error, "
    "failures_count, retry_at,"
    " total_duration_ms, created_at, updated_at) VALUES (:id, :project_id, :branch_id, :endpoint_id, "
    ":action, :status, :args, :error,"
    " :failures_count, :retry_at, :total_duration_ms,"
    " max(:created_at, coalesce((SELECT max(created_at) + 1 FROM operation WHERE project_id = :project_id), "
    "0)),"
    " :updated_at) RETURNING seq, created_at";

int operation_insert(struct dbc *c, struct operation *o, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_OPERATION_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &OPERATION_NOUN, o);
    if (stmt_step(c, st, err) < 0)
        return -1;
    o->seq = sqlite3_column_int64(st, 0);
    o->created_at = sqlite3_column_int64(st, 1);
    return 0;
}

static const char SQL_OPERATION_UPDATE[] =
    "UPDATE operation SET status = :status, error = :error, failures_count = :failures_count, retry_at = "
    ":retry_at,"
    " total_duration_ms = :total_duration_ms, phases = :phases, updated_at = :updated_at WHERE id = :id";

int operation_update(struct dbc *c, struct operation *o, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    o->updated_at = now_us;
    o->total_duration_ms = now_us > o->created_at ? (now_us - o->created_at) / 1000 : 0;
    if (stmt_get(c, SQL_OPERATION_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, &OPERATION_NOUN, o);
    return stmt_change(c, st, &OPERATION_NOUN, err);
}

static const char SQL_OPERATION_PRUNE[] =
    "DELETE FROM operation WHERE seq IN (SELECT seq FROM operation WHERE status NOT IN ('scheduling', "
    "'running') AND updated_at < :before"
    " ORDER BY updated_at LIMIT :limit)";

int operation_prune(struct dbc *c, int64_t before_us, int64_t limit, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_OPERATION_PRUNE, &st, err) < 0)
        return -1;
    bind_i64(st, ":before", before_us);
    bind_i64(st, ":limit", limit);
    return stmt_run(c, st, NULL, err);
}
