/*
 * sweep.h - history that nothing needs any more goes
 *
 * Two steps.  The decision is one transaction: what goes is marked in the rows, so that from its commit on
 * nobody is given any of it.  Then the files go; that may be interrupted anywhere and is done again by the
 * next sweep.  Nothing else removes WAL or images.  Called from a worker, one at a time.
 */
#ifndef MERE_SWEEP_H
#define MERE_SWEEP_H

#include "branch/env.h"
#include "branch/retain.h"
#include "meta/branch.h"
#include "meta/image.h"

struct sweep_plan {
    struct branch_line *lines;
    struct image *images;
    struct retain_rows rows;
    struct retain_decision decision;
};

/* The caller keeps everybody away who reads history by rows that were read before; see moment_hold(). */
int sweep_decide(const struct env *env, struct arena *a, struct sweep_plan *ret, struct err *err) MUST_CHECK;
int sweep_carry_out(const struct env *env, struct arena *a, const struct sweep_plan *plan,
                    struct err *err) MUST_CHECK;

#endif
