/*
 * h_endpoint.c - endpoints
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/spec.h"
#include "api/view.h"
#include "scheduler/lag.h"

static int answer_change(struct http_req *req, struct http_res *res, int status, const struct outcome *out)
{
    return res_json(res, status,
                    view_change("endpoint", view_endpoint(sched_info(req->sched), &out->endpoints[0]), out));
}

static int answer_list(struct http_req *req, struct http_res *res, const struct endpoint *list, size_t n)
{
    return res_json(res, 200,
                    json_pack("{s:o}", "endpoints", view_endpoints(sched_info(req->sched), list, n)));
}

int api_endpoint_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project p;
    struct endpoint *list;
    size_t n;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &p, err) < 0 ||
        endpoint_list(c, req->arena, p.id, NULL, false, &list, &n, err) < 0)
        return -1;
    return answer_list(req, res, list, n);
}

int api_endpoint_list_of_branch(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct endpoint *list;
    size_t n;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        endpoint_list(c, req->arena, NULL, b.id, false, &list, &n, err) < 0)
        return -1;
    return answer_list(req, res, list, n);
}

int api_endpoint_create(struct http_req *req, struct http_res *res, struct err *err)
{
    struct endpoint_spec spec;
    struct outcome out;

    if (spec_endpoint_create(req, &spec, err) < 0 ||
        intent_endpoint_create(req->sched, req->arena, http_param(req, "project_id"), &spec, &out, err) < 0)
        return -1;
    return answer_change(req, res, 201, &out);
}

int api_endpoint_put(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *name = http_param(req, "endpoint_id");
    struct endpoint_spec spec;
    struct outcome out;
    bool created;

    if (spec_endpoint_put(req, name, &spec, err) < 0 ||
        intent_endpoint_put(req->sched, req->arena, http_param(req, "project_id"), name, &spec, &out,
                            &created, err) < 0)
        return -1;
    return answer_change(req, res, created ? 201 : 200, &out);
}

int api_endpoint_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project p;
    struct endpoint e;
    struct lag lag;
    json_t *one;

    {
        auto_dbc *c = NULL;

        if (db_read(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &p, err) < 0 ||
            endpoint_get(c, req->arena, p.id, http_param(req, "endpoint_id"), &e, err) < 0)
            return -1;
    }
    lag_measure(req->sched, req->arena, &e, &lag);
    one = view_endpoint(sched_info(req->sched), &e);
    view_lag(one, &lag);
    return res_json(res, 200, json_pack("{s:o}", "endpoint", one));
}

int api_endpoint_update(struct http_req *req, struct http_res *res, struct err *err)
{
    struct endpoint_spec spec;
    struct outcome out;

    if (spec_endpoint_update(req, &spec, err) < 0 ||
        intent_endpoint_update(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "endpoint_id"), &spec, &out, err) < 0)
        return -1;
    return answer_change(req, res, 200, &out);
}

int api_endpoint_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_endpoint_delete(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "endpoint_id"), &out, err) < 0)
        return -1;
    return answer_change(req, res, 200, &out);
}

static int act(struct http_req *req, struct http_res *res, enum endpoint_verb verb, struct err *err)
{
    struct outcome out;

    if (intent_endpoint_act(req->sched, req->arena, http_param(req, "project_id"),
                            http_param(req, "endpoint_id"), verb, &out, err) < 0)
        return -1;
    return answer_change(req, res, 200, &out);
}

int api_endpoint_start(struct http_req *req, struct http_res *res, struct err *err)
{
    return act(req, res, ENDPOINT_START, err);
}

int api_endpoint_suspend(struct http_req *req, struct http_res *res, struct err *err)
{
    return act(req, res, ENDPOINT_SUSPEND, err);
}

int api_endpoint_restart(struct http_req *req, struct http_res *res, struct err *err)
{
    return act(req, res, ENDPOINT_RESTART, err);
}
