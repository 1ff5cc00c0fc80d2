/*
 * spec_keep.c - snapshots, schedules, bookmarks
 */
#include "api/spec.h"

#include "api/shape.h"
#include "meta/schedule.h"

/* ---- snapshots ---- */

static const struct field SNAPSHOT_UPDATE[] = {
    FIELD(branch_spec, name, F_STR, 0, SHAPE_NAME_MAX),
    FIELD(branch_spec, expires_at, F_TIME, F_NULLABLE, 0),
};

int spec_snapshot_update(struct http_req *req, struct branch_spec *ret, struct err *err)
{
    static const char *const KEYS[] = { "snapshot" };
    json_t *obj;

    *ret =
        (struct branch_spec){ .is_protected = -1, .expires_at = INTENT_UNSET, .ttl_seconds = INTENT_UNSET };
    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "snapshot", true, &obj, err) < 0)
        return -1;
    return fields_from_json(SNAPSHOT_UPDATE, N_ELEMENTS(SNAPSHOT_UPDATE), obj, "/snapshot", req->arena, ret,
                            NULL, err);
}

static const struct field RESTORE[] = {
    FIELD(snapshot_spec, name, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(snapshot_spec, "target_branch_id", target, F_STR, 0, SHAPE_NAME_MAX),
    SHAPE_FIELD(snapshot_spec, "finalize_restore", finalize, F_BOOL, 0, 0),
};

int spec_snapshot_restore(struct http_req *req, struct snapshot_spec *ret, struct err *err)
{
    *ret = (struct snapshot_spec){ 0 };
    return fields_from_json(RESTORE, N_ELEMENTS(RESTORE), req->body, "", req->arena, ret, NULL, err);
}

static const struct field FINALIZE[] = {
    FIELD(snapshot_spec, name, F_STR, 0, SHAPE_NAME_MAX),
};

int spec_finalize_restore(struct http_req *req, const char **ret_name, struct err *err)
{
    struct snapshot_spec spec = { 0 };

    if (fields_from_json(FINALIZE, N_ELEMENTS(FINALIZE), req->body, "", req->arena, &spec, NULL, err) < 0)
        return -1;
    *ret_name = spec.name;
    return 0;
}

/* ---- schedules ---- */

int spec_schedule(struct http_req *req, const char **ret_entries, struct err *err)
{
    static const char *const KEYS[] = { "schedule" };
    json_t *list = json_object_get(req->body, "schedule");
    struct schedule_entry *entries;
    size_t n;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        schedule_parse(req->arena, list, "/schedule", &entries, &n, err) < 0)
        return -1;
    *ret_entries = shape_text(req->arena, list);
    return 0;
}

/* ---- bookmarks ---- */

struct bookmark_body {
    struct bookmark_spec spec;
    bool hold;
};

static const struct field BOOKMARK[] = {
    SHAPE_FIELD(bookmark_body, "lsn", spec.lsn, F_LSN, 0, 0),
    SHAPE_FIELD(bookmark_body, "timestamp", spec.time_us, F_TIME, 0, 0),
    FIELD(bookmark_body, hold, F_BOOL, 0, 0),
    SHAPE_FIELD(bookmark_body, "ttl_seconds", spec.ttl_seconds, F_I64, F_NULLABLE | F_OPTVAL, 0),
};

int spec_bookmark(struct http_req *req, struct bookmark_spec *ret, struct err *err)
{
    struct bookmark_body b = { .spec = { .hold = -1, .ttl_seconds = INTENT_UNSET } };
    json_t *ttl = json_object_get(req->body, "ttl_seconds"), *lsn = json_object_get(req->body, "lsn");
    uint64_t seen = 0;

    if (fields_from_json(BOOKMARK, N_ELEMENTS(BOOKMARK), req->body, "", req->arena, &b, &seen, err) < 0)
        return -1;
    if (lsn != NULL && b.spec.lsn == 0)
        return shape_bad(err, "", "lsn", "must not be 0/0");
    if (shape_seen(seen, BOOKMARK, N_ELEMENTS(BOOKMARK), "hold"))
        b.spec.hold = b.hold;
    if (json_is_null(ttl))
        b.spec.ttl_seconds = 0;
    else if (ttl != NULL && b.spec.ttl_seconds <= 0)
        return shape_bad(err, "", "ttl_seconds", "must be at least 1, or null for never");
    *ret = b.spec;
    return 0;
}
