/*
 * view.c - structs into the JSON that clients expect, by tables
 */
#include "api/view.h"

#include "base/buf.h"
#include "base/fields.h"
#include "base/text.h"
#include "pg/pooler.h"

#include <inttypes.h>
#include <string.h>

#define POSTGRES_PORT 5432
#define NEVER         "0001-01-01T00:00:00Z"

/* --- members that are the same for every object of a kind --- */

struct constant {
    const char *name;
    const char *text; /* NULL: the number */
    int64_t number;
};

static void put_constants(json_t *obj, const struct constant *table, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_object_set_new(obj, table[i].name,
                            table[i].text != NULL ? json_string(table[i].text)
                                                  : json_integer(table[i].number));
}

static void put_fields(json_t *obj, const struct field *table, size_t n, const void *strct)
{
    json_auto_t *more = fields_to_json(table, n, strct);

    json_object_update(obj, more);
}

static void put_text(json_t *obj, const char *key, const char *value)
{
    json_object_set_new(obj, key, http_text(value));
}

/* Stored JSON, or an empty object. */
static json_t *stored(const char *text)
{
    json_t *obj = text != NULL ? json_loads(text, 0, NULL) : NULL;

    if (json_is_object(obj))
        return obj;
    json_decref(obj);
    return json_object();
}

/* --- hosts and connection strings --- */

/* "" or "ID-pooler" style prefixes are the caller's: host = label.suffix[:port], or suffix[:port] for no
 * label. */
static void add_host(struct buf *out, const struct sched_info *info, const char *label, const char *more)
{
    if (label != NULL)
        buf_addf(out, "%s%s.", label, more);
    buf_adds(out, info->host_suffix);
    if (info->pg_port != POSTGRES_PORT)
        buf_addf(out, ":%d", info->pg_port);
}

static void put_host(json_t *obj, const char *key, const struct sched_info *info, const char *label,
                     const char *more)
{
    auto_buf host = { 0 };

    add_host(&host, info, label, more);
    put_text(obj, key, buf_str(&host));
}

static void add_encoded(struct buf *out, const char *text)
{
    auto_free char *encoded = text_url_encode(text);

    buf_adds(out, encoded);
}

char *view_uri(const struct sched_info *info, const struct view_connection *c)
{
    auto_buf uri = { 0 };
    const char *more = c->pooled ? VIEW_POOLER_SUFFIX : "";

    buf_adds(&uri, "postgresql://");
    add_encoded(&uri, c->role);
    buf_adds(&uri, ":");
    add_encoded(&uri, c->password);
    buf_adds(&uri, "@");
    if (info->has_domain)
        add_host(&uri, info, c->endpoint_id, more);
    else if (strchr(info->pg_host, ':') != NULL)
        buf_addf(&uri, "[%s]:%d", info->pg_host, info->pg_port);
    else
        buf_addf(&uri, "%s:%d", info->pg_host, info->pg_port);
    buf_adds(&uri, "/");
    add_encoded(&uri, c->database);
    buf_adds(&uri, "?sslmode=require");
    /* A name that resolves nowhere else must be said in words: the address alone does not tell which
     * endpoint. */
    if (!info->has_domain)
        buf_addf(&uri, "&options=endpoint%%3D%s%s", c->endpoint_id, more);
    return xstrdup(buf_str(&uri));
}

json_t *view_connection(const struct sched_info *info, const struct view_connection *c)
{
    auto_free char *uri = view_uri(info, c);
    json_t *obj = json_object(), *parameters = json_object();

    put_text(parameters, "database", c->database);
    put_text(parameters, "role", c->role);
    put_text(parameters, "password", c->password);
    put_host(parameters, "host", info, c->endpoint_id, "");
    put_host(parameters, "pooler_host", info, c->endpoint_id, VIEW_POOLER_SUFFIX);
    put_text(obj, "connection_uri", uri);
    json_object_set_new(obj, "connection_parameters", parameters);
    return obj;
}

/* --- projects --- */

static const struct field PROJECT[] = {
    FIELD(project, id, F_STR, 0, 0),
    FIELD(project, name, F_STR, 0, 0),
    FIELD(project, region_id, F_STR, 0, 0),
    FIELD(project, pg_version, F_I64, 0, 0),
    FIELD(project, store_passwords, F_BOOL, 0, 0),
    FIELD(project, history_retention_seconds, F_I64, 0, 0),
    FIELD(project, created_at, F_TIME, 0, 0),
    FIELD(project, updated_at, F_TIME, 0, 0),
};

/* Of those that were deleted and can be brought back. */
static const struct field PROJECT_RECOVERY[] = {
    FIELD(project, deleted_at, F_TIME, 0, 0),
    FIELD(project, recoverable_until, F_TIME, 0, 0),
};

static const struct constant PROJECT_CONSTANTS[] = {
    { "platform_id", "local", 0 },
    { "provisioner", VIEW_PROVISIONER, 0 },
    { "creation_source", "console", 0 },
    { "owner_id", VIEW_USER_ID, 0 },
    { "org_id", VIEW_ORG_ID, 0 },
    { "branch_logical_size_limit", NULL, 0 },
    { "branch_logical_size_limit_bytes", NULL, 0 },
    { "cpu_used_sec", NULL, 0 },
};

static const struct constant PROJECT_USAGE[] = {
    { "active_time_seconds", NULL, 0 },     { "compute_time_seconds", NULL, 0 },
    { "written_data_bytes", NULL, 0 },      { "data_transfer_bytes", NULL, 0 },
    { "data_storage_bytes_hour", NULL, 0 }, { "consumption_period_start", NEVER, 0 },
    { "consumption_period_end", NEVER, 0 },
};

/* Some clients read allowed_ips without looking whether it is there. */
static json_t *project_settings(const struct project *p)
{
    json_t *all =
        json_pack("{s:{s:[], s:b}, s:b, s:b, s:b, s:b, s:I}", "allowed_ips", "ips", "protected_branches_only",
                  0, "enable_logical_replication", 0, "block_public_connections", 0, "block_vpc_connections",
                  0, "hipaa", 0, "image_wal_bytes", (json_int_t)PROJECT_IMAGE_WAL_DEFAULT);
    json_auto_t *own = stored(p->settings);

    json_object_update_recursive(all, own);
    return all;
}

static json_t *project_defaults(const struct sched_info *info, const struct project *p)
{
    json_t *all = json_pack("{s:f, s:f, s:i, s:{}}", "autoscaling_limit_min_cu", info->default_min_cu,
                            "autoscaling_limit_max_cu", info->default_max_cu, "suspend_timeout_seconds", 0,
                            "pg_settings");
    json_auto_t *own = stored(p->default_endpoint_settings);

    json_object_update_recursive(all, own);
    return all;
}

static json_t *project_base(const struct sched_info *info, const struct project *p)
{
    json_t *obj = fields_to_json(PROJECT, N_ELEMENTS(PROJECT), p);

    put_constants(obj, PROJECT_CONSTANTS, N_ELEMENTS(PROJECT_CONSTANTS));
    put_host(obj, "proxy_host", info, NULL, "");
    json_object_set_new(obj, "settings", project_settings(p));
    json_object_set_new(obj, "default_endpoint_settings", project_defaults(info, p));
    return obj;
}

json_t *view_project(const struct sched_info *info, const struct project *p)
{
    json_t *obj = project_base(info, p);

    put_constants(obj, PROJECT_USAGE, N_ELEMENTS(PROJECT_USAGE));
    return obj;
}

json_t *view_project_item(const struct sched_info *info, const struct project *p)
{
    json_t *obj = project_base(info, p);

    put_fields(obj, PROJECT_RECOVERY, N_ELEMENTS(PROJECT_RECOVERY), p);
    json_object_set_new(obj, "active_time", json_integer(0));
    return obj;
}

/* --- branches --- */

#define NAMED(strct, json_name, member, ftype)                                                               \
    {                                                                                                        \
        .name = json_name, .type = ftype, .offset = offsetof(struct strct, member)                           \
    }

static const struct field BRANCH[] = {
    FIELD(branch, id, F_STR, 0, 0),
    FIELD(branch, project_id, F_STR, 0, 0),
    FIELD(branch, name, F_STR, 0, 0),
    NAMED(branch, "parent_id", shown_parent_id, F_STR),
    NAMED(branch, "default", is_default, F_BOOL),
    NAMED(branch, "primary", is_default, F_BOOL),
    NAMED(branch, "protected", is_protected, F_BOOL),
    FIELD(branch, durability, F_STR, 0, 0),
    FIELD(branch, init_source, F_STR, 0, 0),
    FIELD(branch, last_reset_at, F_TIME, 0, 0),
    FIELD(branch, expires_at, F_TIME, 0, 0),
    FIELD(branch, restore_status, F_STR, 0, 0),
    FIELD(branch, restored_from, F_STR, 0, 0),
    FIELD(branch, restored_as, F_STR, 0, 0),
    FIELD(branch, state_changed_at, F_TIME, 0, 0),
    FIELD(branch, created_at, F_TIME, 0, 0),
    FIELD(branch, updated_at, F_TIME, 0, 0),
};

/* Of those whose parent users see. */
static const struct field BRANCH_PARENT[] = {
    FIELD(branch, parent_lsn, F_LSN, 0, 0),
    FIELD(branch, parent_timestamp, F_TIME, 0, 0),
};

/* Of those that were deleted and can be brought back. */
static const struct field BRANCH_RECOVERY[] = {
    FIELD(branch, deleted_at, F_TIME, 0, 0),
    FIELD(branch, recoverable_until, F_TIME, 0, 0),
    FIELD(branch, deletion_method, F_STR, 0, 0),
};

static const struct constant BRANCH_CONSTANTS[] = {
    { "creation_source", "console", 0 }, { "cpu_used_sec", NULL, 0 },
    { "compute_time_seconds", NULL, 0 }, { "active_time_seconds", NULL, 0 },
    { "written_data_bytes", NULL, 0 },   { "data_transfer_bytes", NULL, 0 },
};

json_t *view_branch(const struct branch *b)
{
    json_t *obj = fields_to_json(BRANCH, N_ELEMENTS(BRANCH), b);
    bool init = strcmp(b->state, "init") == 0, damaged = strcmp(b->state, "damaged") == 0;

    put_constants(obj, BRANCH_CONSTANTS, N_ELEMENTS(BRANCH_CONSTANTS));
    /* A branch that goes for good shows up only in the answer to its DELETE, as what it was. */
    put_text(obj, "current_state", init ? "init" : damaged ? "damaged" : "ready");
    if (init)
        put_text(obj, "pending_state", "ready");
    if (b->shown_parent_id != NULL)
        put_fields(obj, BRANCH_PARENT, N_ELEMENTS(BRANCH_PARENT), b);
    if (b->ttl_seconds != 0)
        json_object_set_new(obj, "ttl_interval_seconds", json_integer(b->ttl_seconds));
    if (b->recoverable_until > b->deleted_at)
        json_object_set_new(obj, "recovery", fields_to_json(BRANCH_RECOVERY, N_ELEMENTS(BRANCH_RECOVERY), b));
    return obj;
}

static const struct field HISTORY[] = {
    FIELD(view_history, earliest_lsn, F_LSN, 0, 0),
    FIELD(view_history, earliest_timestamp, F_TIME, 0, 0),
};
static const struct field HISTORY_SIZE[] = {
    NAMED(view_history, "own_bytes", size.own_bytes, F_I64),
    NAMED(view_history, "history_bytes", size.history_bytes, F_I64),
    NAMED(view_history, "images", size.n_images, F_I64),
    NAMED(view_history, "measured_at", size.measured_at, F_TIME),
};

json_t *view_history(const struct view_history *h)
{
    json_t *obj = fields_to_json(HISTORY, N_ELEMENTS(HISTORY), h);

    if (h->size.measured_at != 0)
        put_fields(obj, HISTORY_SIZE, N_ELEMENTS(HISTORY_SIZE), h);
    return obj;
}

static const struct field SNAPSHOT[] = {
    FIELD(branch, id, F_STR, 0, 0),
    FIELD(branch, name, F_STR, 0, 0),
    NAMED(branch, "lsn", parent_lsn, F_LSN),
    NAMED(branch, "timestamp", parent_timestamp, F_TIME),
    NAMED(branch, "source_branch_id", shown_parent_id, F_STR),
    FIELD(branch, expires_at, F_TIME, 0, 0),
    FIELD(branch, created_at, F_TIME, 0, 0),
};

json_t *view_snapshot(const struct branch *b)
{
    json_t *obj = fields_to_json(SNAPSHOT, N_ELEMENTS(SNAPSHOT), b);

    json_object_set_new(obj, "manual", json_boolean(b->made_by == NULL || strcmp(b->made_by, "user") == 0));
    return obj;
}

static const struct field BOOKMARK[] = {
    FIELD(bookmark, name, F_STR, 0, 0),        FIELD(bookmark, branch_id, F_STR, 0, 0),
    FIELD(bookmark, lsn, F_LSN, 0, 0),         FIELD(bookmark, timestamp, F_TIME, 0, 0),
    FIELD(bookmark, expires_at, F_TIME, 0, 0), FIELD(bookmark, created_at, F_TIME, 0, 0),
    FIELD(bookmark, updated_at, F_TIME, 0, 0),
};

json_t *view_bookmark(const struct bookmark *b, bool expired)
{
    json_t *obj = fields_to_json(BOOKMARK, N_ELEMENTS(BOOKMARK), b);

    json_object_set_new(obj, "hold", json_boolean(b->hold_id != NULL));
    json_object_set_new(obj, "expired", json_boolean(expired));
    return obj;
}

json_t *view_annotation(const struct branch *b)
{
    return json_pack("{s:{s:s, s:s}, s:o}", "object", "type", "console/branch", "id", b->id, "value",
                     stored(b->annotations));
}

/* --- endpoints --- */

static const struct field ENDPOINT[] = {
    FIELD(endpoint, id, F_STR, 0, 0),
    FIELD(endpoint, project_id, F_STR, 0, 0),
    FIELD(endpoint, branch_id, F_STR, 0, 0),
    FIELD(endpoint, type, F_STR, 0, 0),
    FIELD(endpoint, name, F_STR, 0, 0),
    FIELD(endpoint, disabled, F_BOOL, 0, 0),
    FIELD(endpoint, suspend_timeout_seconds, F_I64, 0, 0),
    FIELD(endpoint, park_sessions, F_BOOL, 0, 0),
    NAMED(endpoint, "autoscaling_limit_min_cu", min_cu, F_DOUBLE),
    NAMED(endpoint, "autoscaling_limit_max_cu", max_cu, F_DOUBLE),
    FIELD(endpoint, last_error, F_STR, 0, 0),
    FIELD(endpoint, last_active, F_TIME, 0, 0),
    FIELD(endpoint, started_at, F_TIME, 0, 0),
    FIELD(endpoint, suspended_at, F_TIME, 0, 0),
    FIELD(endpoint, created_at, F_TIME, 0, 0),
    FIELD(endpoint, updated_at, F_TIME, 0, 0),
};

static const struct constant ENDPOINT_CONSTANTS[] = {
    { "provisioner", VIEW_PROVISIONER, 0 },
    { "pooler_mode", "transaction", 0 },
    { "creation_source", "console", 0 },
};

/* Eight states of a compute are three to a client. */
static const struct {
    const char *observed, *current, *pending;
} ENDPOINT_STATES[] = {
    { "STOPPED", "idle", NULL },      { "FAILED", "idle", NULL },        { "PREPARING", "init", "active" },
    { "STARTING", "init", "active" }, { "RUNNING", "active", NULL },     { "DRAINING", "active", NULL },
    { "STOPPING", "active", "idle" }, { "CAPTURING", "active", "idle" },
};

static void put_state(json_t *obj, const char *observed)
{
    const char *current = "idle", *pending = NULL;

    for (size_t i = 0; i < N_ELEMENTS(ENDPOINT_STATES); i++) {
        if (strcmp(ENDPOINT_STATES[i].observed, observed) == 0) {
            current = ENDPOINT_STATES[i].current;
            pending = ENDPOINT_STATES[i].pending;
        }
    }
    put_text(obj, "current_state", current);
    if (pending != NULL)
        put_text(obj, "pending_state", pending);
}

static const struct field ARCHIVER[] = {
    NAMED(endpoint, "last_failed_wal", archive_failed_wal, F_STR),
    NAMED(endpoint, "last_failed_at", archive_failed_at, F_TIME),
    NAMED(endpoint, "failed_count", archive_failed_count, F_I64),
    NAMED(endpoint, "backlog", archive_backlog, F_I64),
};

json_t *view_pooler(const struct sched_info *info)
{
    int64_t version = pg_pooler_version(info->pooler);
    json_t *obj = json_pack("{s:b, s:b}", "installed", version != 0, "prepared_statements",
                            version >= PG_POOLER_PREPARES);
    auto_free char *text =
        xasprintf("%" PRId64 ".%" PRId64 ".%" PRId64, version / 10000, version / 100 % 100, version % 100);

    if (version != 0)
        put_text(obj, "version", text);
    return obj;
}

json_t *view_endpoint(const struct sched_info *info, const struct endpoint *e)
{
    json_t *obj = fields_to_json(ENDPOINT, N_ELEMENTS(ENDPOINT), e), *settings;

    put_constants(obj, ENDPOINT_CONSTANTS, N_ELEMENTS(ENDPOINT_CONSTANTS));
    put_state(obj, e->observed);
    put_text(obj, "region_id", info->region_id);
    put_host(obj, "host", info, e->id, "");
    put_host(obj, "proxy_host", info, NULL, "");
    put_host(obj, "pooler_host", info, e->id, VIEW_POOLER_SUFFIX);
    json_object_set_new(obj, "pooler_enabled", json_boolean(pg_pooler_version(info->pooler) != 0));
    json_object_set_new(obj, "pooler_capabilities", view_pooler(info));
    json_object_set_new(obj, "passwordless_access", json_true());
    settings = json_pack("{s:o}", "pg_settings", stored(e->pg_settings));
    if (e->preload_libraries != NULL)
        json_object_set_new(settings, "preload_libraries", stored(e->preload_libraries));
    json_object_set_new(obj, "settings", settings);
    if (e->archive_failed_wal != NULL)
        json_object_set_new(obj, "archiver", fields_to_json(ARCHIVER, N_ELEMENTS(ARCHIVER), e));
    return obj;
}

void view_lag(json_t *endpoint, const struct lag *lag)
{
    char lsn[LSN_TEXT_SIZE];

    if (!lag->known)
        return;
    put_text(endpoint, "replay_lsn", text_lsn(lag->replay_lsn, lsn));
    json_object_set_new(endpoint, "lag_bytes", json_integer(lag->bytes));
    json_object_set_new(endpoint, "lag_seconds", json_real((double)lag->us / 1e6));
}

/* --- roles, databases, operations --- */

static const struct field ROLE[] = {
    FIELD(role, branch_id, F_STR, 0, 0),   FIELD(role, name, F_STR, 0, 0),
    FIELD(role, state, F_STR, 0, 0),       FIELD(role, created_at, F_TIME, 0, 0),
    FIELD(role, updated_at, F_TIME, 0, 0),
};

json_t *view_role(const struct role *r, const char *password)
{
    json_t *obj = fields_to_json(ROLE, N_ELEMENTS(ROLE), r);

    json_object_set_new(obj, "protected", json_false());
    put_text(obj, "authentication_method", r->no_login ? "no_login" : "password");
    if (password != NULL)
        put_text(obj, "password", password);
    return obj;
}

static const struct field DATABASE[] = {
    FIELD(database, id, F_I64, 0, 0),          FIELD(database, branch_id, F_STR, 0, 0),
    FIELD(database, name, F_STR, 0, 0),        FIELD(database, owner_name, F_STR, 0, 0),
    FIELD(database, state, F_STR, 0, 0),       FIELD(database, created_at, F_TIME, 0, 0),
    FIELD(database, updated_at, F_TIME, 0, 0),
};

json_t *view_database(const struct database *d)
{
    return fields_to_json(DATABASE, N_ELEMENTS(DATABASE), d);
}

json_t *view_extension(const struct extension_info *e)
{
    const struct pg_extension *have = &e->available;
    json_t *versions = json_array();
    json_t *obj = json_pack("{s:o, s:o, s:o, s:b}", "name", http_text(have->name), "comment",
                            http_text(have->comment), "default_version", http_text(have->default_version),
                            "installed", e->known && strcmp(e->row.state, "ready") == 0);

    for (size_t i = 0; i < have->n_versions; i++)
        json_array_append_new(versions, http_text(have->versions[i]));
    json_object_set_new(obj, "available_versions", versions);
    put_text(obj, "state", e->known ? e->row.state : "available");
    if (e->known && e->row.version != NULL)
        put_text(obj, "version", e->row.version);
    if (e->known && e->row.schema != NULL)
        put_text(obj, "schema", e->row.schema);
    return obj;
}

static const struct field OPERATION[] = {
    FIELD(operation, id, F_STR, 0, 0),
    FIELD(operation, project_id, F_STR, 0, 0),
    FIELD(operation, branch_id, F_STR, 0, 0),
    FIELD(operation, endpoint_id, F_STR, 0, 0),
    FIELD(operation, action, F_STR, 0, 0),
    FIELD(operation, status, F_STR, 0, 0),
    FIELD(operation, failures_count, F_I64, 0, 0),
    FIELD(operation, retry_at, F_TIME, 0, 0),
    FIELD(operation, total_duration_ms, F_I64, 0, 0),
    FIELD(operation, phases, F_JSON, 0, 0),
    FIELD(operation, created_at, F_TIME, 0, 0),
    FIELD(operation, updated_at, F_TIME, 0, 0),
};

json_t *view_operation(const struct operation *o)
{
    json_t *obj = fields_to_json(OPERATION, N_ELEMENTS(OPERATION), o);

    if (o->error != NULL)
        put_text(obj, "error", o->error);
    return obj;
}

/* --- the account --- */

static const struct constant USER[] = {
    { "id", VIEW_USER_ID, 0 },
    { "email", "admin@localhost", 0 },
    { "login", "admin", 0 },
    { "name", "admin", 0 },
    { "last_name", "", 0 },
    { "image", "", 0 },
    { "projects_limit", NULL, -1 },
    { "branches_limit", NULL, -1 },
    { "max_autoscaling_limit", NULL, 56 },
    { "active_seconds_limit", NULL, -1 },
    { "plan", "self_hosted", 0 },
};

json_t *view_user(void)
{
    json_t *obj = json_object();

    put_constants(obj, USER, N_ELEMENTS(USER));
    json_object_set_new(obj, "auth_accounts", json_array());
    return obj;
}

/* A client picks the organisation that "console" manages. */
static const struct constant ORGANIZATION[] = {
    { "id", VIEW_ORG_ID, 0 },
    { "name", "Mere", 0 },
    { "handle", "mere", 0 },
    { "plan", "self_hosted", 0 },
    { "managed_by", "console", 0 },
    { "created_at", "2026-01-01T00:00:00Z", 0 },
    { "updated_at", "2026-01-01T00:00:00Z", 0 },
};

json_t *view_organization(void)
{
    json_t *obj = json_object();

    put_constants(obj, ORGANIZATION, N_ELEMENTS(ORGANIZATION));
    return obj;
}

static const struct constant REGION[] = {
    { "name", "This server", 0 },
    { "geo_lat", "0", 0 },
    { "geo_long", "0", 0 },
};

json_t *view_region(const struct sched_info *info)
{
    json_t *obj = json_object();

    put_text(obj, "region_id", info->region_id);
    put_constants(obj, REGION, N_ELEMENTS(REGION));
    json_object_set_new(obj, "default", json_true());
    return obj;
}

/* --- arrays --- */

json_t *view_endpoints(const struct sched_info *info, const struct endpoint *list, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, view_endpoint(info, &list[i]));
    return array;
}

json_t *view_roles(const struct role *list, const char *const *passwords, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, view_role(&list[i], passwords != NULL ? passwords[i] : NULL));
    return array;
}

json_t *view_databases(const struct database *list, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, view_database(&list[i]));
    return array;
}

json_t *view_operations(const struct operation *list, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, view_operation(&list[i]));
    return array;
}

json_t *view_change(const char *key, json_t *one, const struct outcome *out)
{
    return json_pack("{s:o, s:o}", key, one, "operations",
                     view_operations(out->operations, out->n_operations));
}
