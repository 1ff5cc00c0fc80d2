/*
 * h_operation.c - operations: list, get, wait for the end of one
 */
#include "api/routes.gen.h"
#include "api/settle.h"
#include "api/view.h"
#include "base/clock.h"

#define OPERATIONS_MAX 1000 /* on a page */

/* Those of a project that is being deleted can be read as long as there is work. */
int api_operation_list(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *project = http_param(req, "project_id");
    struct project p;
    struct operation *list;
    struct page page;
    size_t n;
    json_t *body;
    auto_dbc *c = NULL;

    if (http_query_page(req, OPERATIONS_MAX, &page, err) < 0 || db_read(sched_db(req->sched), &c, err) < 0 ||
        project_get_any(c, req->arena, project, &p, err) < 0 ||
        operation_list(c, req->arena, project, &page, &list, &n, err) < 0)
        return -1;
    body = json_pack("{s:o}", "operations", view_operations(list, n));
    if (page.next != NULL)
        json_object_set_new(body, "pagination", json_pack("{s:s}", "cursor", page.next));
    return res_json(res, 200, body);
}

/* The operation outlives its project: who waits for the end of a deletion must be able to read it. */
static int find_operation(struct http_req *req, struct operation *ret, struct err *err)
{
    const char *project = http_param(req, "project_id");
    struct project p;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0)
        return -1;
    if (operation_get(c, req->arena, project, http_param(req, "operation_id"), ret, err) == 0)
        return 0;
    if (err->code == ERR_NOT_FOUND && project_get_any(c, req->arena, project, &p, err) == 0)
        return err_set(err, ERR_NOT_FOUND, "operation not found");
    return -1;
}

int api_operation_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct operation o;
    int64_t timeout_s;
    bool wait;

    if (http_query_bool(req, "wait", false, &wait, err) < 0 ||
        http_query_i64(req, "timeout", 0, SETTLE_MAX_S, SETTLE_MAX_S, &timeout_s, err) < 0 ||
        find_operation(req, &o, err) < 0)
        return -1;
    if (wait && (settle_operation(req, o.id, clock_mono_ms() + timeout_s * 1000, err) < 0 ||
                 find_operation(req, &o, err) < 0))
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "operation", view_operation(&o)));
}
