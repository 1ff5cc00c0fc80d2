/*
 * t_login.c - logging in with keys: what Postgres may send, in pieces, and all that it may not
 */
#include "proxy/login.h"

#include <check.h>

#include "scram_bed.h"

Suite *t_login_suite(void);

static const uint8_t RANDOM[SCRAM_RANDOM_SIZE] = { 9 };
static const char OFFER[] = "R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0"; /* and its NUL */
static const char AUTH_OK[] = "R\0\0\0\x08\0\0\0\0";

static struct login *login;
static struct buf in, out;
static char bare[64];

static void begin(void)
{
    auto_buf startup = { 0 };
    char nonce[SCRAM_NONCE_SIZE];

    login_free(login);
    buf_fini(&in);
    buf_fini(&out);
    buf_adds(&startup, "startup");
    login = login_new(&startup, RANDOM, &out);
    scram_nonce(RANDOM, nonce);
    snprintf(bare, sizeof(bare), "n=,r=%s", nonce);
}

static void setup(void)
{
    scram_bed_setup();
    begin();
}

static void teardown(void)
{
    login_free(login);
    login = NULL;
    buf_fini(&in);
    buf_fini(&out);
    scram_bed_teardown();
}

static const char *challenge(void)
{
    return arena_printf(here.arena, "%sxyz,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", bare + strlen("n=,"));
}

/* All that Postgres says up to AuthenticationOk; *ret_at: where its proof begins. */
static void whole(struct buf *b, size_t *ret_at)
{
    const char *final = final_of(&here.keys, bare, challenge());
    const char *proof = server_final_of(&here.keys, bare, challenge(), final);

    buf_add(b, OFFER, sizeof(OFFER));
    wire_sasl_continue_add(b, challenge(), strlen(challenge()));
    *ret_at = b->len;
    wire_sasl_final_add(b, proof, strlen(proof));
    buf_add(b, AUTH_OK, 9);
}

static enum login_result feed(const void *data, size_t len)
{
    buf_add(&in, data, len);
    return login_next(login, &in);
}

static void prove(void)
{
    buf_clear(&out);
    login_prove(login, here.keys.client, here.keys.server, &out);
}

/* A compute of the past takes who comes; one that asks for a password all the same is not that. */
START_TEST(of_a_past_no_password_is_asked)
{
    static const char *const OTHERS[] = { OFFER, "R\0\0\0\x08\0\0\0\x03", "R\0\0\0\x0c\0\0\0\x05salt" };
    static const size_t LEN[] = { sizeof(OFFER), 9, 13 };
    auto_buf startup = { 0 };

    buf_adds(&startup, "startup");
    for (size_t i = 0; i <= N_ELEMENTS(OTHERS); i++) {
        begin();
        login_free(login);
        buf_clear(&out);
        login = login_new(&startup, NULL, &out);
        ck_assert_uint_eq(out.len, startup.len);
        if (i < N_ELEMENTS(OTHERS)) {
            ck_assert_int_eq(feed(OTHERS[i], LEN[i]), LOGIN_BROKEN);
        } else {
            ck_assert_int_eq(feed(AUTH_OK, 9), LOGIN_DONE);
            ck_assert(login_is_done(login));
        }
    }
}
END_TEST

START_TEST(the_way_in)
{
    auto_buf all = { 0 };
    const char *first = arena_printf(here.arena, "n,,%s", bare), *final;
    auto_buf want = { 0 };
    size_t at;

    whole(&all, &at);
    buf_adds(&want, "startup");
    wire_sasl_initial_add(&want, SCRAM_SHA_256, first, strlen(first));
    ck_assert(out.len == want.len && memcmp(out.data, want.data, want.len) == 0);
    ck_assert_int_eq(feed(OFFER, sizeof(OFFER)), LOGIN_MORE);
    ck_assert_int_eq(feed(all.data + sizeof(OFFER), at - sizeof(OFFER)), LOGIN_CHALLENGED);
    ck_assert(login_matches(login, &here.verifier));
    ck_assert_str_eq(login_challenge(login), ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    here.verifier.salt[0] ^= 1;
    ck_assert(!login_matches(login, &here.verifier));
    ck_assert_int_eq(login_next(login, &in), LOGIN_MORE); /* waits for the keys */
    prove();
    final = final_of(&here.keys, bare, challenge());
    buf_clear(&want);
    wire_sasl_response_add(&want, final, strlen(final));
    ck_assert(out.len == want.len && memcmp(out.data, want.data, want.len) == 0);
    ck_assert(!login_is_done(login));
    buf_adds(&all, "S....");
    ck_assert_int_eq(feed(all.data + at, all.len - at), LOGIN_DONE);
    ck_assert(login_is_done(login));
    ck_assert_uint_eq(in.len, 9 + 5); /* from AuthenticationOk on it is the client's */
    ck_assert_mem_eq(in.data, AUTH_OK, 9);
}
END_TEST

START_TEST(in_pieces)
{
    for (size_t step = 1; step < 200; step++) {
        auto_buf all = { 0 };
        enum login_result r = LOGIN_MORE;
        int challenged = 0;
        size_t at;

        begin();
        whole(&all, &at);
        for (size_t i = 0; i < all.len; i += step) {
            ck_assert_int_eq(r, LOGIN_MORE);
            /* never past the challenge: Postgres waits for the proof */
            if (i < at && i + step > at) {
                ck_assert_int_eq(feed(all.data + i, at - i), LOGIN_CHALLENGED);
                challenged++;
                prove();
                r = feed(all.data + at, i + step < all.len ? i + step - at : all.len - at);
                continue;
            }
            r = feed(all.data + i, all.len - i < step ? all.len - i : step);
            if (r != LOGIN_CHALLENGED)
                continue;
            challenged++;
            prove();
            r = LOGIN_MORE;
        }
        ck_assert_int_eq(r, LOGIN_DONE);
        ck_assert_int_eq(challenged, 1);
    }
}
END_TEST

/* Any byte of what Postgres says changed: it is never taken for the right one. */
START_TEST(every_byte)
{
    auto_buf all = { 0 };
    size_t at;

    whole(&all, &at);
    for (size_t i = 0; i < all.len; i++) {
        auto_buf bad = { 0 };
        enum login_result r;

        begin();
        buf_add(&bad, all.data, all.len);
        bad.data[i] ^= 0x04;
        r = feed(bad.data, at);
        if (r == LOGIN_CHALLENGED) {
            prove();
            r = feed(bad.data + at, bad.len - at);
        }
        ck_assert_msg(r != LOGIN_DONE, "byte %zu", i);
    }
}
END_TEST

START_TEST(not_what_may_come)
{
    static const struct {
        const char *data;
        size_t len;
    } BAD[] = {
#define BYTES(s) { s, sizeof(s) - 1 }
        BYTES("R\0\0\0\x08\0\0\0\0"),                /* no password at all */
        BYTES("R\0\0\0\x08\0\0\0\x03"),              /* clear text */
        BYTES("R\0\0\0\x0c\0\0\0\x05salt"),          /* md5 */
        BYTES("R\0\0\0\x08\0\0\0\x0a"),              /* offers nothing */
        BYTES("R\0\0\0\x09\0\0\0\x0a\0"),            /* nothing, in words */
        BYTES("R\0\0\0\x15\0\0\0\x0aSCRAM-SHA-256"), /* without its end */
        BYTES("R\0\0\0\x1c\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0"),
        BYTES("R\0\0\0\x0a\0\0\0\x0bx="),
        BYTES("R\0\0\0\x0a\0\0\0\x0cv="),
        BYTES("R\0\0\0\x06\0\0"),
        BYTES("R\0\0\0\x03"),
        BYTES("R\0\0\0\0"),
        BYTES("R\x7f\xff\xff\xff"),
        BYTES("R\0\1\0\0"),
        BYTES("S\0\0\0\x05x"),
        BYTES("K\0\0\0\x0c"
              "12345678"),
        BYTES("Z\0\0\0\x05I"),
        BYTES("v\0\0\0\x0c\0\3\0\0\0\0\0\0"),
        BYTES("HTTP/1.0 400 Bad Request"),
        BYTES("\0\0\0\0\0\0\0"),
    };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        begin();
        ck_assert_msg(feed(BAD[i].data, BAD[i].len) == LOGIN_BROKEN, "%zu", i);
    }
    /* twice, and before its turn */
    begin();
    ck_assert_int_eq(feed(OFFER, sizeof(OFFER)), LOGIN_MORE);
    ck_assert_int_eq(feed(OFFER, sizeof(OFFER)), LOGIN_BROKEN);
    begin();
    buf_add(&in, OFFER, sizeof(OFFER));
    wire_sasl_continue_add(&in, challenge(), strlen(challenge()));
    buf_add(&in, AUTH_OK, 9); /* lets us in before we have proved anything */
    ck_assert_int_eq(login_next(login, &in), LOGIN_CHALLENGED);
    ck_assert_int_eq(login_next(login, &in), LOGIN_BROKEN);
    begin();
    buf_add(&in, OFFER, sizeof(OFFER));
    wire_sasl_continue_add(&in, challenge(), strlen(challenge()));
    ck_assert_int_eq(login_next(login, &in), LOGIN_CHALLENGED);
    prove();
    ck_assert_int_eq(feed(AUTH_OK, 9), LOGIN_BROKEN); /* does not prove itself */
}
END_TEST

START_TEST(refusals)
{
    struct wire_error e;
    auto_buf words = { 0 };

    wire_error_set(&e, "57P03", NULL, "the database system is starting up");
    wire_error_add(&words, &e);
    for (size_t n = 1; n < words.len; n++) {
        begin();
        ck_assert_int_eq(feed(words.data, n), LOGIN_MORE);
        ck_assert_int_eq(feed(words.data + n, words.len - n), LOGIN_REFUSED);
        ck_assert_str_eq(login_sqlstate(login), "57P03");
        ck_assert_uint_eq(in.len, words.len); /* stays, to be handed on */
        ck_assert(!login_is_done(login));
    }
    begin(); /* also while it waits for the proof, and behind a notice */
    buf_add(&in, OFFER, sizeof(OFFER));
    wire_sasl_continue_add(&in, challenge(), strlen(challenge()));
    ck_assert_int_eq(login_next(login, &in), LOGIN_CHALLENGED);
    buf_add(&in, "N\0\0\0\x05", 6);
    ck_assert_int_eq(feed(words.data, words.len), LOGIN_REFUSED);
    begin();
    ck_assert_int_eq(feed("E\0\0\0\x04", 5), LOGIN_REFUSED);
    ck_assert_str_eq(login_sqlstate(login), "");
    begin(); /* how a postmaster says that it cannot fork */
    ck_assert_int_eq(feed("Ecould not fork new process for connection\n", 44), LOGIN_MORE);
}
END_TEST

/* What does not end is not kept for ever. */
START_TEST(without_end)
{
    auto_free char *much = xcalloc(1, 20000);
    enum login_result r = LOGIN_MORE;

    memcpy(much, "E\0\1\0\0", 5);
    for (int i = 0; i < 20 && r == LOGIN_MORE; i++)
        r = feed(much, 1000);
    ck_assert_int_eq(r, LOGIN_BROKEN);
    ck_assert_uint_lt(in.len, 20000);
}
END_TEST

Suite *t_login_suite(void)
{
    Suite *s = suite_create("login");
    TCase *t = tcase_create("login");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_way_in);
    tcase_add_test(t, of_a_past_no_password_is_asked);
    tcase_add_test(t, in_pieces);
    tcase_add_test(t, every_byte);
    tcase_add_test(t, not_what_may_come);
    tcase_add_test(t, refusals);
    tcase_add_test(t, without_end);
    suite_add_tcase(s, t);
    return s;
}
