/*
 * materialise.h - a volume for a branch, and the proof that it became what was promised
 */
#ifndef MERE_MATERIALISE_H
#define MERE_MATERIALISE_H

#include "branch/env.h"
#include "meta/branch.h"
#include "meta/image.h"

/*
 * The branch's volume and WAL directory are there and linked to each other.  A branch whose volume is not
 * `ready` gets a new one cloned from its image, whatever an earlier attempt left: nobody has been told of it
 * before its first start was verified.  The caller holds the branch's lock.  *ret_first: this will be a first
 * start, to be verified.  b's volume, fork_tli and fork_lsn are brought up to date.
 */
int materialise(const struct env *env, struct arena *a, struct branch *b, bool *ret_first,
                struct err *err) MUST_CHECK;

/*
 * After a first start, when the server says it accepts connections: it is on a new timeline that left
 * fork_tli at exactly fork_lsn (or at the first place after it where a record can start).  A hole in the WAL
 * would otherwise go unseen: the server recovers up to it, promotes and answers.  *ret_tli: the new timeline.
 */
int materialise_verify(const struct env *env, struct arena *a, const struct branch *b, uint32_t *ret_tli,
                       struct err *err) MUST_CHECK;

/* Volume, WAL, lock file and logs of a branch that is being deleted; idempotent.  The caller holds the lock
 * (or nothing runs). */
int materialise_remove(const struct env *env, const char *volume_id, struct err *err) MUST_CHECK;

#endif
