/*
 * h_restore.c - a branch back to a moment, or to what its parent is
 */
#include "api/routes.gen.h"
#include "api/spec.h"
#include "api/view.h"

static int restore(struct http_req *req, const struct restore_spec *spec, struct http_res *res,
                   struct err *err)
{
    struct outcome out;

    if (intent_branch_restore(req->sched, req->arena, http_param(req, "project_id"),
                              http_param(req, "branch_id"), spec, &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("branch", view_branch(&out.branch), &out));
}

int api_branch_restore(struct http_req *req, struct http_res *res, struct err *err)
{
    struct restore_spec spec;

    return spec_branch_restore(req, &spec, err) < 0 ? -1 : restore(req, &spec, res, err);
}

int api_branch_reset_to_parent(struct http_req *req, struct http_res *res, struct err *err)
{
    struct restore_spec spec;

    return spec_branch_reset(req, &spec, err) < 0 ? -1 : restore(req, &spec, res, err);
}
