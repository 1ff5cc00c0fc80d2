/*
 * tls.h - TLS under a stream
 *
 * The only file pair that includes OpenSSL's ssl.h.  The loop's thread only.  TLS 1.2 at least; no session
 * tickets, no renegotiation; ALPN "postgresql" or none.  The private key is read once, before privileges are
 * dropped, and stays in here.
 */
#ifndef MERE_TLS_H
#define MERE_TLS_H

#include "base/err.h"
#include "proxy/stream.h"

struct tls_context;

/* Reads certificate chain and key (PEM). */
struct tls_context *tls_context_new(const char *cert_path, const char *key_path, struct err *err);
void tls_context_free(struct tls_context *t); /* accepts NULL */

/* Turns a plain stream on which nothing of the TLS exchange was read yet into a TLS one. */
int tls_begin(struct stream *s, struct tls_context *t) MUST_CHECK;
/* 1: done, the stream carries plain bytes; 0: waits for the other side (watch for ret_events); -1: failed. */
int tls_handshake(struct stream *s, unsigned *ret_events);
/* After the handshake: the host name the client asked for, or NULL; valid while the stream is. */
const char *tls_server_name(const struct stream *s);
/* The client offered ALPN "postgresql" and it was chosen. */
bool tls_has_alpn(const struct stream *s);
/* Why the last call failed, in OpenSSL's words, for the log.  Static text. */
const char *tls_problem(void);

#endif
