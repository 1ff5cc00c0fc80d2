/*
 * t_diff.c - unified diffs: what they look like, and that they are right and as short as those of diff(1)
 */
#include "base/diff.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"

#include <check.h>

Suite *t_diff_suite(void);

static struct arena *arena;
static struct err err;
static char dir[64];

static void setup(void)
{
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    snprintf(dir, sizeof(dir), "/tmp/t_diff.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
    arena_free(arena);
}

static struct buf text(const char *s)
{
    struct buf b = { 0 };
    buf_adds(&b, s);
    return b;
}

static const char *diff(const char *old, const char *new)
{
    auto_buf a = text(old), b = text(new), out = { 0 };
    ck_assert_int_eq(diff_unified(&a, "a/db", &b, "b/db", &out, &err), 0);
    return arena_strdup(arena, buf_str(&out));
}

#define HEAD "--- a/db\n+++ b/db\n"

START_TEST(what_it_looks_like)
{
    static const struct {
        const char *old, *new, *want;
    } CASES[] = {
        { "", "", "" },
        { "a\nb\n", "a\nb\n", "" },
        { "", "a\n", HEAD "@@ -0,0 +1 @@\n+a\n" },
        { "a\n", "", HEAD "@@ -1 +0,0 @@\n-a\n" },
        { "a\n", "b\n", HEAD "@@ -1 +1 @@\n-a\n+b\n" },
        { "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n",
          HEAD "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n" },
        { "1\n2\n3\n4\n5\n6\n7\n8\n", "2\n3\n4\n5\n6\n7\n",
          HEAD "@@ -1,8 +1,6 @@\n-1\n 2\n 3\n 4\n 5\n 6\n 7\n-8\n" },
        { "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "2\n3\n4\n5\n6\n7\n8\n",
          HEAD "@@ -1,4 +1,3 @@\n-1\n 2\n 3\n 4\n@@ -6,4 +5,3 @@\n 6\n 7\n 8\n-9\n" },
        { "a\nb", "a\nb\n", HEAD "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n" },
        { "a\nb", "x\nb", HEAD "@@ -1,2 +1,2 @@\n-a\n+x\n b\n\\ No newline at end of file\n" },
        { "x\n\ny\n\n", "x\n\nn\n\ny\n\n", HEAD "@@ -1,4 +1,6 @@\n x\n \n+n\n+\n y\n \n" },
    };
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++)
        ck_assert_str_eq(diff(CASES[i].old, CASES[i].new), CASES[i].want);
}
END_TEST

START_TEST(names_stay_on_their_line)
{
    auto_buf a = text("a\n"), b = text("b\n"), out = { 0 };
    ck_assert_int_eq(diff_unified(&a, "x\n+++ y", &b, "\t\x7f\xc3\xa9", &out, &err), 0);
    ck_assert_str_eq(buf_str(&out), "--- x?+++ y\n+++ ??\xc3\xa9\n@@ -1 +1 @@\n-a\n+b\n");
}
END_TEST

START_TEST(lines_have_a_limit)
{
    auto_buf a = { 0 }, b = text("b\n"), out = { 0 };
    buf_reserve(&a, DIFF_LINES_MAX + 1);
    memset(a.data, '\n', DIFF_LINES_MAX + 1);
    a.len = DIFF_LINES_MAX;
    ck_assert_int_eq(diff_unified(&a, "a", &b, "b", &out, &err), 0);
    buf_clear(&out);
    a.len++;
    ck_assert_int_eq(diff_unified(&b, "b", &a, "a", &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_TOO_LARGE);
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

/* ---- against diff(1) and patch(1) ---- */

static uint32_t seed;

static uint32_t dice(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static struct buf random_text(uint32_t lines, uint32_t kinds)
{
    struct buf b = { 0 };
    for (uint32_t i = 0; i < lines; i++)
        buf_addf(&b, "%u\n", dice(kinds));
    if (b.len > 0 && dice(4) == 0)
        b.len--;
    return b;
}

/* The same with some lines lost, changed and new. */
static struct buf edited(const struct buf *from, uint32_t kinds, uint32_t every)
{
    struct buf b = { 0 };
    for (size_t at = 0; at < from->len;) {
        const char *nl = memchr(from->data + at, '\n', from->len - at);
        size_t len = nl ? (size_t)(nl + 1 - (from->data + at)) : from->len - at;
        uint32_t what = dice(every);
        if (what < 2)
            buf_addf(&b, "%u\n", dice(kinds));
        if (what != 1 && what != 2)
            buf_add(&b, from->data + at, len);
        at += len;
    }
    return b;
}

static const char *put(const char *name, const struct buf *b)
{
    const char *path = arena_printf(arena, "%s/%s", dir, name);
    ck_assert_int_eq(fs_write_plain(path, b->data ? b->data : "", b->len, 0600, (uid_t)-1, (gid_t)-1, &err),
                     0);
    return path;
}

static int count_changes(const char *s)
{
    int n = 0;
    for (const char *p = s; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        n += *p == '-' || *p == '+';
    return n;
}

static bool have(const char *program)
{
    if (access(program, X_OK) == 0)
        return true;
    printf("SKIP t_diff: %s is not installed\n", program);
    return false;
}

static void check_patch(const struct buf *old, const struct buf *new, const struct buf *out)
{
    const char *a = put("a", old), *patch = put("p", out), *result = arena_printf(arena, "%s/r", dir);
    const char *const argv[] = { "/usr/bin/patch", "-s", "-F0", "-o", result, a, patch, NULL };
    char *got = NULL;
    size_t len;
    const char *said = NULL;
    if (out->len == 0)
        return;
    ck_assert_msg(proc_run(arena, argv, 20000, &said, &err) == 0, "patch: %s", said);
    ck_assert_int_eq(fs_read(arena, result, 1 << 26, &got, &len, &err), 0);
    ck_assert_uint_eq(len, new->len);
    ck_assert_int_eq(memcmp(got, new->data ? new->data : "", len), 0);
}

/* diff(1) ends with 1 where there are differences: what it says is there all the same. */
static void check_length(const struct buf *old, const struct buf *new, const struct buf *out)
{
    const char *a = put("a", old), *b = put("b", new), *said = NULL;
    const char *const argv[] = { "/usr/bin/diff", "-d", "-u", a, b, NULL };
    struct err ignored = ERR_INIT;
    (void)!proc_run(arena, argv, 20000, &said, &ignored);
    ck_assert_ptr_nonnull(said);
    ck_assert_msg(count_changes(buf_str((struct buf *)out)) == count_changes(said), "ours\n%s\ntheirs\n%s",
                  out->data, said);
}

START_TEST(random_texts)
{
    if (!have("/usr/bin/patch") || !have("/usr/bin/diff"))
        return;
    for (uint32_t round = 1; round <= 100; round++) {
        seed = round;
        uint32_t kinds = 1 + dice(30);
        auto_buf a = random_text(dice(60), kinds), out = { 0 };
        auto_buf b = dice(3) == 0 ? random_text(dice(60), kinds) : edited(&a, kinds, 4 + dice(40));
        ck_assert_int_eq(diff_unified(&a, "a", &b, "b", &out, &err), 0);
        check_patch(&a, &b, &out);
        check_length(&a, &b, &out);
    }
}
END_TEST

/* More edits than are searched for: right all the same, and soon. */
START_TEST(very_different_texts)
{
    static const uint32_t KINDS[] = { 2, 50, 1000000 };
    for (size_t i = 0; i < N_ELEMENTS(KINDS); i++) {
        int64_t start = clock_mono_ms();
        seed = 7;
        auto_buf a = random_text(100000, KINDS[i]), b = random_text(80000, KINDS[i]), out = { 0 };
        auto_buf c = edited(&a, KINDS[i], 30), close = { 0 };
        ck_assert_int_eq(diff_unified(&a, "a", &b, "b", &out, &err), 0);
        ck_assert_int_eq(diff_unified(&a, "a", &c, "c", &close, &err), 0);
        ck_assert_int_lt(clock_mono_ms() - start, 20000);
        if (have("/usr/bin/patch")) {
            check_patch(&a, &b, &out);
            check_patch(&a, &c, &close);
        }
    }
}
END_TEST

Suite *t_diff_suite(void)
{
    Suite *s = suite_create("diff");
    TCase *tc = tcase_create("diff");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, what_it_looks_like);
    tcase_add_test(tc, names_stay_on_their_line);
    tcase_add_test(tc, lines_have_a_limit);
    tcase_add_test(tc, random_texts);
    tcase_add_test(tc, very_different_texts);
    suite_add_tcase(s, tc);
    return s;
}
