/*
 * h_uri.c - how to connect: which endpoint, database and role are meant when little is said
 */
#include "api/connect.h"
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/view.h"
#include "pg/pooler.h"

#include <string.h>

/* The endpoint, and the branch that it decides or that decides it. */
static int find_place(struct http_req *req, struct dbc *c, struct branch *b, struct endpoint *e,
                      struct err *err)
{
    const char *branch = http_param_find(req, "branch_id"), *endpoint = http_query(req, "endpoint_id");
    struct project p;
    bool found;

    if (branch == NULL)
        branch = http_query(req, "branch_id");
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

/* With the password. */
static int read_connection(struct http_req *req, struct view_connection *ret, struct err *err)
{
    const char *branch;

    *ret = (struct view_connection){ 0 };
    if (http_query_bool(req, "pooled", false, &ret->pooled, err) < 0)
        return -1;
    if (ret->pooled && !pg_pooler_is_there(sched_info(req->sched)->pooler))
        return err_set(err, ERR_NOT_SUPPORTED,
                       "pooled: PgBouncer is not installed on the server (package " PG_POOLER_PACKAGE
                       "); install it, or leave pooled out");
    if (find_connection(req, ret, &branch, err) < 0 ||
        intent_reveal_password(req->sched, req->arena, http_param(req, "project_id"), branch, ret->role,
                               &ret->password, err) < 0)
        return -1;
    return ret->password != NULL
               ? 0
               : err_set(err, ERR_PRECONDITION, "role \"%.63s\" has no password", ret->role);
}

int api_project_connection_uri(struct http_req *req, struct http_res *res, struct err *err)
{
    struct view_connection c;
    auto_free char *uri = NULL;

    if (read_connection(req, &c, err) < 0)
        return -1;
    uri = view_uri(sched_info(req->sched), &c);
    return res_json(res, 200, json_pack("{s:o}", "uri", http_text(uri)));
}

int api_branch_connection(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *format = http_query(req, "format"), *text;
    struct view_connection c;

    if (read_connection(req, &c, err) < 0 ||
        connect_text(sched_info(req->sched), &c, format != NULL ? format : "url", req->arena, &text, err) < 0)
        return -1;
    return res_text(res, 200, "text/plain; charset=utf-8", text);
}

/* --- the state of Terraform, as its http backend reads it --- */

static void put_output(json_t *outputs, const char *name, const char *value, bool sensitive)
{
    json_t *one = json_pack("{s:o, s:s}", "value", http_text(value), "type", "string");

    if (sensitive)
        json_object_set_new(one, "sensitive", json_true());
    json_object_set_new(outputs, name, one);
}

/* lineage and serial: a backend that answers another lineage, or an older serial, is refused. */
static json_t *state(const char *lineage, int64_t serial, json_t *outputs)
{
    return json_pack("{s:i, s:s, s:I, s:s, s:o, s:[]}", "version", 4, "terraform_version", "1.4.0", "serial",
                     (json_int_t)serial, "lineage", lineage, "outputs", outputs, "resources");
}

/* A branch that is not there has no outputs: an error would stop a plan, and a destroy. */
int api_branch_tfstate(struct http_req *req, struct http_res *res, struct err *err)
{
    struct view_connection conn;
    struct branch b;
    json_t *outputs = json_object();
    auto_dbc *c = NULL;
    auto_free char *uri = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0)
        goto failed;
    if (find_branch(req, c, &b, err) < 0) {
        if (err->code == ERR_NOT_FOUND)
            return res_json(res, 200, state("none", 1, outputs));
        goto failed;
    }
    db_end(&c);
    put_output(outputs, "id", b.id, false);
    put_output(outputs, "name", b.name, false);
    put_output(outputs, "project_id", b.project_id, false);
    if (read_connection(req, &conn, err) == 0) {
        uri = view_uri(sched_info(req->sched), &conn);
        put_output(outputs, "endpoint_id", conn.endpoint_id, false);
        put_output(outputs, "connection_uri", uri, true);
    } else if (err_http(err->code) >= 500) {
        goto failed;
    }
    return res_json(res, 200, state(b.id, b.updated_at / 1000000, outputs));
failed:
    json_decref(outputs);
    return -1;
}
