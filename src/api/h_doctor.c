/*
 * h_doctor.c - whether what is promised is there, and what takes the space
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/view.h"
#include "scheduler/doctor.h"

static json_t *findings(const struct doctor_report *r)
{
    json_t *array = json_array();

    for (size_t i = 0; i < r->n_findings; i++) {
        const struct doctor_finding *f = &r->findings[i];
        json_t *obj = json_pack("{s:s, s:s}", "branch_id", f->branch_id, "of", f->of);

        json_object_set_new(obj, "name", http_text(f->name));
        json_object_set_new(obj, "what", http_text(f->what));
        json_array_append_new(array, obj);
    }
    return array;
}

static json_t *branches(const struct doctor_report *r)
{
    json_t *array = json_array();

    for (size_t i = 0; i < r->n_shown; i++) {
        const struct branch_size *size = &r->sizes[i];
        json_t *obj = json_pack("{s:s}", "branch_id", r->branches[i].id);

        json_object_set_new(obj, "name", http_text(r->branches[i].name));
        if (size->measured_at != 0)
            json_object_update_new(
                obj, json_pack("{s:I, s:I, s:I, s:I}", "logical_bytes", (json_int_t)size->logical_bytes,
                               "own_bytes", (json_int_t)size->own_bytes, "history_bytes",
                               (json_int_t)size->history_bytes, "images", (json_int_t)size->n_images));
        json_array_append_new(array, obj);
    }
    return array;
}

int api_project_doctor(struct http_req *req, struct http_res *res, struct err *err)
{
    struct doctor_report r;
    json_t *body;

    if (doctor_look(req->sched, req->arena, http_param(req, "project_id"), req->stopping, &r, err) < 0)
        return -1;
    body = json_pack("{s:o, s:{s:I, s:I, s:I, s:I}, s:o, s:{s:I, s:I, s:I, s:I}, s:o}", "findings",
                     findings(&r), "looked_at", "branches", (json_int_t)r.n_branches, "snapshots",
                     (json_int_t)r.n_snapshots, "bookmarks", (json_int_t)r.n_bookmarks, "images",
                     (json_int_t)r.n_images, "branches", branches(&r), "space", "volumes_total_bytes",
                     (json_int_t)r.store_total, "volumes_free_bytes", (json_int_t)r.store_free,
                     "data_total_bytes", (json_int_t)r.data_total, "data_free_bytes", (json_int_t)r.data_free,
                     "pooler", view_pooler(sched_info(req->sched)));
    return res_json(res, 200, body);
}
