/*
 * h_schema.c - the schema of a database, and how two differ
 */
#include "scheduler/schema.h"

#include "api/find.h"
#include "api/routes.gen.h"

#include <string.h>

static int read_database(const struct http_req *req, const char **ret, struct err *err)
{
    *ret = http_query(req, "db_name");
    if (*ret == NULL || (*ret)[0] == '\0')
        return err_set(err, ERR_BAD_REQUEST, "the query parameter db_name is required: which database");
    return 0;
}

/* Of two parameters at most one; neither is the head. */
static int read_place(const struct http_req *req, const char *lsn, const char *timestamp,
                      struct schema_place *ret, struct err *err)
{
    *ret = (struct schema_place){ .lsn_pointer = arena_printf(req->arena, "/%s", lsn),
                                  .time_pointer = arena_printf(req->arena, "/%s", timestamp) };
    if (http_query(req, lsn) != NULL && http_query(req, timestamp) != NULL)
        return err_set(err, ERR_BAD_REQUEST, "the query parameters %s and %s exclude each other", lsn,
                       timestamp);
    if (http_query_lsn(req, lsn, &ret->lsn, err) < 0)
        return -1;
    return http_query_time(req, timestamp, &ret->time_us, err);
}

static int read_format(const struct http_req *req, bool *ret_json, struct err *err)
{
    const char *format = http_query(req, "format");

    *ret_json = format != NULL && strcmp(format, "json") == 0;
    if (format != NULL && !*ret_json && strcmp(format, "sql") != 0)
        return err_set(err, ERR_BAD_REQUEST, "the query parameter format must be sql or json");
    return 0;
}

static int answer_text(struct http_res *res, const char *key, struct buf *text)
{
    return res_json(res, 200, json_pack("{s:o}", key, http_text(buf_str(text))));
}

int api_branch_schema(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *database;
    struct branch b;
    struct schema_place at;
    json_t *json;
    bool as_json;
    auto_buf sql = { 0 };
    auto_dbc *c = NULL;

    if (read_database(req, &database, err) < 0 || read_format(req, &as_json, err) < 0 ||
        read_place(req, "lsn", "timestamp", &at, err) < 0 || db_read(sched_db(req->sched), &c, err) < 0 ||
        find_branch(req, c, &b, err) < 0)
        return -1;
    db_end(&c);
    at.branch = &b;
    if (as_json) {
        if (schema_json(req->sched, req->arena, &at, database, req->stopping, &json, err) < 0)
            return -1;
        return res_json(res, 200, json_pack("{s:o}", "json", json));
    }
    if (schema_sql(req->sched, req->arena, &at, database, req->stopping, &sql, err) < 0)
        return -1;
    return answer_text(res, "sql", &sql);
}

/* The branch of base_branch_id, else the parent. */
static int find_base(struct http_req *req, struct dbc *c, const struct branch *b, struct branch *ret,
                     struct err *err)
{
    const char *base = http_query(req, "base_branch_id");

    if (base == NULL && (b->parent_id == NULL || b->is_root))
        return err_field(
            err, ERR_INVALID, "/base_branch_id",
            "branch \"%s\" has no parent to compare with; say with base_branch_id what to compare with",
            b->name);
    if (base == NULL)
        return branch_get_id(c, req->arena, b->parent_id, ret, err);
    if (branch_get(c, req->arena, b->project_id, base, ret, err) == 0)
        return 0;
    return err->code == ERR_NOT_FOUND
               ? err_field(err, ERR_NOT_FOUND, "/base_branch_id", "branch not found: \"%.80s\"", base)
               : -1;
}

int api_branch_compare_schema(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *database;
    struct branch b, base_branch;
    struct schema_place at, base;
    auto_buf diff = { 0 };
    auto_dbc *c = NULL;

    if (read_database(req, &database, err) < 0 || read_place(req, "lsn", "timestamp", &at, err) < 0 ||
        read_place(req, "base_lsn", "base_timestamp", &base, err) < 0 ||
        db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        find_base(req, c, &b, &base_branch, err) < 0)
        return -1;
    db_end(&c);
    at.branch = &b;
    base.branch = &base_branch;
    if (schema_compare(req->sched, req->arena, &base, &at, database, req->stopping, &diff, err) < 0)
        return -1;
    return answer_text(res, "diff", &diff);
}
