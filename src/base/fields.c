/*
 * fields.c - struct to JSON and back, by table
 *
 * Any thread; pure but for the arena.  Depth of F_JSON values is limited here, because what we store is
 * parsed again by readers that may recurse.
 */
#include "base/fields.h"

#include "base/text.h"

#define STR_MAX_DEFAULT 256
#define JSON_MAX_DEPTH  32
#define POINTER_MAX     160 /* of struct err */

static const void *member(const struct field *f, const void *strct)
{
    return (const char *)strct + f->offset;
}

static const char *get_str(const void *p)
{
    return *(const char *const *)p;
}

static int64_t get_i64(const void *p)
{
    return *(const int64_t *)p;
}

/* NULL when the member has no value. */
static json_t *value_to_json(const struct field *f, const void *p)
{
    char lsn[LSN_TEXT_SIZE], time[TIME_TEXT_SIZE];

    switch (f->type) {
    case F_STR:
        return get_str(p) != NULL ? json_string(get_str(p)) : NULL;
    case F_JSON:
        return get_str(p) != NULL ? json_loads(get_str(p), JSON_DECODE_ANY, NULL) : NULL;
    case F_I64:
        return (f->flags & F_OPTVAL) && get_i64(p) == INT64_MIN ? NULL : json_integer(get_i64(p));
    case F_BOOL:
        return json_boolean(*(const bool *)p);
    case F_DOUBLE:
        return json_real(*(const double *)p); /* NULL for NaN and infinity, which JSON cannot say */
    case F_LSN:
        return *(const uint64_t *)p != 0 ? json_string(text_lsn(*(const uint64_t *)p, lsn)) : NULL;
    case F_TIME:
        return get_i64(p) != 0 ? json_string(text_time(get_i64(p), time)) : NULL;
    }
    return NULL;
}

json_t *fields_to_json(const struct field *table, size_t n, const void *strct)
{
    json_t *obj = json_object();

    if (obj == NULL)
        abort();
    for (size_t i = 0; i < n; i++) {
        json_t *v;

        if (table[i].flags & (F_SECRET | F_HIDDEN))
            continue;
        v = value_to_json(&table[i], member(&table[i], strct));
        if (v != NULL && json_object_set_new(obj, table[i].name, v) < 0)
            abort();
    }
    return obj;
}

/* prefix + "/" + key, with "~" and "/" escaped as JSON pointers want it; cut when too long. */
static const char *pointer_to(char out[POINTER_MAX], const char *prefix, const char *key)
{
    size_t n = strnlen(prefix, POINTER_MAX - 4);

    memcpy(out, prefix, n);
    out[n++] = '/';
    for (; *key != '\0' && n + 3 < POINTER_MAX; key++) {
        if (*key == '~' || *key == '/') {
            out[n++] = '~';
            out[n++] = *key == '~' ? '0' : '1';
        } else {
            out[n++] = *key;
        }
    }
    out[n] = '\0';
    return out;
}

static int invalid(const struct field *f, const char *prefix, struct err *err, const char *what)
{
    char pointer[POINTER_MAX];

    return err_field(err, ERR_INVALID, pointer_to(pointer, prefix, f->name), "%s %s", f->name, what);
}

static int64_t str_max(const struct field *f)
{
    return f->max != 0 ? f->max : STR_MAX_DEFAULT;
}

static bool depth_within(json_t *v, int left)
{
    const char *key;
    json_t *child;
    size_t i;

    if (!json_is_object(v) && !json_is_array(v))
        return true;
    if (left == 0)
        return false;
    json_object_foreach(v, key, child)
    {
        if (!depth_within(child, left - 1))
            return false;
    }
    json_array_foreach(v, i, child)
    {
        if (!depth_within(child, left - 1))
            return false;
    }
    return true;
}

/* Strings inside a value that is kept whole are as hostile as any other: no NUL, in values or keys. */
static bool has_nul(json_t *v)
{
    const char *key;
    size_t i, len;
    json_t *child;

    if (json_is_string(v))
        return strlen(json_string_value(v)) != json_string_length(v);
    json_object_keylen_foreach(v, key, len, child)
    {
        if (strlen(key) != len || has_nul(child))
            return true;
    }
    json_array_foreach(v, i, child)
    {
        if (has_nul(child))
            return true;
    }
    return false;
}

static int read_text(const struct field *f, const char *prefix, json_t *v, struct arena *a, const char **ret,
                     struct err *err)
{
    const char *s = json_string_value(v);
    size_t len = json_string_length(v);
    char *copy;

    if (s == NULL)
        return invalid(f, prefix, err, "must be a string");
    if (strlen(s) != len || !text_is_utf8(s, len))
        return invalid(f, prefix, err, "must be text without NUL, in UTF-8");
    if (len > (size_t)str_max(f)) {
        char what[64];

        snprintf(what, sizeof(what), "must be at most %lld bytes long", (long long)str_max(f));
        return invalid(f, prefix, err, what);
    }
    if ((int64_t)len < f->min) {
        char what[64];

        snprintf(what, sizeof(what), "must be at least %lld bytes long", (long long)f->min);
        return invalid(f, prefix, err, len == 0 ? "must not be empty" : what);
    }
    copy = arena_strndup(a, s, len);
    if (copy == NULL)
        return err_memory(err);
    *ret = copy;
    return 0;
}

static int read_json(const struct field *f, const char *prefix, json_t *v, struct arena *a, const char **ret,
                     struct err *err)
{
    auto_free char *text = NULL;
    char *copy;

    if (!json_is_object(v) && !json_is_array(v))
        return invalid(f, prefix, err, "must be an object or an array");
    if (!depth_within(v, JSON_MAX_DEPTH))
        return invalid(f, prefix, err, "is nested too deeply");
    if (has_nul(v))
        return invalid(f, prefix, err, "must be text without NUL, in UTF-8");
    text = json_dumps(v, JSON_COMPACT);
    if (text == NULL)
        abort();
    if ((int64_t)strlen(text) > str_max(f)) {
        char what[64];

        snprintf(what, sizeof(what), "must be at most %lld bytes of JSON", (long long)str_max(f));
        return invalid(f, prefix, err, what);
    }
    copy = arena_strdup(a, text);
    if (copy == NULL)
        return err_memory(err);
    *ret = copy;
    return 0;
}

static int read_i64(const struct field *f, const char *prefix, json_t *v, int64_t *ret, struct err *err)
{
    int64_t n = json_integer_value(v);
    char what[96];

    if (!json_is_integer(v))
        return invalid(f, prefix, err, "must be a whole number");
    if ((f->min != 0 || f->max != 0) && (n < f->min || n > f->max)) {
        snprintf(what, sizeof(what), "must be between %lld and %lld", (long long)f->min, (long long)f->max);
        return invalid(f, prefix, err, what);
    }
    if ((f->flags & F_OPTVAL) && n == INT64_MIN)
        return invalid(f, prefix, err, "is out of range");
    *ret = n;
    return 0;
}

/* LSNs and times come as text; text that does not parse, or is the "none" of the struct, is refused. */
static int read_parsed(const struct field *f, const char *prefix, json_t *v, void *p, struct err *err)
{
    const char *s = json_string_value(v);
    bool whole = s != NULL && strlen(s) == json_string_length(v);
    uint64_t lsn;
    int64_t us;

    if (f->type == F_LSN) {
        if (!whole || !text_to_lsn(s, &lsn) || lsn == 0)
            return invalid(f, prefix, err, "must be an LSN such as \"0/16B3748\"");
        *(uint64_t *)p = lsn;
        return 0;
    }
    if (!whole || !text_to_time(s, &us) || us == 0)
        return invalid(f, prefix, err, "must be a time with zone such as \"2025-01-16T21:02:01Z\"");
    *(int64_t *)p = us;
    return 0;
}

static int read_value(const struct field *f, const char *prefix, json_t *v, struct arena *a, void *p,
                      struct err *err)
{
    switch (f->type) {
    case F_STR:
        return read_text(f, prefix, v, a, p, err);
    case F_JSON:
        return read_json(f, prefix, v, a, p, err);
    case F_I64:
        return read_i64(f, prefix, v, p, err);
    case F_BOOL:
        if (!json_is_boolean(v))
            return invalid(f, prefix, err, "must be true or false");
        *(bool *)p = json_is_true(v);
        return 0;
    case F_DOUBLE:
        if (!json_is_number(v))
            return invalid(f, prefix, err, "must be a number");
        if ((f->min != 0 || f->max != 0) &&
            (json_number_value(v) < (double)f->min || json_number_value(v) > (double)f->max))
            return invalid(f, prefix, err, "is out of range");
        *(double *)p = json_number_value(v);
        return 0;
    case F_LSN:
    case F_TIME:
        return read_parsed(f, prefix, v, p, err);
    }
    return invalid(f, prefix, err, "has a type nobody knows");
}

/* null: the "no value" of the type.  A boolean or a plain number has none. */
static int read_null(const struct field *f, const char *prefix, void *p, struct err *err)
{
    bool has_none = f->type == F_STR || f->type == F_JSON || f->type == F_LSN || f->type == F_TIME ||
                    (f->type == F_I64 && (f->flags & F_OPTVAL));

    if (!(f->flags & F_NULLABLE) || !has_none)
        return invalid(f, prefix, err, "must not be null");
    if (f->type == F_STR || f->type == F_JSON)
        *(const char **)p = NULL;
    else if (f->type == F_LSN)
        *(uint64_t *)p = 0;
    else
        *(int64_t *)p = f->type == F_I64 ? INT64_MIN : 0;
    return 0;
}

static int read_member(const struct field *f, const char *prefix, json_t *v, struct arena *a, void *strct,
                       struct err *err)
{
    void *p = (char *)strct + f->offset;

    if (f->flags & F_READONLY)
        return invalid(f, prefix, err, "is set by the server and cannot be given");
    if (json_is_null(v))
        return read_null(f, prefix, p, err);
    return read_value(f, prefix, v, a, p, err);
}

static int unknown_key(json_t *obj, const struct field *table, size_t n, const char *prefix, struct err *err)
{
    char pointer[POINTER_MAX];
    const char *key;
    size_t len, i;
    json_t *v;

    json_object_keylen_foreach(obj, key, len, v)
    {
        for (i = 0; i < n; i++) {
            if (!(table[i].flags & F_HIDDEN) && strlen(table[i].name) == len &&
                memcmp(table[i].name, key, len) == 0)
                break;
        }
        if (i == n)
            return err_field(err, ERR_INVALID, pointer_to(pointer, prefix, key), "unknown field \"%.128s\"",
                             key);
    }
    return 0;
}

int fields_from_json(const struct field *table, size_t n, json_t *obj, const char *pointer_prefix,
                     struct arena *a, void *strct, uint64_t *ret_seen, struct err *err)
{
    const char *prefix = pointer_prefix != NULL ? pointer_prefix : "";
    uint64_t seen = 0;

    if (!json_is_object(obj))
        return err_field(err, ERR_INVALID, prefix, "a JSON object is expected here");
    if (unknown_key(obj, table, n, prefix, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const struct field *f = &table[i];
        json_t *v = f->flags & F_HIDDEN ? NULL : json_object_get(obj, f->name);

        if (v == NULL && (f->flags & F_REQUIRED))
            return invalid(f, prefix, err, "is required");
        if (v == NULL)
            continue;
        if (read_member(f, prefix, v, a, strct, err) < 0)
            return -1;
        seen |= UINT64_C(1) << i;
    }
    if (ret_seen != NULL)
        *ret_seen = seen;
    return 0;
}
