/*
 * spec_endpoint.c - endpoints: on their own, in the body of a branch, as defaults of a project
 */
#include "api/spec.h"

#include "api/shape.h"
#include "pg/pooler.h"

#include <string.h>

struct endpoint_body {
    struct endpoint_spec spec;
    const char *settings, *pgbouncer_settings, *provisioner, *pooler_mode, *region_id;
    bool disabled, park_sessions, pooler_enabled, passwordless_access;
};

#define ENDPOINT_SIZE_FIELDS                                                                                 \
    SHAPE_FIELD(endpoint_body, "autoscaling_limit_min_cu", spec.min_cu, F_DOUBLE, 0, 0),                     \
        SHAPE_FIELD(endpoint_body, "autoscaling_limit_max_cu", spec.max_cu, F_DOUBLE, 0, 0),                 \
        SHAPE_FIELD(endpoint_body, "suspend_timeout_seconds", spec.suspend_timeout_seconds, F_I64, F_OPTVAL, \
                    0)

/* In the body of a branch. */
static const struct field ENDPOINT_OPTIONS[] = {
    ENDPOINT_SIZE_FIELDS,
    SHAPE_FIELD(endpoint_body, "type", spec.type, F_STR, F_REQUIRED, 0),
    FIELD(endpoint_body, park_sessions, F_BOOL, 0, 0),
    FIELD(endpoint_body, provisioner, F_STR, 0, 0),
    FIELD(endpoint_body, settings, F_JSON, 0, SHAPE_JSON_MAX),
};

#define ENDPOINT_COMMON_FIELDS                                                                               \
    ENDPOINT_SIZE_FIELDS, SHAPE_FIELD(endpoint_body, "name", spec.name, F_STR, 0, SHAPE_NAME_MAX),           \
        FIELD(endpoint_body, provisioner, F_STR, 0, 0),                                                      \
        FIELD(endpoint_body, settings, F_JSON, 0, SHAPE_JSON_MAX),                                           \
        FIELD(endpoint_body, park_sessions, F_BOOL, 0, 0), FIELD(endpoint_body, disabled, F_BOOL, 0, 0),     \
        FIELD(endpoint_body, pooler_enabled, F_BOOL, 0, 0), FIELD(endpoint_body, pooler_mode, F_STR, 0, 0),  \
        FIELD(endpoint_body, passwordless_access, F_BOOL, 0, 0)

static const struct field ENDPOINT_CREATE[] = {
    ENDPOINT_COMMON_FIELDS,
    SHAPE_FIELD(endpoint_body, "branch_id", spec.branch_id, F_STR, F_REQUIRED, SHAPE_NAME_MAX),
    SHAPE_FIELD(endpoint_body, "type", spec.type, F_STR, F_REQUIRED, 0),
    FIELD(endpoint_body, region_id, F_STR, 0, 0),
};

static const struct field ENDPOINT_UPDATE[] = {
    ENDPOINT_COMMON_FIELDS,
    SHAPE_FIELD(endpoint_body, "branch_id", spec.branch_id, F_STR, 0, SHAPE_NAME_MAX),
};

/* Flat. */
static const struct field ENDPOINT_PUT[] = {
    ENDPOINT_COMMON_FIELDS,
    SHAPE_FIELD(endpoint_body, "branch", spec.branch_id, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(endpoint_body, "type", spec.type, F_STR, 0, 0),
};

static const struct refusal ENDPOINT_REFUSED[] = {
    { "passwordless_access", REFUSE_FALSE, "there is no such access that could be switched off" },
};

/* Inside "settings" of an endpoint. */
static const struct field ENDPOINT_SETTINGS[] = {
    SHAPE_FIELD(endpoint_body, "pg_settings", spec.pg_settings, F_JSON, 0, SHAPE_JSON_MAX),
    FIELD(endpoint_body, pgbouncer_settings, F_JSON, 0, SHAPE_JSON_MAX),
    SHAPE_FIELD(endpoint_body, "preload_libraries", spec.preload_libraries, F_JSON, 0, SHAPE_JSON_MAX),
};

/* "default_endpoint_settings" of a project: flat. */
static const struct field ENDPOINT_DEFAULTS[] = {
    ENDPOINT_SIZE_FIELDS,
    SHAPE_FIELD(endpoint_body, "pg_settings", spec.pg_settings, F_JSON, 0, SHAPE_JSON_MAX),
    FIELD(endpoint_body, pgbouncer_settings, F_JSON, 0, SHAPE_JSON_MAX),
};

static const struct refusal BOUNCER_REFUSED[] = {
    { "pgbouncer_settings", REFUSE_NOT_EMPTY, "what the pooler is told is not the user's" },
};

static int check_bouncer(json_t *obj, const char *prefix, struct err *err)
{
    json_t *bouncer = json_object_get(obj, "pgbouncer_settings");

    if (bouncer != NULL && !json_is_object(bouncer))
        return shape_bad(err, prefix, "pgbouncer_settings", "must be an object");
    return SHAPE_REFUSE(BOUNCER_REFUSED, obj, prefix, err);
}

static void endpoint_body_init(struct endpoint_body *b)
{
    *b = (struct endpoint_body){
        .spec = { .suspend_timeout_seconds = INTENT_UNSET, .disabled = -1, .park_sessions = -1 }
    };
}

/* 0 means "not given" to an intent; given, it is out of every range. */
static void mark_zero_cu(json_t *obj, struct endpoint_spec *spec)
{
    if (json_object_get(obj, "autoscaling_limit_min_cu") != NULL && spec->min_cu == 0)
        spec->min_cu = -1;
    if (json_object_get(obj, "autoscaling_limit_max_cu") != NULL && spec->max_cu == 0)
        spec->max_cu = -1;
}

static int read_endpoint_settings(struct arena *a, json_t *settings, const char *prefix,
                                  struct endpoint_body *b, struct err *err)
{
    auto_free char *here = xasprintf("%s/settings", prefix),
                   *preload = xasprintf("%s/preload_libraries", here);

    if (settings == NULL)
        return 0;
    if (fields_from_json(ENDPOINT_SETTINGS, N_ELEMENTS(ENDPOINT_SETTINGS), settings, here, a, b, NULL, err) <
            0 ||
        check_bouncer(settings, here, err) < 0)
        return -1;
    return shape_preload(a, json_object_get(settings, "preload_libraries"), preload, err);
}

/* Nothing is pooled but what asks for the pooled host; so false asks for nothing. */
static int no_pooler(const char *prefix, struct err *err)
{
    auto_free char *pointer = xasprintf("%s/pooler_enabled", prefix);

    return err_field(err, ERR_NOT_SUPPORTED, pointer,
                     "pooler_enabled: PgBouncer is not installed on the server (package " PG_POOLER_PACKAGE
                     "); nothing was changed");
}

static int read_endpoint(struct http_req *req, const struct field *table, size_t n, json_t *obj,
                         const char *prefix, struct endpoint_body *b, struct err *err)
{
    uint64_t bits;

    endpoint_body_init(b);
    if (fields_from_json(table, n, obj, prefix, req->arena, b, &bits, err) < 0 ||
        SHAPE_REFUSE(ENDPOINT_REFUSED, obj, prefix, err) < 0 ||
        shape_place(req, NULL, b->region_id, b->provisioner, prefix, err) < 0)
        return -1;
    if (b->pooler_enabled && !pg_pooler_is_there(sched_info(req->sched)->pooler))
        return no_pooler(prefix, err);
    if (b->pooler_mode != NULL && strcmp(b->pooler_mode, "transaction") != 0)
        return shape_bad(err, prefix, "pooler_mode", "must be transaction");
    if (shape_seen(bits, table, n, "disabled"))
        b->spec.disabled = b->disabled;
    if (shape_seen(bits, table, n, "park_sessions"))
        b->spec.park_sessions = b->park_sessions;
    mark_zero_cu(obj, &b->spec);
    b->spec.given = shape_given(req->arena, obj, "name", "branch_id", "branch");
    return read_endpoint_settings(req->arena, json_object_get(obj, "settings"), prefix, b, err);
}

static int endpoint_spec(struct http_req *req, const struct field *table, size_t n, struct endpoint_spec *ret,
                         struct err *err)
{
    static const char *const KEYS[] = { "endpoint" };
    struct endpoint_body b;
    json_t *obj;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "endpoint", true, &obj, err) < 0 ||
        read_endpoint(req, table, n, obj, "/endpoint", &b, err) < 0)
        return -1;
    *ret = b.spec;
    return 0;
}

int spec_endpoint_create(struct http_req *req, struct endpoint_spec *ret, struct err *err)
{
    return endpoint_spec(req, ENDPOINT_CREATE, N_ELEMENTS(ENDPOINT_CREATE), ret, err);
}

int spec_endpoint_put(struct http_req *req, const char *name, struct endpoint_spec *ret, struct err *err)
{
    struct endpoint_body b;

    SHAPE_DROP_NULLS(ENDPOINT_PUT, req->body);
    if (read_endpoint(req, ENDPOINT_PUT, N_ELEMENTS(ENDPOINT_PUT), req->body, "", &b, err) < 0 ||
        shape_same_name(req->body, name, err) < 0)
        return -1;
    *ret = b.spec;
    ret->name = name;
    return 0;
}

int spec_endpoint_update(struct http_req *req, struct endpoint_spec *ret, struct err *err)
{
    return endpoint_spec(req, ENDPOINT_UPDATE, N_ELEMENTS(ENDPOINT_UPDATE), ret, err);
}

int spec_endpoint_option(struct http_req *req, json_t *obj, const char *prefix, struct endpoint_spec *ret,
                         struct err *err)
{
    struct endpoint_body b;

    if (read_endpoint(req, ENDPOINT_OPTIONS, N_ELEMENTS(ENDPOINT_OPTIONS), obj, prefix, &b, err) < 0)
        return -1;
    *ret = b.spec;
    return 0;
}

int spec_endpoint_defaults(struct http_req *req, json_t *obj, const char *prefix, struct endpoint_spec *ret,
                           struct err *err)
{
    struct endpoint_body b;

    endpoint_body_init(&b);
    if (fields_from_json(ENDPOINT_DEFAULTS, N_ELEMENTS(ENDPOINT_DEFAULTS), obj, prefix, req->arena, &b, NULL,
                         err) < 0 ||
        check_bouncer(obj, prefix, err) < 0)
        return -1;
    mark_zero_cu(obj, &b.spec);
    *ret = b.spec;
    return 0;
}
