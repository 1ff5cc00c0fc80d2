/*
 * row.c - binding parameters, reading columns, cursors
 *
 * Runs on the thread that borrowed the connection.  Knows columns, not nouns: those bring their field tables.
 */
#include "meta/row.h"

#include <assert.h>
#include <inttypes.h>

#include "base/text.h"

#define LIST_FIRST 16

/* Binding fails only when memory is out (or the statement is running: our mistake); a value left out would be
 * stored as NULL. */
static void must(int rc)
{
    if (rc != SQLITE_OK)
        abort();
}

static int param(sqlite3_stmt *st, const char *name)
{
    int at = sqlite3_bind_parameter_index(st, name);

    assert(at > 0);
    return at;
}

void bind_text(sqlite3_stmt *st, const char *name, const char *value)
{
    must(sqlite3_bind_text(st, param(st, name), value, -1, SQLITE_TRANSIENT));
}

void bind_i64(sqlite3_stmt *st, const char *name, int64_t value)
{
    must(sqlite3_bind_int64(st, param(st, name), value));
}

void bind_opt(sqlite3_stmt *st, const char *name, int64_t value)
{
    if (value == 0)
        must(sqlite3_bind_null(st, param(st, name)));
    else
        bind_i64(st, name, value);
}

void bind_blob(sqlite3_stmt *st, const char *name, const void *data, size_t len)
{
    must(sqlite3_bind_blob64(st, param(st, name), data, len, SQLITE_TRANSIENT));
}

static void bind_member(sqlite3_stmt *st, int at, const struct field *f, const void *member)
{
    switch (f->type) {
    case F_STR:
    case F_JSON:
        must(sqlite3_bind_text(st, at, *(const char *const *)member, -1, SQLITE_TRANSIENT));
        break;
    case F_I64:
        must(sqlite3_bind_int64(st, at, *(const int64_t *)member));
        break;
    case F_BOOL:
        must(sqlite3_bind_int64(st, at, *(const bool *)member));
        break;
    case F_DOUBLE:
        must(sqlite3_bind_double(st, at, *(const double *)member));
        break;
    case F_LSN: /* 0 = none, as in F_TIME */
    case F_TIME:
        must(*(const int64_t *)member == 0 ? sqlite3_bind_null(st, at)
                                           : sqlite3_bind_int64(st, at, *(const int64_t *)member));
        break;
    }
}

void bind_struct(sqlite3_stmt *st, const struct noun *noun, const void *strct)
{
    for (size_t i = 0; i < noun->n_fields; i++) {
        const struct field *f = &noun->fields[i];
        char name[80];
        int at;

        snprintf(name, sizeof(name), ":%s", f->name);
        at = sqlite3_bind_parameter_index(st, name);
        if (at > 0)
            bind_member(st, at, f, (const char *)strct + f->offset);
    }
}

static int read_text(sqlite3_stmt *st, int at, struct arena *a, const char **ret, struct err *err)
{
    *ret = NULL;
    if (sqlite3_column_type(st, at) == SQLITE_NULL)
        return 0;
    *ret = arena_strdup(a, (const char *)sqlite3_column_text(st, at));
    return *ret != NULL ? 0 : err_memory(err);
}

static int read_column(sqlite3_stmt *st, int at, const struct field *f, struct arena *a, void *member,
                       struct err *err)
{
    switch (f->type) {
    case F_STR:
    case F_JSON:
        return read_text(st, at, a, member, err);
    case F_I64:
    case F_LSN:
    case F_TIME:
        *(int64_t *)member = sqlite3_column_int64(st, at);
        break;
    case F_BOOL:
        *(bool *)member = sqlite3_column_int64(st, at) != 0;
        break;
    case F_DOUBLE:
        *(double *)member = sqlite3_column_double(st, at);
        break;
    }
    return 0;
}

static int row_read(sqlite3_stmt *st, const struct noun *noun, struct arena *a, void *strct, struct err *err)
{
    int n = (int)noun->n_fields;

    assert(sqlite3_column_count(st) == n + (noun->rest != NULL) + noun->n_more_rest);
    for (int i = 0; i < n; i++) {
        const struct field *f = &noun->fields[i];

        assert(strcmp(sqlite3_column_name(st, i), f->name) == 0);
        if (read_column(st, i, f, a, (char *)strct + f->offset, err) < 0)
            return -1;
    }
    if (noun->rest == NULL)
        return 0;
    assert(strcmp(sqlite3_column_name(st, n), noun->rest) == 0);
    return noun->read_rest(st, n, a, strct, err);
}

int row_find(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct arena *a, void *ret,
             struct err *err)
{
    int rc = stmt_step(c, st, err);

    if (rc != 1)
        return rc;
    memset(ret, 0, noun->size);
    return row_read(st, noun, a, ret, err) < 0 ? -1 : 1;
}

int row_get(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct arena *a, void *ret,
            struct err *err)
{
    int rc = row_find(c, st, noun, a, ret, err);

    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "%s not found", noun->name);
    return rc < 0 ? -1 : 0;
}

int stmt_change(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct err *err)
{
    int64_t changes;

    if (stmt_run(c, st, &changes, err) < 0)
        return -1;
    return changes > 0 ? 0 : err_set(err, ERR_NOT_FOUND, "%s not found", noun->name);
}

int stmt_number(struct dbc *c, sqlite3_stmt *st, int64_t *ret, struct err *err)
{
    int rc = stmt_step(c, st, err);

    assert(rc != 0);
    if (rc < 0)
        return -1;
    *ret = sqlite3_column_int64(st, 0);
    return 0;
}

void *row_list(struct dbc *c, sqlite3_stmt *st, const struct noun *noun, struct arena *a, size_t *ret_n,
               struct err *err)
{
    size_t n = 0, cap = LIST_FIRST;
    char *list = arena_alloc(a, cap * noun->size);
    int rc = 0;

    while (list != NULL && (rc = stmt_step(c, st, err)) == 1) {
        if (n == cap) {
            char *bigger = arena_alloc(a, 2 * cap * noun->size);

            if (bigger == NULL)
                break;
            memcpy(bigger, list, cap * noun->size);
            list = bigger;
            cap *= 2;
        }
        if (row_read(st, noun, a, list + n * noun->size, err) < 0)
            return NULL;
        n++;
    }
    if (list == NULL || rc == 1)
        (void)err_memory(err);
    if (list == NULL || rc != 0)
        return NULL;
    *ret_n = n;
    return list;
}

int cursor_bad(struct err *err)
{
    return err_set(
        err, ERR_BAD_REQUEST,
        "this cursor was not given out by this list in this order; leave it out to start from the beginning");
}

int cursor_make(struct arena *a, const char *order, const char *key, const char *id, const char **ret,
                struct err *err)
{
    auto_free char *k = text_url_encode(key), *i = text_url_encode(id);

    *ret = arena_printf(a, "%s!%s!%s", order, k, i);
    return *ret != NULL ? 0 : err_memory(err);
}

/* The encoding leaves no '!' in a part. */
static int decode(struct arena *a, const char *part, size_t len, const char **ret, struct err *err)
{
    auto_free char *text = text_url_decode(part, len);

    if (text == NULL || !text_is_utf8(text, strlen(text)) || memchr(part, '!', len) != NULL)
        return cursor_bad(err);
    *ret = arena_strdup(a, text);
    return *ret != NULL ? 0 : err_memory(err);
}

int cursor_parse(struct arena *a, const char *cursor, const char *order, const char **ret_key,
                 const char **ret_id, struct err *err)
{
    size_t n = strlen(order);
    const char *key = cursor + n + 1, *bang;

    if (strncmp(cursor, order, n) != 0 || cursor[n] != '!' || (bang = strchr(key, '!')) == NULL ||
        bang[1] == '\0')
        return cursor_bad(err);
    if (decode(a, key, (size_t)(bang - key), ret_key, err) < 0)
        return -1;
    return decode(a, bang + 1, strlen(bang + 1), ret_id, err);
}

int cursor_make_i64(struct arena *a, const char *order, int64_t key, const char *id, const char **ret,
                    struct err *err)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, key);
    return cursor_make(a, order, text, id, ret, err);
}

int cursor_parse_i64(struct arena *a, const char *cursor, const char *order, int64_t *ret_key,
                     const char **ret_id, struct err *err)
{
    const char *text;

    if (cursor_parse(a, cursor, order, &text, ret_id, err) < 0)
        return -1;
    return text_to_i64(text, INT64_MIN, INT64_MAX, ret_key) ? 0 : cursor_bad(err);
}
