/*
 * cancel.h - cancel keys of our own, and the delivery of a CancelRequest to a compute
 *
 * Clients are given a random process id and key; Postgres's own never leave the proxy.  A key is listed only
 * while its session owns the backend, so a late request finds nothing.  The loop's thread only.
 */
#ifndef MERE_CANCEL_H
#define MERE_CANCEL_H

#include "base/loop.h"
#include "pg/wire.h"

struct cancel_table;
struct cancel_call;

/* Lives inside a client connection. */
struct cancel_key {
    struct cancel_key *next;
    uint8_t bytes[WIRE_KEY_SIZE]; /* what the client was given */
    bool listed;
};

struct cancel_table *cancel_table_new(void);
void cancel_table_free(struct cancel_table *t); /* accepts NULL */

/* New random bytes whose process id nobody listed has. */
void cancel_key_make(struct cancel_table *t, struct cancel_key *k);
void cancel_key_list(struct cancel_table *t, struct cancel_key *k);
void cancel_key_unlist(struct cancel_table *t, struct cancel_key *k); /* fine when not listed */
/* NULL when nobody has it. */
struct cancel_key *cancel_key_find(struct cancel_table *t, const uint8_t bytes[WIRE_KEY_SIZE]);

typedef void (*cancel_done_fn)(void *arg);

/*
 * Sends the request with Postgres's key.  done is called once, when Postgres has acted on it (it closes the
 * connection) or after five seconds; not after cancel_call_free.  NULL when it cannot be sent.
 */
struct cancel_call *cancel_call_new(struct loop *l, const char *socket,
                                    const uint8_t server_key[WIRE_KEY_SIZE], cancel_done_fn done, void *arg);
void cancel_call_free(struct cancel_call *c); /* accepts NULL */

#endif
