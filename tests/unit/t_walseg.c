/*
 * t_walseg.c - names, header checks and record ends of WAL segments
 */
#include "pg/walseg.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *t_walseg_suite(void);

START_TEST(names_go_both_ways)
{
    char name[WALSEG_NAME_SIZE];
    uint32_t tli;
    uint64_t segno;
    walseg_name(3, walseg_no(0x1234567890), name);
    ck_assert_str_eq(name, "000000030000001200000345");
    ck_assert_int_eq(walseg_parse(name, &tli, &segno), WALSEG_SEGMENT);
    ck_assert_uint_eq(tli, 3);
    ck_assert_uint_eq(segno, walseg_no(0x1234567890));
}
END_TEST

START_TEST(only_wal_names_are_wal)
{
    static const struct {
        const char *name;
        enum walseg_kind kind;
    } CASES[] = {
        { "000000010000000000000001", WALSEG_SEGMENT },
        { "000000010000000000000FFF", WALSEG_SEGMENT },
        { "000000010000000000001000", WALSEG_OTHER }, /* beyond the last segment of a log file */
        { "000000010000000000000001.partial", WALSEG_PARTIAL },
        { "00000002.history", WALSEG_HISTORY },
        { "000000010000000000000001.00000028.backup", WALSEG_BACKUP },
        { "", WALSEG_OTHER },
        { "..", WALSEG_OTHER },
        { "00000001000000000000000", WALSEG_OTHER },
        { "00000001000000000000000g", WALSEG_OTHER },
        { "00000001000000000000000a", WALSEG_OTHER }, /* Postgres writes upper case */
        { "000000010000000000000001.partial.tmp", WALSEG_OTHER },
        { "000000010000000000000001/../x", WALSEG_OTHER },
        { "0000000g.history", WALSEG_OTHER },
        { "00000002.history ", WALSEG_OTHER },
    };
    uint32_t tli;
    uint64_t segno;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++)
        ck_assert_msg(walseg_parse(CASES[i].name, &tli, &segno) == CASES[i].kind, "%s", CASES[i].name);
}
END_TEST

static int make_segment(uint64_t segno, uint64_t system_id)
{
    char path[] = "/tmp/t_walseg.XXXXXX";
    int fd = mkstemp(path);
    uint8_t head[40] = { 0x10, 0xD1, 0x02, 0x00 };
    uint64_t address = segno * WALSEG_SIZE;
    uint32_t size = WALSEG_SIZE;
    ck_assert_int_ge(fd, 0);
    (void)unlink(path);
    memcpy(head + 8, &address, 8);
    memcpy(head + 24, &system_id, 8);
    memcpy(head + 32, &size, 4);
    ck_assert_int_eq(pwrite(fd, head, sizeof(head), 0), sizeof(head));
    ck_assert_int_eq(ftruncate(fd, WALSEG_SIZE), 0);
    return fd;
}

START_TEST(a_segment_must_be_what_its_name_says)
{
    struct err err = ERR_INIT;
    int fd = make_segment(7, 42);
    ck_assert_int_eq(walseg_check(fd, 7, 42, &err), 0);
    ck_assert_int_eq(walseg_check(fd, 7, 0, &err), 0);
    ck_assert_int_eq(walseg_check(fd, 8, 42, &err), -1); /* recycled: another address */
    ck_assert_int_eq(walseg_check(fd, 7, 43, &err), -1); /* another cluster */
    ck_assert_int_eq(pwrite(fd, "x", 1, 1), 1);          /* no magic */
    ck_assert_int_eq(walseg_check(fd, 7, 42, &err), -1);
    close(fd);
    fd = make_segment(7, 42);
    ck_assert_int_eq(ftruncate(fd, WALSEG_SIZE - 1), 0); /* short */
    ck_assert_int_eq(walseg_check(fd, 7, 42, &err), -1);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_int_eq(walseg_check(fd, 7, 42, &err), -1);
    close(fd);
}
END_TEST

/* A directory with segment 2 of timeline 1, a record of `len` bytes at offset `at`. */
static uint64_t end_of(uint32_t at, uint32_t len, int want)
{
    char dir[] = "/tmp/t_walseg.XXXXXX", name[WALSEG_NAME_SIZE], *path, block[65536];
    struct err err = ERR_INIT;
    uint64_t end = 0;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    walseg_name(1, 2, name);
    path = xasprintf("%s/%s", dir, name);
    int from = make_segment(2, 42), to = open(path, O_RDWR | O_CREAT, 0600);
    for (off_t off = 0; off < (off_t)WALSEG_SIZE; off += sizeof(block)) {
        ck_assert_int_eq(pread(from, block, sizeof(block), off), sizeof(block));
        ck_assert_int_eq(pwrite(to, block, sizeof(block), off), sizeof(block));
    }
    ck_assert_int_eq(pwrite(to, &len, sizeof(len), at), sizeof(len));
    ck_assert_int_eq(walseg_record_end(dir, 1, 2 * WALSEG_SIZE + at, &end, &err), want);
    close(from);
    close(to);
    unlink(path);
    rmdir(dir);
    free(path);
    return end - 2 * WALSEG_SIZE;
}

START_TEST(a_record_ends_where_the_next_may_start)
{
    ck_assert_uint_eq(end_of(0x28, 114, 0), 0x28 + 120);   /* a shutdown checkpoint; ends are aligned to 8 */
    ck_assert_uint_eq(end_of(0x28, 8192 - 0x28, 0), 8192); /* fills its page exactly */
    ck_assert_uint_eq(end_of(8192 - 64, 114, 0),
                      8192 + 24 + 50 + 6); /* crosses a page: the header is skipped */
    ck_assert_uint_eq(end_of(0x28, 30000, 0), 0x28 + 30000 + 3 * 24); /* three pages */
    (void)end_of(0x28, 3, -1);                                        /* no record is that short */
    ck_assert_uint_eq(walseg_record_start(WALSEG_SIZE), WALSEG_SIZE + 40);
    ck_assert_uint_eq(walseg_record_start(WALSEG_SIZE + 8192), WALSEG_SIZE + 8192 + 24);
    ck_assert_uint_eq(walseg_record_start(0x1000028), 0x1000028);
}
END_TEST

Suite *t_walseg_suite(void)
{
    Suite *s = suite_create("walseg");
    TCase *t = tcase_create("walseg");
    tcase_add_test(t, names_go_both_ways);
    tcase_add_test(t, only_wal_names_are_wal);
    tcase_add_test(t, a_segment_must_be_what_its_name_says);
    tcase_add_test(t, a_record_ends_where_the_next_may_start);
    suite_add_tcase(s, t);
    return s;
}
