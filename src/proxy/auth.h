/*
 * auth.h - is a client who he says he is: SCRAM as the server
 *
 * Pure over bytes: messages of the client in, messages for him out; makes no randomness and no decision whose
 * verifier counts.  The offer goes out at once and the client may answer it at once; the challenge waits for
 * the verifier, which is chosen once.
 *
 * A client that proves himself shows us his ClientKey: with it we log in behind.  Whoever is denied is denied
 * at the very end, by the same steps, whatever the reason.
 */
#ifndef MERE_AUTH_H
#define MERE_AUTH_H

#include "pg/scram.h"

struct auth;

enum auth_result {
    AUTH_MORE,    /* waits for the client, or for the verifier */
    AUTH_PROVED,  /* keys and final are there */
    AUTH_DENIED,  /* well formed, and wrong */
    AUTH_INVALID, /* no message that may come here; *e says why */
};

/* Appends the offer.  binding: what of the TLS connection the client can bind to; NULL = nothing. */
struct auth *auth_new(const struct crypt_binding *binding, const uint8_t random[SCRAM_RANDOM_SIZE],
                      struct buf *out);
void auth_free(struct auth *a); /* accepts NULL; wipes */
/* never: even a proof that is right is denied. */
void auth_choose(struct auth *a, const struct scram_verifier *v, bool never);
/* Takes whole messages from the front of in, no more than it needs, and appends what is to be sent.  After
 * anything but AUTH_MORE it must not be called again. */
enum auth_result auth_next(struct auth *a, struct buf *in, struct buf *out, struct wire_error *e) MUST_CHECK;
/* We wait for the client, not for the verifier. */
bool auth_awaits_client(const struct auth *a);

/* After AUTH_PROVED, valid while a is: the keys, and our last message (SASLFinal), which is to be sent. */
const uint8_t *auth_client_key(const struct auth *a);
const uint8_t *auth_server_key(const struct auth *a);
const struct buf *auth_final(const struct auth *a);

#endif
