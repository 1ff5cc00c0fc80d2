/*
 * scram_bed.c - the second reckoning, and the two sides as tests talk to them
 */
#include "scram_bed.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

struct scram_bed here;

/* --- a second reckoning, from the password
 * ------------------------------------------------------------------------------ */

const char *base64_of(const void *data, size_t len)
{
    char *out = arena_alloc(here.arena, len * 2 + 8);

    EVP_EncodeBlock((uint8_t *)out, data, (int)len);
    return out;
}

static void hmac(const uint8_t key[32], const char *s, uint8_t out[32])
{
    ck_assert_ptr_nonnull(HMAC(EVP_sha256(), key, 32, (const uint8_t *)s, strlen(s), out, NULL));
}

void keys_of(const char *password, const void *salt, size_t salt_len, int iterations, struct keys *ret)
{
    uint8_t salted[32];

    ck_assert_int_eq(
        PKCS5_PBKDF2_HMAC(password, -1, salt, (int)salt_len, iterations, EVP_sha256(), 32, salted), 1);
    hmac(salted, "Client Key", ret->client);
    hmac(salted, "Server Key", ret->server);
    SHA256(ret->client, 32, ret->stored);
}

const char *proof_of(const struct keys *k, const char *auth)
{
    uint8_t proof[32];

    hmac(k->stored, auth, proof);
    for (size_t i = 0; i < sizeof(proof); i++)
        proof[i] ^= k->client[i];
    return base64_of(proof, sizeof(proof));
}

const char *final_with(const struct keys *k, const char *c, const char *bare, const char *server_first)
{
    const char *start =
        arena_printf(here.arena, "c=%s,%.*s", c, (int)strcspn(server_first, ","), server_first);

    return arena_printf(here.arena, "%s,p=%s", start,
                        proof_of(k, arena_printf(here.arena, "%s,%s,%s", bare, server_first, start)));
}

const char *final_of(const struct keys *k, const char *bare, const char *server_first)
{
    return final_with(k, "biws", bare, server_first);
}

const char *server_final_of(const struct keys *k, const char *bare, const char *server_first,
                            const char *final)
{
    uint8_t signature[32];

    hmac(k->server,
         arena_printf(here.arena, "%s,%s,%.*s", bare, server_first, (int)(strstr(final, ",p=") - final),
                      final),
         signature);
    return arena_printf(here.arena, "v=%s", base64_of(signature, sizeof(signature)));
}

/* --- what all tests begin with
 * ------------------------------------------------------------------------------------------ */

void scram_bed_setup(void)
{
    static const uint8_t SALT[] = { 0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e,
                                    0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81 };

    here.arena = arena_new(0);
    here.err = (struct err)ERR_INIT;
    here.as = &here.keys;
    keys_of("pencil", SALT, sizeof(SALT), 4096, &here.keys);
    here.text = arena_printf(here.arena, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$%s:%s",
                             base64_of(here.keys.stored, 32), base64_of(here.keys.server, 32));
    ck_assert_msg(scram_verifier_parse(here.text, &here.verifier, &here.err) == 0, "%s", here.err.msg);
}

void scram_bed_teardown(void)
{
    buf_fini(&here.reply);
    arena_free(here.arena);
}

struct scram_server *server_of(const struct scram_verifier *v)
{
    struct scram_server *s = scram_server_new(v, NULL, SCRAM_SHA_256, RFC_NONCE, &here.e);

    ck_assert_ptr_nonnull(s);
    return s;
}

static void check_result(enum scram_result r)
{
    bool good = r == SCRAM_MORE || r == SCRAM_DONE;

    ck_assert(good == (here.e.sqlstate[0] == '\0'));
    ck_assert(good || here.reply.len == 0);
}

enum scram_result tell(struct scram_server *s, const void *message, size_t len)
{
    auto_free uint8_t *copy = xmalloc(len > 0 ? len : 1);
    enum scram_result r;

    memcpy(copy, message, len);
    buf_clear(&here.reply);
    here.e = (struct wire_error){ 0 };
    r = scram_server_next(s, copy, len, &here.reply, &here.e);
    check_result(r);
    ck_assert(r != SCRAM_DONE || here.reply.len == 46);
    return r;
}

enum scram_result say(struct scram_server *s, const char *message)
{
    return tell(s, message, strlen(message));
}

const char *said(void)
{
    return arena_strdup(here.arena, buf_str(&here.reply));
}

enum scram_result ask(struct scram_client *c, const void *message, size_t len)
{
    auto_free uint8_t *copy = xmalloc(len > 0 ? len : 1);
    enum scram_result r;

    memcpy(copy, message, len);
    buf_clear(&here.reply);
    here.e = (struct wire_error){ 0 };
    r = scram_client_next(c, copy, len, &here.e);
    check_result(r);
    if (r == SCRAM_MORE)
        scram_client_prove(c, here.as->client, here.as->server, &here.reply);
    return r;
}

void every_change(const char *message, void (*instead)(const void *message, size_t len))
{
    size_t len = strlen(message);
    char *copy = arena_strdup(here.arena, message);

    for (size_t n = 0; n < len; n++)
        instead(message, n);
    for (size_t i = 0; i < len; i++) {
        for (int c = 0; c < 256; c++) {
            copy[i] = (char)c;
            if (copy[i] != message[i])
                instead(copy, len);
        }
        copy[i] = message[i];
    }
    for (size_t i = 0; i <= len; i++) { /* one more */
        for (const char *c = "A=,\n z"; *c != '\0'; c++) {
            const char *more = arena_printf(here.arena, "%.*s%c%s", (int)i, message, *c, message + i);

            instead(more, len + 1);
        }
    }
    instead(message, len + 1); /* its NUL, which libpq does not send */
}
