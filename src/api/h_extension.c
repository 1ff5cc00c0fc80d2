/*
 * h_extension.c - extensions of a database
 */
#include "api/routes.gen.h"
#include "api/view.h"
#include "base/fields.h"

#define TEXT_MAX_BYTES 1024 /* the intent has the exact limit */

static struct extension_place place(struct http_req *req)
{
    return (struct extension_place){ .project_id = http_param(req, "project_id"),
                                     .branch = http_param(req, "branch_id"),
                                     .database = http_param(req, "database_name") };
}

static struct extension_place named(struct http_req *req)
{
    struct extension_place at = place(req);

    at.name = http_param(req, "extension_name");
    return at;
}

int api_extension_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct extension_place at = place(req);
    struct extension_info *list;
    json_t *array;
    size_t n;

    if (intent_extension_list(req->sched, req->arena, &at, &list, &n, err) < 0)
        return -1;
    array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, view_extension(&list[i]));
    return res_json(res, 200, json_pack("{s:o}", "extensions", array));
}

int api_extension_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct extension_place at = named(req);
    struct extension_info e;

    if (intent_extension_get(req->sched, req->arena, &at, &e, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:o}", "extension", view_extension(&e)));
}

struct extension_body {
    const char *version, *schema;
};

static const struct field EXTENSION[] = {
    FIELD(extension_body, version, F_STR, 0, TEXT_MAX_BYTES),
    FIELD(extension_body, schema, F_STR, 0, TEXT_MAX_BYTES),
};

int api_extension_put(struct http_req *req, struct http_res *res, struct err *err)
{
    static const char *const KEYS[] = { "extension" };
    struct extension_place at = named(req);
    struct extension_body b = { 0 };
    struct extension_info e;
    struct outcome out;
    json_t *obj;

    if (http_known_keys(req->body, KEYS, N_ELEMENTS(KEYS), err) < 0 ||
        http_body_object(req, "extension", false, &obj, err) < 0 ||
        (obj != NULL && fields_from_json(EXTENSION, N_ELEMENTS(EXTENSION), obj, "/extension", req->arena, &b,
                                         NULL, err) < 0) ||
        intent_extension_put(req->sched, req->arena, &at, b.version, b.schema, &e, &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("extension", view_extension(&e), &out));
}

int api_extension_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct extension_place at = named(req);
    struct extension_info e;
    struct outcome out;

    if (intent_extension_delete(req->sched, req->arena, &at, &e, &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("extension", view_extension(&e), &out));
}
