/*
 * scram_bed.h - SCRAM reckoned a second time, from the password and with OpenSSL alone, and the example of
 * its RFC
 */
#ifndef MERE_SCRAM_BED_H
#define MERE_SCRAM_BED_H

#include "pg/scram.h"

/* RFC 7677, section 3. */
#define RFC_FIRST        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
#define RFC_BARE         "n=user,r=rOprNGfwEbeRWgbNEkqO"
#define RFC_NONCE        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_SERVER_FIRST "r=rOprNGfwEbeRWgbNEkqO" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_FINAL        "c=biws,r=rOprNGfwEbeRWgbNEkqO" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

struct keys {
    uint8_t client[32], stored[32], server[32];
};

/* Of the test that runs. */
struct scram_bed {
    struct arena *arena;
    struct err err;
    struct wire_error e; /* of the last message, as reply is */
    struct buf reply;
    struct keys keys;      /* of "pencil", as in the RFC */
    const struct keys *as; /* what ask() proves with: keys, unless a test says otherwise */
    const char *text;      /* its verifier */
    struct scram_verifier verifier;
};
extern struct scram_bed here;

void scram_bed_setup(void);
void scram_bed_teardown(void);

const char *base64_of(const void *data, size_t len);
void keys_of(const char *password, const void *salt, size_t salt_len, int iterations, struct keys *ret);
/* The attribute p, for what both sides sign. */
const char *proof_of(const struct keys *k, const char *auth);
/* A client-final-message that answers server_first; c is its first attribute, of final_of that of "n,,". */
const char *final_with(const struct keys *k, const char *c, const char *bare, const char *server_first);
const char *final_of(const struct keys *k, const char *bare, const char *server_first);
const char *server_final_of(const struct keys *k, const char *bare, const char *server_first,
                            const char *final);

/* The message lies in memory of its own size, so that a sanitizer sees a look beyond it.  The answer is
 * said(). */
enum scram_result tell(struct scram_server *s, const void *message, size_t len);
enum scram_result say(struct scram_server *s, const char *message);
/* ask() answers the server's first message at once. */
enum scram_result ask(struct scram_client *c, const void *message, size_t len);
const char *said(void);

/* A server without TLS that adds RFC_NONCE. */
struct scram_server *server_of(const struct scram_verifier *v);
/* Gives every truncation and every change of the message to the function. */
void every_change(const char *message, void (*instead)(const void *message, size_t len));

#endif
