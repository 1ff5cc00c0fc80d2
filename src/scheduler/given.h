/*
 * given.h - what a client has set of a resource, as it set it: one flat JSON object, kept as text
 *
 * Members of a resource that nobody set are not in it.  NULL is an empty one.  Pure; results live in the
 * arena.
 */
#ifndef MERE_GIVEN_H
#define MERE_GIVEN_H

#include "base/arena.h"
#include "base/base.h"

/* With the members of `more`; one that is null there is set no more. */
const char *given_merge(struct arena *a, const char *given, const char *more);
/* The same members with the same values. */
bool given_equal(const char *given, const char *other);
/* Has both of them this member, with the same value? */
bool given_again(const char *given, const char *other, const char *name);
/* Is this member set? */
bool given_has(const char *given, const char *name);

#endif
