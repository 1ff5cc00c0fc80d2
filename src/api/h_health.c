/*
 * h_health.c - does the process live, can it accept work
 */
#include "api/routes.gen.h"

static int well(struct http_res *res)
{
    return res_json(res, 200, json_pack("{s:s}", "status", "ok"));
}

int api_health_live(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)req;
    (void)err;
    return well(res);
}

/* Whoever asks knows 200 and 503. */
int api_health_ready(struct http_req *req, struct http_res *res, struct err *err)
{
    if (sched_ready(req->sched, err) == 0)
        return well(res);
    if (err_http(err->code) != 503)
        err->code = ERR_UNAVAILABLE;
    return -1;
}

int api_health_check(struct http_req *req, struct http_res *res, struct err *err)
{
    return api_health_ready(req, res, err);
}
