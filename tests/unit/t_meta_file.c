/*
 * t_meta_file.c - the metadata file: its connections, transactions, and what happens when the disk fails
 */
#include "meta_bed.h"

#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <time.h>

Suite *t_meta_file_suite(void);

/* --- the file ----------------------------------------------------------------------------------------------
 */

static void reopen(void)
{
    db_close(meta_db);
    OK(db_open(meta_path, &meta_db, &E));
}

static mode_t mode_of(const char *suffix)
{
    struct stat st;

    return stat(arena_printf(A, "%s%s", meta_path, suffix), &st) == 0 ? st.st_mode & 07777 : 0;
}

static void set(const char *key, const char *value)
{
    WRITE();

    OK(instance_set(c, key, value, &E));
    COMMIT();
}

static const char *get(const char *key)
{
    const char *value = "unset";
    READ();

    OK(instance_get(c, A, key, &value, &E));
    return value;
}

START_TEST(file_is_private_and_durable)
{
    ck_assert_ptr_null(get("k"));
    set("k", "v1");
    set("k", "v2 ünï");
    ck_assert_uint_eq(mode_of(""), 0600);
    ck_assert_uint_eq(mode_of("-wal"), 0600);
    ck_assert_uint_eq(mode_of("-shm"), 0600);
    reopen();
    ck_assert_str_eq(get("k"), "v2 ünï");
    db_close(meta_db);
    ck_assert_uint_eq(mode_of("-wal"), 0); /* all of it checkpointed by the last to close */
    ck_assert_int_eq(chmod(meta_path, 0644), 0);
    OK(db_open(meta_path, &meta_db, &E));
    ck_assert_uint_eq(mode_of(""), 0600);
    ck_assert_str_eq(get("k"), "v2 ünï");
}
END_TEST

START_TEST(closing_nothing)
{
    struct dbc *none = NULL;

    db_close(NULL);
    db_end(&none);
}
END_TEST

/* --- transactions ------------------------------------------------------------------------------------------
 */

START_TEST(guard_rolls_back)
{
    {
        WRITE();
        ck_assert(db_in_write());
        OK(instance_set(c, "k", "lost", &E));
    }
    ck_assert(!db_in_write());
    ck_assert_ptr_null(get("k"));
    set("k", "kept");
    ck_assert_str_eq(get("k"), "kept");
    {
        WRITE();
        OK(instance_set(c, "k", "lost", &E));
        db_end(&c);
        ck_assert_ptr_null(c);
        ck_assert(!db_in_write());
    }
    ck_assert_str_eq(get("k"), "kept");
}
END_TEST

START_TEST(only_a_write_transaction_writes)
{
    {
        READ();
        ck_assert(!db_in_write());
        FAILS(ERR_INTERNAL, instance_set(c, "k", "v", &E));
    }
    {
        WRITE();
        COMMIT();
        FAILS(ERR_INTERNAL, instance_set(c, "k", "v", &E));
        FAILS(ERR_INTERNAL, db_commit(c, &E));
    }
    ck_assert_ptr_null(get("k"));
}
END_TEST

START_TEST(readers_see_one_moment)
{
    const char *value;
    auto_dbc *old = NULL;

    set("k", "1");
    OK(db_read(meta_db, &old, &E));
    OK(instance_get(old, A, "k", &value, &E));
    ck_assert_str_eq(value, "1");
    {
        WRITE();
        OK(instance_set(c, "k", "2", &E));
        ck_assert_str_eq(get("k"), "1"); /* not committed */
        COMMIT();
    }
    OK(instance_get(old, A, "k", &value, &E));
    ck_assert_str_eq(value, "1");
    ck_assert_str_eq(get("k"), "2");
    db_end(&old);
    ck_assert_str_eq(get("k"), "2");
}
END_TEST

#define WRITERS 8
#define ROUNDS  100

/* Reads, adds, writes: a lost update shows in the sum. */
static void *count_up(void *failures)
{
    struct err err = ERR_INIT;

    for (int i = 0; i < ROUNDS; i++) {
        auto_arena *a = arena_new(0);
        auto_dbc *c = NULL;
        const char *value;

        if (db_write(meta_db, &c, &err) < 0 || !db_in_write() || instance_get(c, a, "n", &value, &err) < 0 ||
            instance_set(c, "n", arena_printf(a, "%ld", strtol(value, NULL, 10) + 1), &err) < 0 ||
            (i % 10 != 9 && db_commit(c, &err) < 0)) /* each tenth is rolled back */
            __atomic_add_fetch((int *)failures, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void *watch(void *failures)
{
    struct err err = ERR_INIT;
    long last = 0, now = 0;

    while (now < WRITERS * ROUNDS * 9 / 10) {
        auto_arena *a = arena_new(0);
        auto_dbc *c = NULL;
        const char *value;

        if (db_read(meta_db, &c, &err) < 0 || instance_get(c, a, "n", &value, &err) < 0 || db_in_write()) {
            __atomic_add_fetch((int *)failures, 1, __ATOMIC_RELAXED);
            break;
        }
        now = strtol(value, NULL, 10);
        if (now < last)
            __atomic_add_fetch((int *)failures, 1, __ATOMIC_RELAXED);
        last = now;
    }
    return NULL;
}

START_TEST(many_threads)
{
    pthread_t threads[WRITERS + 2];
    int failures = 0;

    set("n", "0");
    for (int i = 0; i < WRITERS + 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, i < WRITERS ? count_up : watch, &failures), 0);
    for (int i = 0; i < WRITERS + 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_int_eq(failures, 0);
    ck_assert_str_eq(get("n"), "720");
}
END_TEST

static void *one_more_reader(void *got)
{
    struct err err = ERR_INIT;
    auto_dbc *c = NULL;

    if (db_read(meta_db, &c, &err) == 0)
        sem_post(got);
    return NULL;
}

START_TEST(the_seventeenth_reader_waits)
{
    struct dbc *readers[16];
    struct timespec soon;
    pthread_t thread;
    sem_t got;

    sem_init(&got, 0, 0);
    for (int i = 0; i < 16; i++)
        OK(db_read(meta_db, &readers[i], &E));
    ck_assert_int_eq(pthread_create(&thread, NULL, one_more_reader, &got), 0);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec++;
    ck_assert_int_eq(sem_timedwait(&got, &soon), -1);
    db_end(&readers[7]);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(sem_trywait(&got), 0);
    for (int i = 0; i < 16; i++)
        db_end(&readers[i]);
    sem_destroy(&got);
}
END_TEST

/* --- faults: SQLite's own files behind a layer that can fail
 * -------------------------------------------------- */

static sqlite3_vfs fault_vfs;
static sqlite3_vfs *real_vfs;
static int writes_left = -1; /* -1: all succeed */
static bool sync_fails;

/* The main file and the WAL have different methods. */
static struct faulty {
    const sqlite3_io_methods *real;
    sqlite3_io_methods io;
} main_file, wal_file;

static const sqlite3_io_methods *real_of(sqlite3_file *f)
{
    return f->pMethods == &wal_file.io ? wal_file.real : main_file.real;
}

static int fault_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at)
{
    if (writes_left == 0)
        return SQLITE_FULL;
    if (writes_left > 0)
        writes_left--;
    return real_of(f)->xWrite(f, data, n, at);
}

static int fault_sync(sqlite3_file *f, int flags)
{
    return sync_fails ? SQLITE_IOERR_FSYNC : real_of(f)->xSync(f, flags);
}

static int fault_open(sqlite3_vfs *vfs UNUSED, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
    struct faulty *faulty = flags & SQLITE_OPEN_WAL ? &wal_file : &main_file;
    int rc = real_vfs->xOpen(real_vfs, name, f, flags, ret_flags);

    if (rc != SQLITE_OK || !(flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_DB)))
        return rc;
    faulty->real = f->pMethods;
    faulty->io = *f->pMethods;
    faulty->io.xWrite = fault_write;
    faulty->io.xSync = fault_sync;
    f->pMethods = &faulty->io;
    return rc;
}

static void setup_faults(void)
{
    writes_left = -1;
    sync_fails = false;
    real_vfs = sqlite3_vfs_find("unix");
    fault_vfs = *real_vfs;
    fault_vfs.zName = "fault";
    fault_vfs.xOpen = fault_open;
    ck_assert_int_eq(sqlite3_vfs_register(&fault_vfs, 1), SQLITE_OK);
    meta_setup();
    ck_assert_ptr_nonnull(wal_file.real);
}

static void teardown_faults(void)
{
    writes_left = -1;
    sync_fails = false;
    meta_teardown();
    ck_assert_int_eq(sqlite3_vfs_register(real_vfs, 1), SQLITE_OK);
    ck_assert_int_eq(sqlite3_vfs_unregister(&fault_vfs), SQLITE_OK);
}

static int set_both(const char *value)
{
    auto_dbc *c = NULL;

    if (db_write(meta_db, &c, &E) < 0 || instance_set(c, "a", value, &E) < 0 ||
        instance_set(c, "b", value, &E) < 0)
        return -1;
    return db_commit(c, &E);
}

START_TEST(full_disk_changes_nothing)
{
    const char *before = "0";
    int failed = 0;

    OK(set_both(before));
    for (int n = 0; n < 40; n++) {
        const char *value = arena_printf(A, "%d", n + 1);
        int rc;

        writes_left = n;
        rc = set_both(value);
        writes_left = -1;
        if (rc == 0) {
            before = value;
        } else {
            ck_assert_msg(E.code == ERR_DISK_FULL, "%s (%s)", E.msg, E.detail);
            ck_assert(err_retryable(E.code));
            failed++;
        }
        ck_assert(!db_in_write());
        ck_assert_str_eq(get("a"), before);
        ck_assert_str_eq(get("b"), before);
    }
    ck_assert_int_gt(failed, 1);
    ck_assert_int_lt(failed, 40);
    OK(set_both("end"));
    reopen();
    ck_assert_str_eq(get("b"), "end");
}
END_TEST

START_TEST(failed_sync_is_no_commit)
{
    OK(set_both("1"));
    sync_fails = true;
    FAILS(ERR_INTERNAL, set_both("2"));
    ck_assert_ptr_nonnull(strstr(E.detail, "sqlite"));
    sync_fails = false;
    ck_assert_str_eq(get("a"), "1");
    OK(set_both("3"));
    reopen();
    ck_assert_str_eq(get("a"), "3");
}
END_TEST

/* A statement that failed half-way must not let the rest of the work through. */
START_TEST(after_a_full_disk_nothing_is_written_alone)
{
    auto_dbc *c = NULL;

    OK(set_both("1"));
    OK(db_write(meta_db, &c, &E));
    OK(instance_set(c, "a", "2", &E));
    writes_left = 0;
    FAILS(ERR_DISK_FULL, db_commit(c, &E));
    writes_left = -1;
    /* Whether SQLite ended the transaction or not: this may be accepted, but never kept. */
    (void)!instance_set(c, "b", "2", &E);
    db_end(&c);
    ck_assert_str_eq(get("a"), "1");
    ck_assert_str_eq(get("b"), "1");
}
END_TEST

Suite *t_meta_file_suite(void)
{
    Suite *s = suite_create("meta_file");
    TCase *file = tcase_create("db"), *faults = tcase_create("faults");

    tcase_add_checked_fixture(file, meta_setup, meta_teardown);
    tcase_set_timeout(file, 120);
    TESTS(file, file_is_private_and_durable, closing_nothing, guard_rolls_back,
          only_a_write_transaction_writes, readers_see_one_moment, many_threads,
          the_seventeenth_reader_waits);
    tcase_add_checked_fixture(faults, setup_faults, teardown_faults);
    TESTS(faults, full_disk_changes_nothing, failed_sync_is_no_commit,
          after_a_full_disk_nothing_is_written_alone);
    suite_add_tcase(s, file);
    suite_add_tcase(s, faults);
    return s;
}
