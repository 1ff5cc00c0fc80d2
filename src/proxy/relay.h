/*
 * relay.h - copies bytes both ways between two streams, as fast as the slower side takes them
 *
 * Knows bytes only; a hook sees (and may change in place) every chunk before it goes on.  The loop's thread
 * only. What one side does not take at once is kept, at most one chunk of it, and the other side is not read
 * until it is gone: the memory of a session is bounded and an idle one has none.  Half-closes are passed on.
 */
#ifndef MERE_RELAY_H
#define MERE_RELAY_H

#include "proxy/stream.h"

/* The most that is read at once.  More than a TLS record, so that a record is never left half-read. */
#define RELAY_CHUNK (64 * 1024)

enum relay_result {
    RELAY_GOES_ON,
    RELAY_AGAIN, /* there is more than one turn's worth: call relay_event again soon, with both READ flags */
    RELAY_SERVER_END,  /* the server closed; all it sent is with the client's stream */
    RELAY_CLIENT_LOST, /* the client is gone */
};

typedef void (*relay_hook)(void *arg, uint8_t *data, size_t len);

struct relay {
    struct stream *client, *server;
    relay_hook client_hook, server_hook;
    void *arg;
    uint8_t *chunk;    /* RELAY_CHUNK bytes, shared by all relays of the thread */
    bool client_ended; /* has closed its half */
    bool half_closed;  /* and the server has been told */
    bool paused;       /* nothing is read from the client */
};

/* Both sides may have something at once: call each relay_event with LOOP_READ once after this. */
enum relay_result relay_client_event(struct relay *r, unsigned events);
enum relay_result relay_server_event(struct relay *r, unsigned events);
/* Stops or goes on reading from the client.  After going on, call relay_client_event with LOOP_READ from the
 * loop. */
void relay_pause(struct relay *r, bool paused);
/* Bytes of the client that the server has not got yet. */
bool relay_has_client_bytes(const struct relay *r);

#endif
