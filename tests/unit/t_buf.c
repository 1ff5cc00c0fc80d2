/*
 * t_buf.c - the growable buffer
 */
#include "base/buf.h"

#include <check.h>

Suite *t_buf_suite(void);

START_TEST(grows)
{
    auto_buf b = { 0 };

    ck_assert_str_eq(buf_str(&b), "");
    for (int i = 0; i < 100000; i++)
        buf_add(&b, &(char){ (char)('a' + i % 26) }, 1);
    ck_assert_uint_eq(b.len, 100000);
    for (int i = 0; i < 100000; i++)
        ck_assert_int_eq(b.data[i], 'a' + i % 26);
}
END_TEST

START_TEST(texts)
{
    auto_buf b = { 0 };

    buf_adds(&b, "n=");
    buf_addf(&b, "%d %0300d", 7, 1);
    ck_assert_uint_eq(b.len, 2 + 2 + 300);
    ck_assert_int_eq(strncmp(buf_str(&b), "n=7 000", 7), 0);
    ck_assert_uint_eq(strlen(buf_str(&b)), b.len);
    buf_clear(&b);
    ck_assert_uint_eq(b.len, 0);
    buf_adds(&b, "");
    buf_add(&b, NULL, 0);
    ck_assert_str_eq(buf_str(&b), "");
}
END_TEST

START_TEST(consume)
{
    auto_buf b = { 0 };

    buf_adds(&b, "abcdef");
    buf_consume(&b, 0);
    ck_assert_str_eq(buf_str(&b), "abcdef");
    buf_consume(&b, 2);
    ck_assert_str_eq(buf_str(&b), "cdef");
    buf_consume(&b, 100); /* more than there is: empty, not past the end */
    ck_assert_uint_eq(b.len, 0);
}
END_TEST

START_TEST(fini_leaves_it_usable)
{
    struct buf b = { 0 };

    buf_adds(&b, "x");
    buf_fini(&b);
    buf_fini(&b);
    buf_adds(&b, "y");
    ck_assert_str_eq(buf_str(&b), "y");
    buf_fini(&b);
}
END_TEST

Suite *t_buf_suite(void)
{
    Suite *s = suite_create("buf");
    TCase *c = tcase_create("buf");

    tcase_add_test(c, grows);
    tcase_add_test(c, texts);
    tcase_add_test(c, consume);
    tcase_add_test(c, fini_leaves_it_usable);
    suite_add_tcase(s, c);
    return s;
}
