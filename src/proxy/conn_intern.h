/*
 * conn_intern.h - the inside of a client connection, for the conn*.c files alone
 *
 * States, events and the struct, and the actions that the table in conn.c names.  An action runs when the new
 * state is already set, and may itself cause the next event; so whoever calls conn_event() looks at c->state
 * before going on.
 */
#ifndef MERE_CONN_INTERN_H
#define MERE_CONN_INTERN_H

#include <arpa/inet.h>

#include "proxy/conn.h"
#include "proxy/greet.h"
#include "proxy/relay.h"
#include "proxy/route.h"
#include "proxy/session.h"

#define CONN_STARTUP_TIME_MS 15000       /* accept to startup packet, TLS included */
#define CONN_EARLY_MAX       (16 * 1024) /* bytes taken from a client before Postgres has answered */

enum conn_state {
    CONN_GREETING,
    CONN_HANDSHAKE,
    CONN_ASKING,
    CONN_QUEUED,
    CONN_PAUSING,
    CONN_CONNECTING,
    CONN_STARTING,
    CONN_OPEN,
    CONN_CANCELLING,
    CONN_ENDING,
    CONN_CLOSED,
    N_STATES,
};

enum conn_event {
    EV_TLS,       /* the client wants TLS */
    EV_SECURED,   /* it has it */
    EV_ASK,       /* mered has to say where */
    EV_JOIN,      /* c->ep is the endpoint, and its door is there */
    EV_SEAT,      /* the door lets it in */
    EV_STEP_BACK, /* the door has shut in front of it */
    EV_CONNECTED, /* the startup packet is sent */
    EV_RETRY,     /* not now, but soon */
    EV_STALE,     /* nobody is at that address */
    EV_ANSWER,    /* Postgres speaks */
    EV_CANCEL,    /* a CancelRequest */
    EV_SAY,       /* c->error ends it */
    EV_END,       /* the session is over and all is said */
    EV_LOST,      /* nothing more can be said */
    N_EVENTS,
};

enum conn_holds { HOLDS_QUESTION = 1, HOLDS_DOOR = 2, HOLDS_SERVER = 4 };

struct conn {
    struct list all; /* env->conns or env->dead */
    struct conn_env *env;
    enum conn_state state, ended_in; /* ended_in: where it was when the end began */
    const char *why;                 /* it ended */
    struct wire_error *error;        /* what the client was told, if anything */
    char peer[INET6_ADDRSTRLEN];
    char ep[ID_MAX + 1];
    char user[WIRE_NAME_MAX + 1];
    int64_t since_us;
    bool counted;     /* in env->n_sessions */
    bool direct_tls;  /* TLS without SSLRequest: ALPN is compulsory */
    bool finished;    /* our half of the client's socket is closed */
    bool client_done; /* the client's half is */
    struct greet greet;
    struct stream client, server;
    struct buf in;            /* from the client, not dealt with yet */
    struct buf answer;        /* first bytes from Postgres */
    struct loop_timer *timer; /* the deadline of the state; OPEN: another turn of the relay */
    struct loop_timer *retry; /* PAUSING, CONNECTING */
    int tries, stale;
    char refusal[WIRE_SQLSTATE_LEN + 1]; /* Postgres's last reason not to let us in */
    struct route *route;                 /* until OPEN */
    struct waker_guest waiter;
    struct door_guest guest;
    struct cancel_key key;
    struct cancel_call *call;
    struct session session;
    struct relay relay;
};

/* The only writer of c->state (conn.c). */
void conn_event(struct conn *c, enum conn_event event);

/* conn_greet.c: first packets and TLS */
void conn_act_handshake(struct conn *c);
void conn_act_greet(struct conn *c);
void conn_act_cancel(struct conn *c);
void conn_greet_input(struct conn *c);
void conn_handshake_input(struct conn *c);

/* conn_wait.c: from a name to a compute that answers */
void conn_on_server(void *arg, int fd, unsigned events); /* in conn.c */
void conn_act_ask(struct conn *c);
void conn_act_join(struct conn *c);
void conn_act_step_back(struct conn *c);
void conn_act_pause(struct conn *c);
void conn_act_retry(struct conn *c);
void conn_act_connect(struct conn *c);
void conn_act_started(struct conn *c);
void conn_find_way(struct conn *c);
void conn_wait_input(struct conn *c, unsigned events);
void conn_wait_over(struct conn *c); /* its deadline has passed */
void conn_first_answer(struct conn *c);

/* conn_open.c: the relay, and the end */
void conn_act_open(struct conn *c);
void conn_act_say(struct conn *c);
void conn_act_end(struct conn *c);
void conn_open_said(struct conn *c, enum relay_result result);
void conn_open_turn(struct conn *c);
void conn_open_end(struct conn *c); /* c->error is why */
void conn_open_drain(struct conn *c);
void conn_ending_input(struct conn *c, unsigned events);
void conn_drop_route(struct conn *c);
void conn_set_error(struct conn *c, const char *sqlstate, const char *hint, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void conn_refuse(struct conn *c, const struct wire_error *error);

#endif
