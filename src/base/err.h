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

/*  name               HTTP  code in answers          retry */
#define ERR_CODES(X)                                                                                         \
    X(ERR_NONE, 200, "", false)                                                                              \
    X(ERR_BAD_REQUEST, 400, "bad_request", false)                                                            \
    X(ERR_UNAUTHORIZED, 401, "unauthorized", false)                                                          \
    X(ERR_FORBIDDEN, 403, "forbidden", false)                                                                \
    X(ERR_NOT_FOUND, 404, "not_found", false)                                                                \
    X(ERR_METHOD, 405, "method_not_allowed", false)                                                          \
    X(ERR_NOT_ACCEPTABLE, 406, "not_acceptable", false)                                                      \
    X(ERR_CONFLICT, 409, "conflict", false)                                                                  \
    X(ERR_PRECONDITION, 412, "precondition_failed", false)                                                   \
    X(ERR_TOO_LARGE, 413, "too_large", false)                                                                \
    X(ERR_MEDIA_TYPE, 415, "unsupported_media_type", false)                                                  \
    X(ERR_INVALID, 422, "invalid", false)                                                                    \
    X(ERR_NOT_SUPPORTED, 422, "not_supported", false)                                                        \
    X(ERR_DAMAGED, 422, "branch_damaged", false)                                                             \
    X(ERR_INTERNAL, 500, "internal", false)                                                                  \
    X(ERR_UNAVAILABLE, 503, "unavailable", true)                                                             \
    X(ERR_TIMEOUT, 503, "timeout", true)                                                                     \
    X(ERR_DISK_FULL, 507, "disk_full", true)

enum err_code {
#define X(name, http, code, retry) name,
    ERR_CODES(X)
#undef X
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
bool err_retryable(enum err_code code);

#endif
