/*
 * diff.h - how two texts differ, as a unified diff
 *
 * Lines and three lines around each change, in the form that `diff -u` writes and `patch` reads.  The diff is
 * the shortest there is unless that would take long: then it is a longer one that is right all the same.
 */
#ifndef MERE_DIFF_H
#define MERE_DIFF_H

#include "base/buf.h"
#include "base/err.h"

#define DIFF_LINES_MAX 1000000 /* of either text */

/*
 * Appends to ret what turns old into new; nothing when they are equal.  The names stand in its first two
 * lines (what is no printable character in them becomes '?').  ERR_TOO_LARGE for more lines than
 * DIFF_LINES_MAX.
 */
int diff_unified(const struct buf *old, const char *old_name, const struct buf *new, const char *new_name,
                 struct buf *ret, struct err *err) MUST_CHECK;

#endif
