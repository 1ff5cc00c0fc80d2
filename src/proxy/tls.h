/*
 * tls.h - TLS under a stream
 *
 * The only file pair that includes OpenSSL's ssl.h.  The loop's thread only.  TLS 1.2 at least; no session
 * tickets, no renegotiation; ALPN "postgresql" or none.  The private key is read once and stays in here.
 */
#ifndef MERE_TLS_H
#define MERE_TLS_H

#include "base/crypt.h"
#include "base/err.h"
#include "proxy/stream.h"

struct tls_context;

/* An open PEM file and what errors call it. */
struct tls_file {
    int fd;
    const char *name;
};
/* Reads certificate chain and key; the descriptors stay the caller's. */
struct tls_context *tls_context_new(const struct tls_file *cert, const struct tls_file *key, struct err *err);
struct tls_context *tls_context_open(const char *cert_path, const char *key_path, struct err *err);
/* Accepts NULL.  Streams that were begun with it go on. */
void tls_context_free(struct tls_context *t);

/* Turns a plain stream on which nothing of the TLS exchange was read yet into a TLS one. */
int tls_begin(struct stream *s, struct tls_context *t) MUST_CHECK;
/* 1: done, the stream carries plain bytes; 0: waits for the other side (watch for ret_events); -1: failed. */
int tls_handshake(struct stream *s, unsigned *ret_events);
/* After the handshake: the host name the client asked for, or NULL; valid while the stream is. */
const char *tls_server_name(const struct stream *s);
/* The client offered ALPN "postgresql" and it was chosen. */
bool tls_has_alpn(const struct stream *s);
/* What the client can bind its proof to: the certificate that it was shown.  False without TLS, and where the
 * certificate gives nothing. */
bool tls_binding(const struct stream *s, struct crypt_binding *ret);
/* Why the last call failed, in OpenSSL's words, for the log.  Static text. */
const char *tls_problem(void);

#endif
