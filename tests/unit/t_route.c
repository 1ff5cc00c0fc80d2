/*
 * t_route.c - which compute a client named: every way, every combination, and above all every refusal
 */
#include "proxy/route.h"

#include <check.h>

Suite *t_route_suite(void);

#define EP1 "ep-misty-sea-a5833nbi"
#define EP2 "ep-other-sun-b6944ocj"
#define BR1 "br-noisy-breeze-a5e59rrb"

static const char *const RESERVED[] = { "mere_admin", "postgres" };

struct given {
    const char *user, *database, *options, *sni, *more; /* more: one further parameter, "name=value" */
};

static struct route route;
static struct wire_error error;

static int find(const struct given *g)
{
    struct wire_startup s = { .n = 0 };
    static char more[200];

    route_fini(&route);
    memset(&error, 0, sizeof(error));
    s.params[s.n++] = (struct wire_param){ "user", g->user != NULL ? g->user : "ann" };
    if (g->database != NULL)
        s.params[s.n++] = (struct wire_param){ "database", g->database };
    if (g->options != NULL)
        s.params[s.n++] = (struct wire_param){ "options", g->options };
    if (g->more != NULL) {
        snprintf(more, sizeof(more), "%s", g->more);
        *strchr(more, '=') = '\0';
        s.params[s.n++] = (struct wire_param){ more, more + strlen(more) + 1 };
    }
    return route_find(&s, g->sni, RESERVED, N_ELEMENTS(RESERVED), &route, &error);
}

#define FIND(...) find(&(struct given){ __VA_ARGS__ })

/* The value Postgres will see; NULL when the parameter was left out. */
static const char *seen(const char *name)
{
    static struct wire_startup s;
    static struct wire_error e;
    struct wire_first first;

    ck_assert_int_eq(wire_first_parse(route.packet.data, route.packet.len, &first), WIRE_STARTUP);
    ck_assert_uint_eq(first.len, route.packet.len);
    ck_assert_uint_eq(first.minor, 0);
    ck_assert_int_eq(wire_startup_parse(route.packet.data, &first, &s, &e), 0);
    return wire_startup_find(&s, name);
}

static void is_endpoint(const char *id)
{
    ck_assert_msg(route.kind == ROUTE_ENDPOINT, "%s: %s", error.sqlstate, error.message);
    ck_assert_str_eq(route.name, id);
}

static void is_branch(const char *name)
{
    ck_assert_msg(route.kind == ROUTE_BRANCH, "%s: %s", error.sqlstate, error.message);
    ck_assert_str_eq(route.name, name);
}

START_TEST(by_sni)
{
    ck_assert_int_eq(FIND(.sni = EP1 ".localhost"), 0);
    is_endpoint(EP1);
    ck_assert_int_eq(FIND(.sni = "EP-Misty-Sea-A5833NBI.Example.COM"), 0);
    is_endpoint(EP1);
    ck_assert_int_eq(FIND(.sni = EP1), 0);
    is_endpoint(EP1);
    ck_assert_int_eq(FIND(.sni = BR1 ".localhost"), 0);
    is_branch(BR1);
    ck_assert_str_eq(seen("user"), "ann");
}
END_TEST

START_TEST(by_options)
{
    ck_assert_int_eq(FIND(.options = "endpoint=" EP1), 0);
    is_endpoint(EP1);
    ck_assert_ptr_null(seen("options"));
    ck_assert_int_eq(FIND(.options = "project=" EP1), 0);
    is_endpoint(EP1);
    ck_assert_int_eq(FIND(.options = "branch=main"), 0);
    is_branch("main");
    ck_assert_int_eq(FIND(.options = "branch=" BR1), 0);
    is_branch(BR1);
    ck_assert_int_eq(FIND(.options = "branch=feature/new\\ door\\\\x"), 0);
    is_branch("feature/new door\\x");
    ck_assert_int_eq(FIND(.options = "branch=f\xc3\xbcnf"), 0);
    is_branch("f\xc3\xbcnf");
}
END_TEST

START_TEST(by_database)
{
    ck_assert_int_eq(FIND(.database = "shop@" EP1), 0);
    is_endpoint(EP1);
    ck_assert_str_eq(seen("database"), "shop");
    ck_assert_str_eq(route.database, "shop");
    ck_assert_int_eq(FIND(.database = "a@b@" EP1), 0);
    ck_assert_str_eq(seen("database"), "a@b");
    /* a database with @ in its real name */
    ck_assert_int_eq(FIND(.database = "shop@main", .sni = EP1 ".x"), 0);
    is_endpoint(EP1);
    ck_assert_str_eq(seen("database"), "shop@main");
    ck_assert_int_eq(FIND(.database = EP2 "@x", .sni = EP1 ".x"), 0);
    ck_assert_str_eq(seen("database"), EP2 "@x");
    /* none, and an empty one: Postgres takes the user's name */
    ck_assert_int_eq(FIND(.user = "ann", .sni = EP1 ".x"), 0);
    ck_assert_str_eq(route.database, "ann");
    ck_assert_int_eq(FIND(.user = "ann", .database = "", .sni = EP1 ".x"), 0);
    ck_assert_str_eq(route.database, "ann");
    ck_assert_str_eq(seen("database"), "");
}
END_TEST

START_TEST(agreeing)
{
    ck_assert_int_eq(FIND(.database = "d@" EP1, .options = "endpoint=" EP1 " project=" EP1, .sni = EP1 ".h"),
                     0);
    is_endpoint(EP1);
    ck_assert_str_eq(seen("database"), "d");
    ck_assert_ptr_null(seen("options"));
    ck_assert_int_eq(FIND(.options = "branch=" BR1, .sni = BR1 ".h"), 0);
    is_branch(BR1);
}
END_TEST

START_TEST(disagreeing)
{
    static const struct given BAD[] = {
        { .sni = EP1 ".h", .options = "endpoint=" EP2 },
        { .sni = EP1 ".h", .database = "d@" EP2 },
        { .sni = EP1 ".h", .options = "branch=main" },
        { .sni = BR1 ".h", .options = "branch=main" },
        { .sni = BR1 ".h", .options = "endpoint=" EP1 },
        { .options = "endpoint=" EP1 " endpoint=" EP2 },
        { .options = "endpoint=" EP1 " project=" EP2 },
        { .options = "branch=a branch=b" },
        { .options = "endpoint=" EP1, .database = "d@" EP2 },
        { .options = "branch=main", .database = "d@" EP1 },
    };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        ck_assert_msg(find(&BAD[i]) == -1, "case %zu", i);
        ck_assert_str_eq(error.sqlstate, "08004");
        ck_assert_uint_gt(strlen(error.hint), 10);
    }
}
END_TEST

START_TEST(not_named)
{
    static const struct given BAD[] = {
        { .sni = NULL },
        { .sni = "localhost" },
        { .sni = "127.0.0.1" },
        { .sni = "" },
        { .sni = "db.example.com" },
        { .sni = "endpoint.example.com" },
        { .database = "shop" },
        { .database = "shop@" },
        { .database = "shop@main" },
        { .options = "" },
        { .options = "-c geqo=off" },
        { .options = "-c endpoint=" EP1 }, /* a setting, by the rules of Postgres */
        { .options = "xendpoint=" EP1 },
        { .options = "ENDPOINT=" EP1 },
    };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        ck_assert_msg(find(&BAD[i]) == -1, "case %zu", i);
        ck_assert_str_eq(error.sqlstate, "08004");
        ck_assert_ptr_nonnull(strstr(error.hint, "options=endpoint%3D"));
        ck_assert_ptr_nonnull(strstr(error.hint, "sslmode=require"));
    }
}
END_TEST

START_TEST(malformed)
{
    static const struct given BAD[] = {
        { .sni = "ep-.localhost" },
        { .sni = "ep-misty.localhost" },
        { .sni = "ep-misty-sea-a5833nbi-x.localhost" },
        { .sni = "br-x.localhost" },
        { .options = "endpoint=" },
        { .options = "endpoint=main" },
        { .options = "endpoint=" BR1 },
        { .options = "endpoint=EP-MISTY-SEA-A5833NBI" },
        { .options = "endpoint=" EP1 ";x" },
        { .options = "branch=" },
        { .options = "branch=a\\\nb" },
        { .options = "branch=\xff" },
        { .options = "branch=\\ x" },
    };
    char longer[400] = "branch=";

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        ck_assert_msg(find(&BAD[i]) == -1, "case %zu", i);
        ck_assert_str_eq(error.sqlstate, "08004");
    }
    memset(longer + 7, 'x', ROUTE_NAME_MAX);
    ck_assert_int_eq(FIND(.options = longer), 0);
    longer[7 + ROUTE_NAME_MAX] = 'x';
    ck_assert_int_eq(FIND(.options = longer), -1);
}
END_TEST

START_TEST(pooled)
{
    static const struct given GOOD[] = {
        { .sni = EP1 "-pooler.localhost" },
        { .options = "endpoint=" EP1 "-pooler" },
        { .options = "project=" EP1 "-pooler" },
        { .database = "d@" EP1 "-pooler" },
        { .sni = EP1 "-pooler.localhost", .options = "endpoint=" EP1 },
        { .sni = EP1 ".localhost", .options = "endpoint=" EP1 "-pooler" },
    };

    for (size_t i = 0; i < N_ELEMENTS(GOOD); i++) {
        ck_assert_msg(find(&GOOD[i]) == 0, "case %zu: %s", i, error.message);
        ck_assert(route.pooled);
        ck_assert_int_eq(route.kind, ROUTE_ENDPOINT);
        ck_assert_str_eq(route.name, EP1);
    }
    ck_assert_int_eq(FIND(.sni = EP1 ".localhost"), 0);
    ck_assert(!route.pooled);
    ck_assert_int_eq(FIND(.sni = "ep-pooler.localhost"), -1);
    ck_assert_str_eq(error.sqlstate, "08004");
    ck_assert_int_eq(FIND(.sni = EP1 "-pooler.localhost", .options = "endpoint=" EP2), -1);
    ck_assert_str_eq(error.sqlstate, "08004");
    ck_assert_int_eq(FIND(.sni = EP1 "-pooler.localhost", .options = "branch=main"), -1);
    ck_assert_str_eq(error.sqlstate, "08004");
}
END_TEST

/* What many would share, or nobody would get; each refusal names the direct host. */
START_TEST(pooled_refuses)
{
    static const struct given BAD[] = {
        { .sni = EP1 "-pooler.localhost", .options = "-c geqo=off" },
        { .options = "endpoint=" EP1 "-pooler -c search_path=x" },
        { .options = "-c endpoint=" EP1 "-pooler endpoint=" EP1 "-pooler" },
        { .sni = EP1 "-pooler.localhost", .options = "neon_lsn:0/16B3748" },
        { .sni = EP1 "-pooler.localhost", .database = "pgbouncer" },
        { .database = "pgbouncer@" EP1 "-pooler" },
        { .sni = EP1 "-pooler.localhost", .more = "search_path=x" },
        { .sni = EP1 "-pooler.localhost", .more = "Options=" },
        { .sni = EP1 "-pooler.localhost", .more = "USER=x" },
    };
    static const char *const KEPT_APART[] = { "application_name=x", "timezone=x", "DATESTYLE=x",
                                              "extra_float_digits=3", "_pq_.x=y" };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        ck_assert_msg(find(&BAD[i]) == -1, "case %zu", i);
        ck_assert_str_eq(error.sqlstate, "0A000");
        ck_assert_msg(strstr(error.hint, "\"" EP1 "\"") != NULL, "case %zu: %s", i, error.hint);
    }
    for (size_t i = 0; i < N_ELEMENTS(KEPT_APART); i++)
        ck_assert_int_eq(FIND(.sni = EP1 "-pooler.localhost", .more = KEPT_APART[i]), 0);
    /* the same things are Postgres's own business where nothing is pooled */
    ck_assert_int_eq(FIND(.sni = EP1 ".localhost", .more = "search_path=x"), 0);
    ck_assert_int_eq(FIND(.sni = EP1 ".localhost", .database = "pgbouncer"), 0);
}
END_TEST

/* What is not ours reaches Postgres as it was written. */
START_TEST(other_words_stay)
{
    static const struct {
        const char *given, *seen;
    } CASES[] = {
        { "-c geqo=off endpoint=" EP1, "-c geqo=off" },
        { "endpoint=" EP1 " -c geqo=off", " -c geqo=off" },
        { "-c  a=b\\ c\\\\d   endpoint=" EP1 "\t--x=y ", "-c  a=b\\ c\\\\d\t--x=y " },
        { "endpoint=" EP1 " -c search_path=branch=x", " -c search_path=branch=x" },
        { "endpoint=" EP1 " -c branch=x", " -c branch=x" },
        { "endpoint=" EP1 " -c -c branch=x",
          NULL }, /* the second -c is the first one's argument: branch is a word */
        { "  endpoint=" EP1 "  ", NULL },
        { "endpoint=" EP1 " x\\", " x\\" },
        { "neon_proxy_params_compat:true endpoint=" EP1, NULL },
        { "end\\point=" EP1, NULL }, /* escapes are decoded before words are compared */
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        int rc = FIND(.options = CASES[i].given);

        if (i == 5) {
            ck_assert_int_eq(rc, -1);
            continue;
        }
        ck_assert_msg(rc == 0, "case %zu: %s", i, error.message);
        is_endpoint(EP1);
        if (CASES[i].seen == NULL)
            ck_assert_msg(seen("options") == NULL, "case %zu: %s", i, seen("options"));
        else
            ck_assert_str_eq(seen("options"), CASES[i].seen);
    }
    ck_assert_int_eq(FIND(.options = "endpoint=" EP1, .more = "application_name=endpoint=x y"), 0);
    ck_assert_str_eq(seen("application_name"), "endpoint=x y");
}
END_TEST

static void is_moment(const char *moment)
{
    ck_assert_str_eq(route.moment, moment);
    ck_assert_ptr_null(seen("options"));
}

START_TEST(points_in_time)
{
    ck_assert_int_eq(FIND(.options = "endpoint=" EP1 " neon_lsn:0/16B3748"), 0);
    is_endpoint(EP1);
    is_moment("lsn:0/16B3748");
    ck_assert_int_eq(
        FIND(.sni = BR1 ".localhost", .options = "neon_timestamp:2025-01-01T00:00:00.123456+01:00"), 0);
    is_branch(BR1);
    is_moment("time:2025-01-01T00:00:00.123456+01:00");
    ck_assert_int_eq(
        FIND(.database = "d@" EP1, .options = "neon_lsn:1/0 neon_lsn:1/0 neon_endpoint_type:read_only"), 0);
    is_moment("lsn:1/0");
    ck_assert_int_eq(FIND(.options = "branch=main"), 0);
    is_moment("");
    /* behind -c it is a setting's name, and Postgres's affair */
    ck_assert_int_eq(FIND(.options = "branch=main -c neon_lsn:0/1"), 0);
    ck_assert_str_eq(route.moment, "");
    ck_assert_str_eq(seen("options"), " -c neon_lsn:0/1");
}
END_TEST

START_TEST(no_points_in_time)
{
    static const struct {
        const char *words, *sqlstate;
    } CASES[] = {
        { "neon_lsn:", "22023" },
        { "neon_lsn:0/0", "22023" },
        { "neon_lsn:16B3748", "22023" },
        { "neon_lsn:0/16B3748x", "22023" },
        { "neon_lsn:000000000/1", "22023" },
        { "neon_timestamp:", "22023" },
        { "neon_timestamp:2025-01-01", "22023" },
        { "neon_timestamp:2025-01-01T00:00:00", "22023" },
        { "neon_timestamp:2025-13-01T00:00:00Z", "22023" },
        { "neon_timestamp:now", "22023" },
        { "neon_timestamp:2025-01-01T00:00:00.00000000000000000000000000000000000000000000000Z", "22023" },
        { "neon_lsn:0/1 neon_lsn:0/2", "22023" },
        { "neon_lsn:0/1 neon_timestamp:2025-01-01T00:00:00Z", "22023" },
        { "neon_lsn:0/1 neon_endpoint_type:read_write", "0A000" },
        { "neon_endpoint_type:read_only", "0A000" },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        char options[200];

        snprintf(options, sizeof(options), "endpoint=" EP1 " %s", CASES[i].words);
        ck_assert_msg(FIND(.options = options) == -1, "%s", CASES[i].words);
        ck_assert_msg(strcmp(error.sqlstate, CASES[i].sqlstate) == 0, "%s: %s", CASES[i].words,
                      error.sqlstate);
    }
    ck_assert_int_eq(FIND(.options = "neon_lsn:0/16B3748"), -1);
    ck_assert_str_eq(error.sqlstate, "08004");
}
END_TEST

START_TEST(replication)
{
    static const char *const YES[] = { "true", "database", "on", "1", "yes", "", "falsehood" };
    static const char *const NO[] = { "false", "off", "0", "no", "FALSE" };
    char more[40];

    for (size_t i = 0; i < N_ELEMENTS(YES); i++) {
        snprintf(more, sizeof(more), "replication=%s", YES[i]);
        ck_assert_int_eq(FIND(.options = "endpoint=" EP1, .more = more), -1);
        ck_assert_str_eq(error.sqlstate, "0A000");
    }
    for (size_t i = 0; i < N_ELEMENTS(NO); i++) {
        snprintf(more, sizeof(more), "replication=%s", NO[i]);
        ck_assert_int_eq(FIND(.options = "endpoint=" EP1, .more = more), 0);
    }
}
END_TEST

START_TEST(users_and_databases)
{
    char name[80];

    ck_assert_int_eq(FIND(.user = "mere_admin", .options = "endpoint=" EP1), -1);
    ck_assert_str_eq(error.sqlstate, "28000");
    ck_assert_int_eq(FIND(.user = "mere_admin2", .options = "endpoint=" EP1), 0);
    ck_assert_str_eq(route.user, "mere_admin2");
    ck_assert_str_eq(route.database, "mere_admin2"); /* Postgres's own default */
    ck_assert_ptr_null(seen("database"));
    ck_assert_int_eq(FIND(.database = "@" EP1), -1);
    ck_assert_str_eq(error.sqlstate, "3D000");
    memset(name, 'd', sizeof(name));
    name[70] = '\0';
    ck_assert_int_eq(FIND(.database = name, .options = "endpoint=" EP1), 0);
    ck_assert_str_eq(seen("database"), name);
    ck_assert_str_eq(route.database, "");
}
END_TEST

START_TEST(extensions_are_dropped)
{
    ck_assert_int_eq(FIND(.options = "endpoint=" EP1, .more = "_pq_.command_tag_format=x"), 0);
    ck_assert_ptr_null(seen("_pq_.command_tag_format"));
}
END_TEST

static void tidy(void)
{
    route_fini(&route);
}

Suite *t_route_suite(void)
{
    Suite *s = suite_create("route");
    TCase *t = tcase_create("route");

    tcase_add_checked_fixture(t, NULL, tidy);
    tcase_add_test(t, by_sni);
    tcase_add_test(t, by_options);
    tcase_add_test(t, by_database);
    tcase_add_test(t, agreeing);
    tcase_add_test(t, disagreeing);
    tcase_add_test(t, not_named);
    tcase_add_test(t, malformed);
    tcase_add_test(t, pooled);
    tcase_add_test(t, pooled_refuses);
    tcase_add_test(t, other_words_stay);
    tcase_add_test(t, points_in_time);
    tcase_add_test(t, no_points_in_time);
    tcase_add_test(t, replication);
    tcase_add_test(t, users_and_databases);
    tcase_add_test(t, extensions_are_dropped);
    suite_add_tcase(s, t);
    return s;
}
