/*
 * h_docs.c - what the server says of itself: the API as a document and as a page, for programs that read, and
 * what an error means
 */
#include "api/pages.gen.h"
#include "api/routes.gen.h"

#include <string.h>

int api_docs_openapi(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)req;
    (void)err;
    return res_text(res, 200, "application/json", PAGE_OPENAPI);
}

int api_docs_page(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)req;
    (void)err;
    res_header(res, "Content-Security-Policy", PAGE_DOCS_POLICY);
    return res_text(res, 200, "text/html; charset=utf-8", PAGE_DOCS);
}

int api_docs_llms(struct http_req *req, struct http_res *res, struct err *err)
{
    (void)req;
    (void)err;
    return res_text(res, 200, "text/plain; charset=utf-8", PAGE_LLMS);
}

int api_problem_get(struct http_req *req, struct http_res *res, struct err *err)
{
    const char *name = http_param(req, "code");

    for (int code = ERR_NONE + 1; code < ERR_N; code++)
        if (strcmp(err_name(code), name) == 0)
            return res_json(res, 200,
                            json_pack("{s:s, s:i, s:s, s:s}", "code", name, "status", err_http(code), "title",
                                      http_status_text(err_http(code)), "description", err_meaning(code)));
    return err_set(err, ERR_NOT_FOUND, "there is no problem of this code");
}
