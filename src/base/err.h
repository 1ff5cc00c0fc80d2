/*
 * err.h - how a function says that it failed, and why
 *
 * A function that can fail returns 0, or -1 with *err filled (last parameter, never NULL).
 *   msg      may be shown to a stranger: what happened, what was not changed, what to do
 *   detail   for the log only: errno texts, paths, SQL
 *   pointer  JSON pointer of the offending body member ("/branch/name"), or empty
 *   members  further members of the answer, as JSON text without the braces, or empty
 * The texts are truncated, never overrun.
 */
#ifndef MERE_ERR_H
#define MERE_ERR_H

#include "base/base.h"

/*  name, HTTP status, code in answers, try again?, what it means (docs/errors.md is made of it) */
/* clang-format off */
#define ERR_CODES(X) \
    X(ERR_NONE, 200, "", false, "") \
    X(ERR_BAD_REQUEST, 400, "bad_request", false, "The path, a query parameter, a header or the JSON of the body cannot be read.") \
    X(ERR_UNAUTHORIZED, 401, "unauthorized", false, "The API key is missing or wrong.") \
    X(ERR_FORBIDDEN, 403, "forbidden", false, "The key, or the server, may not do this.") \
    X(ERR_NOT_FOUND, 404, "not_found", false, "There is no such thing, or none any more. A DELETE of what is gone is answered so, too.") \
    X(ERR_METHOD, 405, "method_not_allowed", false, "The path has no such method; the header Allow lists those it has.") \
    X(ERR_NOT_ACCEPTABLE, 406, "not_acceptable", false, "So far back nothing is kept at this granularity.") \
    X(ERR_CONFLICT, 409, "conflict", false, "What is there stands against it: the name is taken or several have it, it keeps for life what was to be changed, or the work that was waited for failed.") \
    X(ERR_PRECONDITION, 412, "precondition_failed", false, "What If-Match or If-None-Match asks for is not so, or something that this takes is not there.") \
    X(ERR_TOO_LARGE, 413, "too_large", false, "The body is too large, or the answer would be.") \
    X(ERR_MEDIA_TYPE, 415, "unsupported_media_type", false, "The body is compressed.") \
    X(ERR_INVALID, 422, "invalid", false, "A value is not possible, or a field is unknown; errors[].pointer says which.") \
    X(ERR_NOT_SUPPORTED, 422, "not_supported", false, "The field is known, and what it asks for cannot be had here.") \
    X(ERR_DAMAGED, 422, "branch_damaged", false, "The data of the branch is damaged or missing; it is not started, and nothing is made of it.") \
    X(ERR_INTERNAL, 500, "internal", false, "Something that should not happen. The log of the server says what, under the request_id.") \
    X(ERR_UNAVAILABLE, 503, "unavailable", true, "Not now.") \
    X(ERR_TIMEOUT, 503, "timeout", true, "It took too long.") \
    X(ERR_DISK_FULL, 507, "disk_full", true, "There is too little free space on the server.")

/* clang-format on */
enum err_code {
#define X(name, http, code, retry, means) name,
    ERR_CODES(X)
#undef X
        ERR_N
};

struct err {
    enum err_code code;
    char msg[512];
    char detail[512];
    char pointer[160];
    char members[320];
};

#define ERR_INIT                                                                                             \
    {                                                                                                        \
        .code = ERR_NONE                                                                                     \
    }

/* Fills err and returns -1, so that `return err_set(err, ...)` reads well. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* ERR_INTERNAL (ERR_DISK_FULL for ENOSPC/EDQUOT) with a generic msg; detail = text + strerror(errno). Returns
 * -1. */
int err_sys(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* As err_set, with the JSON pointer of the member at fault. */
int err_field(struct err *err, enum err_code code, const char *pointer, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Sets the members of an error already set; the text must fit.  Returns -1. */
int err_members(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "text: " in front of the detail.  Returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Sets the detail of an error already set.  Returns -1. */
int err_detail(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* ERR_UNAVAILABLE for a request whose capped arena is exhausted.  Returns -1. */
int err_memory(struct err *err);

int err_http(enum err_code code);
const char *err_name(enum err_code code); /* "not_found" */
const char *err_meaning(enum err_code code);
bool err_retryable(enum err_code code);

#endif
