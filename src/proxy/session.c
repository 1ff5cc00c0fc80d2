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

/*
 * COPY FROM STDIN has ended, by the client's word or by an error.  In copy mode Postgres swallows every Sync,
 * among them the one that drivers send right behind Execute, so those will never be answered: after an
 * extended COPY only a Sync that is still to come counts, after a simple Query its own ReadyForQuery.
 */
static void copy_ended(struct session *s)
{
    bool simple = (int32_t)(s->last_query - s->answered) > 0;

    if (!s->copying)
        return;
    s->copying = false;
    s->asked = s->answered + (simple ? 1 : 0);
    s->loose = !simple;
}

static void client_message(struct session *s, uint8_t type)
{
    switch (type) {
    case 'Q':
        s->asked++;
        s->last_query = s->asked;
        s->loose = false;
        break;
    case 'S':
    case 'F':
        s->asked++;
        s->loose = false;
        break;
    case 'P':
    case 'B':
    case 'E':
    case 'D':
    case 'C':
        s->loose = true;
        break;
    case 'c':
    case 'f':
        copy_ended(s);
        break;
    case 'X':
        s->bye = true;
        break;
    default:
        break; /* CopyData, Flush and passwords neither begin nor end anything */
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

static void server_ready(struct session *s)
{
    s->status = s->kept > 0 ? (char)s->keep[0] : 0;
    s->copying = false;
    if (s->answered != s->asked)
        s->answered++;
}

static void server_error(struct session *s)
{
    char state[WIRE_SQLSTATE_LEN + 1];
    bool fatal;

    copy_ended(s);
    (void)wire_error_sqlstate(s->keep, s->kept, state, &fatal); /* the severity comes first, and is enough */
    s->fatal |= fatal;
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
            s->copying = true;
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
    return s->status == 'I' && s->asked == s->answered && !s->loose && s->client.have == 0 &&
           !s->client.broken;
}

bool session_may_add(const struct session *s)
{
    return wire_scan_at_boundary(&s->server);
}
