/*
 * conn_wait.c - a connection that has a name and no compute yet
 *
 * Asking, queueing, connecting and trying again.  The client sees nothing of it but time, up to its deadline.
 */
#include "proxy/conn_intern.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/crypt.h"
#include "base/log.h"

#define RETRY_MIN_MS 10
#define RETRY_MAX_MS 200
#define ANSWER_MAX   (16 * 1024) /* an ErrorResponse longer than this is not looked into */

static int64_t retry_delay_ms(const struct conn *c)
{
    int64_t ms = c->tries > 5 ? RETRY_MAX_MS : (int64_t)RETRY_MIN_MS << c->tries;
    uint16_t jitter;

    if (ms > RETRY_MAX_MS)
        ms = RETRY_MAX_MS;
    crypt_random(&jitter, sizeof(jitter));
    return ms / 2 + jitter % (ms + 1);
}

static void retry_later(struct conn *c)
{
    loop_timer_set(c->retry, retry_delay_ms(c));
    c->tries++;
}

/* The endpoint that was named is the one to come to, not one of its branch's past. */
static bool is_direct(const struct route *r)
{
    return r->kind == ROUTE_ENDPOINT && r->moment[0] == '\0';
}

/* To the door, if the endpoint is named and its door is there; otherwise mered is asked. */
void conn_find_way(struct conn *c)
{
    if (is_direct(c->route) && doors_know(c->env->doors, c->route->name)) {
        snprintf(c->ep, sizeof(c->ep), "%.*s", ID_MAX, c->route->name);
        conn_event(c, EV_JOIN);
    } else {
        conn_event(c, EV_ASK);
    }
}

void conn_act_ask(struct conn *c)
{
    waker_ask(c->env->waker, &c->waiter, c->route->kind == ROUTE_ENDPOINT ? "endpoint" : "branch",
              c->route->name, c->route->database, c->route->moment);
}

/* Into a database that is not the one it named, or into the present of one whose past it asked for, a client
 * must never come, whoever made the mistake. */
static void refuse_other(struct conn *c, const char *ep)
{
    log_event(LOG_ERROR, "conn", "mered answered with another endpoint; refused", "asked", c->route->name,
              "answer", ep, NULL);
    conn_set_error(c, "58000", "Try again; the log of mere-proxy says more.",
                   "the control plane answered for another endpoint than \"%s\"", c->route->name);
    conn_event(c, EV_SAY);
}

void conn_answer(struct waker_guest *guest, const char *ep, const struct wire_error *error)
{
    struct conn *c = LIST_OWNER(guest, struct conn, waiter);

    if (error != NULL) {
        conn_refuse(c, error);
        return;
    }
    if (c->route->kind == ROUTE_ENDPOINT && (strcmp(c->route->name, ep) == 0) != is_direct(c->route)) {
        refuse_other(c, ep);
        return;
    }
    snprintf(c->ep, sizeof(c->ep), "%s", ep);
    /* the compute may have vanished while those who asked before us were let in */
    conn_event(c, doors_know(c->env->doors, ep) ? EV_JOIN : EV_STALE);
}

void conn_act_join(struct conn *c)
{
    door_join(c->env->doors, c->ep, &c->guest);
}

void conn_act_step_back(struct conn *c)
{
    loop_timer_clear(c->retry);
    door_step_back(&c->guest);
}

/* The first time at once: the compute was stopped behind a cached address.  Then with care: mered may not
 * know yet. */
void conn_act_pause(struct conn *c)
{
    buf_fini(&c->answer);
    if (c->stale++ == 0)
        conn_find_way(c);
    else
        retry_later(c);
}

void conn_act_retry(struct conn *c)
{
    buf_fini(&c->answer);
    if (door_is_shut(c->guest.door))
        conn_event(c, EV_STEP_BACK);
    else
        retry_later(c);
}

static void cannot_connect(struct conn *c, int error)
{
    switch (error) {
    case EAGAIN: /* the backlog of a unix socket is full: Postgres is busy, not away */
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        conn_event(c, EV_RETRY);
        break;
    case ENOENT:
    case ECONNREFUSED:
        door_forget(c->guest.door, c->guest.g);
        conn_event(c, EV_STALE);
        break;
    default:
        log_event(LOG_WARN, "conn", "cannot connect to a compute", "ep", c->ep, "error", strerror(error),
                  NULL);
        conn_set_error(c, "08006", "The log of mere-proxy says why.",
                       "cannot connect to the compute of endpoint \"%s\"", c->ep);
        conn_event(c, EV_SAY);
        break;
    }
}

void conn_act_connect(struct conn *c)
{
    auto_fd fd = stream_dial(door_socket(c->guest.door));

    if (fd < 0 || stream_open(&c->server, c->env->loop, fd, LOOP_READ, conn_on_server, c) < 0) {
        cannot_connect(c, errno);
        return;
    }
    fd = -1;
    if (stream_send(&c->server, c->route->packet.data, c->route->packet.len) < 0) {
        stream_close(&c->server);
        conn_event(c, EV_RETRY);
        return;
    }
    stream_watch(&c->server, LOOP_READ);
    conn_event(c, EV_CONNECTED);
}

void conn_act_started(struct conn *c)
{
    loop_timer_clear(c->retry);
}

enum verdict { VERDICT_WAIT, VERDICT_RETRY, VERDICT_PASS };

/*
 * Is what Postgres said first a reason to try again?  "Starting up", "shutting down" and "too many clients"
 * pass by, and a client that sees them would have to do the trying.  A server that closed without a whole
 * message is not there yet or no more.
 */
static enum verdict judge_answer(struct conn *c, bool ended)
{
    struct wire_scan scan = { 0 };
    struct wire_piece piece;
    bool fatal;

    if (c->answer.len == 0)
        return ended ? VERDICT_RETRY : VERDICT_WAIT;
    if (c->answer.data[0] != 'E')
        return VERDICT_PASS;
    (void)wire_scan_next(&scan, (uint8_t *)c->answer.data, c->answer.len, &piece);
    if (piece.type != 0 && piece.ends) {
        if (!wire_error_sqlstate(piece.data, piece.len, c->refusal, &fatal))
            return VERDICT_PASS;
        return strcmp(c->refusal, "57P03") == 0 || strcmp(c->refusal, "53300") == 0 ? VERDICT_RETRY
                                                                                    : VERDICT_PASS;
    }
    if (ended)
        return VERDICT_RETRY;
    return c->answer.len < ANSWER_MAX ? VERDICT_WAIT : VERDICT_PASS;
}

void conn_first_answer(struct conn *c)
{
    ssize_t n = stream_read(&c->server, c->env->chunk, ANSWER_MAX);

    if (stream_flush(&c->server) < 0 && n == STREAM_AGAIN)
        n = STREAM_FAILED;
    if (n > 0)
        buf_add(&c->answer, c->env->chunk, (size_t)n);
    switch (judge_answer(c, n == STREAM_END || n == STREAM_FAILED)) {
    case VERDICT_WAIT:
        stream_watch(&c->server, LOOP_READ);
        break;
    case VERDICT_RETRY:
        conn_event(c, EV_RETRY);
        break;
    case VERDICT_PASS:
        conn_event(c, EV_ANSWER);
        break;
    }
}

/* A waiting client should be silent.  What it sends is kept for Postgres; when it leaves, nobody waits. */
void conn_wait_input(struct conn *c, unsigned events)
{
    while (c->in.len < CONN_EARLY_MAX) {
        ssize_t n = stream_read(&c->client, c->env->chunk, CONN_EARLY_MAX - c->in.len);

        if (n == STREAM_END || n == STREAM_FAILED) {
            conn_event(c, EV_LOST);
            return;
        }
        if (n == STREAM_AGAIN)
            break;
        buf_add(&c->in, c->env->chunk, (size_t)n);
    }
    if ((events & LOOP_HANGUP) && stream_is_dead(&c->client)) {
        conn_event(c, EV_LOST);
        return;
    }
    (void)stream_flush(&c->client);
    stream_watch(&c->client, c->in.len < CONN_EARLY_MAX ? LOOP_READ : 0);
}

void conn_wait_over(struct conn *c)
{
    const struct door *d = c->guest.door;

    if (d != NULL && ((c->state == CONN_QUEUED && door_is_full(d)) || strcmp(c->refusal, "53300") == 0))
        conn_set_error(c, "53300", "Close connections, use a pool in the client, or try again.",
                       "endpoint \"%s\" has all its %d connections in use", c->ep, door_max(d));
    else if (c->state == CONN_ASKING && !waker_is_connected(c->env->waker))
        conn_set_error(c, "57P03", "Try again; if it goes on, see whether mered runs.",
                       "the endpoint has to be started, and the control plane is not there to do it");
    else
        conn_set_error(c, "57P03", "Try again in a moment.",
                       "the endpoint is starting and was not ready in time");
    conn_event(c, EV_SAY);
}
