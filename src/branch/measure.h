/*
 * measure.h - how much space branches take
 *
 * In a worker, one branch a call: extents are looked at file by file, which is slow where there are many.
 */
#ifndef MERE_MEASURE_H
#define MERE_MEASURE_H

#include "branch/env.h"

/* Measures one whose size is not known any more; *ret_found false when there is none. */
int measure_next(const struct env *env, struct arena *a, bool *ret_found, struct err *err) MUST_CHECK;

#endif
