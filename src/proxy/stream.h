/*
 * stream.h - one connected socket: bytes in, bytes out, what did not fit yet, and what the loop watches
 *
 * Owns its descriptor, its TLS state if any, and its place in the loop.  The loop's thread only.  Plain
 * sockets and TLS are two tables of the same byte operations (tls.h has the other); whoever uses a stream
 * cannot tell them apart. Knows nothing of Postgres.
 */
#ifndef MERE_STREAM_H
#define MERE_STREAM_H

#include "base/buf.h"
#include "base/loop.h"

enum stream_result { STREAM_END = 0, STREAM_FAILED = -1, STREAM_AGAIN = -2 };

struct stream;

struct stream_ops {
    /* Bytes moved (> 0), or a stream_result; write never says END. */
    ssize_t (*read)(struct stream *s, void *data, size_t len);
    ssize_t (*write)(struct stream *s, const void *data, size_t len);
    /* No more will be written: the other side reads an end after what was sent. */
    void (*finish)(struct stream *s);
    void (*release)(struct stream *s);
    bool (*pending)(const struct stream *s);
};

struct stream {
    int fd; /* -1 = closed */
    const struct stream_ops *ops;
    void *tls;    /* of the TLS table */
    bool starved; /* TLS cannot read before it has written */
    bool failed;  /* nothing can be written any more */
    struct loop_fd *source;
    unsigned watched;
    struct buf out; /* accepted, not yet taken by the kernel */
    uint64_t bytes_in, bytes_out;
};

/* Connects to a unix socket without blocking.  -1 with errno; EAGAIN = its backlog is full, try again. */
int stream_dial(const char *path);
/* Takes fd over as a plain stream that is watched for events.  -1 when the loop refuses it; fd is then still
 * the caller's. */
int stream_open(struct stream *s, struct loop *l, int fd, unsigned events, loop_fd_fn fn,
                void *arg) MUST_CHECK;
/* Frees all; accepts a closed or zeroed-with-fd--1 stream. */
void stream_close(struct stream *s);

/* Plain streams only: lets go of the descriptor, which is the caller's; what was not sent yet is dropped. */
int stream_give_up(struct stream *s);

ssize_t stream_read(struct stream *s, void *data, size_t len);
/* Writes what fits at once and keeps the rest in out.  -1 when the other side is gone. */
int stream_send(struct stream *s, const void *data, size_t len);
/* Goes on with out: 1 = nothing left, 0 = the other side does not drain, -1 = gone. */
int stream_flush(struct stream *s);
void stream_finish(struct stream *s);

/* Tells the loop what is wanted (LOOP_READ, LOOP_WRITE); writing is added by itself when there is something
 * to write. */
void stream_watch(struct stream *s, unsigned events);
/* Bytes were taken from the socket and wait inside: the loop will not tell of them. */
bool stream_is_pending(const struct stream *s);
/* Bytes that have arrived and were not read, wherever they are. */
bool stream_has_input(const struct stream *s);
/* Both directions are over (reset, or closed altogether): looked up in the kernel. */
bool stream_is_dead(const struct stream *s);

#endif
