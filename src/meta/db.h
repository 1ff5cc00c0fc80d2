/*
 * db.h - the metadata file: one writer, a pool of readers, transactions as guards
 *
 * Owns SQLite (WAL, synchronous=FULL, foreign keys on, STRICT tables).  Any thread may borrow a connection:
 *     auto_dbc *c = NULL;                      a guard: gives it back, rolls back what was not committed
 *     if (db_read(db, &c, err) < 0) ...        a read transaction on a pooled read-only connection
 *     if (db_write(db, &c, err) < 0) ...       BEGIN IMMEDIATE on the one writer (a mutex)
 *     ... db_commit(c, err)                    durable when it returns 0
 * Functions of the nouns take the borrowed connection, so that several make one transaction.
 * Nothing slow happens while a write transaction is open: db_in_write() lets others assert that.
 * ENOSPC is ERR_DISK_FULL; a unique violation is ERR_CONFLICT (callers give it a better text); nothing is
 * retried.  An _update or _set_ of a row that is not there is ERR_NOT_FOUND; a _delete of one is no error, so
 * that a step can be run twice.  An arena over its cap is ERR_UNAVAILABLE.
 */
#ifndef MERE_META_DB_H
#define MERE_META_DB_H

#include "base/arena.h"
#include "base/err.h"

struct db;
struct dbc;

/* Opens or makes the file and applies the migrations; refuses a schema newer than ours. Checks the pragmas
 * took. */
int db_open(const char *path, struct db **ret, struct err *err) MUST_CHECK;
void db_close(struct db *db); /* accepts NULL; all connections must have been given back */

int db_read(struct db *db, struct dbc **ret, struct err *err) MUST_CHECK;
int db_write(struct db *db, struct dbc **ret, struct err *err) MUST_CHECK;
int db_commit(struct dbc *c, struct err *err) MUST_CHECK;
void db_end(struct dbc **c); /* for the guard; accepts NULL inside */
bool db_in_write(void);      /* this thread holds the writer */

#define auto_dbc CLEANUP(db_end) struct dbc

/* fn runs behind each commit that has put a row into this table (a constant, not WITHOUT ROWID), on the
 * thread that committed, which still holds the writer.  One only, and before others use the db; NULL = none.
 */
void db_on_insert(struct db *db, const char *table, void (*fn)(void *arg), void *arg);

/*
 * What is to be part of the next write transaction of this thread, whoever begins it: runs once, right behind
 * its beginning (-1: there is none, and its beginner gets the error), or just before it is committed (-1: it
 * is not).  NULL takes it back.
 */
typedef int (*db_hook)(struct dbc *c, void *arg, struct err *err);
void db_when_begun(db_hook fn, void *arg);
void db_when_ending(db_hook fn, void *arg);

/* Tests only: SQLite's own full disk, for the writer; 0, or -1. */
int db_limit_pages(struct db *db, int64_t pages);

/* The instance table. *ret NULL when absent. */
int instance_get(struct dbc *c, struct arena *a, const char *key, const char **ret,
                 struct err *err) MUST_CHECK;
int instance_set(struct dbc *c, const char *key, const char *value, struct err *err) MUST_CHECK;

/* A page of a list: newest or first `limit` rows after the cursor. */
struct page {
    int64_t limit;                   /* 0 = all */
    const char *cursor;              /* opaque, from an earlier answer; NULL = from the start */
    const char *search;              /* substring of the name (or exact id), NULL = all */
    const char *name;                /* exact name, NULL = all */
    const char *label, *label_value; /* has this label with this value; NULL = all */
    const char *sort_by;             /* NULL = the noun's default */
    bool ascending;
    bool deleted;     /* also what was deleted and can be recovered */
    const char *next; /* out: cursor after the last row given, NULL when no row was given */
};

#endif
