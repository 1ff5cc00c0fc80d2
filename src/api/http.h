/*
 * http.h - a request and its answer, as handlers see them; no HTTP library in sight
 *
 * A handler returns 0 after res_json(), or -1 with err filled: the server renders the error.  Everything it allocates from req->arena
 * dies with the request.
 */
#ifndef MERE_HTTP_H
#define MERE_HTTP_H

#include "base/arena.h"
#include "base/err.h"
#include "scheduler/sched.h"

#include <jansson.h>

struct http_param {
    const char *name, *value; /* decoded */
};

struct http_req {
    struct arena *arena;
    struct sched *sched;
    const char *method;
    const char *path;       /* as sent, without the query */
    const char *request_id;
    const char *peer;       /* address of the client */
    const char *account;    /* who the key is: "admin" or an API key's id */
    struct http_param path_params[4];
    size_t n_path_params;
    struct http_param query[32];
    size_t n_query;
    json_t *body;           /* an object, empty when none was sent */
};

struct http_res {
    int status;
    json_t *body; /* owned; the server frees it */
    const char *location; /* NULL, or the Location header; in the request's arena */
};

/* A path parameter of the route; never NULL for names the route has. */
const char *http_param(const struct http_req *req, const char *name);
/* A query parameter, or NULL. */
const char *http_query(const struct http_req *req, const char *name);
/* Absent: def.  Not a number in [min, max]: ERR_BAD_REQUEST naming the parameter. */
int http_query_i64(const struct http_req *req, const char *name, int64_t min, int64_t max, int64_t def, int64_t *ret, struct err *err) MUST_CHECK;
int http_query_bool(const struct http_req *req, const char *name, bool def, bool *ret, struct err *err) MUST_CHECK;

/* Takes body over.  Returns 0. */
int res_json(struct http_res *res, int status, json_t *body);

#endif
