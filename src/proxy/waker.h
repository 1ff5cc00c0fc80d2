/*
 * waker.h - the proxy's end of the wake socket
 *
 * Asks mered to bring computes up and hands on what mered says (docs/wake-protocol.md); keeps the directory
 * up to date.  The loop's thread only.  Losing the connection ends nothing: it is made again with back-off,
 * sessions are told, open questions are asked again.  Clients that ask the same thing at the same time share
 * one question.
 */
#ifndef MERE_WAKER_H
#define MERE_WAKER_H

#include "base/loop.h"
#include "pg/wire.h"
#include "proxy/directory.h"
#include "proxy/list.h"

#define WAKER_LINE_MAX 4096 /* with the newline */

struct waker;
struct waker_ask;

/* Lives inside a client connection. */
struct waker_guest {
    struct list link;      /* list_init before first use */
    struct waker_ask *ask; /* NULL = waits for nothing */
};

/* One of the three; to waker_look none of them. */
struct waker_answer {
    const char *ep;                 /* to waker_wake: the endpoint, whose address is known now */
    struct directory_entry *found;  /* to waker_find: valid during the call */
    const struct wire_error *error; /* to either */
};

struct waker_ops {
    /* An address; comes before the answers to those who asked. */
    void (*learn)(void *arg, const char *ep, uint64_t g, const char *socket, int max,
                  const char *pooler); /* NULL = of its pooler nothing is said */
    /* The guest no longer waits. */
    void (*answer)(struct waker_guest *guest, const struct waker_answer *answer);
    int (*hold)(void *arg, const char *ep, uint64_t g); /* how many are active, -1 = no answer */
    /* Answered by waker_parked with the same q. */
    void (*park)(void *arg, const char *ep, uint64_t g, uint64_t q, bool whole);
    void (*release)(void *arg, const char *ep, uint64_t g);
    void (*gone)(void *arg, const char *ep, uint64_t g);
    void (*drop)(void *arg, const char *ep);
    void (*lost)(void *arg);     /* the connection broke */
    void (*sessions)(void *arg); /* a new one: call waker_sessions for each endpoint in use */
    /* From now on this certificate; the descriptors stay the waker's. */
    void (*certificate)(void *arg, int cert_fd, int key_fd);
    void (*others)(void *arg, int64_t n); /* so many more proxies have sessions */
    void (*stray)(void *arg,
                  const uint8_t key[WIRE_KEY_SIZE]); /* a CancelRequest of somebody else's client */
    /* Give the listening sockets into fd, which stays the waker's.  True: done, and we listen no more. */
    bool (*retire)(void *arg, int fd);
};

/* Connects at once and whenever it has to.  host and port: where the proxy listens. */
struct waker *waker_new(struct loop *l, const char *path, const char *host, int port,
                        struct directory *directory, const struct waker_ops *ops, void *arg);
void waker_free(struct waker *w); /* accepts NULL; no guests may be left */

/* kind is "endpoint" or "branch".  db may be empty; so may moment, which stands for now.  pooled: its pooler,
 * too. */
void waker_wake(struct waker *w, struct waker_guest *guest, const char *kind, const char *name,
                const char *db, const char *moment, bool pooled);
/* Which endpoint serves the branch of that id or name? */
void waker_find(struct waker *w, struct waker_guest *guest, const char *name);
/*
 * Brings the directory up to now; ep: after its running compute was asked for its roles (NULL: without).
 * False: joined a question that was asked before, whose answer may be older than now.
 */
bool waker_look(struct waker *w, struct waker_guest *guest, const char *ep);
void waker_leave(struct waker_guest *guest); /* fine when it waits for nothing */
/* active: sessions that cannot be parked, or do something. */
void waker_parked(struct waker *w, const char *ep, uint64_t g, uint64_t q, int active);
/* The key of a CancelRequest that nobody here has. */
void waker_stray(struct waker *w, const uint8_t key[WIRE_KEY_SIZE]);
void waker_sessions(struct waker *w, const char *ep, uint64_t g, int n);
bool waker_is_connected(const struct waker *w);

#endif
