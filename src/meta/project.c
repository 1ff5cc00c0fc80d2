#include "meta/project.h"

#include "base/text.h"
#include "meta/row.h"

#include <inttypes.h>
#include <string.h>

static const struct field PROJECT[] = {
    FIELD(project, id, F_STR, 0, 0),
    FIELD(project, name, F_STR, 0, 0),
    FIELD(project, state, F_STR, 0, 0),
    FIELD(project, pg_version, F_I64, 0, 0),
    FIELD(project, region_id, F_STR, 0, 0),
    FIELD(project, store_passwords, F_BOOL, 0, 0),
    FIELD(project, history_retention_seconds, F_I64, 0, 0),
    FIELD(project, settings, F_JSON, 0, 0),
    FIELD(project, default_endpoint_settings, F_JSON, 0, 0),
    FIELD(project, created_at, F_TIME, 0, 0),
    FIELD(project, updated_at, F_TIME, 0, 0),
};
#define COLUMNS                                                                                              \
    "id, name, state, pg_version, region_id, store_passwords, history_retention_seconds, settings, "         \
    "default_endpoint_settings, created_at, updated_at"

static const char SQL_PROJECT_GET[] = "SELECT " COLUMNS " FROM project WHERE id = :id";

int project_get_any(struct dbc *c, struct arena *a, const char *id, struct project *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    int rc = row_find(c, st, PROJECT, N_ELEMENTS(PROJECT), a, ret, err);
    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "project not found");
    return rc < 0 ? -1 : 0;
}

int project_get(struct dbc *c, struct arena *a, const char *id, struct project *ret, struct err *err)
{
    if (project_get_any(c, a, id, ret, err) < 0)
        return -1;
    return strcmp(ret->state, "ready") == 0 ? 0 : err_set(err, ERR_NOT_FOUND, "project not found");
}

static const char SQL_PROJECT_LIST[] = "SELECT " COLUMNS " FROM project WHERE state = 'ready'"
                                       " AND (:search IS NULL OR id = :search OR instr(lower(name), "
                                       "lower(:search)) > 0) AND (:name IS NULL OR name = :name)"
                                       " AND (:key IS NULL OR (created_at, id) < (:key, :cid))"
                                       " ORDER BY created_at DESC, id DESC LIMIT :limit";

int project_list(struct dbc *c, struct arena *a, struct page *page, struct project **ret, size_t *ret_n,
                 struct err *err)
{
    auto_stmt *st = NULL;
    const char *key = NULL, *id = NULL;
    int64_t at = 0;
    void *list;
    if (page->cursor &&
        (cursor_parse(a, page->cursor, &key, &id, err) < 0 || !text_to_i64(key, INT64_MIN, INT64_MAX, &at)))
        return err_set(err, ERR_BAD_REQUEST, "the cursor is not one that this server gave out");
    if (stmt_get(c, SQL_PROJECT_LIST, &st, err) < 0)
        return -1;
    bind_text(st, ":search", page->search);
    bind_text(st, ":name", page->name);
    bind_opt(st, ":key", at);
    bind_text(st, ":cid", id);
    bind_i64(st, ":limit", page->limit ? page->limit : -1);
    if (row_list(c, st, PROJECT, N_ELEMENTS(PROJECT), sizeof(struct project), a, &list, ret_n, err) < 0)
        return -1;
    *ret = list;
    const struct project *last = *ret_n ? &(*ret)[*ret_n - 1] : NULL;
    page->next = last ? cursor_make(a, arena_printf(a, "%" PRId64, last->created_at), last->id) : NULL;
    return 0;
}

static const char SQL_PROJECT_INSERT[] =
    "INSERT INTO project (" COLUMNS ") VALUES (:id, :name, :state, :pg_version, :region_id, :store_passwords,"
    " :history_retention_seconds, :settings, :default_endpoint_settings, :created_at, :updated_at)";

int project_insert(struct dbc *c, const struct project *p, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, PROJECT, N_ELEMENTS(PROJECT), p);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_PROJECT_UPDATE[] =
    "UPDATE project SET name = :name, history_retention_seconds = :history_retention_seconds, settings = "
    ":settings,"
    " default_endpoint_settings = :default_endpoint_settings, updated_at = :updated_at WHERE id = :id";

int project_update(struct dbc *c, const struct project *p, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, PROJECT, N_ELEMENTS(PROJECT), p);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_PROJECT_SET_STATE[] =
    "UPDATE project SET state = :state, updated_at = :now WHERE id = :id";

int project_set_state(struct dbc *c, const char *id, const char *state, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_SET_STATE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":state", state);
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_PROJECT_DELETE[] = "DELETE FROM project WHERE id = :id";

int project_delete(struct dbc *c, const char *id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_PROJECT_COUNT[] = "SELECT count(*) FROM project WHERE state = 'ready'";

int project_count(struct dbc *c, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_COUNT, &st, err) < 0 || stmt_step(c, st, err) < 0)
        return -1;
    *ret = sqlite3_column_int64(st, 0);
    return 0;
}
