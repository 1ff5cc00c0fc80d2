/*
 * router.h - finds the route of a path in the generated table (routes.gen.h, made from openapi.yaml)
 */
#ifndef MERE_ROUTER_H
#define MERE_ROUTER_H

#include "api/http.h"

typedef int (*http_handler)(struct http_req *req, struct http_res *res, struct err *err);

enum route_auth {
    ROUTE_OPEN,
    ROUTE_KEY,
    ROUTE_BASIC, /* the key, also as the password of Basic authentication */
};

struct route {
    const char *method;
    const char *pattern; /* "/api/v2/projects/{project_id}" */
    http_handler handler;
    enum route_auth auth;
    bool takes_body; /* false: an empty object at most */
    size_t body_max; /* bytes */
};

/* How paths begin that clients may ask for and that nobody serves yet. */
struct not_yet {
    const char *pattern;
    const char *what; /* "snapshots" */
};

/*
 * The route of req->method and req->path, with req->path_params filled (percent-decoded; an encoded '/'
 * inside a segment stays in the value). NULL: ERR_NOT_FOUND, or ERR_METHOD with *ret_allow = "GET, POST" (in
 * the arena) when the path exists with other methods; ERR_BAD_REQUEST for a malformed escape.  A fixed
 * segment beats a parameter: DELETE .../branches/count is ERR_METHOD.
 */
const struct route *router_find(struct http_req *req, const char **ret_allow, struct err *err) MUST_CHECK;
const struct route *router_table(size_t *ret_n);

#endif
