#include "meta/db.h"

#include "meta/migrate.h"
#include "meta/row.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READERS_MAX 16
#define CACHE_SLOTS 128 /* statements a connection keeps prepared; a power of two, well above their number   \
                         */

struct cached {
    const char *sql; /* by address: statements are constants */
    sqlite3_stmt *st;
};

struct dbc {
    struct db *db;
    sqlite3 *h;
    bool writer;
    bool open_tx;
    struct cached cache[CACHE_SLOTS];
    struct dbc *next;
};

struct db {
    char *path;
    pthread_mutex_t write_mutex;
    struct dbc *writer;
    pthread_mutex_t pool_mutex;
    pthread_cond_t pool_free;
    struct dbc *idle;
    int n_readers;
};

static __thread bool in_write;

bool db_in_write(void)
{
    return in_write;
}

/* ---- statements ---- */

static int fail(struct dbc *c, struct err *err)
{
    int code = sqlite3_extended_errcode(c->h);
    enum err_code e = ERR_INTERNAL;
    const char *msg = "Mere's metadata could not be read or written; nothing was changed";
    if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY) {
        e = ERR_CONFLICT;
        msg = "already exists";
    } else if ((code & 0xff) == SQLITE_FULL || (code == SQLITE_IOERR_WRITE && errno == ENOSPC)) {
        e = ERR_DISK_FULL;
        msg = "the disk that holds Mere's metadata is full; nothing was changed";
    } else if ((code & 0xff) == SQLITE_NOMEM) {
        e = ERR_UNAVAILABLE;
        msg = "out of memory; nothing was changed";
    }
    err_set(err, e, "%s", msg);
    return err_detail(err, "sqlite %d: %s", code, sqlite3_errmsg(c->h));
}

int stmt_get(struct dbc *c, const char *sql, sqlite3_stmt **ret, struct err *err)
{
    size_t at = ((uintptr_t)sql >> 4) % CACHE_SLOTS;
    while (c->cache[at].sql && c->cache[at].sql != sql)
        at = (at + 1) % CACHE_SLOTS;
    if (!c->cache[at].sql) {
        if (sqlite3_prepare_v3(c->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &c->cache[at].st, NULL) != SQLITE_OK)
            return fail(c, err);
        c->cache[at].sql = sql;
    }
    *ret = c->cache[at].st;
    return 0;
}

void stmt_reset(sqlite3_stmt **st)
{
    if (!*st)
        return;
    (void)sqlite3_reset(*st);
    (void)sqlite3_clear_bindings(*st);
    *st = NULL;
}

int stmt_step(struct dbc *c, sqlite3_stmt *st, struct err *err)
{
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : fail(c, err);
}

int stmt_run(struct dbc *c, sqlite3_stmt *st, int64_t *ret_changes, struct err *err)
{
    assert(c->writer);
    int rc = stmt_step(c, st, err);
    if (rc < 0)
        return -1;
    if (ret_changes)
        *ret_changes = sqlite3_changes64(c->h);
    return 0;
}

static int exec(struct dbc *c, const char *sql, struct err *err)
{
    return sqlite3_exec(c->h, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(c, err);
}

/* ---- connections ---- */

static void dbc_free(struct dbc *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < CACHE_SLOTS; i++)
        sqlite3_finalize(c->cache[i].st);
    sqlite3_close(c->h);
    free(c);
}

struct pragma {
    const char *set, *get, *want;
};

static int check_pragma(struct dbc *c, const struct pragma *p, struct err *err)
{
    sqlite3_stmt *st = NULL;
    if (exec(c, p->set, err) < 0)
        return -1;
    if (sqlite3_prepare_v2(c->h, p->get, -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW) {
        sqlite3_finalize(st);
        return fail(c, err);
    }
    bool ok = strcmp((const char *)sqlite3_column_text(st, 0), p->want) == 0;
    sqlite3_finalize(st);
    return ok ? 0
              : err_set(err, ERR_INTERNAL, "SQLite did not accept \"%s\"; Mere does not run without it",
                        p->set);
}

/* synchronous=FULL: with NORMAL acknowledged commits were lost in power cuts. */
static int configure(struct dbc *c, struct err *err)
{
    static const struct pragma PRAGMAS[] = {
        { "PRAGMA journal_mode=WAL", "PRAGMA journal_mode", "wal" },
        { "PRAGMA synchronous=FULL", "PRAGMA synchronous", "2" },
        { "PRAGMA foreign_keys=ON", "PRAGMA foreign_keys", "1" },
        { "PRAGMA trusted_schema=OFF", "PRAGMA trusted_schema", "0" },
        { "PRAGMA cache_size=-512", "PRAGMA cache_size", "-512" },
    };
    for (size_t i = 0; i < N_ELEMENTS(PRAGMAS); i++)
        if (check_pragma(c, &PRAGMAS[i], err) < 0)
            return -1;
    (void)sqlite3_busy_timeout(c->h, 5000);
    (void)sqlite3_extended_result_codes(c->h, 1);
    return 0;
}

static int connect_to(struct db *db, bool writer, struct dbc **ret, struct err *err)
{
    struct dbc *c = xcalloc(1, sizeof(*c));
    int flags =
        (writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX;
    c->db = db;
    c->writer = writer;
    if (sqlite3_open_v2(db->path, &c->h, flags, NULL) != SQLITE_OK) {
        err_set(err, ERR_INTERNAL, "cannot open Mere's metadata");
        err_detail(err, "%s: %s", db->path, c->h ? sqlite3_errmsg(c->h) : "out of memory");
        dbc_free(c);
        return -1;
    }
    if (configure(c, err) < 0) {
        dbc_free(c);
        return -1;
    }
    if (!writer) {
        /* One connection checkpoints: two doing so can corrupt the file in the SQLite versions of today's
         * distributions. */
        (void)sqlite3_db_config(c->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        (void)sqlite3_wal_autocheckpoint(c->h, 0);
        if (exec(c, "PRAGMA query_only=ON", err) < 0) {
            dbc_free(c);
            return -1;
        }
    }
    *ret = c;
    return 0;
}

int db_open(const char *path, struct db **ret, struct err *err)
{
    /* Made here, so that its mode is right from the first byte on. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "open %s", path);
    (void)close(fd);
    struct db *db = xcalloc(1, sizeof(*db));
    db->path = xstrdup(path);
    pthread_mutex_init(&db->write_mutex, NULL);
    pthread_mutex_init(&db->pool_mutex, NULL);
    pthread_cond_init(&db->pool_free, NULL);
    if (connect_to(db, true, &db->writer, err) < 0 || migrate(db->writer->h, err) < 0) {
        db_close(db);
        return -1;
    }
    *ret = db;
    return 0;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    while (db->idle) {
        struct dbc *c = db->idle;
        db->idle = c->next;
        dbc_free(c);
    }
    dbc_free(db->writer);
    pthread_cond_destroy(&db->pool_free);
    pthread_mutex_destroy(&db->pool_mutex);
    pthread_mutex_destroy(&db->write_mutex);
    free(db->path);
    free(db);
}

static int borrow(struct db *db, struct dbc **ret, struct err *err)
{
    pthread_mutex_lock(&db->pool_mutex);
    while (!db->idle && db->n_readers >= READERS_MAX)
        pthread_cond_wait(&db->pool_free, &db->pool_mutex);
    struct dbc *c = db->idle;
    if (c)
        db->idle = c->next;
    else
        db->n_readers++;
    pthread_mutex_unlock(&db->pool_mutex);
    if (!c && connect_to(db, false, &c, err) < 0) {
        pthread_mutex_lock(&db->pool_mutex);
        db->n_readers--;
        pthread_mutex_unlock(&db->pool_mutex);
        return -1;
    }
    *ret = c;
    return 0;
}

static int run_cached(struct dbc *c, const char *sql, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return -1;
    return stmt_step(c, st, err) < 0 ? -1 : 0;
}

static const char SQL_BEGIN[] = "BEGIN";
static const char SQL_BEGIN_IMMEDIATE[] = "BEGIN IMMEDIATE";
static const char SQL_COMMIT[] = "COMMIT";
static const char SQL_ROLLBACK[] = "ROLLBACK";

int db_read(struct db *db, struct dbc **ret, struct err *err)
{
    struct dbc *c;
    if (borrow(db, &c, err) < 0)
        return -1;
    *ret = c;
    if (run_cached(c, SQL_BEGIN, err) < 0) {
        db_end(ret);
        return -1;
    }
    c->open_tx = true;
    return 0;
}

int db_write(struct db *db, struct dbc **ret, struct err *err)
{
    assert(!in_write);
    pthread_mutex_lock(&db->write_mutex);
    struct dbc *c = db->writer;
    in_write = true;
    *ret = c;
    if (run_cached(c, SQL_BEGIN_IMMEDIATE, err) < 0) {
        db_end(ret);
        return -1;
    }
    c->open_tx = true;
    return 0;
}

int db_commit(struct dbc *c, struct err *err)
{
    assert(c->writer && c->open_tx);
    if (run_cached(c, SQL_COMMIT, err) < 0)
        return -1;
    c->open_tx = false;
    return 0;
}

void db_end(struct dbc **pc)
{
    struct dbc *c = *pc;
    struct err ignored = ERR_INIT;
    if (!c)
        return;
    *pc = NULL;
    /* A failed COMMIT may or may not have ended the transaction: SQLite knows. */
    if (c->open_tx && !sqlite3_get_autocommit(c->h))
        (void)!run_cached(c, SQL_ROLLBACK, &ignored);
    c->open_tx = false;
    struct db *db = c->db;
    if (c->writer) {
        in_write = false;
        pthread_mutex_unlock(&db->write_mutex);
        return;
    }
    pthread_mutex_lock(&db->pool_mutex);
    c->next = db->idle;
    db->idle = c;
    pthread_cond_signal(&db->pool_free);
    pthread_mutex_unlock(&db->pool_mutex);
}

int db_limit_pages(struct db *db, int64_t pages)
{
    char *sql = sqlite3_mprintf("PRAGMA max_page_count=%lld", (long long)pages);
    int rc = sqlite3_exec(db->writer->h, sql, NULL, NULL, NULL);
    sqlite3_free(sql);
    return rc == SQLITE_OK ? 0 : -1;
}

/* ---- instance ---- */

static const char SQL_INSTANCE_GET[] = "SELECT value FROM instance WHERE key = :key";

int instance_get(struct dbc *c, struct arena *a, const char *key, const char **ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_INSTANCE_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":key", key);
    int rc = stmt_step(c, st, err);
    if (rc < 0)
        return -1;
    *ret = rc ? arena_strdup(a, (const char *)sqlite3_column_text(st, 0)) : NULL;
    return 0;
}

static const char SQL_INSTANCE_SET[] = "INSERT INTO instance (key, value) VALUES (:key, :value) ON CONFLICT "
                                       "(key) DO UPDATE SET value = excluded.value";

int instance_set(struct dbc *c, const char *key, const char *value, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_INSTANCE_SET, &st, err) < 0)
        return -1;
    bind_text(st, ":key", key);
    bind_text(st, ":value", value);
    return stmt_run(c, st, NULL, err);
}
