/*
 * greet.h - what may come before a session, in which order, and the answer to each
 *
 * Pure: looks at the bytes received so far and says what to do.  Clients ask for encryption (TLS, GSS),
 * cancel somebody's query, or start a session; each request at most once.  Nothing that arrived in the clear
 * is ever carried into TLS.
 */
#ifndef MERE_GREET_H
#define MERE_GREET_H

#include "pg/wire.h"

struct greet {
    bool secure;    /* inside TLS */
    bool plain;     /* may do without TLS: it is on this machine, or that is allowed */
    bool tls_asked; /* SSLRequest seen */
    bool gss_asked;
};

enum greet_step {
    GREET_MORE,   /* wait for more bytes */
    GREET_TLS,    /* answer 'S' and begin TLS */
    GREET_NO_GSS, /* answer 'N' and go on */
    GREET_CANCEL, /* first->key */
    GREET_START,  /* first->len bytes are the startup packet */
    GREET_REFUSE, /* first->error */
    GREET_DROP,   /* close without a word */
};

/* GREET_TLS and GREET_NO_GSS take first->len bytes; the caller drops them. */
enum greet_step greet_next(struct greet *g, const void *data, size_t len, struct wire_first *first);

/* The first byte of a TLS handshake, which no Postgres packet begins with. */
#define GREET_TLS_BYTE 0x16

#endif
