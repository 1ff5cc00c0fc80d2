/*
 * conn_greet.c - a connection before it has a name: first packets, TLS, cancel requests
 */
#include "proxy/conn_intern.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

void conn_act_handshake(struct conn *c)
{
    if (c->client.out.len > 0 || tls_begin(&c->client, c->env->tls) < 0) {
        c->why = "cannot begin TLS";
        conn_event(c, EV_LOST);
    }
}

void conn_handshake_input(struct conn *c)
{
    unsigned events = LOOP_READ;
    int done = tls_handshake(&c->client, &events);

    if (done == 0) {
        stream_watch(&c->client, events);
        return;
    }
    if (done < 0 || (c->direct_tls && !tls_has_alpn(&c->client))) {
        c->why = done < 0 ? tls_problem() : "direct TLS without ALPN";
        conn_event(c, EV_LOST);
        return;
    }
    c->greet.secure = true;
    conn_event(c, EV_SECURED);
}

/* The startup packet is whole: from here on the client has a name and a place. */
static void take_startup(struct conn *c, const struct wire_first *first)
{
    auto_buf negotiate = { 0 };
    struct wire_startup startup;
    struct wire_error error;

    if (c->turned_away != NULL) {
        conn_refuse(c, c->turned_away);
        return;
    }
    if (wire_startup_parse(c->in.data, first, &startup, &error) < 0) {
        conn_refuse(c, &error);
        return;
    }
    wire_negotiate_add(&negotiate, &startup);
    (void)stream_send(&c->client, negotiate.data, negotiate.len);
    snprintf(c->user, sizeof(c->user), "%s", wire_startup_find(&startup, "user"));
    c->route = xcalloc(1, sizeof(*c->route));
    if (route_find(&startup, tls_server_name(&c->client), c->env->reserved_users, c->env->n_reserved_users,
                   c->route, &error) < 0) {
        conn_refuse(c, &error);
        return;
    }
    if (!limits_endpoint(c->env->limits, c->route->name, clock_mono_us())) {
        conn_set_error(c, "53400", "Keep connections open in a pool, or try again later.",
                       "too many new connections to \"%s\" in a short time", c->route->name);
        conn_event(c, EV_SAY);
        return;
    }
    if (c->env->draining || c->env->n_sessions >= c->env->max_sessions) {
        conn_set_error(c, c->env->draining ? "57P03" : "53300", "Try again later.",
                       c->env->draining ? "the proxy is shutting down"
                                        : "the proxy has all its connections in use");
        conn_event(c, EV_SAY);
        return;
    }
    buf_consume(&c->in, first->len);
    if (c->in.len == 0)
        buf_fini(&c->in);
    c->env->n_sessions++;
    c->counted = true;
    c->pooled = c->route->pooled;
    conn_begin(c);
}

/* A cancel on its way, whose client went to another proxy. */
struct stray {
    struct list link; /* env->strays */
    struct cancel_call *call;
};

static void cancel_delivered(void *arg)
{
    struct conn *c = arg;

    c->call = NULL;
    conn_event(c, EV_END);
}

/* NULL: nobody has that key here, or nothing can be sent. */
static struct cancel_call *call_for(struct conn_env *env, const uint8_t bytes[WIRE_KEY_SIZE], bool *ret_known,
                                    cancel_done_fn done, void *arg)
{
    struct cancel_key *key = cancel_key_find(env->cancels, bytes);
    struct conn *target = key != NULL ? LIST_OWNER(key, struct conn, key) : NULL;

    *ret_known = target != NULL;
    if (target == NULL || door_generation(target->guest.door) != target->guest.g)
        return NULL;
    return cancel_call_new(env->loop, door_socket(target->guest.door), target->session.server_key, done, arg);
}

/* Whether the key was right shows in nothing but what happens to the query. */
void conn_act_cancel(struct conn *c)
{
    bool known;

    c->call = call_for(c->env, c->key.bytes, &known, cancel_delivered, c);
    if (!known && c->env->others > 0)
        waker_stray(c->env->waker, c->key.bytes);
    if (c->call == NULL)
        conn_event(c, EV_END);
}

static void stray_delivered(void *arg)
{
    struct stray *s = arg;

    list_remove(&s->link);
    free(s);
}

void conns_cancel(struct conn_env *env, const uint8_t key[WIRE_KEY_SIZE])
{
    struct stray *s = xcalloc(1, sizeof(*s));
    bool known;

    s->call = call_for(env, key, &known, stray_delivered, s);
    if (s->call == NULL)
        free(s);
    else
        list_push_back(&env->strays, &s->link);
}

void conns_free_strays(struct conn_env *env)
{
    while (!list_is_empty(&env->strays)) {
        struct stray *s = LIST_OWNER(env->strays.next, struct stray, link);

        cancel_call_free(s->call);
        stray_delivered(s);
    }
}

/* Deals with the packets in c->in until one is incomplete or the state is another. */
static void take_packets(struct conn *c)
{
    while (c->state == CONN_GREETING) {
        struct wire_first first;

        switch (greet_next(&c->greet, c->in.data, c->in.len, &first)) {
        case GREET_MORE:
            return;
        case GREET_TLS:
            buf_fini(&c->in);
            (void)stream_send(&c->client, "S", 1);
            conn_event(c, EV_TLS);
            break;
        case GREET_NO_GSS:
            buf_fini(&c->in);
            (void)stream_send(&c->client, "N", 1);
            break;
        case GREET_CANCEL:
            memcpy(c->key.bytes, first.key, WIRE_KEY_SIZE);
            conn_event(c, EV_CANCEL);
            break;
        case GREET_START:
            take_startup(c, &first);
            break;
        case GREET_REFUSE:
            conn_refuse(c, &first.error);
            break;
        case GREET_DROP:
            c->why = "bytes behind a request for encryption, or a second request";
            conn_event(c, EV_LOST);
            break;
        }
    }
}

/* Direct TLS shows in the first byte, which stays in the socket for OpenSSL to read. */
static bool begins_with_tls(struct conn *c)
{
    uint8_t byte;

    if (c->in.len > 0 || c->greet.tls_asked || c->greet.gss_asked)
        return false;
    return recv(c->client.fd, &byte, 1, MSG_PEEK) == 1 && byte == GREET_TLS_BYTE;
}

void conn_greet_input(struct conn *c)
{
    if (begins_with_tls(c)) {
        c->direct_tls = c->greet.tls_asked = true;
        conn_event(c, EV_TLS);
        if (c->state == CONN_HANDSHAKE)
            conn_handshake_input(c);
        return;
    }
    while (c->state == CONN_GREETING) {
        ssize_t n = stream_read(&c->client, c->env->chunk, CONN_EARLY_MAX - c->in.len);

        if (n == STREAM_AGAIN) {
            (void)stream_flush(&c->client);
            stream_watch(&c->client, LOOP_READ);
            return;
        }
        if (n == STREAM_END && c->in.len > 0) {
            c->client_done = true;
            conn_set_error(c, "08P01", NULL, "incomplete startup packet");
            conn_event(c, EV_SAY);
        } else if (n <= 0) {
            conn_event(c, EV_LOST);
        } else {
            buf_add(&c->in, c->env->chunk, (size_t)n);
            take_packets(c);
        }
    }
}

void conn_act_greet(struct conn *c)
{
    conn_greet_input(c);
}
