/*
 * t_wire.c - the Postgres protocol as bytes: every truncation, every cut, and what strangers may send
 */
#include "pg/wire.h"

#include <check.h>

#include "base/crypt.h"

Suite *t_wire_suite(void);

static const char STARTUP[] = "\0\0\0\x29\0\3\0\0user\0ann\0database\0shop\0options\0\0\0";
#define STARTUP_LEN 0x29

static void put32(char *p, uint32_t v)
{
    p[0] = (char)(v >> 24);
    p[1] = (char)(v >> 16);
    p[2] = (char)(v >> 8);
    p[3] = (char)v;
}

/* A startup packet with this body (which brings its own final NUL). */
static int parse(const void *body, size_t len, uint32_t version, struct wire_startup *ret,
                 struct wire_error *e)
{
    static char packet[WIRE_STARTUP_MAX];
    struct wire_first first;

    put32(packet, (uint32_t)len + 8);
    put32(packet + 4, version);
    memcpy(packet + 8, body, len);
    ck_assert_int_eq(wire_first_parse(packet, len + 8, &first), WIRE_STARTUP);
    return wire_startup_parse(packet, &first, ret, e);
}

#define PARSE(body, ret, e) parse(body, sizeof(body), 0x30000, ret, e)

/* --- first packets
 * ---------------------------------------------------------------------------------------------- */

START_TEST(startup_every_truncation)
{
    struct wire_first first;

    ck_assert_uint_eq(sizeof(STARTUP) - 1, STARTUP_LEN);
    for (size_t n = 0; n < STARTUP_LEN; n++)
        ck_assert_msg(wire_first_parse(STARTUP, n, &first) == WIRE_INCOMPLETE, "%zu bytes", n);
    ck_assert_int_eq(wire_first_parse(STARTUP, STARTUP_LEN, &first), WIRE_STARTUP);
    ck_assert_uint_eq(first.len, STARTUP_LEN);
    ck_assert_uint_eq(first.minor, 0);
}
END_TEST

START_TEST(startup_parameters)
{
    struct wire_startup s;
    struct wire_first first;
    struct wire_error e;

    wire_first_parse(STARTUP, STARTUP_LEN, &first);
    ck_assert_int_eq(wire_startup_parse(STARTUP, &first, &s, &e), 0);
    ck_assert_uint_eq(s.n, 3);
    ck_assert_str_eq(wire_startup_find(&s, "user"), "ann");
    ck_assert_str_eq(wire_startup_find(&s, "database"), "shop");
    ck_assert_str_eq(wire_startup_find(&s, "options"), "");
    ck_assert_ptr_null(wire_startup_find(&s, "User"));
}
END_TEST

START_TEST(first_requests)
{
    struct wire_first first;

    ck_assert_int_eq(wire_first_parse("\0\0\0\x08\x04\xd2\x16\x2f", 8, &first), WIRE_SSL);
    ck_assert_uint_eq(first.len, 8);
    ck_assert_int_eq(wire_first_parse("\0\0\0\x08\x04\xd2\x16\x30", 8, &first), WIRE_GSS);
    ck_assert_int_eq(wire_first_parse("\0\0\0\x10\x04\xd2\x16\x2e"
                                      "abcdEFGH",
                                      16, &first),
                     WIRE_CANCEL);
    ck_assert_mem_eq(first.key, "abcdEFGH", 8);
    ck_assert_int_eq(wire_first_parse("\0\0\0\x10\x04\xd2\x16\x2e"
                                      "abcdEFG",
                                      15, &first),
                     WIRE_INCOMPLETE);
    ck_assert_int_eq(wire_first_parse("\0\0\0\x08\0\3\0\2", 8, &first), WIRE_STARTUP);
    ck_assert_uint_eq(first.minor, 2);
}
END_TEST

START_TEST(first_hostile)
{
    static const struct {
        const char *bytes;
        size_t len;
    } BAD[] = {
        { "\0\0\0\x07", 4 }, /* shorter than its own header */
        { "\0\0\0\0", 4 },
        { "\0\0\x27\x11", 4 }, /* 10,001 */
        { "\xff\xff\xff\xff", 4 },
        { "\0\1", 2 }, /* 64 KB and more shows in the second byte */
        { "GET / HTTP/1.1", 14 },
        { "\x16\3\1", 3 }, /* TLS in the middle of something else */
        { "\0\0\0\x0c\x04\xd2\x16\x2f"
          "xxxx",
          12 }, /* SSLRequest with a tail of its own */
        { "\0\0\0\x09\x04\xd2\x16\x30"
          "x",
          9 },
        { "\0\0\0\x0c\x04\xd2\x16\x2e"
          "xxxx",
          12 }, /* CancelRequest without a key */
        { "\0\0\0\x14\x04\xd2\x16\x2e"
          "xxxxyyyyzzzz",
          20 }, /* the long key of a later protocol */
        { "\0\0\0\x08\0\2\0\0", 8 },
        { "\0\0\0\x08\0\4\0\0", 8 },
        { "\0\0\0\x08\x04\xd2\x16\x31", 8 }, /* a request nobody knows */
    };
    struct wire_first first;

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        ck_assert_msg(wire_first_parse(BAD[i].bytes, BAD[i].len, &first) == WIRE_INVALID, "case %zu", i);
        ck_assert_uint_eq(strlen(first.error.sqlstate), 5);
        ck_assert_uint_gt(strlen(first.error.message), 10);
    }
    /* the largest good length, and not a byte is wanted in advance */
    ck_assert_int_eq(wire_first_parse("\0\0\x27\x10", 4, &first), WIRE_INCOMPLETE);
}
END_TEST

START_TEST(startup_hostile)
{
    struct wire_startup s;
    struct wire_error e = { .sqlstate = "" };
    char longest[] = "user\0"
                     "123456789012345678901234567890123456789012345678901234567890123\0";
    char longer[] = "user\0"
                    "1234567890123456789012345678901234567890123456789012345678901234\0";

    ck_assert_int_eq(PARSE(longest, &s, &e), 0);
    ck_assert_int_eq(PARSE(longer, &s, &e), -1);
    ck_assert_str_eq(e.sqlstate, "28000");
    ck_assert_int_eq(PARSE("database\0x\0", &s, &e), -1); /* no user */
    ck_assert_int_eq(PARSE("user\0\0", &s, &e), -1);
    ck_assert_int_eq(PARSE("user\0\xff\xfe\0", &s, &e), -1);
    ck_assert_int_eq(PARSE("user\0\xc3\xa9\0", &s, &e), 0);
    ck_assert_int_eq(PARSE("user\0a\0user\0b\0", &s, &e), -1);
    ck_assert_str_eq(e.sqlstate, "08P01");
    ck_assert_int_eq(parse("user\0a", 6, 0x30000, &s, &e), -1);        /* value without end */
    ck_assert_int_eq(parse("user\0a\0", 7, 0x30000, &s, &e), -1);      /* no terminator */
    ck_assert_int_eq(parse("user\0a\0db\0", 10, 0x30000, &s, &e), -1); /* name without value */
    ck_assert_int_eq(parse("user\0a\0db", 9, 0x30000, &s, &e), -1);
    ck_assert_int_eq(PARSE("user\0a\0\0x\0", &s, &e), -1); /* something behind the terminator */
    ck_assert_int_eq(parse("", 0, 0x30000, &s, &e), -1);
    ck_assert_int_eq(parse("\0", 1, 0x30000, &s, &e), -1);
}
END_TEST

START_TEST(startup_many_parameters)
{
    struct wire_startup s;
    struct wire_error e;
    auto_buf b = { 0 };

    for (int i = 0; i < WIRE_PARAMS_MAX - 1; i++)
        buf_addf(&b, "p%d%c%c", i, 0, 0);
    buf_add(&b, "user\0a", 7);
    buf_add(&b, "", 1);
    ck_assert_int_eq(parse(b.data, b.len, 0x30000, &s, &e), 0);
    ck_assert_uint_eq(s.n, WIRE_PARAMS_MAX);
    b.len--;
    buf_add(&b, "x\0y\0", 5);
    ck_assert_int_eq(parse(b.data, b.len, 0x30000, &s, &e), -1);
}
END_TEST

/* Whatever comes, parsing ends and stays inside the bytes (the sanitizers look). */
START_TEST(startup_random)
{
    static const char ALPHABET[] = "\0\0\0ab@=user";
    struct wire_startup s;
    struct wire_error e;

    for (int round = 0; round < 20000; round++) {
        uint8_t seed[40];
        size_t len;
        auto_free char *packet = NULL;
        struct wire_first first = { .kind = WIRE_STARTUP };

        crypt_random(seed, sizeof(seed));
        len = 8 + seed[0] % 32;
        packet = xmalloc(len);
        for (size_t i = 8; i < len; i++)
            packet[i] = ALPHABET[seed[i] % (sizeof(ALPHABET) - 1)];
        first.len = len;
        if (wire_startup_parse(packet, &first, &s, &e) == 0)
            ck_assert_ptr_nonnull(wire_startup_find(&s, "user"));
    }
}
END_TEST

/* --- building
 * --------------------------------------------------------------------------------------------------- */

START_TEST(build_startup)
{
    auto_buf b = { 0 };
    size_t mark = wire_startup_begin(&b);

    wire_startup_param(&b, "user", "ann");
    wire_startup_param(&b, "database", "shop");
    wire_startup_param(&b, "options", "");
    wire_startup_end(&b, mark);
    ck_assert_uint_eq(b.len, STARTUP_LEN);
    ck_assert_mem_eq(b.data, STARTUP, STARTUP_LEN);
}
END_TEST

START_TEST(build_negotiate)
{
    struct wire_startup s;
    struct wire_error e;
    auto_buf b = { 0 };

    ck_assert_int_eq(PARSE("user\0a\0", &s, &e), 0);
    wire_negotiate_add(&b, &s);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_int_eq(parse("user\0a\0_pq_.x\0on\0_pq_.yy\0\0", 27, 0x30002, &s, &e), 0);
    wire_negotiate_add(&b, &s);
    ck_assert_uint_eq(b.len, 1 + 12 + 7 + 8);
    ck_assert_mem_eq(b.data, "v\0\0\0\x1b\0\3\0\0\0\0\0\2_pq_.x\0_pq_.yy", 28);
    buf_clear(&b);
    ck_assert_int_eq(parse("user\0a\0", 8, 0x30002, &s, &e), 0); /* a newer version alone */
    wire_negotiate_add(&b, &s);
    ck_assert_mem_eq(b.data, "v\0\0\0\x0c\0\3\0\0\0\0\0\0", 13);
}
END_TEST

START_TEST(build_error_and_read_it)
{
    struct wire_error e;
    char state[6];
    bool fatal;
    auto_buf b = { 0 };

    wire_error_set(&e, "57P03", "wait", "not %s", "yet");
    wire_error_add(&b, &e);
    ck_assert_int_eq(b.data[0], 'E');
    ck_assert_int_eq(b.data[4], (int)b.len - 1);
    ck_assert(wire_error_sqlstate((uint8_t *)b.data + 5, b.len - 5, state, &fatal));
    ck_assert_str_eq(state, "57P03");
    ck_assert(fatal);
    ck_assert_ptr_nonnull(memmem(b.data, b.len, "Mnot yet\0Hwait\0", 16));
    /* no prefix makes it read beyond its end, and none invents a code */
    for (size_t n = 0; n < b.len - 5; n++) {
        auto_free uint8_t *cut = xmalloc(n);

        memcpy(cut, b.data + 5, n);
        if (wire_error_sqlstate(cut, n, state, &fatal))
            ck_assert_str_eq(state, "57P03");
    }
}
END_TEST

START_TEST(error_bodies_of_others)
{
    char state[6] = "";
    bool fatal;

    ck_assert(wire_error_sqlstate((const uint8_t *)"SFATAL\0C53300\0", 15, state, &fatal) && fatal);
    ck_assert(wire_error_sqlstate((const uint8_t *)"SFATAL\0VERROR\0C42601\0", 22, state, &fatal) && !fatal);
    ck_assert(wire_error_sqlstate((const uint8_t *)"SFEHLER\0VPANIC\0CXX000\0", 23, state, &fatal) && fatal);
    ck_assert(!wire_error_sqlstate((const uint8_t *)"SFATAL\0Mx\0", 11, state, &fatal));
    ck_assert(fatal);
    ck_assert(!wire_error_sqlstate((const uint8_t *)"C123\0", 6, state, &fatal));
    ck_assert(!wire_error_sqlstate((const uint8_t *)"C123456\0", 9, state, &fatal));
    ck_assert(!wire_error_sqlstate((const uint8_t *)"", 0, state, &fatal));
    ck_assert(!wire_error_sqlstate((const uint8_t *)"S", 1, state, &fatal));
}
END_TEST

START_TEST(build_cancel)
{
    uint8_t out[WIRE_CANCEL_SIZE];
    struct wire_first first;

    wire_cancel_build(out, (const uint8_t *)"12345678");
    ck_assert_int_eq(wire_first_parse(out, sizeof(out), &first), WIRE_CANCEL);
    ck_assert_mem_eq(first.key, "12345678", 8);
}
END_TEST

/* --- SASL
 * ------------------------------------------------------------------------------------------------------- */

static const char INITIAL[] = "SCRAM-SHA-256\0\0\0\0\x07n,,n=,r";

START_TEST(sasl_initial_response)
{
    struct wire_sasl_initial got;
    struct wire_error e;
    size_t len = sizeof(INITIAL) - 1;

    ck_assert_int_eq(wire_sasl_initial_parse(INITIAL, len, &got, &e), 0);
    ck_assert_str_eq(got.mechanism, "SCRAM-SHA-256");
    ck_assert_uint_eq(got.len, 7);
    ck_assert_mem_eq(got.data, "n,,n=,r", 7);
    for (size_t n = 0; n < len; n++) {
        ck_assert_int_eq(wire_sasl_initial_parse(INITIAL, n, &got, &e), -1);
        ck_assert_str_eq(e.sqlstate, "08P01");
    }
    ck_assert_int_eq(wire_sasl_initial_parse(INITIAL, len + 1, &got, &e), -1);
    ck_assert_int_eq(wire_sasl_initial_parse("X\0\xff\xff\xff\xff", 6, &got, &e), 0);
    ck_assert(got.data == NULL && got.len == 0);
    ck_assert_int_eq(wire_sasl_initial_parse("X\0\0\0\0\0", 6, &got, &e), 0);
    ck_assert(got.data != NULL && got.len == 0);
    ck_assert_int_eq(wire_sasl_initial_parse("\0\0\0\0\0", 5, &got, &e), 0);
    ck_assert_str_eq(got.mechanism, "");
}
END_TEST

START_TEST(sasl_initial_response_hostile)
{
    static const char *const BAD[] = { "X\0\xff\xff\xff\xff:", "X\0\xff\xff\xff\xfe:", "X\0\x80\0\0\0:",
                                       "X\0\0\0\0\0:",         "X\0\0\0\0\2:",         "XXXXXXX" };
    struct wire_sasl_initial got;
    struct wire_error e;

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(wire_sasl_initial_parse(BAD[i], 7, &got, &e) == -1, "case %zu", i);
}
END_TEST

START_TEST(build_sasl)
{
    static const char *const BOTH[] = { "AB", "C" };
    auto_buf b = { 0 };
    struct wire_sasl_initial got;
    struct wire_auth auth;
    struct wire_error e;

    wire_sasl_offer_add(&b, BOTH, 2);
    wire_sasl_continue_add(&b, "r=", 2);
    wire_sasl_final_add(&b, "v=", 2);
    wire_sasl_response_add(&b, "c=", 2);
    ck_assert_uint_eq(b.len, 15 + 11 + 11 + 7);
    ck_assert_mem_eq(b.data,
                     "R\0\0\0\x0e\0\0\0\x0a"
                     "AB\0C\0\0"
                     "R\0\0\0\x0a\0\0\0\x0br="
                     "R\0\0\0\x0a\0\0\0\x0cv="
                     "p\0\0\0\6c=",
                     b.len);
    ck_assert(wire_auth_parse(b.data + 15 + 5, 6, &auth));
    ck_assert_uint_eq(auth.code, WIRE_AUTH_SASL_CONTINUE);
    ck_assert_uint_eq(auth.len, 2);
    ck_assert_mem_eq(auth.data, "r=", 2);
    ck_assert(!wire_auth_parse(b.data, 3, &auth));
    buf_clear(&b);
    wire_sasl_initial_add(&b, "SCRAM-SHA-256", "n,,n=,r", 7);
    ck_assert_int_eq(wire_sasl_initial_parse(b.data + 5, b.len - 5, &got, &e), 0);
    ck_assert_uint_eq(b.len - 5, sizeof(INITIAL) - 1);
    ck_assert_mem_eq(b.data, "p\0\0\0\x1d", 5);
    ck_assert_mem_eq(b.data + 5, INITIAL, b.len - 5);
}
END_TEST

/* --- framing
 * ---------------------------------------------------------------------------------------------------- */

/* Scans data in pieces of the given size and notes what starts and ends. */
static void scan(const char *data, size_t len, size_t step, struct buf *ret)
{
    struct wire_scan s = { 0 };
    auto_free uint8_t *copy = xmalloc(len);

    memcpy(copy, data, len);
    for (size_t at = 0; at < len; at += step) {
        size_t n = len - at < step ? len - at : step, used;
        uint8_t *p = copy + at;
        struct wire_piece piece;

        while ((used = wire_scan_next(&s, p, n, &piece)) > 0) {
            ck_assert_uint_le(used, n);
            if (piece.starts)
                buf_addf(ret, "%c%u", piece.type, piece.body_len);
            buf_add(ret, piece.data, piece.len);
            if (piece.ends)
                buf_adds(ret, ";");
            p += used;
            n -= used;
        }
        ck_assert_uint_eq(n, 0);
    }
    ck_assert(wire_scan_at_boundary(&s));
}

START_TEST(scan_every_cut)
{
    static const char STREAM[] = "Z\0\0\0\x05I"
                                 "H\0\0\0\x04"
                                 "D\0\0\0\x0cHELLO123"
                                 "S\0\0\0\x04"
                                 "X\0\0\0\x06zz";

    for (size_t step = 1; step <= sizeof(STREAM); step++) {
        auto_buf seen = { 0 };

        scan(STREAM, sizeof(STREAM) - 1, step, &seen);
        ck_assert_str_eq(buf_str(&seen), "Z1I;H0;D8HELLO123;S0;X2zz;");
    }
}
END_TEST

START_TEST(scan_broken)
{
    static const char *const BAD[] = { "Q\0\0\0\3", "Q\0\0\0\0", "Q\x80\0\0\0", "Q\xff\xff\xff\xff" };
    struct wire_piece piece;
    uint8_t bytes[16] = { 0 };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        struct wire_scan s = { 0 };

        memcpy(bytes, BAD[i], 5);
        ck_assert_uint_eq(wire_scan_next(&s, bytes, sizeof(bytes), &piece), 0);
        ck_assert(s.broken);
        ck_assert(!wire_scan_at_boundary(&s));
        ck_assert_uint_eq(wire_scan_next(&s, bytes, sizeof(bytes), &piece), 0);
    }
}
END_TEST

START_TEST(scan_largest)
{
    struct wire_scan s = { 0 };
    struct wire_piece piece;
    uint8_t bytes[9] = "d\x7f\xff\xff\xff"
                       "abc";

    ck_assert_uint_eq(wire_scan_next(&s, bytes, 8, &piece), 8);
    ck_assert(piece.starts && !piece.ends && !s.broken);
    ck_assert_uint_eq(piece.body_len, INT32_MAX - 4);
    ck_assert_uint_eq(wire_scan_next(&s, bytes, 8, &piece), 8);
    ck_assert_uint_eq(piece.at, 3);
    ck_assert_uint_eq(piece.body_len, INT32_MAX - 4);
}
END_TEST

Suite *t_wire_suite(void)
{
    Suite *s = suite_create("wire");
    TCase *t = tcase_create("wire");

    tcase_add_test(t, startup_every_truncation);
    tcase_add_test(t, startup_parameters);
    tcase_add_test(t, first_requests);
    tcase_add_test(t, first_hostile);
    tcase_add_test(t, startup_hostile);
    tcase_add_test(t, startup_many_parameters);
    tcase_add_test(t, startup_random);
    tcase_add_test(t, build_startup);
    tcase_add_test(t, build_negotiate);
    tcase_add_test(t, build_error_and_read_it);
    tcase_add_test(t, error_bodies_of_others);
    tcase_add_test(t, build_cancel);
    tcase_add_test(t, sasl_initial_response);
    tcase_add_test(t, sasl_initial_response_hostile);
    tcase_add_test(t, build_sasl);
    tcase_add_test(t, scan_every_cut);
    tcase_add_test(t, scan_broken);
    tcase_add_test(t, scan_largest);
    suite_add_tcase(s, t);
    return s;
}
