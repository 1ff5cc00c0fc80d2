/*
 * apikey.c - statements on API keys
 *
 * Runs on the thread that borrowed the connection.  Never sees a key, only its hash.
 */
#include "meta/apikey.h"

#include "meta/row.h"

static const struct field APIKEY[] = {
    FIELD(apikey, id, F_I64, 0, 0),
    FIELD(apikey, name, F_STR, 0, 0),
    FIELD(apikey, created_at, F_TIME, 0, 0),
    FIELD(apikey, last_used_at, F_TIME, 0, 0),
    FIELD(apikey, last_used_addr, F_STR, 0, 0),
    FIELD(apikey, revoked_at, F_TIME, 0, 0),
};
#define COLUMNS   "id, name, created_at, last_used_at, last_used_addr, revoked_at"
#define HASH_SIZE 32

static const struct noun APIKEY_NOUN = {
    .name = "api key",
    .fields = APIKEY,
    .n_fields = N_ELEMENTS(APIKEY),
    .size = sizeof(struct apikey),
};

static const char SQL_APIKEY_INSERT[] =
    "INSERT INTO api_key (name, hash, created_at) VALUES (:name, :hash, :now) RETURNING id";

int apikey_insert(struct dbc *c, const char *name, const uint8_t hash[32], int64_t now_us, int64_t *ret_id,
                  struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_APIKEY_INSERT, &st, err) < 0)
        return -1;
    bind_text(st, ":name", name);
    bind_blob(st, ":hash", hash, HASH_SIZE);
    bind_i64(st, ":now", now_us);
    return stmt_number(c, st, ret_id, err);
}

static const char SQL_APIKEY_FIND[] =
    "SELECT " COLUMNS " FROM api_key WHERE hash = :hash AND revoked_at IS NULL";

int apikey_find(struct dbc *c, struct arena *a, const uint8_t hash[32], struct apikey *ret, bool *ret_found,
                struct err *err)
{
    auto_stmt *st = NULL;
    int rc;
    if (stmt_get(c, SQL_APIKEY_FIND, &st, err) < 0)
        return -1;
    bind_blob(st, ":hash", hash, HASH_SIZE);
    rc = row_find(c, st, &APIKEY_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_APIKEY_LIST[] = "SELECT " COLUMNS " FROM api_key WHERE revoked_at IS NULL ORDER BY id";

int apikey_list(struct dbc *c, struct arena *a, struct apikey **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_APIKEY_LIST, &st, err) < 0)
        return -1;
    *ret = row_list(c, st, &APIKEY_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_APIKEY_REVOKE[] =
    "UPDATE api_key SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL RETURNING " COLUMNS;

int apikey_revoke(struct dbc *c, struct arena *a, int64_t id, int64_t now_us, struct apikey *ret,
                  struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_APIKEY_REVOKE, &st, err) < 0)
        return -1;
    bind_i64(st, ":id", id);
    bind_i64(st, ":now", now_us);
    return row_get(c, st, &APIKEY_NOUN, a, ret, err);
}

static const char SQL_APIKEY_TOUCH[] =
    "UPDATE api_key SET last_used_at = :now, last_used_addr = :addr WHERE id = :id";

int apikey_touch(struct dbc *c, int64_t id, int64_t now_us, const char *addr, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_APIKEY_TOUCH, &st, err) < 0)
        return -1;
    bind_i64(st, ":id", id);
    bind_i64(st, ":now", now_us);
    bind_text(st, ":addr", addr);
    return stmt_change(c, st, &APIKEY_NOUN, err);
}
