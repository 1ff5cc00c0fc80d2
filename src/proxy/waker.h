/*
 * waker.h - the proxy's end of the wake socket
 *
 * Asks mered to bring computes up and hands on what mered says (docs/wake-protocol.md).  The loop's thread
 * only.  Losing the connection ends nothing: it is made again with back-off, sessions are told, open
 * questions are asked again. Clients that ask the same thing at the same time share one question.
 */
#ifndef MERE_WAKER_H
#define MERE_WAKER_H

#include "base/loop.h"
#include "pg/wire.h"
#include "proxy/list.h"

#define WAKER_LINE_MAX 4096 /* with the newline */

struct waker;
struct waker_ask;

/* Lives inside a client connection. */
struct waker_guest {
    struct list link;      /* list_init before first use */
    struct waker_ask *ask; /* NULL = waits for nothing */
};

struct waker_ops {
    /* An address; comes before the answers to those who asked. */
    void (*learn)(void *arg, const char *ep, uint64_t g, const char *socket, int max);
    /* The guest no longer waits: its endpoint is ep, or (ep NULL) the error. */
    void (*answer)(struct waker_guest *guest, const char *ep, const struct wire_error *error);
    int (*hold)(void *arg, const char *ep, uint64_t g); /* how many are active, -1 = no answer */
    void (*release)(void *arg, const char *ep, uint64_t g);
    void (*gone)(void *arg, const char *ep, uint64_t g); /* UINT64_MAX: every generation */
    void (*lost)(void *arg);                             /* the connection broke */
    void (*sessions)(void *arg); /* a new one: call waker_sessions for each endpoint in use */
};

/* Connects at once and whenever it has to.  host and port: where the proxy listens. */
struct waker *waker_new(struct loop *l, const char *path, const char *host, int port,
                        const struct waker_ops *ops, void *arg);
void waker_free(struct waker *w); /* accepts NULL; no guests may be left */

/* kind is "endpoint" or "branch".  db may be empty; so may moment, which stands for now. */
void waker_ask(struct waker *w, struct waker_guest *guest, const char *kind, const char *name, const char *db,
               const char *moment);
void waker_leave(struct waker_guest *guest); /* fine when it waits for nothing */
void waker_sessions(struct waker *w, const char *ep, uint64_t g, int n);
bool waker_is_connected(const struct waker *w);

#endif
