/*
 * capture.h - taking an image: an immutable volume that is a branch as of one known LSN
 *
 * Three methods and no others; each hand-made order of copying was measured to give clusters that start and
 * are silently wrong:
 *
 *   cold      the compute is stopped, its lock is held by the caller, its control file says "shut down"
 *   snapshot  one atomic file-system snapshot of a running branch's data, then a marker in the WAL: all of
 *             [redo(snapshot), marker] is kept beside it.  Every page in the snapshot has its WAL below the
 *             marker, because the marker is written after.  What is in the snapshot is the state of a power
 *             cut: the order of synced writes.
 *   backup    backup mode with its label, where the file system has no atomic snapshot, or the branch does
 *             not sync
 *
 * The row of an image is its hold: it is there (state taking) before anything is read.  Called from jobs;
 * each step may be repeated.
 */
#ifndef MERE_CAPTURE_H
#define MERE_CAPTURE_H

#include "branch/env.h"
#include "meta/branch.h"
#include "meta/image.h"
#include "pg/admin.h"

/* A stopped branch.  The image is ready and the branch's head_lsn is set when this returns 0: at ret->lsn, or
 * behind it when nothing but starting and stopping lies between.  An image that is there already is found
 * again. */
int capture_cold(const struct env *env, struct arena *a, const struct branch *b, struct image *ret,
                 struct err *err) MUST_CHECK;

/*
 * A running branch, through our session in it.  When it returns 0 the data is safe and ret->lsn is the fork
 * point: exactly what was acknowledged before the call and nothing after ret->lsn.  Where much WAL lies
 * behind the last checkpoint another is ordered first, so that who starts the branch replays little; it is
 * waited for some seconds at most.  The row is still `taking`: the caller makes it `snapped` in the same
 * transaction that records the fork, then calls capture_complete().
 */
int capture_running(const struct env *env, struct arena *a, const struct branch *b, struct pg_admin *admin,
                    struct image *ret, struct err *err) MUST_CHECK;
/* The same for an image that no branch waits for, without the checkpoint: its place is noted, but it stays
 * `taking` until capture_complete has made it ready, so that after a crash nothing is left of it. */
int capture_background(const struct env *env, struct arena *a, const struct branch *b, struct pg_admin *admin,
                       struct image *ret, struct err *err) MUST_CHECK;
/* Brings the WAL beside an image and makes it ready; nothing to do for a ready one.  Whoever comes while it
 * is under way waits for it. */
int capture_complete(const struct env *env, struct arena *a, const char *image_id,
                     struct err *err) MUST_CHECK;

/* Has it been completed? */
int capture_carries_wal(const struct env *env, struct arena *a, const char *image_id, bool *ret,
                        struct err *err) MUST_CHECK;
/*
 * The WAL that an image will carry once it is complete, straight from the branch that it is of into dir, for
 * who cannot wait.  History may not be swept meanwhile.
 */
int capture_place_wal(const struct env *env, struct arena *a, const char *image_id, const char *dir,
                      struct err *err) MUST_CHECK;
/* Forgets an image that did not come to be: volume to trash, row gone. */
int capture_discard(const struct env *env, const char *image_id, struct err *err) MUST_CHECK;

/* Where a cleanly stopped cluster's WAL ends.  ERR_PRECONDITION when it was not shut down cleanly. */
int capture_head(const struct env *env, const char *volume_id, uint64_t *ret_redo, uint64_t *ret_head,
                 uint32_t *ret_tli, uint64_t *ret_system_id, struct err *err) MUST_CHECK;

#endif
