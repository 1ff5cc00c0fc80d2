/*
 * h_role.c - roles of a branch and their passwords
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/view.h"
#include "api/shape.h"

int api_role_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct role *list;
    size_t n;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        role_list(c, req->arena, b.id, false, &list, &n, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "roles", view_roles(list, NULL, n)));
}

int api_role_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct role r;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        role_get(c, req->arena, b.id, http_param(req, "role_name"), &r, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "role", view_role(&r, NULL)));
}

static const struct field ROLE[] = {
    FIELD(role_spec, name, F_STR, F_REQUIRED, SHAPE_NAME_MAX),
    FIELD(role_spec, no_login, F_BOOL, 0, 0),
};

/* Flat. */
static const struct field ROLE_PUT[] = {
    FIELD(role_spec, name, F_STR, 0, SHAPE_NAME_MAX),
    FIELD(role_spec, no_login, F_BOOL, 0, 0),
};

int api_role_create(struct http_req *req, struct http_res *res, struct err *err)
{
    static const char *const KEYS[] = { "role" };
    struct role_spec spec = { 0 };
    struct outcome out;
    json_t *obj;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "role", true, &obj, err) < 0 ||
        fields_from_json(ROLE, N_ELEMENTS(ROLE), obj, "/role", req->arena, &spec, NULL, err) < 0)
        return -1;
    spec.given = shape_given(req->arena, obj, "name", NULL, NULL);
    if (intent_role_create(req->sched, req->arena, http_param(req, "project_id"),
                           http_param(req, "branch_id"), &spec, &out, err) < 0)
        return -1;
    return res_json(res, 201, view_change("role", view_role(&out.roles[0], out.passwords[0]), &out));
}

int api_role_put(struct http_req *req, struct http_res *res, struct err *err)
{
    struct role_spec spec = { 0 };
    struct outcome out;
    bool created;

    SHAPE_DROP_NULLS(ROLE_PUT, req->body);
    if (fields_from_json(ROLE_PUT, N_ELEMENTS(ROLE_PUT), req->body, "", req->arena, &spec, NULL, err) < 0 ||
        shape_same_name(req->body, http_param(req, "role_name"), err) < 0)
        return -1;
    spec.name = http_param(req, "role_name");
    spec.given = shape_given(req->arena, req->body, "name", NULL, NULL);
    if (intent_role_put(req->sched, req->arena, http_param(req, "project_id"), http_param(req, "branch_id"),
                        &spec, &out, &created, err) < 0)
        return -1;
    return res_json(res, created ? 201 : 200,
                    view_change("role", view_role(&out.roles[0], out.passwords[0]), &out));
}

int api_role_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_role_delete(req->sched, req->arena, http_param(req, "project_id"),
                           http_param(req, "branch_id"), http_param(req, "role_name"), &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("role", view_role(&out.roles[0], NULL), &out));
}

int api_role_reveal_password(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *password;

    if (intent_reveal_password(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "branch_id"), http_param(req, "role_name"), &password,
                               err) < 0)
        return -1;
    if (password == NULL)
        return err_set(err, ERR_PRECONDITION, "role \"%.63s\" has no password", http_param(req, "role_name"));
    return res_json(res, 200, json_pack("{s:o}", "password", http_text(password)));
}

int api_role_reset_password(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_role_reset_password(req->sched, req->arena, http_param(req, "project_id"),
                                   http_param(req, "branch_id"), http_param(req, "role_name"), &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("role", view_role(&out.roles[0], out.passwords[0]), &out));
}
