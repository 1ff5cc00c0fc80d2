/*
 * h_permission.c - who was named as having access to a project
 *
 * There is one account: what is granted is kept and shown, and opens nothing.
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "base/clock.h"
#include "base/fields.h"
#include "base/id.h"
#include "base/text.h"
#include "meta/permission.h"

#include <string.h>

#define EMAIL_MAX 256

static const struct field PERMISSION[] = {
    FIELD(permission, id, F_STR, 0, 0),
    FIELD(permission, granted_to_email, F_STR, 0, 0),
    FIELD(permission, granted_at, F_TIME, 0, 0),
};

static json_t *view(const struct permission *p)
{
    return fields_to_json(PERMISSION, N_ELEMENTS(PERMISSION), p);
}

int api_permission_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project p;
    struct permission *list;
    size_t n;
    json_t *array;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &p, err) < 0 ||
        permission_list(c, req->arena, p.id, &list, &n, err) < 0)
        return -1;
    array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, view(&list[i]));
    return res_json(res, 200, json_pack("{s:o}", "project_permissions", array));
}

struct grant_body {
    const char *email;
};

static const struct field GRANT[] = {
    FIELD(grant_body, email, F_STR, F_REQUIRED, 1024),
};

static int read_email(struct http_req *req, const char **ret, struct err *err)
{
    struct grant_body b = { 0 };
    const char *at;

    if (fields_from_json(GRANT, N_ELEMENTS(GRANT), req->body, "", req->arena, &b, NULL, err) < 0)
        return -1;
    at = strrchr(b.email, '@');
    if (!text_is_name(b.email, EMAIL_MAX) || strchr(b.email, ' ') != NULL || at == NULL || at == b.email ||
        at[1] == '\0')
        return err_field(err, ERR_INVALID, "/email", "email must be an address of at most %d bytes",
                         EMAIL_MAX);
    *ret = b.email;
    return 0;
}

int api_permission_grant(struct http_req *req, struct http_res *res, struct err *err)
{
    struct permission p = { .id = id_uuid(req->arena), .granted_at = clock_wall_us() };
    struct project project;
    auto_dbc *c = NULL;

    if (read_email(req, &p.granted_to_email, err) < 0 || db_write(sched_db(req->sched), &c, err) < 0 ||
        find_project(req, c, &project, err) < 0)
        return -1;
    p.project_id = project.id;
    if (permission_insert(c, &p, err) < 0 || db_commit(c, err) < 0)
        return -1;
    return res_json(res, 200, view(&p));
}

int api_permission_revoke(struct http_req *req, struct http_res *res, struct err *err)
{
    struct project project;
    struct permission p;
    char now[TIME_TEXT_SIZE];
    json_t *obj;
    auto_dbc *c = NULL;

    if (db_write(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &project, err) < 0 ||
        permission_get(c, req->arena, project.id, http_param(req, "permission_id"), &p, err) < 0 ||
        permission_delete(c, p.id, err) < 0 || db_commit(c, err) < 0)
        return -1;
    obj = view(&p);
    json_object_set_new(obj, "revoked_at", json_string(text_time(clock_wall_us(), now)));
    return res_json(res, 200, obj);
}
