/*
 * router.c - a path against the table, segment by segment
 *
 * Any thread; pure but for the arena.  The table is short and ordered (fixed segments first), so the first
 * path that fits is meant.
 */
#define ROUTES_TABLE
#include "api/routes.gen.h"

#include "base/text.h"

#include <assert.h>
#include <string.h>

/* Length of the segment that begins at s (after a '/'). */
static size_t segment_len(const char *s)
{
    return strcspn(s, "/");
}

/* Does the path have the shape of the pattern, or begin with it?  No segment of a path may be empty. */
static bool shape_fits(const char *pattern, const char *path, bool begins)
{
    while (*pattern == '/' && *path == '/') {
        size_t want = segment_len(++pattern), have = segment_len(++path);

        if (have == 0 || (*pattern != '{' && (want != have || memcmp(pattern, path, want) != 0)))
            return false;
        pattern += want;
        path += have;
    }
    return *pattern == '\0' && (*path == '\0' || begins);
}

/* Whoever brings a client along should learn that it is not the path that is wrong.  By "does not exist"
 * clients tell what a server does not have from what is not there. */
static int not_found(const char *path, struct err *err)
{
    for (size_t i = 0; i < N_ELEMENTS(NOT_YET); i++)
        if (shape_fits(NOT_YET[i].pattern, path, true))
            return err_set(
                err, ERR_NOT_FOUND,
                "Mere does not have this yet, so the route does not exist: %s; nothing was changed",
                NOT_YET[i].what);
    return err_set(err, ERR_NOT_FOUND, "there is nothing at this path");
}

static int add_param(struct http_req *req, const char *name, size_t name_len, const char *value,
                     size_t value_len, struct err *err)
{
    auto_free char *plain = text_url_decode(value, value_len);

    if (plain == NULL || !text_is_utf8(plain, strlen(plain)))
        return err_set(err, ERR_BAD_REQUEST, "the path is not percent-encoded UTF-8; nothing was changed");
    assert(req->n_path_params < N_ELEMENTS(req->path_params));
    req->path_params[req->n_path_params++] = (struct http_param){
        .name = arena_strndup(req->arena, name, name_len),
        .value = arena_strdup(req->arena, plain),
    };
    return 0;
}

static int read_params(struct http_req *req, const char *pattern, struct err *err)
{
    const char *path = req->path;

    while (*pattern == '/') {
        size_t want = segment_len(++pattern), have = segment_len(++path);

        if (*pattern == '{' && add_param(req, pattern + 1, want - 2, path, have, err) < 0)
            return -1;
        pattern += want;
        path += have;
    }
    return 0;
}

/* The methods of the path that begins at table entry i; its entries stand together. */
static const char *allowed(struct arena *a, size_t i)
{
    const char *list = ROUTES[i].method, *pattern = ROUTES[i].pattern;

    for (i++; i < N_ELEMENTS(ROUTES) && strcmp(ROUTES[i].pattern, pattern) == 0; i++)
        list = arena_printf(a, "%s, %s", list, ROUTES[i].method);
    return list;
}

const struct route *router_table(size_t *ret_n)
{
    *ret_n = N_ELEMENTS(ROUTES);
    return ROUTES;
}

const struct route *router_find(struct http_req *req, const char **ret_allow, struct err *err)
{
    size_t first = 0;

    *ret_allow = NULL;
    req->n_path_params = 0;
    while (first < N_ELEMENTS(ROUTES) && !shape_fits(ROUTES[first].pattern, req->path, false))
        first++;
    for (size_t i = first; i < N_ELEMENTS(ROUTES) && strcmp(ROUTES[i].pattern, ROUTES[first].pattern) == 0;
         i++)
        if (strcmp(ROUTES[i].method, req->method) == 0)
            return read_params(req, ROUTES[i].pattern, err) < 0 ? NULL : &ROUTES[i];
    if (first == N_ELEMENTS(ROUTES)) {
        not_found(req->path, err);
        return NULL;
    }
    *ret_allow = allowed(req->arena, first);
    err_set(err, ERR_METHOD, "this path has no method %.32s; it has %s", req->method, *ret_allow);
    return NULL;
}
