/*
 * t_scram.c - SCRAM as the server: against its RFC, against a second reckoning, and against all else that may
 * come
 */
#include "scram_bed.h"

#include <check.h>

Suite *t_scram_suite(void);

#define END_POINT "p=tls-server-end-point,,"

/* A whole exchange of a client that has k; how it ends. */
static enum scram_result exchange(const struct scram_verifier *v, const struct keys *k)
{
    struct scram_server *s = server_of(v);
    enum scram_result r;

    ck_assert_int_eq(say(s, RFC_FIRST), SCRAM_MORE);
    r = say(s, final_of(k, RFC_BARE, said()));
    scram_server_free(s);
    return r;
}

/* --- the server
 * ---------------------------------------------------------------------------------------------------------
 */

START_TEST(example_of_the_rfc)
{
    static const uint8_t NOTHING[32] = { 0 };
    struct scram_server *s = server_of(&here.verifier);

    ck_assert_str_eq(final_of(&here.keys, RFC_BARE, RFC_SERVER_FIRST),
                     RFC_FINAL); /* the second reckoning is right */
    ck_assert_int_eq(say(s, RFC_FIRST), SCRAM_MORE);
    ck_assert_str_eq(said(), RFC_SERVER_FIRST);
    ck_assert_mem_eq(scram_server_client_key(s), NOTHING, 32);
    ck_assert_int_eq(say(s, RFC_FINAL), SCRAM_DONE);
    ck_assert_str_eq(said(), RFC_SERVER_FINAL);
    ck_assert_mem_eq(scram_server_client_key(s), here.keys.client, 32);
    scram_server_free(s);
    scram_server_free(NULL);
    scram_client_free(NULL);
}
END_TEST

START_TEST(replies_are_appended)
{
    struct scram_server *s = server_of(&here.verifier);
    auto_buf b = { 0 };

    buf_adds(&b, "before;");
    ck_assert_int_eq(scram_server_next(s, RFC_FIRST, strlen(RFC_FIRST), &b, &here.e), SCRAM_MORE);
    buf_adds(&b, ";");
    ck_assert_int_eq(scram_server_next(s, RFC_FINAL, strlen(RFC_FINAL), &b, &here.e), SCRAM_DONE);
    ck_assert_str_eq(buf_str(&b), "before;" RFC_SERVER_FIRST ";" RFC_SERVER_FINAL);
    scram_server_free(s);
}
END_TEST

START_TEST(who_does_not_know_the_password)
{
    struct keys other = here.keys;
    struct scram_server *s;

    keys_of("pencils", here.verifier.salt, 16, 4096, &other);
    ck_assert_int_eq(exchange(&here.verifier, &here.keys), SCRAM_DONE);
    ck_assert_int_eq(exchange(&here.verifier, &other), SCRAM_DENIED);
    ck_assert_str_eq(here.e.sqlstate, "28P01");
    /* the verifier alone is not enough to log in */
    other = here.keys;
    memcpy(other.client, here.keys.stored, 32);
    ck_assert_int_eq(exchange(&here.verifier, &other), SCRAM_DENIED);
    memset(other.client, 0, 32);
    ck_assert_int_eq(exchange(&here.verifier, &other), SCRAM_DENIED);
    /* a recorded answer does not fit another nonce */
    s = scram_server_new(&here.verifier, NULL, SCRAM_SHA_256, "another", &here.e);
    ck_assert_int_eq(say(s, RFC_FIRST), SCRAM_MORE);
    ck_assert_int_eq(say(s, RFC_FINAL), SCRAM_INVALID);
    ck_assert_str_eq(here.e.message, "invalid SCRAM response: nonce does not match");
    scram_server_free(s);
}
END_TEST

/* The negative twin: what is wrong in the verifier lets nobody in, or shows in the signature. */
START_TEST(every_byte_of_the_verifier_counts)
{
    for (size_t i = 0; i < 32; i++) {
        struct scram_verifier v = here.verifier;

        v.stored_key[i] ^= 1;
        ck_assert_int_eq(exchange(&v, &here.keys), SCRAM_DENIED);
        v = here.verifier;
        v.server_key[i] ^= 1;
        ck_assert_int_eq(exchange(&v, &here.keys), SCRAM_DONE);
        ck_assert_str_ne(said(), RFC_SERVER_FINAL);
    }
}
END_TEST

/* Whatever arrives instead of an honest client's message, the exchange does not succeed. */
static void first_instead(const void *message, size_t len)
{
    struct scram_server *s = server_of(&here.verifier);

    if (tell(s, message, len) == SCRAM_MORE)
        ck_assert_int_ne(say(s, final_of(&here.keys, RFC_BARE, said())), SCRAM_DONE);
    scram_server_free(s);
}

static void final_instead(const void *message, size_t len)
{
    struct scram_server *s = server_of(&here.verifier);
    enum scram_result r;

    ck_assert_int_eq(say(s, RFC_FIRST), SCRAM_MORE);
    r = tell(s, message, len);
    ck_assert_msg(r == SCRAM_DENIED || r == SCRAM_INVALID, "%.*s", (int)len, (const char *)message);
    ck_assert_int_eq(say(s, RFC_FINAL), SCRAM_INVALID);
    scram_server_free(s);
}

START_TEST(every_change_of_client_first)
{
    every_change(RFC_FIRST, first_instead);
}
END_TEST

START_TEST(every_change_of_client_final)
{
    every_change(RFC_FINAL, final_instead);
}
END_TEST

START_TEST(first_messages)
{
    static const struct {
        const char *message, *sqlstate; /* NULL: taken */
    } CASES[] = {
        { "n,,n=,r=x", NULL }, /* libpq sends no name */
        { "n,,n=bob,r=x", NULL },
        { "n,,n=a=2Cb=3D,r=x", NULL },
        { "n,,n=\xff\xfe,r=x", NULL },
        { "y,,n=,r=!~", NULL },
        { "n,,n=,r=", "08P01" },
        { "n,,n=,r=a b", "08P01" },
        { "n,,n=,r=a\x7f", "08P01" },
        { "n,,n=,r=\xc3\xbc", "08P01" },
        { "n,,n=,r=x,", "08P01" },
        { "n,,n=,r=x,z=optional", "08P01" },
        { "n,,n=,r=x,r=y", "08P01" },
        { "n,,r=x,n=", "08P01" },
        { "n,,r=x", "08P01" },
        { "n,,n=", "08P01" },
        { "n,,n=,n=,r=x", "08P01" },
        { "n,,m=must,n=,r=x", "0A000" },
        { "n,a=bob,n=bob,r=x", "0A000" },
        { "y,a=,n=bob,r=x", "0A000" },
        { "n,b=,n=bob,r=x", "08P01" },
        { "nn,,n=,r=x", "08P01" },
        { "n,n=,r=x", "08P01" },
        { "n=,r=x", "08P01" },
        { "N,,n=,r=x", "08P01" },
        { ",,n=,r=x", "08P01" },
        { "p=tls-unique,,n=,r=x", "08P01" },
        { "p=,,n=,r=x", "08P01" },
        { "p,,n=,r=x", "08P01" },
        { END_POINT "n=,r=x", "08P01" },
        { "n,,", "08P01" },
        { "n", "08P01" },
        { " n,,n=,r=x", "08P01" },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        struct scram_server *s = server_of(&here.verifier);

        ck_assert_msg(say(s, CASES[i].message) == (CASES[i].sqlstate == NULL ? SCRAM_MORE : SCRAM_INVALID),
                      "%s", CASES[i].message);
        if (CASES[i].sqlstate != NULL)
            ck_assert_str_eq(here.e.sqlstate, CASES[i].sqlstate);
        scram_server_free(s);
    }
}
END_TEST

/* Correctly signed, all of them. */
START_TEST(final_messages)
{
    static const struct {
        const char *start; /* before ",p=" */
        const char *behind;
        enum scram_result result;
    } CASES[] = {
        { "c=biws,r=xS", "", SCRAM_DONE },
        { "c=biws,r=xS", ",", SCRAM_INVALID },
        { "c=biws,r=xS", ",z=1", SCRAM_INVALID },
        { "c=biws,r=xS", ",p=", SCRAM_INVALID },
        { "c=biws,r=xS,z=optional", "", SCRAM_INVALID },
        { "c=biws,r=xS,m=must", "", SCRAM_INVALID },
        { "m=must,c=biws,r=xS", "", SCRAM_INVALID },
        { "c=biws,r=xS,r=xS", "", SCRAM_INVALID },
        { "c=biws,c=biws,r=xS", "", SCRAM_INVALID },
        { "r=xS,c=biws", "", SCRAM_INVALID },
        { "c=biws", "", SCRAM_INVALID },
        { "c=biws,r=", "", SCRAM_INVALID },
        { "c=biws,r=x", "", SCRAM_INVALID },
        { "c=biws,r=S", "", SCRAM_INVALID },
        { "c=biws,r=xS2", "", SCRAM_INVALID },
        { "c=biws,r=XS", "", SCRAM_INVALID },
        { "c=,r=xS", "", SCRAM_INVALID },
        { "c=eSws,r=xS", "", SCRAM_INVALID },
        { "c=biw=,r=xS", "", SCRAM_INVALID },
        { "c=biwsAAAA,r=xS", "", SCRAM_INVALID },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        struct scram_server *s = scram_server_new(&here.verifier, NULL, SCRAM_SHA_256, "S", &here.e);
        const char *auth, *message;

        ck_assert_int_eq(say(s, "n,,n=,r=x"), SCRAM_MORE);
        auth = arena_printf(here.arena, "n=,r=x,%s,%s", said(), CASES[i].start);
        message = arena_printf(here.arena, "%s,p=%s%s", CASES[i].start, proof_of(&here.keys, auth),
                               CASES[i].behind);
        ck_assert_msg(say(s, message) == CASES[i].result, "%s", message);
        scram_server_free(s);
    }
}
END_TEST

START_TEST(order)
{
    static const char *const WRONG =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO" RFC_NONCE ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const struct {
        const char *messages[4];
        enum scram_result results[4];
    } CASES[] = {
        { { RFC_FINAL, RFC_FIRST, RFC_FINAL, "" },
          { SCRAM_INVALID, SCRAM_INVALID, SCRAM_INVALID, SCRAM_INVALID } },
        { { RFC_FIRST, RFC_FIRST, RFC_FINAL, "" },
          { SCRAM_MORE, SCRAM_INVALID, SCRAM_INVALID, SCRAM_INVALID } },
        { { RFC_FIRST, "", RFC_FINAL, "" }, { SCRAM_MORE, SCRAM_INVALID, SCRAM_INVALID, SCRAM_INVALID } },
        { { RFC_FIRST, RFC_FINAL, RFC_FINAL, RFC_FIRST },
          { SCRAM_MORE, SCRAM_DONE, SCRAM_INVALID, SCRAM_INVALID } },
        { { RFC_FIRST, WRONG, RFC_FINAL, RFC_FIRST },
          { SCRAM_MORE, SCRAM_DENIED, SCRAM_INVALID, SCRAM_INVALID } },
        { { "", RFC_FIRST, RFC_FINAL, "" }, { SCRAM_INVALID, SCRAM_INVALID, SCRAM_INVALID, SCRAM_INVALID } },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        struct scram_server *s = server_of(&here.verifier);

        for (size_t k = 0; k < 4; k++)
            ck_assert_msg(say(s, CASES[i].messages[k]) == CASES[i].results[k], "case %zu, message %zu", i, k);
        scram_server_free(s);
    }
}
END_TEST

/* "n,,n=,r=" and x up to the size. */
static char *long_first(size_t size)
{
    char *m = arena_alloc(here.arena, size + 1);

    memset(m, 'x', size);
    memcpy(m, "n,,n=,r=", 8);
    return m;
}

START_TEST(sizes)
{
    static const size_t SIZES[] = { 9, 900, WIRE_SASL_MAX, WIRE_SASL_MAX + 1, 100000 };

    for (size_t i = 0; i < N_ELEMENTS(SIZES); i++) {
        struct scram_server *s = server_of(&here.verifier);
        char *m = long_first(SIZES[i]);
        enum scram_result r = say(s, m);
        const char *final;

        ck_assert_int_eq(r, SIZES[i] <= WIRE_SASL_MAX ? SCRAM_MORE : SCRAM_INVALID);
        if (r == SCRAM_MORE) {
            final = final_of(&here.keys, m + 3, said());
            ck_assert_int_eq(say(s, final), strlen(final) <= WIRE_SASL_MAX ? SCRAM_DONE : SCRAM_INVALID);
        }
        scram_server_free(s);
    }
}
END_TEST

/* --- channel binding
 * ---------------------------------------------------------------------------------------------------- */

enum hash { HASH_NONE, HASH_RIGHT, HASH_OTHER, HASH_SHORT, HASH_LONG, N_HASHES };

static const char *const HEADERS[] = { "n,,", "y,,", END_POINT };
static struct crypt_binding certificate;

static const char *c_value(const char *header, enum hash hash)
{
    static const size_t LEN[] = { 0, 32, 32, 31, 33 };
    char raw[64];
    size_t at = strlen(header);

    memcpy(raw, header, at);
    memcpy(raw + at, certificate.hash, 33);
    if (hash == HASH_OTHER)
        raw[at] = (char)~raw[at];
    return base64_of(raw, at + LEN[hash]);
}

/* Written down once more as a rule: n stands for itself; y where nothing was offered; p with the hash. */
static bool may_succeed(bool tls, bool plus, const char *header, const char *repeated, enum hash hash)
{
    if (strcmp(header, repeated) != 0 || (plus && !tls))
        return false;
    switch (header[0]) {
    case 'n':
        return !plus && hash == HASH_NONE;
    case 'y':
        return !plus && !tls && hash == HASH_NONE;
    default:
        return plus && hash == HASH_RIGHT;
    }
}

static enum scram_result bound(bool tls, bool plus, const char *header, const char *repeated, enum hash hash)
{
    struct scram_server *s = scram_server_new(&here.verifier, tls ? &certificate : NULL,
                                              plus ? SCRAM_SHA_256_PLUS : SCRAM_SHA_256, "S", &here.e);
    enum scram_result r;

    if (s == NULL)
        return SCRAM_INVALID;
    r = say(s, arena_printf(here.arena, "%sn=,r=x", header));
    if (r == SCRAM_MORE)
        r = say(s, final_with(&here.keys, c_value(repeated, hash), "n=,r=x", said()));
    scram_server_free(s);
    return r;
}

static void setup_certificate(void)
{
    scram_bed_setup();
    certificate = (struct crypt_binding){ .len = 32 };
    crypt_random(certificate.hash, sizeof(certificate.hash));
}

START_TEST(every_combination)
{
    int n = 0;

    for (int i = 0; i < 2 * 2 * 3 * 3 * N_HASHES; i++) {
        bool tls = i & 1, plus = i & 2;
        const char *header = HEADERS[i / 4 % 3], *repeated = HEADERS[i / 12 % 3];
        enum hash hash = (enum hash)(i / 36);
        bool may = may_succeed(tls, plus, header, repeated, hash);

        ck_assert_msg(bound(tls, plus, header, repeated, hash) == (may ? SCRAM_DONE : SCRAM_INVALID),
                      "tls %d, plus %d, %s, %s, hash %d", tls, plus, header, repeated, hash);
        n += may;
    }
    ck_assert_int_eq(n, 4); /* n without and with TLS, y without, p with */
}
END_TEST

START_TEST(what_is_said_of_a_binding)
{
    struct crypt_binding nothing = { 0 };

    bound(true, false, "y,,", "y,,", HASH_NONE);
    ck_assert_str_eq(here.e.sqlstate, "28000");
    ck_assert_ptr_nonnull(strstr(here.e.message, "negotiation"));
    bound(true, true, END_POINT, END_POINT, HASH_OTHER);
    ck_assert_str_eq(here.e.sqlstate, "28000");
    ck_assert_str_eq(here.e.message, "SCRAM channel binding check failed");
    bound(false, true, END_POINT, END_POINT, HASH_RIGHT);
    ck_assert_str_eq(here.e.sqlstate, "08P01");
    bound(true, true, "p=tls-unique,,", "p=tls-unique,,", HASH_RIGHT);
    ck_assert_str_eq(here.e.sqlstate, "08P01");
    bound(true, true, "p=tls-server-end-point,a=bob,", END_POINT, HASH_RIGHT);
    ck_assert_str_eq(here.e.sqlstate, "0A000");
    /* an empty hash binds to nothing, so it is no binding */
    ck_assert_ptr_null(scram_server_new(&here.verifier, &nothing, SCRAM_SHA_256_PLUS, "S", &here.e));
}
END_TEST

START_TEST(every_size_of_hash)
{
    static const size_t SIZES[] = { 28, 32, 48, 64 };

    for (size_t i = 0; i < N_ELEMENTS(SIZES); i++) {
        struct scram_server *s;
        char raw[128];

        certificate.len = SIZES[i];
        s = scram_server_new(&here.verifier, &certificate, SCRAM_SHA_256_PLUS, "S", &here.e);
        ck_assert_int_eq(say(s, END_POINT "n=,r=x"), SCRAM_MORE);
        memcpy(raw, END_POINT, 24);
        memcpy(raw + 24, certificate.hash, SIZES[i]);
        ck_assert_int_eq(say(s, final_with(&here.keys, base64_of(raw, 24 + SIZES[i]), "n=,r=x", said())),
                         SCRAM_DONE);
        scram_server_free(s);
    }
}
END_TEST

START_TEST(mechanisms)
{
    static const char *const BAD[] = {
        "", "SCRAM-SHA-25", "SCRAM-SHA-2566", "scram-sha-256", "SCRAM-SHA-256-PLUS ", "SCRAM-SHA-1", "PLAIN"
    };
    struct crypt_binding nothing = { 0 };
    auto_buf b = { 0 };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        ck_assert_ptr_null(scram_server_new(&here.verifier, &certificate, BAD[i], "S", &here.e));
        ck_assert_str_eq(here.e.sqlstate, "08P01");
    }
    scram_offer_add(&b, &certificate);
    ck_assert_uint_eq(b.len, 1 + 4 + 4 + 19 + 14 + 1);
    ck_assert_mem_eq(b.data, "R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", b.len);
    buf_clear(&b);
    scram_offer_add(&b, NULL);
    scram_offer_add(&b, &nothing);
    ck_assert_uint_eq(b.len, 2 * 24);
    ck_assert_mem_eq(b.data, "R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", 24);
    ck_assert_mem_eq(b.data + 24, b.data, 24);
}
END_TEST

/* --- verifiers
 * ----------------------------------------------------------------------------------------------------------
 */

START_TEST(verifiers)
{
    const char *made;

    ck_assert_int_eq(here.verifier.iterations, 4096);
    ck_assert_uint_eq(here.verifier.salt_len, 16);
    ck_assert_mem_eq(here.verifier.stored_key, here.keys.stored, 32);
    ck_assert_mem_eq(here.verifier.server_key, here.keys.server, 32);
    ck_assert_int_eq(crypt_scram_verifier(here.arena, "npg_Secret12345", &made, &here.err), 0);
    ck_assert_int_eq(scram_verifier_parse(made, &here.verifier, &here.err), 0);
    keys_of("npg_Secret12345", here.verifier.salt, 16, 4096, &here.keys);
    ck_assert_int_eq(exchange(&here.verifier, &here.keys), SCRAM_DONE);
}
END_TEST

static void refuse(const char *bad)
{
    static const struct scram_verifier NOTHING = { 0 };

    memset(&here.verifier, 0x55, sizeof(here.verifier));
    here.err = (struct err)ERR_INIT;
    ck_assert_msg(scram_verifier_parse(bad, &here.verifier, &here.err) == -1, "%s", bad);
    ck_assert_int_eq(here.err.code, ERR_INVALID);
    ck_assert_mem_eq(&here.verifier, &NOTHING, sizeof(here.verifier));
}

START_TEST(what_is_no_verifier)
{
#define KEY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    static const char *const BAD[] = {
        "",
        "pencil",
        "md5b7c8a1d9e0f2a3b4c5d6e7f8a9b0c1d2",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$4096:$" KEY ":" KEY,
        "SCRAM-SHA-256$:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$0:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$-1:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$+1:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$ 1:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$1 :AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$04096:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$2147483648:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$99999999999:AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$4096:AAA$" KEY ":" KEY,
        "SCRAM-SHA-256$4096:AAB=$" KEY ":" KEY,
        "SCRAM-SHA-256$4096: AAAA$" KEY ":" KEY,
        "SCRAM-SHA-256$4096:AAAA$" KEY ":" KEY "AAAA",
        "SCRAM-SHA-256$4096:AAAA$" KEY ":" KEY ":",
        "SCRAM-SHA-256$4096:AAAA$" KEY ":" KEY " ",
        "SCRAM-SHA-256$4096:AAAA$" KEY ":AAAA",
        "SCRAM-SHA-256$4096:AAAA$AAAA:" KEY,
        "SCRAM-SHA-256$4096:AAAA$" KEY "$" KEY,
        "SCRAM-SHA-256$4096:AAAA:" KEY ":" KEY,
        "SCRAM-SHA-1$4096:AAAA$" KEY ":" KEY,
        "scram-sha-256$4096:AAAA$" KEY ":" KEY,
        " SCRAM-SHA-256$4096:AAAA$" KEY ":" KEY,
    };
    char salt[CRYPT_BASE64_SIZE(SCRAM_SALT_MAX + 1)];
    uint8_t zeros[SCRAM_SALT_MAX + 1] = { 0 };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        refuse(BAD[i]);
    for (size_t n = 0; n < strlen(here.text); n++)
        refuse(arena_printf(here.arena, "%.*s", (int)n, here.text));
    crypt_base64(zeros, SCRAM_SALT_MAX + 1, salt);
    refuse(arena_printf(here.arena, "SCRAM-SHA-256$1:%s$" KEY ":" KEY, salt));
    refuse(memset(arena_alloc(here.arena, 100001), 'S', 100000));
    crypt_base64(zeros, SCRAM_SALT_MAX, salt);
    ck_assert_int_eq(
        scram_verifier_parse(arena_printf(here.arena, "SCRAM-SHA-256$2147483647:%s$" KEY ":" KEY, salt),
                             &here.verifier, &here.err),
        0);
    ck_assert(here.verifier.iterations == INT32_MAX && here.verifier.salt_len == SCRAM_SALT_MAX);
}
END_TEST

START_TEST(roles_that_do_not_exist)
{
    static const uint8_t ONE[CRYPT_KEY_SIZE] = { 1 }, OTHER[CRYPT_KEY_SIZE] = { 2 };
    struct scram_verifier a, b;
    struct scram_server *s;

    scram_verifier_mock(ONE, "ep-x/ann", &a);
    scram_verifier_mock(ONE, "ep-x/ann", &b);
    ck_assert_mem_eq(a.salt, b.salt, 16);
    ck_assert_mem_eq(a.stored_key, b.stored_key, 32);
    ck_assert(a.iterations == here.verifier.iterations && a.salt_len == here.verifier.salt_len);
    scram_verifier_mock(ONE, "ep-x/bob", &b);
    ck_assert_mem_ne(a.salt, b.salt, 16);
    scram_verifier_mock(OTHER, "ep-x/ann", &b);
    ck_assert_mem_ne(a.salt, b.salt, 16);
    ck_assert_mem_ne(a.stored_key, b.stored_key, 32);

    /* looks like any other until the proof */
    s = scram_server_new(&a, NULL, SCRAM_SHA_256, RFC_NONCE, &here.e);
    ck_assert_int_eq(say(s, RFC_FIRST), SCRAM_MORE);
    ck_assert_uint_eq(here.reply.len, strlen(RFC_SERVER_FIRST));
    scram_server_free(s);
    keys_of("pencil", a.salt, 16, 4096, &here.keys);
    ck_assert_int_eq(exchange(&a, &here.keys), SCRAM_DENIED);
    keys_of("", a.salt, 16, 4096, &here.keys);
    ck_assert_int_eq(exchange(&a, &here.keys), SCRAM_DENIED);
    memcpy(here.keys.stored, a.stored_key, 32); /* not even who knows it all */
    memcpy(here.keys.client, a.server_key, 32);
    ck_assert_int_eq(exchange(&a, &here.keys), SCRAM_DENIED);
    for (int i = 0; i < 1000; i++) {
        crypt_random(here.keys.client, 32);
        ck_assert_int_eq(exchange(&a, &here.keys), SCRAM_DENIED);
        arena_free(here.arena);
        here.arena = arena_new(0);
    }
}
END_TEST

/* --- the suite
 * ----------------------------------------------------------------------------------------------------------
 */

/* Whoever may set a password may also set how long it takes to try one. */
START_TEST(passwords_that_fit)
{
    struct scram_verifier v = here.verifier;

    ck_assert(scram_verifier_fits(&v, "pencil"));
    ck_assert(!scram_verifier_fits(&v, "pencils"));
    ck_assert(!scram_verifier_fits(&v, ""));
    ck_assert(!scram_verifier_fits(&v, "p\xc3\xa9ncil"));
    v.iterations = INT32_MAX;
    ck_assert(!scram_verifier_fits(&v, "pencil"));
    v.iterations = 1;
    v.salt_len = SCRAM_SALT_MAX;
    keys_of("other", v.salt, v.salt_len, 1, &here.keys);
    memcpy(v.stored_key, here.keys.stored, sizeof(v.stored_key));
    ck_assert(scram_verifier_fits(&v, "other"));
}
END_TEST

static void add_server(Suite *s)
{
    TCase *t = tcase_create("server");

    tcase_add_checked_fixture(t, scram_bed_setup, scram_bed_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, example_of_the_rfc);
    tcase_add_test(t, replies_are_appended);
    tcase_add_test(t, who_does_not_know_the_password);
    tcase_add_test(t, every_byte_of_the_verifier_counts);
    tcase_add_test(t, every_change_of_client_first);
    tcase_add_test(t, every_change_of_client_final);
    tcase_add_test(t, first_messages);
    tcase_add_test(t, final_messages);
    tcase_add_test(t, order);
    tcase_add_test(t, sizes);
    tcase_add_test(t, verifiers);
    tcase_add_test(t, what_is_no_verifier);
    tcase_add_test(t, roles_that_do_not_exist);
    tcase_add_test(t, passwords_that_fit);
    suite_add_tcase(s, t);
}

static void add_binding(Suite *s)
{
    TCase *t = tcase_create("channel binding");

    tcase_add_checked_fixture(t, setup_certificate, scram_bed_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_combination);
    tcase_add_test(t, what_is_said_of_a_binding);
    tcase_add_test(t, every_size_of_hash);
    tcase_add_test(t, mechanisms);
    suite_add_tcase(s, t);
}

Suite *t_scram_suite(void)
{
    Suite *s = suite_create("scram");

    add_server(s);
    add_binding(s);
    return s;
}
