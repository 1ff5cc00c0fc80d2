/*
 * http.c - parameters, bodies and error answers
 *
 * Any thread; pure but for the arena.
 */
#include "api/http.h"

#include "base/id.h"
#include "base/text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_ID_MAX 128
#define DEPTH_MAX      32

/* --- the target --- */

/* '+' is a blank in a query, and only there. */
static int decode_query(struct arena *a, const char *s, size_t len, const char **ret, struct err *err)
{
    char *copy = arena_strndup(a, s, len);
    auto_free char *plain = NULL;

    for (char *p = copy; *p != '\0'; p++)
        if (*p == '+')
            *p = ' ';
    plain = text_url_decode(copy, strlen(copy));
    if (plain == NULL || !text_is_utf8(plain, strlen(plain)))
        return err_set(err, ERR_BAD_REQUEST, "the query is not percent-encoded UTF-8; nothing was changed");
    *ret = arena_strdup(a, plain);
    return 0;
}

static int parse_query(struct http_req *req, const char *query, struct err *err)
{
    while (*query != '\0') {
        size_t len = strcspn(query, "&"), key = strcspn(query, "=&");
        struct http_param *p = &req->query[req->n_query];

        if (len > 0) {
            if (req->n_query == HTTP_QUERY_MAX)
                return err_set(err, ERR_BAD_REQUEST, "more than %d query parameters; nothing was changed",
                               HTTP_QUERY_MAX);
            if (decode_query(req->arena, query, key, &p->name, err) < 0 ||
                decode_query(req->arena, key < len ? query + key + 1 : "", key < len ? len - key - 1 : 0,
                             &p->value, err) < 0)
                return -1;
            req->n_query++;
        }
        query += len + (query[len] == '&');
    }
    return 0;
}

int http_parse_target(struct http_req *req, const char *target, struct err *err)
{
    const char *path = target, *host;
    size_t len;

    /* The form that is meant for proxies must be understood by everybody (RFC 9112, 3.2.2). */
    if (target[0] != '/' && (host = strstr(target, "://")) != NULL) {
        path = strpbrk(host + 3, "/?");
        if (path == NULL)
            path = "";
    }
    len = strcspn(path, "?#");
    req->target = arena_strdup(req->arena, path);
    req->path = len > 0 ? arena_strndup(req->arena, path, len) : "/";
    req->n_query = 0;
    if (path[len] != '?')
        return 0;
    return parse_query(req, arena_strndup(req->arena, path + len + 1, strcspn(path + len + 1, "#")), err);
}

bool http_stopping(const struct http_req *req)
{
    return req->stopping != NULL && atomic_load(req->stopping);
}

void http_set_request_id(struct http_req *req, const char *given)
{
    size_t n = given != NULL ? strlen(given) : 0;
    bool fine = n > 0 && n <= REQUEST_ID_MAX;

    for (size_t i = 0; fine && i < n; i++)
        fine = given[i] > ' ' && given[i] < 0x7f;
    req->request_id = fine ? arena_strdup(req->arena, given) : id_uuid(req->arena);
}

/* --- parameters --- */

const char *http_param_find(const struct http_req *req, const char *name)
{
    for (size_t i = 0; i < req->n_path_params; i++)
        if (strcmp(req->path_params[i].name, name) == 0)
            return req->path_params[i].value;
    return NULL;
}

const char *http_param(const struct http_req *req, const char *name)
{
    const char *value = http_param_find(req, name);

    assert(value != NULL); /* a parameter that the route does not have */
    return value;
}

const char *http_query(const struct http_req *req, const char *name)
{
    for (size_t i = 0; i < req->n_query; i++)
        if (strcmp(req->query[i].name, name) == 0)
            return req->query[i].value;
    return NULL;
}

int http_query_i64(const struct http_req *req, const char *name, int64_t min, int64_t max, int64_t def,
                   int64_t *ret, struct err *err)
{
    const char *text = http_query(req, name);

    *ret = def;
    if (text != NULL && !text_to_i64(text, min, max, ret))
        return err_set(err, ERR_BAD_REQUEST,
                       "the query parameter %s must be a whole number from %lld to %lld", name,
                       (long long)min, (long long)max);
    return 0;
}

int http_query_bool(const struct http_req *req, const char *name, bool def, bool *ret, struct err *err)
{
    const char *text = http_query(req, name);

    *ret = def;
    if (text != NULL && !text_to_bool(text, ret))
        return err_set(err, ERR_BAD_REQUEST, "the query parameter %s must be true or false", name);
    return 0;
}

/* An empty cursor or search is none: scripts pass what they were given last. */
static const char *some_query(const struct http_req *req, const char *name)
{
    const char *text = http_query(req, name);

    return text != NULL && text[0] != '\0' ? text : NULL;
}

int http_query_lsn(const struct http_req *req, const char *name, uint64_t *ret, struct err *err)
{
    const char *text = http_query(req, name);

    *ret = 0;
    if (text == NULL)
        return 0;
    if (!text_to_lsn(text, ret))
        return err_set(err, ERR_BAD_REQUEST, "the query parameter %s must look like 0/16B3748", name);
    *ret += *ret == 0; /* as far out of reach */
    return 0;
}

int http_query_time(const struct http_req *req, const char *name, int64_t *ret_us, struct err *err)
{
    const char *text = http_query(req, name);

    *ret_us = 0;
    if (text == NULL)
        return 0;
    if (!text_to_time(text, ret_us))
        return err_set(err, ERR_BAD_REQUEST,
                       "the query parameter %s must be RFC 3339, like 2025-01-16T21:02:01Z", name);
    *ret_us += *ret_us == 0;
    return 0;
}

int http_query_page(const struct http_req *req, int64_t max, struct page *ret, struct err *err)
{
    *ret = (struct page){ .cursor = some_query(req, "cursor"),
                          .search = some_query(req, "search"),
                          .name = some_query(req, "name") };
    return http_query_i64(req, "limit", 1, max, max, &ret->limit, err);
}

/* --- bodies --- */

/* Nesting is counted before anything parses: parsers recurse, and so does what reads the result. */
static bool depth_within(const char *data, size_t len)
{
    int depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        if (in_string && data[i] == '\\')
            i++;
        else if (data[i] == '"')
            in_string = !in_string;
        else if (!in_string && (data[i] == '{' || data[i] == '[') && ++depth > DEPTH_MAX)
            return false;
        else if (!in_string && (data[i] == '}' || data[i] == ']'))
            depth--;
    }
    return true;
}

static bool is_blank(const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != ' ' && data[i] != '\t' && data[i] != '\r' && data[i] != '\n')
            return false;
    return true;
}

static int not_json(const json_error_t *why, struct err *err)
{
    const char *what = "is not JSON";

    switch (json_error_code(why)) {
    case json_error_duplicate_key:
        what = "has a key twice in one object";
        break;
    case json_error_invalid_utf8:
        what = "is not UTF-8";
        break;
    case json_error_null_character:
    case json_error_null_byte_in_key:
        what = "has a NUL character in a string";
        break;
    case json_error_numeric_overflow:
        what = "has a number that is too large";
        break;
    default:
        break;
    }
    return err_set(err, ERR_BAD_REQUEST, "the body %s, at line %d, column %d; nothing was changed", what,
                   why->line, why->column);
}

int http_parse_body(const char *data, size_t len, json_t **ret, struct err *err)
{
    json_error_t why;
    json_auto_t *body = NULL;

    if (is_blank(data, len)) {
        *ret = json_object();
        return 0;
    }
    if (!depth_within(data, len))
        return err_set(err, ERR_BAD_REQUEST, "the body is nested deeper than %d; nothing was changed",
                       DEPTH_MAX);
    body = json_loadb(data, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (body == NULL)
        return not_json(&why, err);
    if (!json_is_object(body))
        return err_set(err, ERR_INVALID, "the body must be a JSON object; nothing was changed");
    *ret = json_incref(body);
    return 0;
}

/* "/" and the key, with '~' and '/' escaped. */
static const char *pointer_to(char *out, size_t size, const char *key)
{
    size_t n = 0;

    out[n++] = '/';
    for (; *key != '\0' && n + 3 < size; key++) {
        if (*key == '~' || *key == '/') {
            out[n++] = '~';
            out[n++] = *key == '~' ? '0' : '1';
        } else {
            out[n++] = *key;
        }
    }
    out[n] = '\0';
    return out;
}

int http_known_keys(json_t *body, const char *const *names, size_t n, struct err *err)
{
    char pointer[sizeof(err->pointer)];
    const char *key;
    json_t *value;

    json_object_foreach(body, key, value)
    {
        size_t i = 0;

        while (i < n && strcmp(names[i], key) != 0)
            i++;
        if (i == n)
            return err_field(err, ERR_INVALID, pointer_to(pointer, sizeof(pointer), key),
                             "unknown field \"%.128s\"", key);
    }
    return 0;
}

int http_body_object(const struct http_req *req, const char *key, bool required, json_t **ret,
                     struct err *err)
{
    char pointer[sizeof(err->pointer)];

    *ret = json_object_get(req->body, key);
    if (*ret == NULL && !required)
        return 0;
    if (!json_is_object(*ret))
        return err_field(err, ERR_INVALID, pointer_to(pointer, sizeof(pointer), key), "%s %s", key,
                         *ret == NULL ? "is required" : "must be an object");
    return 0;
}

/* --- answers --- */

json_t *http_text(const char *s)
{
    json_t *text = json_string(s);
    auto_free char *plain = NULL;

    if (text != NULL)
        return text;
    plain = xstrdup(s);
    for (char *p = plain; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    text = json_string(plain);
    if (text == NULL)
        abort();
    return text;
}

const char *http_member(json_t *obj, const char *name)
{
    const char *text = json_string_value(json_object_get(obj, name));

    return text != NULL ? text : "";
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } TEXTS[] = {
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 406, "Not Acceptable" },
        { 409, "Conflict" },
        { 412, "Precondition Failed" },
        { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" },
        { 422, "Unprocessable Content" },
        { 500, "Internal Server Error" },
        { 503, "Service Unavailable" },
        { 507, "Insufficient Storage" },
    };

    for (size_t i = 0; i < N_ELEMENTS(TEXTS); i++)
        if (TEXTS[i].status == status)
            return TEXTS[i].text;
    return "Error";
}

static void put(json_t *obj, const char *key, const char *value)
{
    json_object_set_new(obj, key, http_text(value));
}

json_t *http_error_json(const struct http_req *req, const struct err *err)
{
    json_t *body = json_object();
    int status = err_http(err->code);

    put(body, "request_id", req->request_id);
    put(body, "code", err_name(err->code));
    put(body, "message", err->msg);
    put(body, "type", arena_printf(req->arena, "/problems/%s", err_name(err->code)));
    put(body, "title", http_status_text(status));
    json_object_set_new(body, "status", json_integer(status));
    put(body, "detail", err->msg);
    if (req->path != NULL)
        put(body, "instance", req->path);
    if (err->pointer[0] != '\0') {
        json_t *one = json_object();

        put(one, "pointer", err->pointer);
        put(one, "detail", err->msg);
        json_object_set_new(body, "errors", json_pack("[o]", one));
    }
    if (err->members[0] != '\0') {
        auto_free char *text = xasprintf("{%s}", err->members);
        json_auto_t *more = json_loads(text, 0, NULL);

        json_object_update(body, more);
    }
    return body;
}

int res_json(struct http_res *res, int status, json_t *body)
{
    res->status = status;
    res->body = body;
    return 0;
}

int res_text(struct http_res *res, int status, const char *type, const char *text)
{
    res->status = status;
    res->type = type;
    res->text = text;
    return 0;
}

void res_header(struct http_res *res, const char *name, const char *value)
{
    if (res->n_headers == HTTP_HEADERS_MAX)
        abort(); /* a handler that sets more than there is room for */
    res->headers[res->n_headers++] = (struct http_param){ .name = name, .value = value };
}
