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
#include "proxy/door.h"
#include "proxy/linger.h"
#include "proxy/tls.h"
#include "proxy/waker.h"

struct conn;

/* What all connections share.  Made and owned by proxy.c. */
struct conn_env {
    struct loop *loop;
    struct tls_context *tls;
    struct waker *waker;
    struct doors *doors;
    struct lingers *lingers;
    struct cancel_table *cancels;
    struct list conns, dead; /* dead: freed at the next turn, when no event of theirs can be on its way */
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
void conn_answer(struct waker_guest *guest, const char *ep, const struct wire_error *error);
/* The reaper's work. */
void conn_reap(void *env);

/* Takes fd (non-blocking) over.  peer: its address, for the log. */
void conn_new(struct conn_env *env, int fd, const char *peer, bool loopback);
/* The proxy stops: who waits or is idle is told so now; force: everybody. */
void conns_drain(struct conn_env *env, bool force);
/* Closes what is left, without a word. */
void conns_free(struct conn_env *env);

#endif
