/*
 * h_snapshot.c - snapshots, what is made of them, and their schedules
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/spec.h"
#include "api/view.h"
#include "base/text.h"
#include "meta/schedule.h"

#include <string.h>

/* Everything about a new snapshot is said in the query; empty is not said. */
static int read_query(struct http_req *req, struct branch_spec *ret, struct err *err)
{
    const char *name = http_query(req, "name"), *lsn = http_query(req, "lsn"),
               *timestamp = http_query(req, "timestamp"), *expires_at = http_query(req, "expires_at");

    *ret = (struct branch_spec){ .is_protected = -1,
                                 .expires_at = INTENT_UNSET,
                                 .ttl_seconds = INTENT_UNSET,
                                 .name = name != NULL && name[0] != '\0' ? name : NULL };
    if (lsn != NULL && timestamp != NULL)
        return err_set(err, ERR_BAD_REQUEST, "lsn and timestamp exclude each other");
    if (lsn != NULL && (!text_to_lsn(lsn, &ret->parent_lsn) || ret->parent_lsn == 0))
        return err_set(err, ERR_BAD_REQUEST, "lsn must look like 0/16B3748");
    if (timestamp != NULL && (!text_to_time(timestamp, &ret->parent_timestamp) || ret->parent_timestamp == 0))
        return err_set(err, ERR_BAD_REQUEST, "timestamp must be RFC 3339, like 2025-01-16T21:02:01Z");
    if (expires_at != NULL && (!text_to_time(expires_at, &ret->expires_at) || ret->expires_at == 0))
        return err_set(err, ERR_BAD_REQUEST, "expires_at must be RFC 3339, like 2030-01-16T21:02:01Z");
    return 0;
}

int api_snapshot_create(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch_spec spec;
    struct outcome out;

    if (read_query(req, &spec, err) < 0 ||
        intent_snapshot_take(req->sched, req->arena, http_param(req, "project_id"),
                             http_param(req, "branch_id"), &spec, &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("snapshot", view_snapshot(&out.branch), &out));
}

int api_snapshot_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project p;
    struct branch *list;
    size_t n;
    json_t *snapshots;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &p, err) < 0 ||
        branch_list_snapshots(c, req->arena, p.id, &list, &n, err) < 0)
        return -1;
    snapshots = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(snapshots, view_snapshot(&list[i]));
    return res_json(res, 200, json_pack("{s:o}", "snapshots", snapshots));
}

int api_snapshot_update(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch_spec spec;
    struct outcome out;

    if (spec_snapshot_update(req, &spec, err) < 0 ||
        intent_snapshot_update(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "snapshot_id"), &spec, &out, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "snapshot", view_snapshot(&out.branch)));
}

int api_snapshot_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_snapshot_delete(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "snapshot_id"), &out, err) < 0)
        return -1;
    return res_json(res, 202,
                    json_pack("{s:o}", "operations", view_operations(out.operations, out.n_operations)));
}

int api_snapshot_restore(struct http_req *req, struct http_res *res, struct err *err)
{
    struct snapshot_spec spec;
    struct outcome out;

    if (spec_snapshot_restore(req, &spec, err) < 0 ||
        intent_snapshot_restore(req->sched, req->arena, http_param(req, "project_id"),
                                http_param(req, "snapshot_id"), &spec, &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("branch", view_branch(&out.branch), &out));
}

int api_branch_finalize_restore(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *name;
    struct outcome out;

    if (spec_finalize_restore(req, &name, err) < 0 ||
        intent_restore_finalize(req->sched, req->arena, http_param(req, "project_id"),
                                http_param(req, "branch_id"), name, &out, err) < 0)
        return -1;
    return res_json(res, 200,
                    json_pack("{s:o}", "operations", view_operations(out.operations, out.n_operations)));
}

int api_schedule_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct schedule schedule;
    bool found;
    json_t *entries = NULL;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        schedule_find(c, req->arena, b.id, &schedule, &found, err) < 0)
        return -1;
    if (found)
        entries = json_loads(schedule.entries, 0, NULL);
    return res_json(res, 200, json_pack("{s:o}", "schedule", entries != NULL ? entries : json_array()));
}

int api_schedule_set(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *entries;

    if (spec_schedule(req, &entries, err) < 0 ||
        intent_schedule_set(req->sched, req->arena, http_param(req, "project_id"),
                            http_param(req, "branch_id"), entries, err) < 0)
        return -1;
    return res_json(res, 200, json_object());
}
