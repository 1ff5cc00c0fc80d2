/*
 * scram.h - SCRAM-SHA-256 and -PLUS (RFC 5802, 7677) as messages: the server from a verifier, the client from
 * keys
 *
 * Pure: takes messages and gives the answers, knows no descriptor and makes no randomness.  Any thread; an
 * exchange belongs to one at a time.  Who plays the server learns the ClientKey of a client that it accepts,
 * and can log in elsewhere with it wherever the same verifier is in force: that is how a proxy logs in
 * behind.
 *
 * Secret are StoredKey (a password can be guessed with it), ServerKey (plays the server) and ClientKey (logs
 * in).  The _free functions wipe what they own; a struct scram_verifier is the caller's, to be wiped with
 * explicit_bzero.  Neither keys nor anything that a peer sent comes into an error text.
 */
#ifndef MERE_SCRAM_H
#define MERE_SCRAM_H

#include "base/crypt.h"
#include "pg/wire.h"

#define SCRAM_KEY_SIZE CRYPT_SHA256_SIZE
#define SCRAM_SALT_MAX 64 /* Postgres makes 16 bytes */

#define SCRAM_SHA_256      "SCRAM-SHA-256"
#define SCRAM_SHA_256_PLUS "SCRAM-SHA-256-PLUS"

/* --- what a server keeps of a password
 * ---------------------------------------------------------------------------------- */

struct scram_verifier {
    int32_t iterations;
    size_t salt_len;
    uint8_t salt[SCRAM_SALT_MAX];
    uint8_t stored_key[SCRAM_KEY_SIZE];
    uint8_t server_key[SCRAM_KEY_SIZE];
};

/* "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>", as pg_authid.rolpassword has it, and nothing
 * else: ERR_INVALID for an md5 hash, clear text, or anything out of bounds. */
int scram_verifier_parse(const char *text, struct scram_verifier *ret, struct err *err) MUST_CHECK;
/* The password is the one it was made of: takes a hash for each iteration; false also beyond SCRAM_TRIED_MAX
 * of them, which anybody can put into pg_authid. */
bool scram_verifier_fits(const struct scram_verifier *v, const char *password);
#define SCRAM_TRIED_MAX 100000
/*
 * For a role that does not exist: the same for the same key and name (of endpoint and role), with the salt's
 * length and the iterations that Postgres gives.  An exchange with it takes the very steps of any other and
 * is denied at its end: nobody knows what its StoredKey is the hash of.
 */
void scram_verifier_mock(const uint8_t key[CRYPT_KEY_SIZE], const char *name, struct scram_verifier *ret);

/* --- exchanges
 * ----------------------------------------------------------------------------------------------------------
 */

/* An own part of the nonce, out of randomness of the caller's. */
#define SCRAM_RANDOM_SIZE 18
#define SCRAM_NONCE_SIZE  CRYPT_BASE64_SIZE(SCRAM_RANDOM_SIZE)
void scram_nonce(const uint8_t random[SCRAM_RANDOM_SIZE], char out[SCRAM_NONCE_SIZE]);

enum scram_result {
    SCRAM_MORE,    /* send the reply and await the peer's next message */
    SCRAM_DONE,    /* the peer has proved itself; what the server replies is still to be sent */
    SCRAM_DENIED,  /* all was well formed, but the peer does not have the key */
    SCRAM_INVALID, /* not a message that may come here */
};

/*
 * The next message of the peer, of any bytes.  The server's reply is appended, bare (wire_sasl_… frames it).
 * After SCRAM_DENIED and SCRAM_INVALID, *e is filled and nothing is appended.  An exchange that ended one way
 * or another takes no further message.
 */
struct scram_server;
enum scram_result scram_server_next(struct scram_server *s, const void *message, size_t len,
                                    struct buf *reply, struct wire_error *e) MUST_CHECK;
struct scram_client;
enum scram_result scram_client_next(struct scram_client *c, const void *message, size_t len,
                                    struct wire_error *e) MUST_CHECK;

/* AuthenticationSASL with what can be offered: -PLUS first, and only where there is something to be bound to.
 * binding is NULL (or empty) outside TLS and where the certificate gives none. */
void scram_offer_add(struct buf *b, const struct crypt_binding *binding);

/*
 * The server's side of an exchange by the mechanism that the client chose.  binding must be what was offered
 * with.  NULL with *e when the mechanism was not offered.  All arguments are copied.
 */
struct scram_server *scram_server_new(const struct scram_verifier *v, const struct crypt_binding *binding,
                                      const char *mechanism, const char *nonce, struct wire_error *e);
void scram_server_free(struct scram_server *s); /* accepts NULL */
/* After SCRAM_DONE: the ClientKey, valid while s is. */
const uint8_t *scram_server_client_key(const struct scram_server *s);

/*
 * The client's side, without channel binding (for a unix socket).  Appends the first message; the mechanism
 * is SCRAM_SHA_256.  The keys need not be known before the server has answered it: its first message is read
 * by scram_client_next (SCRAM_MORE, no reply), the answer is scram_client_prove, once; then comes its final
 * message.
 */
struct scram_client *scram_client_new(const char *nonce, struct buf *first);
void scram_client_free(struct scram_client *c); /* accepts NULL */
/*
 * After the server's first message: it has salt and iterations of v.  If not, the password was set anew
 * since v was read; a proof would be denied, and is better not sent.
 */
bool scram_client_matches(const struct scram_client *c, const struct scram_verifier *v);
/* Appends the proof. */
void scram_client_prove(struct scram_client *c, const uint8_t client_key[SCRAM_KEY_SIZE],
                        const uint8_t server_key[SCRAM_KEY_SIZE], struct buf *reply);

#endif
