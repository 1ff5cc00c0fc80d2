/*
 * row.h - statements and rows inside meta/: the only place that binds parameters and reads columns
 *
 * A noun has a table of struct field (base/fields.h): column name, type, member.  Reading a row walks it and
 * checks each column's name, so that a statement that drifts from its table fails the first test.  Used by
 * the thread that borrowed the connection.
 */
#ifndef MERE_META_ROW_H
#define MERE_META_ROW_H

#include "base/fields.h"
#include "meta/db.h"

#include <sqlite3.h>

struct noun {
    const char *name; /* for messages: "branch" */
    const struct field *fields;
    size_t n_fields;
    size_t size;
    /* Last columns that no field describes (a blob, an array): the name of the first, how many there are
     * beside it, and the reader of all; NULL when there is none. */
    const char *rest;
    int n_more_rest;
    int (*read_rest)(sqlite3_stmt *st, int at, struct arena *a, void *strct, struct err *err);
};

/* The prepared statement of this connection, made once; sql must be a constant.  The guard resets it and
 * forgets its values. */
int stmt_get(struct dbc *c, const char *sql, sqlite3_stmt **ret, struct err *err) MUST_CHECK;
void stmt_reset(sqlite3_stmt **st);
#define auto_stmt CLEANUP(stmt_reset) sqlite3_stmt

/* By name (":id").  NULL binds NULL.  A name the statement does not have is a programming error. */
void bind_text(sqlite3_stmt *st, const char *name, const char *value);
void bind_i64(sqlite3_stmt *st, const char *name, int64_t value);
void bind_opt(sqlite3_stmt *st, const char *name, int64_t value); /* 0 binds NULL */
void bind_blob(sqlite3_stmt *st, const char *name, const void *data, size_t len);
/* Each member that the statement has a parameter for (":" and the column's name). */
void bind_struct(sqlite3_stmt *st, const struct noun *noun, const void *strct);

/* 1 = a row, 0 = no more, -1 = error.  Refuses to write outside a write transaction. */
int stmt_step(struct dbc *c, sqlite3_stmt *st, struct err *err) MUST_CHECK;
/* For statements that give no row; *ret_changes (may be NULL) = rows changed. */
int stmt_run(struct dbc *c, sqlite3_stmt *st, int64_t *ret_changes, struct err *err) MUST_CHECK;
/* The same, when a row must have been there: ERR_NOT_FOUND "<noun> not found". */
int stmt_change(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct err *err) MUST_CHECK;
/* For statements that give exactly one number. */
int stmt_number(struct dbc *c, sqlite3_stmt *st, int64_t *ret, struct err *err) MUST_CHECK;

/* At most one row: 1, 0 or -1. */
int row_find(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct arena *a, void *ret,
             struct err *err) MUST_CHECK;
/* The same, when it must be there: ERR_NOT_FOUND "<noun> not found". */
int row_get(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct arena *a, void *ret,
            struct err *err) MUST_CHECK;
/* All rows as an array in the arena (never NULL when none); NULL = error. */
void *row_list(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct arena *a, size_t *ret_n,
               struct err *err) MUST_CHECK;

/* The branches that users see; the one definition beside branch_is_seen(). */
#define BRANCH_SEEN "kind = 'user' AND state NOT IN ('deleted', 'deleting')"

/*
 * A cursor names the place after a row by what the list is sorted by: "order!key!id", each percent-encoded.
 * It needs no row to be there still, so it is stable while rows come and go.  One of another order, or of
 * nobody, is ERR_BAD_REQUEST.
 */
int cursor_make(struct arena *a, const char *order, const char *key, const char *id, const char **ret,
                struct err *err) MUST_CHECK;
int cursor_parse(struct arena *a, const char *cursor, const char *order, const char **ret_key,
                 const char **ret_id, struct err *err) MUST_CHECK;
int cursor_make_i64(struct arena *a, const char *order, int64_t key, const char *id, const char **ret,
                    struct err *err) MUST_CHECK;
int cursor_parse_i64(struct arena *a, const char *cursor, const char *order, int64_t *ret_key,
                     const char **ret_id, struct err *err) MUST_CHECK;
int cursor_bad(struct err *err); /* ERR_BAD_REQUEST; returns -1 */

#endif
