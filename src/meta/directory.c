/*
 * directory.c - statements on what mere-proxy is told
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/directory.h"

#include "meta/row.h"

static const struct field LISTED[] = {
    FIELD(listed, endpoint_id, F_STR, 0, 0),       FIELD(listed, branch_id, F_STR, 0, 0),
    FIELD(listed, project_settings, F_JSON, 0, 0), FIELD(listed, is_protected, F_BOOL, 0, 0),
    FIELD(listed, park_sessions, F_BOOL, 0, 0),
};

static const struct noun LISTED_NOUN = {
    .name = "endpoint",
    .fields = LISTED,
    .n_fields = N_ELEMENTS(LISTED),
    .size = sizeof(struct listed),
};

/* As branch_is_seen() and branch_has_expired() have it. */
#define SQL_LISTED                                                                                           \
    "SELECT e.id AS endpoint_id, e.branch_id, p.settings AS project_settings, b.is_protected,"               \
    " e.park_sessions"                                                                                       \
    " FROM endpoint AS e JOIN branch AS b ON b.id = e.branch_id JOIN project AS p ON p.id = e.project_id"    \
    " WHERE e.desired <> 'deleted' AND (b.expires_at IS NULL OR b.expires_at > :now)"                        \
    " AND b.id IN (SELECT id FROM branch WHERE id = e.branch_id AND " BRANCH_SEEN ")"

static const char SQL_PAGE[] = SQL_LISTED " AND e.id > :after ORDER BY e.id LIMIT :limit";

int directory_page(struct dbc *c, struct arena *a, const char *after, int64_t limit, int64_t now_us,
                   struct listed **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PAGE, &st, err) < 0)
        return -1;
    bind_text(st, ":after", after);
    bind_i64(st, ":limit", limit);
    bind_i64(st, ":now", now_us);
    *ret = row_list(c, st, &LISTED_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_GET[] = SQL_LISTED " AND e.id = :id";

int directory_get(struct dbc *c, struct arena *a, const char *endpoint_id, int64_t now_us, struct listed *ret,
                  bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", endpoint_id);
    bind_i64(st, ":now", now_us);
    int rc = row_find(c, st, &LISTED_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const struct field CHANGE[] = {
    FIELD(listed_change, seq, F_I64, 0, 0),
    FIELD(listed_change, endpoint_id, F_STR, 0, 0),
};

static const struct noun CHANGE_NOUN = {
    .name = "change",
    .fields = CHANGE,
    .n_fields = N_ELEMENTS(CHANGE),
    .size = sizeof(struct listed_change),
};

static const char SQL_CHANGES[] =
    "SELECT seq, endpoint_id FROM " DIRECTORY_CHANGES " WHERE seq > :after ORDER BY seq LIMIT :limit";

int directory_changes(struct dbc *c, struct arena *a, int64_t after, int64_t limit,
                      struct listed_change **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_CHANGES, &st, err) < 0)
        return -1;
    bind_i64(st, ":after", after);
    bind_i64(st, ":limit", limit);
    *ret = row_list(c, st, &CHANGE_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_LAST[] = "SELECT coalesce(max(seq), 0) FROM " DIRECTORY_CHANGES;

int directory_last_change(struct dbc *c, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    return stmt_get(c, SQL_LAST, &st, err) < 0 ? -1 : stmt_number(c, st, ret, err);
}

static const char SQL_FORGET[] = "DELETE FROM " DIRECTORY_CHANGES " WHERE seq <= :seq";

int directory_forget_changes(struct dbc *c, int64_t seq, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_FORGET, &st, err) < 0)
        return -1;
    bind_i64(st, ":seq", seq);
    return stmt_run(c, st, NULL, err);
}
