/*
 * proxy.h - the data path as a whole: listeners, limits, start, succession and stop
 *
 * Owns the listening sockets and all that connections share.  The loop's thread only.
 */
#ifndef MERE_PROXY_H
#define MERE_PROXY_H

#include "base/loop.h"
#include "proxy/limits.h"

struct proxy;

struct proxy_config {
    const char *host; /* name or address to listen on */
    int port;         /* 0 = a free one */
    int hand_fd;      /* a socket over which listening sockets are given to us; -1 = there is none */
    const char *wake_socket, *tls_cert, *tls_key;
    int64_t connect_timeout_ms, drain_ms;
    size_t max_clients;
    struct limits_config limits;
    bool allow_plaintext; /* also from other machines */
    const char *const *reserved_users;
    size_t n_reserved_users;
};

/* Descriptors a proxy with so many clients may need, beside so many that have not logged in yet. */
size_t proxy_descriptors(size_t max_clients, size_t max_unproved);
size_t proxy_default_unproved(size_t max_clients);

/*
 * Binds and reads the key: everything that may need privileges.  cfg must outlive the proxy.  With a hand_fd
 * it sends one byte there when only the sockets are missing, waits for them, and takes those that listen
 * where it is to; the others are closed.
 */
struct proxy *proxy_new(struct loop *l, const struct proxy_config *cfg, struct err *err);
/* Begins to accept and connects to mered. */
void proxy_start(struct proxy *p);
/*
 * On the word of mered it gives its listening sockets to a successor, serves the sessions it has, and stops
 * the loop when the last one has ended.
 *
 * proxy_stop: accepts no more; idle sessions end with 57P01 at once, others when they become idle or after
 * drain_ms. Then the loop is stopped.  Called again, it waits no more.
 */
void proxy_stop(struct proxy *p);
void proxy_free(struct proxy *p); /* accepts NULL */

const char *proxy_host(const struct proxy *p); /* numeric */

#endif
