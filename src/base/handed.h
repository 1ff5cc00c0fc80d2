/*
 * handed.h - sockets that a service manager opened for us and hands over (sd_listen_fds: LISTEN_FDS)
 *
 * They are shared with the manager, which keeps them open while we are away, so that clients wait in their
 * queue.  Whoever has one closes it at the end, and never shuts it down: that would be for all.
 */
#ifndef MERE_HANDED_H
#define MERE_HANDED_H

#include "base/arena.h"
#include "base/err.h"

#define HANDED_MAX 16

struct handed {
    const char *name; /* LISTEN_FDNAMES; "unknown" when it has none */
    int fd;           /* does not wait, closed on exec */
    const char *host; /* numeric */
    int port;
};

/*
 * Once, before any thread starts: takes the variables out of the environment.  ERR_PRECONDITION when one is
 * no TCP socket that listens.
 */
int handed_take(struct arena *a, struct handed ret[HANDED_MAX], size_t *ret_n, struct err *err) MUST_CHECK;

#endif
