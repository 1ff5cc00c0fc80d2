/*
 * conn_wait.c - a connection whose client has proved who he is, and has no compute yet
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
#define READ_MAX     (16 * 1024)
#define POOLER_TRIES 20 /* some seconds */

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
bool conn_is_direct(const struct conn *c)
{
    return c->route->kind == ROUTE_ENDPOINT && c->route->moment[0] == '\0';
}

/* The name of the door that c, with its endpoint, has to go through. */
static const char *door_of(const struct conn *c, char buf[DOOR_ID_MAX + 1])
{
    snprintf(buf, DOOR_ID_MAX + 1, "%s%s", c->ep, c->pooled ? DOOR_POOLER : "");
    return buf;
}

/* To the door, if the endpoint is named and its door is there; otherwise mered is asked. */
void conn_find_way(struct conn *c)
{
    char door[DOOR_ID_MAX + 1];

    snprintf(c->ep, sizeof(c->ep), "%.*s", ID_MAX, c->route->name);
    if (conn_is_direct(c) && doors_know(c->env->doors, door_of(c, door))) {
        conn_event(c, EV_JOIN);
    } else {
        conn_event(c, EV_ASK);
    }
}

void conn_act_ask(struct conn *c)
{
    waker_wake(c->env->waker, &c->waiter, c->route->kind == ROUTE_ENDPOINT ? "endpoint" : "branch",
               c->route->name, c->route->database, c->route->moment, c->pooled);
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

void conn_answer(struct waker_guest *guest, const struct waker_answer *answer)
{
    struct conn *c = LIST_OWNER(guest, struct conn, waiter);
    char door[DOOR_ID_MAX + 1];

    if (c->state != CONN_ASKING) {
        conn_auth_answer(c, answer);
        return;
    }
    if (answer->error != NULL) {
        conn_refuse(c, answer->error);
        return;
    }
    if (c->route->kind == ROUTE_ENDPOINT && (strcmp(c->route->name, answer->ep) == 0) != conn_is_direct(c)) {
        refuse_other(c, answer->ep);
        return;
    }
    snprintf(c->ep, sizeof(c->ep), "%s", answer->ep);
    /* the compute may have vanished while those who asked before us were let in */
    conn_event(c, doors_know(c->env->doors, door_of(c, door)) ? EV_JOIN : EV_STALE);
}

void conn_act_join(struct conn *c)
{
    char door[DOOR_ID_MAX + 1];

    conn_park_disturb(c->env, c->ep); /* whoever looks whether it can stop need not go on */
    door_join(c->env->doors, door_of(c, door), &c->guest);
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
    if (c->stale++ == 0)
        conn_find_way(c);
    else
        retry_later(c);
}

void conn_act_retry(struct conn *c)
{
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

/* Connects to the compute of its seat, sends the startup packet and begins to log in. */
int conn_dial(struct conn *c)
{
    auto_fd fd = stream_dial(door_socket(c->guest.door));
    uint8_t random[SCRAM_RANDOM_SIZE];
    auto_buf out = { 0 };

    if (fd < 0 || stream_open(&c->server, c->env->loop, fd, LOOP_READ, conn_on_server, c) < 0)
        return errno;
    fd = -1;
    crypt_random(random, sizeof(random));
    c->login = login_new(&c->route->packet, c->route->moment[0] != '\0' ? NULL : random, &out);
    (void)stream_send(&c->server, out.data, out.len); /* a failure shows when it is read */
    stream_watch(&c->server, LOOP_READ);
    return 0;
}

void conn_act_connect(struct conn *c)
{
    int error = conn_dial(c);

    if (error != 0)
        cannot_connect(c, error);
    else
        conn_event(c, EV_CONNECTED);
}

void conn_act_started(struct conn *c)
{
    loop_timer_clear(c->retry);
}

static void send_proof(struct conn *c)
{
    auto_buf out = { 0 };

    login_prove(c->login, c->keys.client, c->keys.server, &out);
    (void)stream_send(&c->server, out.data, out.len);
    stream_watch(&c->server, LOOP_READ);
}

void conn_act_prove(struct conn *c)
{
    door_stay(&c->guest);
    send_proof(c);
}

/* Reads what there is, and how far it gets us.  *ret_ended: nothing more will come. */
enum login_result conn_read_login(struct conn *c, bool *ret_ended)
{
    ssize_t n = stream_read(&c->server, c->env->chunk, READ_MAX);

    if (n > 0)
        buf_add(&c->answer, c->env->chunk, (size_t)n);
    *ret_ended = n == STREAM_END || n == STREAM_FAILED || (stream_flush(&c->server) < 0 && n == STREAM_AGAIN);
    stream_watch(&c->server, LOOP_READ);
    return login_next(c->login, &c->answer);
}

/*
 * "Starting up", "shutting down" and "too many clients" pass by, and a client that sees them would have to do
 * the trying.  A password that we were shown and Postgres does not take was set anew since; all else it has
 * to tell the client itself.
 */
static void refused(struct conn *c)
{
    snprintf(c->refusal, sizeof(c->refusal), "%s", login_sqlstate(c->login));
    if (strcmp(c->refusal, "57P03") == 0 || strcmp(c->refusal, "53300") == 0)
        conn_event(c, EV_RETRY);
    else if (strcmp(c->refusal, "28P01") == 0)
        conn_deny(c);
    else
        conn_event(c, EV_ANSWER);
}

/*
 * The client has just proved himself, but the pooler challenges as if the role had another password, or none:
 * it was told, and has not read it yet.
 */
static void pooler_is_late(struct conn *c)
{
    if (c->tries < POOLER_TRIES) {
        conn_event(c, EV_RETRY);
        return;
    }
    conn_set_error(c, "57P03", "Try again in a moment, or leave \"-pooler\" out and connect directly.",
                   "the pooler of endpoint \"%s\" does not know the present password of user \"%s\"", c->ep,
                   c->user);
    conn_event(c, EV_SAY);
}

/* A server that closed without a whole message is not there yet or no more. */
void conn_login_input(struct conn *c)
{
    bool ended;
    enum login_result r = conn_read_login(c, &ended);

    if (r == LOGIN_CHALLENGED && c->pooled && !conn_is_known(c)) {
        pooler_is_late(c);
        return;
    }
    if (r == LOGIN_CHALLENGED) {
        send_proof(c);
        r = login_next(c->login, &c->answer);
    }
    switch (r) {
    case LOGIN_MORE:
        if (ended)
            conn_event(c, EV_RETRY);
        break;
    case LOGIN_DONE:
        conn_event(c, c->park != NULL ? EV_RESTORE : EV_ANSWER);
        break;
    case LOGIN_REFUSED:
        refused(c);
        break;
    case LOGIN_CHALLENGED:
    case LOGIN_BROKEN:
        log_event(LOG_WARN, "conn", "a compute broke the protocol while logging in", "ep", c->ep, NULL);
        conn_set_error(c, "08P01", "The log of mere-proxy and that of the endpoint say more.",
                       "the compute of endpoint \"%s\" does not log in as PostgreSQL does", c->ep);
        conn_event(c, EV_SAY);
        break;
    }
}

/* What a client sends early is kept; when it leaves, nobody waits. */
bool conn_take_early(struct conn *c, unsigned events)
{
    while (c->in.len < CONN_EARLY_MAX) {
        ssize_t n = stream_read(&c->client, c->env->chunk, CONN_EARLY_MAX - c->in.len);

        if (n == STREAM_END || n == STREAM_FAILED)
            return false;
        if (n == STREAM_AGAIN)
            break;
        buf_add(&c->in, c->env->chunk, (size_t)n);
    }
    if ((events & LOOP_HANGUP) && stream_is_dead(&c->client))
        return false;
    (void)stream_flush(&c->client);
    stream_watch(&c->client, c->in.len < CONN_EARLY_MAX ? LOOP_READ : 0);
    return true;
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
