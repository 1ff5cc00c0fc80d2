/*
 * deadline.h - connections that take too long are cut off
 *
 * The HTTP library closes what is silent; a client that sends or takes one byte at a time is never silent.  A
 * deadline is absolute: when it passes, the socket is shut down, and the library sees the end of it.  Owns
 * one thread.  Any thread may call.
 */
#ifndef MERE_DEADLINE_H
#define MERE_DEADLINE_H

#include "base/err.h"

struct deadlines;
struct deadline;

int deadlines_start(struct deadlines **ret, struct err *err) MUST_CHECK;
void deadlines_stop(struct deadlines *d); /* all deadlines must be deleted; accepts NULL */

/* The descriptor is borrowed and must stay open until deadline_del(). */
struct deadline *deadline_add(struct deadlines *d, int fd, int64_t in_ms);
void deadline_set(struct deadline *one, int64_t in_ms); /* 0 = none; accepts NULL */
void deadline_del(struct deadline *one);                /* accepts NULL */

#endif
