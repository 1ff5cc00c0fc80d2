/*
 * walseg.h - WAL segment files: names, headers, record ends
 *
 * Pure file knowledge, no libpq; linked into mere-wal too, so it uses little of base.  Segments are 1 MB in
 * clusters we create.
 */
#ifndef MERE_PG_WALSEG_H
#define MERE_PG_WALSEG_H

#include "base/err.h"

#define WALSEG_SIZE      ((uint64_t)1 << 20)
#define WALSEG_PAGE      8192
#define WALSEG_NAME_SIZE 25 /* 24 hex digits and NUL */

enum walseg_kind { WALSEG_SEGMENT, WALSEG_PARTIAL, WALSEG_HISTORY, WALSEG_BACKUP, WALSEG_OTHER };

/* What a file of pg_wal is by its name.  For segments and partials *ret_tli and *ret_segno are set. */
enum walseg_kind walseg_parse(const char *name, uint32_t *ret_tli, uint64_t *ret_segno);
void walseg_name(uint32_t tli, uint64_t segno, char out[WALSEG_NAME_SIZE]);
static inline uint64_t walseg_no(uint64_t lsn)
{
    return lsn / WALSEG_SIZE;
}

/*
 * Is this open file what its name says: full size, WAL magic, page address of the segment's start, system
 * identifier (0 = not checked)?  ERR_INVALID says what is wrong.
 */
int walseg_check(int fd, uint64_t segno, uint64_t system_id, struct err *err) MUST_CHECK;

/* Do the pages in its first `bytes` say that they are of this segment (or are empty, behind a switch)?  A
 * live segment may have been recycled while it was read. */
int walseg_check_pages(int fd, uint64_t segno, uint64_t bytes, struct err *err) MUST_CHECK;

/* Where the record that starts at lsn ends (the LSN the next one may start at), read from the segment in dir.
 */
int walseg_record_end(const char *dir, uint32_t tli, uint64_t lsn, uint64_t *ret_end,
                      struct err *err) MUST_CHECK;
/* The first place at or after lsn where a record can start: lsn itself, or past the page header when lsn is a
 * page boundary. */
uint64_t walseg_record_start(uint64_t lsn);

#endif
