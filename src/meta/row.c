#include "meta/row.h"

#include "base/text.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int param(sqlite3_stmt *st, const char *name)
{
    int at = sqlite3_bind_parameter_index(st, name);
    assert(at > 0);
    return at;
}

void bind_text(sqlite3_stmt *st, const char *name, const char *value)
{
    (void)sqlite3_bind_text(st, param(st, name), value, -1, SQLITE_TRANSIENT);
}

void bind_i64(sqlite3_stmt *st, const char *name, int64_t value)
{
    (void)sqlite3_bind_int64(st, param(st, name), value);
}

void bind_opt(sqlite3_stmt *st, const char *name, int64_t value)
{
    if (value == 0)
        (void)sqlite3_bind_null(st, param(st, name));
    else
        bind_i64(st, name, value);
}

void bind_double(sqlite3_stmt *st, const char *name, double value)
{
    (void)sqlite3_bind_double(st, param(st, name), value);
}

void bind_blob(sqlite3_stmt *st, const char *name, const void *data, size_t len)
{
    if (data)
        (void)sqlite3_bind_blob64(st, param(st, name), data, len, SQLITE_TRANSIENT);
    else
        (void)sqlite3_bind_null(st, param(st, name));
}

static void bind_member(sqlite3_stmt *st, int at, const struct field *f, const void *member)
{
    switch (f->type) {
    case F_STR:
    case F_JSON:
        (void)sqlite3_bind_text(st, at, *(const char *const *)member, -1, SQLITE_TRANSIENT);
        break;
    case F_I64:
        (void)sqlite3_bind_int64(st, at, *(const int64_t *)member);
        break;
    case F_BOOL:
        (void)sqlite3_bind_int64(st, at, *(const bool *)member);
        break;
    case F_DOUBLE:
        (void)sqlite3_bind_double(st, at, *(const double *)member);
        break;
    case F_LSN: /* 0 = none */
    case F_TIME:
        if (*(const int64_t *)member == 0)
            (void)sqlite3_bind_null(st, at);
        else
            (void)sqlite3_bind_int64(st, at, *(const int64_t *)member);
        break;
    }
}

void bind_struct(sqlite3_stmt *st, const struct field *table, size_t n, const void *strct)
{
    for (size_t i = 0; i < n; i++) {
        char name[80];
        snprintf(name, sizeof(name), ":%s", table[i].name);
        int at = sqlite3_bind_parameter_index(st, name);
        if (at > 0)
            bind_member(st, at, &table[i], (const char *)strct + table[i].offset);
    }
}

static void read_column(sqlite3_stmt *st, int at, const struct field *f, struct arena *a, void *member)
{
    switch (f->type) {
    case F_STR:
    case F_JSON:
        *(const char **)member = arena_strdup(a, (const char *)sqlite3_column_text(st, at));
        break;
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
}

void row_read(sqlite3_stmt *st, const struct field *table, size_t n, struct arena *a, void *strct)
{
    assert((size_t)sqlite3_column_count(st) >= n);
    for (size_t i = 0; i < n; i++) {
        assert(strcmp(sqlite3_column_name(st, (int)i), table[i].name) == 0);
        read_column(st, (int)i, &table[i], a, (char *)strct + table[i].offset);
    }
}

int row_find(struct dbc *c, sqlite3_stmt *st, const struct field *table, size_t n, struct arena *a,
             void *strct, struct err *err)
{
    int rc = stmt_step(c, st, err);
    if (rc == 1)
        row_read(st, table, n, a, strct);
    return rc;
}

int row_list(struct dbc *c, sqlite3_stmt *st, const struct field *table, size_t n, size_t size,
             struct arena *a, void **ret, size_t *ret_n, struct err *err)
{
    size_t count = 0, cap = 0;
    char *list = NULL;
    int rc;
    while ((rc = stmt_step(c, st, err)) == 1) {
        if (count == cap) {
            size_t more = cap ? cap * 2 : 16;
            char *bigger = arena_alloc(a, more * size);
            if (!bigger)
                return err_set(err, ERR_UNAVAILABLE,
                               "the answer would be too large; ask for fewer at once with limit");
            if (count > 0)
                memcpy(bigger, list, count * size);
            list = bigger;
            cap = more;
        }
        row_read(st, table, n, a, list + count * size);
        count++;
    }
    if (rc < 0)
        return -1;
    *ret = list ? list : arena_alloc(a, size);
    *ret_n = count;
    return 0;
}

const char *cursor_make(struct arena *a, const char *key, const char *id)
{
    auto_free char *k = text_url_encode(key), *i = text_url_encode(id);
    return arena_printf(a, "%s!%s", k, i);
}

int cursor_parse(struct arena *a, const char *cursor, const char **ret_key, const char **ret_id,
                 struct err *err)
{
    const char *bang = strchr(cursor, '!');
    auto_free char *k = bang ? text_url_decode(cursor, (size_t)(bang - cursor)) : NULL;
    auto_free char *i = bang ? text_url_decode(bang + 1, strlen(bang + 1)) : NULL;
    if (!k || !i)
        return err_set(err, ERR_BAD_REQUEST, "the cursor is not one that this server gave out");
    *ret_key = arena_strdup(a, k);
    *ret_id = arena_strdup(a, i);
    return 0;
}
