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

#include "pg/park.h"
#include "proxy/auth.h"
#include "proxy/conn.h"
#include "proxy/greet.h"
#include "proxy/login.h"
#include "proxy/relay.h"
#include "proxy/route.h"
#include "proxy/scan.h"
#include "proxy/session.h"

#define CONN_PROOF_TIME_MS 15000       /* accept to proof, TLS and startup packet included */
#define CONN_EARLY_MAX     (16 * 1024) /* bytes taken from a client before Postgres has let it in */

enum conn_state {
    CONN_GREETING,
    CONN_HANDSHAKE,
    CONN_FINDING,
    CONN_SOUNDING,
    CONN_LOOKING,
    CONN_DELAYING,
    CONN_PROVING,
    CONN_DOUBTED,
    CONN_MATCHED,
    CONN_ASKING,
    CONN_QUEUED,
    CONN_PAUSING,
    CONN_CONNECTING,
    CONN_STARTING,
    CONN_OPEN,
    CONN_LINED,
    CONN_EXAMINING,
    CONN_READY,
    CONN_PARKED,
    CONN_RESTORING,
    CONN_CANCELLING,
    CONN_ENDING,
    CONN_CLOSED,
    N_STATES,
};

enum conn_event {
    EV_TLS,       /* the client wants TLS */
    EV_SECURED,   /* it has it */
    EV_FIND,      /* mered has to say which endpoint a branch means */
    EV_SIT,       /* an early seat, to hear what the compute says of the role */
    EV_ALONE,     /* no compute is asked, or none any more */
    EV_LOOK,      /* the compute has another password than we know of */
    EV_MATCH,     /* it has the one we know */
    EV_CHOSEN,    /* what we know has to do */
    EV_PROVED,    /* the client is who he says he is, and a backend waits for the proof */
    EV_ASK,       /* mered has to say where */
    EV_JOIN,      /* c->ep is the endpoint, and its door is there */
    EV_SEAT,      /* the door lets it in */
    EV_STEP_BACK, /* the door has shut in front of it */
    EV_CONNECTED, /* the startup packet is sent */
    EV_RETRY,     /* not now, but soon */
    EV_STALE,     /* nobody is at that address */
    EV_ANSWER,    /* Postgres speaks */
    EV_LINE,      /* it will be examined whether it can be parked */
    EV_EXAMINE,   /* it is its turn */
    EV_READY,     /* it can */
    EV_STAY,      /* it cannot, or need not any more */
    EV_PARK,      /* its compute is over */
    EV_RESTORE,   /* another one has let it in */
    EV_CANCEL,    /* a CancelRequest */
    EV_SAY,       /* c->error ends it */
    EV_END,       /* the session is over and all is said */
    EV_LOST,      /* nothing more can be said */
    N_EVENTS,
};

enum conn_holds { HOLDS_QUESTION = 1, HOLDS_DOOR = 2, HOLDS_SERVER = 4, HOLDS_LINE = 8 };

/* What a login in behind takes, once the client has proved himself; wiped at the end of the session. */
struct conn_keys {
    uint8_t client[SCRAM_KEY_SIZE], server[SCRAM_KEY_SIZE];
};

/* Of a session that may be parked (conn_park.c), beside route, which its next login needs. */
struct conn_park {
    struct conn *c;
    struct scan scan;
    struct park *park;  /* from EXAMINING to RESTORING */
    struct parking *in; /* LINED, EXAMINING: whose answer waits for it; NULL = nobody's any more */
    struct list link;
};

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
    bool pooled;      /* through the pooler of its endpoint */
    bool direct_tls;  /* TLS without SSLRequest: ALPN is compulsory */
    bool finished;    /* our half of the client's socket is closed */
    bool client_done; /* the client's half is */
    struct greet greet;
    struct stream client, server;
    struct buf in;            /* from the client, not dealt with yet */
    struct buf answer;        /* from Postgres, until it has let us in */
    struct loop_timer *timer; /* the deadline of the state; OPEN: another turn of the relay */
    struct loop_timer *retry; /* DELAYING, PAUSING, CONNECTING */
    int tries, stale;
    bool asked_late;                     /* LOOKING: by a question that is older than our doubt */
    int64_t sought_us;                   /* when the search for the verifier began */
    char refusal[WIRE_SQLSTATE_LEN + 1]; /* Postgres's last reason not to let us in */
    struct route *route;                 /* these four until OPEN */
    struct directory_login *found;       /* of a branch that the directory does not have */
    struct auth *auth;
    struct login *login; /* beside a server's socket */
    struct conn_keys keys;
    struct waker_guest waiter;
    struct door_guest guest;
    struct limits_guest limited;          /* until it has proved who it is */
    const struct wire_error *turned_away; /* what it came to hear; NULL = it may come in */
    struct cancel_key key;
    struct cancel_call *call;
    struct session session;
    struct relay relay;
    struct conn_park *park; /* from OPEN on; NULL = it is never parked */
};

/* The only writer of c->state (conn.c). */
void conn_event(struct conn *c, enum conn_event event);

/* conn_greet.c: first packets and TLS */
void conn_act_handshake(struct conn *c);
void conn_act_greet(struct conn *c);
void conn_act_cancel(struct conn *c);
void conn_greet_input(struct conn *c);
void conn_handshake_input(struct conn *c);

/* conn_auth.c: who is it? */
void conn_begin(struct conn *c); /* the startup packet is read */
/* What the directory says of the client's role and address at e. */
void conn_know(struct conn *c, struct directory_entry *e, struct directory_login *ret);
void conn_refuse_address(struct conn *c);
void conn_act_find(struct conn *c);
void conn_act_sound(struct conn *c);
void conn_act_look(struct conn *c);
void conn_act_delay(struct conn *c);
void conn_act_choose(struct conn *c);
void conn_act_alone(struct conn *c);
void conn_auth_answer(struct conn *c, const struct waker_answer *answer);
void conn_auth_input(struct conn *c, unsigned events);
void conn_auth_server(struct conn *c);
void conn_auth_delayed(struct conn *c);
void conn_auth_over(struct conn *c); /* its deadline has passed */
void conn_deny(struct conn *c);
bool conn_is_known(struct conn *c);

/* conn_wait.c: from a name to a compute that answers */
void conn_on_server(void *arg, int fd, unsigned events); /* in conn.c */
void conn_on_retry(void *arg);                           /* in conn.c */
void conn_act_ask(struct conn *c);
void conn_act_join(struct conn *c);
void conn_act_step_back(struct conn *c);
void conn_act_pause(struct conn *c);
void conn_act_retry(struct conn *c);
void conn_act_connect(struct conn *c);
void conn_act_started(struct conn *c);
void conn_act_prove(struct conn *c);
bool conn_is_direct(const struct conn *c);
int conn_dial(struct conn *c); /* 0, or errno */
enum login_result conn_read_login(struct conn *c, bool *ret_ended);
void conn_find_way(struct conn *c);
bool conn_take_early(struct conn *c, unsigned events); /* false: the client is lost */
void conn_wait_over(struct conn *c);                   /* its deadline has passed */
void conn_login_input(struct conn *c);

/* conn_open.c: the relay, and the end */
void conn_act_open(struct conn *c);
void conn_act_reopen(struct conn *c);
void conn_act_say(struct conn *c);
void conn_act_end(struct conn *c);
void conn_open_said(struct conn *c, enum relay_result result);
void conn_open_turn(struct conn *c);
void conn_open_end(struct conn *c); /* c->error is why */
void conn_server_ended(struct conn *c);
void conn_open_drain(struct conn *c);
void conn_ending_input(struct conn *c, unsigned events);
void conn_drop_login(struct conn *c); /* all that is needed no longer once the session is open */
void conn_set_error(struct conn *c, const char *sqlstate, const char *hint, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void conn_refuse(struct conn *c, const struct wire_error *error);

/* conn_park.c: examined, parked, restored */
void conn_park_begin(struct conn *c); /* if its endpoint parks */
void conn_park_end(struct conn *c);
void conn_park_client_bytes(struct conn *c, uint8_t *data, size_t len);
void conn_park_server_bytes(struct conn *c, uint32_t errors_before);
void conn_park_disturb(struct conn_env *env, const char *ep); /* somebody needs the compute */
void conn_leave_line(struct conn *c);
void conn_park_resume(struct conn *c); /* the door is open again */
void conn_act_line(struct conn *c);
void conn_act_examine(struct conn *c);
void conn_act_ready(struct conn *c);
void conn_act_stay(struct conn *c);
void conn_act_park(struct conn *c);
void conn_act_restore(struct conn *c);
void conn_park_client(struct conn *c, unsigned events); /* LINED, EXAMINING, READY */
void conn_examine_input(struct conn *c);
void conn_parked_input(struct conn *c, unsigned events);
void conn_restore_input(struct conn *c);

#endif
