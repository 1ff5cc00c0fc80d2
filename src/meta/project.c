/*
 * project.c - statements on projects
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/project.h"

#include "base/clock.h"
#include "meta/permission.h"
#include "meta/row.h"

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
    FIELD(project, deleted_at, F_TIME, 0, 0),
    FIELD(project, recoverable_until, F_TIME, 0, 0),
    FIELD(project, created_at, F_TIME, 0, 0),
    FIELD(project, updated_at, F_TIME, 0, 0),
};
#define COLUMNS                                                                                              \
    "id, name, state, pg_version, region_id, store_passwords, history_retention_seconds, settings, "         \
    "default_endpoint_settings, deleted_at, recoverable_until, created_at, updated_at"

static const struct noun PROJECT_NOUN = {
    .name = "project",
    .fields = PROJECT,
    .n_fields = N_ELEMENTS(PROJECT),
    .size = sizeof(struct project),
};

static const char SQL_PROJECT_GET[] = "SELECT " COLUMNS " FROM project WHERE id = :id";

int project_get_any(struct dbc *c, struct arena *a, const char *id, struct project *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return row_get(c, st, &PROJECT_NOUN, a, ret, err);
}

int project_get(struct dbc *c, struct arena *a, const char *id, struct project *ret, struct err *err)
{
    if (project_get_any(c, a, id, ret, err) < 0)
        return -1;
    return strcmp(ret->state, "ready") == 0 ? 0 : err_set(err, ERR_NOT_FOUND, "project not found");
}

static const char SQL_PROJECT_GET_DELETED[] =
    "SELECT " COLUMNS " FROM project WHERE id = :id AND state = 'deleted' AND recoverable_until > :now";

int project_get_deleted(struct dbc *c, struct arena *a, const char *id, int64_t now_us, struct project *ret,
                        struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_GET_DELETED, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":now", now_us);
    int rc = row_find(c, st, &PROJECT_NOUN, a, ret, err);
    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "project not found: no deleted project \"%.60s\" can be recovered",
                       id);
    return rc < 0 ? -1 : 0;
}

static const char SQL_PROJECT_PURGEABLE[] =
    "SELECT " COLUMNS " FROM project WHERE state = 'deleted' AND recoverable_until <= :now"
    " ORDER BY recoverable_until, id LIMIT 1";

int project_find_purgeable(struct dbc *c, struct arena *a, int64_t now_us, struct project *ret,
                           bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_PURGEABLE, &st, err) < 0)
        return -1;
    bind_i64(st, ":now", now_us);
    int rc = row_find(c, st, &PROJECT_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

/* Those that are there, or those that can be brought back. */
static const char SQL_PROJECT_LIST[] =
    "SELECT " COLUMNS " FROM project WHERE CASE WHEN :deleted_at = 0"
    " THEN state = 'ready' ELSE state = 'deleted' AND recoverable_until >"
    " :deleted_at END AND (:search IS NULL OR id = :search OR instr(lower(name), "
    "lower(:search)) > 0) AND (:name IS NULL OR name = :name)"
    " AND (:after IS NULL OR (created_at, id) < (:key, :after))"
    " ORDER BY created_at DESC, id DESC LIMIT :limit";

int project_list(struct dbc *c, struct arena *a, struct page *page, struct project **ret, size_t *ret_n,
                 struct err *err)
{
    auto_stmt *st = NULL;
    const char *after = NULL;
    const struct project *last;
    int64_t key = 0;
    if (page->cursor && cursor_parse_i64(a, page->cursor, "created_at", &key, &after, err) < 0)
        return -1;
    if (stmt_get(c, SQL_PROJECT_LIST, &st, err) < 0)
        return -1;
    bind_i64(st, ":deleted_at", page->deleted ? clock_wall_us() : 0);
    bind_text(st, ":search", page->search);
    bind_text(st, ":name", page->name);
    bind_i64(st, ":key", key);
    bind_text(st, ":after", after);
    bind_i64(st, ":limit", page->limit > 0 ? page->limit : -1);
    *ret = row_list(c, st, &PROJECT_NOUN, a, ret_n, err);
    page->next = NULL;
    if (*ret == NULL || *ret_n == 0)
        return *ret != NULL ? 0 : -1;
    last = &(*ret)[*ret_n - 1];
    return cursor_make_i64(a, "created_at", last->created_at, last->id, &page->next, err);
}

static const char SQL_PROJECT_IMAGE_WAL_BYTES[] =
    "SELECT coalesce(json_extract(settings, '$.image_wal_bytes'), :default) FROM project WHERE id = :id";

int project_image_wal_bytes(struct dbc *c, const char *id, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_IMAGE_WAL_BYTES, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":default", PROJECT_IMAGE_WAL_DEFAULT);
    return stmt_number(c, st, ret, err);
}

static const char SQL_PROJECT_INSERT[] =
    "INSERT INTO project (" COLUMNS ") VALUES (:id, :name, :state, :pg_version, :region_id, :store_passwords,"
    " :history_retention_seconds, :settings, :default_endpoint_settings, :deleted_at, :recoverable_until,"
    " :created_at, :updated_at)";

int project_insert(struct dbc *c, const struct project *p, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &PROJECT_NOUN, p);
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
    bind_struct(st, &PROJECT_NOUN, p);
    return stmt_change(c, st, &PROJECT_NOUN, err);
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
    return stmt_change(c, st, &PROJECT_NOUN, err);
}

static const char SQL_PROJECT_SET_DELETED[] =
    "UPDATE project SET state = 'deleted', deleted_at = :now, recoverable_until = :until, updated_at = :now"
    " WHERE id = :id";

int project_set_deleted(struct dbc *c, const char *id, int64_t recoverable_until, int64_t now_us,
                        struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_SET_DELETED, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":until", recoverable_until);
    bind_i64(st, ":now", now_us);
    return stmt_change(c, st, &PROJECT_NOUN, err);
}

static const char SQL_PROJECT_SET_RECOVERED[] =
    "UPDATE project SET state = 'ready', deleted_at = NULL, recoverable_until = NULL, updated_at = :now"
    " WHERE id = :id AND state = 'deleted'";

int project_set_recovered(struct dbc *c, const char *id, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PROJECT_SET_RECOVERED, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":now", now_us);
    return stmt_change(c, st, &PROJECT_NOUN, err);
}

static const char SQL_PROJECT_DELETE[] = "DELETE FROM project WHERE id = :id";

int project_delete(struct dbc *c, const char *id, struct err *err)
{
    auto_stmt *st = NULL;
    if (permission_delete_all(c, id, err) < 0 || stmt_get(c, SQL_PROJECT_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return stmt_run(c, st, NULL, err);
}
