/*
 * t_scram_client.c - SCRAM as a client that has keys and no password: against a second reckoning, hostile
 * servers and real Postgres
 */
#include "scram_bed.h"

#include <check.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "pg_bed.h"

Suite *t_scram_client_suite(void);

/* --- the client
 * ---------------------------------------------------------------------------------------------------------
 */

#define OWN_NONCE "rOprNGfwEbeRWgbNEkqO"
#define OWN_BARE  "n=,r=" OWN_NONCE

static struct scram_client *client_of(void)
{
    auto_buf first = { 0 };
    struct scram_client *c = scram_client_new(OWN_NONCE, &first);

    ck_assert_str_eq(buf_str(&first), "n,," OWN_BARE);
    return c;
}

START_TEST(login_with_keys)
{
    struct scram_client *c = client_of();
    const char *final = final_of(&here.keys, OWN_BARE, RFC_SERVER_FIRST);
    const char *server_final = server_final_of(&here.keys, OWN_BARE, RFC_SERVER_FIRST, final);

    ck_assert(!scram_client_matches(c, &here.verifier));
    ck_assert_int_eq(ask(c, RFC_SERVER_FIRST, strlen(RFC_SERVER_FIRST)), SCRAM_MORE);
    ck_assert_str_eq(said(), final);
    ck_assert(scram_client_matches(c, &here.verifier));
    ck_assert_int_eq(ask(c, server_final, strlen(server_final)), SCRAM_DONE);
    ck_assert_uint_eq(here.reply.len, 0);
    ck_assert_int_eq(ask(c, server_final, strlen(server_final)), SCRAM_INVALID);
    scram_client_free(c);
}
END_TEST

/* A message that comes before the proof was sent is nobody's answer. */
START_TEST(a_server_that_does_not_wait)
{
    struct scram_client *c = client_of();
    const char *final = server_final_of(&here.keys, OWN_BARE, RFC_SERVER_FIRST,
                                        final_of(&here.keys, OWN_BARE, RFC_SERVER_FIRST));

    ck_assert_int_eq(scram_client_next(c, RFC_SERVER_FIRST, strlen(RFC_SERVER_FIRST), &here.e), SCRAM_MORE);
    ck_assert_int_eq(scram_client_next(c, final, strlen(final), &here.e), SCRAM_INVALID);
    scram_client_free(c);
}
END_TEST

START_TEST(our_two_sides)
{
    static const uint8_t A[SCRAM_RANDOM_SIZE] = { 1 }, B[SCRAM_RANDOM_SIZE] = { 2 };
    char mine[SCRAM_NONCE_SIZE], yours[SCRAM_NONCE_SIZE];
    auto_buf first = { 0 };
    struct scram_server *s;
    struct scram_client *c;
    const char *m;

    scram_nonce(A, mine);
    scram_nonce(B, yours);
    ck_assert_uint_eq(strlen(mine), 24);
    ck_assert_str_ne(mine, yours);
    c = scram_client_new(mine, &first);
    s = scram_server_new(&here.verifier, NULL, SCRAM_SHA_256, yours, &here.e);
    ck_assert_int_eq(tell(s, first.data, first.len), SCRAM_MORE);
    m = said();
    ck_assert_int_eq(ask(c, m, strlen(m)), SCRAM_MORE);
    ck_assert_int_eq(say(s, said()), SCRAM_DONE);
    ck_assert_mem_eq(scram_server_client_key(s), here.keys.client, 32);
    m = said();
    ck_assert_int_eq(ask(c, m, strlen(m)), SCRAM_DONE);
    scram_client_free(c);
    scram_server_free(s);
}
END_TEST

START_TEST(a_password_that_was_changed_shows)
{
    struct scram_verifier old = here.verifier;
    struct scram_client *c = client_of();

    ck_assert_int_eq(ask(c, RFC_SERVER_FIRST, strlen(RFC_SERVER_FIRST)), SCRAM_MORE);
    ck_assert(scram_client_matches(c, &old));
    old.salt[15] ^= 1;
    ck_assert(!scram_client_matches(c, &old));
    old = here.verifier;
    old.salt_len = 15;
    ck_assert(!scram_client_matches(c, &old));
    old = here.verifier;
    old.iterations = 4097;
    ck_assert(!scram_client_matches(c, &old));
    scram_client_free(c);
}
END_TEST

START_TEST(hostile_server_first)
{
#define OURS "r=" OWN_NONCE
    static const char *const BAD[] = {
        "",
        OURS ",s=AAAA,i=4096", /* adds nothing to our nonce */
        OURS "x",
        OURS "x,s=AAAA",
        OURS "x,s=AAAA,i=",
        OURS "x,s=AAAA,i=0",
        OURS "x,s=AAAA,i=-1",
        OURS "x,s=AAAA,i=04096",
        OURS "x,s=AAAA,i=2147483648",
        OURS "x,s=AAAA,i=4096,",
        OURS "x,s=AAAA,i=4096,z=1",
        OURS "x,s=AAAA,i=4096 ",
        OURS "x,s=,i=4096",
        OURS "x,s=AAA,i=4096",
        OURS "x,s=AAB=,i=4096",
        OURS "x,i=4096,s=AAAA",
        OURS " ,s=AAAA,i=4096",
        OURS "\x7f,s=AAAA,i=4096",
        "r=x,s=AAAA,i=4096",
        "r=xrOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096",
        "m=must," OURS "x,s=AAAA,i=4096",
        "e=other-error",
        "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    };
    char *big = arena_alloc(here.arena, 2000);

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        struct scram_client *c = client_of();

        ck_assert_msg(ask(c, BAD[i], strlen(BAD[i])) == SCRAM_INVALID, "%s", BAD[i]);
        ck_assert_int_eq(ask(c, RFC_SERVER_FIRST, strlen(RFC_SERVER_FIRST)), SCRAM_INVALID);
        scram_client_free(c);
    }
    for (size_t n = 0; n < strlen(RFC_SERVER_FIRST); n++) { /* "i=409" is well formed */
        struct scram_client *c = client_of();

        if (ask(c, RFC_SERVER_FIRST, n) == SCRAM_MORE)
            ck_assert(n > strlen(RFC_SERVER_FIRST) - 4 && !scram_client_matches(c, &here.verifier));
        scram_client_free(c);
    }
    memset(big, 'x', 1999);
    memcpy(big, OURS, strlen(OURS));
    memcpy(big + 1985, ",s=AAAA,i=4096", 14);
    for (size_t i = 0; i < 2; i++) {
        struct scram_client *c = client_of();

        ck_assert_int_eq(i == 0 ? ask(c, big, 1999)
                                : ask(c, RFC_SERVER_FIRST "\0", strlen(RFC_SERVER_FIRST) + 1),
                         SCRAM_INVALID);
        scram_client_free(c);
    }
}
END_TEST

static enum scram_result verify(const char *message, size_t len)
{
    struct scram_client *c = client_of();
    enum scram_result r;

    ck_assert_int_eq(ask(c, RFC_SERVER_FIRST, strlen(RFC_SERVER_FIRST)), SCRAM_MORE);
    r = ask(c, message, len);
    scram_client_free(c);
    return r;
}

static void server_final_instead(const void *message, size_t len)
{
    ck_assert_int_ne(verify(message, len), SCRAM_DONE);
}

START_TEST(hostile_server_final)
{
    const char *final = final_of(&here.keys, OWN_BARE, RFC_SERVER_FIRST);
    const char *good = server_final_of(&here.keys, OWN_BARE, RFC_SERVER_FIRST, final);
    const char *other;

    ck_assert_int_eq(verify(good, strlen(good)), SCRAM_DONE);
    every_change(good, server_final_instead);
    ck_assert_int_eq(verify("e=invalid-proof", 15), SCRAM_INVALID);
    here.keys.server[0] ^= 1; /* a server that has StoredKey only */
    other = server_final_of(&here.keys, OWN_BARE, RFC_SERVER_FIRST, final);
    here.keys.server[0] ^= 1;
    ck_assert_int_eq(verify(other, strlen(other)), SCRAM_DENIED);
}
END_TEST

/* --- a real Postgres
 * ---------------------------------------------------------------------------------------------------- */

static struct pg_bed postgres;

static void start_postgres(void)
{
    pg_bed_start(&postgres);
}

static void stop_postgres(void)
{
    pg_bed_stop(&postgres);
}

static bool have_postgres(void)
{
    if (postgres.bindir == NULL)
        printf("SKIP scram with a real Postgres: there is none\n");
    return postgres.bindir != NULL;
}

static void give_password(const char *role, const char *password, struct scram_verifier *ret)
{
    const char *stored;

    pg_bed_sql(&postgres, arena_printf(here.arena, "ALTER ROLE %s PASSWORD '%s'", role, password));
    stored = pg_bed_sql(
        &postgres, arena_printf(here.arena, "SELECT rolpassword FROM pg_authid WHERE rolname = '%s'", role));
    ck_assert_msg(scram_verifier_parse(arena_printf(here.arena, "%.*s", (int)strcspn(stored, "\n"), stored),
                                       ret, &here.err) == 0,
                  "%s", stored);
}

static int dial(void)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = 20 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(to.sun_path, sizeof(to.sun_path), "%s/.s.PGSQL.5432", postgres.dir);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void transmit(int fd, struct buf *b)
{
    ck_assert_int_eq(send(fd, b->data, b->len, MSG_NOSIGNAL), (ssize_t)b->len);
    buf_clear(b);
}

/* One message; its type. */
static char receive(int fd, struct buf *body)
{
    uint8_t head[5];
    size_t len;

    ck_assert_int_eq(recv(fd, head, 5, MSG_WAITALL), 5);
    len = ((size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4]) - 4;
    ck_assert_uint_lt(len, 100000);
    buf_clear(body);
    buf_reserve(body, len + 1);
    if (len > 0)
        ck_assert_int_eq(recv(fd, body->data, len, MSG_WAITALL), (ssize_t)len);
    body->len = len;
    return (char)head[0];
}

static bool receive_auth(int fd, struct buf *body, uint32_t code, struct wire_auth *ret)
{
    return receive(fd, body) == 'R' && wire_auth_parse(body->data, body->len, ret) && ret->code == code;
}

static void send_startup(int fd, const char *role)
{
    auto_buf b = { 0 };
    size_t mark = wire_startup_begin(&b);

    wire_startup_param(&b, "user", role);
    wire_startup_param(&b, "database", "postgres");
    wire_startup_end(&b, mark);
    transmit(fd, &b);
}

/* Logs in as a proxy would; "" or the SQLSTATE. */
static const char *login(const char *role, const struct keys *k, const struct scram_verifier *v, bool matches)
{
    auto_buf out = { 0 }, body = { 0 };
    auto_fd fd = dial();
    struct wire_auth auth;
    struct scram_client *c;
    char state[6] = "?????";
    bool fatal;

    send_startup(fd, role);
    ck_assert(receive_auth(fd, &body, WIRE_AUTH_SASL, &auth));
    ck_assert_str_eq(auth.data, SCRAM_SHA_256);
    buf_clear(&here.reply);
    here.as = k;
    c = scram_client_new(OWN_NONCE, &here.reply);
    wire_sasl_initial_add(&out, SCRAM_SHA_256, here.reply.data, here.reply.len);
    transmit(fd, &out);
    ck_assert(receive_auth(fd, &body, WIRE_AUTH_SASL_CONTINUE, &auth));
    ck_assert_int_eq(ask(c, auth.data, auth.len), SCRAM_MORE);
    ck_assert(scram_client_matches(c, v) == matches);
    wire_sasl_response_add(&out, here.reply.data, here.reply.len);
    transmit(fd, &out);
    if (receive_auth(fd, &body, WIRE_AUTH_SASL_FINAL, &auth)) {
        ck_assert_int_eq(ask(c, auth.data, auth.len), SCRAM_DONE);
        ck_assert(receive_auth(fd, &body, WIRE_AUTH_OK, &auth));
        while (receive(fd, &body) != 'Z')
            ;
        state[0] = '\0';
    } else {
        ck_assert(wire_error_sqlstate((const uint8_t *)body.data, body.len, state, &fatal) && fatal);
    }
    scram_client_free(c);
    return arena_strdup(here.arena, state);
}

START_TEST(what_postgres_makes_and_takes)
{
    struct scram_verifier v, later;
    struct scram_server *s;
    struct keys k, recovered;

    if (!have_postgres())
        return;
    pg_bed_sql(&postgres, "CREATE ROLE ann LOGIN");
    give_password("ann", "npg_Secret12345", &v);
    ck_assert_int_eq(v.iterations, CRYPT_SCRAM_ITERATIONS);
    ck_assert_uint_eq(v.salt_len, CRYPT_SCRAM_SALT_SIZE);
    keys_of("npg_Secret12345", v.salt, v.salt_len, v.iterations, &k);

    /* a client that knows the password shows us the key, and with that alone we get in */
    s = server_of(&v);
    ck_assert_int_eq(say(s, RFC_FIRST), SCRAM_MORE);
    ck_assert_int_eq(say(s, final_of(&k, RFC_BARE, said())), SCRAM_DONE);
    memcpy(recovered.client, scram_server_client_key(s), 32);
    memcpy(recovered.server, v.server_key, 32);
    scram_server_free(s);
    ck_assert_str_eq(login("ann", &recovered, &v, true), "");
    recovered.client[31] ^= 1;
    ck_assert_str_eq(login("ann", &recovered, &v, true), "28P01");

    give_password("ann", "npg_Secret12345", &later); /* the same again has another salt */
    ck_assert_str_eq(login("ann", &k, &v, false), "28P01");
    keys_of("npg_Secret12345", later.salt, later.salt_len, later.iterations, &k);
    ck_assert_str_eq(login("ann", &k, &later, true), "");
}
END_TEST

START_TEST(what_we_make_and_postgres_takes)
{
    struct scram_verifier v;
    const char *made;
    struct keys k;

    if (!have_postgres())
        return;
    ck_assert_int_eq(crypt_scram_verifier(here.arena, "npg_Another9", &made, &here.err), 0);
    pg_bed_sql(&postgres, arena_printf(here.arena, "CREATE ROLE bob LOGIN PASSWORD '%s'", made));
    ck_assert_int_eq(scram_verifier_parse(made, &v, &here.err), 0);
    keys_of("npg_Another9", v.salt, v.salt_len, v.iterations, &k);
    ck_assert_str_eq(login("bob", &k, &v, true), "");
}
END_TEST

/* Postgres denies a role that is not there as late as we do. */
START_TEST(a_role_that_postgres_does_not_have)
{
    struct scram_verifier v = here.verifier;

    if (!have_postgres())
        return;
    ck_assert_str_eq(login("nobody_of_that_name", &here.keys, &v, false), "28P01");
}
END_TEST

/* --- the suite
 * ----------------------------------------------------------------------------------------------------------
 */

static void add_client(Suite *s)
{
    TCase *t = tcase_create("client");

    tcase_add_checked_fixture(t, scram_bed_setup, scram_bed_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, login_with_keys);
    tcase_add_test(t, a_server_that_does_not_wait);
    tcase_add_test(t, our_two_sides);
    tcase_add_test(t, a_password_that_was_changed_shows);
    tcase_add_test(t, hostile_server_first);
    tcase_add_test(t, hostile_server_final);
    suite_add_tcase(s, t);
}

Suite *t_scram_client_suite(void)
{
    Suite *s = suite_create("scram_client");
    TCase *real = tcase_create("postgres");

    add_client(s);
    tcase_add_unchecked_fixture(real, start_postgres, stop_postgres); /* stopped also after a failure */
    tcase_add_checked_fixture(real, scram_bed_setup, scram_bed_teardown);
    tcase_set_timeout(real, 120);
    tcase_add_test(real, what_postgres_makes_and_takes);
    tcase_add_test(real, what_we_make_and_postgres_takes);
    tcase_add_test(real, a_role_that_postgres_does_not_have);
    suite_add_tcase(s, real);
    return s;
}
