/*
 * park.c - the conversation with Postgres, in segments that each end with ReadyForQuery
 *
 * All questions go out at once; the answers come in their order.  An error ends its segment alone.
 */
#include "pg/park.h"

#include <stdio.h>
#include <string.h>

#include "base/crypt.h"

#define MESSAGE_MAX (PARK_BYTES_MAX + 1024)
#define ASIDE_MAX   (64 * 1024)
#define QUEUE_MAX   8
#define PRINT_SIZE  80

enum segment {
    SEG_SET,     /* settings are put back */
    SEG_PREPARE, /* statements are */
    SEG_STATE,   /* PARK_QUESTION */
    SEG_LASTVAL,
    SEG_UNNAMED, /* is there one, and how is it described */
    SEG_CLEAN,   /* our own statements are closed */
    SEG_SHAPES,  /* how the statements are described */
    SEG_FORGET,  /* the unnamed one is closed: it is another now */
};

/* What a session is: texts as they came, each with its NUL. */
struct record {
    struct buf settings;   /* name, value */
    struct buf statements; /* 'P' or 'Q' (by PREPARE), name, text, parameter types */
    struct buf reported;   /* name, value */
    struct buf print;      /* of all settings that a session can have */
    size_t n_statements;
    uint8_t shapes[CRYPT_SHA256_SIZE];
};

struct park {
    char user[WIRE_NAME_MAX + 1];
    bool restoring;
    bool has_unnamed; /* while examining: its text is known; then: there is one */
    bool described;   /* in this segment */
    const char *why;  /* NULL = nothing speaks against it */
    struct record is, was;
    uint8_t unnamed_shape[CRYPT_SHA256_SIZE], shape[CRYPT_SHA256_SIZE]; /* shape: of this segment */
    enum segment queue[QUEUE_MAX];
    size_t n_queue, at;
    char sqlstate[WIRE_SQLSTATE_LEN + 1]; /* of this segment's error */
    struct wire_scan scan;
    struct buf body; /* of the message under way */
};

/* --- the record
 * ---------------------------------------------------------------------------------------------------------
 */

static void record_fini(struct record *r)
{
    buf_fini(&r->settings);
    buf_fini(&r->statements);
    buf_fini(&r->reported);
    buf_fini(&r->print);
    *r = (struct record){ .n_statements = 0 };
}

static size_t record_size(const struct record *r)
{
    return r->settings.cap + r->statements.cap + r->reported.cap + r->print.cap;
}

static size_t record_len(const struct record *r)
{
    return r->settings.len + r->statements.len + r->reported.len + r->print.len;
}

struct park *park_new(const char *user)
{
    struct park *p = xcalloc(1, sizeof(*p));

    snprintf(p->user, sizeof(p->user), "%s", user);
    return p;
}

void park_free(struct park *p)
{
    if (p == NULL)
        return;
    record_fini(&p->is);
    record_fini(&p->was);
    buf_fini(&p->body);
    free(p);
}

const char *park_why(const struct park *p)
{
    return p->why;
}

size_t park_size(const struct park *p)
{
    return sizeof(*p) + record_size(&p->is) + record_size(&p->was) + p->body.cap;
}

static void never(struct park *p, const char *why)
{
    if (p->why == NULL)
        p->why = why;
}

/* The next of the strings in b from *at on. */
static const char *next_text(const struct buf *b, size_t *at)
{
    const char *s = b->data + *at;

    *at += strlen(s) + 1;
    return s;
}

static void add_text(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s) + 1);
}

/* --- messages
 * -----------------------------------------------------------------------------------------------------------
 */

static size_t begin(struct buf *b, char type)
{
    buf_add(b, &type, 1);
    buf_add(b, "\0\0\0", 4);
    return b->len - 4;
}

static void put32(char *p, size_t v)
{
    p[0] = (char)(v >> 24);
    p[1] = (char)(v >> 16);
    p[2] = (char)(v >> 8);
    p[3] = (char)v;
}

static void add16(struct buf *b, size_t v)
{
    char two[2] = { (char)(v >> 8), (char)v };

    buf_add(b, two, sizeof(two));
}

static void add32(struct buf *b, size_t v)
{
    char four[4];

    put32(four, v);
    buf_add(b, four, sizeof(four));
}

static void end(struct buf *b, size_t mark)
{
    put32(b->data + mark, b->len - mark);
}

static void add_sync(struct buf *b)
{
    end(b, begin(b, 'S'));
}

/* types: numbers separated by commas. */
static void add_parse(struct buf *b, const char *name, const char *text, const char *types)
{
    size_t mark = begin(b, 'P'), n = 0, at;

    add_text(b, name);
    add_text(b, text);
    at = b->len;
    add16(b, 0);
    for (const char *t = types; *t != '\0'; t += strcspn(t, ",")) {
        t += *t == ',';
        add32(b, strtoul(t, NULL, 10));
        n++;
    }
    b->data[at] = (char)(n >> 8);
    b->data[at + 1] = (char)n;
    end(b, mark);
}

/* Binds values (NULL: no more) to the statement, in text, and runs it. */
static void add_run(struct buf *b, const char *name, const char *one, const char *two)
{
    const char *values[] = { one, two };
    size_t mark = begin(b, 'B'), n = two != NULL ? 2 : one != NULL;

    add_text(b, "");
    add_text(b, name);
    add16(b, 0);
    add16(b, n);
    for (size_t i = 0; i < n; i++) {
        add32(b, strlen(values[i]));
        buf_adds(b, values[i]);
    }
    add16(b, 0);
    end(b, mark);
    mark = begin(b, 'E');
    add_text(b, "");
    add32(b, 0);
    end(b, mark);
}

/* Describe and Close of a statement. */
static void add_named(struct buf *b, char type, const char *name)
{
    size_t mark = begin(b, type);

    buf_add(b, "S", 1);
    add_text(b, name);
    end(b, mark);
}

/* --- questions
 * ----------------------------------------------------------------------------------------------------------
 */

static void expect(struct park *p, enum segment segment, struct buf *out)
{
    p->queue[p->n_queue++] = segment;
    add_sync(out);
}

static void ask_state(struct park *p, struct buf *out)
{
    add_parse(out, PARK_ASKS, PARK_QUESTION, "25");
    add_run(out, PARK_ASKS, p->user, NULL);
    expect(p, SEG_STATE, out);
}

static void ask_clean(struct park *p, struct buf *out)
{
    add_named(out, 'C', PARK_ASKS);
    add_named(out, 'C', PARK_ALSO);
    expect(p, SEG_CLEAN, out);
}

static void ask_shapes(struct park *p, const struct record *r, struct buf *out)
{
    for (size_t at = 0; at < r->statements.len;) {
        at++;
        add_named(out, 'D', next_text(&r->statements, &at));
        (void)next_text(&r->statements, &at);
        (void)next_text(&r->statements, &at);
    }
    expect(p, SEG_SHAPES, out);
}

static void restart(struct park *p, bool restoring)
{
    p->restoring = restoring;
    p->why = NULL;
    p->n_queue = p->at = 0;
    p->described = false;
    p->sqlstate[0] = '\0';
    p->scan = (struct wire_scan){ 0 };
    memset(p->shape, 0, sizeof(p->shape));
    record_fini(&p->is);
}

void park_examine(struct park *p, bool has_unnamed, struct buf *out)
{
    restart(p, false);
    record_fini(&p->was);
    p->has_unnamed = has_unnamed;
    ask_state(p, out);
    add_parse(out, PARK_ALSO, "SELECT pg_catalog.lastval()", "");
    add_run(out, PARK_ALSO, NULL, NULL);
    expect(p, SEG_LASTVAL, out);
    add_named(out, 'D', "");
    expect(p, SEG_UNNAMED, out);
    ask_clean(p, out);
}

/* The one of this name, if it is there; or all but the two. */
static void put_settings(const struct record *r, const char *only, struct buf *out)
{
    for (size_t at = 0; at < r->settings.len;) {
        const char *name = next_text(&r->settings, &at), *value = next_text(&r->settings, &at);
        bool special = strcmp(name, "client_encoding") == 0 || strcmp(name, "role") == 0;

        if (only != NULL ? strcmp(name, only) == 0 : !special)
            add_run(out, PARK_ASKS, name, value);
    }
}

/* The encoding first, because all our texts are in it; the role last, because it may be allowed less. */
static void restore_settings(struct park *p, struct buf *out)
{
    add_parse(out, PARK_ASKS, "SELECT pg_catalog.set_config($1, $2, false)", "25,25");
    put_settings(&p->was, "client_encoding", out);
    put_settings(&p->was, NULL, out);
    put_settings(&p->was, "role", out);
    add_named(out, 'C', PARK_ASKS);
    expect(p, SEG_SET, out);
}

/* What SQL had prepared is prepared by its own text; as a statement of ours, that can be no more than one. */
static void restore_statements(struct park *p, struct buf *out)
{
    const struct buf *s = &p->was.statements;

    for (size_t at = 0; at < s->len;) {
        bool by_sql = s->data[at++] == 'Q';
        const char *name = next_text(s, &at), *text = next_text(s, &at), *types = next_text(s, &at);

        add_parse(out, by_sql ? PARK_ALSO : name, text, by_sql ? "" : types);
        if (by_sql) {
            add_run(out, PARK_ALSO, NULL, NULL);
            add_named(out, 'C', PARK_ALSO);
        }
    }
    expect(p, SEG_PREPARE, out);
}

void park_restore(struct park *p, const struct buf *unnamed, struct buf *out)
{
    size_t mark;

    restart(p, true);
    restore_settings(p, out);
    restore_statements(p, out);
    ask_state(p, out);
    ask_clean(p, out);
    ask_shapes(p, &p->was, out);
    if (!p->has_unnamed)
        return;
    mark = begin(out, 'P');
    buf_add(out, unnamed->data, unnamed->len);
    end(out, mark);
    add_named(out, 'D', "");
    expect(p, SEG_UNNAMED, out);
}

/* --- rows
 * ---------------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *code, *why;
} REASONS[] = {
    { "temp", "it has temporary objects" },
    { "lock", "it holds advisory locks" },
    { "listen", "it listens" },
    { "hold", "it has a cursor WITH HOLD" },
    { "slot", "it has a temporary replication slot" },
    { "function", "its database has functions that may have set something unseen" },
    { "stored", "its database has views, defaults, checks or policies that may have set something unseen" },
    { "operator", "its database has operators that may have set something unseen" },
    { "setting", "it has a setting that cannot be restored as it is" },
    { "default", "its role or database has custom settings" },
    { "timeout", "it ends by itself after some time (idle_session_timeout)" },
    { "strings", "standard_conforming_strings is off" },
    { "encoding", "its database is not in UTF8" },
    { "user", "it has changed its user" },
};

static void take_reason(struct park *p, const char *code)
{
    for (size_t i = 0; i < N_ELEMENTS(REASONS); i++)
        if (strcmp(REASONS[i].code, code) == 0)
            never(p, REASONS[i].why);
    never(p, "Postgres gave a reason that is not known");
}

/*
 * The text of what PREPARE has prepared is all that came with it in one Query.  Only where it is PREPARE
 * alone may it be run again.
 */
static bool is_one_prepare(const char *text)
{
    const char *semicolon = strchr(text, ';');

    text += strspn(text, " \t\r\n\f\v");
    if (strncasecmp(text, "PREPARE", 7) != 0 || text[7] == '\0' || strchr(" \t\r\n\f\v\"", text[7]) == NULL)
        return false;
    return semicolon == NULL || semicolon[1 + strspn(semicolon + 1, "; \t\r\n\f\v")] == '\0';
}

static bool are_types(const char *types)
{
    return strspn(types, "0123456789,") == strlen(types);
}

static void take_statement(struct park *p, char kind, char *const col[4])
{
    struct record *r = &p->is;

    if (kind == 'Q' && !is_one_prepare(col[2]))
        never(p, "a statement was prepared together with others");
    if (!are_types(col[3]) || r->n_statements == PARK_STATEMENTS_MAX)
        never(p, "it has too many prepared statements");
    if (p->why != NULL && !p->restoring)
        return;
    r->n_statements++;
    buf_add(&r->statements, &kind, 1);
    for (size_t i = 1; i < 4; i++)
        add_text(&r->statements, col[i]);
}

static void take_row(struct park *p, char *const col[4])
{
    struct record *r = &p->is;

    switch (col[0][0]) {
    case 'N':
        if (!p->restoring) /* what its database may do is no concern of a session that is as new */
            take_reason(p, col[1]);
        break;
    case 'F':
        buf_clear(&r->print);
        add_text(&r->print, col[1]);
        break;
    case 'S':
        add_text(&r->settings, col[1]);
        add_text(&r->settings, col[2]);
        break;
    case 'R':
        add_text(&r->reported, col[1]);
        add_text(&r->reported, col[2]);
        break;
    case 'P':
    case 'Q':
        take_statement(p, col[0][0], col);
        break;
    default:
        never(p, "Postgres answered otherwise than asked");
        break;
    }
    if (record_len(r) > PARK_BYTES_MAX) {
        never(p, "it holds more than is kept");
        record_fini(r);
    }
}

static bool take16(const char **at, const char *stop, uint32_t *ret)
{
    const uint8_t *b = (const uint8_t *)*at;

    if (stop - *at < 2)
        return false;
    *ret = (uint32_t)b[0] << 8 | b[1];
    *at += 2;
    return true;
}

static bool take32(const char **at, const char *stop, uint32_t *ret)
{
    uint32_t high, low;

    if (!take16(at, stop, &high) || !take16(at, stop, &low))
        return false;
    *ret = high << 16 | low;
    return true;
}

static char *text_of(const char *data, size_t len)
{
    char *s = xmalloc(len + 1);

    memcpy(s, data, len);
    s[len] = '\0';
    return s;
}

/* Four texts; a NULL is an empty one. */
static bool read_row(const struct buf *body, char *col[4])
{
    const char *at = body->data, *stop = body->data + body->len;
    uint32_t n, len;
    size_t i;

    for (i = 0; i < 4; i++)
        col[i] = NULL;
    if (!take16(&at, stop, &n) || n != 4)
        return false;
    for (i = 0; i < 4; i++) {
        if (!take32(&at, stop, &len))
            return false;
        if (len == UINT32_MAX)
            len = 0;
        if (len > (size_t)(stop - at) || memchr(at, 0, len) != NULL)
            return false;
        col[i] = text_of(at, len);
        at += len;
    }
    return at == stop;
}

static void take_state(struct park *p)
{
    char *col[4] = { NULL };

    if (read_row(&p->body, col))
        take_row(p, col);
    else
        never(p, "Postgres answered otherwise than asked");
    for (size_t i = 0; i < 4; i++)
        free(col[i]);
}

/* --- answers
 * ------------------------------------------------------------------------------------------------------------
 */

/* One more description, into that of the segment. */
static void add_shape(struct park *p, uint8_t type)
{
    auto_buf all = { 0 };

    buf_add(&all, p->shape, sizeof(p->shape));
    buf_add(&all, &type, 1);
    buf_add(&all, p->body.data, p->body.len);
    crypt_sha256(all.data, all.len, p->shape);
    p->described = true;
}

static void end_state(struct park *p)
{
    if (p->sqlstate[0] != '\0' || p->is.print.len == 0)
        never(p, "its state cannot be read");
}

static void end_lastval(struct park *p)
{
    if (strcmp(p->sqlstate, "55000") != 0)
        never(p, "it has used a sequence, and lastval() is known");
}

/*
 * Restored, it may be none any more: the client that uses it is told so by Postgres, as loudly as by the
 * error that it would have had otherwise.
 */
static void end_unnamed(struct park *p, struct buf *out)
{
    bool there = p->sqlstate[0] == '\0' && p->described;

    if (p->restoring) {
        if (!there || memcmp(p->shape, p->unnamed_shape, sizeof(p->shape)) != 0) {
            add_named(out, 'C', "");
            expect(p, SEG_FORGET, out);
        }
        return;
    }
    if (there && !p->has_unnamed)
        never(p, "it has an unnamed statement that is not kept");
    if (!there && strcmp(p->sqlstate, "26000") != 0)
        never(p, "its unnamed statement cannot be described");
    p->has_unnamed = there;
    memcpy(p->unnamed_shape, p->shape, sizeof(p->shape));
}

static void end_shapes(struct park *p)
{
    if (p->sqlstate[0] != '\0')
        never(p, "a prepared statement cannot be described");
    memcpy(p->is.shapes, p->shape, sizeof(p->shape));
}

static void end_put(struct park *p)
{
    if (p->sqlstate[0] != '\0')
        never(p, p->queue[p->at] == SEG_SET ? "a setting cannot be set again"
                                            : "a statement cannot be prepared again");
}

static void end_segment(struct park *p, struct buf *out)
{
    switch (p->queue[p->at]) {
    case SEG_SET:
    case SEG_PREPARE:
        end_put(p);
        break;
    case SEG_STATE:
        end_state(p);
        break;
    case SEG_LASTVAL:
        end_lastval(p);
        break;
    case SEG_UNNAMED:
        end_unnamed(p, out);
        break;
    case SEG_CLEAN:
        if (!p->restoring && p->why == NULL && p->is.n_statements > 0)
            ask_shapes(p, &p->is, out);
        break;
    case SEG_SHAPES:
        end_shapes(p);
        break;
    case SEG_FORGET:
        break;
    }
    p->at++;
    p->described = false;
    p->sqlstate[0] = '\0';
    memset(p->shape, 0, sizeof(p->shape));
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static enum park_result conclude(struct park *p)
{
    const struct record *is = &p->is, *was = &p->was;

    if (p->restoring && (!same(&is->settings, &was->settings) || !same(&is->print, &was->print)))
        never(p, "its settings are not what they were");
    if (p->restoring &&
        (!same(&is->statements, &was->statements) ||
         (was->n_statements > 0 && memcmp(is->shapes, was->shapes, sizeof(was->shapes)) != 0)))
        never(p, "its prepared statements are not what they were");
    buf_fini(&p->body);
    if (p->why != NULL)
        return PARK_NO;
    if (!p->restoring) {
        p->was = p->is;
        p->is = (struct record){ .n_statements = 0 };
    }
    return PARK_YES;
}

/* --- from the server
 * ------------------------------------------------------------------------------------------------------------
 */

static void put_aside(struct park *p, uint8_t type, struct buf *aside)
{
    size_t mark = begin(aside, (char)type);

    buf_add(aside, p->body.data, p->body.len);
    end(aside, mark);
}

/* False when the session is over. */
static bool take_error(struct park *p)
{
    bool fatal;

    if (!wire_error_sqlstate((const uint8_t *)p->body.data, p->body.len, p->sqlstate, &fatal))
        snprintf(p->sqlstate, sizeof(p->sqlstate), "XX000");
    return !fatal;
}

/* A whole message. */
static enum park_result take_message(struct park *p, uint8_t type, struct buf *out, struct buf *aside)
{
    enum segment now = p->queue[p->at];

    switch (type) {
    case 'A':
    case 'N':
    case 'S':
        if (!p->restoring)
            put_aside(p, type, aside);
        return aside->len > ASIDE_MAX ? PARK_BROKEN : PARK_MORE;
    case 'E':
        if (take_error(p))
            return PARK_MORE;
        put_aside(p, type, aside);
        return PARK_BROKEN;
    case 'D':
        if (now == SEG_STATE)
            take_state(p);
        return PARK_MORE;
    case 'T':
    case 't':
    case 'n':
        if (now == SEG_SHAPES || now == SEG_UNNAMED)
            add_shape(p, type);
        return PARK_MORE;
    case '1':
    case '2':
    case '3':
    case 'C':
    case 'I':
        return PARK_MORE;
    case 'Z':
        if (p->body.len != 1 || p->body.data[0] != 'I')
            return PARK_BROKEN;
        end_segment(p, out);
        return p->at < p->n_queue ? PARK_MORE : conclude(p);
    default:
        return PARK_BROKEN;
    }
}

static void collect(struct park *p, const struct wire_piece *m)
{
    if (m->starts)
        buf_clear(&p->body);
    if (m->body_len <= MESSAGE_MAX)
        buf_add(&p->body, m->data, m->len);
    else
        never(p, "it holds more than is kept");
}

enum park_result park_next(struct park *p, uint8_t *data, size_t len, size_t *ret_used, struct buf *out,
                           struct buf *aside)
{
    enum park_result r = PARK_MORE;
    struct wire_piece m;
    size_t n, at = 0;

    while (r == PARK_MORE && (n = wire_scan_next(&p->scan, data + at, len - at, &m)) > 0) {
        at += n;
        if (m.type != 0)
            collect(p, &m);
        if (m.ends)
            r = take_message(p, m.type, out, aside);
    }
    *ret_used = at;
    return p->scan.broken ? PARK_BROKEN : r;
}

/* --- what the client has been told
 * ------------------------------------------------------------------------------------------------------------
 */

static const char *find_reported(const struct record *r, const char *wanted)
{
    for (size_t at = 0; at < r->reported.len;) {
        const char *name = next_text(&r->reported, &at), *value = next_text(&r->reported, &at);

        if (strcmp(name, wanted) == 0)
            return value;
    }
    return NULL;
}

void park_tell(const struct park *p, struct buf *out)
{
    for (size_t at = 0; at < p->is.reported.len;) {
        const char *name = next_text(&p->is.reported, &at), *value = next_text(&p->is.reported, &at);
        const char *told = find_reported(&p->was, name);
        size_t mark;

        if (told == NULL || strcmp(told, value) == 0)
            continue;
        mark = begin(out, 'S');
        add_text(out, name);
        add_text(out, value);
        end(out, mark);
    }
}
