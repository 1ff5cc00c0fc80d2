/*
 * h_uri.c - connection_uri: which endpoint, database and role are meant when little is said
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/view.h"
#include "pg/pooler.h"

#include <string.h>

/* The endpoint, and the branch that it decides or that decides it. */
static int find_place(struct http_req *req, struct dbc *c, struct branch *b, struct endpoint *e,
                      struct err *err)
{
    const char *branch = http_query(req, "branch_id"), *endpoint = http_query(req, "endpoint_id");
    struct project p;
    bool found;

    if (find_project(req, c, &p, err) < 0 ||
        (endpoint != NULL && endpoint_get(c, req->arena, p.id, endpoint, e, err) < 0))
        return -1;
    if (branch == NULL && endpoint != NULL)
        branch = e->branch_id;
    if ((branch != NULL ? branch_get(c, req->arena, p.id, branch, b, err)
                        : branch_get_default(c, req->arena, p.id, b, err)) < 0)
        return -1;
    if (endpoint != NULL && strcmp(e->branch_id, b->id) != 0)
        return err_set(err, ERR_NOT_FOUND, "endpoint not found: %s is one of another branch than \"%.100s\"",
                       e->id, b->name);
    if (endpoint != NULL)
        return 0;
    if (endpoint_find_writer(c, req->arena, b->id, e, &found, err) < 0)
        return -1;
    return found ? 0
                 : err_set(err, ERR_NOT_FOUND,
                           "endpoint not found: branch \"%.100s\" has none that writes; create one first",
                           b->name);
}

static int which(struct err *err, const char *parameter, const char *what, size_t n, const char *branch)
{
    return err_set(err, ERR_BAD_REQUEST, "%s is required: branch \"%.100s\" has %zu %s", parameter, branch, n,
                   what);
}

static int find_database(struct http_req *req, struct dbc *c, const struct branch *b, const char **ret,
                         struct err *err)
{
    const char *name = http_query(req, "database_name");
    struct database *list, one;
    size_t n;

    *ret = name;
    if (name != NULL)
        return database_get(c, req->arena, b->id, name, &one, err);
    if (database_list(c, req->arena, b->id, false, &list, &n, err) < 0)
        return -1;
    if (n != 1)
        return which(err, "database_name", "databases", n, b->name);
    *ret = list[0].name;
    return 0;
}

static int find_role(struct http_req *req, struct dbc *c, const struct branch *b, const char **ret,
                     struct err *err)
{
    const char *name = http_query(req, "role_name");
    struct role *list, one;
    size_t n;

    *ret = name;
    if (name != NULL)
        return role_get(c, req->arena, b->id, name, &one, err);
    if (role_list(c, req->arena, b->id, false, &list, &n, err) < 0)
        return -1;
    if (n != 1)
        return which(err, "role_name", "roles", n, b->name);
    *ret = list[0].name;
    return 0;
}

static int find_connection(struct http_req *req, struct view_connection *ret, const char **ret_branch,
                           struct err *err)
{
    struct branch b;
    struct endpoint e;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_place(req, c, &b, &e, err) < 0 ||
        find_database(req, c, &b, &ret->database, err) < 0 || find_role(req, c, &b, &ret->role, err) < 0)
        return -1;
    ret->endpoint_id = e.id;
    *ret_branch = b.id;
    return 0;
}

int api_project_connection_uri(struct http_req *req, struct http_res *res, struct err *err)
{
    struct view_connection c = { 0 };
    const char *branch;
    auto_free char *uri = NULL;
    bool pooled;

    if (http_query_bool(req, "pooled", false, &pooled, err) < 0)
        return -1;
    c.pooled = pooled;
    if (pooled && !pg_pooler_is_there(sched_info(req->sched)->pooler))
        return err_set(err, ERR_NOT_SUPPORTED,
                       "pooled: PgBouncer is not installed on the server (package " PG_POOLER_PACKAGE
                       "); install it, or leave pooled out");
    if (find_connection(req, &c, &branch, err) < 0 ||
        intent_reveal_password(req->sched, req->arena, http_param(req, "project_id"), branch, c.role,
                               &c.password, err) < 0)
        return -1;
    if (c.password == NULL)
        return err_set(err, ERR_PRECONDITION, "role \"%.63s\" has no password", c.role);
    uri = view_uri(sched_info(req->sched), &c);
    return res_json(res, 200, json_pack("{s:o}", "uri", http_text(uri)));
}
