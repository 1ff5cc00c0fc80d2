#include "api/find.h"

int find_project(struct http_req *req, struct dbc *c, struct project *ret, struct err *err)
{
    return project_get(c, req->arena, http_param(req, "project_id"), ret, err);
}

int find_branch(struct http_req *req, struct dbc *c, struct branch *ret, struct err *err)
{
    struct project p;

    if (find_project(req, c, &p, err) < 0)
        return -1;
    return branch_get(c, req->arena, p.id, http_param(req, "branch_id"), ret, err);
}
