/*
 * settle.c - waiting for the operations of an answer
 *
 * On the thread of the connection, which waits for nothing else.  Works on the answer as JSON, so that every
 * change can be waited for in one way.
 */
#include "api/settle.h"

#include "api/view.h"
#include "base/clock.h"
#include "base/text.h"

#include <string.h>

#define TIMEOUT_S     30  /* when nothing is said: AI clients and proxies give up at 60 */
#define WAIT_SLICE_MS 500 /* how long a server that wants to stop may have to wait for a waiting client */

/* --- what is asked for --- */

/* "respond-async, wait=10": the number, or -1. */
static int64_t preferred_wait(const char *prefer)
{
    const char *at = prefer;

    while (at != NULL && *at != '\0') {
        int64_t seconds;
        auto_free char *token = NULL;

        at += strspn(at, ", \t");
        token = xasprintf("%.*s", (int)strcspn(at, ",; \t"), at);
        at += strcspn(at, ",");
        if (strncasecmp(token, "wait=", 5) == 0 && text_to_i64(token + 5, 0, INT64_MAX, &seconds))
            return seconds;
    }
    return -1;
}

int settle_read(const struct http_req *req, struct settling *ret, struct err *err)
{
    const char *wait = http_query(req, "wait");
    int64_t preferred = preferred_wait(req->prefer);

    *ret = (struct settling){ 0 };
    if (strcmp(req->method, "GET") == 0) /* what waits there has words of its own */
        return 0;
    if (wait != NULL && strcmp(wait, "ready") != 0 && strcmp(wait, "true") != 0 && strcmp(wait, "false") != 0)
        return err_set(err, ERR_BAD_REQUEST,
                       "the query parameter wait must be ready, true or false; nothing was changed");
    if (http_query_i64(req, "timeout", 0, SETTLE_MAX_S, TIMEOUT_S, &ret->timeout_s, err) < 0)
        return -1;
    ret->asked = wait != NULL && strcmp(wait, "false") != 0;
    if (wait != NULL || preferred < 0)
        return 0;
    ret->asked = ret->preferred = true;
    ret->timeout_s = preferred < SETTLE_MAX_S ? preferred : SETTLE_MAX_S; /* as much of it as we honour */
    return 0;
}

/* --- waiting --- */

static bool is_open(json_t *operation)
{
    const char *status = http_member(operation, "status");

    return strcmp(status, "scheduling") == 0 || strcmp(status, "running") == 0;
}

int settle_operation(struct http_req *req, const char *id, int64_t deadline_ms, struct err *err)
{
    int rc = 0;

    for (int64_t left; rc == 0 && !http_stopping(req) && (left = deadline_ms - clock_mono_ms()) > 0;)
        rc = sched_wait_operation(req->sched, id, (int)(left < WAIT_SLICE_MS ? left : WAIT_SLICE_MS), err);
    return rc < 0 ? -1 : 0;
}

/* --- showing it again --- */

static json_t *show_branch(struct http_req *req, struct dbc *c, const char *id, struct err *err)
{
    struct branch b;

    return branch_get_id(c, req->arena, id, &b, err) == 0 ? view_branch(&b) : NULL;
}

static json_t *show_endpoint(struct http_req *req, struct dbc *c, const char *id, struct err *err)
{
    struct endpoint e;

    return endpoint_get_id(c, req->arena, id, &e, err) == 0 ? view_endpoint(sched_info(req->sched), &e)
                                                            : NULL;
}

static json_t *show_operation(struct http_req *req, struct dbc *c, const char *id, struct err *err)
{
    struct operation o;

    return operation_get_id(c, req->arena, id, &o, err) == 0 ? view_operation(&o) : NULL;
}

typedef json_t *(*show_fn)(struct http_req *req, struct dbc *c, const char *id, struct err *err);

/* What is gone stays as it was shown. */
static int show_again(struct http_req *req, struct dbc *c, json_t *one, show_fn show, struct err *err)
{
    json_auto_t *now = show(req, c, http_member(one, "id"), err);

    if (now == NULL && err->code != ERR_NOT_FOUND)
        return -1;
    if (now != NULL) {
        json_object_clear(one);
        json_object_update(one, now);
    }
    return 0;
}

/* What else is in answers does not change by work. */
static int show_all(struct http_req *req, json_t *body, struct err *err)
{
    static const struct {
        const char *name;
        show_fn show;
    } SHOWN[] = {
        { "branch", show_branch },
        { "endpoint", show_endpoint },
        { "endpoints", show_endpoint },
        { "operations", show_operation },
    };
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0)
        return -1;
    for (size_t i = 0; i < N_ELEMENTS(SHOWN); i++) {
        json_t *value = json_object_get(body, SHOWN[i].name), *one;
        size_t k;

        if (json_is_object(value) && show_again(req, c, value, SHOWN[i].show, err) < 0)
            return -1;
        json_array_foreach(value, k, one)
        {
            if (show_again(req, c, one, SHOWN[i].show, err) < 0)
                return -1;
        }
    }
    *err = (struct err)ERR_INIT;
    return 0;
}

static int look_at_end(struct http_req *req, json_t *operations, struct http_res *res, struct err *err)
{
    json_t *one;
    size_t i;

    json_array_foreach(operations, i, one)
    {
        if (strcmp(http_member(one, "status"), "failed") == 0)
            return err_set(err, ERR_CONFLICT, "the change was accepted, and its work failed: %s",
                           http_member(one, "error"));
    }
    json_array_foreach(operations, i, one)
    {
        if (!is_open(one))
            continue;
        res->status = 202;
        res_header(res, "Location",
                   arena_printf(req->arena, "/api/v2/projects/%s/operations/%s",
                                http_member(one, "project_id"), http_member(one, "id")));
        break;
    }
    return 0;
}

int settle(struct http_req *req, const struct settling *how, struct http_res *res, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + how->timeout_s * 1000;
    json_t *operations = json_object_get(res->body, "operations"), *one;
    size_t i;

    if (!how->asked || operations == NULL)
        return 0;
    json_array_foreach(operations, i, one)
    {
        if (is_open(one) && settle_operation(req, http_member(one, "id"), deadline_ms, err) < 0)
            return -1;
    }
    if (how->preferred)
        res_header(res, "Preference-Applied",
                   arena_printf(req->arena, "wait=%lld", (long long)how->timeout_s));
    if (show_all(req, res->body, err) < 0)
        return -1;
    return look_at_end(req, operations, res, err);
}
