/*
 * auth.c - the client's messages, one after the other
 *
 *   INITIAL   awaits SASLInitialResponse: the mechanism and, mostly, client-first-message
 *   FIRST     it came without: awaits it in a SASLResponse
 *   VERIFIER  has it, and awaits auth_choose
 *   FINAL     has sent the challenge, and awaits the proof
 *   OVER
 */
#include "proxy/auth.h"

#include <string.h>

enum step { INITIAL, FIRST, VERIFIER, FINAL, OVER };

struct auth {
    enum step step;
    struct crypt_binding binding; /* len 0: none */
    char nonce[SCRAM_NONCE_SIZE];
    struct scram_verifier verifier;
    bool chosen, never;
    char *mechanism;
    struct buf first; /* client-first-message */
    struct scram_server *scram;
    struct buf final;
};

struct auth *auth_new(const struct crypt_binding *binding, const uint8_t random[SCRAM_RANDOM_SIZE],
                      struct buf *out)
{
    struct auth *a = xcalloc(1, sizeof(*a));

    if (binding != NULL)
        a->binding = *binding;
    scram_nonce(random, a->nonce);
    scram_offer_add(out, &a->binding);
    return a;
}

void auth_free(struct auth *a)
{
    if (a == NULL)
        return;
    scram_server_free(a->scram);
    free(a->mechanism);
    buf_fini(&a->first);
    buf_fini(&a->final);
    explicit_bzero(a, sizeof(*a));
    free(a);
}

void auth_choose(struct auth *a, const struct scram_verifier *v, bool never)
{
    a->verifier = *v;
    a->chosen = true;
    a->never = never;
}

bool auth_awaits_client(const struct auth *a)
{
    return a->step != VERIFIER || a->chosen;
}

const uint8_t *auth_client_key(const struct auth *a)
{
    return scram_server_client_key(a->scram);
}

const uint8_t *auth_server_key(const struct auth *a)
{
    return a->verifier.server_key;
}

const struct buf *auth_final(const struct auth *a)
{
    return &a->final;
}

/* --- messages
 * -----------------------------------------------------------------------------------------------------------
 */

static enum auth_result invalid(struct wire_error *e, const char *what)
{
    wire_error_set(e, "08P01", NULL, "%s", what);
    return AUTH_INVALID;
}

/* The message at the front of in: 1 when it is whole, its body in *ret_body and *ret_len; 0 when it is not.
 */
static int next_message(const struct buf *in, const char **ret_body, size_t *ret_len, struct wire_error *e)
{
    struct wire_scan scan = { 0 };
    struct wire_piece piece;

    if (in->len == 0)
        return 0;
    if (in->data[0] != 'p')
        return wire_error_set(e, "08P01", NULL, "expected SASL response, got message type %d",
                              (unsigned char)in->data[0]);
    (void)wire_scan_next(&scan, (uint8_t *)in->data, in->len, &piece);
    if (scan.broken || (piece.type != 0 && piece.body_len > WIRE_SASL_MAX))
        return wire_error_set(e, "08P01", NULL, "invalid message length");
    if (piece.type == 0 || !piece.ends)
        return 0;
    *ret_body = (const char *)piece.data;
    *ret_len = piece.len;
    return 1;
}

static enum auth_result take_initial(struct auth *a, const char *body, size_t len, struct buf *out,
                                     struct wire_error *e)
{
    struct wire_sasl_initial initial;

    if (wire_sasl_initial_parse(body, len, &initial, e) < 0)
        return AUTH_INVALID;
    a->mechanism = xstrdup(initial.mechanism);
    if (initial.data == NULL) {
        wire_sasl_continue_add(out, NULL, 0);
        a->step = FIRST;
    } else {
        buf_add(&a->first, initial.data, initial.len);
        a->step = VERIFIER;
    }
    return AUTH_MORE;
}

static enum auth_result challenge(struct auth *a, struct buf *out, struct wire_error *e)
{
    auto_buf reply = { 0 };

    a->scram = scram_server_new(&a->verifier, &a->binding, a->mechanism, a->nonce, e);
    if (a->scram == NULL)
        return AUTH_INVALID;
    if (scram_server_next(a->scram, a->first.data, a->first.len, &reply, e) != SCRAM_MORE)
        return AUTH_INVALID;
    wire_sasl_continue_add(out, reply.data, reply.len);
    buf_fini(&a->first);
    a->step = FINAL;
    return AUTH_MORE;
}

static enum auth_result take_proof(struct auth *a, const char *body, size_t len, struct wire_error *e)
{
    auto_buf reply = { 0 };

    a->step = OVER;
    switch (scram_server_next(a->scram, body, len, &reply, e)) {
    case SCRAM_DONE:
        wire_sasl_final_add(&a->final, reply.data, reply.len);
        return a->never ? AUTH_DENIED : AUTH_PROVED;
    case SCRAM_DENIED:
        return AUTH_DENIED;
    case SCRAM_MORE:
    case SCRAM_INVALID:
        break;
    }
    return AUTH_INVALID;
}

static enum auth_result take_message(struct auth *a, const char *body, size_t len, struct buf *out,
                                     struct wire_error *e)
{
    switch (a->step) {
    case INITIAL:
        return take_initial(a, body, len, out, e);
    case FIRST:
        buf_add(&a->first, body, len);
        a->step = VERIFIER;
        return AUTH_MORE;
    case FINAL:
        return take_proof(a, body, len, e);
    case VERIFIER:
    case OVER:
        break;
    }
    return invalid(e, "a SASL response was not expected");
}

enum auth_result auth_next(struct auth *a, struct buf *in, struct buf *out, struct wire_error *e)
{
    enum auth_result r = AUTH_MORE;

    while (r == AUTH_MORE) {
        const char *body = NULL;
        size_t len = 0;
        int have;

        if (a->step == VERIFIER) {
            if (!a->chosen)
                return AUTH_MORE;
            r = challenge(a, out, e);
            continue;
        }
        have = next_message(in, &body, &len, e);
        if (have <= 0)
            return have < 0 ? AUTH_INVALID : AUTH_MORE;
        r = take_message(a, body, len, out, e);
        buf_consume(in, len + 5);
    }
    return r;
}
