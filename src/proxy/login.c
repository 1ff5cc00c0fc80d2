/*
 * login.c - Postgres's messages up to AuthenticationOk
 *
 * A notice may come at any point and is dropped: nobody is there yet to be told.
 */
#include "proxy/login.h"

#include <string.h>

#define MESSAGE_MAX (16 * 1024) /* an ErrorResponse in any language is far shorter */

enum step { OFFER, CHALLENGE, KEYS, FINAL, OK, IN, OVER };

struct login {
    enum step step;
    struct scram_client *scram;
    char *challenge;
    char sqlstate[WIRE_SQLSTATE_LEN + 1];
};

struct login *login_new(const struct buf *startup, const uint8_t *random, struct buf *out)
{
    struct login *l = xcalloc(1, sizeof(*l));
    char nonce[SCRAM_NONCE_SIZE];
    auto_buf first = { 0 };

    buf_add(out, startup->data, startup->len);
    if (random == NULL) {
        l->step = OK;
        return l;
    }
    scram_nonce(random, nonce);
    l->scram = scram_client_new(nonce, &first);
    wire_sasl_initial_add(out, SCRAM_SHA_256, first.data, first.len);
    return l;
}

void login_free(struct login *l)
{
    if (l == NULL)
        return;
    scram_client_free(l->scram);
    free(l->challenge);
    free(l);
}

bool login_matches(const struct login *l, const struct scram_verifier *v)
{
    return scram_client_matches(l->scram, v);
}

void login_prove(struct login *l, const uint8_t client_key[SCRAM_KEY_SIZE],
                 const uint8_t server_key[SCRAM_KEY_SIZE], struct buf *out)
{
    auto_buf proof = { 0 };

    scram_client_prove(l->scram, client_key, server_key, &proof);
    wire_sasl_response_add(out, proof.data, proof.len);
    l->step = FINAL;
}

const char *login_challenge(const struct login *l)
{
    return l->challenge;
}

bool login_is_done(const struct login *l)
{
    return l->step == IN;
}

const char *login_sqlstate(const struct login *l)
{
    return l->sqlstate;
}

/* --- messages
 * -----------------------------------------------------------------------------------------------------------
 */

/* The list of mechanisms: strings, and an empty one as the last. */
static bool offers_scram(const char *p, size_t len)
{
    const char *end = p + len, *nul;
    bool found = false;

    for (; p < end && *p != '\0'; p = nul + 1) {
        nul = memchr(p, 0, (size_t)(end - p));
        if (nul == NULL)
            return false;
        found |= strcmp(p, SCRAM_SHA_256) == 0;
    }
    return found && p == end - 1;
}

/* The nonces before it are new every time. */
static char *without_nonce(const char *data, size_t len)
{
    const char *salt = memmem(data, len, ",s=", 3);

    return xasprintf("%.*s", (int)(len - (size_t)(salt - data)), salt);
}

static enum login_result take_challenge(struct login *l, const struct wire_auth *auth)
{
    struct wire_error e;

    if (scram_client_next(l->scram, auth->data, auth->len, &e) != SCRAM_MORE)
        return LOGIN_BROKEN;
    l->challenge = without_nonce(auth->data, auth->len);
    l->step = KEYS;
    return LOGIN_CHALLENGED;
}

static enum login_result take_auth(struct login *l, const void *body, size_t len)
{
    struct wire_auth auth;
    struct wire_error e;

    if (!wire_auth_parse(body, len, &auth))
        return LOGIN_BROKEN;
    if (l->step == OFFER && auth.code == WIRE_AUTH_SASL && offers_scram(auth.data, auth.len)) {
        l->step = CHALLENGE;
        return LOGIN_MORE;
    }
    if (l->step == CHALLENGE && auth.code == WIRE_AUTH_SASL_CONTINUE)
        return take_challenge(l, &auth);
    if (l->step == FINAL && auth.code == WIRE_AUTH_SASL_FINAL &&
        scram_client_next(l->scram, auth.data, auth.len, &e) == SCRAM_DONE) {
        l->step = OK;
        return LOGIN_MORE;
    }
    if (l->step == OK && auth.code == WIRE_AUTH_OK && auth.len == 0) {
        l->step = IN;
        return LOGIN_DONE;
    }
    return LOGIN_BROKEN;
}

static enum login_result take_message(struct login *l, const struct wire_piece *m)
{
    bool fatal;

    switch (m->type) {
    case 'R':
        return take_auth(l, m->data, m->len);
    case 'E':
        if (!wire_error_sqlstate(m->data, m->len, l->sqlstate, &fatal))
            l->sqlstate[0] = '\0';
        return LOGIN_REFUSED;
    case 'N':
        return LOGIN_MORE;
    default:
        return LOGIN_BROKEN;
    }
}

enum login_result login_next(struct login *l, struct buf *in)
{
    enum login_result r = LOGIN_MORE;

    while (r == LOGIN_MORE && in->len > 0) {
        struct wire_scan scan = { 0 };
        struct wire_piece m;
        size_t n = wire_scan_next(&scan, (uint8_t *)in->data, in->len, &m);

        /* "E" in front of text is how a postmaster without memory says so: its length makes no sense */
        if (scan.broken || (in->data[0] != 'E' && m.type != 0 && m.body_len > MESSAGE_MAX))
            r = LOGIN_BROKEN;
        else if (m.type == 0 || !m.ends)
            r = in->len < MESSAGE_MAX ? LOGIN_MORE : LOGIN_BROKEN;
        else
            r = take_message(l, &m);
        if (m.type == 0 || !m.ends)
            break;
        if (r == LOGIN_MORE || r == LOGIN_CHALLENGED)
            buf_consume(in, n);
    }
    if (r == LOGIN_REFUSED || r == LOGIN_BROKEN)
        l->step = OVER;
    return r;
}
