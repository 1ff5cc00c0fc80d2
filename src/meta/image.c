/*
 * image.c - statements on images
 *
 * Runs on the thread that borrowed the connection.  Knows rows, never files: who removes an image removes its
 * volume first.
 */
#include "meta/image.h"

#include "meta/row.h"

static const struct field IMAGE[] = {
    FIELD(image, id, F_STR, 0, 0),          FIELD(image, branch_id, F_STR, 0, 0),
    FIELD(image, pg_version, F_I64, 0, 0),  FIELD(image, method, F_STR, 0, 0),
    FIELD(image, state, F_STR, 0, 0),       FIELD(image, tli, F_I64, 0, 0),
    FIELD(image, redo_lsn, F_LSN, 0, 0),    FIELD(image, lsn, F_LSN, 0, 0),
    FIELD(image, until_lsn, F_LSN, 0, 0),   FIELD(image, stamp_us, F_I64, 0, 0),
    FIELD(image, created_at, F_TIME, 0, 0),
};
#define COLUMNS                                                                                              \
    "id, branch_id, pg_version, method, state, tli, redo_lsn, lsn, until_lsn, stamp_us, created_at"

static const struct noun IMAGE_NOUN = {
    .name = "image",
    .fields = IMAGE,
    .n_fields = N_ELEMENTS(IMAGE),
    .size = sizeof(struct image),
};

static const char SQL_IMAGE_GET[] = "SELECT " COLUMNS " FROM image WHERE id = :id";

int image_get(struct dbc *c, struct arena *a, const char *id, struct image *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return row_get(c, st, &IMAGE_NOUN, a, ret, err);
}

static int find(struct dbc *c, sqlite3_stmt *st, struct arena *a, struct image *ret, bool *ret_found,
                struct err *err)
{
    int rc = row_find(c, st, &IMAGE_NOUN, a, ret, err);

    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_IMAGE_TEMPLATE[] =
    "SELECT " COLUMNS " FROM image WHERE branch_id IS NULL AND pg_version = :version AND state = 'ready'"
    " ORDER BY created_at DESC, id LIMIT 1";

int image_find_template(struct dbc *c, struct arena *a, int64_t pg_version, struct image *ret,
                        bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_TEMPLATE, &st, err) < 0)
        return -1;
    bind_i64(st, ":version", pg_version);
    return find(c, st, a, ret, ret_found, err);
}

static const char SQL_IMAGE_FIND_AT[] =
    "SELECT " COLUMNS
    " FROM image WHERE branch_id = :branch AND lsn <= :lsn AND :lsn <= coalesce(until_lsn, lsn)"
    " AND state IN ('snapped', 'ready') ORDER BY state = 'ready' DESC, lsn DESC, id LIMIT 1";

int image_find_at(struct dbc *c, struct arena *a, const char *branch_id, uint64_t lsn, struct image *ret,
                  bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_FIND_AT, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":lsn", (int64_t)lsn);
    return find(c, st, a, ret, ret_found, err);
}

static const char SQL_IMAGE_FIND_BETWEEN[] =
    "SELECT " COLUMNS
    " FROM image WHERE branch_id = :branch AND lsn BETWEEN :from AND :to AND state = 'ready'"
    " ORDER BY lsn DESC, id LIMIT 1";

int image_find_between(struct dbc *c, struct arena *a, const char *branch_id, uint64_t from, uint64_t to,
                       struct image *ret, bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_FIND_BETWEEN, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":from", (int64_t)from);
    bind_i64(st, ":to", (int64_t)to);
    return find(c, st, a, ret, ret_found, err);
}

static const char SQL_IMAGE_FIND_STAMPED[] =
    "SELECT " COLUMNS
    " FROM image WHERE branch_id = :branch AND lsn BETWEEN :from AND :to AND state = 'ready'"
    " AND stamp_us BETWEEN 0 AND :until ORDER BY lsn DESC, id LIMIT 1";

int image_find_stamped(struct dbc *c, struct arena *a, const char *branch_id, uint64_t from, uint64_t to,
                       int64_t until_us, struct image *ret, bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_FIND_STAMPED, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":from", (int64_t)from);
    bind_i64(st, ":to", (int64_t)to);
    bind_i64(st, ":until", until_us);
    return find(c, st, a, ret, ret_found, err);
}

/* An image can only be read from the one before it, so the oldest comes first. */
static const char SQL_IMAGE_FIND_UNSTAMPED[] =
    "SELECT " COLUMNS " FROM image AS i WHERE stamp_us = -1 AND state = 'ready'"
    " AND EXISTS (SELECT 1 FROM branch AS b WHERE b.id = i.branch_id AND b.state <> 'deleting'"
    "  AND i.lsn >= coalesce(b.history_from, 0)) ORDER BY created_at, id LIMIT 1";

int image_find_unstamped(struct dbc *c, struct arena *a, struct image *ret, bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_FIND_UNSTAMPED, &st, err) < 0)
        return -1;
    return find(c, st, a, ret, ret_found, err);
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
    *ret = row_list(c, st, &IMAGE_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_IMAGE_STANDING[] =
    "SELECT " COLUMNS " FROM image AS i WHERE branch_id IS NULL"
    " OR EXISTS (SELECT 1 FROM branch AS b WHERE b.id = i.branch_id AND b.state <> 'deleting') ORDER BY id";

int image_list_standing(struct dbc *c, struct arena *a, struct image **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_STANDING, &st, err) < 0)
        return -1;
    *ret = row_list(c, st, &IMAGE_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_IMAGE_INSERT[] =
    "INSERT INTO image (" COLUMNS ") VALUES (:id, :branch_id, :pg_version, :method, :state, :tli, :redo_lsn,"
    " :lsn, :until_lsn, :stamp_us, :created_at)";

int image_insert(struct dbc *c, const struct image *i, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &IMAGE_NOUN, i);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_IMAGE_UPDATE[] =
    "UPDATE image SET state = :state, tli = :tli, redo_lsn = :redo_lsn, "
    "lsn = :lsn, until_lsn = :until_lsn, method = :method, created_at = :created_at WHERE id = :id";

int image_update(struct dbc *c, const struct image *i, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, &IMAGE_NOUN, i);
    return stmt_change(c, st, &IMAGE_NOUN, err);
}

static const char SQL_IMAGE_SET_STATE[] = "UPDATE image SET state = :state WHERE id = :id";

int image_set_state(struct dbc *c, const char *id, const char *state, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_SET_STATE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":state", state);
    return stmt_change(c, st, &IMAGE_NOUN, err);
}

static const char SQL_IMAGE_SET_STAMP[] = "UPDATE image SET stamp_us = :stamp WHERE id = :id";

int image_set_stamp(struct dbc *c, const char *id, int64_t stamp_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_IMAGE_SET_STAMP, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":stamp", stamp_us);
    return stmt_change(c, st, &IMAGE_NOUN, err);
}

/* A branch that is being deleted never starts again, so that it needs no image to clone. */
static const char SQL_IMAGE_LET_GO[] =
    "UPDATE branch SET image_id = NULL WHERE image_id = :id AND state = 'deleting'";
static const char SQL_IMAGE_DELETE[] = "DELETE FROM image WHERE id = :id";

int image_delete(struct dbc *c, const char *id, struct err *err)
{
    auto_stmt *let_go = NULL, *st = NULL;
    if (stmt_get(c, SQL_IMAGE_LET_GO, &let_go, err) < 0 || stmt_get(c, SQL_IMAGE_DELETE, &st, err) < 0)
        return -1;
    bind_text(let_go, ":id", id);
    bind_text(st, ":id", id);
    return stmt_run(c, let_go, NULL, err) < 0 ? -1 : stmt_run(c, st, NULL, err);
}
