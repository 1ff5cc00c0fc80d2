/*
 * conn_open.c - a connection that is a session, and how it ends
 */
#include "proxy/conn_intern.h"

#include <stdarg.h>
#include <stdio.h>

#define FLUSH_TIME_MS 60000 /* for a slow client to take the last bytes of its session */
#define LINGER_TIME_MS                                                                                       \
    2000 /* for a client to close after our last word: to close first with bytes unread would reset it */

/* --- ending
 * ------------------------------------------------------------------------------------------------------- */

void conn_set_error(struct conn *c, const char *sqlstate, const char *hint, const char *fmt, ...)
{
    char text[sizeof(c->error->message)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (c->error == NULL)
        c->error = xcalloc(1, sizeof(*c->error));
    wire_error_set(c->error, sqlstate, hint, "%s", text);
}

void conn_refuse(struct conn *c, const struct wire_error *error)
{
    conn_set_error(c, error->sqlstate, error->hint, "%s", error->message);
    conn_event(c, EV_SAY);
}

/* Goes on with the last bytes; once they are out, our half is closed and the client's end is awaited. */
static void ending_step(struct conn *c)
{
    int flushed = stream_flush(&c->client);

    if (flushed < 0 || (flushed == 1 && c->client_done)) {
        stream_finish(&c->client);
        conn_event(c, EV_LOST);
        return;
    }
    if (flushed == 1 && !c->finished) {
        c->finished = true;
        stream_finish(&c->client);
        loop_timer_set(c->timer, LINGER_TIME_MS);
    }
    stream_watch(&c->client, c->client_done ? 0 : LOOP_READ);
}

void conn_ending_input(struct conn *c, unsigned events)
{
    ssize_t n = STREAM_AGAIN;

    if (events & LOOP_READ)
        n = stream_read(&c->client, c->env->chunk, RELAY_CHUNK);
    if (n == STREAM_FAILED ||
        ((events & LOOP_HANGUP) && !(events & LOOP_READ) && stream_is_dead(&c->client))) {
        conn_event(c, EV_LOST);
        return;
    }
    if (n == STREAM_END)
        c->client_done = true;
    ending_step(c);
}

void conn_act_end(struct conn *c)
{
    loop_timer_set(c->timer, FLUSH_TIME_MS);
    ending_step(c);
}

void conn_act_say(struct conn *c)
{
    auto_buf words = { 0 };

    wire_error_add(&words, c->error);
    (void)stream_send(&c->client, words.data, words.len);
    conn_act_end(c);
}

void conn_drop_login(struct conn *c)
{
    if (c->route != NULL && c->park == NULL) {
        route_fini(c->route);
        free(TAKE(c->route));
    }
    if (c->found != NULL)
        explicit_bzero(c->found, sizeof(*c->found));
    free(TAKE(c->found));
    auth_free(TAKE(c->auth));
    login_free(TAKE(c->login));
    buf_fini(&c->answer);
}

/* --- open: the relay
 * ------------------------------------------------------------------------------------------------ */

static void see_client(void *arg, uint8_t *data, size_t len)
{
    struct conn *c = arg;

    session_client_bytes(&c->session, data, len);
    conn_park_client_bytes(c, data, len);
}

static void see_server(void *arg, uint8_t *data, size_t len)
{
    struct conn *c = arg;
    uint32_t errors = c->session.errors;

    session_server_bytes(&c->session, data, len);
    conn_park_server_bytes(c, errors);
    if (c->session.has_key)
        cancel_key_list(c->env->cancels, &c->key);
}

/* c->error is why the session has to end.  What Postgres said already comes first, and may have said it
 * better. */
void conn_open_end(struct conn *c)
{
    enum relay_result result = relay_server_event(&c->relay, LOOP_READ);

    if (result == RELAY_CLIENT_LOST)
        conn_event(c, EV_LOST);
    else if (c->session.fatal || !session_may_add(&c->session))
        conn_event(c, EV_END);
    else
        conn_event(c, EV_SAY);
}

void conn_open_drain(struct conn *c)
{
    conn_set_error(c, "57P01", "Connect again.", "terminating connection because the proxy is shutting down");
    conn_open_end(c);
}

/* Postgres closed.  Silence is only right when the client wanted to go, or when it was told why. */
void conn_server_ended(struct conn *c)
{
    if (c->session.fatal || c->session.bye || c->relay.client_ended || !session_may_add(&c->session)) {
        conn_event(c, EV_END);
        return;
    }
    if (door_is_shut(
            c->guest.door)) { /* it is being suspended; a backend that was still greeting says nothing */
        conn_set_error(c, "57P01", "Connect again; the endpoint starts when you do.",
                       "terminating connection due to administrator command");
        conn_open_end(c);
        return;
    }
    conn_set_error(c, "57P02", "Connect again.",
                   "the %s closed the connection without a word; it may have crashed",
                   c->pooled ? "pooler" : "compute");
    conn_event(c, EV_SAY);
}

void conn_open_said(struct conn *c, enum relay_result result)
{
    switch (result) {
    case RELAY_AGAIN:
        loop_timer_set(c->timer, 0);
        break;
    case RELAY_SERVER_END:
        conn_server_ended(c);
        return;
    case RELAY_CLIENT_LOST:
        conn_event(c, EV_LOST);
        return;
    case RELAY_GOES_ON:
        break;
    }
    if (c->session.server.broken) {
        c->why = "postgres broke the protocol";
        conn_event(c, EV_END);
    } else if (c->env->draining && session_is_idle(&c->session)) {
        conn_open_drain(c);
    }
}

/* Looks at both sides, whatever the loop says: bytes may wait where it cannot see them. */
void conn_open_turn(struct conn *c)
{
    enum relay_result result = relay_client_event(&c->relay, LOOP_READ), other;

    if (result == RELAY_GOES_ON || result == RELAY_AGAIN) {
        other = relay_server_event(&c->relay, LOOP_READ);
        result = other == RELAY_GOES_ON ? result : other;
    }
    conn_open_said(c, result);
}

/* From here on the two sides talk to each other, beginning with what each has said so far. */
static void join_sides(struct conn *c)
{
    auto_buf answer = c->answer, early = c->in;

    c->answer = c->in = (struct buf){ 0 };
    conn_drop_login(c);
    loop_timer_clear(c->timer);
    loop_timer_del(TAKE(c->retry));
    c->relay = (struct relay){
        .client = &c->client,
        .server = &c->server,
        .client_hook = see_client,
        .server_hook = see_server,
        .arg = c,
        .chunk = c->env->chunk,
    };
    see_server(c, (uint8_t *)answer.data, answer.len);
    see_client(c, (uint8_t *)early.data, early.len);
    (void)stream_send(&c->client, answer.data, answer.len);
    (void)stream_send(&c->server, early.data, early.len);
    conn_open_turn(c);
}

/*
 * Postgres has let us in, or refused for a reason of its own.  The session begins, for both sides, with its
 * AuthenticationOk, to which our last word of the exchange belongs; the client's password messages are ours
 * and never get here.
 */
void conn_act_open(struct conn *c)
{
    if (login_is_done(c->login)) {
        (void)stream_send(&c->client, auth_final(c->auth)->data, auth_final(c->auth)->len);
        conn_park_begin(c);
    }
    cancel_key_make(c->env->cancels, &c->key);
    session_init(&c->session, c->key.bytes);
    join_sides(c);
}

/* The session of before goes on. */
void conn_act_reopen(struct conn *c)
{
    cancel_key_list(c->env->cancels, &c->key);
    join_sides(c);
}
