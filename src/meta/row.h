/*
 * row.h - statements and rows inside meta/: the only place that binds and reads columns
 *
 * A noun has a table of struct field (base/fields.h): column name, type, member.  row_read() walks it and
 * checks each column's name, so that a statement that drifts from its table fails the first test.
 */
#ifndef MERE_META_ROW_H
#define MERE_META_ROW_H

#include "base/fields.h"
#include "meta/db.h"

#include <sqlite3.h>

/* The cached prepared statement of this connection, reset and with no bindings.  sql must be a constant. */
int stmt_get(struct dbc *c, const char *sql, sqlite3_stmt **ret, struct err *err) MUST_CHECK;
void stmt_reset(sqlite3_stmt **st);
#define auto_stmt CLEANUP(stmt_reset) sqlite3_stmt

/* Binds by name (":id").  NULL text binds NULL.  A name the statement does not have is a programming error.
 */
void bind_text(sqlite3_stmt *st, const char *name, const char *value);
void bind_i64(sqlite3_stmt *st, const char *name, int64_t value);
void bind_opt(sqlite3_stmt *st, const char *name, int64_t value); /* 0 binds NULL */
void bind_double(sqlite3_stmt *st, const char *name, double value);
void bind_blob(sqlite3_stmt *st, const char *name, const void *data, size_t len); /* data NULL binds NULL */
/* Binds each member of the struct that the statement has a parameter for (":" column). */
void bind_struct(sqlite3_stmt *st, const struct field *table, size_t n, const void *strct);

/* 1 = a row, 0 = no more, -1 = error. */
int stmt_step(struct dbc *c, sqlite3_stmt *st, struct err *err) MUST_CHECK;
/* For statements that give no row: runs it; *ret_changes (may be NULL) = rows changed. */
int stmt_run(struct dbc *c, sqlite3_stmt *st, int64_t *ret_changes, struct err *err) MUST_CHECK;
/* The present row into the struct; strings into the arena. Blob columns are left to the caller. */
void row_read(sqlite3_stmt *st, const struct field *table, size_t n, struct arena *a, void *strct);

/* Runs a SELECT that gives at most one row of the noun: 1, 0 or -1. */
int row_find(struct dbc *c, sqlite3_stmt *st, const struct field *table, size_t n, struct arena *a,
             void *strct, struct err *err) MUST_CHECK;
/* All rows into an array in the arena. */
int row_list(struct dbc *c, sqlite3_stmt *st, const struct field *table, size_t n, size_t size,
             struct arena *a, void **ret, size_t *ret_n, struct err *err) MUST_CHECK;

/* A cursor is the row's position "sort key|id", percent-encoded.  ERR_BAD_REQUEST when malformed. */
const char *cursor_make(struct arena *a, const char *key, const char *id);
int cursor_parse(struct arena *a, const char *cursor, const char **ret_key, const char **ret_id,
                 struct err *err) MUST_CHECK;

#endif
