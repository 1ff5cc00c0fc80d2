/*
 * t_walread.c - WAL records in order: over pages and segments, behind switches, given-up records, and every
 * kind of end
 */
#include "pg/walread.h"

#include "wal_bed.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Suite *t_walread_suite(void);

static int open_made(void *arg, uint64_t segno, int *ret_fd, const char **ret_name, struct err *err)
{
    static char name[32];
    (void)arg, (void)err;
    snprintf(name, sizeof(name), "segment-%u", (unsigned)segno);
    *ret_name = name;
    if (segno < FIRST || segno >= FIRST + N_SEGMENTS || absent[segno - FIRST])
        return 0;
    *ret_fd = memfd_create("wal", MFD_CLOEXEC);
    ck_assert_int_eq(write(*ret_fd, wal[segno - FIRST], WALSEG_SIZE), (ssize_t)WALSEG_SIZE);
    return 1;
}

/* Reads from the first record on; how many there were. */
static size_t read_all(uint64_t *ret_at, char why[256], struct walrec *last)
{
    auto_walread *r = walread_new(open_made, NULL, FIRST * WALSEG_SIZE + 40);
    struct err err = ERR_INIT;
    size_t n = 0;
    int rc;
    while ((rc = walread_next(r, last, &err)) > 0)
        n++;
    ck_assert_int_eq(rc, 0);
    *ret_at = walread_at(r);
    snprintf(why, 256, "%s", walread_why(r));
    return n;
}

START_TEST(records_over_pages_and_segments)
{
    struct walrec last;
    uint64_t end;
    char why[256];
    begin();
    size_t n = 0;
    for (uint32_t len = 0; at < (FIRST + 2) * WALSEG_SIZE + 100000; len = (len * 7 + 13) % 30000, n++)
        (void)add(len);
    uint64_t start = add_xact(0x00, 1700000000123456);
    ck_assert_uint_eq(read_all(&end, why, &last), n + 1);
    ck_assert_uint_eq(end, at);
    ck_assert_uint_eq(last.start, start);
    ck_assert_uint_eq(last.end, at);
    ck_assert_int_eq(last.stamp_us, 1700000000123456);
    ck_assert(last.commit);
    ck_assert_msg(strstr(why, "segment-7") && strstr(why, "the WAL ends"), "%s", why);
}
END_TEST

START_TEST(a_record_that_fills_its_page)
{
    struct walrec last;
    uint64_t end;
    char why[256];
    begin();
    (void)add(WALSEG_PAGE - 40 - 24);
    ck_assert_uint_eq(at % WALSEG_PAGE, 0);
    uint64_t start = add(8);
    ck_assert_uint_eq(start % WALSEG_PAGE, 24);
    ck_assert_uint_eq(read_all(&end, why, &last), 2);
    ck_assert_uint_eq(last.start, start);
}
END_TEST

START_TEST(aborts_and_others)
{
    struct walrec last;
    uint64_t end;
    char why[256];
    begin();
    (void)add_xact(0x20, 1700000000000000);
    (void)read_all(&end, why, &last);
    ck_assert(last.stamp_us == 1700000000000000 && !last.commit);
    (void)add_xact(0x50, 1700000000000000); /* an assignment has no time */
    (void)read_all(&end, why, &last);
    ck_assert_int_eq(last.stamp_us, 0);
    (void)add(100);
    (void)read_all(&end, why, &last);
    ck_assert_int_eq(last.stamp_us, 0);
}
END_TEST

START_TEST(behind_a_switch_comes_the_next_segment)
{
    struct walrec last;
    uint64_t end;
    char why[256];
    begin();
    (void)add(100);
    (void)add_bytes(0, 0x40, (const uint8_t *)"", 0);
    at = (FIRST + 1) * WALSEG_SIZE;
    uint64_t start = add(100);
    ck_assert_uint_eq(read_all(&end, why, &last), 3);
    ck_assert_uint_eq(last.start, start);
}
END_TEST

/* The server went down in the middle of a record; the next life writes on where the rest would have been. */
START_TEST(a_record_that_was_given_up)
{
    struct walrec last;
    uint64_t end;
    char why[256];
    begin();
    (void)add(100);
    uint64_t whole = prev;
    (void)add(20000);
    prev = whole;
    at = start_page(at - at % WALSEG_PAGE - WALSEG_PAGE, 8, 0);
    uint64_t start = add(100);
    (void)add(100);
    ck_assert_uint_eq(read_all(&end, why, &last), 3);
    ck_assert_uint_eq(last.end, at);
    (void)start;
}
END_TEST

START_TEST(quiet_is_what_a_start_and_a_stop_write)
{
    static const struct {
        uint8_t rmid, info;
        bool quiet;
    } RECORDS[] = {
        { 0, 0x00, true },   { 0, 0x10, true },
        { 0, 0x40, true },   { 0, 0xA0, true }, /* a hint that was set */
        { 8, 0x10, true },   { 8, 0x00, false },
        { 0, 0x30, false },  { 0, 0xB0, false }, /* a page of an index */
        { 1, 0x00, false },  { 1, 0x20, false },
        { 10, 0x00, false }, { 21, 0x00, false }, /* a message */
    };
    for (size_t i = 0; i < N_ELEMENTS(RECORDS); i++)
        ck_assert_msg(walrec_is_quiet(&(struct walrec){ .rmid = RECORDS[i].rmid, .info = RECORDS[i].info }) ==
                          RECORDS[i].quiet,
                      "record %zu", i);
}
END_TEST

static void spoil(size_t n_whole, const char *what)
{
    struct walrec last;
    uint64_t end;
    char why[256];
    size_t n = read_all(&end, why, &last);
    ck_assert_msg(n == n_whole && strstr(why, what), "%zu records, %s", n, why);
}

START_TEST(every_kind_of_damage_ends_it)
{
    uint64_t third;
    for (int kind = 0; kind < 7; kind++) {
        begin();
        (void)add(100);
        (void)add(100);
        third = add(20000);
        (void)add(100);
        uint64_t page = third - third % WALSEG_PAGE + WALSEG_PAGE;
        switch (kind) {
        case 0:
            byte_of(third + 24 + 50)[0] ^= 4;
            spoil(2, "wrong checksum");
            break;
        case 1:
            byte_of(third + 8)[0] ^= 4;
            spoil(2, "does not follow");
            break;
        case 2:
            memset(byte_of(third), 0, 4);
            spoil(2, "the WAL ends");
            break;
        case 3:
            memset(byte_of(third), 0xFF, 4);
            spoil(2, "no valid record");
            break;
        case 4:
            byte_of(page + 8)[0] ^= 8; /* a page of another place, as in a recycled segment */
            spoil(2, "no page of this address");
            break;
        case 5:
            byte_of(page + 16)[0] ^= 1;
            spoil(2, "the rest of the record is not there");
            break;
        case 6:
            absent[0] = true;
            spoil(0, "the segment is missing");
            break;
        }
    }
}
END_TEST

START_TEST(a_segment_that_is_missing_in_between)
{
    begin();
    size_t n = 0;
    while (at < (FIRST + 1) * WALSEG_SIZE - 5000) {
        (void)add(4000);
        n++;
    }
    (void)add(9000); /* goes on in the next segment */
    absent[1] = true;
    spoil(n, "segment-6: the segment is missing");
}
END_TEST

Suite *t_walread_suite(void)
{
    Suite *s = suite_create("walread");
    TCase *t = tcase_create("walread");
    tcase_add_test(t, records_over_pages_and_segments);
    tcase_add_test(t, a_record_that_fills_its_page);
    tcase_add_test(t, aborts_and_others);
    tcase_add_test(t, behind_a_switch_comes_the_next_segment);
    tcase_add_test(t, a_record_that_was_given_up);
    tcase_add_test(t, quiet_is_what_a_start_and_a_stop_write);
    tcase_add_test(t, every_kind_of_damage_ends_it);
    tcase_add_test(t, a_segment_that_is_missing_in_between);
    suite_add_tcase(s, t);
    return s;
}
