/*
 * h_project.c - projects
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/spec.h"
#include "api/view.h"

#include <string.h>

#define PROJECTS_MAX   400 /* on a page that is asked for */
#define BRANCHES_SHOWN 10000
#define PROJECTS_ALL   10000 /* where none is: many clients never ask for a second one */

/* The organisation is the one there is; another one has no projects here, and a script had better know. */
static int check_org(const struct http_req *req, struct err *err)
{
    const char *org = http_query(req, "org_id");

    if (org != NULL && org[0] != '\0' && strcmp(org, VIEW_ORG_ID) != 0)
        return err_set(err, ERR_NOT_FOUND, "organization not found; there is one here: \"%s\"", VIEW_ORG_ID);
    return 0;
}

static json_t *project_page(const struct http_req *req, const struct project *list, size_t n,
                            const char *cursor)
{
    json_t *body = json_pack("{s:[], s:{}, s:{}}", "projects", "applications", "integrations");

    for (size_t i = 0; i < n; i++)
        json_array_append_new(json_object_get(body, "projects"),
                              view_project_item(sched_info(req->sched), &list[i]));
    if (cursor != NULL)
        json_object_set_new(body, "pagination", json_pack("{s:s}", "cursor", cursor));
    return body;
}

int api_project_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project *list = NULL;
    struct page page;
    size_t n = 0;
    bool recoverable;
    auto_dbc *c = NULL;

    if (http_query_page(req, PROJECTS_MAX, &page, err) < 0 ||
        http_query_bool(req, "recoverable", false, &recoverable, err) < 0 || check_org(req, err) < 0 ||
        db_read(sched_db(req->sched), &c, err) < 0)
        return -1;
    if (http_query(req, "limit") == NULL)
        page.limit = PROJECTS_ALL;
    page.deleted = recoverable;
    if (project_list(c, req->arena, &page, &list, &n, err) < 0)
        return -1;
    return res_json(res, 200, project_page(req, list, n, page.next));
}

int api_project_list_shared(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)req;
    (void)err;
    return res_json(res, 200, json_pack("{s:[]}", "projects"));
}

int api_project_create(struct http_req *req, struct http_res *res, struct err *err)
{
    const struct sched_info *info = sched_info(req->sched);
    struct project_spec spec;
    struct outcome out;
    struct view_connection c;

    if (spec_project_create(req, &spec, err) < 0 ||
        intent_project_create(req->sched, req->arena, &spec, &out, err) < 0)
        return -1;
    c = (struct view_connection){ .endpoint_id = out.endpoints[0].id,
                                  .role = out.roles[0].name,
                                  .password = out.passwords[0],
                                  .database = out.databases[0].name };
    return res_json(res, 201,
                    json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:[o]}", "project",
                              view_project(info, &out.project), "branch", view_branch(&out.branch),
                              "endpoints", view_endpoints(info, out.endpoints, out.n_endpoints), "roles",
                              view_roles(out.roles, out.passwords, out.n_roles), "databases",
                              view_databases(out.databases, out.n_databases), "operations",
                              view_operations(out.operations, out.n_operations), "connection_uris",
                              view_connection(info, &c)));
}

static int read_project(struct http_req *req, struct project *ret, struct err *err)
{
    auto_dbc *c = NULL;

    return db_read(sched_db(req->sched), &c, err) < 0 ? -1 : find_project(req, c, ret, err);
}

int api_project_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project p;

    if (read_project(req, &p, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "project", view_project(sched_info(req->sched), &p)));
}

static int read_update(void *arg, const struct project *now, struct project_spec *ret, struct err *err)
{
    return spec_project_update(arg, now, ret, err);
}

int api_project_update(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_project_update(req->sched, req->arena, http_param(req, "project_id"), read_update, req, &out,
                              err) < 0)
        return -1;
    return res_json(res, 200,
                    view_change("project", view_project(sched_info(req->sched), &out.project), &out));
}

int api_project_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;
    bool hard;

    if (http_query_bool(req, "hard_delete", false, &hard, err) < 0 ||
        intent_project_delete(req->sched, req->arena, http_param(req, "project_id"), hard, &out, err) < 0)
        return -1;
    return res_json(res, 200,
                    json_pack("{s:o}", "project", view_project(sched_info(req->sched), &out.project)));
}

int api_project_preload_libraries(struct http_req *req, struct http_res *res, struct err *err)
{
    struct pg_extension *list;
    size_t n;
    json_t *array;

    if (intent_preload_list(req->sched, req->arena, http_param(req, "project_id"), &list, &n, err) < 0)
        return -1;
    array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array,
                              json_pack("{s:o, s:o, s:b, s:b, s:o}", "library_name", http_text(list[i].name),
                                        "description", http_text(list[i].comment), "is_default", 0,
                                        "is_experimental", 0, "version", http_text(list[i].default_version)));
    return res_json(res, 200, json_pack("{s:o}", "libraries", array));
}

int api_project_recover(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;
    struct page page = { .limit = BRANCHES_SHOWN };
    struct branch *list;
    size_t n;
    json_t *branches;
    auto_dbc *c = NULL;

    if (intent_project_recover(req->sched, req->arena, http_param(req, "project_id"), &out, err) < 0 ||
        db_read(sched_db(req->sched), &c, err) < 0 ||
        branch_list(c, req->arena, out.project.id, &page, &list, &n, err) < 0)
        return -1;
    branches = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(branches, view_branch(&list[i]));
    return res_json(res, 200,
                    json_pack("{s:o, s:o}", "project", view_project(sched_info(req->sched), &out.project),
                              "branches", branches));
}

int api_project_limits(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project p;

    if (read_project(req, &p, err) < 0)
        return -1;
    return res_json(res, 200,
                    json_pack("{s:{s:i, s:i}}", "limits", "max_branches", -1, "max_read_only_endpoints", -1));
}
