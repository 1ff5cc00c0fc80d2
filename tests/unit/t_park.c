/*
 * t_park.c - examining and restoring, with a Postgres of bytes
 */
#include "pg/park.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "pg/extension.h"

Suite *t_park_suite(void);

static struct park *park;
static struct buf server, out, aside;

/* --- Postgres's words
 * ------------------------------------------------------------------------------------------------------ */

static void message(char type, const void *body, size_t len)
{
    char head[5] = { type, 0, (char)((len + 4) >> 16), (char)((len + 4) >> 8), (char)(len + 4) };

    buf_add(&server, head, sizeof(head));
    buf_add(&server, body, len);
}

static void words(const char *types)
{
    for (; *types != '\0'; types++)
        message(*types, *types == 'Z' ? "I" : "", *types == 'Z');
}

static void row(const char *kind, const char *a, const char *b, const char *c)
{
    const char *col[] = { kind, a, b, c };
    auto_buf body = { 0 };

    buf_add(&body, "\0\4", 2);
    for (int i = 0; i < 4; i++) {
        size_t len = col[i] != NULL ? strlen(col[i]) : 0;
        char size[4] = { 0, (char)(len >> 16), (char)(len >> 8), (char)len };

        buf_add(&body, col[i] != NULL ? size : "\xff\xff\xff\xff", 4);
        buf_add(&body, col[i], len);
    }
    message('D', body.data, body.len);
}

static void error(const char *severity, const char *sqlstate)
{
    auto_buf body = { 0 };

    buf_addf(&body, "S%s%cV%s%cC%s%cMno%c%c", severity, 0, severity, 0, sqlstate, 0, 0, 0);
    message('E', body.data, body.len);
}

/* --- what is asked of it
 * ------------------------------------------------------------------------------------------------------ */

static enum park_result feed(size_t step, size_t *ret_left)
{
    enum park_result r = PARK_MORE;
    size_t at = 0, used;

    while (r == PARK_MORE && at < server.len) {
        size_t n = server.len - at < step ? server.len - at : step;

        r = park_next(park, (uint8_t *)server.data + at, n, &used, &out, &aside);
        at += used;
    }
    if (ret_left != NULL)
        *ret_left = server.len - at;
    buf_clear(&server);
    return r;
}

static void begin(bool has_unnamed)
{
    park_free(park);
    park = park_new("ann");
    buf_clear(&out);
    buf_clear(&aside);
    buf_clear(&server);
    park_examine(park, has_unnamed, &out);
}

/* The answer to PARK_QUESTION up to its last rows. */
static void state_begins(void)
{
    words("12");
    row("F", "print", NULL, NULL);
}

/* From the end of it on: no sequence used, no unnamed statement. */
static void rest(void)
{
    words("CZ12");
    error("ERROR", "55000");
    words("Z");
    error("ERROR", "26000");
    words("Z33Z");
}

static void setup(void)
{
    park = NULL;
    begin(false);
}

static void teardown(void)
{
    park_free(park);
    buf_fini(&server);
    buf_fini(&out);
    buf_fini(&aside);
}

/* --- examining
 * ----------------------------------------------------------------------------------------------------------
 */

START_TEST(nothing_held)
{
    static const size_t STEPS[] = { 1, 2, 7, 100000 };

    for (size_t i = 0; i < N_ELEMENTS(STEPS); i++) {
        begin(false);
        ck_assert_ptr_nonnull(memmem(out.data, out.len, "ann", 3));
        state_begins();
        rest();
        ck_assert_int_eq(feed(STEPS[i], NULL), PARK_YES);
        ck_assert_uint_eq(aside.len, 0);
    }
}
END_TEST

START_TEST(reasons)
{
    static const char *const CODES[] = { "temp",     "lock",     "listen",  "hold",    "slot",    "function",
                                         "stored",   "operator", "setting", "default", "timeout", "strings",
                                         "encoding", "user",     "",        "another" };

    for (size_t i = 0; i < N_ELEMENTS(CODES); i++) {
        begin(false);
        state_begins();
        row("N", CODES[i], NULL, NULL);
        rest();
        ck_assert_int_eq(feed(100, NULL), PARK_NO);
        ck_assert_ptr_nonnull(park_why(park));
        if (i < 14) /* all that are asked for are known */
            ck_assert_ptr_null(strstr(park_why(park), "not known"));
    }
}
END_TEST

START_TEST(state_unknown)
{
    error("ERROR", "57014");
    words("Z12");
    error("ERROR", "55000");
    words("Z");
    error("ERROR", "26000");
    words("Z33Z");
    ck_assert_int_eq(feed(100, NULL), PARK_NO);

    begin(false); /* it says nothing */
    words("12");
    rest();
    ck_assert_int_eq(feed(100, NULL), PARK_NO);
}
END_TEST

START_TEST(sequences)
{
    state_begins();
    words("CZ12");
    message('D',
            "\0\1\0\0\0\1"
            "7",
            7);
    words("CZ");
    error("ERROR", "26000");
    words("Z33Z");
    ck_assert_int_eq(feed(100, NULL), PARK_NO);

    begin(false); /* it may not read the sequence that it has used */
    state_begins();
    words("CZ12");
    error("ERROR", "42501");
    words("Z");
    error("ERROR", "26000");
    words("Z33Z");
    ck_assert_int_eq(feed(100, NULL), PARK_NO);
}
END_TEST

static enum park_result with_unnamed(bool known, const char *description)
{
    begin(known);
    state_begins();
    words("CZ12");
    error("ERROR", "55000");
    words("Z");
    message('t', description, strlen(description));
    words("nZ33Z");
    return feed(100, NULL);
}

START_TEST(unnamed_statement)
{
    ck_assert_int_eq(with_unnamed(true, "x"), PARK_YES);
    ck_assert_int_eq(with_unnamed(false, "x"), PARK_NO);
    begin(true); /* it is there, but what it stands on is not */
    state_begins();
    words("CZ12");
    error("ERROR", "55000");
    words("Z");
    error("ERROR", "42P01");
    words("Z33Z");
    ck_assert_int_eq(feed(100, NULL), PARK_NO);
}
END_TEST

static enum park_result with_prepare(const char *kind, const char *text)
{
    begin(false);
    state_begins();
    row(kind, "s", text, "23,25");
    rest();
    if (feed(100, NULL) == PARK_NO)
        return PARK_NO;
    message('t', "x", 1);
    words("nZ");
    return feed(100, NULL);
}

START_TEST(statements)
{
    ck_assert_int_eq(with_prepare("P", "SELECT 1; SELECT 2"), PARK_YES); /* any text: Parse runs nothing */
    ck_assert_int_eq(with_prepare("Q", "PREPARE s AS SELECT 1"), PARK_YES);
    ck_assert_int_eq(with_prepare("Q", " \n prepare\ts AS SELECT 1 ; \n"), PARK_YES);
    ck_assert_int_eq(with_prepare("Q", "PREPARE\"s\" AS SELECT 1"), PARK_YES);
    ck_assert_int_eq(with_prepare("Q", "DELETE FROM t; PREPARE s AS SELECT 1"), PARK_NO);
    ck_assert_int_eq(with_prepare("Q", "PREPARE s AS SELECT 1; DELETE FROM t"), PARK_NO);
    ck_assert_int_eq(with_prepare("Q", "PREPARE s AS SELECT ';'"), PARK_NO); /* it does not know better */
    ck_assert_int_eq(with_prepare("Q", "PREPARED"), PARK_NO);
    ck_assert_int_eq(with_prepare("Q", ""), PARK_NO);
    begin(false);
    state_begins();
    row("P", "s", "SELECT 1", "23;DROP");
    rest();
    ck_assert_int_eq(feed(100, NULL), PARK_NO);

    begin(false); /* one that cannot be described */
    state_begins();
    row("P", "s", "SELECT 1", "");
    rest();
    ck_assert_int_eq(feed(100, NULL), PARK_MORE);
    error("ERROR", "0A000");
    words("Z");
    ck_assert_int_eq(feed(100, NULL), PARK_NO);
}
END_TEST

START_TEST(bounds)
{
    auto_buf large = { 0 };

    state_begins();
    for (int i = 0; i <= PARK_STATEMENTS_MAX; i++)
        row("P", "s", "SELECT 1", "");
    rest();
    ck_assert_int_eq(feed(1000, NULL), PARK_NO);

    for (int i = 0; i < PARK_BYTES_MAX; i++)
        buf_add(&large, "x", 1);
    begin(false);
    state_begins();
    row("S", "name", buf_str(&large), NULL);
    rest();
    ck_assert_int_eq(feed(1000, NULL), PARK_NO);
    ck_assert_uint_lt(park_size(park), 4096);

    for (int i = 0; i < PARK_BYTES_MAX; i++) /* too long for one message */
        buf_add(&large, "x", 1);
    begin(false);
    state_begins();
    row("S", "name", buf_str(&large), NULL);
    rest();
    ck_assert_int_eq(feed(1000, NULL), PARK_NO);
    ck_assert_uint_lt(park_size(park), 4096);
}
END_TEST

START_TEST(bad_rows)
{
    static const struct {
        const char *body;
        size_t len;
    } BAD[] = {
        { "", 0 },
        { "\0\4", 2 },
        { "\0\3\0\0\0\1F\0\0\0\1x\0\0\0\0", 16 },
        { "\0\4\0\0\0\1F\0\0\0\1x\0\0\0\0\0\0\0", 19 },
        { "\0\4\0\0\0\1F\0\0\0\1x\0\0\0\0\0\0\0\1", 20 },
        { "\0\4\0\0\0\1F\0\0\0\1x\0\0\0\0\x7f\xff\xff\xff", 20 },
        { "\0\4\0\0\0\1F\0\0\0\2x\0\0\0\0\0\0\0\0\0", 21 },
        { "\0\4\0\0\0\1F\0\0\0\1x\0\0\0\0\0\0\0\0x", 21 },
        { "\0\4\0\0\0\0\0\0\0\1x\0\0\0\0\0\0\0\0", 19 },
        { "\0\4\0\0\0\1?\0\0\0\1x\0\0\0\0\0\0\0\0", 20 },
    };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        begin(false);
        state_begins();
        message('D', BAD[i].body, BAD[i].len);
        rest();
        ck_assert_msg(feed(100, NULL) == PARK_NO, "%zu", i);
    }
}
END_TEST

START_TEST(broken)
{
    static const struct {
        const char *bytes;
        size_t len;
    } BAD[] = {
        { "Z\0\0\0\5T", 6 }, { "Z\0\0\0\5E", 6 }, { "Z\0\0\0\4", 5 },
        { "R\0\0\0\4", 5 },  { "G\0\0\0\4", 5 },  { "K\0\0\0\4", 5 },
        { "\0\0\0\0\4", 5 }, { "D\0\0\0\3", 5 },  { "D\x80\0\0\0", 5 },
    };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        begin(false);
        state_begins();
        buf_add(&server, BAD[i].bytes, BAD[i].len);
        ck_assert_msg(feed(1, NULL) == PARK_BROKEN, "%zu", i);
    }
    begin(false);
    state_begins();
    error("FATAL", "57P01");
    ck_assert_int_eq(feed(1, NULL), PARK_BROKEN);
    ck_assert_int_eq(aside.data[0], 'E'); /* for the client */
}
END_TEST

START_TEST(what_comes_of_itself)
{
    size_t left;

    words("1");
    message('N', "notice", 6);
    words("2");
    row("F", "print", NULL, NULL);
    message('A', "news", 4);
    rest();
    message('S', "late", 4); /* behind the last answer: the client's */
    ck_assert_int_eq(feed(100000, &left), PARK_YES);
    ck_assert_uint_eq(aside.len, 5 + 6 + 5 + 4);
    ck_assert_uint_eq(left, 9);

    begin(false); /* one that does not stop */
    for (int i = 0; i < 20000; i++)
        message('A', "news", 4);
    ck_assert_int_eq(feed(1000, NULL), PARK_BROKEN);
    ck_assert_uint_lt(aside.len, 100000);
}
END_TEST

/* --- restoring
 * ----------------------------------------------------------------------------------------------------------
 */

static void held(const char *print, const char *value, const char *text, const char *version)
{
    words("12");
    row("F", print, NULL, NULL);
    row("P", "s", text, "23");
    row("R", "server_version", version, NULL);
    row("S", "client_encoding", "LATIN1", NULL);
    row("S", "role", "other", NULL);
    row("S", "work_mem", value, NULL);
}

static void park_one(void)
{
    static const char UNNAMED[] = "\0SELECT 9\0\0\0";
    struct buf unnamed = { (char *)UNNAMED, sizeof(UNNAMED) - 1, 0 };

    begin(true);
    held("print", "9MB", "SELECT 1", "15.1");
    words("CZ12");
    error("ERROR", "55000");
    words("Z");
    message('t', "u", 1);
    words("nZ33Z");
    ck_assert_int_eq(feed(100, NULL), PARK_MORE);
    message('t', "s", 1);
    words("nZ");
    ck_assert_int_eq(feed(100, NULL), PARK_YES);
    buf_clear(&out);
    park_restore(park, &unnamed, &out);
}

/* Up to the question. */
static void put_back(void)
{
    words("12DC2DC2DC3Z1Z");
}

static enum park_result restored(const char *print, const char *value, const char *text, const char *shape,
                                 const char *unnamed)
{
    park_one();
    put_back();
    held(print, value, text, "15.2");
    row("N", "function", NULL, NULL); /* what may be called from now on is no concern of what was before */
    words("CZ33Z");
    message('t', shape, strlen(shape));
    words("nZ1");
    message('t', unnamed, strlen(unnamed));
    words("nZ");
    return feed(7, NULL);
}

static size_t place_of(const char *text, size_t len)
{
    const char *at = memmem(out.data, out.len, text, len);

    ck_assert_ptr_nonnull(at);
    return (size_t)(at - out.data);
}

START_TEST(restore)
{
    auto_buf news = { 0 };

    ck_assert_int_eq(restored("print", "9MB", "SELECT 1", "s", "u"), PARK_YES);
    ck_assert_uint_lt(place_of("client_encoding", 15), place_of("work_mem", 8));
    ck_assert_uint_lt(place_of("work_mem", 8), place_of("role", 4));
    ck_assert_uint_lt(place_of("role", 4), place_of("SELECT 1", 8));
    ck_assert_uint_lt(place_of("SELECT 1", 8), place_of("SELECT 9", 8));
    park_tell(park, &news);
    ck_assert_uint_eq(news.len, 5 + 15 + 5); /* only what is another value */
    ck_assert_mem_eq(news.data + 5,
                     "server_version\0"
                     "15.2",
                     20);
}
END_TEST

START_TEST(not_the_same)
{
    ck_assert_int_eq(restored("other", "9MB", "SELECT 1", "s", "u"), PARK_NO);
    ck_assert_int_eq(restored("print", "8MB", "SELECT 1", "s", "u"), PARK_NO);
    ck_assert_int_eq(restored("print", "9MB", "SELECT 2", "s", "u"), PARK_NO);
    ck_assert_int_eq(restored("print", "9MB", "SELECT 1", "S", "u"), PARK_NO);

    /* the unnamed one alone is forgotten: who uses it is told by Postgres */
    ck_assert_int_eq(restored("print", "9MB", "SELECT 1", "s", "U"), PARK_MORE);
    ck_assert_int_eq(out.data[out.len - 5], 'S');
    ck_assert_mem_eq(out.data + out.len - 12, "C\0\0\0\6S\0", 7);
    words("3Z");
    ck_assert_int_eq(feed(7, NULL), PARK_YES);
}
END_TEST

START_TEST(put_back_in_vain)
{
    park_one(); /* a setting */
    words("12");
    error("ERROR", "22023");
    words("Z1Z");
    held("print", "9MB", "SELECT 1", "15.1");
    words("CZ33ZtnZ1tnZ");
    ck_assert_int_eq(feed(7, NULL), PARK_MORE); /* and the unnamed one is closed */
    words("3Z");
    ck_assert_int_eq(feed(7, NULL), PARK_NO);

    park_one(); /* a statement */
    words("12DC2DC2DC3Z");
    error("ERROR", "42P01");
    words("Z");
    held("print", "9MB", "SELECT 1", "15.1");
    words("CZ33Z");
    error("ERROR", "26000");
    words("Z1");
    message('t', "u", 1);
    words("nZ");
    ck_assert_int_eq(feed(7, NULL), PARK_NO);

    park_one();
    error("FATAL", "57P01");
    ck_assert_int_eq(feed(7, NULL), PARK_BROKEN);
}
END_TEST

/* --- the question
 * ------------------------------------------------------------------------------------------------------------
 */

/* Only what may be installed is left out of account; and no more of it than was read. */
START_TEST(extensions)
{
    static const char *const READ[] = { "hstore", "pg_trgm", "vector" };
    static const char *const NOT_READ[] = {
        "tablefunc", "isn", "hll", "postgis", "plpgsql", "dblink", "rum"
    };

    for (size_t i = 0; i < N_ELEMENTS(READ); i++) {
        auto_free char *quoted = xasprintf("'%s'", READ[i]);

        ck_assert(pg_extension_is_allowed(READ[i]));
        ck_assert_ptr_nonnull(strstr(PARK_QUESTION, quoted));
    }
    for (size_t i = 0; i < N_ELEMENTS(NOT_READ); i++) {
        auto_free char *quoted = xasprintf("'%s'", NOT_READ[i]);

        ck_assert_ptr_null(strstr(PARK_QUESTION, quoted));
    }
}
END_TEST

/* An operator without a schema is the tenant's. */
START_TEST(operators)
{
    const char *p = PARK_QUESTION;

    ck_assert_ptr_null(strstr(p, " LIKE "));
    ck_assert_ptr_null(strstr(p, " IN ("));
    ck_assert_ptr_null(strstr(p, "||"));
    ck_assert_ptr_null(strstr(p, "DISTINCT"));
    for (p = strpbrk(p, "<>=~"); p != NULL; p = strpbrk(p + 1, "<>=~"))
        ck_assert_msg(p[-1] == '.' || p[-1] == '\'' || p[1] == ')' || p[1] == '=', "%.40s", p - 20);
}
END_TEST

Suite *t_park_suite(void)
{
    Suite *s = suite_create("park");
    TCase *t = tcase_create("park");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nothing_held);
    tcase_add_test(t, reasons);
    tcase_add_test(t, state_unknown);
    tcase_add_test(t, sequences);
    tcase_add_test(t, unnamed_statement);
    tcase_add_test(t, statements);
    tcase_add_test(t, bounds);
    tcase_add_test(t, bad_rows);
    tcase_add_test(t, broken);
    tcase_add_test(t, what_comes_of_itself);
    tcase_add_test(t, restore);
    tcase_add_test(t, not_the_same);
    tcase_add_test(t, put_back_in_vain);
    tcase_add_test(t, extensions);
    tcase_add_test(t, operators);
    suite_add_tcase(s, t);
    return s;
}
