/*
 * retain.h - what of all history may go: one pure function of rows and the time
 *
 * An image or a segment may go only when no branch, fork point, snapshot or retention window needs it.
 * Everything that holds a place in history is a branch (also snapshots, and what an operation works with), so
 * there are two kinds of need:
 *   a line needs its own WAL and images from the beginning of its window on: the newest image of its own that
 *     was there when the window begins, or the place where it left its parent while there is no such image;
 *   a place where a line left its parent needs the image the branch is cloned from and the WAL from there to
 *     that place, for as long as the branch has not been made, or its own history begins there.
 * Nothing here touches a file or the database.
 */
#ifndef MERE_RETAIN_H
#define MERE_RETAIN_H

#include "base/arena.h"
#include "base/base.h"

#define RETAIN_NONE    SIZE_MAX
#define RETAIN_FOREVER UINT64_MAX

struct retain_image {
    size_t line; /* whose it is; RETAIN_NONE = a template, which always stays */
    uint64_t lsn;
    int64_t taken_us; /* by then its line had come to lsn */
    enum {
        RETAIN_UNSURE, /* being taken: left alone */
        RETAIN_HALF,   /* stays with the branch that is cloned from it, and goes without one */
        RETAIN_READY,
        RETAIN_TRASH,
    } state;
};

struct retain_line {
    size_t parent;         /* RETAIN_NONE = a root */
    uint64_t parent_lsn;   /* where it leaves the parent */
    size_t image;          /* what its history begins with; RETAIN_NONE = it is still being forked */
    uint64_t fork_lsn;     /* its own WAL begins here; 0 = it has none */
    bool made;             /* its own volume is there */
    uint64_t history_from; /* of its own history nothing before this is left; 0 = all of it is there */
    int64_t window_us;     /* since when any moment of it is to be reachable */
};

/* Of a line's own WAL [from, to); to = RETAIN_FOREVER: and all that comes. */
struct retain_range {
    size_t line;
    uint64_t from, to;
};

struct retain_rows {
    const struct retain_line *lines;
    size_t n_lines;
    const struct retain_image *images;
    size_t n_images;
    uint64_t spacing; /* two images of a line with no more WAL than this between them need none in between */
};

struct retain_decision {
    bool *keep_image;            /* beside images */
    uint64_t *from;              /* beside lines: history_from as it is to be */
    size_t *image;               /* beside lines: what its history begins with as it is to be */
    struct retain_range *ranges; /* what of the WAL stays, by line */
    size_t n_ranges;
    size_t *first_range; /* beside lines: where those of a line begin; the next one's end them */
};

void retain_decide(struct arena *a, const struct retain_rows *rows, struct retain_decision *ret);

/*
 * The second look, by another way: from the images and the WAL that stay every fork point that is needed and
 * every window can be reached.  -1 and the first line that cannot; nothing may be done then.
 */
int retain_check(const struct retain_rows *rows, const struct retain_decision *d,
                 size_t *ret_line) MUST_CHECK;

/* Does the segment [at, at + size) of the line's own WAL stay? */
bool retain_segment(const struct retain_decision *d, size_t line, uint64_t at, uint64_t size);

#endif
