/*
 * spec_project.c - projects and their settings
 */
#include "api/spec.h"

#include "api/shape.h"
#include "base/ip.h"

#include <string.h>

static const char DEFAULTS[] = "/project/default_endpoint_settings";

/* --- settings --- */

struct settings_body {
    const char *quota, *allowed_ips, *maintenance_window, *preload_libraries, *audit_log_level;
    bool enable_logical_replication, block_public_connections, block_vpc_connections, hipaa;
    int64_t image_wal_bytes;
};

static const struct field SETTINGS[] = {
    FIELD(settings_body, quota, F_JSON, 0, SHAPE_JSON_MAX),
    FIELD(settings_body, allowed_ips, F_JSON, 0, SHAPE_JSON_MAX),
    FIELD(settings_body, maintenance_window, F_JSON, 0, SHAPE_JSON_MAX),
    FIELD(settings_body, preload_libraries, F_JSON, 0, SHAPE_JSON_MAX),
    FIELD(settings_body, audit_log_level, F_STR, 0, 0),
    FIELD(settings_body, enable_logical_replication, F_BOOL, 0, 0),
    FIELD(settings_body, block_public_connections, F_BOOL, 0, 0),
    FIELD(settings_body, block_vpc_connections, F_BOOL, 0, 0),
    FIELD(settings_body, hipaa, F_BOOL, 0, 0),
    FIELD_RANGE(settings_body, image_wal_bytes, F_I64, 0, 0, INT64_MAX),
};

static const struct refusal SETTINGS_REFUSED[] = {
    { "enable_logical_replication", REFUSE_TRUE, "logical replication cannot be switched on yet" },
    { "block_public_connections", REFUSE_TRUE,
      "connections cannot be restricted by where they come from yet" },
    { "block_vpc_connections", REFUSE_TRUE, "connections cannot be restricted by where they come from yet" },
    { "hipaa", REFUSE_TRUE, "there is no such mode" },
};

struct quota_body {
    int64_t active_time_seconds, compute_time_seconds, written_data_bytes, data_transfer_bytes,
        logical_size_bytes;
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

#define ALLOWED_BYTES_MAX 3000

struct allowed_body {
    const char *ips;
    bool protected_branches_only;
};

static const struct field ALLOWED[] = {
    FIELD(allowed_body, ips, F_JSON, 0, SHAPE_JSON_MAX),
    FIELD(allowed_body, protected_branches_only, F_BOOL, 0, 0),
};

struct window_body {
    const char *weekdays, *start_time, *end_time;
};

static const struct field WINDOW[] = {
    FIELD(window_body, weekdays, F_JSON, F_REQUIRED, SHAPE_JSON_MAX),
    FIELD(window_body, start_time, F_STR, F_REQUIRED, 5),
    FIELD(window_body, end_time, F_STR, F_REQUIRED, 5),
};

/* "23:59" */
static bool is_hour(const char *s)
{
    return strlen(s) == 5 && s[2] == ':' && strspn(s, "0123456789") == 2 &&
           strspn(s + 3, "0123456789") == 2 && strncmp(s, "24", 2) < 0 && s[3] < '6';
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
        return shape_bad(err, prefix, "weekdays", "must be 1 to 7 numbers from 1 (Monday) to 7");
    if (!is_hour(b.start_time))
        return shape_bad(err, prefix, "start_time", "must look like 23:59");
    return is_hour(b.end_time) ? 0 : shape_bad(err, prefix, "end_time", "must look like 23:59");
}

/* What mere-proxy is told of it must fit into a line. */
static int check_ips(json_t *ips, const char *prefix, struct err *err)
{
    size_t i, bytes = 0;
    json_t *ip;

    if (ips != NULL && !shape_are_texts(ips))
        return shape_bad(err, prefix, "ips", "must be an array of texts");
    json_array_foreach(ips, i, ip)
    {
        auto_free char *pointer = xasprintf("%s/ips/%zu", prefix, i);

        if (!ip_entry_ok(json_string_value(ip)))
            return err_field(err, ERR_INVALID, pointer,
                             "must be an address (10.0.0.1), a network (10.0.0.0/8) or a range "
                             "(10.0.0.1-10.0.0.9) of IPv4 or IPv6");
        bytes += json_string_length(ip) + 1;
    }
    return bytes <= ALLOWED_BYTES_MAX
               ? 0
               : shape_bad(err, prefix, "ips", "must be at most 3000 characters in all");
}

static int check_allowed(struct arena *a, json_t *obj, const char *prefix, struct err *err)
{
    struct allowed_body b;

    if (obj == NULL)
        return 0;
    if (fields_from_json(ALLOWED, N_ELEMENTS(ALLOWED), obj, prefix, a, &b, NULL, err) < 0)
        return -1;
    return check_ips(json_object_get(obj, "ips"), prefix, err);
}

static int check_quota(struct arena *a, json_t *obj, const char *prefix, struct err *err)
{
    struct quota_body b;

    if (obj == NULL)
        return 0;
    if (fields_from_json(QUOTA, N_ELEMENTS(QUOTA), obj, prefix, a, &b, NULL, err) < 0)
        return -1;
    return SHAPE_REFUSE(QUOTA_REFUSED, obj, prefix, err);
}

static int check_settings(struct arena *a, json_t *obj, struct err *err)
{
    static const char HERE[] = "/project/settings";
    static const char *const LEVELS[] = { "base", "extended", "full" };
    struct settings_body b = { .audit_log_level = LEVELS[0] };
    size_t i = 0;

    if (fields_from_json(SETTINGS, N_ELEMENTS(SETTINGS), obj, HERE, a, &b, NULL, err) < 0 ||
        SHAPE_REFUSE(SETTINGS_REFUSED, obj, HERE, err) < 0 ||
        check_quota(a, json_object_get(obj, "quota"), "/project/settings/quota", err) < 0 ||
        check_allowed(a, json_object_get(obj, "allowed_ips"), "/project/settings/allowed_ips", err) < 0 ||
        check_window(a, json_object_get(obj, "maintenance_window"), "/project/settings/maintenance_window",
                     err) < 0 ||
        shape_preload(a, json_object_get(obj, "preload_libraries"), "/project/settings/preload_libraries",
                      err) < 0)
        return -1;
    if (b.image_wal_bytes != 0 && b.image_wal_bytes < PROJECT_IMAGE_WAL_MIN)
        return shape_bad(err, HERE, "image_wal_bytes", "must be 0 or at least 16777216");
    while (i < N_ELEMENTS(LEVELS) && strcmp(LEVELS[i], b.audit_log_level) != 0)
        i++;
    return i < N_ELEMENTS(LEVELS) ? 0
                                  : shape_bad(err, HERE, "audit_log_level", "must be base, extended or full");
}

/* --- projects --- */

struct project_body {
    struct project_spec spec;
    const char *org_id, *provisioner, *branch;
    bool store_passwords;
    double min_cu, max_cu;
};

#define PROJECT_COMMON_FIELDS                                                                                \
    SHAPE_FIELD(project_body, "name", spec.name, F_STR, 0, SHAPE_NAME_MAX),                                  \
        SHAPE_FIELD(project_body, "history_retention_seconds", spec.history_retention_seconds, F_I64,        \
                    F_OPTVAL, 0),                                                                            \
        SHAPE_FIELD(project_body, "settings", spec.settings, F_JSON, 0, SHAPE_JSON_MAX),                     \
        SHAPE_FIELD(project_body, "default_endpoint_settings", spec.default_endpoint_settings, F_JSON, 0,    \
                    SHAPE_JSON_MAX)

static const struct field PROJECT_CREATE[] = {
    PROJECT_COMMON_FIELDS,
    { .name = "pg_version",
      .type = F_I64,
      .offset = offsetof(struct project_body, spec.pg_version),
      .min = 1,
      .max = 999 },
    SHAPE_FIELD(project_body, "region_id", spec.region_id, F_STR, 0, 0),
    FIELD(project_body, org_id, F_STR, 0, 0),
    FIELD(project_body, provisioner, F_STR, 0, 0),
    FIELD(project_body, store_passwords, F_BOOL, 0, 0),
    FIELD(project_body, branch, F_JSON, 0, SHAPE_JSON_MAX),
    SHAPE_FIELD(project_body, "autoscaling_limit_min_cu", min_cu, F_DOUBLE, 0, 0),
    SHAPE_FIELD(project_body, "autoscaling_limit_max_cu", max_cu, F_DOUBLE, 0, 0),
};

static const struct field PROJECT_UPDATE[] = { PROJECT_COMMON_FIELDS };

struct root_body {
    const char *name, *role_name, *database_name, *annotations;
};

static const struct field ROOT[] = {
    FIELD(root_body, name, F_STR, 0, SHAPE_NAME_MAX),
    FIELD(root_body, role_name, F_STR, 0, SHAPE_NAME_MAX),
    FIELD(root_body, database_name, F_STR, 0, SHAPE_NAME_MAX),
    FIELD(root_body, annotations, F_JSON, 0, SHAPE_JSON_MAX),
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
    return shape_labels(a, obj, "/project/branch", "annotations", &spec->branch_annotations, err);
}

/* Two generations of the same limits: the members beside default_endpoint_settings are the older one. */
static int move_old_limits(json_t *project, json_t *defaults, struct err *err)
{
    static const char *const NAMES[] = { "autoscaling_limit_min_cu", "autoscaling_limit_max_cu" };

    for (size_t i = 0; i < N_ELEMENTS(NAMES); i++) {
        json_t *v = json_object_get(project, NAMES[i]), *newer = json_object_get(defaults, NAMES[i]);

        if (v != NULL && newer != NULL && json_number_value(v) != json_number_value(newer))
            return shape_bad(err, "/project", NAMES[i],
                             "is another in default_endpoint_settings; give one of them");
        if (v != NULL)
            json_object_set(defaults, NAMES[i], v);
    }
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
    spec->settings = shape_text(req->arena, all);
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
    if (json_is_object(given) && move_old_limits(project, given, err) < 0)
        return -1;
    if (spec_endpoint_defaults(req, given, DEFAULTS, &spec->endpoint, err) < 0)
        return -1;
    spec->default_endpoint_settings = NULL;
    if (json_object_size(given) == 0)
        return 0;
    all = merged(now != NULL ? now->default_endpoint_settings : NULL, given);
    spec->default_endpoint_settings = shape_text(req->arena, all);
    return spec_endpoint_defaults(req, all, DEFAULTS, &spec->endpoint, err);
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
        shape_place(req, b.org_id, b.spec.region_id, b.provisioner, "/project", err) < 0 ||
        read_settings(req, obj, now, &b.spec, err) < 0 ||
        read_default_settings(req, obj, now, &b.spec, err) < 0 ||
        read_root(req->arena, json_object_get(obj, "branch"), &b.spec, err) < 0)
        return -1;
    if (shape_seen(bits, table, n, "store_passwords"))
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
