/*
 * h_bookmark.c - bookmarks of a branch
 */
#include "api/find.h"
#include "api/routes.gen.h"
#include "api/spec.h"
#include "api/view.h"
#include "branch/history.h"

/* Does nothing keep its place any more?  b: the branch. */
static int has_expired(struct http_req *req, struct dbc *c, const struct branch *b,
                       const struct bookmark *bookmark, bool *ret, struct err *err)
{
    uint64_t earliest;
    int64_t time_us;

    *ret = false;
    if (bookmark->hold_id != NULL)
        return 0;
    if (history_earliest(c, req->arena, b, &earliest, &time_us, err) < 0)
        return -1;
    *ret = bookmark->lsn < earliest;
    return 0;
}

/* The answer with one bookmark, as it stands now. */
static int answer(struct http_req *req, struct http_res *res, int status, const struct bookmark *bookmark,
                  struct err *err)
{
    struct branch b;
    bool expired;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 ||
        branch_get_id(c, req->arena, bookmark->branch_id, &b, err) < 0 ||
        has_expired(req, c, &b, bookmark, &expired, err) < 0)
        return -1;
    return res_json(res, status, json_pack("{s:o}", "bookmark", view_bookmark(bookmark, expired)));
}

int api_bookmark_list(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct bookmark *list;
    size_t n;
    json_auto_t *bookmarks = json_array();
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        bookmark_list(c, req->arena, b.id, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        bool expired;

        if (has_expired(req, c, &b, &list[i], &expired, err) < 0)
            return -1;
        json_array_append_new(bookmarks, view_bookmark(&list[i], expired));
    }
    return res_json(res, 200, json_pack("{s:O}", "bookmarks", bookmarks));
}

int api_bookmark_get(struct http_req *req, struct http_res *res, struct err *err)
{
    struct branch b;
    struct bookmark bookmark;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || find_branch(req, c, &b, err) < 0 ||
        bookmark_get(c, req->arena, b.id, http_param(req, "bookmark_name"), &bookmark, err) < 0)
        return -1;
    db_end(&c);
    return answer(req, res, 200, &bookmark, err);
}

int api_bookmark_put(struct http_req *req, struct http_res *res, struct err *err)
{
    struct bookmark_spec spec;
    struct bookmark bookmark;
    bool created;

    if (spec_bookmark(req, &spec, err) < 0 ||
        intent_bookmark_put(req->sched, req->arena, http_param(req, "project_id"),
                            http_param(req, "branch_id"), http_param(req, "bookmark_name"), &spec, &bookmark,
                            &created, err) < 0)
        return -1;
    return answer(req, res, created ? 201 : 200, &bookmark, err);
}

int api_bookmark_delete(struct http_req *req, struct http_res *res, struct err *err)
{
    struct bookmark bookmark;

    if (intent_bookmark_delete(req->sched, req->arena, http_param(req, "project_id"),
                               http_param(req, "branch_id"), http_param(req, "bookmark_name"), &bookmark,
                               err) < 0)
        return -1;
    return answer(req, res, 200, &bookmark, err);
}
