/*
 * t_admin.c - our session in a compute, against a server that says what a test wants it to
 *
 * What a real server says is for the end-to-end tests; it cannot be made to fail right between a statement's
 * result and its commit.
 */
#include "pg/admin.h"

#include "base/buf.h"
#include "base/fs.h"
#include "pg/conf.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

Suite *t_admin_suite(void);

/* What the server says to one statement; each ends the script or is followed by the next. */
enum say { SAY_END, SAY_RESULT, SAY_COMMIT_ERROR, SAY_SECOND_RESULT, SAY_READY, SAY_CLOSE, SAY_COPY };

static char dir[64];
static struct arena *arena;
static struct err err;
static int listener;
static pthread_t thread;
static struct buf startup; /* the client's first packet */
static const enum say *script;
static const char *version;

static void put32(struct buf *b, uint32_t v)
{
    uint8_t x[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };
    buf_add(b, x, 4);
}

static void message(struct buf *b, char type, const void *body, size_t len)
{
    buf_add(b, &type, 1);
    put32(b, (uint32_t)len + 4);
    buf_add(b, body, len);
}

static void greet(struct buf *b)
{
    auto_free char *param = xasprintf("server_version%c%s%c", 1, version, 1);
    size_t len = strlen(param);
    for (size_t i = 0; i < len; i++)
        param[i] = param[i] == 1 ? '\0' : param[i];
    message(b, 'R', "\0\0\0\0", 4);
    message(b, 'S', param, len);
    message(b, 'K', "\0\0\0\1\0\0\0\2", 8);
    message(b, 'Z', "I", 1);
}

static void one_row(struct buf *b)
{
    message(b, '1', "", 0);
    message(b, '2', "", 0);
    message(b, 'T', "\0\1lsn\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0", 24);
    message(b, 'D',
            "\0\1\0\0\0\6"
            "0/ABCD",
            12);
    message(b, 'C', "SELECT 1", 9);
}

static void say(struct buf *b, enum say what)
{
    static const char PANIC[] = "SPANIC\0VPANIC\0C58030\0Mcould not write the commit\0";
    switch (what) {
    case SAY_RESULT:
    case SAY_SECOND_RESULT:
        one_row(b);
        break;
    case SAY_COMMIT_ERROR:
        message(b, 'E', PANIC, sizeof(PANIC));
        break;
    case SAY_READY:
        message(b, 'Z', "I", 1);
        break;
    case SAY_COPY:
        message(b, 'G', "\0\0\0", 3);
        break;
    case SAY_END:
    case SAY_CLOSE:
        break;
    }
}

static void send_all(int fd, struct buf *b)
{
    for (size_t at = 0; at < b->len;) {
        ssize_t n = send(fd, b->data + at, b->len - at, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        at += (size_t)n;
    }
}

static void *serve(void *arg)
{
    char in[8192];
    auto_fd fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    auto_buf out = { 0 };
    ssize_t n = recv(fd, in, sizeof(in), 0);
    (void)arg;
    if (n <= 0)
        return NULL;
    buf_add(&startup, in, (size_t)n);
    greet(&out);
    send_all(fd, &out);
    while (recv(fd, in, sizeof(in), 0) > 0) { /* a statement fits in one packet of a local socket */
        buf_clear(&out);
        const enum say *s = script;
        for (; *s != SAY_END && *s != SAY_CLOSE; s++)
            say(&out, *s);
        send_all(fd, &out);
        if (*s == SAY_CLOSE)
            break;
    }
    return NULL;
}

static void setup(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(dir, sizeof(dir), "/tmp/t_admin.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    startup = (struct buf){ 0 };
    version = "15.0";
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", pg_conf_socket(arena, dir));
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    ck_assert_int_eq(listen(listener, 5), 0);
}

static void teardown(void)
{
    close(listener);
    buf_fini(&startup);
    arena_free(arena);
    err = (struct err)ERR_INIT;
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
}

static struct pg_admin *begin(const enum say *s)
{
    struct pg_admin *p = NULL;
    script = s;
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
    ck_assert_msg(pg_admin_open(dir, 5000, &p, &err) == 0, "%s", err.detail);
    return p;
}

static void end(struct pg_admin *p)
{
    pg_admin_close(p);
    pthread_join(thread, NULL);
}

/* A mark is a promise that all before it is durable: only a commit that was confirmed keeps it. */
START_TEST(a_result_whose_commit_fails)
{
    static const enum say GOOD[] = { SAY_RESULT, SAY_READY, SAY_END };
    static const enum say FAILS[] = { SAY_RESULT, SAY_COMMIT_ERROR, SAY_READY, SAY_END };
    static const enum say PANICS[] = { SAY_RESULT, SAY_COMMIT_ERROR, SAY_CLOSE };
    static const enum say GOES[] = { SAY_RESULT, SAY_CLOSE };
    static const enum say THEN_GOOD[] = { SAY_RESULT, SAY_COMMIT_ERROR, SAY_SECOND_RESULT, SAY_READY,
                                          SAY_END };
    uint64_t lsn = 0;

    struct pg_admin *p = begin(GOOD);
    ck_assert_msg(pg_admin_mark(p, "x", &lsn, &err) == 0, "%s %s", err.msg, err.detail);
    ck_assert_uint_eq(lsn, 0xABCD);
    end(p);

    p = begin(FAILS);
    ck_assert_int_eq(pg_admin_mark(p, "x", &lsn, &err), -1);
    ck_assert_msg(strstr(err.msg, "could not write the commit") != NULL, "%s", err.msg);
    end(p);

    p = begin(PANICS);
    ck_assert_int_eq(pg_admin_mark(p, "x", &lsn, &err), -1);
    ck_assert_int_eq(pg_admin_mark(p, "x", &lsn, &err), -1); /* and it stays that way */
    end(p);

    p = begin(GOES);
    ck_assert_int_eq(pg_admin_mark(p, "x", &lsn, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    end(p);

    p = begin(THEN_GOOD);
    ck_assert_int_eq(pg_admin_mark(p, "x", &lsn, &err), -1);
    end(p);
}
END_TEST

START_TEST(a_server_that_wants_to_copy)
{
    static const enum say COPIES[] = { SAY_COPY, SAY_END };
    uint64_t lsn;
    struct pg_admin *p = begin(COPIES);
    ck_assert_int_eq(pg_admin_mark(p, "x", &lsn, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    end(p);
}
END_TEST

static bool startup_has(const char *text)
{
    return memmem(startup.data, startup.len, text, strlen(text)) != NULL;
}

START_TEST(settings_of_users_do_not_reach_it)
{
    static const char *const WANTED[] = {
        "statement_timeout=0",          "lock_timeout=10s",     "idle_in_transaction_session_timeout=0",
        "log_statement=none",           "log_duration=off",     "log_min_duration_statement=-1",
        "log_min_duration_sample=-1",   "track_activities=off", "log_min_error_statement=panic",
        "client_min_messages=warning ",
    };
    static const enum say NOTHING[] = { SAY_READY, SAY_END };
    end(begin(NOTHING));
    for (size_t i = 0; i < N_ELEMENTS(WANTED); i++)
        ck_assert_msg(startup_has(WANTED[i]), "%s", WANTED[i]);
    ck_assert(!startup_has("transaction_timeout=0 -c transaction"));
    ck_assert(!startup_has("-c transaction_timeout")); /* 15 would refuse the connection */
}
END_TEST

/* From 17 on it is lifted by a statement: a server that refuses it gives no session. */
START_TEST(the_transaction_timeout_is_lifted_where_there_is_one)
{
    static const enum say FAILS[] = { SAY_COMMIT_ERROR, SAY_READY, SAY_END };
    static const enum say GOOD[] = { SAY_RESULT, SAY_READY, SAY_END };
    struct pg_admin *p = NULL;
    version = "17.0";
    end(begin(GOOD));
    script = FAILS;
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
    ck_assert_int_eq(pg_admin_open(dir, 5000, &p, &err), -1);
    pthread_join(thread, NULL);
    version = "16.9";
    end(begin(FAILS));
}
END_TEST

Suite *t_admin_suite(void)
{
    Suite *s = suite_create("admin");
    TCase *t = tcase_create("admin");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_result_whose_commit_fails);
    tcase_add_test(t, a_server_that_wants_to_copy);
    tcase_add_test(t, settings_of_users_do_not_reach_it);
    tcase_add_test(t, the_transaction_timeout_is_lifted_where_there_is_one);
    suite_add_tcase(s, t);
    return s;
}
