/*
 * t_control.c - a cluster's own files: what we read of pg_control against pg_controldata, torn and hostile
 * files
 */
#include "pg/control.h"

#include "base/fs.h"
#include "base/text.h"
#include "pg/install.h"
#include "pg_bed.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *t_control_suite(void);

enum { FILE_SIZE = 8192, AT_VERSION = 8, AT_CHECKPOINT = 32, AT_REDO = 40, AT_TLI = 48, HALF = AT_REDO };

static char dir[64];
static struct arena *arena;
static struct err err;

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/t_control.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    ck_assert_int_eq(mkdir(arena_printf(arena, "%s/global", dir), 0700), 0);
}

static void teardown(void)
{
    ck_assert_msg(fs_remove_tree(dir, false, &err) == 0, "%s", err.detail);
    arena_free(arena);
}

static const char *in(const char *name)
{
    return arena_printf(arena, "%s/%s", dir, name);
}

/* ---- files made by hand ---- */

static uint32_t crc32c(const char *data, size_t len) /* by the table, unlike the one that is tested */
{
    uint32_t table[256], crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] & 1 ? table[i] >> 1 ^ 0x82F63B78 : table[i] >> 1;
    }
    for (size_t i = 0; i < len; i++)
        crc = table[(crc ^ (uint8_t)data[i]) & 0xFF] ^ crc >> 8;
    return ~crc;
}

static void make_control(char *out, uint32_t version, size_t crc_at, uint64_t lsn)
{
    memset(out, 0, FILE_SIZE);
    memcpy(out, &(uint64_t){ 77 }, 8);
    memcpy(out + AT_VERSION, &version, 4);
    memcpy(out + AT_CHECKPOINT, &lsn, 8);
    memcpy(out + AT_REDO, &lsn, 8);
    memcpy(out + AT_TLI, &(uint32_t){ 1 }, 4);
    if (crc_at > 0)
        memcpy(out + crc_at, &(uint32_t){ crc32c(out, crc_at) }, 4);
}

static void put_control(const char *data, size_t len)
{
    ck_assert_int_eq(fs_write_plain(in("global/pg_control"), data, len, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
}

START_TEST(the_checksum_is_where_the_version_has_it)
{
    static const struct {
        uint32_t version;
        size_t crc_at;
        int rc;
    } CASES[] = {
        { 1300, 288, 0 }, { 1700, 288, 0 }, { 1800, 292, 0 }, { 1300, 292, -1 }, { 1800, 288, -1 },
        { 1300, 0, -1 },  { 1700, 0, -1 },  { 1800, 0, -1 },  { 1900, 0, 0 }, /* no layout known: unchecked */
    };
    char data[FILE_SIZE];
    struct pg_control c;
    ck_assert_uint_eq(crc32c("123456789", 9), 0xE3069283); /* the check value of CRC-32C */
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        make_control(data, CASES[i].version, CASES[i].crc_at, 4242);
        put_control(data, sizeof(data));
        ck_assert_int_eq(pg_control_read(dir, &c, &err), CASES[i].rc);
        if (CASES[i].rc == 0)
            ck_assert(c.redo == 4242 && c.checkpoint == 4242 && c.system_id == 77 && c.tli == 1);
        else
            ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    }
}
END_TEST

START_TEST(every_byte_counts)
{
    char data[FILE_SIZE];
    struct pg_control c;
    for (size_t i = 0; i < 292; i++) {
        if (i >= AT_VERSION && i < AT_VERSION + 4)
            continue; /* another version has another layout */
        make_control(data, 1300, 288, 4242);
        data[i] = (char)(data[i] ^ 0x10);
        put_control(data, sizeof(data));
        ck_assert_msg(pg_control_read(dir, &c, &err) == -1 && err.code == ERR_UNAVAILABLE, "byte %zu", i);
    }
}
END_TEST

START_TEST(what_is_no_control_file)
{
    char data[FILE_SIZE];
    struct pg_control c;
    make_control(data, 1300, 288, 1);
    put_control(data, 55);
    ck_assert_int_eq(pg_control_read(dir, &c, &err), -1);
    ck_assert_int_eq(err.code, ERR_INTERNAL);
    put_control(data, 290); /* ends within the checksum */
    ck_assert_int_eq(pg_control_read(dir, &c, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    make_control(data, 1201, 288, 1);
    put_control(data, sizeof(data));
    ck_assert_int_eq(pg_control_read(dir, &c, &err), -1);
    ck_assert_int_eq(err.code, ERR_INTERNAL);
    ck_assert_int_eq(unlink(in("global/pg_control")), 0);
    ck_assert_int_eq(pg_control_read(dir, &c, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
}
END_TEST

static _Atomic bool halt;
static int written_fd;

/* Writes in two halves what Postgres writes in one, so that the seam is met often: between the two positions.
 */
static void *write_halves(void *arg)
{
    char data[2][FILE_SIZE];
    (void)arg;
    make_control(data[0], 1300, 288, 1111);
    make_control(data[1], 1300, 288, 2222);
    for (unsigned i = 0; !halt; i++) {
        if (pwrite(written_fd, data[i & 1], HALF, 0) != HALF ||
            pwrite(written_fd, data[i & 1] + HALF, FILE_SIZE - HALF, HALF) != FILE_SIZE - HALF)
            return "a write failed";
    }
    return NULL;
}

START_TEST(a_file_being_written_is_never_read_half)
{
    char data[FILE_SIZE];
    pthread_t t;
    void *failure;
    int whole = 0;
    make_control(data, 1300, 288, 1111);
    put_control(data, sizeof(data));
    written_fd = open(in("global/pg_control"), O_WRONLY | O_CLOEXEC);
    halt = false;
    ck_assert_int_eq(pthread_create(&t, NULL, write_halves, NULL), 0);
    for (int i = 0; i < 3000; i++) {
        struct pg_control c;
        if (pg_control_read(dir, &c, &err) == 0) {
            ck_assert_uint_eq(c.checkpoint, c.redo);
            whole++;
        } else {
            ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
        }
    }
    halt = true;
    pthread_join(t, &failure);
    close(written_fd);
    ck_assert_ptr_null(failure);
    ck_assert_int_gt(whole, 0);
}
END_TEST

/* The directory is the compute's: what it puts there may neither hold us up nor lead us elsewhere. */
START_TEST(hostile_files_are_refused)
{
    static const char *const NAMES[] = { "global/pg_control", "postmaster.pid", "00000002.history" };
    char data[FILE_SIZE];
    struct pg_control c;
    uint32_t parent;
    uint64_t lsn;
    int64_t pid;
    make_control(data, 1300, 288, 1);
    ck_assert_int_eq(fs_write_plain(in("good"), data, FILE_SIZE, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < N_ELEMENTS(NAMES); i++) {
            const char *path = in(NAMES[i]);
            ck_assert_int_eq(kind == 0   ? mkfifo(path, 0600)
                             : kind == 1 ? mkdir(path, 0700)
                                         : symlink(in("good"), path),
                             0);
        }
        ck_assert_int_eq(pg_control_read(dir, &c, &err), -1);
        ck_assert_int_eq(err.code, ERR_INTERNAL);
        ck_assert_int_eq(pg_status_read(dir, &pid), PG_STATUS_NONE);
        ck_assert_int_eq(pg_history_read(dir, 2, &parent, &lsn, &err), -1);
        ck_assert_int_eq(err.code, ERR_INTERNAL);
        for (size_t i = 0; i < N_ELEMENTS(NAMES); i++)
            ck_assert_int_eq(remove(in(NAMES[i])), 0);
    }
}
END_TEST

START_TEST(history_and_status)
{
    static const char HISTORY[] = "1\t0/3000110\tno recovery target\n\n2\t1/AB\tx\n";
    static const char STATUS[] = "4711\n/d\n1\n5432\n/s\n\n  1 2\nready   \n";
    uint32_t parent;
    uint64_t lsn;
    int64_t pid;
    ck_assert_int_eq(fs_write_plain(in("00000003.history"), HISTORY, sizeof(HISTORY) - 1, 0600, (uid_t)-1,
                                    (gid_t)-1, &err),
                     0);
    ck_assert_int_eq(pg_history_read(dir, 3, &parent, &lsn, &err), 0);
    ck_assert(parent == 2 && lsn == 0x1000000AB);
    ck_assert_int_eq(pg_history_read(dir, 4, &parent, &lsn, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    ck_assert_int_eq(pg_status_read(dir, &pid), PG_STATUS_NONE);
    ck_assert_int_eq(
        fs_write_plain(in("postmaster.pid"), STATUS, sizeof(STATUS) - 1, 0600, (uid_t)-1, (gid_t)-1, &err),
        0);
    ck_assert_int_eq(pg_status_read(dir, &pid), PG_STATUS_READY);
    ck_assert_int_eq(pid, 4711);
}
END_TEST

/* ---- a real cluster ---- */

static const char *after(const char *report, const char *label)
{
    const char *p = strstr(report, label);
    ck_assert_msg(p != NULL, "no \"%s\" in:\n%s", label, report);
    p += strlen(label);
    p += strspn(p, ": ");
    return arena_printf(arena, "%.*s", (int)strcspn(p, "\n"), p);
}

static void compare(const char *pgdata, const char *report, enum pg_state state)
{
    struct pg_control c;
    char text[LSN_TEXT_SIZE];
    ck_assert_msg(pg_control_read(pgdata, &c, &err) == 0, "%s %s", err.msg, err.detail);
    ck_assert_str_eq(after(report, "Database system identifier"),
                     arena_printf(arena, "%llu", (unsigned long long)c.system_id));
    ck_assert_str_eq(after(report, "Latest checkpoint location"), text_lsn(c.checkpoint, text));
    ck_assert_str_eq(after(report, "Latest checkpoint's REDO location"), text_lsn(c.redo, text));
    ck_assert_str_eq(after(report, "Latest checkpoint's TimeLineID"), arena_printf(arena, "%u", c.tli));
    ck_assert_str_eq(after(report, "Min recovery ending loc's timeline"),
                     arena_printf(arena, "%u", c.min_recovery_tli));
    ck_assert_int_eq(c.state, state);
    const struct {
        const char *label;
        uint32_t got;
    } NEEDS[] = { { "max_connections setting", c.needs.max_connections },
                  { "max_worker_processes setting", c.needs.max_worker_processes },
                  { "max_wal_senders setting", c.needs.max_wal_senders },
                  { "max_prepared_xacts setting", c.needs.max_prepared_transactions },
                  { "max_locks_per_xact setting", c.needs.max_locks_per_transaction } };
    for (size_t i = 0; i < N_ELEMENTS(NEEDS); i++)
        ck_assert_str_eq(after(report, NEEDS[i].label), arena_printf(arena, "%u", (unsigned)NEEDS[i].got));
}

START_TEST(as_pg_controldata_has_it)
{
    struct pg_install *list;
    size_t n;
    const char *out = "";
    if (pg_install_scan(arena, &list, &n, &err) < 0) {
        printf("SKIP control of a real cluster: no Postgres\n");
        return;
    }
    ck_assert_int_eq(chmod(dir, 0777), 0);
    for (size_t i = 0; i < n; i++) {
        const char *bin = list[i].bindir, *pgdata = arena_printf(arena, "%s/%d", dir, (int)list[i].major);
        const char *const init[] = { arena_printf(arena, "%s/initdb", bin),
                                     "-D",
                                     pgdata,
                                     "-N",
                                     "-A",
                                     "trust",
                                     "--wal-segsize=1",
                                     "--locale=C",
                                     NULL };
        const char *const tell[] = { arena_printf(arena, "%s/pg_controldata", bin), pgdata, NULL };
        ck_assert_msg(pg_bed_run(arena, init, &out, &err) == 0, "%s %s", err.msg, err.detail);
        ck_assert_msg(pg_bed_run(arena, tell, &out, &err) == 0, "%s %s", err.msg, err.detail);
        ck_assert_str_eq(after(out, "Database cluster state"), "shut down");
        compare(pgdata, out, PG_STATE_SHUT_DOWN);
        const char *const reset[] = {
            arena_printf(arena, "%s/pg_resetwal", bin), "-l", "000000050000000A0000000B", "-f", pgdata, NULL
        };
        ck_assert_msg(pg_bed_run(arena, reset, &out, &err) == 0, "%s %s", err.msg, err.detail);
        ck_assert_msg(pg_bed_run(arena, tell, &out, &err) == 0, "%s %s", err.msg, err.detail);
        ck_assert_str_eq(after(out, "Latest checkpoint's TimeLineID"), "5");
        compare(pgdata, out, PG_STATE_SHUT_DOWN);
    }
}
END_TEST

Suite *t_control_suite(void)
{
    Suite *s = suite_create("control");
    TCase *t = tcase_create("files"), *real = tcase_create("cluster");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, the_checksum_is_where_the_version_has_it);
    tcase_add_test(t, every_byte_counts);
    tcase_add_test(t, what_is_no_control_file);
    tcase_add_test(t, a_file_being_written_is_never_read_half);
    tcase_add_test(t, hostile_files_are_refused);
    tcase_add_test(t, history_and_status);
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(real, setup, teardown);
    tcase_set_timeout(real, 120);
    tcase_add_test(real, as_pg_controldata_has_it);
    suite_add_tcase(s, real);
    return s;
}
