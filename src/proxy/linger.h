/*
 * linger.h - a backend that is on its way out keeps its seat
 *
 * When a client leaves, its backend still counts against max_connections until it has ended; a seat given
 * away before that would be answered "too many clients".  The backend closes its end after it has given its
 * slot back: until then the seat stays taken.  The loop's thread only.
 */
#ifndef MERE_LINGER_H
#define MERE_LINGER_H

#include "proxy/door.h"
#include "proxy/stream.h"

struct lingers;

struct lingers *lingers_new(struct loop *l);
void lingers_free(struct lingers *all); /* accepts NULL; frees the seats too */
/* Takes the server's stream and the guest's seat over: no more is sent, what still comes is dropped. */
void linger(struct lingers *all, struct stream *server, struct door_guest *guest);

#endif
