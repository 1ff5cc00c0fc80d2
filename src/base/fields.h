/*
 * fields.h - one table per struct, both directions of JSON
 *
 * A table of struct field describes how members of a C struct appear in JSON.  It drives struct -> JSON
 * (fields_to_json), JSON -> struct (fields_from_json, with limits and unknown keys refused) and, in meta/db,
 * row -> struct.  Members: F_STR const char * (NULL = no value), F_I64 int64_t, F_BOOL bool, F_DOUBLE double,
 * F_LSN uint64_t (0 = none), F_TIME int64_t microseconds since 1970 (0 = none), F_JSON const char * holding
 * JSON text (NULL = none).  What has no value is left out of the JSON, never null.
 */
#ifndef MERE_FIELDS_H
#define MERE_FIELDS_H

#include "base/arena.h"
#include "base/err.h"

#include <jansson.h>

enum field_type { F_STR, F_I64, F_BOOL, F_DOUBLE, F_LSN, F_TIME, F_JSON };

enum field_flag {
    F_OPTIONAL = 0,
    F_REQUIRED = 1 << 0, /* from JSON: must be there */
    F_READONLY = 1 << 1, /* from JSON: its presence is ERR_INVALID */
    F_SECRET = 1 << 2,   /* to JSON: never */
    F_NULLABLE = 1 << 3, /* from JSON: null is accepted and means "no value" */
    F_HIDDEN = 1 << 4,   /* a column that has no place in JSON, either way */
    F_OPTVAL = 1 << 5,   /* F_I64: INT64_MIN means "no value" (left out) */
};

struct field {
    const char *name;
    enum field_type type;
    unsigned flags;
    size_t offset;
    int64_t min, max; /* F_STR, F_JSON: length in bytes (max 0 = 256); F_I64: range (both 0 = any) */
};

#define FIELD(strct, member, ftype, fflags, fmax)                                                            \
    {                                                                                                        \
        .name = #member, .type = ftype, .flags = fflags, .offset = offsetof(struct strct, member),           \
        .max = fmax                                                                                          \
    }
#define FIELD_RANGE(strct, member, ftype, fflags, fmin, fmax_)                                               \
    {                                                                                                        \
        .name = #member, .type = ftype, .flags = fflags, .offset = offsetof(struct strct, member),           \
        .min = fmin, .max = fmax_                                                                            \
    }

/* A new object; the caller owns it.  Leaves out F_SECRET and F_HIDDEN. */
json_t *fields_to_json(const struct field *table, size_t n, const void *strct);

/*
 * Reads obj into strct; strings live in the arena.  ERR_INVALID with a pointer (prefix + "/name") for a
 * missing required key, an unknown key, a wrong type, an over-long or hostile string (not UTF-8, embedded
 * NUL), a number out of range, a read-only key.  Keys absent from obj leave the member as it was.  *ret_seen
 * (optional): bit i set when table[i] was present (tables have at most 64 entries).
 */
int fields_from_json(const struct field *table, size_t n, json_t *obj, const char *pointer_prefix,
                     struct arena *a, void *strct, uint64_t *ret_seen, struct err *err) MUST_CHECK;

#endif
