/*
 * stamp.h - when the newest commit of an image was, so that a time finds an image to begin reading at
 */
#ifndef MERE_STAMP_H
#define MERE_STAMP_H

#include "branch/env.h"

/*
 * Reads the WAL between the oldest ready image whose stamp is not known and the one before it in its line,
 * and notes the stamp.  *ret_found false: there is none to read.  One whose WAL is missing or damaged is
 * marked, so that it is not read again, and err names the segment.  A job: nobody waits for it.
 */
int stamp_next(const struct env *env, struct arena *a, bool *ret_found, struct err *err) MUST_CHECK;

#endif
