/*
 * t_history.c - what a time means in a line of WAL whose stamps do not run with it, wherever reading begins
 */
#include "branch/history.h"

#include "base/fs.h"
#include "branch/stamp.h"
#include "meta_bed.h"
#include "wal_bed.h"

Suite *t_history_suite(void);

#define N_COMMITS 60
#define EPOCH     INT64_C(1700000000000000)
#define TLI       2

static char dir[] = "/tmp/mere-t-history-XXXXXX";
static struct env env;
static struct {
    uint64_t start;
    int64_t stamp_us;
} commits[N_COMMITS];
static uint64_t places[N_COMMITS / 10]; /* of an image each, between commits */

static void keep_segments(void)
{
    auto_arena *a = arena_new(0);
    char name[WALSEG_NAME_SIZE];
    const char *archive = env_archive(&env, a, "br-1");
    const char *const dirs[] = { arena_printf(a, "%s/wal", dir), env_wal(&env, a, "br-1"), archive };
    for (size_t i = 0; i < N_ELEMENTS(dirs); i++)
        OK(fs_mkdir(dirs[i], 0700, (uid_t)-1, (gid_t)-1, &E));
    for (uint64_t i = 0; i < N_SEGMENTS; i++) {
        walseg_name(TLI, FIRST + i, name);
        OK(fs_write_plain(arena_printf(a, "%s/%s", archive, name), (const char *)wal[i], WALSEG_SIZE, 0600,
                          (uid_t)-1, (gid_t)-1, &E));
    }
}

/* The clock goes on by ten, is set back by 35 now and then, and by 200 once. */
static void make_wal(void)
{
    int64_t clock_us = EPOCH;
    begin();
    for (size_t i = 0; i < N_COMMITS; i++) {
        clock_us += i == 30 ? -200 : i % 7 == 6 ? -35 : 10;
        commits[i].stamp_us = clock_us;
        commits[i].start = add_xact(i % 5 == 4 ? 0x20 : 0x00, clock_us);
        (void)add((uint32_t)(i * 997 % 40000));
        if (i % 10 == 5)
            places[i / 10] = at;
    }
    ck_assert_uint_lt(at, (FIRST + N_SEGMENTS) * WALSEG_SIZE);
}

static void setup(void)
{
    meta_setup();
    memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    env = (struct env){ .db = meta_db, .data_dir = dir, .uid = (uid_t)-1, .gid = (gid_t)-1 };
    make_wal();
    keep_segments();
    WRITE();
    add_project(c, "p", "p", 1);
    add_image(c, "im-template", NULL, "ready", FIRST * WALSEG_SIZE + 40, 1);
    struct branch main_branch = a_branch("br-1", "main", 1);
    main_branch.image_id = "im-template";
    OK(branch_insert(c, &main_branch, &E));
    OK(branch_set_begin(c, "br-1", 1, FIRST * WALSEG_SIZE + 40, &E));
    OK(branch_set_tli(c, "br-1", TLI, &E));
    for (size_t i = 0; i < N_ELEMENTS(places); i++) {
        const char *id = arena_printf(A, "im-%zu", i);
        add_image(c, id, "br-1", "ready", places[i], (int64_t)i + 2);
        OK(image_set_stamp(c, id, IMAGE_STAMP_UNREAD, &E));
    }
    COMMIT();
}

static void teardown(void)
{
    OK(fs_remove_tree(dir, false, &E));
    meta_teardown();
}

static void find_time(int64_t t_us, struct history *ret)
{
    struct branch b;
    READ();
    OK(branch_get_id(c, A, "br-1", &b, &E));
    OK(history_find_time(&env, c, A, &b, at, t_us, ret, &E));
}

static int64_t newest_before(uint64_t lsn)
{
    int64_t newest = 0;
    for (size_t i = 0; i < N_COMMITS; i++)
        if (commits[i].start < lsn && commits[i].stamp_us > newest)
            newest = commits[i].stamp_us;
    return newest;
}

/* Every time there is, and those beside it; returns how often reading began at an image of the branch. */
static size_t ask_all(void)
{
    size_t from_image = 0;
    for (int64_t t = EPOCH - 300; t < EPOCH + 300; t++) {
        struct history h;
        struct history_place place;
        size_t i = 0;
        while (i < N_COMMITS && commits[i].stamp_us <= t)
            i++;
        uint64_t want = i < N_COMMITS ? commits[i].start : at;
        find_time(t, &h);
        OK(history_locate_time(&h, t, &place, &E));
        ck_assert_msg(place.lsn == want, "at %d: %llX instead of %llX, read from %s", (int)(t - EPOCH),
                      (unsigned long long)place.lsn, (unsigned long long)want, h.image.id);
        ck_assert_int_eq(place.stamp_us, newest_before(want));
        from_image += h.image.branch_id != NULL;
    }
    return from_image;
}

static void stamp_all(void)
{
    bool more = true;
    while (more)
        OK(stamp_next(&env, A, &more, &E));
}

START_TEST(a_time_means_the_same_from_wherever_it_is_read)
{
    struct history h;
    ck_assert_uint_eq(ask_all(), 0);
    stamp_all();
    ck_assert_uint_gt(ask_all(), 100);
    find_time(INT64_MAX, &h);
    ck_assert_uint_eq(h.image.lsn, places[N_ELEMENTS(places) - 1]);
}
END_TEST

START_TEST(stamps_are_those_of_the_whole_line)
{
    stamp_all();
    READ();
    for (size_t i = 0; i < N_ELEMENTS(places); i++) {
        struct image image;
        OK(image_get(c, A, arena_printf(A, "im-%zu", i), &image, &E));
        ck_assert_int_eq(image.stamp_us, newest_before(places[i]));
    }
}
END_TEST

/* The negative twin: by the last stamp instead of the largest, some time is answered wrongly. */
START_TEST(the_last_stamp_would_not_do)
{
    size_t wrong = 0;
    {
        WRITE();
        for (size_t i = 0; i < N_ELEMENTS(places); i++)
            OK(image_set_stamp(c, arena_printf(A, "im-%zu", i), commits[i * 10 + 5].stamp_us, &E));
        COMMIT();
    }
    for (int64_t t = EPOCH - 300; t < EPOCH + 300; t++) {
        struct history h;
        struct history_place place;
        size_t i = 0;
        while (i < N_COMMITS && commits[i].stamp_us <= t)
            i++;
        find_time(t, &h);
        OK(history_locate_time(&h, t, &place, &E));
        wrong += place.lsn != (i < N_COMMITS ? commits[i].start : at);
    }
    ck_assert_uint_gt(wrong, 0);
}
END_TEST

START_TEST(what_cannot_be_read_is_no_place_to_begin)
{
    bool more;
    struct image image;
    char name[WALSEG_NAME_SIZE];
    walseg_name(TLI, FIRST, name);
    ck_assert_int_eq(unlink(arena_printf(A, "%s/%s", env_archive(&env, A, "br-1"), name)), 0);
    FAILS(ERR_INTERNAL, stamp_next(&env, A, &more, &E));
    ck_assert_msg(strstr(E.msg, name) != NULL, "%s", E.msg);
    READ();
    OK(image_get(c, A, "im-0", &image, &E));
    ck_assert_int_eq(image.stamp_us, IMAGE_STAMP_LOST);
    OK(image_get(c, A, "im-1", &image, &E));
    ck_assert_int_eq(image.stamp_us, IMAGE_STAMP_UNREAD);
}
END_TEST

START_TEST(a_branch_that_goes_is_left_alone)
{
    bool more = true;
    {
        WRITE();
        OK(branch_set_state(c, "br-1", NULL, "deleting", 9, &E));
        COMMIT();
    }
    OK(stamp_next(&env, A, &more, &E));
    ck_assert(!more);
}
END_TEST

Suite *t_history_suite(void)
{
    Suite *s = suite_create("history");
    TCase *t = tcase_create("history");
    tcase_add_checked_fixture(t, setup, teardown);
    TESTS(t, a_time_means_the_same_from_wherever_it_is_read, stamps_are_those_of_the_whole_line,
          the_last_stamp_would_not_do, what_cannot_be_read_is_no_place_to_begin,
          a_branch_that_goes_is_left_alone);
    suite_add_tcase(s, t);
    return s;
}
