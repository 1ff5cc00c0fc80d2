/*
 * t_redact.c - no password is left in a text, and nothing else is taken
 */
#include "base/redact.h"

#include <check.h>

Suite *t_redact_suite(void);

static void check(const char *text, const char *shown)
{
    char out[256];

    ck_assert_uint_eq(redact(text, out, sizeof(out)), strlen(shown));
    ck_assert_str_eq(out, shown);
}

static void check_same(const char *text)
{
    check(text, text);
}

START_TEST(uris)
{
    check("postgresql://bob:S3cret@127.0.0.1:7433/db", "postgresql://bob:***@127.0.0.1:7433/db");
    check("postgres://u:p@ss@h/db", "postgres://u:***@h/db");
    check("postgres://u:p/ss@h/db", "postgres://u:***@h/db");
    check("postgres://u:p?s#s@h/db", "postgres://u:***@h/db");
    check("postgres://u:1234@h", "postgres://u:***@h");
    check("postgres://:x@h", "postgres://:***@h");
    check("from http://a:b@c and ftp://d:e@f, both", "from http://a:***@c and ftp://d:***@f, both");
    check("\"postgresql://u:p@h/d\"", "\"postgresql://u:***@h/d\"");
    check("postgresql://h/d?user=u&password=x&sslmode=require",
          "postgresql://h/d?user=u&password=***&sslmode=require");
    check("postgresql://u:p@h/d?sslpassword=y", "postgresql://u:***@h/d?sslpassword=***");
    check("x://u:://a:b@c", "x://u:***@c");
}
END_TEST

START_TEST(words)
{
    check("host=h password=x dbname=d", "host=h password=*** dbname=d");
    check("host=h PASSWORD = 'a \\' b' dbname=d", "host=h PASSWORD = '***' dbname=d");
    check("PGPASSWORD=x psql", "PGPASSWORD=*** psql");
    check("{\"name\": \"bob\", \"password\": \"a\\\"b\", \"n\": 1}",
          "{\"name\": \"bob\", \"password\": \"***\", \"n\": 1}");
    check("ALTER ROLE bob PASSWORD 'it''s'; SELECT 1", "ALTER ROLE bob PASSWORD '***'; SELECT 1");
    check("password='not closed", "password='***");
    check("password='a\\", "password='***");
}
END_TEST

START_TEST(nothing_else)
{
    check_same("");
    check_same("compute ready");
    check_same("http://127.0.0.1:7432");
    check_same("http://127.0.0.1:7432/api/v2?mail=a@b");
    check_same("http://[::1]:7432/x");
    check_same("postgresql://bob@h:5432/d?options=endpoint%3Dep-x");
    check_same("postgres://u:@h");
    check_same("password authentication failed for user \"bob\"");
    check_same("the password is wrong");
    check_same("password= ");
    check_same("://");
    check_same("a:b@c");
    ck_assert(!redact_concerns("compute ready ep=ep-x"));
    ck_assert(redact_concerns("x://y"));
    ck_assert(redact_concerns("PassWord"));
}
END_TEST

/* The length is that of the whole, and no byte of a secret is in what is left of it, wherever it is cut. */
START_TEST(cut)
{
    static const char TEXT[] = "see postgresql://bob:zzzzzzzz@host/db and password=zzzz";
    char whole[128];
    size_t len = redact(TEXT, whole, sizeof(whole));

    for (size_t size = 1; size < sizeof(TEXT); size++) {
        char out[128];

        memset(out, '!', sizeof(out));
        ck_assert_uint_eq(redact(TEXT, out, size), len);
        ck_assert_uint_eq(strlen(out), len < size ? len : size - 1);
        ck_assert_int_eq(memcmp(out, whole, strlen(out)), 0);
        ck_assert_ptr_null(strchr(out, 'z'));
        ck_assert_int_eq(out[size], '!');
    }
}
END_TEST

Suite *t_redact_suite(void)
{
    Suite *s = suite_create("redact");
    TCase *c = tcase_create("redact");

    tcase_add_test(c, uris);
    tcase_add_test(c, words);
    tcase_add_test(c, nothing_else);
    tcase_add_test(c, cut);
    suite_add_tcase(s, c);
    return s;
}
