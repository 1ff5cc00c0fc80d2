/*
 * t_auth.c - the client's messages: whole, in pieces, too long, too early, twice, out of order
 */
#include "proxy/auth.h"

#include <check.h>

#include "scram_bed.h"

Suite *t_auth_suite(void);

static const uint8_t RANDOM[SCRAM_RANDOM_SIZE] = { 7 };

static struct auth *auth;
static struct buf in, out;
static struct wire_error e;

static void begin(const struct crypt_binding *binding)
{
    auth_free(auth);
    buf_fini(&in);
    buf_fini(&out);
    e = (struct wire_error){ 0 };
    auth = auth_new(binding, RANDOM, &out);
}

static void setup(void)
{
    scram_bed_setup();
    begin(NULL);
}

static void teardown(void)
{
    auth_free(auth);
    auth = NULL;
    buf_fini(&in);
    buf_fini(&out);
    scram_bed_teardown();
}

static enum auth_result next(void)
{
    return auth_next(auth, &in, &out, &e);
}

static void choose(bool never)
{
    auth_choose(auth, &here.verifier, never);
}

/* What a client would say, as one message; NULL: what wire_sasl_initial_add cannot. */
static struct buf initial(const char *mechanism, const char *first)
{
    struct buf b = { 0 };

    wire_sasl_initial_add(&b, mechanism, first, strlen(first));
    return b;
}

static void say_initial(void)
{
    auto_buf b = initial(SCRAM_SHA_256, RFC_FIRST);

    buf_add(&in, b.data, b.len);
}

/* The challenge in out, and the answer to it by k. */
static struct buf proof(const struct keys *k)
{
    struct wire_auth a;
    struct buf b = { 0 };
    const char *challenge, *final;

    ck_assert_uint_gt(out.len, 9);
    ck_assert_int_eq(out.data[0], 'R');
    ck_assert(wire_auth_parse(out.data + 5, out.len - 5, &a));
    ck_assert_uint_eq(a.code, WIRE_AUTH_SASL_CONTINUE);
    challenge = arena_printf(here.arena, "%.*s", (int)a.len, (const char *)a.data);
    final = final_of(k, RFC_BARE, challenge);
    wire_sasl_response_add(&b, final, strlen(final));
    return b;
}

static void say_proof(const struct keys *k)
{
    auto_buf b = proof(k);

    buf_clear(&out);
    buf_add(&in, b.data, b.len);
}

static void is_invalid(const char *sqlstate)
{
    ck_assert_int_eq(next(), AUTH_INVALID);
    ck_assert_str_eq(e.sqlstate, sqlstate);
    ck_assert_uint_gt(strlen(e.message), 0);
}

START_TEST(the_offer)
{
    struct crypt_binding binding = { .len = 32 };

    ck_assert_mem_eq(out.data, "R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", 24);
    ck_assert_uint_eq(out.len, 24);
    begin(&binding);
    ck_assert_mem_eq(out.data + 9, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", 34);
}
END_TEST

/* The verifier may be there before the client's first message, or after it. */
START_TEST(the_right_password)
{
    for (int early = 0; early < 2; early++) {
        begin(NULL);
        buf_clear(&out);
        if (early)
            choose(false);
        ck_assert_int_eq(next(), AUTH_MORE);
        ck_assert(auth_awaits_client(auth));
        say_initial();
        ck_assert_int_eq(next(), AUTH_MORE);
        ck_assert_uint_eq(in.len, 0);
        ck_assert(auth_awaits_client(auth) == (bool)early);
        if (!early) {
            ck_assert_uint_eq(out.len, 0);
            choose(false);
            ck_assert_int_eq(next(), AUTH_MORE);
        }
        say_proof(&here.keys);
        buf_adds(&in, "more");
        ck_assert_int_eq(next(), AUTH_PROVED);
        ck_assert_str_eq(buf_str(&in), "more"); /* no more than it needs */
        ck_assert_mem_eq(auth_client_key(auth), here.keys.client, 32);
        ck_assert_mem_eq(auth_server_key(auth), here.keys.server, 32);
        ck_assert_uint_eq(out.len, 0);
        ck_assert_mem_eq(auth_final(auth)->data, "R\0\0\0\x36\0\0\0\x0cv=", 11);
        ck_assert_uint_eq(auth_final(auth)->len, 9 + 46);
    }
}
END_TEST

START_TEST(denied)
{
    struct keys wrong;

    keys_of("pencils", here.verifier.salt, here.verifier.salt_len, here.verifier.iterations, &wrong);
    for (int i = 0; i < 2; i++) { /* the wrong one; the right one of a role that may not */
        begin(NULL);
        buf_clear(&out);
        choose(i == 1);
        say_initial();
        ck_assert_int_eq(next(), AUTH_MORE);
        say_proof(i == 0 ? &wrong : &here.keys);
        ck_assert_int_eq(next(), AUTH_DENIED);
    }
}
END_TEST

/* As old drivers do: the first message in a second one. */
START_TEST(without_an_initial_response)
{
    static const char BARE[] = "p\0\0\0\x16SCRAM-SHA-256\0\xff\xff\xff\xff";

    buf_clear(&out);
    choose(false);
    buf_add(&in, BARE, sizeof(BARE) - 1);
    ck_assert_int_eq(next(), AUTH_MORE);
    ck_assert_mem_eq(out.data, "R\0\0\0\x08\0\0\0\x0b", 9);
    ck_assert_uint_eq(out.len, 9);
    buf_clear(&out);
    wire_sasl_response_add(&in, RFC_FIRST, strlen(RFC_FIRST));
    ck_assert_int_eq(next(), AUTH_MORE);
    say_proof(&here.keys);
    ck_assert_int_eq(next(), AUTH_PROVED);
}
END_TEST

/* Every way to cut the two messages gives the same. */
START_TEST(in_pieces)
{
    auto_buf first = initial(SCRAM_SHA_256, RFC_FIRST);

    for (size_t step = 1; step < first.len; step++) {
        begin(NULL);
        buf_clear(&out);
        choose(false);
        for (size_t at = 0; at < first.len; at += step) {
            ck_assert_uint_eq(out.len, 0);
            buf_add(&in, first.data + at, first.len - at < step ? first.len - at : step);
            ck_assert_int_eq(next(), AUTH_MORE);
        }
        {
            auto_buf last = proof(&here.keys);
            enum auth_result r = AUTH_MORE;

            for (size_t at = 0; at < last.len; at += step) {
                ck_assert_int_eq(r, AUTH_MORE);
                buf_add(&in, last.data + at, last.len - at < step ? last.len - at : step);
                r = next();
            }
            ck_assert_int_eq(r, AUTH_PROVED);
        }
    }
}
END_TEST

/* A message cut short, its length cut with it: never a way in, never more than the one refusal. */
START_TEST(truncated)
{
    auto_buf first = initial(SCRAM_SHA_256, RFC_FIRST);
    struct buf last;

    for (size_t n = 0; n < first.len - 5; n++) {
        begin(NULL);
        choose(false);
        buf_add(&in, first.data, 5 + n);
        in.data[3] = (char)((n + 4) >> 8);
        in.data[4] = (char)(n + 4);
        is_invalid("08P01");
    }
    begin(NULL);
    buf_clear(&out);
    choose(false);
    say_initial();
    ck_assert_int_eq(next(), AUTH_MORE);
    last = proof(&here.keys);
    for (size_t n = 0; n < last.len - 5; n++) {
        begin(NULL);
        choose(false);
        say_initial();
        ck_assert_int_eq(next(), AUTH_MORE);
        buf_add(&in, last.data, 5 + n);
        in.data[3] = (char)((n + 4) >> 8);
        in.data[4] = (char)(n + 4);
        ck_assert_int_eq(next(), AUTH_INVALID);
    }
    buf_fini(&last);
}
END_TEST

START_TEST(too_long)
{
    auto_free char *much = xmalloc(5000);

    memset(much, 'x', 4999);
    much[4999] = '\0';
    wire_sasl_initial_add(&in, SCRAM_SHA_256, much, 4999);
    is_invalid("08P01");
    begin(NULL);
    buf_add(&in, "p\x7f\xff\xff\xff", 5); /* refused before it has come */
    is_invalid("08P01");
    begin(NULL);
    buf_add(&in, "p\0\0\x04\x05", 5); /* one more than Postgres takes */
    is_invalid("08P01");
    begin(NULL);
    buf_add(&in, "p\0\0\x04\x04", 5);
    ck_assert_int_eq(next(), AUTH_MORE);
    for (int i = 0; i < 4; i++) { /* no length at all */
        begin(NULL);
        buf_add(&in, "p\0\0\0", 4);
        buf_add(&in, (char[]){ (char)i }, 1);
        is_invalid("08P01");
    }
    begin(NULL);
    choose(false);
    say_initial();
    ck_assert_int_eq(next(), AUTH_MORE);
    wire_sasl_response_add(&in, much, 1024);
    ck_assert_int_eq(next(), AUTH_INVALID);
}
END_TEST

START_TEST(other_messages)
{
    for (int type = 0; type < 256; type++) {
        if (type == 'p')
            continue;
        begin(NULL);
        choose(false);
        buf_add(&in, (char[]){ (char)type, 0, 0, 0, 4 }, 5);
        is_invalid("08P01");
        begin(NULL);
        choose(false);
        say_initial();
        ck_assert_int_eq(next(), AUTH_MORE);
        buf_add(&in, (char[]){ (char)type }, 1);
        is_invalid("08P01");
    }
}
END_TEST

/* The same message twice, the proof first, both at once before there is a challenge. */
START_TEST(out_of_order)
{
    auto_buf last = { 0 };

    choose(false);
    say_initial();
    buf_clear(&out);
    ck_assert_int_eq(next(), AUTH_MORE);
    last = proof(&here.keys);
    say_initial();
    is_invalid("08P01");

    begin(NULL);
    choose(false);
    buf_add(&in, last.data, last.len);
    is_invalid("08P01");

    begin(NULL); /* a proof of an older exchange: its nonce is another */
    choose(false);
    say_initial();
    buf_add(&in, "p\0\0\0\x05x", 6);
    is_invalid("08P01");

    begin(NULL); /* a second message is not looked at before the first one is answered */
    say_initial();
    say_initial();
    ck_assert_int_eq(next(), AUTH_MORE);
    ck_assert_uint_gt(in.len, 0);
}
END_TEST

START_TEST(mechanisms)
{
    static const char *const BAD[] = { "", "PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256" };
    struct crypt_binding binding = { .hash = { 9 }, .len = 32 };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        auto_buf b = initial(BAD[i], RFC_FIRST);

        begin(NULL);
        choose(false);
        buf_add(&in, b.data, b.len);
        is_invalid("08P01");
    }
    for (int i = 0; i < 2; i++) { /* offered, and bound to another certificate; not bound at all */
        auto_buf b = initial("SCRAM-SHA-256-PLUS", i == 0 ? "p=tls-server-end-point,,n=,r=x" : RFC_FIRST);

        begin(&binding);
        choose(false);
        buf_add(&in, b.data, b.len);
        ck_assert_int_eq(next(), i == 0 ? AUTH_MORE : AUTH_INVALID);
    }
    { /* "you do not bind": somebody took it out of the offer */
        auto_buf b = initial(SCRAM_SHA_256, "y,,n=,r=x");

        begin(&binding);
        choose(false);
        buf_add(&in, b.data, b.len);
        is_invalid("28000");
    }
}
END_TEST

Suite *t_auth_suite(void)
{
    Suite *s = suite_create("auth");
    TCase *t = tcase_create("auth");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_offer);
    tcase_add_test(t, the_right_password);
    tcase_add_test(t, denied);
    tcase_add_test(t, without_an_initial_response);
    tcase_add_test(t, in_pieces);
    tcase_add_test(t, truncated);
    tcase_add_test(t, too_long);
    tcase_add_test(t, other_messages);
    tcase_add_test(t, out_of_order);
    tcase_add_test(t, mechanisms);
    suite_add_tcase(s, t);
    return s;
}
