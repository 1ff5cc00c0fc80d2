/*
 * t_session.c - idle or not, whose cancel key, whether the server said goodbye; and the order of first
 * packets
 */
#include "proxy/session.h"

#include <check.h>

#include "proxy/greet.h"

Suite *t_session_suite(void);

static struct session session;
static const uint8_t OURS[WIRE_KEY_SIZE] = { 1, 2, 3, 4, 5, 6, 7, 8 };

/* Messages as letters: each becomes a message of that type with a body of two bytes. */
static void client(const char *types)
{
    for (; *types != '\0'; types++) {
        uint8_t message[] = { (uint8_t)*types, 0, 0, 0, 6, 'x', 0 };

        session_client_bytes(&session, message, sizeof(message));
    }
}

/* The same from the server; I, T, F are ReadyForQuery with that status (F: failed transaction). */
static void server(const char *types)
{
    for (; *types != '\0'; types++) {
        char status = *types == 'F' ? 'E' : *types;
        bool ready = strchr("ITF", *types) != NULL;
        uint8_t message[] = { (uint8_t)(ready ? 'Z' : *types), 0, 0, 0, 5, (uint8_t)status };

        session_server_bytes(&session, message, sizeof(message));
    }
}

static void open_session(void)
{
    session_init(&session, OURS);
    ck_assert(!session_is_idle(&session));
    server("RSS");
    ck_assert(!session_is_idle(&session)); /* authenticated, but not ready */
    server("I");
    ck_assert(session_is_idle(&session));
}

START_TEST(simple_queries)
{
    client("Q");
    ck_assert(!session_is_idle(&session));
    server("TDC");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
    client("Q");
    server("CT"); /* BEGIN */
    ck_assert(!session_is_idle(&session));
    client("Q");
    server("EF");
    ck_assert(!session_is_idle(&session));
    client("Q");
    server("CI");
    ck_assert(session_is_idle(&session));
}
END_TEST

START_TEST(pipelines)
{
    client("QQ");
    server("CI");
    ck_assert(!session_is_idle(&session)); /* the second one runs now */
    server("CI");
    ck_assert(session_is_idle(&session));
    client("PBES");
    client("PBE");
    server("12CI");
    ck_assert(!session_is_idle(&session)); /* an unfinished batch */
    client("H");
    server("12C");
    ck_assert(!session_is_idle(&session));
    client("S");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
}
END_TEST

START_TEST(half_a_message_is_activity)
{
    uint8_t query[] = "Q\0\0\0\x08sel";

    session_client_bytes(&session, query, 1);
    ck_assert(!session_is_idle(&session));
    session_client_bytes(&session, query + 1, 7);
    ck_assert(!session_is_idle(&session));
}
END_TEST

START_TEST(copy_in)
{
    client("Q");
    server("G");
    client("dddc");
    server("C");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
    /* drivers send Sync right behind Execute; Postgres swallows it in copy mode */
    client("PBES");
    server("12G");
    client("dd");
    ck_assert(!session_is_idle(&session));
    client("c");
    ck_assert(!session_is_idle(&session));
    client("S");
    server("CI");
    ck_assert(session_is_idle(&session));
    /* the server ends a simple COPY by an error while the client still sends */
    client("Q");
    server("G");
    client("d");
    server("EI");
    ck_assert(session_is_idle(&session));
    client("dc");
    ck_assert(session_is_idle(&session));
    client("Q");
    server("CI");
    ck_assert(session_is_idle(&session));
    /* a client that waits for nothing: what it asked behind a COPY that fails still runs */
    client("QdcQ");
    server("GEI");
    ck_assert(!session_is_idle(&session));
    server("CI");
    ck_assert(session_is_idle(&session));
}
END_TEST

/* Extended protocol, without waiting for CopyInResponse. */
START_TEST(copy_in_ahead)
{
    client("PBESddcS");
    server("12G");
    ck_assert(!session_is_idle(&session));
    server("C");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
    client("PBESdcSQ"); /* and a query behind it */
    server("12GCI");
    ck_assert(!session_is_idle(&session));
    server("CI");
    ck_assert(session_is_idle(&session));
    client("PBEPBESd"); /* the answer crosses the data */
    server("12C12G");
    client("dc");
    server("C");
    ck_assert(!session_is_idle(&session)); /* nothing is committed before the Sync */
    client("S");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
    client("PBESdcS"); /* fails before it copies */
    server("EI");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
    client("PBES"); /* Sync in the data */
    server("12G");
    client("dSdc");
    server("C");
    client("S");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
    client("PBESdcSPBES");
    server("12GCI");
    ck_assert(!session_is_idle(&session));
    server("12CI");
    ck_assert(session_is_idle(&session));
}
END_TEST

/* A Sync that was answered after all: the COPY failed before it read anything. */
START_TEST(copy_in_fails_at_once)
{
    client("PBES");
    server("12G");
    ck_assert(!session_is_idle(&session));
    server("E");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(session_is_idle(&session));
    client("PBES");
    server("12G");
    client("d");
    server("EI");
    ck_assert(session_is_idle(&session));
    client("PBES");
    server("12G");
    client("d");
    server("E"); /* or not: then Postgres waits for the next one */
    ck_assert(!session_is_idle(&session));
    client("S");
    server("I");
    ck_assert(session_is_idle(&session));
}
END_TEST

/* What cannot be known from outside is never called idle. */
START_TEST(copy_in_unknown)
{
    client("PBESdcSPBESdcS");
    server("12GCI12GCI");
    ck_assert(!session_is_idle(&session));
    open_session();
    client("PBESdcSQ");
    server("12GEI");
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(!session_is_idle(&session)); /* the Query runs */
}
END_TEST

START_TEST(function_call_and_terminate)
{
    client("F");
    ck_assert(!session_is_idle(&session));
    server("VI");
    ck_assert(session_is_idle(&session));
    ck_assert(!session.bye);
    client("X");
    ck_assert(session.bye);
}
END_TEST

START_TEST(hostile_servers)
{
    server("IIII"); /* more than were asked for */
    ck_assert(session_is_idle(&session));
    client("Q");
    ck_assert(!session_is_idle(&session));
    session_server_bytes(&session, (uint8_t[]){ 'Z', 0, 0, 0, 4 }, 5); /* without a status */
    ck_assert(!session_is_idle(&session));
    session_server_bytes(&session, (uint8_t[]){ 'Z', 0, 0, 0, 1 }, 5);
    ck_assert(session.server.broken);
    ck_assert(!session_may_add(&session));
}
END_TEST

START_TEST(broken_clients_are_never_idle)
{
    session_client_bytes(&session, (uint8_t[]){ 'Q', 0, 0, 0, 1 }, 5);
    ck_assert(!session_is_idle(&session));
    server("I");
    ck_assert(!session_is_idle(&session));
}
END_TEST

START_TEST(keys_change_places_at_every_cut)
{
    static const uint8_t STREAM[] = "S\0\0\0\6ab"
                                    "K\0\0\0\x0c"
                                    "PIDsKEYs"
                                    "Z\0\0\0\5I";
    static const uint8_t WANT[] = "S\0\0\0\6ab"
                                  "K\0\0\0\x0c"
                                  "\1\2\3\4\5\6\7\x08"
                                  "Z\0\0\0\5I";

    for (size_t step = 1; step <= sizeof(STREAM) - 1; step++) {
        uint8_t bytes[sizeof(STREAM)];

        memcpy(bytes, STREAM, sizeof(STREAM));
        session_init(&session, OURS);
        for (size_t at = 0; at < sizeof(STREAM) - 1; at += step)
            session_server_bytes(&session, bytes + at,
                                 sizeof(STREAM) - 1 - at < step ? sizeof(STREAM) - 1 - at : step);
        ck_assert_mem_eq(bytes, WANT, sizeof(WANT));
        ck_assert(session.has_key);
        ck_assert_mem_eq(session.server_key, "PIDsKEYs", 8);
        ck_assert(session_is_idle(&session));
    }
}
END_TEST

START_TEST(odd_keys)
{
    uint8_t longer[] = "K\0\0\0\x10PIDsKEYsmore", second[] = "K\0\0\0\x0cpidskeys";

    session_server_bytes(&session, longer, sizeof(longer) - 1);
    ck_assert(!session.has_key);
    ck_assert_mem_eq(longer + 5, "PIDsKEYsmore", 12);
    session_server_bytes(&session, (uint8_t[]){ 'K', 0, 0, 0, 12, 'P', 'I', 'D', 's', 'K', 'E', 'Y', 's' },
                         13);
    ck_assert(session.has_key);
    session_server_bytes(&session, second, sizeof(second) - 1); /* a second one is not believed */
    ck_assert_mem_eq(session.server_key, "PIDsKEYs", 8);
}
END_TEST

START_TEST(goodbyes)
{
    uint8_t mild[] = "E\0\0\0\x1aSERROR\0VERROR\0C57014\0\0",
            hard[] = "E\0\0\0\x1aSFATAL\0VFATAL\0C57P01\0\0";

    ck_assert_uint_eq(sizeof(hard), 27 + 1);
    session_server_bytes(&session, mild, 27);
    ck_assert(!session.fatal);
    for (size_t i = 0; i < 27; i++) {
        ck_assert(!session.fatal);
        ck_assert(session_may_add(&session) == (i == 0));
        session_server_bytes(&session, hard + i, 1);
    }
    ck_assert(session.fatal);
    ck_assert(session_may_add(&session));
}
END_TEST

/* --- first packets
 * ---------------------------------------------------------------------------------------------- */

static const char SSL[] = "\0\0\0\x08\x04\xd2\x16\x2f", GSS[] = "\0\0\0\x08\x04\xd2\x16\x30";
static const char STARTUP[] = "\0\0\0\x10\0\3\0\0user\0a\0";

static enum greet_step step(struct greet *g, const char *bytes, size_t len)
{
    struct wire_first first;

    return greet_next(g, bytes, len, &first);
}

START_TEST(greeting_order)
{
    struct greet g = { .plain = true };

    ck_assert_int_eq(step(&g, SSL, 7), GREET_MORE);
    ck_assert_int_eq(step(&g, GSS, 8), GREET_NO_GSS);
    ck_assert_int_eq(step(&g, GSS, 8), GREET_DROP); /* once is enough */
    ck_assert_int_eq(step(&g, SSL, 8), GREET_TLS);
    ck_assert_int_eq(step(&g, SSL, 8), GREET_DROP);
    g.secure = true;
    ck_assert_int_eq(step(&g, SSL, 8), GREET_REFUSE);
    ck_assert_int_eq(step(&g, GSS, 8), GREET_REFUSE);
    ck_assert_int_eq(step(&g, STARTUP, 16), GREET_START);
}
END_TEST

START_TEST(greeting_injection)
{
    struct greet g = { .plain = true };

    ck_assert_int_eq(step(&g, "\0\0\0\x08\x04\xd2\x16\x2fX", 9), GREET_DROP);
    ck_assert_int_eq(step(&g, "\0\0\0\x08\x04\xd2\x16\x30X", 9), GREET_DROP);
    ck_assert(!g.tls_asked && !g.gss_asked);
}
END_TEST

START_TEST(greeting_in_the_clear)
{
    struct greet far = { .plain = false }, near = { .plain = true };
    static const char CANCEL[] = "\0\0\0\x10\x04\xd2\x16\x2e"
                                 "abcdefgh";

    ck_assert_int_eq(step(&far, STARTUP, 16), GREET_REFUSE);
    ck_assert_int_eq(step(&near, STARTUP, 16), GREET_START);
    ck_assert_int_eq(step(&far, CANCEL, 16), GREET_CANCEL); /* libpq before 17 sends them so */
    ck_assert_int_eq(step(&far, "hello", 5), GREET_REFUSE);
}
END_TEST

Suite *t_session_suite(void)
{
    Suite *s = suite_create("session");
    TCase *t = tcase_create("session"), *g = tcase_create("greet");

    tcase_add_checked_fixture(t, open_session, NULL);
    tcase_add_test(t, simple_queries);
    tcase_add_test(t, pipelines);
    tcase_add_test(t, half_a_message_is_activity);
    tcase_add_test(t, copy_in);
    tcase_add_test(t, copy_in_ahead);
    tcase_add_test(t, copy_in_fails_at_once);
    tcase_add_test(t, copy_in_unknown);
    tcase_add_test(t, function_call_and_terminate);
    tcase_add_test(t, hostile_servers);
    tcase_add_test(t, broken_clients_are_never_idle);
    tcase_add_test(t, keys_change_places_at_every_cut);
    tcase_add_test(t, odd_keys);
    tcase_add_test(t, goodbyes);
    suite_add_tcase(s, t);
    tcase_add_test(g, greeting_order);
    tcase_add_test(g, greeting_injection);
    tcase_add_test(g, greeting_in_the_clear);
    suite_add_tcase(s, g);
    return s;
}
