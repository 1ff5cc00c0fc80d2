/*
 * session.c - reading along
 *
 * About ten nanoseconds per message: only headers are looked at, and the bodies of four kinds.
 */
#include "proxy/session.h"

#include <string.h>

void session_init(struct session *s, const uint8_t client_key[WIRE_KEY_SIZE])
{
    *s = (struct session){ .asked = 1 };
    memcpy(s->client_key, client_key, WIRE_KEY_SIZE);
}

static void client_copies(struct session *s, uint8_t type)
{
    s->copying = false;
    s->data = s->loose || s->owed || s->asked != s->answered; /* else it comes too late, and is ignored */
    if (type == 'd' || !s->data)
        return;
    if (s->ends == 0)
        s->swallowed = s->syncs;
    s->ends += s->ends < 2;
}

static void client_message(struct session *s, uint8_t type)
{
    switch (type) {
    case 'Q':
        s->asked++;
        s->last_query = s->asked;
        s->syncs = 0;
        s->loose = false;
        break;
    case 'S':
        if (s->copying)
            break;
        s->asked++;
        s->syncs++;
        s->loose = false;
        break;
    case 'F':
        s->asked++;
        s->syncs = 0;
        s->loose = false;
        break;
    case 'E':
        s->syncs = 0;
        s->loose = true;
        break;
    case 'P':
    case 'B':
    case 'D':
    case 'C':
        s->loose = true;
        break;
    case 'd':
    case 'c':
    case 'f':
        client_copies(s, type);
        break;
    case 'X':
        s->bye = true;
        break;
    default:
        break; /* Flush and passwords neither begin nor end anything */
    }
}

void session_client_bytes(struct session *s, uint8_t *data, size_t len)
{
    struct wire_piece piece;
    size_t n;

    while ((n = wire_scan_next(&s->client, data, len, &piece)) > 0) {
        if (piece.starts)
            client_message(s, piece.type);
        data += n;
        len -= n;
    }
}

/* The eight bytes change places as they pass, however they are cut. */
static void swap_key(struct session *s, const struct wire_piece *p)
{
    if (p->body_len != WIRE_KEY_SIZE)
        return; /* no key of protocol 3.0: a client could not cancel with it, and we cannot either */
    for (size_t i = 0; i < p->len; i++) {
        s->server_key[p->at + i] = p->data[i];
        p->data[i] = s->client_key[p->at + i];
    }
    s->has_key = p->ends;
}

static void keep_body(struct session *s, const struct wire_piece *p)
{
    size_t n;

    if (p->starts)
        s->kept = 0;
    n = SESSION_KEEP - s->kept;
    if (n > p->len)
        n = p->len;
    memcpy(s->keep + s->kept, p->data, n);
    s->kept = (uint8_t)(s->kept + n);
}

/*
 * COPY FROM STDIN begins.  In it Postgres swallows every Sync, among them the one that drivers send right
 * behind Execute: those are never answered.  A client that waited for this has sent no others.  Of one that
 * goes on without waiting it is known when the COPY has succeeded: then those between the statement and the
 * end of the data were swallowed, as anything else there would have failed it.  Where it stays unknown (such
 * a COPY fails, or several are under way) they stay counted, and the session is rather taken for active.
 */
static void server_copies(struct session *s)
{
    bool simple = (int32_t)(s->last_query - s->answered) > 0;

    s->owed = true;
    if (s->data || s->asked - s->answered > 1)
        return;
    s->copying = true;
    s->syncs = 0;
    if (!simple)
        s->asked = s->answered;
}

static void server_completes(struct session *s)
{
    uint32_t open = s->asked - s->answered;

    if (!s->owed || s->ends != 1)
        return;
    s->asked -= s->swallowed < open ? s->swallowed : open;
    s->ends = 0;
}

static void server_ready(struct session *s)
{
    s->status = s->kept > 0 ? (char)s->keep[0] : 0;
    s->copying = false;
    s->owed = false;
    s->failing = false;
    if (s->answered != s->asked)
        s->answered++;
    s->data &= s->loose || s->answered != s->asked;
    if (!s->data)
        s->ends = 0;
}

static void server_error(struct session *s)
{
    char state[WIRE_SQLSTATE_LEN + 1];
    bool fatal;

    s->copying = false;
    (void)wire_error_sqlstate(s->keep, s->kept, state, &fatal); /* the severity comes first, and is enough */
    s->fatal |= fatal;
    s->failing = true;
    s->errors++;
}

static void server_piece(struct session *s, const struct wire_piece *p)
{
    switch (p->type) {
    case 'K':
        if (!s->has_key)
            swap_key(s, p);
        break;
    case 'G':
        if (p->starts)
            server_copies(s);
        break;
    case 'C':
        if (p->starts)
            server_completes(s);
        break;
    case 'Z':
        keep_body(s, p);
        if (p->ends)
            server_ready(s);
        break;
    case 'E':
        keep_body(s, p);
        if (p->ends)
            server_error(s);
        break;
    default:
        break;
    }
}

void session_server_bytes(struct session *s, uint8_t *data, size_t len)
{
    struct wire_piece piece;
    size_t n;

    while ((n = wire_scan_next(&s->server, data, len, &piece)) > 0) {
        if (piece.type != 0)
            server_piece(s, &piece);
        data += n;
        len -= n;
    }
}

bool session_is_idle(const struct session *s)
{
    return s->status == 'I' && s->asked == s->answered && !s->loose && !s->owed && s->client.have == 0 &&
           !s->client.broken;
}

bool session_may_add(const struct session *s)
{
    return wire_scan_at_boundary(&s->server);
}
