/*
 * conn.c - the states of a client connection
 *
 *   GREETING <-> HANDSHAKE    first packets, in the clear or inside TLS
 *
 *   Nobody knows yet who the client is, and nothing that costs is done for it (conn_auth.c):
 *   FINDING                   a branch is named: mered says which endpoint that is
 *   SOUNDING                  the compute runs: it is asked how it would challenge the role
 *   LOOKING                   by another password than we know of: mered reads it
 *   DELAYING                  no compute, or no endpoint: as long as SOUNDING would have taken
 *   PROVING                   the challenge is out, and no backend waits
 *   DOUBTED                   one waits that has another password, or that a pooled session does not need; it
 *                             goes when it would have gone, too
 *   MATCHED                   one waits that has the same
 *
 *       FINDING --> SOUNDING --> MATCHED ----------------------------> STARTING
 *               |      |   `--> LOOKING --> MATCHED, DOUBTED --.
 *               |      v                                       v
 *               `--> DELAYING ----------------------------> PROVING --> ASKING, QUEUED
 *
 *   It has proved who it is, and waits (conn_wait.c):
 *   ASKING, QUEUED, PAUSING   for mered's answer, for a seat, for a moment before asking again
 *   CONNECTING, STARTING      has a seat: tries the compute's socket; is logging in there
 *
 *   OPEN                      bytes are relayed
 *
 *   Of an endpoint that parks its sessions, while the door is shut (conn_park.c):
 *   LINED, EXAMINING          waits for its turn; Postgres is asked for what it holds
 *   READY                     nothing that could not be restored
 *   PARKED                    without a server, until the client says something; then it is as who has proved
 *                             who he is
 *   RESTORING                 in again, and its state is put back
 *
 *       OPEN <--> LINED --> EXAMINING --> READY --> PARKED --> ASKING, QUEUED .. STARTING --> RESTORING -->
 * OPEN
 *
 *   CANCELLING                a CancelRequest is being delivered
 *   ENDING                    the last words are on their way; then the client closes, or a short time passes
 *
 * Until Postgres has let us in, everything can be tried again without the client knowing; after that nothing
 * can.  What a state holds (a question, a place at a door, a server socket) is let go by conn_event() when
 * the next one does not hold it, so that no way out of a state can forget.
 */
#include "proxy/conn_intern.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

static const struct {
    const char *name;
    unsigned holds;
} STATES[N_STATES] = {
    [CONN_GREETING] = { "greeting", 0 },
    [CONN_HANDSHAKE] = { "handshake", 0 },
    [CONN_FINDING] = { "finding", HOLDS_QUESTION },
    [CONN_SOUNDING] = { "sounding", HOLDS_DOOR | HOLDS_SERVER },
    [CONN_LOOKING] = { "looking", HOLDS_DOOR | HOLDS_SERVER | HOLDS_QUESTION },
    [CONN_DELAYING] = { "delaying", HOLDS_QUESTION },
    [CONN_PROVING] = { "proving", 0 },
    [CONN_DOUBTED] = { "doubted", HOLDS_DOOR | HOLDS_SERVER },
    [CONN_MATCHED] = { "matched", HOLDS_DOOR | HOLDS_SERVER },
    [CONN_ASKING] = { "asking", HOLDS_QUESTION },
    [CONN_QUEUED] = { "queued", HOLDS_DOOR },
    [CONN_PAUSING] = { "pausing", 0 },
    [CONN_CONNECTING] = { "connecting", HOLDS_DOOR },
    [CONN_STARTING] = { "starting", HOLDS_DOOR | HOLDS_SERVER },
    [CONN_OPEN] = { "open", HOLDS_DOOR | HOLDS_SERVER },
    [CONN_LINED] = { "lined", HOLDS_DOOR | HOLDS_SERVER | HOLDS_LINE },
    [CONN_EXAMINING] = { "examining", HOLDS_DOOR | HOLDS_SERVER | HOLDS_LINE },
    [CONN_READY] = { "ready", HOLDS_DOOR | HOLDS_SERVER },
    [CONN_PARKED] = { "parked", 0 },
    [CONN_RESTORING] = { "restoring", HOLDS_DOOR | HOLDS_SERVER },
    [CONN_CANCELLING] = { "cancelling", 0 },
    [CONN_ENDING] = { "ending", 0 },
    [CONN_CLOSED] = { "closed", 0 },
};

static void log_end(const struct conn *c)
{
    char ms[24], in[24], out[24];

    snprintf(ms, sizeof(ms), "%" PRId64, (clock_mono_us() - c->since_us) / 1000);
    snprintf(in, sizeof(in), "%" PRIu64, c->client.bytes_in);
    snprintf(out, sizeof(out), "%" PRIu64, c->client.bytes_out);
    log_event(LOG_INFO, "conn", "closed", "ep", c->ep[0] != '\0' ? c->ep : NULL, "user",
              c->user[0] != '\0' ? c->user : NULL, "from", c->peer, "ms", ms, "in", in, "out", out, "state",
              STATES[c->ended_in].name, "reason", c->why, "sqlstate",
              c->error != NULL ? c->error->sqlstate : NULL, "error",
              c->error != NULL ? c->error->message : NULL, NULL);
}

static void conn_act_close(struct conn *c)
{
    struct conn_env *env = c->env;

    log_end(c);
    cancel_call_free(TAKE(c->call));
    stream_close(&c->client);
    loop_timer_del(TAKE(c->timer));
    loop_timer_del(TAKE(c->retry));
    buf_fini(&c->in);
    conn_park_end(c);
    conn_drop_login(c);
    explicit_bzero(&c->keys, sizeof(c->keys));
    free(TAKE(c->error));
    limits_proved(env->limits, &c->limited);
    env->n_sessions -= c->counted;
    env->n_conns--;
    list_remove(&c->all);
    list_push_back(&env->dead, &c->all);
    loop_timer_set(env->reaper, 0);
    env->on_close(env->arg);
}

/* --- the table
 * ----------------------------------------------------------------------------------------------------------
 */

/* A pair without an entry changes nothing: the event came too late to matter. */
static const struct {
    enum conn_state next;
    void (*action)(struct conn *c);
    const char *reason;
} TABLE[N_STATES][N_EVENTS] = {
    [CONN_GREETING][EV_TLS] = { CONN_HANDSHAKE, conn_act_handshake, "the client asks for TLS" },
    [CONN_GREETING][EV_FIND] = { CONN_FINDING, conn_act_find, "a branch is named" },
    [CONN_GREETING][EV_SIT] = { CONN_SOUNDING, conn_act_sound, "the compute runs" },
    [CONN_GREETING][EV_ALONE] = { CONN_DELAYING, conn_act_delay, "no compute to ask" },
    [CONN_GREETING][EV_CANCEL] = { CONN_CANCELLING, conn_act_cancel, "a cancel request" },
    [CONN_GREETING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_GREETING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its startup packet" },

    [CONN_HANDSHAKE][EV_SECURED] = { CONN_GREETING, conn_act_greet, "TLS is up" },
    [CONN_HANDSHAKE][EV_LOST] = { CONN_CLOSED, conn_act_close, "no TLS" },

    [CONN_FINDING][EV_SIT] = { CONN_SOUNDING, conn_act_sound, "the compute runs" },
    [CONN_FINDING][EV_ALONE] = { CONN_DELAYING, conn_act_delay, "no compute to ask" },
    [CONN_FINDING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_FINDING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its password" },

    [CONN_SOUNDING][EV_MATCH] = { CONN_MATCHED, conn_act_choose, "its password is the one known" },
    [CONN_SOUNDING][EV_LOOK] = { CONN_LOOKING, conn_act_look, "its password is another" },
    [CONN_SOUNDING][EV_CHOSEN] = { CONN_DOUBTED, conn_act_choose, "what is known of its password has to do" },
    [CONN_SOUNDING][EV_ALONE] = { CONN_DELAYING, conn_act_delay, "the compute does not answer" },
    [CONN_SOUNDING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_SOUNDING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its password" },

    [CONN_LOOKING][EV_MATCH] = { CONN_MATCHED, conn_act_choose, "mered has learned the password" },
    [CONN_LOOKING][EV_CHOSEN] = { CONN_DOUBTED, conn_act_choose, "what is known now has to do" },
    [CONN_LOOKING][EV_ALONE] = { CONN_DELAYING, conn_act_delay, "the compute went away" },
    [CONN_LOOKING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_LOOKING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its password" },

    [CONN_DELAYING][EV_CHOSEN] = { CONN_PROVING, conn_act_choose, "as long as a compute would have taken" },
    [CONN_DELAYING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_DELAYING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its password" },

    [CONN_PROVING][EV_ASK] = { CONN_ASKING, conn_act_ask, "proved; mered has to say where" },
    [CONN_PROVING][EV_JOIN] = { CONN_QUEUED, conn_act_join, "proved; the compute is known" },
    [CONN_PROVING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_PROVING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its password" },

    [CONN_DOUBTED][EV_ALONE] = { CONN_PROVING, conn_act_alone, "the compute is of no use" },
    [CONN_DOUBTED][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_DOUBTED][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its password" },

    [CONN_MATCHED][EV_PROVED] = { CONN_STARTING, conn_act_prove, "proved; a backend waits" },
    [CONN_MATCHED][EV_ALONE] = { CONN_PROVING, conn_act_alone, "the compute went away" },
    [CONN_MATCHED][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_MATCHED][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left before its password" },

    [CONN_ASKING][EV_JOIN] = { CONN_QUEUED, conn_act_join, "mered said where" },
    [CONN_ASKING][EV_STALE] = { CONN_PAUSING, conn_act_pause, "the compute went while mered answered" },
    [CONN_ASKING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_ASKING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left while it waited" },

    [CONN_QUEUED][EV_SEAT] = { CONN_CONNECTING, conn_act_connect, "a seat is free" },
    [CONN_QUEUED][EV_ASK] = { CONN_ASKING, conn_act_ask, "the compute is gone" },
    [CONN_QUEUED][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_QUEUED][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left while it waited" },

    [CONN_PAUSING][EV_ASK] = { CONN_ASKING, conn_act_ask, "asked again" },
    [CONN_PAUSING][EV_JOIN] = { CONN_QUEUED, conn_act_join, "the compute is known again" },
    [CONN_PAUSING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_PAUSING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left while it waited" },

    [CONN_CONNECTING][EV_CONNECTED] = { CONN_STARTING, conn_act_started, "connected to the compute" },
    [CONN_CONNECTING][EV_RETRY] = { CONN_CONNECTING, conn_act_retry, "the compute is busy" },
    [CONN_CONNECTING][EV_STALE] = { CONN_PAUSING, conn_act_pause, "nobody listens at the known address" },
    [CONN_CONNECTING][EV_STEP_BACK] = { CONN_QUEUED, conn_act_step_back, "the door is shut" },
    [CONN_CONNECTING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_CONNECTING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left while it waited" },

    [CONN_STARTING][EV_ANSWER] = { CONN_OPEN, conn_act_open, "postgres has decided" },
    [CONN_STARTING][EV_RESTORE] = { CONN_RESTORING, conn_act_restore, "in again" },
    [CONN_STARTING][EV_RETRY] = { CONN_CONNECTING, conn_act_retry, "postgres is not ready" },
    [CONN_STARTING][EV_STALE] = { CONN_PAUSING, conn_act_pause, "the compute is gone" },
    [CONN_STARTING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_STARTING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left while it waited" },

    [CONN_OPEN][EV_SAY] = { CONN_ENDING, conn_act_say, "ended by the server's side" },
    [CONN_OPEN][EV_END] = { CONN_ENDING, conn_act_end, "the session is over" },
    [CONN_OPEN][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client is gone" },
    [CONN_OPEN][EV_LINE] = { CONN_LINED, conn_act_line, "it may be parked" },

    [CONN_LINED][EV_EXAMINE] = { CONN_EXAMINING, conn_act_examine, "what does it hold?" },
    [CONN_LINED][EV_STAY] = { CONN_OPEN, conn_act_stay, "the compute stays" },
    [CONN_LINED][EV_SAY] = { CONN_ENDING, conn_act_say, "ended by the server's side" },
    [CONN_LINED][EV_END] = { CONN_ENDING, conn_act_end, "the session is over" },
    [CONN_LINED][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client is gone" },

    [CONN_EXAMINING][EV_READY] = { CONN_READY, conn_act_ready, "it can be restored" },
    [CONN_EXAMINING][EV_STAY] = { CONN_OPEN, conn_act_stay, "it stays with its server" },
    [CONN_EXAMINING][EV_SAY] = { CONN_ENDING, conn_act_say, "ended by the server's side" },
    [CONN_EXAMINING][EV_END] = { CONN_ENDING, conn_act_end, "the session is over" },
    [CONN_EXAMINING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client is gone" },

    [CONN_READY][EV_PARK] = { CONN_PARKED, conn_act_park, "the compute is gone" },
    [CONN_READY][EV_STAY] = { CONN_OPEN, conn_act_stay, "the compute stays" },
    [CONN_READY][EV_SAY] = { CONN_ENDING, conn_act_say, "ended by the server's side" },
    [CONN_READY][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client is gone" },

    [CONN_PARKED][EV_ASK] = { CONN_ASKING, conn_act_ask, "the client is back; mered has to say where" },
    [CONN_PARKED][EV_JOIN] = { CONN_QUEUED, conn_act_join, "the client is back; the compute is known" },
    [CONN_PARKED][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_PARKED][EV_END] = { CONN_ENDING, conn_act_end, "the session is over" },
    [CONN_PARKED][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client is gone" },

    [CONN_RESTORING][EV_ANSWER] = { CONN_OPEN, conn_act_reopen, "restored" },
    [CONN_RESTORING][EV_STALE] = { CONN_PAUSING, conn_act_pause, "the compute is gone" },
    [CONN_RESTORING][EV_SAY] = { CONN_ENDING, conn_act_say, "refused" },
    [CONN_RESTORING][EV_END] = { CONN_ENDING, conn_act_end, "the session is over" },
    [CONN_RESTORING][EV_LOST] = { CONN_CLOSED, conn_act_close, "the client left while it waited" },

    [CONN_CANCELLING][EV_END] = { CONN_CLOSED, conn_act_close, "a cancel request" },
    [CONN_CANCELLING][EV_LOST] = { CONN_CLOSED, conn_act_close, "a cancel request" },

    [CONN_ENDING][EV_LOST] = { CONN_CLOSED, conn_act_close, "over" },
};

static void let_go(struct conn *c, unsigned holds)
{
    if (holds & HOLDS_LINE)
        conn_leave_line(c);
    if (holds & HOLDS_SERVER) {
        cancel_key_unlist(c->env->cancels, &c->key);
        if ((holds & HOLDS_DOOR) && c->guest.seated && c->server.fd >= 0)
            linger(c->env->lingers, &c->server, &c->guest);
        else
            stream_close(&c->server);
        login_free(TAKE(c->login));
        buf_fini(&c->answer);
    }
    if (holds & HOLDS_QUESTION)
        waker_leave(&c->waiter);
    if (holds & HOLDS_DOOR)
        door_leave(&c->guest); /* fine when the seat stays taken: the guest is at no door then */
}

/* The only writer of c->state. */
void conn_event(struct conn *c, enum conn_event event)
{
    enum conn_state was = c->state, next = TABLE[was][event].next;

    if (TABLE[was][event].action == NULL)
        return;
    log_event(LOG_DEBUG, "conn", TABLE[was][event].reason, "from", STATES[was].name, "to", STATES[next].name,
              "ep", c->ep[0] != '\0' ? c->ep : NULL, NULL);
    if (was != CONN_ENDING && (next == CONN_ENDING || next == CONN_CLOSED)) {
        c->ended_in = was;
        c->client_done |= c->relay.client_ended;
        if (c->why == NULL)
            c->why = TABLE[was][event].reason;
    }
    c->state = next;
    let_go(c, STATES[was].holds & ~STATES[next].holds);
    TABLE[was][event].action(c);
}

/* --- from outside
 * ---------------------------------------------------------------------------------------------------------
 */

static void on_client(void *arg, int fd, unsigned events)
{
    struct conn *c = arg;

    (void)fd;
    switch (c->state) {
    case CONN_GREETING:
        conn_greet_input(c);
        break;
    case CONN_HANDSHAKE:
        conn_handshake_input(c);
        break;
    case CONN_FINDING:
    case CONN_SOUNDING:
    case CONN_LOOKING:
    case CONN_DELAYING:
    case CONN_PROVING:
    case CONN_DOUBTED:
    case CONN_MATCHED:
        conn_auth_input(c, events);
        break;
    case CONN_ASKING:
    case CONN_QUEUED:
    case CONN_PAUSING:
    case CONN_CONNECTING:
    case CONN_STARTING:
    case CONN_RESTORING:
        if (!conn_take_early(c, events))
            conn_event(c, EV_LOST);
        break;
    case CONN_OPEN:
        conn_open_said(c, relay_client_event(&c->relay, events));
        break;
    case CONN_LINED:
    case CONN_EXAMINING:
    case CONN_READY:
        conn_park_client(c, events);
        break;
    case CONN_PARKED:
        conn_parked_input(c, events);
        break;
    case CONN_CANCELLING:
        stream_watch(&c->client, 0); /* what it sends or whether it stays does not matter any more */
        break;
    case CONN_ENDING:
        conn_ending_input(c, events);
        break;
    case CONN_CLOSED:
    case N_STATES:
        break;
    }
}

void conn_on_server(void *arg, int fd, unsigned events)
{
    struct conn *c = arg;

    (void)fd;
    switch (c->state) {
    case CONN_OPEN:
    case CONN_LINED:
        conn_open_said(c, relay_server_event(&c->relay, events));
        break;
    case CONN_STARTING:
        conn_login_input(c);
        break;
    case CONN_EXAMINING:
        conn_examine_input(c);
        break;
    case CONN_READY:
        break; /* a server that ends is what it waits for */
    case CONN_RESTORING:
        conn_restore_input(c);
        break;
    default:
        conn_auth_server(c);
        break;
    }
}

static void on_timer(void *arg)
{
    struct conn *c = arg;

    switch (c->state) {
    case CONN_OPEN:
        conn_open_turn(c);
        break;
    case CONN_LINED:
    case CONN_EXAMINING:
    case CONN_READY:
        break;
    case CONN_PARKED:
        conn_parked_input(c, LOOP_READ);
        break;
    case CONN_GREETING:
        conn_set_error(c, "08P01", NULL, "no startup packet within %d seconds", CONN_PROOF_TIME_MS / 1000);
        conn_event(c, EV_SAY);
        break;
    case CONN_FINDING:
    case CONN_SOUNDING:
    case CONN_LOOKING:
    case CONN_DELAYING:
    case CONN_PROVING:
    case CONN_DOUBTED:
    case CONN_MATCHED:
        conn_auth_over(c);
        break;
    case CONN_HANDSHAKE:
    case CONN_CANCELLING:
    case CONN_ENDING:
        conn_event(c, EV_LOST);
        break;
    default:
        conn_wait_over(c);
        break;
    }
}

void conn_on_retry(void *arg)
{
    struct conn *c = arg;

    if (c->state == CONN_DELAYING)
        conn_auth_delayed(c);
    else if (c->state == CONN_PAUSING)
        conn_find_way(c);
    else if (c->state == CONN_CONNECTING)
        conn_act_connect(c);
}

void conn_new(struct conn_env *env, int fd, const char *peer, bool plain, const struct limits_guest *guest,
              const struct wire_error *refusal)
{
    struct conn *c = xcalloc(1, sizeof(*c));

    c->env = env;
    c->server.fd = -1;
    c->greet.plain = plain;
    c->limited = *guest;
    c->turned_away = refusal;
    c->since_us = clock_mono_us();
    snprintf(c->peer, sizeof(c->peer), "%s", peer);
    list_init(&c->waiter.link);
    list_init(&c->guest.link);
    if (stream_open(&c->client, env->loop, fd, LOOP_READ, on_client, c) < 0) {
        fd_close(&fd);
        limits_proved(env->limits, &c->limited);
        free(c);
        return;
    }
    c->timer = loop_timer_new(env->loop, on_timer, c);
    c->retry = loop_timer_new(env->loop, conn_on_retry, c);
    loop_timer_set(c->timer, CONN_PROOF_TIME_MS);
    list_push_back(&env->conns, &c->all);
    env->n_conns++;
}

void conn_reap(void *arg)
{
    struct conn_env *env = arg;

    while (!list_is_empty(&env->dead)) {
        struct conn *c = LIST_OWNER(env->dead.next, struct conn, all);

        list_remove(&c->all);
        free(c);
    }
}

static void drain_one(struct conn *c, bool force)
{
    switch (c->state) {
    case CONN_OPEN:
        if (force || session_is_idle(&c->session))
            conn_open_drain(c);
        break;
    case CONN_GREETING:
    case CONN_HANDSHAKE:
    case CONN_CANCELLING:
        if (force)
            conn_event(c, EV_LOST);
        break;
    case CONN_ENDING:
    case CONN_CLOSED:
    case N_STATES:
        break;
    default:
        conn_set_error(c, "57P01", "Connect again.", "the proxy is shutting down");
        conn_event(c, EV_SAY);
        break;
    }
}

/* From any state: there is nobody left to tell. */
static void conn_abandon(struct conn *c)
{
    if (TABLE[c->state][EV_LOST].action != NULL)
        conn_event(c, EV_LOST);
}

void conns_drain(struct conn_env *env, bool force)
{
    struct list rest;

    list_init(&rest);
    list_take_all(&rest, &env->conns);
    while (!list_is_empty(&rest)) {
        struct list *l = rest.next;

        list_remove(l);
        list_push_back(&env->conns, l);
        drain_one(LIST_OWNER(l, struct conn, all), force);
    }
}

void conns_free(struct conn_env *env)
{
    while (!list_is_empty(&env->conns))
        conn_abandon(LIST_OWNER(env->conns.next, struct conn, all));
    conn_reap(env);
}

static struct conn *conn_of_guest(struct door_guest *guest)
{
    return LIST_OWNER(guest, struct conn, guest);
}

static void door_seat(struct door_guest *guest)
{
    conn_event(conn_of_guest(guest), EV_SEAT);
}

static void door_ask(struct door_guest *guest)
{
    conn_event(conn_of_guest(guest), EV_ASK);
}

static void door_make_way(struct door_guest *guest)
{
    conn_event(conn_of_guest(guest), EV_ALONE);
}

/*
 * Idle sessions are not read any more, so that none can become active behind the answer.  Who has not proved
 * himself is no activity: he goes on without a backend.
 */
static bool door_hold_guest(struct door_guest *guest)
{
    struct conn *c = conn_of_guest(guest);

    if (guest->early) {
        door_make_way(guest);
        return false;
    }
    if (c->state == CONN_CONNECTING) {
        conn_event(c, EV_STEP_BACK);
        return false;
    }
    if (c->state != CONN_OPEN || !session_is_idle(&c->session) || relay_has_client_bytes(&c->relay))
        return true;
    relay_pause(&c->relay, true);
    return false;
}

static void door_resume(struct door_guest *guest)
{
    struct conn *c = conn_of_guest(guest);

    if (c->state == CONN_LINED || c->state == CONN_EXAMINING || c->state == CONN_READY)
        conn_park_resume(c);
    if (c->state != CONN_OPEN || !c->relay.paused)
        return;
    relay_pause(&c->relay, false);
    loop_timer_set(c->timer, 0);
}

static void door_gone_guest(struct door_guest *guest)
{
    struct conn *c = conn_of_guest(guest);

    if (c->state == CONN_READY) {
        conn_event(c, EV_PARK);
        return;
    }
    if (c->state != CONN_OPEN && c->state != CONN_LINED && c->state != CONN_EXAMINING) {
        conn_event(c, guest->early ? EV_ALONE : EV_STALE);
        return;
    }
    conn_set_error(c, "57P01", "Connect again; the endpoint starts when you do.",
                   "terminating connection due to administrator command");
    if (c->state == CONN_EXAMINING)
        conn_event(c, EV_SAY); /* what Postgres says now is not for the client */
    else
        conn_open_end(c);
}

const struct door_ops CONN_DOOR_OPS = {
    .seat = door_seat,
    .ask = door_ask,
    .hold = door_hold_guest,
    .resume = door_resume,
    .gone = door_gone_guest,
    .make_way = door_make_way,
};
