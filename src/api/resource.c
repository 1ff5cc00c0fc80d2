/*
 * resource.c - ETags, conditions and specs
 *
 * On the threads of the connections.
 */
#include "api/resource.h"

#include "base/crypt.h"
#include "base/text.h"
#include "meta/branch.h"
#include "meta/endpoint.h"
#include "meta/role.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HALF_BYTES 8

struct resource {
    const char *kind, *id;
    const char *name; /* NULL = it has none */
    const char *spec; /* what was set; JSON or NULL */
    const char *set;  /* differs when somebody has changed it */
};

/* --- finding one: 1, 0 = there is none, -1 --- */

static int none_or(struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *err = (struct err)ERR_INIT;
    return 0;
}

static const char *at(struct arena *a, int64_t updated_at)
{
    return arena_printf(a, "%" PRId64, updated_at);
}

static int give_branch(int rc, struct arena *a, const struct branch *b, struct resource *ret, struct err *err)
{
    if (rc < 0)
        return none_or(err);
    *ret = (struct resource){ "branch", b->id, b->name, b->spec, at(a, b->updated_at) };
    return 1;
}

/* Its row is touched whenever it starts or stops, which is no change of it. */
static int give_endpoint(int rc, struct arena *a, const struct endpoint *e, struct resource *ret,
                         struct err *err)
{
    if (rc < 0)
        return none_or(err);
    const char *name = e->name ? e->name : "", *pg = e->pg_settings ? e->pg_settings : "",
               *preload = e->preload_libraries ? e->preload_libraries : "";
    *ret = (struct resource){ "endpoint", e->id, e->name, e->spec,
                              arena_printf(a, "%s/%s/%d/%d/%" PRId64 "/%g/%g/%s/%s", e->branch_id, name,
                                           e->disabled, e->park_sessions, e->suspend_timeout_seconds,
                                           e->min_cu, e->max_cu, pg, preload) };
    return 1;
}

static int find_role(struct dbc *c, struct arena *a, const char *branch_id, const char *name,
                     struct resource *ret, struct err *err)
{
    struct role r;

    if (role_get(c, a, branch_id, name, &r, err) < 0)
        return none_or(err);
    *ret = (struct resource){ "role", arena_printf(a, "%s/%s", branch_id, r.name), r.name, r.spec,
                              at(a, r.updated_at) };
    return 1;
}

static int find_database(struct dbc *c, struct arena *a, const char *branch_id, const char *name,
                         struct resource *ret, struct err *err)
{
    struct database d;

    if (database_get(c, a, branch_id, name, &d, err) < 0)
        return none_or(err);
    *ret = (struct resource){ "database", arena_printf(a, "%" PRId64, d.id), d.name, d.spec,
                              at(a, d.updated_at) };
    return 1;
}

/* The one that the path names last. */
static int find_by_path(struct http_req *req, struct dbc *c, struct resource *ret, struct err *err)
{
    const char *project = http_param_find(req, "project_id"), *endpoint = http_param_find(req, "endpoint_id");
    const char *branch = http_param_find(req, "branch_id"), *role = http_param_find(req, "role_name"),
               *database = http_param_find(req, "database_name");
    struct branch b;
    struct endpoint e;

    if (project != NULL && endpoint != NULL)
        return give_endpoint(endpoint_get(c, req->arena, project, endpoint, &e, err), req->arena, &e, ret,
                             err);
    if (project == NULL || branch == NULL)
        return 0;
    if (branch_get(c, req->arena, project, branch, &b, err) < 0)
        return none_or(err);
    if (role != NULL)
        return find_role(c, req->arena, b.id, role, ret, err);
    if (database != NULL)
        return find_database(c, req->arena, b.id, database, ret, err);
    return give_branch(0, req->arena, &b, ret, err);
}

static int show_endpoint(struct http_req *req, struct dbc *c, json_t *one, struct resource *ret,
                         struct err *err)
{
    struct endpoint e;

    return give_endpoint(endpoint_get_id(c, req->arena, http_member(one, "id"), &e, err), req->arena, &e, ret,
                         err);
}

static int show_branch(struct http_req *req, struct dbc *c, json_t *one, struct resource *ret,
                       struct err *err)
{
    struct branch b;

    return give_branch(branch_get_id(c, req->arena, http_member(one, "id"), &b, err), req->arena, &b, ret,
                       err);
}

static int show_role(struct http_req *req, struct dbc *c, json_t *one, struct resource *ret, struct err *err)
{
    return find_role(c, req->arena, http_member(one, "branch_id"), http_member(one, "name"), ret, err);
}

static int show_database(struct http_req *req, struct dbc *c, json_t *one, struct resource *ret,
                         struct err *err)
{
    return find_database(c, req->arena, http_member(one, "branch_id"), http_member(one, "name"), ret, err);
}

/* The one that an answer is about; an answer about none costs nothing. */
static int find_by_body(struct http_req *req, json_t *body, struct resource *ret, struct err *err)
{
    static const struct {
        const char *name;
        int (*find)(struct http_req *req, struct dbc *c, json_t *one, struct resource *ret, struct err *err);
    } KINDS[] = {
        { "endpoint", show_endpoint },
        { "role", show_role },
        { "database", show_database },
        { "branch", show_branch },
    };
    auto_dbc *c = NULL;

    for (size_t i = 0; i < N_ELEMENTS(KINDS); i++) {
        json_t *one = json_object_get(body, KINDS[i].name);

        if (json_is_object(one))
            return db_read(sched_db(req->sched), &c, err) < 0 ? -1 : KINDS[i].find(req, c, one, ret, err);
    }
    return 0;
}

/* --- tags --- */

static const char *half(struct arena *a, const char *text)
{
    uint8_t hash[CRYPT_SHA256_SIZE];

    crypt_sha256(text, strlen(text), hash);
    return crypt_hex(a, hash, HALF_BYTES);
}

static const char *set_half(struct arena *a, const struct resource *r)
{
    return half(a, arena_printf(a, "%s/%s/%s", r->kind, r->id, r->set));
}

static const char *tag_of(struct arena *a, const struct resource *r, json_t *body)
{
    auto_free char *text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(15));

    return arena_printf(a, "\"%s.%s\"", set_half(a, r), half(a, text));
}

/* Is one of the tags in the header ("*", or a list of quoted ones) it?  len: so much of it counts. */
static bool is_listed(const char *header, const char *tag, size_t len)
{
    if (strcmp(header, "*") == 0)
        return true;
    for (const char *at = header; (at = strchr(at, '"')) != NULL;) {
        const char *end = strchr(at + 1, '"');

        if (end == NULL)
            return false;
        if (strncmp(at, tag, len) == 0)
            return true;
        at = end + 1;
    }
    return false;
}

/* --- conditions --- */

static int guard(struct dbc *c, void *arg, struct err *err)
{
    struct http_req *req = arg;
    struct resource r;
    int found = find_by_path(req, c, &r, err);
    const char *tag = found == 1 ? arena_printf(req->arena, "\"%s.", set_half(req->arena, &r)) : NULL;

    if (found < 0)
        return -1;
    if (req->if_match != NULL && (tag == NULL || !is_listed(req->if_match, tag, strlen(tag))))
        return err_set(err, ERR_PRECONDITION,
                       "If-Match: %s; nothing was changed: read it again, and send the ETag of that answer",
                       tag == NULL ? "there is nothing here" : "somebody has changed it since");
    if (req->if_none_match != NULL && tag != NULL && is_listed(req->if_none_match, tag, strlen(tag)))
        return err_set(err, ERR_PRECONDITION, "If-None-Match: it is there already; nothing was changed");
    return 0;
}

void resource_guard_begin(struct http_req *req)
{
    if ((req->if_match != NULL || req->if_none_match != NULL) && strcmp(req->method, "GET") != 0)
        db_when_begun(guard, req);
}

void resource_guard_end(void)
{
    db_when_begun(NULL, NULL);
}

/* --- showing --- */

int resource_read_view(const struct http_req *req, bool *ret_spec, struct err *err)
{
    const char *view = http_query(req, "view");

    *ret_spec = view != NULL && strcmp(view, "spec") == 0;
    if (view != NULL && !*ret_spec && strcmp(view, "full") != 0)
        return err_set(err, ERR_BAD_REQUEST,
                       "the query parameter view must be spec or full; nothing was changed");
    return 0;
}

static json_t *spec_of(const struct resource *r)
{
    json_t *spec = json_object();
    json_auto_t *set = r->spec != NULL ? json_loads(r->spec, 0, NULL) : NULL;

    if (r->name != NULL)
        json_object_set_new(spec, "name", http_text(r->name));
    json_object_update_missing(spec, set);
    return spec;
}

static void show_spec(const struct resource *r, struct http_res *res)
{
    json_decref(res->body);
    res->body = spec_of(r);
}

int resource_show(struct http_req *req, bool spec, struct http_res *res, struct err *err)
{
    bool read = strcmp(req->method, "GET") == 0;
    struct resource r;
    const char *tag;
    int found;

    if (res->body == NULL || strcmp(req->method, "DELETE") == 0)
        return 0;
    found = find_by_body(req, res->body, &r, err);
    if (found <= 0)
        return found;
    if (spec)
        show_spec(&r, res);
    tag = tag_of(req->arena, &r, res->body);
    res_header(res, "ETag", tag);
    if (read && req->if_none_match != NULL && is_listed(req->if_none_match, tag, strlen(tag))) {
        json_decref(TAKE(res->body));
        res->status = 304;
    }
    return 0;
}
