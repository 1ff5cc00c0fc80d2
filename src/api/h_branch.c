/*
 * h_branch.c - branches
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/spec.h"
#include "api/view.h"
#include "base/fields.h"
#include "base/text.h"
#include "branch/history.h"
#include "scheduler/moment.h"

#include <string.h>

#define BRANCHES_MAX 10000 /* on a page */
#define LABELLED_MAX 1000  /* that one request deletes */

struct labelled {
    const char *label;
    bool hard_delete;
};

static int read_order(const struct http_req *req, struct page *page, const char **ret_by, struct err *err)
{
    const char *by = http_query(req, "sort_by"), *order = http_query(req, "sort_order");

    *ret_by = by != NULL ? by : "updated_at";
    if (strcmp(*ret_by, "name") != 0 && strcmp(*ret_by, "created_at") != 0 &&
        strcmp(*ret_by, "updated_at") != 0)
        return err_set(err, ERR_BAD_REQUEST,
                       "the query parameter sort_by must be name, created_at or updated_at");
    if (order != NULL && strcasecmp(order, "asc") != 0 && strcasecmp(order, "desc") != 0)
        return err_set(err, ERR_BAD_REQUEST, "the query parameter sort_order must be asc or desc");
    page->sort_by = *ret_by;
    page->ascending = order != NULL && strcasecmp(order, "asc") == 0;
    return 0;
}

/* "key:value"; keys have no colon here, values may. */
static int read_label(const struct http_req *req, const char *label, struct page *page, struct err *err)
{
    const char *colon = label != NULL ? strchr(label, ':') : NULL;

    if (label == NULL)
        return 0;
    if (colon == NULL || colon == label)
        return err_set(err, ERR_BAD_REQUEST, "the query parameter label must look like key:value");
    page->label = arena_strndup(req->arena, label, (size_t)(colon - label));
    page->label_value = colon + 1;
    return 0;
}

static json_t *branch_page(const struct branch *list, size_t n, const struct page *page, const char *by)
{
    json_t *branches = json_array(), *annotations = json_object(), *pagination = json_object();

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(branches, view_branch(&list[i]));
        if (list[i].annotations != NULL)
            json_object_set_new(annotations, list[i].id, view_annotation(&list[i]));
    }
    if (page->next != NULL)
        json_object_set_new(pagination, "next", json_string(page->next));
    json_object_set_new(pagination, "sort_by", json_string(by));
    json_object_set_new(pagination, "sort_order", json_string(page->ascending ? "ASC" : "DESC"));
    return json_pack("{s:o, s:o, s:o}", "branches", branches, "annotations", annotations, "pagination",
                     pagination);
}

int api_branch_list(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *by;
    struct project p;
    struct branch *list;
    struct page page;
    size_t n;
    auto_dbc *c = NULL;

    if (http_query_page(req, BRANCHES_MAX, &page, err) < 0 || read_order(req, &page, &by, err) < 0 ||
        http_query_bool(req, "include_deleted", false, &page.deleted, err) < 0 ||
        read_label(req, http_query(req, "label"), &page, err) < 0 ||
        db_read(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &p, err) < 0 ||
        branch_list(c, req->arena, p.id, &page, &list, &n, err) < 0)
        return -1;
    return res_json(res, 200, branch_page(list, n, &page, by));
}

int api_branch_count(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *search = http_query(req, "search");
    struct project p;
    int64_t n;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &p, err) < 0 ||
        branch_count(c, p.id, search != NULL && search[0] != '\0' ? search : NULL, &n, err) < 0)
        return -1;
    return res_json(res, 200, json_pack("{s:I}", "count", (json_int_t)n));
}

/* A string to connect with, where it is clear as whom and to what. */
static json_t *connection_uris(const struct sched_info *info, const struct outcome *out)
{
    struct view_connection c;
    size_t first = 0; /* that can write, if there is one */

    while (first + 1 < out->n_endpoints && strcmp(out->endpoints[first].type, "read_write") != 0)
        first++;
    if (out->n_endpoints == 0 || out->n_roles != 1 || out->n_databases != 1 || out->passwords == NULL ||
        out->passwords[0] == NULL)
        return NULL;
    c = (struct view_connection){ .endpoint_id = out->endpoints[first].id,
                                  .role = out->roles[0].name,
                                  .password = out->passwords[0],
                                  .database = out->databases[0].name };
    return json_pack("[o]", view_connection(info, &c));
}

static int answer_made(struct http_req *req, struct http_res *res, int status, const struct outcome *out)
{
    const struct sched_info *info = sched_info(req->sched);

    return res_json(
        res, status,
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o*}", "branch", view_branch(&out->branch), "endpoints",
                  view_endpoints(info, out->endpoints, out->n_endpoints), "operations",
                  view_operations(out->operations, out->n_operations), "roles",
                  view_roles(out->roles, out->new_passwords ? out->passwords : NULL, out->n_roles),
                  "databases", view_databases(out->databases, out->n_databases), "connection_uris",
                  connection_uris(info, out)));
}

int api_branch_create(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch_spec spec;
    struct outcome out;

    if (spec_branch_create(req, &spec, err) < 0 ||
        intent_branch_create(req->sched, req->arena, http_param(req, "project_id"), &spec, &out, err) < 0)
        return -1;
    return answer_made(req, res, 201, &out);
}

int api_branch_put(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *name = http_param(req, "branch_id");
    struct branch_spec spec;
    struct outcome out;
    bool created;

    if (spec_branch_put(req, name, &spec, err) < 0 ||
        intent_branch_put(req->sched, req->arena, http_param(req, "project_id"), name, &spec, &out, &created,
                          err) < 0)
        return -1;
    return answer_made(req, res, created ? 201 : 200, &out);
}

/* What can be reached, and what that costs. */
static int put_history(struct http_req *req, struct dbc *c, const struct branch *b, json_t *obj,
                       struct err *err)
{
    struct view_history h = { 0 };
    bool found;

    if (strcmp(b->state, "init") == 0)
        return 0;
    if (history_earliest(c, req->arena, b, &h.earliest_lsn, &h.earliest_timestamp, err) < 0 ||
        size_get(c, req->arena, b->id, &h.size, &found, err) < 0)
        return -1;
    json_object_set_new(obj, "history", view_history(&h));
    if (found)
        json_object_set_new(obj, "logical_size", json_integer(h.size.logical_bytes));
    return 0;
}

int api_branch_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    json_t *obj;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0)
        return -1;
    obj = view_branch(&b);
    if (put_history(req, c, &b, obj, err) < 0) {
        json_decref(obj);
        return -1;
    }
    return res_json(res, 200, json_pack("{s:o, s:o}", "branch", obj, "annotation", view_annotation(&b)));
}

/* Exactly one of the three; a bookmark is the caller's to look up. */
static int read_moment(struct http_req *req, uint64_t *ret_lsn, int64_t *ret_time_us, struct err *err)
{
    *ret_lsn = 0;
    *ret_time_us = 0;
    if ((http_query(req, "lsn") != NULL) + (http_query(req, "timestamp") != NULL) +
            (http_query(req, "bookmark") != NULL) !=
        1)
        return err_set(err, ERR_BAD_REQUEST, "give either timestamp, lsn or bookmark");
    if (http_query_lsn(req, "lsn", ret_lsn, err) < 0)
        return -1;
    return http_query_time(req, "timestamp", ret_time_us, err);
}

int api_branch_lsn(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct moment m;
    uint64_t lsn;
    int64_t time_us;
    const char *bookmark = http_query(req, "bookmark");
    char lsn_text[LSN_TEXT_SIZE], time_text[TIME_TEXT_SIZE];
    auto_dbc *c = NULL;

    if (read_moment(req, &lsn, &time_us, err) < 0 || db_read(sched_db(req->sched), &c, err) < 0 ||
        find_branch(req, c, &b, err) < 0)
        return -1;
    db_end(&c);
    if (bookmark != NULL && moment_of_bookmark(req->sched, req->arena, &b, bookmark, NULL, &m, err) < 0)
        return -1;
    if (bookmark == NULL && moment_resolve(req->sched, req->arena, &b, lsn, time_us, NULL, &m, err) < 0)
        return -1;
    return res_json(res, 200,
                    json_pack("{s:s, s:s, s:s}", "lsn", text_lsn(m.lsn, lsn_text), "timestamp",
                              text_time_us(m.time_us, time_text), "kind", moment_kind_name(m.kind)));
}

int api_branch_update(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch_spec spec;
    struct outcome out;

    if (spec_branch_update(req, &spec, err) < 0 ||
        intent_branch_update(req->sched, req->arena, http_param(req, "project_id"),
                             http_param(req, "branch_id"), &spec, &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("branch", view_branch(&out.branch), &out));
}

int api_branch_set_default(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_branch_set_default(req->sched, req->arena, http_param(req, "project_id"),
                                  http_param(req, "branch_id"), &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("branch", view_branch(&out.branch), &out));
}

int api_branch_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;
    bool hard;

    if (http_query_bool(req, "hard_delete", false, &hard, err) < 0 ||
        intent_branch_delete(req->sched, req->arena, http_param(req, "project_id"),
                             http_param(req, "branch_id"), hard, &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("branch", view_branch(&out.branch), &out));
}

/* --- all that have a label --- */

static const struct field DELETE_LABELLED[] = {
    FIELD(labelled, label, F_STR, F_REQUIRED, 2048),
    FIELD(labelled, hard_delete, F_BOOL, 0, 0),
};

static int list_labelled(struct http_req *req, const char *label, struct branch **ret, size_t *ret_n,
                         struct err *err)
{
    /* Children are younger than what they stand on, and go first. */
    struct page page = { .limit = LABELLED_MAX, .sort_by = "created_at" };
    struct project p;
    auto_dbc *c = NULL;

    if (read_label(req, label, &page, err) < 0)
        return err_field(err, ERR_INVALID, "/label", "label must look like key:value; nothing was deleted");
    if (db_read(sched_db(req->sched), &c, err) < 0 || find_project(req, c, &p, err) < 0)
        return -1;
    return branch_list(c, req->arena, p.id, &page, ret, ret_n, err);
}

static json_t *refused(const struct branch *b, const struct err *why)
{
    return json_pack("{s:s, s:o, s:s, s:o}", "id", b->id, "name", http_text(b->name), "code",
                     err_name(why->code), "message", http_text(why->msg));
}

/* One by one: one that cannot go (protected, with children that stay) holds up no other. */
int api_branch_delete_labelled(struct http_req *req, struct http_res *res, struct err *err)
{
    struct labelled l = { 0 };
    struct branch *list;
    json_t *gone, *kept, *operations;
    size_t n;

    if (fields_from_json(DELETE_LABELLED, N_ELEMENTS(DELETE_LABELLED), req->body, "", req->arena, &l, NULL,
                         err) < 0 ||
        list_labelled(req, l.label, &list, &n, err) < 0)
        return -1;
    gone = json_array();
    kept = json_array();
    operations = json_array();
    for (size_t i = 0; i < n; i++) {
        struct err why = ERR_INIT;
        struct outcome out;

        if (intent_branch_delete(req->sched, req->arena, list[i].project_id, list[i].id, l.hard_delete, &out,
                                 &why) < 0) {
            json_array_append_new(kept, refused(&list[i], &why));
            continue;
        }
        json_array_append_new(gone, view_branch(&out.branch));
        json_auto_t *more = view_operations(out.operations, out.n_operations);

        json_array_extend(operations, more);
    }
    return res_json(
        res, 200, json_pack("{s:o, s:o, s:o}", "branches", gone, "refused", kept, "operations", operations));
}

int api_branch_recover(struct http_req *req, struct http_res *res, struct err *err)
{
    struct outcome out;

    if (intent_branch_recover(req->sched, req->arena, http_param(req, "project_id"),
                              http_param(req, "branch_id"), &out, err) < 0)
        return -1;
    return res_json(res, 200, view_change("branch", view_branch(&out.branch), &out));
}
