/*
 * h_database.c - databases of a branch
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/view.h"
#include "api/shape.h"

static const struct field DATABASE_CREATE[] = {
    FIELD(database_spec, name, F_STR, F_REQUIRED, SHAPE_NAME_MAX),
    FIELD(database_spec, owner_name, F_STR, F_REQUIRED, SHAPE_NAME_MAX),
};

static const struct field DATABASE_UPDATE[] = {
    FIELD(database_spec, name, F_STR, 0, SHAPE_NAME_MAX),
    FIELD(database_spec, owner_name, F_STR, 0, SHAPE_NAME_MAX),
};

static int read_database(struct http_req *req, const struct field *table, size_t n, struct database_spec *ret,
                         struct err *err)
{
    static const char *const KEYS[] = { "database" };
    json_t *obj;

    *ret = (struct database_spec){ 0 };
    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "database", true, &obj, err) < 0)
        return -1;
    if (fields_from_json(table, n, obj, "/database", req->arena, ret, NULL, err) < 0)
        return -1;
    ret->given = shape_given(req->arena, obj, "name", NULL, NULL);
    return 0;
}

int api_database_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct database *list;
    size_t n;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        database_list(c, req->arena, b.id, false, &list, &n, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "databases", view_databases(list, n)));
}

int api_database_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct database d;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        database_get(c, req->arena, b.id, http_param(req, "database_name"), &d, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "database", view_database(&d)));
}

int api_database_create(struct http_req *req, struct http_res *res, struct err *err)
{
    struct database_spec spec;
    struct outcome out;

    if (read_database(req, DATABASE_CREATE, N_ELEMENTS(DATABASE_CREATE), &spec, err) < 0 ||
        intent_database_create(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "branch_id"), &spec, &out, err) < 0)
        return -1;
    return res_json(res, 201, view_change("database", view_database(&out.databases[0]), &out));
}

int api_database_put(struct http_req *req, struct http_res *res, struct err *err)
{
    struct database_spec spec = { 0 };
    struct outcome out;
    bool created;

    SHAPE_DROP_NULLS(DATABASE_UPDATE, req->body);
    if (fields_from_json(DATABASE_UPDATE, N_ELEMENTS(DATABASE_UPDATE), req->body, "", req->arena, &spec, NULL,
                         err) < 0 ||
        shape_same_name(req->body, http_param(req, "database_name"), err) < 0)
        return -1;
    spec.name = http_param(req, "database_name");
    spec.given = shape_given(req->arena, req->body, "name", NULL, NULL);
    if (intent_database_put(req->sched, req->arena, http_param(req, "project_id"),
                            http_param(req, "branch_id"), &spec, &out, &created, err) < 0)
        return -1;
    return res_json(res, created ? 201 : 200,
                    view_change("database", view_database(&out.databases[0]), &out));
}

int api_database_update(struct http_req *req, struct http_res *res, struct err *err)
{
    struct database_spec spec;
    struct outcome out;

    if (read_database(req, DATABASE_UPDATE, N_ELEMENTS(DATABASE_UPDATE), &spec, err) < 0 ||
        intent_database_update(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "branch_id"), http_param(req, "database_name"), &spec, &out,
                               err) < 0)
        return -1;
    return res_json(res, 200, view_change("database", view_database(&out.databases[0]), &out));
}

int api_database_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_database_delete(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "branch_id"), http_param(req, "database_name"), &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("database", view_database(&out.databases[0]), &out));
}
