/*
 * spec.c - tables of what bodies may say, and of what is refused
 */
#include "api/spec.h"

#include "api/view.h"
#include "base/fields.h"
#include "base/text.h"

#include <string.h>

#define JSON_MAX       65536 /* of a nested object that is kept as text */
#define LABELS_MAX     64
#define LABEL_KEY_MAX  128
#define LABEL_TEXT_MAX 1024
#define ENDPOINTS_MAX  16 /* in one body; how many a branch can have is the intent's business */
#define NAME_MAX_BYTES 1024 /* the intent has the exact limits, and better words for them */

#define NAMED(strct, json_name, member, ftype, fflags, fmax)                                                 \
    {                                                                                                        \
        .name = json_name, .type = ftype, .flags = fflags, .offset = offsetof(struct strct, member),         \
        .max = fmax                                                                                          \
    }

/* --- what is known and refused --- */

enum refuse_when { REFUSE_TRUE, REFUSE_FALSE, REFUSE_ANY, REFUSE_NOT_EMPTY, REFUSE_NOT_ZERO };

struct refusal {
    const char *name;
    enum refuse_when when;
    const char *why;
};

static bool is_refused(enum refuse_when when, json_t *v)
{
    switch (when) {
    case REFUSE_TRUE:
        return json_is_true(v);
    case REFUSE_FALSE:
        return json_is_false(v);
    case REFUSE_ANY:
        return !json_is_null(v);
    case REFUSE_NOT_EMPTY:
        return json_array_size(v) > 0 || json_object_size(v) > 0;
    case REFUSE_NOT_ZERO:
        return json_number_value(v) != 0;
    }
    return true;
}

static int refuse(const struct refusal *table, size_t n, json_t *obj, const char *prefix, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_object_get(obj, table[i].name);

        if (v != NULL && is_refused(table[i].when, v)) {
            auto_free char *pointer = xasprintf("%s/%s", prefix, table[i].name);

            return err_field(err, ERR_NOT_SUPPORTED, pointer, "%s: %s; nothing was changed", table[i].name,
                             table[i].why);
        }
    }
    return 0;
}

#define REFUSE(table, obj, prefix, err) refuse(table, N_ELEMENTS(table), obj, prefix, err)

/* --- small shapes --- */

static bool seen(uint64_t bits, const struct field *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0)
            return (bits >> i & 1) != 0;
    return false;
}

static const char *compact(struct arena *a, json_t *v)
{
    auto_free char *text = json_dumps(v, JSON_COMPACT);

    return arena_strdup(a, text);
}

static int bad(struct err *err, const char *prefix, const char *name, const char *what)
{
    auto_free char *pointer = xasprintf("%s/%s", prefix, name);

    return err_field(err, ERR_INVALID, pointer, "%s %s", name, what);
}

/* An object of texts, as text; absent leaves *ret alone. */
static int read_labels(struct arena *a, json_t *obj, const char *prefix, const char *name, const char **ret,
                       struct err *err)
{
    json_t *labels = json_object_get(obj, name), *v;
    const char *key;

    if (labels == NULL)
        return 0;
    if (!json_is_object(labels))
        return bad(err, prefix, name, "must be an object of texts");
    if (json_object_size(labels) > LABELS_MAX)
        return bad(err, prefix, name, "must have at most 64 members");
    json_object_foreach(labels, key, v)
    {
        if (key[0] == '\0' || strlen(key) > LABEL_KEY_MAX)
            return bad(err, prefix, name, "must have keys of 1 to 128 bytes");
        if (!json_is_string(v) || json_string_length(v) > LABEL_TEXT_MAX)
            return bad(err, prefix, name, "must have texts of at most 1024 bytes as values");
    }
    *ret = compact(a, labels);
    return 0;
}

static bool are_texts(json_t *v)
{
    json_t *one;
    size_t i;

    json_array_foreach(v, i, one)
    {
        if (!json_is_string(one))
            return false;
    }
    return json_is_array(v);
}

/* There is one region, one organisation and one provisioner; naming them is fine. */
static int check_place(struct http_req *req, const char *org_id, const char *region_id,
                       const char *provisioner, const char *prefix, struct err *err)
{
    auto_free char *p_org = xasprintf("%s/org_id", prefix), *p_region = xasprintf("%s/region_id", prefix);
    auto_free char *p_provisioner = xasprintf("%s/provisioner", prefix);

    if (org_id != NULL && strcmp(org_id, VIEW_ORG_ID) != 0)
        return err_field(err, ERR_INVALID, p_org, "there is one organisation here: \"%s\"", VIEW_ORG_ID);
    if (region_id != NULL && strcmp(region_id, sched_info(req->sched)->region_id) != 0)
        return err_field(err, ERR_INVALID, p_region, "there is one region here: \"%s\"",
                         sched_info(req->sched)->region_id);
    if (provisioner != NULL && strcmp(provisioner, VIEW_PROVISIONER) != 0)
        return err_field(err, ERR_NOT_SUPPORTED, p_provisioner, "there is one provisioner here: \"%s\"",
                         VIEW_PROVISIONER);
    return 0;
}

/* --- preload libraries, in projects and endpoints --- */

struct preload_body {
    bool use_defaults;
    const char *enabled_libraries;
};

static const struct field PRELOAD[] = {
    FIELD(preload_body, use_defaults, F_BOOL, 0, 0),
    FIELD(preload_body, enabled_libraries, F_JSON, 0, JSON_MAX),
};

static const struct refusal PRELOAD_REFUSED[] = {
    { "enabled_libraries", REFUSE_NOT_EMPTY, "libraries to preload cannot be chosen" },
};

static int check_preload(struct arena *a, json_t *obj, const char *prefix, struct err *err)
{
    struct preload_body body;

    if (obj == NULL)
        return 0;
    if (fields_from_json(PRELOAD, N_ELEMENTS(PRELOAD), obj, prefix, a, &body, NULL, err) < 0)
        return -1;
    if (json_object_get(obj, "enabled_libraries") != NULL && !are_texts(json_object_get(obj, "enabled_libraries")))
        return bad(err, prefix, "enabled_libraries", "must be an array of texts");
    return REFUSE(PRELOAD_REFUSED, obj, prefix, err);
}

/* --- endpoints --- */

struct endpoint_body {
    struct endpoint_spec spec;
    const char *settings, *pgbouncer_settings, *preload_libraries, *provisioner, *pooler_mode, *region_id;
    bool disabled, pooler_enabled, passwordless_access;
};

#define ENDPOINT_SIZE_FIELDS                                                                                 \
    NAMED(endpoint_body, "autoscaling_limit_min_cu", spec.min_cu, F_DOUBLE, 0, 0),                           \
        NAMED(endpoint_body, "autoscaling_limit_max_cu", spec.max_cu, F_DOUBLE, 0, 0),                       \
        NAMED(endpoint_body, "suspend_timeout_seconds", spec.suspend_timeout_seconds, F_I64, 0, 0)

/* In the body of a branch. */
static const struct field ENDPOINT_OPTIONS[] = {
    ENDPOINT_SIZE_FIELDS,
    NAMED(endpoint_body, "type", spec.type, F_STR, F_REQUIRED, 0),
    FIELD(endpoint_body, provisioner, F_STR, 0, 0),
    FIELD(endpoint_body, settings, F_JSON, 0, JSON_MAX),
};

#define ENDPOINT_COMMON_FIELDS                                                                               \
    ENDPOINT_SIZE_FIELDS, NAMED(endpoint_body, "name", spec.name, F_STR, 0, NAME_MAX_BYTES),                 \
        FIELD(endpoint_body, provisioner, F_STR, 0, 0), FIELD(endpoint_body, settings, F_JSON, 0, JSON_MAX), \
        FIELD(endpoint_body, disabled, F_BOOL, 0, 0), FIELD(endpoint_body, pooler_enabled, F_BOOL, 0, 0),    \
        FIELD(endpoint_body, pooler_mode, F_STR, 0, 0),                                                      \
        FIELD(endpoint_body, passwordless_access, F_BOOL, 0, 0)

static const struct field ENDPOINT_CREATE[] = {
    ENDPOINT_COMMON_FIELDS,
    NAMED(endpoint_body, "branch_id", spec.branch_id, F_STR, F_REQUIRED, NAME_MAX_BYTES),
    NAMED(endpoint_body, "type", spec.type, F_STR, F_REQUIRED, 0),
    FIELD(endpoint_body, region_id, F_STR, 0, 0),
};

static const struct field ENDPOINT_UPDATE[] = {
    ENDPOINT_COMMON_FIELDS,
    NAMED(endpoint_body, "branch_id", spec.branch_id, F_STR, 0, NAME_MAX_BYTES),
};

static const struct refusal ENDPOINT_REFUSED[] = {
    { "pooler_enabled", REFUSE_TRUE, "there is no pooler" },
    { "passwordless_access", REFUSE_FALSE, "there is nothing to switch off" },
};

/* Inside "settings" of an endpoint. */
static const struct field ENDPOINT_SETTINGS[] = {
    NAMED(endpoint_body, "pg_settings", spec.pg_settings, F_JSON, 0, JSON_MAX),
    FIELD(endpoint_body, pgbouncer_settings, F_JSON, 0, JSON_MAX),
    FIELD(endpoint_body, preload_libraries, F_JSON, 0, JSON_MAX),
};

/* "default_endpoint_settings" of a project: flat. */
static const struct field ENDPOINT_DEFAULTS[] = {
    ENDPOINT_SIZE_FIELDS,
    NAMED(endpoint_body, "pg_settings", spec.pg_settings, F_JSON, 0, JSON_MAX),
    FIELD(endpoint_body, pgbouncer_settings, F_JSON, 0, JSON_MAX),
};

static const struct refusal BOUNCER_REFUSED[] = {
    { "pgbouncer_settings", REFUSE_NOT_EMPTY, "there is no pooler" },
};

static void endpoint_body_init(struct endpoint_body *b)
{
    *b = (struct endpoint_body){ .spec = { .suspend_timeout_seconds = INTENT_UNSET, .disabled = -1 } };
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
    auto_free char *here = xasprintf("%s/settings", prefix), *preload = xasprintf("%s/preload_libraries", here);

    if (settings == NULL)
        return 0;
    if (fields_from_json(ENDPOINT_SETTINGS, N_ELEMENTS(ENDPOINT_SETTINGS), settings, here, a, b, NULL, err) < 0 ||
        REFUSE(BOUNCER_REFUSED, settings, here, err) < 0)
        return -1;
    return check_preload(a, json_object_get(settings, "preload_libraries"), preload, err);
}

static int read_endpoint(struct http_req *req, const struct field *table, size_t n, json_t *obj,
                         const char *prefix, struct endpoint_body *b, struct err *err)
{
    uint64_t bits;

    endpoint_body_init(b);
    if (fields_from_json(table, n, obj, prefix, req->arena, b, &bits, err) < 0 ||
        REFUSE(ENDPOINT_REFUSED, obj, prefix, err) < 0 ||
        check_place(req, NULL, b->region_id, b->provisioner, prefix, err) < 0)
        return -1;
    if (b->pooler_mode != NULL && strcmp(b->pooler_mode, "transaction") != 0)
        return bad(err, prefix, "pooler_mode", "must be transaction");
    if (seen(bits, table, n, "disabled"))
        b->spec.disabled = b->disabled;
    mark_zero_cu(obj, &b->spec);
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

int spec_endpoint_update(struct http_req *req, struct endpoint_spec *ret, struct err *err)
{
    return endpoint_spec(req, ENDPOINT_UPDATE, N_ELEMENTS(ENDPOINT_UPDATE), ret, err);
}

/* --- branches --- */

struct branch_body {
    struct branch_spec spec;
    const char *expires_at;
    int64_t ttl_seconds;
    bool is_protected, archived;
};

static const struct field BRANCH_CREATE[] = {
    NAMED(branch_body, "name", spec.name, F_STR, 0, NAME_MAX_BYTES),
    NAMED(branch_body, "parent_id", spec.parent, F_STR, 0, NAME_MAX_BYTES),
    NAMED(branch_body, "parent_lsn", spec.parent_lsn, F_LSN, 0, 0),
    NAMED(branch_body, "parent_timestamp", spec.parent_timestamp, F_TIME, 0, 0),
    NAMED(branch_body, "init_source", spec.init_source, F_STR, 0, 0),
    NAMED(branch_body, "durability", spec.durability, F_STR, 0, 0),
    NAMED(branch_body, "protected", is_protected, F_BOOL, 0, 0),
    FIELD(branch_body, archived, F_BOOL, 0, 0),
    FIELD(branch_body, expires_at, F_STR, F_NULLABLE, 0),
    FIELD(branch_body, ttl_seconds, F_I64, F_NULLABLE | F_OPTVAL, 0),
};

static const struct field BRANCH_UPDATE[] = {
    NAMED(branch_body, "name", spec.name, F_STR, 0, NAME_MAX_BYTES),
    NAMED(branch_body, "protected", is_protected, F_BOOL, 0, 0),
    FIELD(branch_body, expires_at, F_STR, F_NULLABLE, 0),
    FIELD(branch_body, ttl_seconds, F_I64, F_NULLABLE | F_OPTVAL, 0),
};

static const struct refusal BRANCH_REFUSED[] = {
    { "archived", REFUSE_TRUE, "branches are not archived" },
    { "expires_at", REFUSE_ANY, "branches do not expire yet" },
    { "ttl_seconds", REFUSE_ANY, "branches do not expire yet" },
};

static int read_branch(struct http_req *req, const struct field *table, size_t n, json_t *obj,
                       struct branch_spec *ret, struct err *err)
{
    struct branch_body b = { .spec = { .is_protected = -1 } };
    uint64_t bits = 0;

    if (obj != NULL && (fields_from_json(table, n, obj, "/branch", req->arena, &b, &bits, err) < 0 ||
                        REFUSE(BRANCH_REFUSED, obj, "/branch", err) < 0))
        return -1;
    if (seen(bits, table, n, "protected"))
        b.spec.is_protected = b.is_protected;
    *ret = b.spec;
    return read_labels(req->arena, req->body, "", "annotation_value", &ret->annotations, err);
}

static int read_branch_endpoints(struct http_req *req, struct branch_spec *ret, struct err *err)
{
    json_t *list = json_object_get(req->body, "endpoints"), *one;
    size_t i;

    if (list == NULL)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > ENDPOINTS_MAX)
        return bad(err, "", "endpoints", "must be an array of at most 16 objects");
    ret->n_endpoints = json_array_size(list);
    ret->endpoints = arena_alloc(req->arena, (ret->n_endpoints + 1) * sizeof(*ret->endpoints));
    json_array_foreach(list, i, one)
    {
        auto_free char *prefix = xasprintf("/endpoints/%zu", i);
        struct endpoint_body b;

        if (read_endpoint(req, ENDPOINT_OPTIONS, N_ELEMENTS(ENDPOINT_OPTIONS), one, prefix, &b, err) < 0)
            return -1;
        ret->endpoints[i] = b.spec;
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

int spec_branch_update(struct http_req *req, struct branch_spec *ret, struct err *err)
{
    static const char *const KEYS[] = { "branch", "annotation_value" };
    json_t *obj;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "branch", true, &obj, err) < 0)
        return -1;
    return read_branch(req, BRANCH_UPDATE, N_ELEMENTS(BRANCH_UPDATE), obj, ret, err);
}

/* --- settings of a project --- */

struct settings_body {
    const char *quota, *allowed_ips, *maintenance_window, *preload_libraries, *audit_log_level;
    bool enable_logical_replication, block_public_connections, block_vpc_connections, hipaa;
};

static const struct field SETTINGS[] = {
    FIELD(settings_body, quota, F_JSON, 0, JSON_MAX),
    FIELD(settings_body, allowed_ips, F_JSON, 0, JSON_MAX),
    FIELD(settings_body, maintenance_window, F_JSON, 0, JSON_MAX),
    FIELD(settings_body, preload_libraries, F_JSON, 0, JSON_MAX),
    FIELD(settings_body, audit_log_level, F_STR, 0, 0),
    FIELD(settings_body, enable_logical_replication, F_BOOL, 0, 0),
    FIELD(settings_body, block_public_connections, F_BOOL, 0, 0),
    FIELD(settings_body, block_vpc_connections, F_BOOL, 0, 0),
    FIELD(settings_body, hipaa, F_BOOL, 0, 0),
};

static const struct refusal SETTINGS_REFUSED[] = {
    { "enable_logical_replication", REFUSE_TRUE, "logical replication cannot be switched on yet" },
    { "block_public_connections", REFUSE_TRUE, "connections cannot be restricted by where they come from yet" },
    { "block_vpc_connections", REFUSE_TRUE, "connections cannot be restricted by where they come from yet" },
    { "hipaa", REFUSE_TRUE, "there is no such mode" },
};

struct quota_body {
    int64_t active_time_seconds, compute_time_seconds, written_data_bytes, data_transfer_bytes, logical_size_bytes;
};

static const struct field QUOTA[] = {
    FIELD_RANGE(quota_body, active_time_seconds, F_I64, 0, 0, INT64_MAX),
    FIELD_RANGE(quota_body, compute_time_seconds, F_I64, 0, 0, INT64_MAX),
    FIELD_RANGE(quota_body, written_data_bytes, F_I64, 0, 0, INT64_MAX),
    FIELD_RANGE(quota_body, data_transfer_bytes, F_I64, 0, 0, INT64_MAX),
    FIELD_RANGE(quota_body, logical_size_bytes, F_I64, 0, 0, INT64_MAX),
};

static const struct refusal QUOTA_REFUSED[] = {
    { "active_time_seconds", REFUSE_NOT_ZERO, "quotas are not supported yet" },
    { "compute_time_seconds", REFUSE_NOT_ZERO, "quotas are not supported yet" },
    { "written_data_bytes", REFUSE_NOT_ZERO, "quotas are not supported yet" },
    { "data_transfer_bytes", REFUSE_NOT_ZERO, "quotas are not supported yet" },
    { "logical_size_bytes", REFUSE_NOT_ZERO, "quotas are not supported yet" },
};

struct allowed_body {
    const char *ips;
    bool protected_branches_only;
};

static const struct field ALLOWED[] = {
    FIELD(allowed_body, ips, F_JSON, 0, JSON_MAX),
    FIELD(allowed_body, protected_branches_only, F_BOOL, 0, 0),
};

static const struct refusal ALLOWED_REFUSED[] = {
    { "ips", REFUSE_NOT_EMPTY, "connections cannot be restricted by address yet" },
    { "protected_branches_only", REFUSE_TRUE, "connections cannot be restricted by address yet" },
};

struct window_body {
    const char *weekdays, *start_time, *end_time;
};

static const struct field WINDOW[] = {
    FIELD(window_body, weekdays, F_JSON, F_REQUIRED, JSON_MAX),
    FIELD(window_body, start_time, F_STR, F_REQUIRED, 5),
    FIELD(window_body, end_time, F_STR, F_REQUIRED, 5),
};

/* "23:59" */
static bool is_hour(const char *s)
{
    return strlen(s) == 5 && s[2] == ':' && strspn(s, "0123456789") == 2 && strspn(s + 3, "0123456789") == 2 &&
           strncmp(s, "24", 2) < 0 && s[3] < '6';
}

static bool are_weekdays(json_t *v)
{
    json_t *one;
    size_t i;

    json_array_foreach(v, i, one)
    {
        if (!json_is_integer(one) || json_integer_value(one) < 1 || json_integer_value(one) > 7)
            return false;
    }
    return json_is_array(v) && json_array_size(v) >= 1 && json_array_size(v) <= 7;
}

static int check_window(struct arena *a, json_t *obj, const char *prefix, struct err *err)
{
    struct window_body b;

    if (obj == NULL)
        return 0;
    if (fields_from_json(WINDOW, N_ELEMENTS(WINDOW), obj, prefix, a, &b, NULL, err) < 0)
        return -1;
    if (!are_weekdays(json_object_get(obj, "weekdays")))
        return bad(err, prefix, "weekdays", "must be 1 to 7 numbers from 1 (Monday) to 7");
    if (!is_hour(b.start_time))
        return bad(err, prefix, "start_time", "must look like 23:59");
    return is_hour(b.end_time) ? 0 : bad(err, prefix, "end_time", "must look like 23:59");
}

static int check_allowed(struct arena *a, json_t *obj, const char *prefix, struct err *err)
{
    struct allowed_body b;
    json_t *ips = json_object_get(obj, "ips");

    if (obj == NULL)
        return 0;
    if (fields_from_json(ALLOWED, N_ELEMENTS(ALLOWED), obj, prefix, a, &b, NULL, err) < 0)
        return -1;
    if (ips != NULL && !are_texts(ips))
        return bad(err, prefix, "ips", "must be an array of texts");
    return REFUSE(ALLOWED_REFUSED, obj, prefix, err);
}

static int check_quota(struct arena *a, json_t *obj, const char *prefix, struct err *err)
{
    struct quota_body b;

    if (obj == NULL)
        return 0;
    if (fields_from_json(QUOTA, N_ELEMENTS(QUOTA), obj, prefix, a, &b, NULL, err) < 0)
        return -1;
    return REFUSE(QUOTA_REFUSED, obj, prefix, err);
}

static int check_settings(struct arena *a, json_t *obj, struct err *err)
{
    static const char HERE[] = "/project/settings";
    static const char *const LEVELS[] = { "base", "extended", "full" };
    struct settings_body b = { .audit_log_level = LEVELS[0] };
    size_t i = 0;

    if (fields_from_json(SETTINGS, N_ELEMENTS(SETTINGS), obj, HERE, a, &b, NULL, err) < 0 ||
        REFUSE(SETTINGS_REFUSED, obj, HERE, err) < 0 ||
        check_quota(a, json_object_get(obj, "quota"), "/project/settings/quota", err) < 0 ||
        check_allowed(a, json_object_get(obj, "allowed_ips"), "/project/settings/allowed_ips", err) < 0 ||
        check_window(a, json_object_get(obj, "maintenance_window"), "/project/settings/maintenance_window", err) < 0 ||
        check_preload(a, json_object_get(obj, "preload_libraries"), "/project/settings/preload_libraries", err) < 0)
        return -1;
    while (i < N_ELEMENTS(LEVELS) && strcmp(LEVELS[i], b.audit_log_level) != 0)
        i++;
    return i < N_ELEMENTS(LEVELS) ? 0 : bad(err, HERE, "audit_log_level", "must be base, extended or full");
}

/* --- projects --- */

struct project_body {
    struct project_spec spec;
    const char *org_id, *provisioner, *branch;
    bool store_passwords;
    double min_cu, max_cu;
};

#define PROJECT_COMMON_FIELDS                                                                                \
    NAMED(project_body, "name", spec.name, F_STR, 0, NAME_MAX_BYTES),                                        \
        NAMED(project_body, "history_retention_seconds", spec.history_retention_seconds, F_I64, F_OPTVAL, 0), \
        NAMED(project_body, "settings", spec.settings, F_JSON, 0, JSON_MAX),                                 \
        NAMED(project_body, "default_endpoint_settings", spec.default_endpoint_settings, F_JSON, 0, JSON_MAX)

static const struct field PROJECT_CREATE[] = {
    PROJECT_COMMON_FIELDS,
    { .name = "pg_version", .type = F_I64, .offset = offsetof(struct project_body, spec.pg_version), .min = 1, .max = 999 },
    NAMED(project_body, "region_id", spec.region_id, F_STR, 0, 0),
    FIELD(project_body, org_id, F_STR, 0, 0),
    FIELD(project_body, provisioner, F_STR, 0, 0),
    FIELD(project_body, store_passwords, F_BOOL, 0, 0),
    FIELD(project_body, branch, F_JSON, 0, JSON_MAX),
    NAMED(project_body, "autoscaling_limit_min_cu", min_cu, F_DOUBLE, 0, 0),
    NAMED(project_body, "autoscaling_limit_max_cu", max_cu, F_DOUBLE, 0, 0),
};

static const struct field PROJECT_UPDATE[] = { PROJECT_COMMON_FIELDS };

struct root_body {
    const char *name, *role_name, *database_name, *annotations;
};

static const struct field ROOT[] = {
    FIELD(root_body, name, F_STR, 0, NAME_MAX_BYTES),
    FIELD(root_body, role_name, F_STR, 0, NAME_MAX_BYTES),
    FIELD(root_body, database_name, F_STR, 0, NAME_MAX_BYTES),
    FIELD(root_body, annotations, F_JSON, 0, JSON_MAX),
};

static int read_root(struct arena *a, json_t *obj, struct project_spec *spec, struct err *err)
{
    struct root_body b = { 0 };

    if (obj == NULL)
        return 0;
    if (fields_from_json(ROOT, N_ELEMENTS(ROOT), obj, "/project/branch", a, &b, NULL, err) < 0)
        return -1;
    spec->branch_name = b.name;
    spec->role_name = b.role_name;
    spec->database_name = b.database_name;
    return read_labels(a, obj, "/project/branch", "annotations", &spec->branch_annotations, err);
}

/* Two generations of the same limits: the members beside default_endpoint_settings are the older one. */
static void move_old_limits(json_t *project, json_t *defaults)
{
    static const char *const NAMES[] = { "autoscaling_limit_min_cu", "autoscaling_limit_max_cu" };

    for (size_t i = 0; i < N_ELEMENTS(NAMES); i++) {
        json_t *v = json_object_get(project, NAMES[i]);

        if (v != NULL && json_object_get(defaults, NAMES[i]) == NULL)
            json_object_set(defaults, NAMES[i], v);
    }
}

static int read_defaults(struct http_req *req, json_t *defaults, struct endpoint_spec *ret, struct err *err)
{
    static const char HERE[] = "/project/default_endpoint_settings";
    struct endpoint_body b;

    endpoint_body_init(&b);
    if (fields_from_json(ENDPOINT_DEFAULTS, N_ELEMENTS(ENDPOINT_DEFAULTS), defaults, HERE, req->arena, &b, NULL, err) < 0 ||
        REFUSE(BOUNCER_REFUSED, defaults, HERE, err) < 0)
        return -1;
    mark_zero_cu(defaults, &b.spec);
    *ret = b.spec;
    return 0;
}

/* What is stored, with the members of the body in their places. */
static json_t *merged(const char *stored, json_t *given)
{
    json_t *all = stored != NULL ? json_loads(stored, 0, NULL) : NULL;

    if (!json_is_object(all)) {
        json_decref(all);
        return json_incref(given);
    }
    json_object_update(all, given);
    return all;
}

static int read_settings(struct http_req *req, json_t *project, const struct project *now,
                         struct project_spec *spec, struct err *err)
{
    json_t *settings = json_object_get(project, "settings");
    json_auto_t *all = NULL;

    if (settings == NULL)
        return 0;
    if (check_settings(req->arena, settings, err) < 0)
        return -1;
    all = merged(now != NULL ? now->settings : NULL, settings);
    spec->settings = compact(req->arena, all);
    return 0;
}

/* The merged ones are what the intent looks at: a minimum may be above the maximum that was there before. */
static int read_default_settings(struct http_req *req, json_t *project, const struct project *now,
                                 struct project_spec *spec, struct err *err)
{
    json_auto_t *given = json_deep_copy(json_object_get(project, "default_endpoint_settings"));
    json_auto_t *all = NULL;

    if (given == NULL)
        given = json_object();
    if (json_is_object(given))
        move_old_limits(project, given);
    if (read_defaults(req, given, &spec->endpoint, err) < 0)
        return -1;
    spec->default_endpoint_settings = NULL;
    if (json_object_size(given) == 0)
        return 0;
    all = merged(now != NULL ? now->default_endpoint_settings : NULL, given);
    spec->default_endpoint_settings = compact(req->arena, all);
    return read_defaults(req, all, &spec->endpoint, err);
}

static int read_project(struct http_req *req, const struct field *table, size_t n, const struct project *now,
                        struct project_spec *ret, struct err *err)
{
    static const char *const KEYS[] = { "project" };
    struct project_body b = { .spec = { .store_passwords = -1, .history_retention_seconds = INTENT_UNSET } };
    uint64_t bits;
    json_t *obj;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "project", true, &obj, err) < 0 ||
        fields_from_json(table, n, obj, "/project", req->arena, &b, &bits, err) < 0 ||
        check_place(req, b.org_id, b.spec.region_id, b.provisioner, "/project", err) < 0 ||
        read_settings(req, obj, now, &b.spec, err) < 0 ||
        read_default_settings(req, obj, now, &b.spec, err) < 0 ||
        read_root(req->arena, json_object_get(obj, "branch"), &b.spec, err) < 0)
        return -1;
    if (seen(bits, table, n, "store_passwords"))
        b.spec.store_passwords = b.store_passwords;
    *ret = b.spec;
    return 0;
}

int spec_project_create(struct http_req *req, struct project_spec *ret, struct err *err)
{
    return read_project(req, PROJECT_CREATE, N_ELEMENTS(PROJECT_CREATE), NULL, ret, err);
}

int spec_project_update(struct http_req *req, const struct project *now, struct project_spec *ret,
                        struct err *err)
{
    return read_project(req, PROJECT_UPDATE, N_ELEMENTS(PROJECT_UPDATE), now, ret, err);
}
