/*
 * login.h - logging in at Postgres with the keys of a client, by SCRAM as the client
 *
 * Pure over bytes: what Postgres sends in, what it is to get out.  The keys need not be there at the
 * beginning: up to Postgres's challenge nothing depends on them, and its salt says whether the verifier that
 * we have is the one in force.  Postgres has to prove itself too.  Its bytes may be hostile.
 */
#ifndef MERE_LOGIN_H
#define MERE_LOGIN_H

#include "pg/scram.h"

struct login;

enum login_result {
    LOGIN_MORE,       /* waits for Postgres, or for login_prove */
    LOGIN_CHALLENGED, /* once: login_matches may be asked, and login_prove goes on */
    LOGIN_DONE,       /* AuthenticationOk is at the front of in: all from there is the client's */
    LOGIN_REFUSED,    /* a whole ErrorResponse is at the front of in; login_sqlstate */
    LOGIN_BROKEN,     /* what Postgres sent is not that */
};

/* Appends the startup packet and, without waiting to be asked, client-first-message.  random NULL: of a
 * branch as it was, whose compute asks for no password and must not. */
struct login *login_new(const struct buf *startup, const uint8_t *random, struct buf *out);
void login_free(struct login *l); /* accepts NULL; wipes */
/* Takes whole messages from the front of in.  After DONE, REFUSED and BROKEN it must not be called again. */
enum login_result login_next(struct login *l, struct buf *in) MUST_CHECK;
bool login_matches(const struct login *l, const struct scram_verifier *v);
/* Once, after LOGIN_CHALLENGED.  Appends the proof. */
void login_prove(struct login *l, const uint8_t client_key[SCRAM_KEY_SIZE],
                 const uint8_t server_key[SCRAM_KEY_SIZE], struct buf *out);
/* What the challenge was, for remembering it: server-first-message from its salt on. */
const char *login_challenge(const struct login *l);

bool login_is_done(const struct login *l);
/* After LOGIN_REFUSED; empty when it said none. */
const char *login_sqlstate(const struct login *l);

#endif
