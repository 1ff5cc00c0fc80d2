/*
 * h_account.c - who calls: the user, the organisation, keys, regions
 */
#include "api/routes.gen.h"
#include "api/view.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/fields.h"
#include "base/id.h"
#include "base/text.h"
#include "meta/apikey.h"

#include <string.h>

#define KEY_NAME_MAX 64

int api_auth_get(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)err;
    return res_json(res, 200,
                    json_pack("{s:s, s:s, s:s}", "account_id", VIEW_USER_ID, "auth_method", "api_key_user",
                              "auth_data", req->account));
}

int api_user_me(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)req;
    (void)err;
    return res_json(res, 200, view_user());
}

int api_user_organizations(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)req;
    (void)err;
    return res_json(res, 200, json_pack("{s:[o]}", "organizations", view_organization()));
}

int api_organization_get(struct http_req *req, struct http_res *res, struct err *err)
{
    if (strcmp(http_param(req, "org_id"), VIEW_ORG_ID) != 0)
        return err_set(err, ERR_NOT_FOUND, "organization not found; there is one here: \"%s\"", VIEW_ORG_ID);
    return res_json(res, 200, view_organization());
}

int api_region_list(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)err;
    return res_json(res, 200, json_pack("{s:[o]}", "regions", view_region(sched_info(req->sched))));
}

/* --- API keys --- */

static const struct field KEY[] = {
    FIELD(apikey, id, F_I64, 0, 0),
    FIELD(apikey, name, F_STR, 0, 0),
    FIELD(apikey, created_at, F_TIME, 0, 0),
    FIELD(apikey, last_used_at, F_TIME, 0, 0),
};

static json_t *view_key(const struct apikey *k, json_t *created_by)
{
    json_t *obj = fields_to_json(KEY, N_ELEMENTS(KEY), k);

    json_object_set_new(obj, "created_by", created_by);
    json_object_set_new(obj, "last_used_from_addr",
                        http_text(k->last_used_addr != NULL ? k->last_used_addr : ""));
    return obj;
}

int api_apikey_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct apikey *list;
    size_t n;
    json_t *array;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || apikey_list(c, req->arena, &list, &n, err) < 0)
        return -1;
    array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, view_key(&list[i], json_pack("{s:s, s:s, s:s}", "id", VIEW_USER_ID,
                                                                  "name", "admin", "image", "")));
    return res_json(res, 200, array);
}

struct key_body {
    const char *key_name;
};

static const struct field KEY_CREATE[] = {
    FIELD(key_body, key_name, F_STR, F_REQUIRED, 1024),
};

static int insert_key(struct http_req *req, struct apikey *key, const char *token, struct err *err)
{
    uint8_t hash[CRYPT_SHA256_SIZE];
    auto_dbc *c = NULL;

    crypt_sha256(token, strlen(token), hash);
    if (db_write(sched_db(req->sched), &c, err) < 0 ||
        apikey_insert(c, key->name, hash, key->created_at, &key->id, err) < 0)
        return -1;
    return db_commit(c, err);
}

int api_apikey_create(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *token = id_token(req->arena);
    struct apikey key = { .created_at = clock_wall_us() };
    struct key_body b = { 0 };
    json_t *obj;

    if (fields_from_json(KEY_CREATE, N_ELEMENTS(KEY_CREATE), req->body, "", req->arena, &b, NULL, err) < 0)
        return -1;
    if (!text_is_name(b.key_name, KEY_NAME_MAX))
        return err_field(err, ERR_INVALID, "/key_name",
                         "key_name must be 1 to %d bytes of printable UTF-8, without a blank at either end",
                         KEY_NAME_MAX);
    key.name = b.key_name;
    if (insert_key(req, &key, token, err) < 0)
        return -1;
    obj = fields_to_json(KEY, N_ELEMENTS(KEY), &key);
    json_object_set_new(obj, "key", json_string(token));
    json_object_set_new(obj, "created_by", json_string(VIEW_USER_ID));
    return res_json(res, 200, obj);
}

int api_apikey_revoke(struct http_req *req, struct http_res *res, struct err *err)
{
    struct apikey key;
    int64_t id;
    json_t *obj;
    auto_dbc *c = NULL;

    if (!text_to_i64(http_param(req, "key_id"), 1, INT64_MAX, &id))
        return err_set(err, ERR_NOT_FOUND, "api key not found");
    if (db_write(sched_db(req->sched), &c, err) < 0 ||
        apikey_revoke(c, req->arena, id, clock_wall_us(), &key, err) < 0 || db_commit(c, err) < 0)
        return -1;
    obj = view_key(&key, json_string(VIEW_USER_ID));
    json_object_set_new(obj, "revoked", json_true());
    return res_json(res, 200, obj);
}
