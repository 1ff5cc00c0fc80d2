/*
 * bookmark.c - statements on bookmarks
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/bookmark.h"

#include "base/clock.h"
#include "meta/row.h"

static const struct field BOOKMARK[] = {
    FIELD(bookmark, branch_id, F_STR, 0, 0),   FIELD(bookmark, name, F_STR, 0, 0),
    FIELD(bookmark, lsn, F_LSN, 0, 0),         FIELD(bookmark, timestamp, F_TIME, 0, 0),
    FIELD(bookmark, hold_id, F_STR, 0, 0),     FIELD(bookmark, expires_at, F_TIME, 0, 0),
    FIELD(bookmark, created_at, F_TIME, 0, 0), FIELD(bookmark, updated_at, F_TIME, 0, 0),
};
#define COLUMNS "branch_id, name, lsn, timestamp, hold_id, expires_at, created_at, updated_at"

static const struct noun BOOKMARK_NOUN = {
    .name = "bookmark",
    .fields = BOOKMARK,
    .n_fields = N_ELEMENTS(BOOKMARK),
    .size = sizeof(struct bookmark),
};

#define ALIVE                                                                                                \
    "SELECT " COLUMNS " FROM bookmark WHERE branch_id = :branch AND (expires_at IS NULL OR expires_at > "    \
    ":now)"
static const char SQL_BOOKMARK_GET[] = ALIVE " AND name = :name";
static const char SQL_BOOKMARK_LIST[] = ALIVE " ORDER BY name";

int bookmark_get(struct dbc *c, struct arena *a, const char *branch_id, const char *name,
                 struct bookmark *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BOOKMARK_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_text(st, ":name", name);
    bind_i64(st, ":now", clock_wall_us());
    return row_get(c, st, &BOOKMARK_NOUN, a, ret, err);
}

int bookmark_list(struct dbc *c, struct arena *a, const char *branch_id, struct bookmark **ret, size_t *ret_n,
                  struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BOOKMARK_LIST, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":now", clock_wall_us());
    *ret = row_list(c, st, &BOOKMARK_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_BOOKMARK_PUT[] =
    "INSERT INTO bookmark (" COLUMNS ") VALUES (:branch_id, :name, :lsn, :timestamp, :hold_id, :expires_at,"
    " :created_at, :updated_at) ON CONFLICT (branch_id, name) DO UPDATE SET lsn = :lsn,"
    " timestamp = :timestamp, hold_id = :hold_id, expires_at = :expires_at, created_at = :created_at,"
    " updated_at = :updated_at";

int bookmark_put(struct dbc *c, const struct bookmark *b, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BOOKMARK_PUT, &st, err) < 0)
        return -1;
    bind_struct(st, &BOOKMARK_NOUN, b);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_BOOKMARK_DELETE[] = "DELETE FROM bookmark WHERE branch_id = :branch AND name = :name";

int bookmark_delete(struct dbc *c, const char *branch_id, const char *name, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BOOKMARK_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_text(st, ":name", name);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_BOOKMARK_MOVE[] =
    "UPDATE bookmark SET branch_id = :to WHERE branch_id = :branch AND lsn > :lsn";
static const char SQL_BOOKMARK_FORGET[] = "DELETE FROM bookmark WHERE branch_id = :branch AND lsn > :lsn";

int bookmark_move_beyond(struct dbc *c, const char *branch_id, uint64_t lsn, const char *to_id,
                         struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, to_id ? SQL_BOOKMARK_MOVE : SQL_BOOKMARK_FORGET, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":lsn", (int64_t)lsn);
    if (to_id)
        bind_text(st, ":to", to_id);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_BOOKMARK_COUNT_HELD[] =
    "SELECT count(*) FROM bookmark WHERE branch_id = :branch AND lsn > :lsn AND hold_id IS NOT NULL"
    " AND (expires_at IS NULL OR expires_at > :now)";

int bookmark_count_held(struct dbc *c, const char *branch_id, uint64_t beyond, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BOOKMARK_COUNT_HELD, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":lsn", (int64_t)beyond);
    bind_i64(st, ":now", clock_wall_us());
    return stmt_number(c, st, ret, err);
}

static const char SQL_BOOKMARK_PRUNE[] =
    "DELETE FROM bookmark WHERE expires_at <= :now OR branch_id IN"
    " (SELECT id FROM branch WHERE state = 'deleted' AND recoverable_until <= :now)";

int bookmark_prune(struct dbc *c, int64_t now_us, int64_t *ret_removed, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BOOKMARK_PRUNE, &st, err) < 0)
        return -1;
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, ret_removed, err);
}
