/*
 * t_httpc.c - HTTP calls against a server of our own: answers, limits, deadlines, absence
 */
#include "base/httpc.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"

Suite *t_httpc_suite(void);

/* Serves one connection with a canned answer; keeps what was asked. */
static struct {
    int fd;
    const char *answer; /* NULL = says nothing until the client goes */
    char request[4096];
    pthread_t thread;
} server;

static char url[64];

static void *serve(void *arg)
{
    struct pollfd p = { .events = POLLIN };
    auto_fd c = accept4(server.fd, NULL, NULL, SOCK_CLOEXEC);
    size_t n = 0;

    (void)arg;
    p.fd = c;
    while (n < sizeof(server.request) - 1 && poll(&p, 1, 300) > 0) { /* a pause: the request is complete */
        ssize_t got = recv(c, server.request + n, sizeof(server.request) - 1 - n, 0);

        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (server.answer != NULL)
        (void)!write(c, server.answer, strlen(server.answer));
    else
        poll(&p, 1, 5000);
    return NULL;
}

static void start(const char *answer)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);

    server.answer = answer;
    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(server.fd, (struct sockaddr *)&a, len), 0);
    ck_assert_int_eq(listen(server.fd, 8), 0);
    ck_assert_int_eq(getsockname(server.fd, (struct sockaddr *)&a, &len), 0);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/x?y=1", ntohs(a.sin_port));
    ck_assert_int_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void stop(void)
{
    pthread_join(server.thread, NULL);
    close(server.fd);
}

static struct httpc_request request(const char *method)
{
    return (struct httpc_request){ .method = method, .url = url, .timeout_ms = 5000, .max_bytes = 1000 };
}

START_TEST(get)
{
    struct httpc_request req = request("GET");
    auto_buf body = { 0 };
    struct err err = ERR_INIT;
    int status = 0;

    setenv("http_proxy", "http://127.0.0.1:1", 1); /* not for this machine */
    start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    req.bearer = "napi_k";
    ck_assert_msg(httpc_call(&req, &status, &body, &err) == 0, "%s", err.detail);
    stop();
    ck_assert_int_eq(status, 200);
    ck_assert_str_eq(buf_str(&body), "hi");
    ck_assert_ptr_eq(strstr(server.request, "GET /x?y=1 HTTP/1.1\r\n"), server.request);
    ck_assert_ptr_nonnull(strstr(server.request, "\r\nAuthorization: Bearer napi_k\r\n"));
    ck_assert_ptr_null(strstr(server.request, "Content-Type"));
}
END_TEST

START_TEST(post_and_an_error_status)
{
    struct httpc_request req = request("POST");
    auto_buf body = { 0 };
    struct err err = ERR_INIT;
    int status = 0;

    start("HTTP/1.1 422 No\r\nContent-Length: 3\r\n\r\nbad");
    req.body = "{\"a\":1}";
    buf_adds(&body, "left from before");
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), 0); /* an answer is an answer */
    stop();
    ck_assert_int_eq(status, 422);
    ck_assert_str_eq(buf_str(&body), "bad");
    ck_assert_ptr_nonnull(strstr(server.request, "\r\nContent-Type: application/json\r\n"));
    ck_assert_ptr_nonnull(strstr(server.request, "\r\n\r\n{\"a\":1}"));
    ck_assert_ptr_null(strstr(server.request, "Expect"));
}
END_TEST

START_TEST(other_methods)
{
    static const char *const METHODS[] = { "DELETE", "PATCH", "PUT", "HEAD" };
    struct err err = ERR_INIT;

    for (size_t i = 0; i < N_ELEMENTS(METHODS); i++) {
        struct httpc_request req = request(METHODS[i]);
        auto_buf body = { 0 };
        int status = 0;

        start("HTTP/1.1 204 OK\r\n\r\n");
        ck_assert_int_eq(httpc_call(&req, &status, &body, &err), 0);
        stop();
        ck_assert_int_eq(status, 204);
        ck_assert_int_eq(strncmp(server.request, METHODS[i], strlen(METHODS[i])), 0);
    }
}
END_TEST

START_TEST(redirects_are_not_followed)
{
    struct httpc_request req = request("GET");
    auto_buf body = { 0 };
    struct err err = ERR_INIT;
    int status = 0;

    start("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), 0);
    stop();
    ck_assert_int_eq(status, 302);
}
END_TEST

START_TEST(size_cap)
{
    struct httpc_request req = request("GET");
    auto_buf body = { 0 };
    struct err err = ERR_INIT;
    int status = 0;

    start("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    req.max_bytes = 5;
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), 0); /* exactly */
    stop();
    start("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!");
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1);
    stop();
    ck_assert_int_eq(err.code, ERR_TOO_LARGE);
}
END_TEST

START_TEST(deadline)
{
    struct httpc_request req = request("GET");
    auto_buf body = { 0 };
    struct err err = ERR_INIT;
    int status = 0;
    int64_t begin = clock_mono_ms();

    start(NULL);
    req.timeout_ms = 100;
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1);
    ck_assert_int_eq(err.code, ERR_TIMEOUT);
    ck_assert_int_lt(clock_mono_ms() - begin, 2000);
    stop();
}
END_TEST

static bool give_up(void *arg)
{
    int *ticks = arg;

    return ++*ticks > 2;
}

START_TEST(given_up)
{
    struct httpc_request req = request("GET");
    auto_buf body = { 0 };
    struct err err = ERR_INIT;
    int64_t begun_ms = clock_mono_ms();
    int status = 0, ticks = 0;

    start(NULL);
    req.tick = give_up;
    req.tick_arg = &ticks;
    req.timeout_ms = 60000;
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1);
    stop();
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    ck_assert_int_eq(ticks, 3);
    ck_assert_int_lt(clock_mono_ms() - begun_ms, 30000);
}
END_TEST

START_TEST(nobody_there)
{
    struct httpc_request req = request("GET");
    auto_buf body = { 0 };
    struct err err = ERR_INIT;
    int status = 0;

    start("garbage, not HTTP\r\n\r\n");
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1);
    stop();
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1); /* the port is closed now */
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    req.url = "file:///etc/passwd";
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    req.url = "http://";
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1);
    req.url = url;
    req.bearer = "a\r\nX-Evil: 1";
    ck_assert_int_eq(httpc_call(&req, &status, &body, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
}
END_TEST

Suite *t_httpc_suite(void)
{
    Suite *s = suite_create("httpc");
    TCase *c = tcase_create("httpc");

    tcase_set_timeout(c, 30);
    tcase_add_test(c, get);
    tcase_add_test(c, post_and_an_error_status);
    tcase_add_test(c, other_methods);
    tcase_add_test(c, redirects_are_not_followed);
    tcase_add_test(c, size_cap);
    tcase_add_test(c, deadline);
    tcase_add_test(c, given_up);
    tcase_add_test(c, nobody_there);
    suite_add_tcase(s, c);
    return s;
}
