/*
 * materialise.h - a volume for a branch, and the proof that it became what was promised
 */
#ifndef MERE_MATERIALISE_H
#define MERE_MATERIALISE_H

#include "branch/env.h"
#include "meta/branch.h"
#include "meta/image.h"
#include "pg/admin.h"
#include "pg/control.h"

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

/*
 * The same for a branch that is only looked at: a standby which replays up to fork_lsn and serves readers
 * there.  It writes nothing that anybody may need, so each start gets a volume made anew, and the row's
 * volume is never `ready`.  ret_needs: what its settings must not be below, or Postgres would stop halfway.
 */
int materialise_moment(const struct env *env, struct arena *a, struct branch *b, struct pg_needs *ret_needs,
                       struct err *err) MUST_CHECK;
/* Waits until it has replayed all there is, which must end at exactly fork_lsn: Postgres lets readers in as
 * soon as its pages fit together, and that may be before. */
int materialise_verify_moment(const struct branch *b, struct pg_admin *admin, int timeout_ms,
                              struct err *err) MUST_CHECK;

/*
 * A standby that follows the branch, which may run beside it: on a volume of its own, made anew at each start
 * from the newest image, whatever the branch was restored to since.  ret_least: how far it has to have
 * replayed before it shows a state that the branch has been in, and all that was committed before the branch
 * last stopped.
 */
int materialise_follower(const struct env *env, struct arena *a, const struct branch *b,
                         const char *volume_id, struct pg_needs *ret_needs, uint64_t *ret_least,
                         struct err *err) MUST_CHECK;
/* Waits until it has replayed all there is for now. */
int materialise_verify_follower(uint64_t least, struct pg_admin *admin, int timeout_ms,
                                struct err *err) MUST_CHECK;

/* Volume, WAL, lock file and logs of a branch that is being deleted; idempotent.  The caller holds the lock
 * (or nothing runs). */
int materialise_remove(const struct env *env, const char *volume_id, struct err *err) MUST_CHECK;

#endif
