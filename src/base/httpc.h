/*
 * httpc.h - one HTTP call with a deadline and a size cap (the only file that includes libcurl)
 */
#ifndef MERE_HTTPC_H
#define MERE_HTTPC_H

#include "base/buf.h"
#include "base/err.h"

struct httpc_request {
    const char *method; /* "GET" */
    const char *url;
    const char *bearer; /* NULL = none */
    const char *body;   /* NULL = none; sent as application/json */
    int timeout_ms;
    size_t max_bytes; /* of the answer */
    /* NULL, or called about once a second, and more often while bytes come; true ends the call with
     * ERR_UNAVAILABLE. */
    bool (*tick)(void *arg);
    void *tick_arg;
};

/* 0 when an answer came, whatever its status (*ret_status); -1 ERR_UNAVAILABLE when the server cannot be
 * reached. */
int httpc_call(const struct httpc_request *req, int *ret_status, struct buf *ret_body,
               struct err *err) MUST_CHECK;

#endif
