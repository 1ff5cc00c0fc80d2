/*
 * moment.h - a branch at an LSN or at a time, resolved once to a place in its history
 *
 * A time means the LSN of the first commit or abort record stamped after it, or the head when there is none.
 * Called from requests; may ask the running compute where its WAL ends and read WAL files, so never inside a
 * transaction.
 */
#ifndef MERE_MOMENT_H
#define MERE_MOMENT_H

#include "base/arena.h"
#include "meta/branch.h"

struct sched;

/* What can be reached; times of the oldest and of the newest commit in it. */
struct moment_window {
    uint64_t earliest_lsn, latest_lsn;
    int64_t earliest_us, latest_us;
};

enum moment_kind { /* where a time lies among the commits that are there */
                   MOMENT_PRESENT,
                   MOMENT_PAST,    /* before the first */
                   MOMENT_FUTURE,  /* after the last: the head */
                   MOMENT_NO_DATA, /* there is none */
};
const char *moment_kind_name(enum moment_kind k);

struct moment {
    uint64_t lsn;          /* as asked, or what the time means */
    int64_t time_us;       /* as asked, or when the newest commit before the LSN was */
    const char *branch_id; /* of which branch */
    const char *image_id;  /* what a branch of this moment begins with */
    enum moment_kind kind;
};

/*
 * While somebody holds it no history goes away: from before rows are read until what is found is held by a
 * row of its own.  It lives no longer than a request, so it is a lock and not a row.  May be nested; not
 * inside a transaction.
 */
struct sched *moment_hold(struct sched *s);
void moment_releasep(struct sched **s); /* NULL is fine */
#define auto_moment __attribute__((cleanup(moment_releasep))) struct sched

/*
 * Exactly one of lsn and time_us is not 0.  pointer: the member at fault for ERR_INVALID, which carries
 * earliest_lsn, latest_lsn and their times.  pointer NULL: only a question: a time outside of
 * what can be reached is not refused, the nearest place is told, and a running compute is not written to.
 */
int moment_resolve(struct sched *s, struct arena *a, const struct branch *b, uint64_t lsn, int64_t time_us,
                   const char *pointer, struct moment *ret, struct err *err) MUST_CHECK;

/* The head as it is now; its time is now. */
int moment_head(struct sched *s, struct arena *a, const struct branch *b, struct moment *ret,
                struct err *err) MUST_CHECK;
/*
 * The place that a bookmark of the branch names: for a held one however old it is, else as moment_resolve.
 * pointer: the member at fault for ERR_NOT_FOUND and ERR_INVALID, or NULL.
 */
int moment_of_bookmark(struct sched *s, struct arena *a, const struct branch *b, const char *name,
                       const char *pointer, struct moment *ret, struct err *err) MUST_CHECK;

#endif
