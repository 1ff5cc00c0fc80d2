/*
 * history.h - the WAL of a branch and of its ancestors as one line, and what a place in it means
 *
 * The line of a branch is its own WAL from where it left its parent, before that the parent's, and so on down
 * to the template.  Which file holds a segment follows from rows alone: siblings share system identifier,
 * timeline numbers and so file names, and a file is never used because of its name.
 */
#ifndef MERE_HISTORY_H
#define MERE_HISTORY_H

#include "branch/env.h"
#include "meta/branch.h"
#include "meta/image.h"
#include "pg/control.h"

struct history_piece {
    const char *volume_id; /* whose WAL directory */
    uint32_t tli;
    uint64_t from; /* from here to where the next piece begins */
};

/* The state of a branch at `lsn` is `image` and the WAL from image.lsn to lsn. */
struct history {
    const struct env *env;
    struct image image;
    struct history_piece *pieces; /* oldest first, the first holds image.lsn; none when image.lsn is lsn */
    size_t n;
    uint64_t lsn;
};

/* A record boundary. */
struct history_place {
    uint64_t lsn;          /* the first place at or after the one asked for where a record can begin */
    int64_t stamp_us;      /* the largest stamp of a commit or abort before it in the whole line; 0 = there is
                              none; only of what was read when the image's own is not known */
    struct pg_needs needs; /* of a standby that replays from the image to here */
};

/* image_id: the image to begin with (the one that a branch holds); NULL = the newest that will do.  lsn must
 * not be beyond the branch's head.  ERR_INTERNAL when no image is there to begin with. */
int history_find(const struct env *env, struct dbc *c, struct arena *a, const struct branch *b, uint64_t lsn,
                 const char *image_id, struct history *ret, struct err *err) MUST_CHECK;
/*
 * The same, beginning with the newest image before which nothing is stamped after t_us, however the stamps
 * run: what a time means can be read from there.  INT64_MAX: with the newest whose stamp_us is known.
 */
int history_find_time(const struct env *env, struct dbc *c, struct arena *a, const struct branch *b,
                      uint64_t lsn, int64_t t_us, struct history *ret, struct err *err) MUST_CHECK;
/* The oldest place that can be reached, and when it was. */
int history_earliest(struct dbc *c, struct arena *a, const struct branch *b, uint64_t *ret_lsn,
                     int64_t *ret_time_us, struct err *err) MUST_CHECK;

/* Whose file holds this segment, of those between the image and h->lsn (which are not the same place): where
 * two pieces meet in it, the later one's holds what both wrote. */
const struct history_piece *history_piece_of(const struct history *h, uint64_t segno);
/* The timeline of h->lsn. */
uint32_t history_tli(const struct history *h);

/* Reads from the image to h->lsn and says where that is.  ERR_INTERNAL names the segment that is missing or
 * not as it was written. */
int history_locate(const struct history *h, struct history_place *ret, struct err *err) MUST_CHECK;
/* The place of the first commit or abort stamped after t_us; h->lsn when there is none up to there. */
int history_locate_time(const struct history *h, int64_t t_us, struct history_place *ret,
                        struct err *err) MUST_CHECK;
/* Where the valid WAL ends, from the image on: the head of a branch that was not shut down cleanly.
 * ERR_INTERNAL when more of it is kept than can be read. */
int history_end(const struct history *h, uint64_t *ret, struct err *err) MUST_CHECK;

/* Does nothing but starting, stopping and reading lie between `from` (a record boundary of h) and h->lsn?
 * ERR_INTERNAL as history_locate. */
int history_is_quiet(const struct history *h, uint64_t from, bool *ret, struct err *err) MUST_CHECK;
/* The end of the last record that is whole at h->lsn, which may be anywhere in what is on disk by now.
 * ERR_INTERNAL as history_end. */
int history_floor(const struct history *h, uint64_t *ret, struct err *err) MUST_CHECK;

/*
 * Completes the WAL in dir (which holds what the image carries) up to h->lsn: whole segments, read back and
 * checked record by record, zeros behind the end, so that recovery ends exactly at *ret.  ERR_INTERNAL as
 * history_locate.
 */
int history_gather(const struct history *h, const char *dir, struct history_place *ret,
                   struct err *err) MUST_CHECK;

#endif
