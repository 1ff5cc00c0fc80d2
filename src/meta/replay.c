/*
 * replay.c - statements on kept answers
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/replay.h"

#include "meta/row.h"

static const struct field REPLAY[] = {
    FIELD(replay, account, F_STR, 0, 0), FIELD(replay, key, F_STR, 0, 0),
    FIELD(replay, digest, F_STR, 0, 0),  FIELD(replay, status, F_I64, 0, 0),
    FIELD(replay, answer, F_STR, 0, 0),  FIELD(replay, created_at, F_TIME, 0, 0),
};
#define COLUMNS "account, key, digest, status, answer, created_at"

static const struct noun REPLAY_NOUN = {
    .name = "kept answer",
    .fields = REPLAY,
    .n_fields = N_ELEMENTS(REPLAY),
    .size = sizeof(struct replay),
};

static const char SQL_REPLAY_FIND[] =
    "SELECT " COLUMNS " FROM replay WHERE account = :account AND key = :key";

int replay_find(struct dbc *c, struct arena *a, const char *account, const char *key, struct replay *ret,
                bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_REPLAY_FIND, &st, err) < 0)
        return -1;
    bind_text(st, ":account", account);
    bind_text(st, ":key", key);
    int rc = row_find(c, st, &REPLAY_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_REPLAY_INSERT[] = "INSERT INTO replay (" COLUMNS ") VALUES (:account, :key, :digest,"
                                        " :status, :answer, :created_at)";

int replay_insert(struct dbc *c, const struct replay *r, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_REPLAY_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &REPLAY_NOUN, r);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_REPLAY_UPDATE[] =
    "UPDATE replay SET status = :status, answer = :answer WHERE account = :account AND key = :key";

int replay_update(struct dbc *c, const struct replay *r, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_REPLAY_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, &REPLAY_NOUN, r);
    return stmt_change(c, st, &REPLAY_NOUN, err);
}

static const char SQL_REPLAY_DELETE[] = "DELETE FROM replay WHERE account = :account AND key = :key";

int replay_delete(struct dbc *c, const char *account, const char *key, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_REPLAY_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":account", account);
    bind_text(st, ":key", key);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_REPLAY_PRUNE[] =
    "DELETE FROM replay WHERE (account, key) IN (SELECT account, key FROM replay WHERE created_at < :before"
    " ORDER BY created_at LIMIT :limit)";

int replay_prune(struct dbc *c, int64_t before_us, int64_t limit, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_REPLAY_PRUNE, &st, err) < 0)
        return -1;
    bind_i64(st, ":before", before_us);
    bind_i64(st, ":limit", limit);
    return stmt_run(c, st, NULL, err);
}
