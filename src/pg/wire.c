/*
 * wire.c - parsing and building of the Postgres wire protocol
 *
 * Numbers on the wire are big-endian.  Nothing here blocks, allocates by a received length, or trusts one.
 */
#include "pg/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define CODE_CANCEL 80877102u
#define CODE_SSL    80877103u
#define CODE_GSS    80877104u

#define PROTOCOL_MAJOR 3u
#define PROTOCOL_3_0   (PROTOCOL_MAJOR << 16)

static uint32_t get32(const void *p)
{
    const uint8_t *b = p;

    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(void *p, uint32_t v)
{
    uint8_t *b = p;

    b[0] = (uint8_t)(v >> 24);
    b[1] = (uint8_t)(v >> 16);
    b[2] = (uint8_t)(v >> 8);
    b[3] = (uint8_t)v;
}

static void add32(struct buf *b, uint32_t v)
{
    uint8_t bytes[4];

    put32(bytes, v);
    buf_add(b, bytes, sizeof(bytes));
}

/* A string with its NUL. */
static void addz(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s) + 1);
}

/* Fills in the length word at mark once the rest is there. */
static void end_length(struct buf *b, size_t mark)
{
    put32(b->data + mark, (uint32_t)(b->len - mark));
}

int wire_error_set(struct wire_error *e, const char *sqlstate, const char *hint, const char *fmt, ...)
{
    va_list ap;

    snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", sqlstate);
    snprintf(e->hint, sizeof(e->hint), "%s", hint != NULL ? hint : "");
    va_start(ap, fmt);
    vsnprintf(e->message, sizeof(e->message), fmt, ap);
    va_end(ap);
    return -1;
}

static void add_field(struct buf *b, char field, const char *value)
{
    buf_add(b, &field, 1);
    addz(b, value);
}

void wire_error_add(struct buf *b, const struct wire_error *e)
{
    size_t mark;

    buf_add(b, "E", 1);
    mark = b->len;
    add32(b, 0);
    add_field(b, 'S', "FATAL");
    add_field(b, 'V', "FATAL");
    add_field(b, 'C', e->sqlstate);
    add_field(b, 'M', e->message);
    if (e->hint[0] != '\0')
        add_field(b, 'H', e->hint);
    buf_add(b, "", 1);
    end_length(b, mark);
}

/* --- the first packet
 * ------------------------------------------------------------------------------------------- */

static enum wire_first_kind first_invalid(struct wire_first *ret, const char *sqlstate, const char *what)
{
    ret->kind = WIRE_INVALID;
    wire_error_set(&ret->error, sqlstate,
                   "This port speaks the PostgreSQL protocol, version 3; connect with a PostgreSQL client.",
                   "%s", what);
    return WIRE_INVALID;
}

/* The request codes are versions 1234.x: no length but the one each needs is acceptable. */
static enum wire_first_kind first_request(const uint8_t *data, uint32_t code, struct wire_first *ret)
{
    uint32_t want = code == CODE_CANCEL ? WIRE_CANCEL_SIZE : 8;

    if (ret->len != want)
        return first_invalid(ret, "08P01", "malformed request packet: wrong length");
    if (code == CODE_CANCEL)
        memcpy(ret->key, data + 8, WIRE_KEY_SIZE);
    ret->kind = code == CODE_CANCEL ? WIRE_CANCEL : code == CODE_SSL ? WIRE_SSL : WIRE_GSS;
    return ret->kind;
}

enum wire_first_kind wire_first_parse(const void *data, size_t len, struct wire_first *ret)
{
    const uint8_t *p = data;
    uint32_t size, code;

    *ret = (struct wire_first){ .kind = WIRE_INCOMPLETE };
    /* The upper half of a good length is zero: text such as "GET / HTTP" is refused at its first byte. */
    if ((len > 0 && p[0] != 0) || (len > 1 && p[1] != 0))
        return first_invalid(ret, "08P01", "this is not a PostgreSQL startup packet");
    if (len < 4)
        return WIRE_INCOMPLETE;
    size = get32(p);
    if (size < WIRE_STARTUP_MIN || size > WIRE_STARTUP_MAX)
        return first_invalid(ret, "08P01", "invalid length of startup packet");
    if (len < size)
        return WIRE_INCOMPLETE;
    ret->len = size;
    code = get32(p + 4);
    if (code == CODE_CANCEL || code == CODE_SSL || code == CODE_GSS)
        return first_request(p, code, ret);
    if (code >> 16 != PROTOCOL_MAJOR)
        return first_invalid(ret, "0A000", "unsupported frontend protocol: this server speaks 3.0");
    ret->minor = (uint16_t)code;
    ret->kind = WIRE_STARTUP;
    return WIRE_STARTUP;
}

static int bad_startup(struct wire_error *e, const char *what)
{
    return wire_error_set(e, "08P01", NULL, "invalid startup packet: %s", what);
}

/* One NUL-terminated string at *p, before end.  NULL when the packet ends first. */
static const char *take_string(const char **p, const char *end)
{
    const char *s = *p, *nul = memchr(s, 0, (size_t)(end - s));

    if (nul == NULL)
        return NULL;
    *p = nul + 1;
    return s;
}

static int check_user(const struct wire_startup *s, struct wire_error *e)
{
    const char *user = wire_startup_find(s, "user");

    if (user == NULL || user[0] == '\0')
        return wire_error_set(e, "28000", NULL, "no PostgreSQL user name specified in startup packet");
    if (strlen(user) > WIRE_NAME_MAX)
        return wire_error_set(e, "28000", NULL, "the user name is longer than %d bytes", WIRE_NAME_MAX);
    if (!text_is_utf8(user, strlen(user)))
        return wire_error_set(e, "28000", NULL, "the user name is not valid UTF-8");
    return 0;
}

int wire_startup_parse(const void *packet, const struct wire_first *first, struct wire_startup *ret,
                       struct wire_error *e)
{
    const char *p = (const char *)packet + 8, *end = (const char *)packet + first->len;

    ret->n = 0;
    ret->minor = first->minor;
    while (p < end && *p != '\0') {
        struct wire_param param = { .name = take_string(&p, end) };

        param.value = param.name != NULL && p < end ? take_string(&p, end) : NULL;
        if (param.value == NULL)
            return bad_startup(e, "a parameter has no end");
        if (wire_startup_find(ret, param.name) != NULL)
            return bad_startup(e, "a parameter is given twice");
        if (ret->n == WIRE_PARAMS_MAX)
            return bad_startup(e, "too many parameters");
        ret->params[ret->n++] = param;
    }
    if (p != end - 1)
        return bad_startup(e, "expected the terminator as the last byte");
    return check_user(ret, e);
}

const char *wire_startup_find(const struct wire_startup *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->params[i].name, name) == 0)
            return s->params[i].value;
    return NULL;
}

bool wire_param_is_extension(const struct wire_param *p)
{
    return text_starts_with(p->name, "_pq_.");
}

void wire_negotiate_add(struct buf *b, const struct wire_startup *s)
{
    uint32_t unknown = 0;
    size_t mark;

    for (size_t i = 0; i < s->n; i++)
        unknown += wire_param_is_extension(&s->params[i]);
    if (s->minor == 0 && unknown == 0)
        return;
    buf_add(b, "v", 1);
    mark = b->len;
    add32(b, 0);
    add32(b, PROTOCOL_3_0);
    add32(b, unknown);
    for (size_t i = 0; i < s->n; i++)
        if (wire_param_is_extension(&s->params[i]))
            addz(b, s->params[i].name);
    end_length(b, mark);
}

size_t wire_startup_begin(struct buf *b)
{
    size_t mark = b->len;

    add32(b, 0);
    add32(b, PROTOCOL_3_0);
    return mark;
}

void wire_startup_param(struct buf *b, const char *name, const char *value)
{
    addz(b, name);
    addz(b, value);
}

void wire_startup_end(struct buf *b, size_t mark)
{
    buf_add(b, "", 1);
    end_length(b, mark);
}

void wire_cancel_build(uint8_t out[WIRE_CANCEL_SIZE], const uint8_t key[WIRE_KEY_SIZE])
{
    put32(out, WIRE_CANCEL_SIZE);
    put32(out + 4, CODE_CANCEL);
    memcpy(out + 8, key, WIRE_KEY_SIZE);
}

/* --- authentication by SASL
 * ---------------------------------------------------------------------------------------- */

static int bad_sasl(struct wire_error *e, const char *what)
{
    return wire_error_set(e, "08P01", NULL, "invalid SASLInitialResponse message: %s", what);
}

int wire_sasl_initial_parse(const void *body, size_t len, struct wire_sasl_initial *ret, struct wire_error *e)
{
    const char *p = body, *end = p + len;
    uint32_t size;

    *ret = (struct wire_sasl_initial){ .mechanism = len > 0 ? take_string(&p, end) : NULL };
    if (ret->mechanism == NULL)
        return bad_sasl(e, "the name of the mechanism has no end");
    if (end - p < 4)
        return bad_sasl(e, "it has no length");
    size = get32(p);
    p += 4;
    if (size == UINT32_MAX ? p != end : size != (size_t)(end - p))
        return bad_sasl(e, "its length is not what it says");
    ret->data = size != UINT32_MAX ? p : NULL;
    ret->len = (size_t)(end - p);
    return 0;
}

static size_t auth_begin(struct buf *b, enum wire_auth_code code)
{
    size_t mark;

    buf_add(b, "R", 1);
    mark = b->len;
    add32(b, 0);
    add32(b, code);
    return mark;
}

void wire_sasl_offer_add(struct buf *b, const char *const *mechanisms, size_t n)
{
    size_t mark = auth_begin(b, WIRE_AUTH_SASL);

    for (size_t i = 0; i < n; i++)
        addz(b, mechanisms[i]);
    buf_add(b, "", 1);
    end_length(b, mark);
}

void wire_sasl_continue_add(struct buf *b, const void *data, size_t len)
{
    size_t mark = auth_begin(b, WIRE_AUTH_SASL_CONTINUE);

    buf_add(b, data, len);
    end_length(b, mark);
}

void wire_sasl_final_add(struct buf *b, const void *data, size_t len)
{
    size_t mark = auth_begin(b, WIRE_AUTH_SASL_FINAL);

    buf_add(b, data, len);
    end_length(b, mark);
}

void wire_sasl_initial_add(struct buf *b, const char *mechanism, const void *data, size_t len)
{
    size_t mark;

    buf_add(b, "p", 1);
    mark = b->len;
    add32(b, 0);
    addz(b, mechanism);
    add32(b, (uint32_t)len);
    buf_add(b, data, len);
    end_length(b, mark);
}

void wire_sasl_response_add(struct buf *b, const void *data, size_t len)
{
    buf_add(b, "p", 1);
    add32(b, (uint32_t)len + 4);
    buf_add(b, data, len);
}

bool wire_auth_parse(const void *body, size_t len, struct wire_auth *ret)
{
    if (len < 4)
        return false;
    *ret = (struct wire_auth){ get32(body), (const char *)body + 4, len - 4 };
    return true;
}

/* --- messages after the startup
 * ------------------------------------------------------------------------------------ */

/* Collects the header; true when it is complete and sound, with s->left the body's length. */
static bool scan_header(struct wire_scan *s, const uint8_t *data, size_t len, size_t *ret_used)
{
    size_t want = sizeof(s->head) - s->have, n = len < want ? len : want;
    uint32_t size;

    memcpy(s->head + s->have, data, n);
    s->have = (uint8_t)(s->have + n);
    *ret_used = n;
    if (s->have < sizeof(s->head))
        return false;
    size = get32(s->head + 1);
    if (size < 4 || size > INT32_MAX) {
        s->broken = true;
        return false;
    }
    s->left = size - 4;
    s->at = 0;
    return true;
}

size_t wire_scan_next(struct wire_scan *s, uint8_t *data, size_t len, struct wire_piece *ret)
{
    size_t used = 0, n;

    *ret = (struct wire_piece){ 0 };
    if (len == 0 || s->broken)
        return 0;
    if (s->have < sizeof(s->head)) {
        if (!scan_header(s, data, len, &used))
            return s->broken ? 0 : used;
        ret->starts = true;
    }
    n = len - used < s->left ? len - used : s->left;
    ret->type = s->head[0];
    ret->body_len = s->left + s->at;
    ret->at = s->at;
    ret->data = data + used;
    ret->len = n;
    s->at += (uint32_t)n;
    s->left -= (uint32_t)n;
    ret->ends = s->left == 0;
    if (ret->ends)
        s->have = 0;
    return used + n;
}

bool wire_scan_at_boundary(const struct wire_scan *s)
{
    return s->have == 0 && !s->broken;
}

static bool is_fatal(const char *severity)
{
    return strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
}

bool wire_error_sqlstate(const uint8_t *body, size_t len, char ret[WIRE_SQLSTATE_LEN + 1], bool *ret_fatal)
{
    const char *p = (const char *)body, *end = p + len;
    bool untranslated = false;

    *ret_fatal = false;
    while (p < end && *p != '\0') {
        char field = *p++;
        const char *value = p < end ? take_string(&p, end) : NULL;

        if (value == NULL)
            return false;
        if (field == 'V' || (field == 'S' && !untranslated))
            *ret_fatal = is_fatal(value);
        if (field == 'V')
            untranslated = true;
        if (field != 'C')
            continue;
        if (strlen(value) != WIRE_SQLSTATE_LEN)
            return false;
        memcpy(ret, value, WIRE_SQLSTATE_LEN + 1);
        return true;
    }
    return false;
}
