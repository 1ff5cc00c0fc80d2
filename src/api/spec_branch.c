/*
 * spec_branch.c - branches
 */
#include "api/spec.h"

#include "api/shape.h"

#define ENDPOINTS_MAX 16 /* in one body; how many a branch can have is the intent's business */

struct branch_body {
    struct branch_spec spec;
    bool is_protected, archived;
};

static const struct field BRANCH_CREATE[] = {
    SHAPE_FIELD(branch_body, "name", spec.name, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(branch_body, "parent_id", spec.parent, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(branch_body, "parent_lsn", spec.parent_lsn, F_LSN, 0, 0),
    SHAPE_FIELD(branch_body, "parent_timestamp", spec.parent_timestamp, F_TIME, 0, 0),
    SHAPE_FIELD(branch_body, "parent_bookmark", spec.parent_bookmark, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(branch_body, "init_source", spec.init_source, F_STR, 0, 0),
    SHAPE_FIELD(branch_body, "durability", spec.durability, F_STR, 0, 0),
    SHAPE_FIELD(branch_body, "protected", is_protected, F_BOOL, 0, 0),
    FIELD(branch_body, archived, F_BOOL, 0, 0),
    SHAPE_FIELD(branch_body, "expires_at", spec.expires_at, F_TIME, F_NULLABLE, 0),
    SHAPE_FIELD(branch_body, "ttl_seconds", spec.ttl_seconds, F_I64, F_NULLABLE | F_OPTVAL, 0),
};

static const struct field BRANCH_UPDATE[] = {
    SHAPE_FIELD(branch_body, "name", spec.name, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(branch_body, "protected", is_protected, F_BOOL, 0, 0),
    SHAPE_FIELD(branch_body, "expires_at", spec.expires_at, F_TIME, F_NULLABLE, 0),
    SHAPE_FIELD(branch_body, "ttl_seconds", spec.ttl_seconds, F_I64, F_NULLABLE | F_OPTVAL, 0),
};

/* Flat: what can be said of a branch, in one object. */
static const struct field BRANCH_PUT[] = {
    SHAPE_FIELD(branch_body, "name", spec.name, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(branch_body, "parent", spec.parent, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(branch_body, "parent_lsn", spec.parent_lsn, F_LSN, 0, 0),
    SHAPE_FIELD(branch_body, "parent_timestamp", spec.parent_timestamp, F_TIME, 0, 0),
    SHAPE_FIELD(branch_body, "parent_bookmark", spec.parent_bookmark, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(branch_body, "init_source", spec.init_source, F_STR, 0, 0),
    SHAPE_FIELD(branch_body, "durability", spec.durability, F_STR, 0, 0),
    SHAPE_FIELD(branch_body, "protected", is_protected, F_BOOL, 0, 0),
    SHAPE_FIELD(branch_body, "expires_at", spec.expires_at, F_TIME, 0, 0),
    SHAPE_FIELD(branch_body, "ttl_seconds", spec.ttl_seconds, F_I64, F_OPTVAL, 0),
    SHAPE_FIELD(branch_body, "labels", spec.annotations, F_JSON, 0, SHAPE_JSON_MAX),
};

static const struct refusal BRANCH_REFUSED[] = {
    { "archived", REFUSE_TRUE, "branches are not archived" },
};

/* null is never. */
static int read_ttl(json_t *obj, const char *prefix, struct branch_spec *spec, struct err *err)
{
    json_t *ttl = json_object_get(obj, "ttl_seconds");

    if (json_is_null(ttl))
        spec->ttl_seconds = 0;
    else if (ttl != NULL && spec->ttl_seconds <= 0)
        return shape_bad(err, prefix, "ttl_seconds", "must be at least 1, or null for never");
    return 0;
}

/* The body's two objects as one. */
static const char *given_of(struct http_req *req, json_t *obj)
{
    json_auto_t *flat = json_object();
    json_t *labels = json_object_get(req->body, "annotation_value");

    json_object_update(flat, obj);
    if (labels != NULL)
        json_object_set(flat, "labels", labels);
    return shape_given(req->arena, flat, "archived", "parent_id", "parent");
}

static int read_branch(struct http_req *req, const struct field *table, size_t n, json_t *obj,
                       struct branch_spec *ret, struct err *err)
{
    struct branch_body b = {
        .spec = { .is_protected = -1, .expires_at = INTENT_UNSET, .ttl_seconds = INTENT_UNSET }
    };
    uint64_t bits = 0;

    if (obj != NULL &&
        (fields_from_json(table, n, obj, "/branch", req->arena, &b, &bits, err) < 0 ||
         SHAPE_REFUSE(BRANCH_REFUSED, obj, "/branch", err) < 0 || read_ttl(obj, "/branch", &b.spec, err) < 0))
        return -1;
    if (shape_seen(bits, table, n, "protected"))
        b.spec.is_protected = b.is_protected;
    b.spec.given = given_of(req, obj);
    *ret = b.spec;
    return shape_labels(req->arena, req->body, "", "annotation_value", &ret->annotations, err);
}

static int read_branch_endpoints(struct http_req *req, struct branch_spec *ret, struct err *err)
{
    json_t *list = json_object_get(req->body, "endpoints"), *one;
    size_t i;

    if (list == NULL)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > ENDPOINTS_MAX)
        return shape_bad(err, "", "endpoints", "must be an array of at most 16 objects");
    ret->n_endpoints = json_array_size(list);
    ret->endpoints = arena_alloc(req->arena, (ret->n_endpoints + 1) * sizeof(*ret->endpoints));
    json_array_foreach(list, i, one)
    {
        auto_free char *prefix = xasprintf("/endpoints/%zu", i);

        if (spec_endpoint_option(req, one, prefix, &ret->endpoints[i], err) < 0)
            return -1;
    }
    return 0;
}

int spec_branch_create(struct http_req *req, struct branch_spec *ret, struct err *err)
{
    static const char *const KEYS[] = { "branch", "endpoints", "annotation_value" };
    json_t *obj;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "branch", false, &obj, err) < 0 ||
        read_branch(req, BRANCH_CREATE, N_ELEMENTS(BRANCH_CREATE), obj, ret, err) < 0)
        return -1;
    return read_branch_endpoints(req, ret, err);
}

/* Neon's bodies are wrapped, and so are the pointers of what both share. */
int spec_branch_put(struct http_req *req, const char *name, struct branch_spec *ret, struct err *err)
{
    static struct endpoint_spec writer = { .suspend_timeout_seconds = INTENT_UNSET,
                                           .disabled = -1,
                                           .park_sessions = -1 };
    struct branch_body b = {
        .spec = { .is_protected = -1, .expires_at = INTENT_UNSET, .ttl_seconds = INTENT_UNSET }
    };

    SHAPE_DROP_NULLS(BRANCH_PUT, req->body);
    if (fields_from_json(BRANCH_PUT, N_ELEMENTS(BRANCH_PUT), req->body, "", req->arena, &b, NULL, err) < 0 ||
        shape_same_name(req->body, name, err) < 0 || read_ttl(req->body, "", &b.spec, err) < 0 ||
        shape_labels(req->arena, req->body, "", "labels", &b.spec.annotations, err) < 0)
        return -1;
    b.spec.is_protected = b.is_protected;
    b.spec.name = name;
    b.spec.given = shape_given(req->arena, req->body, "name", NULL, NULL);
    b.spec.endpoints = &writer; /* whoever declares a branch wants to connect to it */
    b.spec.n_endpoints = 1;
    *ret = b.spec;
    return 0;
}

int spec_branch_update(struct http_req *req, struct branch_spec *ret, struct err *err)
{
    static const char *const KEYS[] = { "branch", "annotation_value" };
    json_t *obj;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "branch", true, &obj, err) < 0)
        return -1;
    return read_branch(req, BRANCH_UPDATE, N_ELEMENTS(BRANCH_UPDATE), obj, ret, err);
}

/* --- restore and reset: flat bodies --- */

#define PUT_BACK                                                                                             \
    SHAPE_FIELD(restore_spec, "preserve_under_name", preserve_name, F_STR, 0, SHAPE_NAME_MAX),               \
        FIELD(restore_spec, expires_at, F_TIME, 0, 0), FIELD(restore_spec, ttl_seconds, F_I64, 0, 0)

static const struct field RESTORE[] = {
    SHAPE_FIELD(restore_spec, "source_branch_id", source, F_STR, F_REQUIRED, SHAPE_NAME_MAX),
    SHAPE_FIELD(restore_spec, "source_lsn", lsn, F_LSN, 0, 0),
    SHAPE_FIELD(restore_spec, "source_timestamp", time_us, F_TIME, 0, 0),
    PUT_BACK,
};

static const struct field RESET[] = { PUT_BACK };

static int read_restore(struct http_req *req, const struct field *table, size_t n, struct restore_spec *ret,
                        struct err *err)
{
    *ret = (struct restore_spec){ .expires_at = INTENT_UNSET, .ttl_seconds = INTENT_UNSET };
    if (fields_from_json(table, n, req->body, "", req->arena, ret, NULL, err) < 0)
        return -1;
    if (ret->ttl_seconds != INTENT_UNSET && ret->ttl_seconds <= 0)
        return shape_bad(err, "", "ttl_seconds", "must be at least 1");
    return 0;
}

int spec_branch_restore(struct http_req *req, struct restore_spec *ret, struct err *err)
{
    return read_restore(req, RESTORE, N_ELEMENTS(RESTORE), ret, err);
}

int spec_branch_reset(struct http_req *req, struct restore_spec *ret, struct err *err)
{
    return read_restore(req, RESET, N_ELEMENTS(RESET), ret, err);
}
