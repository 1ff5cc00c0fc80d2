/*
 * db.c - connections to the metadata file, their prepared statements, transactions
 *
 * Any thread borrows; a connection belongs to its borrower until db_end().  Exactly one connection writes and
 * checkpoints: in the SQLite versions that distributions ship today, two of them can lose the WAL's content.
 * Readers therefore never checkpoint, not even when they are closed.  The file is never opened by another
 * route in this process: closing it would drop SQLite's locks.
 */
#include "meta/db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "meta/migrate.h"
#include "meta/row.h"
#include "meta/shm.h"

#define READERS_MAX 16
#define CACHE_SLOTS                                                                                          \
    256 /* statements a connection can keep prepared: twice their number, as a hash table wants it */
#define BUSY_TIMEOUT_MS 5000

struct cached {
    const char *sql; /* by address: statements are constants */
    sqlite3_stmt *st;
};

struct dbc {
    struct db *db;
    sqlite3 *h;
    bool writer;
    struct cached cache[CACHE_SLOTS];
    size_t n_cached;
    struct dbc *next;
};

struct db {
    char *path;
    pthread_mutex_t write_mutex;
    struct dbc *writer;
    const char *watched; /* a table */
    void (*on_insert)(void *arg);
    void *on_insert_arg;
    bool inserted; /* into it, in the present transaction */
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

/* Which of our codes a failure is, and what a stranger may read; SQLite's own text goes to the log. */
static int fail(struct dbc *c, struct err *err)
{
    int code = sqlite3_extended_errcode(c->h), io = sqlite3_system_errno(c->h);
    bool is_io = (code & 0xff) == SQLITE_IOERR;

    if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
        err_set(err, ERR_CONFLICT, "it already exists; nothing was changed");
    else if ((code & 0xff) == SQLITE_FULL || (is_io && (io == ENOSPC || io == EDQUOT)))
        err_set(err, ERR_DISK_FULL,
                "the disk that holds Mere's metadata is full; nothing was changed; free some space and try "
                "again");
    else if ((code & 0xff) == SQLITE_NOMEM)
        err_memory(err);
    else if ((code & 0xff) == SQLITE_BUSY)
        err_set(err, ERR_UNAVAILABLE,
                "another program holds Mere's metadata; nothing was changed; try again");
    else
        err_set(err, ERR_INTERNAL,
                "Mere's metadata could not be read or written; nothing was changed; the log says why");
    return err_detail(err, "sqlite %d: %s", code, sqlite3_errmsg(c->h));
}

int stmt_get(struct dbc *c, const char *sql, sqlite3_stmt **ret, struct err *err)
{
    size_t at = ((uintptr_t)sql >> 4) % CACHE_SLOTS;

    while (c->cache[at].sql != NULL && c->cache[at].sql != sql)
        at = (at + 1) % CACHE_SLOTS;
    if (c->cache[at].sql == NULL) {
        assert(c->n_cached < CACHE_SLOTS - 1);
        if (sqlite3_prepare_v3(c->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &c->cache[at].st, NULL) != SQLITE_OK)
            return fail(c, err);
        c->cache[at].sql = sql;
        c->n_cached++;
    }
    assert(!sqlite3_stmt_busy(c->cache[at].st));
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

static int step(struct dbc *c, sqlite3_stmt *st, struct err *err)
{
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : fail(c, err);
}

int stmt_step(struct dbc *c, sqlite3_stmt *st, struct err *err)
{
    /* SQLite ends a transaction by itself when the disk is full: what came after would be committed one by
     * one. */
    if (!sqlite3_stmt_readonly(st) && (!c->writer || sqlite3_get_autocommit(c->h))) {
        err_set(err, ERR_INTERNAL, "the change was not made; the log says why");
        return err_detail(err, "write outside a write transaction: %s", sqlite3_sql(st));
    }
    return step(c, st, err);
}

int stmt_run(struct dbc *c, sqlite3_stmt *st, int64_t *ret_changes, struct err *err)
{
    int rc = stmt_step(c, st, err);

    assert(rc != 1);
    if (rc < 0)
        return -1;
    if (ret_changes != NULL)
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

/* synchronous=FULL: with NORMAL acknowledged commits were lost in power cuts. */
static const struct pragma PRAGMAS[] = {
    { "PRAGMA journal_mode=WAL", "PRAGMA journal_mode", "wal" },
    { "PRAGMA synchronous=FULL", "PRAGMA synchronous", "2" },
    { "PRAGMA foreign_keys=ON", "PRAGMA foreign_keys", "1" },
    { "PRAGMA trusted_schema=OFF", "PRAGMA trusted_schema", "0" },
    { "PRAGMA cache_size=-512", "PRAGMA cache_size", "-512" },
    { "PRAGMA mmap_size=0", "PRAGMA mmap_size", "0" },
};

static int check_pragma(struct dbc *c, const struct pragma *p, struct err *err)
{
    sqlite3_stmt *st = NULL;
    const char *got = NULL;
    bool ok;

    if (exec(c, p->set, err) < 0)
        return -1;
    if (sqlite3_prepare_v2(c->h, p->get, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        got = (const char *)sqlite3_column_text(st, 0);
    ok = got != NULL && strcmp(got, p->want) == 0;
    if (!ok) {
        err_set(err, ERR_INTERNAL, "SQLite did not accept \"%s\", and Mere does not run without it", p->set);
        (void)err_detail(err, "%s is %s", p->get, got != NULL ? got : sqlite3_errmsg(c->h));
    }
    sqlite3_finalize(st);
    return ok ? 0 : -1;
}

static int configure(struct dbc *c, struct err *err)
{
    (void)sqlite3_busy_timeout(c->h, BUSY_TIMEOUT_MS);
    for (size_t i = 0; i < N_ELEMENTS(PRAGMAS); i++)
        if (check_pragma(c, &PRAGMAS[i], err) < 0)
            return -1;
    if (c->writer)
        return 0;
    if (sqlite3_db_config(c->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) != SQLITE_OK ||
        sqlite3_wal_autocheckpoint(c->h, 0) != SQLITE_OK)
        return fail(c, err);
    return exec(c, "PRAGMA query_only=ON", err);
}

static int connect_to(struct db *db, bool writer, struct dbc **ret, struct err *err)
{
    struct dbc *c = xcalloc(1, sizeof(*c));
    int rc = sqlite3_open_v2(db->path, &c->h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

    c->db = db;
    c->writer = writer;
    if (c->h == NULL)
        abort(); /* out of memory */
    if ((rc != SQLITE_OK && fail(c, err) < 0) || configure(c, err) < 0) {
        (void)err_wrap(err, "%s", db->path);
        dbc_free(c);
        return -1;
    }
    *ret = c;
    return 0;
}

/* Ours to make, so that nobody else can read it from the first byte on; SQLite gives its other files the same
 * mode. */
static int make_file(const char *path, struct err *err)
{
    auto_fd fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno == EEXIST && chmod(path, 0600) == 0))
        return 0;
    return err_sys(err, "open %s", path);
}

int db_open(const char *path, struct db **ret, struct err *err)
{
    struct db *db;

    if (make_file(path, err) < 0)
        return -1;
    shm_write_in_place(path);
    db = xcalloc(1, sizeof(*db));
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
    if (db == NULL)
        return;
    while (db->idle != NULL) {
        struct dbc *c = db->idle;

        db->idle = c->next;
        db->n_readers--;
        dbc_free(c);
    }
    assert(db->n_readers == 0); /* somebody still reads */
    dbc_free(db->writer);       /* the last one: it checkpoints */
    pthread_cond_destroy(&db->pool_free);
    pthread_mutex_destroy(&db->pool_mutex);
    pthread_mutex_destroy(&db->write_mutex);
    free(db->path);
    free(db);
}

static int borrow(struct db *db, struct dbc **ret, struct err *err)
{
    struct dbc *c;

    pthread_mutex_lock(&db->pool_mutex);
    while (db->idle == NULL && db->n_readers >= READERS_MAX)
        pthread_cond_wait(&db->pool_free, &db->pool_mutex);
    c = db->idle;
    if (c != NULL)
        db->idle = c->next;
    else
        db->n_readers++;
    pthread_mutex_unlock(&db->pool_mutex);
    if (c == NULL && connect_to(db, false, &c, err) < 0) {
        pthread_mutex_lock(&db->pool_mutex);
        db->n_readers--; /* room for whoever waits */
        pthread_cond_signal(&db->pool_free);
        pthread_mutex_unlock(&db->pool_mutex);
        return -1;
    }
    *ret = c;
    return 0;
}

static void give_back(struct db *db, struct dbc *c)
{
    pthread_mutex_lock(&db->pool_mutex);
    c->next = db->idle;
    db->idle = c;
    pthread_cond_signal(&db->pool_free);
    pthread_mutex_unlock(&db->pool_mutex);
}

static const char SQL_BEGIN[] = "BEGIN";
static const char SQL_BEGIN_IMMEDIATE[] = "BEGIN IMMEDIATE";
static const char SQL_COMMIT[] = "COMMIT";
static const char SQL_ROLLBACK[] = "ROLLBACK";

static int transact(struct dbc *c, const char *sql, struct err *err)
{
    auto_stmt *st = NULL;

    return stmt_get(c, sql, &st, err) < 0 || step(c, st, err) < 0 ? -1 : 0;
}

void db_end(struct dbc **pc)
{
    struct dbc *c = TAKE(*pc);
    struct err ignored = ERR_INIT;

    if (c == NULL)
        return;
    if (!sqlite3_get_autocommit(c->h))
        (void)!transact(c, SQL_ROLLBACK, &ignored);
    if (!c->writer) {
        give_back(c->db, c);
        return;
    }
    in_write = false;
    pthread_mutex_unlock(&c->db->write_mutex);
}

static _Thread_local struct hook {
    db_hook fn;
    void *arg;
} when_begun, when_ending;

void db_when_begun(db_hook fn, void *arg)
{
    when_begun = (struct hook){ .fn = fn, .arg = arg };
}

void db_when_ending(db_hook fn, void *arg)
{
    when_ending = (struct hook){ .fn = fn, .arg = arg };
}

static int run_once(struct hook *h, struct dbc *c, struct err *err)
{
    db_hook fn = TAKE(h->fn);

    return fn != NULL ? fn(c, h->arg, err) : 0;
}

int db_read(struct db *db, struct dbc **ret, struct err *err)
{
    *ret = NULL;
    if (borrow(db, ret, err) < 0)
        return -1;
    if (transact(*ret, SQL_BEGIN, err) == 0)
        return 0;
    db_end(ret);
    return -1;
}

int db_write(struct db *db, struct dbc **ret, struct err *err)
{
    assert(!in_write); /* it would wait for itself */
    pthread_mutex_lock(&db->write_mutex);
    in_write = true;
    db->inserted = false;
    *ret = db->writer;
    if (transact(*ret, SQL_BEGIN_IMMEDIATE, err) == 0 && run_once(&when_begun, *ret, err) == 0)
        return 0;
    db_end(ret);
    return -1;
}

int db_commit(struct dbc *c, struct err *err)
{
    assert(c->writer);
    if (run_once(&when_ending, c, err) < 0 || transact(c, SQL_COMMIT, err) < 0)
        return -1;
    if (c->db->inserted)
        c->db->on_insert(c->db->on_insert_arg);
    return 0;
}

static void on_row(void *arg, int what, const char *schema UNUSED, const char *table,
                   sqlite3_int64 rowid UNUSED)
{
    struct db *db = arg;
    if (what == SQLITE_INSERT && strcmp(table, db->watched) == 0)
        db->inserted = true;
}

void db_on_insert(struct db *db, const char *table, void (*fn)(void *arg), void *arg)
{
    db->watched = table;
    db->on_insert = fn;
    db->on_insert_arg = arg;
    (void)sqlite3_update_hook(db->writer->h, fn ? on_row : NULL, db);
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
    int rc;

    *ret = NULL;
    if (stmt_get(c, SQL_INSTANCE_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":key", key);
    rc = stmt_step(c, st, err);
    if (rc != 1)
        return rc;
    *ret = arena_strdup(a, (const char *)sqlite3_column_text(st, 0));
    return *ret != NULL ? 0 : err_memory(err);
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
