/*
 * walread.h - reading WAL records in order, from the segment files of one line of history
 *
 * Each record is checked as recovery checks it (page addresses, back link, CRC), so that where this reader
 * ends is where recovery would end, and bytes that were changed on disk are seen before anything is made of
 * them.  The layout (access/xlogrecord.h, xlog_internal.h) is that of versions 14 to 18.  Pure file
 * knowledge: which file holds a segment is the caller's to say.
 */
#ifndef MERE_PG_WALREAD_H
#define MERE_PG_WALREAD_H

#include "base/err.h"
#include "pg/control.h"

struct walread;

/*
 * Opens the segment: 1 and a descriptor that the reader will close, 0 when there is none, -1 with err.
 * ret_name: what to call it in a message, valid until the next call.
 */
typedef int walread_open_fn(void *arg, uint64_t segno, int *ret_fd, const char **ret_name, struct err *err);

struct walrec {
    uint64_t start; /* where it begins */
    uint64_t end;   /* where the next one may begin (its page header not counted) */
    uint8_t rmid, info;
    int64_t stamp_us; /* of a commit or abort: its time, microseconds since 1970; 0 = not one of these */
    bool commit;      /* with stamp_us: it is a commit */
};

/* Written by a server that is started and stopped, or that only reads: it changes nothing anybody could ask
 * for (hint bits are found again by whoever looks). */
bool walrec_is_quiet(const struct walrec *rec);

/* start: where a record begins (a redo point, the end of a record).  Ends with walread_close. */
struct walread *walread_new(walread_open_fn *open, void *arg, uint64_t start);
void walread_close(struct walread *r); /* accepts NULL */
#define auto_walread CLEANUP(walread_closep) struct walread
void walread_closep(struct walread **r);

/* 1: the next record.  0: there is no further whole and valid record: walread_why() says what stands there
 * instead.  -1: I/O. */
int walread_next(struct walread *r, struct walrec *ret, struct err *err) MUST_CHECK;
/* After 0: the segment and what is wrong in it ("00000002…0A: the WAL ends at 0/A01238"). */
const char *walread_why(const struct walread *r);
/* The most that a server which wrote the records read so far said it has: what a standby needs to replay
 * them. */
const struct pg_needs *walread_needs(const struct walread *r);
/* Where the next record would begin. */
uint64_t walread_at(const struct walread *r);

#endif
