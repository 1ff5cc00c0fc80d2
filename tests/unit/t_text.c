/*
 * t_text.c - strict parsers and renderers: what is accepted, and above all what is not
 */
#include "base/text.h"

#include <check.h>

Suite *t_text_suite(void);

START_TEST(integers)
{
    static const char *const BAD[] = { "",
                                       " 1",
                                       "1 ",
                                       "+1",
                                       "-",
                                       "--1",
                                       "1x",
                                       "0x10",
                                       "1e3",
                                       "1.0",
                                       "9223372036854775808",
                                       "-9223372036854775809",
                                       "\n1" };
    int64_t n = 42;

    ck_assert(text_to_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &n) && n == INT64_MIN);
    ck_assert(text_to_i64("9223372036854775807", INT64_MIN, INT64_MAX, &n) && n == INT64_MAX);
    ck_assert(text_to_i64("010", 0, 100, &n) && n == 10);
    n = 42;
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!text_to_i64(BAD[i], INT64_MIN, INT64_MAX, &n), "accepted %s", BAD[i]);
    ck_assert(!text_to_i64(NULL, 0, 1, &n));
    ck_assert(!text_to_i64("11", 0, 10, &n));
    ck_assert(!text_to_i64("-1", 0, 10, &n));
    ck_assert_int_eq(n, 42);
}
END_TEST

START_TEST(sizes)
{
    static const char *const BAD[] = { "",     "MB",   "-1",         "1.5GB",
                                       "1 GB", "10XB", "16777216TB", "18446744073709551616",
                                       "1GBB" };
    uint64_t n = 42;

    ck_assert(text_to_size("512", &n) && n == 512);
    ck_assert(text_to_size("0", &n) && n == 0);
    ck_assert(text_to_size("10MB", &n) && n == 10u << 20);
    ck_assert(text_to_size("4GiB", &n) && n == UINT64_C(4) << 30);
    ck_assert(text_to_size("2g", &n) && n == UINT64_C(2) << 30);
    ck_assert(text_to_size("16777215TB", &n));
    ck_assert(text_to_size("18446744073709551615", &n) && n == UINT64_MAX);
    n = 42;
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!text_to_size(BAD[i], &n), "accepted %s", BAD[i]);
    ck_assert_uint_eq(n, 42);
}
END_TEST

START_TEST(lsns)
{
    static const char *const BAD[] = { "",      "0",     "/",    "0/",          "/0",          "0/16B3748 ",
                                       " 0/1",  "0x0/1", "0//1", "123456789/0", "0/123456789", "G/0",
                                       "0/1/2", "-1/0" };
    uint64_t n = 42;
    char out[LSN_TEXT_SIZE];

    ck_assert(text_to_lsn("0/16B3748", &n) && n == 0x16B3748);
    ck_assert(text_to_lsn("ffffFFFF/ffffffff", &n) && n == UINT64_MAX);
    ck_assert_str_eq(text_lsn(n, out), "FFFFFFFF/FFFFFFFF");
    ck_assert(text_to_lsn("1/0", &n) && n == UINT64_C(1) << 32);
    ck_assert_str_eq(text_lsn(n, out), "1/0");
    ck_assert_str_eq(text_lsn(0, out), "0/0");
    n = 42;
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!text_to_lsn(BAD[i], &n), "accepted %s", BAD[i]);
    ck_assert_uint_eq(n, 42);
}
END_TEST

START_TEST(times)
{
    static const char *const BAD[] = {
        "",
        "2025-01-16",
        "2025-01-16T21:02:01",
        "2025-01-16 21:02:01Z",
        "2025-1-16T21:02:01Z",
        "2025-02-29T00:00:00Z",
        "2025-13-01T00:00:00Z",
        "2025-00-01T00:00:00Z",
        "2025-01-00T00:00:00Z",
        "2025-04-31T00:00:00Z",
        "2025-01-16T24:00:00Z",
        "2025-01-16T21:60:00Z",
        "2025-01-16T21:02:60Z",
        "2025-01-16T21:02:01.Z",
        "2025-01-16T21:02:01+2:00",
        "2025-01-16T21:02:01+0200",
        "2025-01-16T21:02:01Zx",
        "2025-01-16T21:02:01+24:00",
        "0000-01-01T00:00:00Z",
        "+025-01-16T21:02:01Z",
        "2100-02-29T00:00:00Z",
    };
    int64_t us = 42;
    char out[TIME_TEXT_SIZE];

    ck_assert(text_to_time("2025-01-16T21:02:01Z", &us) && us == INT64_C(1737061321000000));
    ck_assert_str_eq(text_time(us, out), "2025-01-16T21:02:01Z");
    ck_assert(text_to_time("2025-01-16t21:02:01.5z", &us) && us == INT64_C(1737061321500000));
    ck_assert(text_to_time("2025-01-16T21:02:01.1234567890Z", &us) && us == INT64_C(1737061321123456));
    ck_assert_str_eq(text_time_us(us, out), "2025-01-16T21:02:01.123456Z");
    ck_assert(text_to_time("2025-01-16T23:32:01+02:30", &us) && us == INT64_C(1737061321000000));
    ck_assert(text_to_time("2025-01-16T16:02:01-05:00", &us) && us == INT64_C(1737061321000000));
    ck_assert(text_to_time("2024-02-29T00:00:00Z", &us));
    ck_assert(text_to_time("1969-12-31T23:59:59.25Z", &us) && us == -750000);
    ck_assert_str_eq(text_time_us(us, out), "1969-12-31T23:59:59.250000Z");
    ck_assert_str_eq(text_time(us, out), "1969-12-31T23:59:59Z");
    us = 42;
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!text_to_time(BAD[i], &us), "accepted %s", BAD[i]);
    ck_assert_int_eq(us, 42);
}
END_TEST

START_TEST(times_do_not_depend_on_the_zone)
{
    int64_t us;
    char out[TIME_TEXT_SIZE];

    setenv("TZ", "Asia/Kathmandu", 1);
    ck_assert(text_to_time("2025-07-01T00:00:00Z", &us));
    ck_assert_str_eq(text_time(us, out), "2025-07-01T00:00:00Z");
    text_time_us(INT64_MAX, out); /* far out: some text, no overrun */
    text_time_us(INT64_MIN, out);
    ck_assert_uint_lt(strlen(out), TIME_TEXT_SIZE);
}
END_TEST

START_TEST(booleans)
{
    bool b = false;

    ck_assert(text_to_bool("on", &b) && b);
    ck_assert(text_to_bool("0", &b) && !b);
    ck_assert(!text_to_bool("yes", &b));
    ck_assert(!text_to_bool("", &b));
    ck_assert(!text_to_bool("TRUE", &b));
    ck_assert(!text_to_bool(NULL, &b));
}
END_TEST

START_TEST(utf8)
{
    static const struct {
        const char *s;
        bool ok;
    } CASES[] = {
        { "", true },
        { "abc", true },
        { "\xc3\xbc", true },
        { "\xe2\x82\xac", true },
        { "\xf0\x9f\x90\x98", true },
        { "\xf4\x8f\xbf\xbf", true },
        { "\xf4\x90\x80\x80", false },
        { "\xc0\x80", false },
        { "\xc1\xbf", false },
        { "\xe0\x80\xaf", false },
        { "\xf0\x80\x80\xaf", false },
        { "\xed\xa0\x80", false },
        { "\xed\x9f\xbf", true },
        { "\x80", false },
        { "\xc3", false },
        { "\xe2\x82", false },
        { "\xff", false },
        { "a\xc3", false },
        { "\xc3\x28", false },
        { "\xf5\x80\x80\x80", false },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++)
        ck_assert_msg(text_is_utf8(CASES[i].s, strlen(CASES[i].s)) == CASES[i].ok, "case %zu", i);
    ck_assert(text_is_utf8("a\0b", 3)); /* NUL is a character; who minds checks for it */
}
END_TEST

START_TEST(names)
{
    static const char *const BAD[] = { "",     " a",    "a ",         "\xc2\xa0x", "x\xe3\x80\x80", "a\tb",
                                       "a\nb", "a\x7f", "a\xc2\x85z", "\xff",      "12345678901" };
    /* The first and last of each range, inside a name; then the characters beside the ranges. */
    static const char *const HIDDEN[] = { "a\xe2\x80\x8b"
                                          "b",
                                          "a\xe2\x80\x8f"
                                          "b",
                                          "a\xe2\x80\xaa"
                                          "b",
                                          "a\xe2\x80\xae"
                                          "b",
                                          "a\xe2\x81\xa6"
                                          "b",
                                          "a\xe2\x81\xa9"
                                          "b",
                                          "a\xef\xbb\xbf"
                                          "b",
                                          "\xef\xbb\xbf",
                                          "a\xe2\x80\x8d" };
    static const char *const SHOWN[] = { "a\xe2\x80\x90"
                                         "b",
                                         "a\xe2\x80\x8a"
                                         "b",
                                         "a\xe2\x80\xaf"
                                         "b",
                                         "a\xe2\x81\xa5"
                                         "b",
                                         "a\xef\xbb\xbe"
                                         "b" };

    ck_assert(text_is_name("a", 10));
    ck_assert(text_is_name("feature/x y", 20));
    ck_assert(text_is_name("gr\xc3\xbc\xc3\x9f", 10));
    ck_assert(text_is_name("1234567890", 10));
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!text_is_name(BAD[i], 10), "accepted case %zu", i);
    for (size_t i = 0; i < N_ELEMENTS(HIDDEN); i++)
        ck_assert_msg(!text_is_name(HIDDEN[i], 10), "accepted hidden character %zu", i);
    for (size_t i = 0; i < N_ELEMENTS(SHOWN); i++)
        ck_assert_msg(text_is_name(SHOWN[i], 10), "refused neighbour %zu", i);
    ck_assert(!text_is_name(NULL, 10));
}
END_TEST

START_TEST(compare)
{
    ck_assert(text_starts_with("abc", "ab"));
    ck_assert(text_starts_with("abc", ""));
    ck_assert(!text_starts_with("ab", "abc"));
}
END_TEST

START_TEST(url)
{
    static const char *const BAD[] = { "%", "%4", "%4g", "%g4", "a%00b", "abc%2" };
    char all[256];
    char *enc, *dec;

    enc = text_url_encode("a b/\xc3\xbc~-._");
    ck_assert_str_eq(enc, "a%20b%2F%C3%BC~-._");
    free(enc);
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = '\0';
    enc = text_url_encode(all);
    dec = text_url_decode(enc, strlen(enc));
    ck_assert_str_eq(dec, all);
    free(enc);
    free(dec);
    dec = text_url_decode("a+%2b%2Bcut", 8);
    ck_assert_str_eq(dec, "a+++");
    free(dec);
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(text_url_decode(BAD[i], strlen(BAD[i])) == NULL, "accepted %s", BAD[i]);
    ck_assert_ptr_null(text_url_decode("a\0b", 3));
}
END_TEST

Suite *t_text_suite(void)
{
    Suite *s = suite_create("text");
    TCase *c = tcase_create("text");

    tcase_add_test(c, integers);
    tcase_add_test(c, sizes);
    tcase_add_test(c, lsns);
    tcase_add_test(c, times);
    tcase_add_test(c, times_do_not_depend_on_the_zone);
    tcase_add_test(c, booleans);
    tcase_add_test(c, utf8);
    tcase_add_test(c, names);
    tcase_add_test(c, compare);
    tcase_add_test(c, url);
    suite_add_tcase(s, c);
    return s;
}
