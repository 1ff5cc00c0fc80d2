/*
 * http.h - a request and its answer, as handlers see them; no HTTP library in sight
 *
 * A handler returns 0 after res_json(), or -1 with err filled: the server renders the error.  Everything it
 * allocates from req->arena dies with the request.
 */
#ifndef MERE_HTTP_H
#define MERE_HTTP_H

#include "base/arena.h"
#include "base/err.h"
#include "scheduler/sched.h"

#include <jansson.h>
#include <stdatomic.h>

#define HTTP_PARAMS_MAX  4
#define HTTP_QUERY_MAX   32
#define HTTP_HEADERS_MAX 4

struct http_param {
    const char *name, *value; /* decoded, valid UTF-8 */
};

struct http_req {
    struct arena *arena; /* without cap: what can enlarge it (body, lists) has a limit of its own */
    struct sched *sched;
    const char *method;
    const char *target; /* as sent */
    const char *path;   /* the same without the query */
    const char *request_id;
    const char *peer;    /* address of the client */
    const char *account; /* who the key is: "admin" or an API key's id */
    struct http_param path_params[HTTP_PARAMS_MAX];
    size_t n_path_params;
    struct http_param query[HTTP_QUERY_MAX];
    size_t n_query;
    /* Headers as they were sent; NULL = not sent. */
    const char *prefer, *if_match, *if_none_match, *idempotency_key;
    json_t *body;                /* an object, empty when none was sent; the server frees it */
    const atomic_bool *stopping; /* the server is about to stop: wait for nothing any more; NULL = never */
};

struct http_res {
    int status;
    json_t *body;     /* owned; the server frees it; NULL: text, or nothing at all (304) */
    const char *text; /* in the request's arena */
    const char *type; /* of the text */
    struct http_param headers[HTTP_HEADERS_MAX]; /* beside those that every answer has */
    size_t n_headers;
};

/* Splits a request target ("/a/b?c=d", or with scheme and host before it) into path and decoded query. */
int http_parse_target(struct http_req *req, const char *target, struct err *err) MUST_CHECK;
/* Takes over an id that a client may choose, or makes one: 1 to 128 visible characters. */
void http_set_request_id(struct http_req *req, const char *given);

/* Is the server about to stop?  Then nothing is waited for any more. */
bool http_stopping(const struct http_req *req);

/* A path parameter of the route; never NULL for names the route has. */
const char *http_param(const struct http_req *req, const char *name);
/* The same, NULL for names the route has not. */
const char *http_param_find(const struct http_req *req, const char *name);
/* A query parameter, or NULL. */
const char *http_query(const struct http_req *req, const char *name);
/* Absent: def.  Not a number in [min, max]: ERR_BAD_REQUEST naming the parameter. */
int http_query_i64(const struct http_req *req, const char *name, int64_t min, int64_t max, int64_t def,
                   int64_t *ret, struct err *err) MUST_CHECK;
int http_query_bool(const struct http_req *req, const char *name, bool def, bool *ret,
                    struct err *err) MUST_CHECK;
/* Absent: 0.  Else a place or a time that is not 0, which says "not given" from here on. */
int http_query_lsn(const struct http_req *req, const char *name, uint64_t *ret, struct err *err) MUST_CHECK;
int http_query_time(const struct http_req *req, const char *name, int64_t *ret_us,
                    struct err *err) MUST_CHECK;
/* limit (1 to max; max when absent), cursor, search and name of a list.  Sort order is the caller's. */
int http_query_page(const struct http_req *req, int64_t max, struct page *ret, struct err *err) MUST_CHECK;

/*
 * The body of a request.  ERR_BAD_REQUEST when it is no JSON (duplicate keys, nesting beyond 32, bad UTF-8,
 * NUL included), ERR_INVALID when it is JSON but not an object.  Nothing or only blanks is an empty object.
 */
int http_parse_body(const char *data, size_t len, json_t **ret, struct err *err) MUST_CHECK;
/* ERR_INVALID with a pointer unless every key of the body is among the names. */
int http_known_keys(json_t *body, const char *const *names, size_t n, struct err *err) MUST_CHECK;
/* The object that a body wraps its members in ("/branch"); NULL when absent and not required. */
int http_body_object(const struct http_req *req, const char *key, bool required, json_t **ret,
                     struct err *err) MUST_CHECK;

/* A JSON string whatever the bytes are: what is no UTF-8 becomes '?'.  Never NULL. */
json_t *http_text(const char *s);
/* The text of a member; "" when it has none. */
const char *http_member(json_t *obj, const char *name);
/* The body of an error answer. */
json_t *http_error_json(const struct http_req *req, const struct err *err);
/* "Not Found" */
const char *http_status_text(int status);

/* Takes body over.  Returns 0. */
int res_json(struct http_res *res, int status, json_t *body);
/* text lives as long as the request does.  Returns 0. */
int res_text(struct http_res *res, int status, const char *type, const char *text);
/* name is a constant, value lives as long as the request does. */
void res_header(struct http_res *res, const char *name, const char *value);

#endif
