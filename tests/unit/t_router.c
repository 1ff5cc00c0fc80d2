/*
 * t_router.c - paths against the generated table, request targets, deadlines of connections
 */
#include "api/router.h"

#include "api/deadline.h"
#include "base/clock.h"

#include <check.h>
#include <poll.h>
#include <sys/socket.h>

Suite *t_router_suite(void);

static struct http_req req;

static void setup(void)
{
    req = (struct http_req){ .arena = arena_new(0) };
}

static void teardown(void)
{
    arena_free(req.arena);
}

static const struct route *find(const char *method, const char *path, struct err *err, const char **allow)
{
    *err = (struct err)ERR_INIT;
    req.method = method;
    req.path = path;
    return router_find(&req, allow, err);
}

/* The pattern that a call gets to, or the name of the error. */
static const char *where(const char *method, const char *path)
{
    struct err err;
    const char *allow;
    const struct route *r = find(method, path, &err, &allow);

    return r != NULL ? r->pattern : err_name(err.code);
}

static const char *sample(const char *pattern)
{
    char *path = arena_strdup(req.arena, pattern), *out = path;

    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p != '{') {
            *out++ = *p;
            continue;
        }
        *out++ = 'x'; /* no fixed segment is called that */
        p = strchr(p, '}');
    }
    *out = '\0';
    return path;
}

START_TEST(every_route_is_found_by_its_own_path)
{
    size_t n;
    const struct route *table = router_table(&n);

    ck_assert_uint_ge(n, 40);
    for (size_t i = 0; i < n; i++) {
        struct err err;
        const char *allow;
        const struct route *r = find(table[i].method, sample(table[i].pattern), &err, &allow);

        ck_assert_msg(r == &table[i], "%s %s", table[i].method, table[i].pattern);
        ck_assert_ptr_nonnull(r->handler);
        ck_assert_uint_gt(r->body_max, 0);
        ck_assert_int_eq(r->auth != ROUTE_OPEN, strncmp(r->pattern, "/api/", 5) == 0);
    }
}
END_TEST

START_TEST(a_fixed_segment_beats_a_parameter)
{
    ck_assert_str_eq(where("GET", "/api/v2/projects/shared"), "/api/v2/projects/shared");
    ck_assert_str_eq(where("GET", "/api/v2/projects/share"), "/api/v2/projects/{project_id}");
    ck_assert_str_eq(where("GET", "/api/v2/projects/p/branches/count"),
                     "/api/v2/projects/{project_id}/branches/count");
    ck_assert_str_eq(where("GET", "/api/v2/projects/p/branches/counts"),
                     "/api/v2/projects/{project_id}/branches/{branch_id}");
    ck_assert_str_eq(where("DELETE", "/api/v2/projects/shared"), "method_not_allowed");
}
END_TEST

START_TEST(parameters_are_decoded_after_the_path_is_split)
{
    struct err err;
    const char *allow;
    const struct route *r = find(
        "GET", "/api/v2/projects/p-1/branches/test%2F%C3%BC%20x+y/roles/a%25b/reveal_password", &err, &allow);

    ck_assert_ptr_nonnull(r);
    ck_assert_str_eq(http_param(&req, "project_id"), "p-1");
    ck_assert_str_eq(http_param(&req, "branch_id"), "test/\xc3\xbc x+y");
    ck_assert_str_eq(http_param(&req, "role_name"), "a%b");
    ck_assert_uint_eq(req.n_path_params, 3);
}
END_TEST

START_TEST(what_is_nowhere)
{
    static const char *const PATHS[] = {
        "/",
        "",
        "*",
        "api/v2/projects",
        "/api/v2",
        "/api/v2/",
        "/api/v2/project",
        "/api/v2/projectss",
        "/api/v2/projects/",
        "/api/v2//projects",
        "//api/v2/projects",
        "/api/v2/projects//branches",
        "/api/v2/projects/p/branches/",
        "/api/v2/projects/p/branches/b/c",
        "/api/v2/projects/p/branches/b/roles/r/s/t",
        "/api/v2/projects/p/branches/b/buckets",
        "/api/v3/projects",
        "/API/v2/projects",
        "/api/v2/%70rojects",
        "/livez/",
        "/livezz",
        "/{project_id}",
    };

    for (size_t i = 0; i < N_ELEMENTS(PATHS); i++)
        ck_assert_msg(strcmp(where("GET", PATHS[i]), "not_found") == 0, "%s", PATHS[i]);
}
END_TEST

START_TEST(what_is_not_there_yet_says_so)
{
    static const char *const YET[] = {
        "/api/v2/projects/p/branch_anonymized",
        "/api/v2/projects/p/branches/b%2Fc/auth",
        "/api/v2/projects/p/branches/b/data-api/neondb",
        "/api/v2/projects/p/jwks",
        "/api/v2/projects/auth/create",
        "/api/v2/consumption_history/account/x",
    };
    static const char *const NOWHERE[] = {
        "/api/v2/projects/p/branches/b/authors",
        "/api/v2/projects/p/branches//auth",
        "/api/v2/projects/p/jwk",
        "/api/v1/projects/p/jwks",
        "/api/v2/consumption_history/accounts",
    };
    struct err err;
    const char *allow;

    for (size_t i = 0; i < N_ELEMENTS(YET); i++) {
        ck_assert_ptr_null(find(i % 2 == 0 ? "POST" : "GET", YET[i], &err, &allow));
        ck_assert_int_eq(err.code, ERR_NOT_FOUND);
        ck_assert_msg(strstr(err.msg, "Mere does not have this yet") != NULL, "%s: %s", YET[i], err.msg);
        ck_assert_ptr_null(allow);
    }
    for (size_t i = 0; i < N_ELEMENTS(NOWHERE); i++) {
        ck_assert_ptr_null(find("GET", NOWHERE[i], &err, &allow));
        ck_assert_msg(strcmp(err.msg, "there is nothing at this path") == 0, "%s: %s", NOWHERE[i], err.msg);
    }
}
END_TEST

START_TEST(another_method_is_told_which_there_are)
{
    static const char *const CASES[][3] = {
        { "PUT", "/api/v2/projects", "GET, POST" },
        { "get", "/api/v2/projects", "GET, POST" },
        { "HEAD", "/livez", "GET" },
        { "POST", "/api/v2/projects/p", "GET, PATCH, DELETE" },
        { "GET", "/api/v2/projects/p/endpoints/e/start", "POST" },
        { "DELETE", "/api/v2/projects/p/branches/count", "GET" },
        { "", "/api/v2/regions", "GET" },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        struct err err;
        const char *allow;

        ck_assert_ptr_null(find(CASES[i][0], CASES[i][1], &err, &allow));
        ck_assert_int_eq(err.code, ERR_METHOD);
        ck_assert_str_eq(allow, CASES[i][2]);
    }
}
END_TEST

START_TEST(malformed_escapes_are_refused)
{
    static const char *const IDS[] = { "%",   "%2",  "%zz",       "%00",    "a%00b",
                                       "%ff", "%c3", "%ed%a0%80", "%c0%af", "x%" };

    for (size_t i = 0; i < N_ELEMENTS(IDS); i++)
        ck_assert_msg(
            strcmp(where("GET", arena_printf(req.arena, "/api/v2/projects/%s", IDS[i])), "bad_request") == 0,
            "%s", IDS[i]);
    ck_assert_str_eq(where("GET", "/api/v2/projects/p/branches/%zz"), "bad_request");
    ck_assert_str_eq(where("GET", "/api/v2/projects/%2e%2e"), "/api/v2/projects/{project_id}");
}
END_TEST

/* --- targets --- */

START_TEST(a_target_is_a_path_and_a_query)
{
    struct err err = ERR_INIT;

    ck_assert_int_eq(http_parse_target(&req, "/a/b%2Fc?x=1&y=a+b%2B%26&z&&=v&x=2#f", &err), 0);
    ck_assert_str_eq(req.path, "/a/b%2Fc");
    ck_assert_uint_eq(req.n_query, 5);
    ck_assert_str_eq(http_query(&req, "x"), "1"); /* the first one counts */
    ck_assert_str_eq(http_query(&req, "y"), "a b+&");
    ck_assert_str_eq(http_query(&req, "z"), "");
    ck_assert_str_eq(http_query(&req, ""), "v");
    ck_assert_ptr_null(http_query(&req, "w"));
}
END_TEST

START_TEST(targets_of_other_forms)
{
    struct err err = ERR_INIT;

    ck_assert_int_eq(http_parse_target(&req, "http://host:1/a?b=c", &err), 0);
    ck_assert_str_eq(req.path, "/a");
    ck_assert_str_eq(http_query(&req, "b"), "c");
    ck_assert_int_eq(http_parse_target(&req, "http://host", &err), 0);
    ck_assert_str_eq(req.path, "/");
    ck_assert_int_eq(http_parse_target(&req, "/x?url=http://host/y", &err), 0);
    ck_assert_str_eq(req.path, "/x");
    ck_assert_int_eq(http_parse_target(&req, "*", &err), 0);
    ck_assert_str_eq(req.path, "*");
    ck_assert_int_eq(http_parse_target(&req, "", &err), 0);
    ck_assert_str_eq(req.path, "/");
    ck_assert_int_eq(http_parse_target(&req, "?a=b", &err), 0);
    ck_assert_str_eq(req.path, "/");
}
END_TEST

START_TEST(queries_that_cannot_be_read)
{
    static const char *const QUERIES[] = { "/?a=%zz", "/?%00=1", "/?a=%ff", "/?a=%", "/?a=1&b=%c3%28" };
    struct err err;
    char *many = arena_strdup(req.arena, "/?");

    for (size_t i = 0; i < N_ELEMENTS(QUERIES); i++) {
        err = (struct err)ERR_INIT;
        ck_assert_msg(http_parse_target(&req, QUERIES[i], &err) < 0, "%s", QUERIES[i]);
        ck_assert_int_eq(err.code, ERR_BAD_REQUEST);
    }
    for (int i = 0; i < HTTP_QUERY_MAX; i++)
        many = arena_printf(req.arena, "%s&a%d=1", many, i);
    ck_assert_int_eq(http_parse_target(&req, many, &err), 0);
    ck_assert_int_lt(http_parse_target(&req, arena_printf(req.arena, "%s&one=more", many), &err), 0);
}
END_TEST

static int64_t limit_of(const char *target)
{
    struct err err = ERR_INIT;
    struct page page;

    ck_assert_int_eq(http_parse_target(&req, target, &err), 0);
    if (http_query_page(&req, 400, &page, &err) < 0) {
        ck_assert_int_eq(err.code, ERR_BAD_REQUEST);
        ck_assert_ptr_nonnull(strstr(err.msg, "limit"));
        return -1;
    }
    return page.limit;
}

START_TEST(limits)
{
    ck_assert_int_eq(limit_of("/"), 400);
    ck_assert_int_eq(limit_of("/?limit=1"), 1);
    ck_assert_int_eq(limit_of("/?limit=400"), 400);
    ck_assert_int_eq(limit_of("/?limit=401"), -1);
    ck_assert_int_eq(limit_of("/?limit=0"), -1);
    ck_assert_int_eq(limit_of("/?limit=-1"), -1);
    ck_assert_int_eq(limit_of("/?limit=1x"), -1);
    ck_assert_int_eq(limit_of("/?limit="), -1);
    ck_assert_int_eq(limit_of("/?limit=99999999999999999999"), -1);
}
END_TEST

START_TEST(request_ids)
{
    char visible[130];

    memset(visible, 'a', sizeof(visible));
    visible[128] = '\0';
    http_set_request_id(&req, visible);
    ck_assert_str_eq(req.request_id, visible);
    visible[128] = 'a';
    visible[129] = '\0';
    http_set_request_id(&req, visible);
    ck_assert_uint_eq(strlen(req.request_id), 36);
    http_set_request_id(&req, "a b");
    ck_assert_uint_eq(strlen(req.request_id), 36);
    http_set_request_id(&req, "a\x01");
    ck_assert_uint_eq(strlen(req.request_id), 36);
    http_set_request_id(&req, "a\x7f");
    ck_assert_uint_eq(strlen(req.request_id), 36);
    http_set_request_id(&req, "");
    ck_assert_uint_eq(strlen(req.request_id), 36);
    http_set_request_id(&req, NULL);
    ck_assert_uint_eq(strlen(req.request_id), 36);
}
END_TEST

/* --- deadlines --- */

struct line {
    int here, there;
    struct deadline *deadline;
};

static void line_open(struct line *l, struct deadlines *d, int64_t in_ms)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    l->here = fds[0];
    l->there = fds[1];
    l->deadline = deadline_add(d, l->here, in_ms);
}

static void line_close(struct line *l)
{
    deadline_del(l->deadline);
    close(l->here);
    close(l->there);
}

/* Has the line been cut within the time? */
static bool line_cut(const struct line *l, int within_ms)
{
    struct pollfd p = { .fd = l->there, .events = POLLIN };

    return poll(&p, 1, within_ms) == 1;
}

START_TEST(a_deadline_cuts_only_its_own_connection)
{
    struct err err = ERR_INIT;
    struct deadlines *d;
    struct line late, soon, never, lifted;
    int64_t begin = clock_mono_ms();

    ck_assert_int_eq(deadlines_start(&d, &err), 0);
    line_open(&late, d, 60000);
    line_open(&never, d, 0);
    line_open(&lifted, d, 60);
    line_open(&soon, d, 60); /* earlier than what the thread sleeps until */
    deadline_set(lifted.deadline, 0);
    ck_assert(line_cut(&soon, 5000));
    ck_assert_int_ge(clock_mono_ms() - begin, 50);
    ck_assert(!line_cut(&late, 0));
    ck_assert(!line_cut(&never, 0));
    ck_assert(!line_cut(&lifted, 100));
    deadline_set(late.deadline, 30);
    ck_assert(line_cut(&late, 5000));
    line_close(&soon);
    line_close(&late);
    line_close(&lifted);
    line_close(&never);
    deadline_set(NULL, 1);
    deadline_del(NULL);
    deadlines_stop(d);
    deadlines_stop(NULL);
}
END_TEST

Suite *t_router_suite(void)
{
    Suite *s = suite_create("router");
    TCase *c = tcase_create("router");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, every_route_is_found_by_its_own_path);
    tcase_add_test(c, a_fixed_segment_beats_a_parameter);
    tcase_add_test(c, parameters_are_decoded_after_the_path_is_split);
    tcase_add_test(c, what_is_nowhere);
    tcase_add_test(c, what_is_not_there_yet_says_so);
    tcase_add_test(c, another_method_is_told_which_there_are);
    tcase_add_test(c, malformed_escapes_are_refused);
    tcase_add_test(c, a_target_is_a_path_and_a_query);
    tcase_add_test(c, targets_of_other_forms);
    tcase_add_test(c, queries_that_cannot_be_read);
    tcase_add_test(c, limits);
    tcase_add_test(c, request_ids);
    tcase_add_test(c, a_deadline_cuts_only_its_own_connection);
    suite_add_tcase(s, c);
    return s;
}
