/*
 * t_store_load.c - the conformance suite of the storage drivers: space, and others at work at the same time
 *
 * The same tests on every driver that works on this machine.
 */
#include "store_bed.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "store/driver.h"

Suite *t_store_load_suite(void);

/* --- space
 * ----------------------------------------------------------------------------------------------------------
 */

START_TEST(usage_tells_own_bytes)
{
    bool shares = store_features(S) & STORE_SHARES_BLOCKS;
    uint64_t own = 0, twin = 0;
    auto_free char *bytes = xcalloc(1, MIB);
    auto_fd fd = -1;

    OK(store_create(S, "one", &E));
    put_bytes("one", "large", 8 * MIB, 3);
    put("one", "small", "a few bytes");
    OK(store_sync(S, &E));
    OK(store_usage(S, "one", &own, &E));
    ck_assert_uint_ge(own, 8 * MIB);
    ck_assert_uint_lt(own, 9 * MIB);
    OK(store_clone(S, "one", "two", false, &E));
    OK(store_usage(S, "two", &twin, &E));
    if (shares)
        ck_assert_uint_le(twin, 64 * 1024);
    else
        ck_assert_uint_ge(twin, 8 * MIB);
    memset(bytes, 'x', MIB);
    fd = open(in_volume("two", "large"), O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, MIB, MIB), MIB);
    ck_assert_int_eq(fsync(fd), 0);
    OK(store_usage(S, "two", &twin, &E));
    ck_assert_uint_ge(twin, MIB);
    if (shares)
        ck_assert_uint_lt(twin, 2 * MIB);
    FAILS(store_usage(S, "none", &twin, &E), ERR_NOT_FOUND);
}
END_TEST

START_TEST(usage_does_not_mind_sockets)
{
    uint64_t own = 0;

    OK(store_create(S, "one", &E));
    put_bytes("one", "f", MIB, 4);
    ck_assert_int_eq(mkfifo(in_volume("one", "pipe"), 0600), 0);
    OK(store_sync(S, &E));
    OK(store_usage(S, "one", &own, &E));
    ck_assert_uint_ge(own, MIB);
}
END_TEST

START_TEST(space_is_that_of_the_file_system)
{
    uint64_t total = 0, free_bytes = 0, after = 0;
    bool grown = true;

    OK(store_space(S, &total, &free_bytes, &E));
    ck_assert_uint_gt(total, 0);
    ck_assert_uint_gt(free_bytes, 0);
    ck_assert_uint_le(free_bytes, total);
    if (bed->size_mib > 0) {
        ck_assert_uint_le(total, (uint64_t)bed->size_mib * MIB);
        OK(store_create(S, "v", &E));
        put_bytes("v", "f", 64 * MIB, 5);
        OK(store_sync(S, &E));
        OK(store_space(S, &total, &after, &E));
        ck_assert_uint_le(after + 32 * MIB, free_bytes); /* XFS gives back what was removed before */
    }
    OK(store_grow(S, 0, &grown, &E)); /* no disk file: nothing to do */
    ck_assert(!grown);
}
END_TEST

/* Takes all space there is, to the last block. */
static void fill(const char *path)
{
    auto_free char *block = xmalloc(MIB);
    auto_fd fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    memset(block, 'f', MIB);
    for (size_t n = MIB; n >= 512; n /= 4)
        while (write(fd, block, n) > 0)
            ;
    (void)!fsync(fd);
}

START_TEST(full_disk_leaves_nothing)
{
    bool shares = store_features(S) & STORE_SHARES_BLOCKS;
    const char *filler = arena_printf(A, "%s/filler", data);
    struct err err = ERR_INIT;

    OK(store_create(S, "src", &E));
    put_bytes("src", "large", 8 * MIB, 6);
    for (int i = 0; i < 400; i++)
        put_bytes("src", arena_printf(A, "f%d", i), 5000, (unsigned)i);
    OK(store_sync(S, &E));
    fill(filler);
    if (store_clone(S, "src", "dst", false, &err) == 0) {
        ck_assert(
            shares); /* there may be room for names where there is none for bytes; then all of it is there */
        ck_assert_uint_eq(compare("src", "dst"), 402);
        OK(store_remove(S, "dst", &E));
    } else {
        ck_assert_msg(err.code == ERR_DISK_FULL, "%s (%s)", err.msg, err.detail);
        ck_assert(!store_exists(S, "dst"));
        ck_assert_uint_eq(n_volumes(), 1);
        ck_assert_uint_eq(n_trash(), 0);
    }
    ck_assert_uint_eq(n_tmp(), 0);
    ck_assert_int_eq(unlink(filler), 0);
    OK(store_empty_trash(S, &E));
    OK(store_sync(S, &E));
    OK(store_clone(S, "src", "dst", false, &E));
    ck_assert_uint_eq(compare("src", "dst"), 402);
}
END_TEST

/* So that not even a directory can be made. */
static void fill_to_the_last_name(void)
{
    static const char SMALL[1024] = "f";
    const char *dir = arena_printf(A, "%s/fillers", data);

    ck_assert_int_eq(mkdir(dir, 0700), 0);
    OK(store_sync(S, &E));
    fill(arena_printf(A, "%s/filler", data));
    for (int i = 0;; i++) {
        auto_fd fd = open(arena_printf(A, "%s/%d", dir, i), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, SMALL, sizeof(SMALL)) < 0 || fsync(fd) < 0)
            return;
    }
}

static int open_as(const char *driver)
{
    struct store_options opt = { .dir = data, .driver = driver };

    return store_open(&opt, &S, &E);
}

/* Only deleting makes room, and only a server deletes. */
START_TEST(a_full_disk_can_be_opened)
{
    OK(store_create(S, "kept", &E));
    put("kept", "f", "here");
    OK(store_create(S, "large", &E));
    put_bytes("large", "f", 8 * MIB, 7);
    fill_to_the_last_name();
    FAILS(driver_find(bed->driver)->probe(arena_printf(A, "%s/volumes", data), &E), ERR_DISK_FULL);
    store_close(TAKE(S), false);
    bed_open();
    ck_assert_str_eq(store_driver(S), bed->driver);
    store_close(TAKE(S), false);
    OK(open_as("auto"));
    /* whether files could share blocks cannot be found out */
    ck_assert_str_eq(store_driver(S), strcmp(bed->driver, "btrfs") == 0 ? "btrfs" : "copy");
    ck_assert_str_eq(get("kept", "f"), "here");
    OK(store_remove(S, "large", &E));
    OK(store_empty_trash(S, &E));
    OK(store_sync(S, &E));
    ck_assert_uint_eq(n_volumes(), 1);
    OK(store_create(S, "another", &E));
}
END_TEST

START_TEST(a_full_disk_without_volumes_is_refused)
{
    fill_to_the_last_name();
    store_close(TAKE(S), false);
    FAILS(open_as(bed->driver), ERR_DISK_FULL);
    FAILS(open_as("auto"), ERR_DISK_FULL);
}
END_TEST

/* --- others at work
 * ------------------------------------------------------------------------------------------------- */

static atomic_bool stop;

/* Files come and go in one directory, and the directory with them. */
static void *churn(void *arg)
{
    const char *dir = arg;

    while (!stop) {
        auto_free char *sub = xasprintf("%s/sub", dir);

        mkdir(sub, 0700);
        for (int i = 0; i < 200; i++) {
            auto_free char *path = xasprintf("%s/%d", sub, i);
            auto_fd fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

            (void)!write(fd, "x", 1);
        }
        for (int i = 0; i < 200; i++) {
            auto_free char *path = xasprintf("%s/%d", sub, i);

            unlink(path);
        }
        rmdir(sub);
    }
    return NULL;
}

START_TEST(vanishing_files_are_tolerated_when_asked)
{
    bool atomic = store_features(S) & STORE_ATOMIC_SNAPSHOT, failed = false;
    struct err err = ERR_INIT;
    const char *dir;
    pthread_t thread;

    OK(store_create(S, "src", &E));
    make_dir("src", "base", 0700);
    put("src", "stays", "here");
    dir = in_volume("src", "base");
    stop = false;
    ck_assert_int_eq(pthread_create(&thread, NULL, churn, (void *)(uintptr_t)dir), 0);
    for (int i = 0; i < 20; i++) {
        OK(store_clone(S, "src", "dst", true, &E));
        ck_assert_str_eq(get("dst", "stays"), "here");
        OK(store_remove(S, "dst", &E));
    }
    /* Not asked: a snapshot does not notice, files one by one must, sooner or later. */
    for (int i = 0; i < (atomic ? 10 : 500) && !failed; i++) {
        failed = store_clone(S, "src", "dst", false, &err) < 0;
        if (failed)
            ck_assert(!store_exists(S, "dst"));
        OK(store_remove(S, "dst", &E));
        OK(store_empty_trash(S, &E));
    }
    stop = true;
    pthread_join(thread, NULL);
    ck_assert_msg(failed == !atomic, "%s (%s)", err.msg, err.detail);
    ck_assert_uint_eq(n_tmp(), 0);
}
END_TEST

static void *toggle_fifo(void *arg)
{
    while (!stop) {
        mkfifo(arg, 0600);
        unlink(arg);
    }
    return NULL;
}

/* It may come between the look at the source and the snapshot: seldom, hence the many rounds there. */
START_TEST(fifo_that_comes_and_goes)
{
    int refused = 0, rounds = store_features(S) & STORE_ATOMIC_SNAPSHOT ? 300 : 60;
    pthread_t thread;

    OK(store_create(S, "src", &E));
    stop = false;
    ck_assert_int_eq(pthread_create(&thread, NULL, toggle_fifo, (void *)(uintptr_t)in_volume("src", "pipe")),
                     0);
    for (int i = 0; i < rounds; i++) {
        struct err err = ERR_INIT;

        if (store_clone(S, "src", "dst", true, &err) < 0) {
            ck_assert_msg(err.code == ERR_INVALID, "%s (%s)", err.msg, err.detail);
            ck_assert(!store_exists(S, "dst"));
            refused++;
            continue;
        }
        ck_assert(!has("dst", "pipe"));
        OK(store_remove(S, "dst", &E));
    }
    stop = true;
    pthread_join(thread, NULL);
    ck_assert_int_gt(refused, 0);
    ck_assert_uint_eq(n_tmp(), 0);
}
END_TEST

struct worker {
    pthread_t thread;
    int number;
    int made, conflicts, others;
};

/* Each makes its own and all make the same ones; every third is removed again. */
static void *clone_many(void *arg)
{
    struct worker *w = arg;

    for (int i = 0; i < 12; i++) {
        auto_free char *own = xasprintf("own-%d-%d", w->number, i), *common = xasprintf("common-%d", i);
        struct err err = ERR_INIT;

        if (store_clone(S, "src", own, false, &err) < 0)
            w->others++;
        if (i % 3 == 0 && store_remove(S, own, &err) < 0)
            w->others++;
        if (store_clone(S, "src", common, false, &err) == 0)
            w->made++;
        else if (err.code == ERR_CONFLICT)
            w->conflicts++;
        else
            w->others++;
        if (i % 4 == 0 && store_empty_trash(S, &err) < 0)
            w->others++;
    }
    return NULL;
}

START_TEST(many_at_once)
{
    struct worker workers[4] = { 0 };
    int made = 0, conflicts = 0, others = 0;

    OK(store_create(S, "src", &E));
    make_dir("src", "d", 0700);
    for (int i = 0; i < 20; i++)
        put_bytes("src", arena_printf(A, "d/%d", i), 9000, (unsigned)i);
    for (int i = 0; i < 4; i++) {
        workers[i].number = i;
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, clone_many, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(workers[i].thread, NULL);
        made += workers[i].made;
        conflicts += workers[i].conflicts;
        others += workers[i].others;
    }
    ck_assert_int_eq(others, 0);
    ck_assert_int_eq(made, 12);
    ck_assert_int_eq(conflicts, 36);
    ck_assert_uint_eq(n_volumes(), 1 + 12 + 4 * 8);
    ck_assert_uint_eq(n_tmp(), 0);
    for (int i = 0; i < 12; i++)
        compare("src", arena_printf(A, "common-%d", i));
}
END_TEST

/* Writes the same number to one file and then to another, each write durable before the next. */
static void *write_pairs(void *arg)
{
    const int *fds = arg;

    for (uint64_t i = 1; !stop; i++)
        for (int f = 0; f < 2; f++)
            if (pwrite(fds[f], &i, sizeof(i), 0) != sizeof(i) || fdatasync(fds[f]) < 0)
                return arg;
    return NULL;
}

static uint64_t pair_member(const char *id, const char *name)
{
    uint64_t value = 0;
    char *bytes = NULL;
    size_t n = 0;

    OK(fs_read(A, in_volume(id, name), 64, &bytes, &n, &E));
    if (n > 0)
        memcpy(&value, bytes, sizeof(value));
    return value;
}

START_TEST(snapshot_is_one_instant)
{
    int fds[2] = { -1, -1 };
    void *failed = NULL;
    uint64_t last = 0;
    pthread_t thread;

    OK(store_create(S, "src", &E));
    make_dir("src", "a", 0700);
    put("src", "a/first", "");
    put("src", "second", "");
    fds[0] = open(in_volume("src", "a/first"), O_RDWR | O_CLOEXEC);
    fds[1] = open(in_volume("src", "second"), O_RDWR | O_CLOEXEC);
    ck_assert(fds[0] >= 0 && fds[1] >= 0);
    stop = false;
    ck_assert_int_eq(pthread_create(&thread, NULL, write_pairs, fds), 0);
    for (int i = 0; i < 60; i++) {
        uint64_t first, second;

        OK(store_clone(S, "src", "dst", false, &E));
        first = pair_member("dst", "a/first");
        second = pair_member("dst", "second");
        ck_assert_msg(first == second || first == second + 1, "%llu then %llu", (unsigned long long)first,
                      (unsigned long long)second);
        ck_assert_uint_ge(second, last);
        last = second;
        OK(store_remove(S, "dst", &E));
    }
    stop = true;
    pthread_join(thread, &failed);
    fd_close(&fds[0]);
    fd_close(&fds[1]);
    ck_assert_ptr_null(failed);
    ck_assert_uint_gt(last, 10); /* it was being written all the while */
}
END_TEST

/* --- the suite
 * ------------------------------------------------------------------------------------------------------ */

static void add_tests(TCase *tc, const struct bed *b)
{
    tcase_add_test(tc, usage_tells_own_bytes);
    tcase_add_test(tc, usage_does_not_mind_sockets);
    tcase_add_test(tc, space_is_that_of_the_file_system);
    tcase_add_test(tc, vanishing_files_are_tolerated_when_asked);
    tcase_add_test(tc, fifo_that_comes_and_goes);
    tcase_add_test(tc, many_at_once);
    if (strcmp(b->driver, "btrfs") == 0)
        tcase_add_test(tc, snapshot_is_one_instant);
    if (b->mkfs[0] == NULL)
        return; /* filling somebody else's file system is not a test */
    tcase_add_test(tc, full_disk_leaves_nothing);
    tcase_add_test(tc, a_full_disk_can_be_opened);
    tcase_add_test(tc, a_full_disk_without_volumes_is_refused);
}

Suite *t_store_load_suite(void)
{
    Suite *suite = suite_create("store_load");

    for (int i = 0; i < N_BEDS; i++) {
        TCase *tc = bed_case(suite, i);

        if (tc != NULL)
            add_tests(tc, &BEDS[i]);
    }
    return suite;
}
