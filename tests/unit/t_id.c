/*
 * t_id.c - identifiers: shapes, uniqueness, recognition
 */
#include "base/id.h"

#include <check.h>
#include <regex.h>

Suite *t_id_suite(void);

static void check_shape(const char *pattern, const char *(*make)(struct arena *))
{
    auto_arena *a = arena_new(0);
    regex_t re;

    ck_assert_int_eq(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    for (int i = 0; i < 500; i++) {
        const char *id = make(a);

        ck_assert_msg(regexec(&re, id, 0, NULL, 0) == 0, "%s does not match %s", id, pattern);
    }
    regfree(&re);
}

START_TEST(shapes)
{
    check_shape("^[a-z]+-[a-z]+-[1-9][0-9]{7}$", id_project);
    check_shape("^br-[a-z]+-[a-z]+-[a-z0-9]{8}$", id_branch);
    check_shape("^ep-[a-z]+-[a-z]+-[a-z0-9]{8}$", id_endpoint);
    check_shape("^im-[0-9a-f]{16}$", id_image);
    check_shape("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$", id_uuid);
    check_shape("^npg_[A-Za-z0-9]{12}$", id_password);
    check_shape("^napi_[a-z0-9]{64}$", id_token);
}
END_TEST

START_TEST(made_ids_are_recognised)
{
    auto_arena *a = arena_new(0);

    for (int i = 0; i < 500; i++) {
        ck_assert(id_is_valid(id_project(a)));
        ck_assert(id_is_valid(id_branch(a)));
        ck_assert(id_is_valid(id_uuid(a)));
        ck_assert(id_looks_like_branch(id_branch(a)));
        ck_assert(id_looks_like_endpoint(id_endpoint(a)));
        ck_assert(!id_looks_like_branch(id_endpoint(a)));
    }
}
END_TEST

static int by_text(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

START_TEST(no_two_alike)
{
    auto_arena *a = arena_new(0);
    const char *ids[5000];

    for (size_t i = 0; i < N_ELEMENTS(ids); i++)
        ids[i] = id_branch(a);
    qsort(ids, N_ELEMENTS(ids), sizeof(ids[0]), by_text);
    for (size_t i = 1; i < N_ELEMENTS(ids); i++)
        ck_assert_str_ne(ids[i - 1], ids[i]);
}
END_TEST

START_TEST(looks_like)
{
    static const char *const BAD[] = { "",          "br-",        "br-1f2e",   "br-a-b",     "br-a-b-",
                                       "br--b-c",   "br-a-b-c-d", "br-A-b-c",  "br-a_b-c-d", "xbr-a-b-c",
                                       "br-a-b-c ", "main",       "br-a-b-c\n" };

    ck_assert(id_looks_like_branch("br-a-b-c"));
    ck_assert(id_looks_like_branch("br-1-2-3"));
    ck_assert(id_looks_like_endpoint("ep-misty-sea-a5833nbi"));
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!id_looks_like_branch(BAD[i]), "accepted %s", BAD[i]);
    ck_assert(!id_looks_like_branch(NULL));
}
END_TEST

START_TEST(valid)
{
    char longest[ID_MAX + 2];

    memset(longest, 'a', sizeof(longest));
    longest[ID_MAX] = '\0';
    ck_assert(id_is_valid(longest));
    longest[ID_MAX] = 'a';
    longest[ID_MAX + 1] = '\0';
    ck_assert(!id_is_valid(longest));
    ck_assert(!id_is_valid(""));
    ck_assert(!id_is_valid(NULL));
    ck_assert(!id_is_valid("../x"));
    ck_assert(!id_is_valid("a b"));
    ck_assert(!id_is_valid("A"));
    ck_assert(!id_is_valid("a\""));
}
END_TEST

Suite *t_id_suite(void)
{
    Suite *s = suite_create("id");
    TCase *c = tcase_create("id");

    tcase_add_test(c, shapes);
    tcase_add_test(c, made_ids_are_recognised);
    tcase_add_test(c, no_two_alike);
    tcase_add_test(c, looks_like);
    tcase_add_test(c, valid);
    suite_add_tcase(s, c);
    return s;
}
