/*
 * t_arena.c - arenas: zeroed, aligned, separate pieces; the cap
 */
#include "base/arena.h"

#include <check.h>

Suite *t_arena_suite(void);

static bool all_are(const unsigned char *p, size_t n, unsigned char value)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != value)
            return false;
    }
    return true;
}

START_TEST(pieces_are_zeroed_aligned_and_apart)
{
    auto_arena *a = arena_new(0);
    unsigned char *all[2000];
    size_t size[2000];

    for (size_t i = 0; i < N_ELEMENTS(all); i++) {
        size[i] = i % 17 == 0 ? 40000 + i : i % 97;
        all[i] = arena_alloc(a, size[i]);
        ck_assert_ptr_nonnull(all[i]);
        ck_assert_uint_eq((uintptr_t)all[i] % _Alignof(max_align_t), 0);
        ck_assert(all_are(all[i], size[i], 0));
        memset(all[i], (int)(i % 255 + 1), size[i]);
    }
    for (size_t i = 0; i < N_ELEMENTS(all); i++) {
        ck_assert(all_are(all[i], size[i], (unsigned char)(i % 255 + 1)));
    }
}
END_TEST

START_TEST(strings)
{
    auto_arena *a = arena_new(0);
    char *big;

    ck_assert_str_eq(arena_strdup(a, "abc"), "abc");
    ck_assert_str_eq(arena_strdup(a, ""), "");
    ck_assert_ptr_null(arena_strdup(a, NULL));
    ck_assert_ptr_null(arena_strndup(a, NULL, 3));
    ck_assert_str_eq(arena_strndup(a, "abcdef", 3), "abc");
    ck_assert_str_eq(arena_strndup(a, "ab", 30), "ab"); /* does not read past the end */
    ck_assert_str_eq(arena_strndup(a, "ab", 0), "");
    ck_assert_str_eq(arena_printf(a, "%s-%d", "x", 7), "x-7");
    big = arena_printf(a, "%0200000d", 1);
    ck_assert_uint_eq(strlen(big), 200000);
}
END_TEST

START_TEST(cap)
{
    auto_arena *a = arena_new(1000);

    ck_assert_ptr_nonnull(arena_alloc(a, 900));
    ck_assert_ptr_null(arena_alloc(a, 200));
    ck_assert_ptr_null(arena_alloc(a, SIZE_MAX / 4));
    ck_assert_ptr_null(arena_printf(a, "%0300d", 1));
    ck_assert_str_eq(arena_strdup(a, "still room"), "still room"); /* a refusal uses nothing up */
}
END_TEST

START_TEST(free_accepts_null)
{
    arena_free(NULL);
    arena_free(arena_new(0));
}
END_TEST

Suite *t_arena_suite(void)
{
    Suite *s = suite_create("arena");
    TCase *c = tcase_create("arena");

    tcase_add_test(c, pieces_are_zeroed_aligned_and_apart);
    tcase_add_test(c, strings);
    tcase_add_test(c, cap);
    tcase_add_test(c, free_accepts_null);
    suite_add_tcase(s, c);
    return s;
}
