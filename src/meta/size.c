#include "meta/size.h"

#include "meta/row.h"

static const struct field SIZE[] = {
    FIELD(branch_size, branch_id, F_STR, 0, 0),    FIELD(branch_size, logical_bytes, F_I64, 0, 0),
    FIELD(branch_size, own_bytes, F_I64, 0, 0),    FIELD(branch_size, history_bytes, F_I64, 0, 0),
    FIELD(branch_size, n_images, F_I64, 0, 0),     FIELD(branch_size, history_from, F_LSN, 0, 0),
    FIELD(branch_size, measured_at, F_TIME, 0, 0),
};
static const struct noun SIZE_NOUN = {
    .name = "size",
    .fields = SIZE,
    .n_fields = N_ELEMENTS(SIZE),
    .size = sizeof(struct branch_size),
};

static const char SQL_SIZE_GET[] = "SELECT branch_id, logical_bytes, own_bytes, history_bytes, n_images, "
                                   "history_from, measured_at FROM branch_size"
                                   " WHERE branch_id = :id";

int size_get(struct dbc *c, struct arena *a, const char *branch_id, struct branch_size *ret, bool *ret_found,
             struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SIZE_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", branch_id);
    int rc = row_find(c, st, &SIZE_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_SIZE_PUT[] =
    "INSERT OR REPLACE INTO branch_size (branch_id, logical_bytes, own_bytes, history_bytes, n_images,"
    " history_from, measured_at) SELECT :branch_id, :logical_bytes, :own_bytes, :history_bytes, :n_images,"
    " :history_from, :measured_at"
    " WHERE EXISTS (SELECT 1 FROM branch WHERE id = :branch_id)";

int size_put(struct dbc *c, const struct branch_size *size, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SIZE_PUT, &st, err) < 0)
        return -1;
    bind_struct(st, &SIZE_NOUN, size);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_SIZE_DUE[] =
    "SELECT b.id AS branch_id, 0 AS logical_bytes, 0 AS own_bytes, 0 AS history_bytes, 0 AS n_images,"
    " b.history_from, NULL AS measured_at FROM branch AS b LEFT JOIN branch_size AS s ON s.branch_id = b.id"
    " WHERE b.volume = 'ready' AND b.kind = 'user' AND b.state <> 'deleting' AND (s.measured_at IS NULL"
    " OR s.history_from IS NOT b.history_from OR EXISTS (SELECT 1 FROM endpoint AS e WHERE e.branch_id = b.id"
    "  AND (e.suspended_at > s.measured_at OR (e.observed = 'RUNNING' AND s.measured_at < :before))))"
    " ORDER BY s.measured_at, b.id LIMIT 1";

int size_find_due(struct dbc *c, struct arena *a, int64_t before_us, struct branch_size *ret, bool *ret_found,
                  struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SIZE_DUE, &st, err) < 0)
        return -1;
    bind_i64(st, ":before", before_us);
    int rc = row_find(c, st, &SIZE_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}
