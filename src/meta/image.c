#include "meta/image.h"

#include "meta/row.h"

static const struct field IMAGE[] = {
    FIELD(image, id, F_STR, 0, 0),          FIELD(image, branch_id, F_STR, 0, 0),
    FIELD(image, pg_version, F_I64, 0, 0),  FIELD(image, method, F_STR, 0, 0),
    FIELD(image, state, F_STR, 0, 0),       FIELD(image, tli, F_I64, 0, 0),
    FIELD(image, redo_lsn, F_LSN, 0, 0),    FIELD(image, lsn, F_LSN, 0, 0),
    FIELD(image, created_at, F_TIME, 0, 0),
};
#define COLUMNS   "id, branch_id, pg_version, method, state, tli, redo_lsn, lsn, created_at"
#define N_COLUMNS N_ELEMENTS(IMAGE)

static int list(struct dbc *c, struct arena *a, sqlite3_stmt *st, struct image **ret, size_t *ret_n,
                struct err *err)
{
    void *rows;
    if (row_list(c, st, IMAGE, N_COLUMNS, sizeof(struct image), a, &rows, ret_n, err) < 0)
        return -1;
    *ret = rows;
    return 0;
}

static const char SQL_IMAGE_GET[] = "SELECT " COLUMNS " FROM image WHERE id = :id";

int image_get(struct dbc *c, struct arena *a, const char *id, struct image *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    int rc = row_find(c, st, IMAGE, N_COLUMNS, a, ret, err);
    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "image not found");
    return rc < 0 ? -1 : 0;
}

static const char SQL_IMAGE_TEMPLATE[] =
    "SELECT " COLUMNS " FROM image WHERE branch_id IS NULL AND pg_version = :version AND state = 'ready'";

int image_find_template(struct dbc *c, struct arena *a, int64_t pg_version, struct image *ret,
                        bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_TEMPLATE, &st, err) < 0)
        return -1;
    bind_i64(st, ":version", pg_version);
    int rc = row_find(c, st, IMAGE, N_COLUMNS, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_IMAGE_FIND_AT[] =
    "SELECT " COLUMNS " FROM image WHERE branch_id = :branch AND lsn = :lsn AND state IN ('snapped', 'ready')"
    " ORDER BY state = 'ready' DESC LIMIT 1";

int image_find_at(struct dbc *c, struct arena *a, const char *branch_id, uint64_t lsn, struct image *ret,
                  bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_FIND_AT, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":lsn", (int64_t)lsn);
    int rc = row_find(c, st, IMAGE, N_COLUMNS, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_IMAGE_LIST[] =
    "SELECT " COLUMNS " FROM image WHERE (:branch IS NULL OR branch_id = :branch) ORDER BY created_at, id";

int image_list(struct dbc *c, struct arena *a, const char *branch_id, struct image **ret, size_t *ret_n,
               struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_LIST, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    return list(c, a, st, ret, ret_n, err);
}

static const char SQL_IMAGE_SUPERSEDED[] =
    "SELECT " COLUMNS
    " FROM image AS i WHERE branch_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM branch WHERE image_id = i.id)"
    " AND (state = 'trash' OR (state = 'ready' AND EXISTS (SELECT 1 FROM image AS newer WHERE "
    "newer.branch_id = i.branch_id"
    " AND newer.state = 'ready' AND (newer.lsn, newer.created_at) > (i.lsn, i.created_at)))) ORDER BY "
    "created_at";

int image_list_superseded(struct dbc *c, struct arena *a, struct image **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_SUPERSEDED, &st, err) < 0)
        return -1;
    return list(c, a, st, ret, ret_n, err);
}

static const char SQL_IMAGE_INSERT[] =
    "INSERT INTO image (" COLUMNS ") VALUES (:id, :branch_id, :pg_version, :method, :state, :tli, :redo_lsn,"
    " :lsn, :created_at)";

int image_insert(struct dbc *c, const struct image *i, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, IMAGE, N_COLUMNS, i);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_IMAGE_UPDATE[] = "UPDATE image SET state = :state, tli = :tli, redo_lsn = :redo_lsn, "
                                       "lsn = :lsn, method = :method WHERE id = :id";

int image_update(struct dbc *c, const struct image *i, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, IMAGE, N_COLUMNS, i);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_IMAGE_SET_STATE[] = "UPDATE image SET state = :state WHERE id = :id";

int image_set_state(struct dbc *c, const char *id, const char *state, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_SET_STATE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":state", state);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_IMAGE_DELETE[] = "DELETE FROM image WHERE id = :id";

int image_delete(struct dbc *c, const char *id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_IMAGE_COUNT_USERS[] =
    "SELECT count(*) FROM branch WHERE image_id = :id AND volume <> 'ready'";

int image_count_users(struct dbc *c, const char *id, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_COUNT_USERS, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    if (stmt_step(c, st, err) < 0)
        return -1;
    *ret = sqlite3_column_int64(st, 0);
    return 0;
}
