/*
 * t_scan.c - words in a client's SQL after which its session may hold what cannot be restored
 */
#include "proxy/scan.h"

#include <check.h>
#include <string.h>

Suite *t_scan_suite(void);

/* One message, in pieces of n bytes. */
static void feed(struct scan *s, char type, const void *body, size_t len, size_t n)
{
    uint8_t message[8192] = { (uint8_t)type, 0, 0, (uint8_t)((len + 4) >> 8), (uint8_t)(len + 4) };

    memcpy(message + 5, body, len);
    for (size_t at = 0; at < len + 5; at += n)
        scan_client_bytes(s, message + at, len + 5 - at < n ? len + 5 - at : n, false);
}

static void query(struct scan *s, const char *text, size_t n)
{
    feed(s, 'Q', text, strlen(text) + 1, n);
}

/* Parse of a statement of this name, with two types that spell a word. */
static void parse(struct scan *s, const char *name, const char *text, size_t n)
{
    auto_buf body = { 0 };

    buf_add(&body, name, strlen(name) + 1);
    buf_add(&body, text, strlen(text) + 1);
    buf_add(&body, "\0\2;do;\0\0\0\0", 10);
    feed(s, 'P', body.data, body.len, n);
}

enum { NOTHING, STAYS, REDEFINES, BOTH };

static const struct {
    const char *text;
    int found;
} TEXTS[] = {
    { "", NOTHING },
    { "SELECT 1", NOTHING },
    { "SET timezone = 'UTC'", NOTHING },
    { "set search_path to a, b.c", NOTHING },
    { "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", NOTHING },
    { "RESET ALL", NOTHING },
    { "UPDATE t SET a = b.c WHERE t.x = 1.5", NOTHING },
    { "UPDATE \"t\" SET \"a\" = $1 WHERE \"t\".\"id\" = $2", NOTHING },
    { "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", NOTHING },
    { "INSERT INTO t VALUES (1) ON CONFLICT (a) DO\n UPDATE SET a = EXCLUDED.a", NOTHING },
    { "SELECT reset_config, settled, dot, loaded, dropped FROM document", NOTHING },
    { "SELECT replace(a, 'b', 'c') FROM t", NOTHING },
    { "SELECT 'AT&T', U&'d\\0061t\\+000061'", NOTHING },
    { "SELECT set_config('a.b', 'c', false)", STAYS },
    { "SELECT pg_catalog.\"set_config\"('a.b', 'c', false)", STAYS },
    { "SELECT SET_Config('a.b', 'c', false)", STAYS },
    { "SELECT 1set_config('a.b', 'c', false)", STAYS },
    { "SELECT $1set_config('a.b', 'c', false)", STAYS },
    { "SELECT $$x$$set_config", STAYS },
    { "SELECT U&\"set\\005fconfig\"('a.b', 'c', false)", STAYS },
    { "SELECT u&\"x\"", STAYS },
    { "-- set_config", STAYS },
    { "SELECT setseed(0.5)", STAYS },
    { "SELECT currval('s')", STAYS },
    { "SELECT lastval()", STAYS },
    { "LISTEN x", STAYS },
    { "LOAD 'x'", STAYS },
    { "SELECT query_to_xml('x', true, true, '')", STAYS },
    { "SELECT query_to_xml_and_xmlschema('x', true, true, '')", STAYS },
    { "SELECT cursor_to_xml('x', 1, true, true, '')", STAYS },
    { "SELECT * FROM ts_stat('x')", STAYS },
    { "SELECT ts_rewrite('a'::tsquery, 'x')", STAYS },
    { "SET standard_conforming_strings = off", STAYS },
    { "SET app.tenant = '7'", STAYS },
    { "set local App . Tenant to 7", STAYS },
    { "SET SESSION \"app\".\"tenant\" = 7", STAYS },
    { "SET \"app.tenant\" = 7", STAYS },
    { "SET \"a=b\".c = 7", STAYS },
    { "SET \"to\".c = 7", STAYS },
    { "SET\tapp\n.\ttenant = 7", STAYS },
    { "SET /* = */ app.tenant = 7", STAYS },
    { "SET -- =\n app.tenant = 7", STAYS },
    { "SET/**/app.tenant = 7", STAYS },
    { "SELECT 1; SET a = 1; SET app.tenant = 7", STAYS },
    { "SET TIME ZONE '\"'; SET app.tenant = 7", STAYS },
    { "RESET app.tenant", STAYS },
    { "SET seed = 0.5", STAYS },
    { "SET SESSION seed TO 0.5", STAYS },
    { "SELECT seed FROM plants", NOTHING },
    { "DO $$BEGIN END$$", BOTH },
    { "do'x'", BOTH },
    { "DO LANGUAGE plpgsql 'x'", BOTH },
    { "DO /* update */ 'x'", BOTH },
    { "SELECT 1 AS do", BOTH },
    { "do nothing; DO 'x'", BOTH },
    { "DROP FUNCTION f()", REDEFINES },
    { "Alter TABLE t ADD COLUMN a int", REDEFINES },
    { "CREATE OR REPLACE VIEW v AS SELECT 1", REDEFINES },
    { "CREATE OR/**/REPLACE VIEW v AS SELECT 1", REDEFINES },
    { "SELECT a AS dropdown, airdrop FROM t", NOTHING },
    { "DROP FUNCTION set_config", BOTH },
};

static int found(const struct scan *s)
{
    return (s->stays ? STAYS : 0) | (s->redefines ? REDEFINES : 0);
}

START_TEST(words)
{
    static const size_t PIECES[] = { 1, 3, 9000 };

    for (size_t i = 0; i < N_ELEMENTS(TEXTS); i++) {
        for (size_t k = 0; k < N_ELEMENTS(PIECES); k++) {
            struct scan q = { 0 }, p = { 0 }, named = { 0 };

            query(&q, TEXTS[i].text, PIECES[k]);
            parse(&p, "", TEXTS[i].text, PIECES[k]);
            parse(&named, "do set_config", TEXTS[i].text, PIECES[k]); /* a name is only a name */
            ck_assert_msg(found(&q) == TEXTS[i].found, "%s: %d", TEXTS[i].text, found(&q));
            ck_assert_msg(found(&p) == TEXTS[i].found, "%s: %d", TEXTS[i].text, found(&p));
            ck_assert_msg(found(&named) == TEXTS[i].found, "%s: %d", TEXTS[i].text, found(&named));
            scan_fini(&q);
            scan_fini(&p);
            scan_fini(&named);
        }
    }
}
END_TEST

START_TEST(a_message_ends_what_it_began)
{
    struct scan s = { 0 };

    query(&s, "SET x", 100);
    query(&s, "SELECT a.b", 100); /* no part of the name */
    query(&s, "SELECT set_", 100);
    query(&s, "config", 100);
    query(&s, "create or", 100);
    query(&s, "replace", 100);
    ck_assert_int_eq(found(&s), NOTHING);
    feed(&s, 'F', "\0\0\x08\x1e", 4, 100); /* set_config by its number */
    ck_assert_int_eq(found(&s), STAYS);
}
END_TEST

/* Parameters and data are not run. */
START_TEST(only_sql_is_read)
{
    struct scan s = { 0 };

    feed(&s, 'B', "\0\0\0\0\0\1\0\0\0\12set_config", 20, 100);
    feed(&s, 'd', "set_config DROP", 15, 100);
    query(&s, "SELECT 1\0set_config", 100);
    feed(&s, 'Q', "SELECT 1\0set_config", 20, 7);
    ck_assert_int_eq(found(&s), NOTHING);
    feed(&s, 'Q', "set_config", 10, 100); /* without its NUL */
    ck_assert_int_eq(found(&s), STAYS);
    s = (struct scan){ 0 };
    scan_client_bytes(&s, (uint8_t *)(char[]){ "Q\0\0\0\0" }, 5, false); /* no length */
    ck_assert(s.stays);
}
END_TEST

START_TEST(the_unnamed_statement)
{
    struct scan s = { 0 };
    char longer[SCAN_UNNAMED_MAX];

    ck_assert(!scan_has_unnamed(&s));
    parse(&s, "", "SELECT 1", 4);
    ck_assert(scan_has_unnamed(&s));
    ck_assert_mem_eq(s.unnamed.data, "\0SELECT 1\0", 10);
    parse(&s, "named", "SELECT 2", 4);
    ck_assert(scan_has_unnamed(&s));
    ck_assert_mem_eq(s.unnamed.data, "\0SELECT 1\0", 10);
    parse(&s, "", "SELECT 3", 100);
    ck_assert_mem_eq(s.unnamed.data, "\0SELECT 3\0", 10);
    query(&s, "SELECT 4", 100);
    ck_assert(!scan_has_unnamed(&s));

    parse(&s, "", "SELECT 5", 100);
    scan_error(&s);
    ck_assert(!scan_has_unnamed(&s)); /* this one, or the one before: who knows */

    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    parse(&s, "", "SELECT 6", 100);
    parse(&s, "", longer, 100);
    ck_assert(!scan_has_unnamed(&s));
    scan_client_bytes(&s, (uint8_t *)(char[]){ "P\0\0\0\xd\0SELECT" }, 12, false);
    ck_assert(!scan_has_unnamed(&s)); /* half of it */
    scan_client_bytes(&s, (uint8_t *)(char[]){ " 7" }, 2, false);
    ck_assert(scan_has_unnamed(&s));
    scan_client_bytes(&s, (uint8_t *)(char[]){ "P\0\0\0\xd\0SELECT 8" }, 14, true);
    ck_assert(!scan_has_unnamed(&s)); /* skipped */
    scan_fini(&s);
}
END_TEST

Suite *t_scan_suite(void)
{
    Suite *s = suite_create("scan");
    TCase *t = tcase_create("scan");

    tcase_add_test(t, words);
    tcase_add_test(t, a_message_ends_what_it_began);
    tcase_add_test(t, only_sql_is_read);
    tcase_add_test(t, the_unnamed_statement);
    suite_add_tcase(s, t);
    return s;
}
