/*
 * err.c - filling in errors
 *
 * Any thread.  Never allocates: an error must be reportable when nothing else works.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>

static const struct {
    int http;
    const char *name, *means;
    bool retry;
} CODES[] = {
#define X(name_, http_, code_, retry_, means_)                                                               \
    [name_] = { .http = http_, .name = code_, .means = means_, .retry = retry_ },
    ERR_CODES(X)
#undef X
};

/* Cuts a truncated text back to whole UTF-8 characters: it may be shown to somebody. */
static void utf8_trim(char *s, size_t size)
{
    size_t end = strlen(s), i = end, want;
    unsigned char c;

    if (end + 1 < size)
        return;
    while (i > 0 && ((unsigned char)s[i - 1] & 0xC0) == 0x80)
        i--;
    if (i == 0)
        return;
    c = (unsigned char)s[i - 1];
    want = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
    if (end - (i - 1) < want)
        s[i - 1] = '\0';
}

static PRINTF_LIKE(3, 0) void set_msg(struct err *err, enum err_code code, const char *fmt, va_list ap)
{
    err->code = code;
    err->detail[0] = '\0';
    err->pointer[0] = '\0';
    err->members[0] = '\0';
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    utf8_trim(err->msg, sizeof(err->msg));
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_msg(err, code, fmt, ap);
    va_end(ap);
    return -1;
}

int err_field(struct err *err, enum err_code code, const char *pointer, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_msg(err, code, fmt, ap);
    va_end(ap);
    snprintf(err->pointer, sizeof(err->pointer), "%s", pointer);
    utf8_trim(err->pointer, sizeof(err->pointer));
    return -1;
}

int err_members(struct err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    /* Half a member would be no JSON. */
    if (vsnprintf(err->members, sizeof(err->members), fmt, ap) >= (int)sizeof(err->members))
        err->members[0] = '\0';
    va_end(ap);
    return -1;
}

int err_sys(struct err *err, const char *fmt, ...)
{
    int saved = errno;
    const char *why = strerrordesc_np(saved);
    size_t len;
    va_list ap;

    if (saved == ENOSPC || saved == EDQUOT)
        err_set(err, ERR_DISK_FULL, "the server's disk is full; free some space and try again");
    else
        err_set(err, ERR_INTERNAL, "the server could not do this; its log says why");
    va_start(ap, fmt);
    vsnprintf(err->detail, sizeof(err->detail), fmt, ap);
    va_end(ap);
    len = strlen(err->detail);
    snprintf(err->detail + len, sizeof(err->detail) - len, ": %s", why ? why : "unknown error");
    utf8_trim(err->detail, sizeof(err->detail));
    errno = saved;
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char old[sizeof(err->detail)];
    size_t len;
    va_list ap;

    memcpy(old, err->detail, sizeof(old));
    va_start(ap, fmt);
    vsnprintf(err->detail, sizeof(err->detail), fmt, ap);
    va_end(ap);
    len = strlen(err->detail);
    if (old[0] != '\0')
        snprintf(err->detail + len, sizeof(err->detail) - len, ": %s", old);
    utf8_trim(err->detail, sizeof(err->detail));
    return -1;
}

int err_detail(struct err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err->detail, sizeof(err->detail), fmt, ap);
    va_end(ap);
    utf8_trim(err->detail, sizeof(err->detail));
    return -1;
}

int err_memory(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE,
                   "the request needs more memory than one request may take; nothing was changed");
}

int err_http(enum err_code code)
{
    return (size_t)code < N_ELEMENTS(CODES) ? CODES[code].http : 500;
}

const char *err_name(enum err_code code)
{
    return (size_t)code < N_ELEMENTS(CODES) ? CODES[code].name : "internal";
}

const char *err_meaning(enum err_code code)
{
    return CODES[code].means;
}

bool err_retryable(enum err_code code)
{
    return (size_t)code < N_ELEMENTS(CODES) && CODES[code].retry;
}
