/*
 * conn.h - one client connection, from accept to close
 *
 * Owns the client's and the compute's socket.  The loop's thread only.  States and events are a table in
 * conn.c, and conn_event() there is the only one that changes a state.
 */
#ifndef MERE_CONN_H
#define MERE_CONN_H

#include "base/loop.h"
#include "proxy/cancel.h"
#include "proxy/directory.h"
#include "proxy/door.h"
#include "proxy/limits.h"
#include "proxy/linger.h"
#include "proxy/tls.h"
#include "proxy/waker.h"

struct conn;

#define CONN_SOUNDINGS 64

/* What all connections share.  Made and owned by proxy.c. */
struct conn_env {
    struct loop *loop;
    struct tls_context *tls;
    struct waker *waker;
    struct doors *doors;
    struct directory *directory;
    int32_t soundings_us[CONN_SOUNDINGS]; /* how long running computes took to challenge us; the last ones */
    size_t n_soundings;                   /* ever */
    struct lingers *lingers;
    struct cancel_table *cancels;
    struct limits *limits;
    struct list conns, dead; /* dead: freed at the next turn, when no event of theirs can be on its way */
    int64_t others;          /* proxies that serve sessions beside us */
    struct list strays;      /* cancels for other proxies' clients, on their way (conn_greet.c) */
    struct list parkings;    /* endpoints whose sessions are being examined (conn_park.c) */
    struct loop_timer *reaper;
    size_t n_conns, n_sessions; /* all; those that got past their startup packet */
    size_t max_sessions;
    int64_t connect_timeout_ms;
    const char *const *reserved_users;
    size_t n_reserved_users;
    uint8_t *chunk; /* RELAY_CHUNK bytes for whoever reads */
    bool draining;  /* sessions end as soon as they are idle */
    void (*on_close)(void *arg);
    void *arg;
};

/* For doors_new and the answer of waker_ops. */
extern const struct door_ops CONN_DOOR_OPS;
void conn_answer(struct waker_guest *guest, const struct waker_answer *answer);
/* The reaper's work. */
void conn_reap(void *env);

/* Takes fd (non-blocking) over, and what limits_enter gave.  peer: its address, for the log; plain: it may do
 * without TLS; refusal: what it is to be told, and no more (NULL = it may come in), which must outlive it. */
void conn_new(struct conn_env *env, int fd, const char *peer, bool plain, const struct limits_guest *guest,
              const struct wire_error *refusal);
/* The proxy stops: who waits or is idle is told so now; force: everybody. */
void conns_drain(struct conn_env *env, bool force);
/* Examines the sessions of a door that is shut; waker_parked follows.  What has passed is parked when its
 * generation is gone.  whole: it will be gone in any case, so that one that may not be parked keeps no other
 * from it. */
void conns_park(struct conn_env *env, const char *ep, uint64_t g, uint64_t question, bool whole);
/* So many other proxies have sessions of which nothing is seen here: while there are some, what is open is
 * not parked, nor later. */
void conns_others(struct conn_env *env, int64_t n);
/* A CancelRequest that came to another proxy: served when the key is one of ours. */
void conns_cancel(struct conn_env *env, const uint8_t key[WIRE_KEY_SIZE]);
/* The endpoint is no more: its parked sessions end. */
void conns_drop_parked(struct conn_env *env, const char *ep);
void conns_free_strays(struct conn_env *env);
/* Closes what is left, without a word. */
void conns_free(struct conn_env *env);

#endif
