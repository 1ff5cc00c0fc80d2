/*
 * limits.h - who may come in: how often from one address and to one endpoint, and how many at once who have
 * not yet proved who they are
 *
 * Pure data of a fixed size, however many come and whatever they call themselves: what is remembered longest
 * without use makes room.  The loop's thread only.  Time is that of the monotonic clock.
 */
#ifndef MERE_LIMITS_H
#define MERE_LIMITS_H

#include "base/rate.h"

struct limits;
struct meter;

struct limits_config {
    struct rate_limit per_address, per_endpoint;   /* new connections */
    size_t max_unproved, max_unproved_per_address; /* at once */
};

/* Lives inside a client connection. */
struct limits_guest {
    struct meter *address; /* NULL = counted in all alone */
    bool unproved, told;   /* counted as one that was let in; as one that was not, but may come to hear why */
};

enum limits_verdict {
    LIMITS_PASS,
    LIMITS_RATE,    /* too many from its address lately */
    LIMITS_ADDRESS, /* too many from its address that have not proved themselves */
    LIMITS_ALL,     /* the same of all addresses together */
    N_LIMITS_VERDICTS,
};

struct limits *limits_new(const struct limits_config *cfg);
void limits_free(struct limits *l); /* accepts NULL; no guests may be left */

/* A client comes from an address of len bytes; len 0 = from this machine, which the limits of one address are
 * not for.  It counts as unproved from PASS to limits_proved; what was refused counts as nothing. */
enum limits_verdict limits_enter(struct limits *l, struct limits_guest *guest, const void *address,
                                 size_t len, int64_t now_us);
/*
 * One that was refused may come as far as to be told why in a session of its own: libpq does not show what is
 * said before TLS is up.  Only a few, and only so many a second, since that is most of what a session costs.
 */
bool limits_tell(struct limits *l, struct limits_guest *guest, int64_t now_us);
/* It has proved who it is, or is gone.  Fine when it was already. */
void limits_proved(struct limits *l, struct limits_guest *guest);
/* May one more come to the endpoint or branch of this name? */
bool limits_endpoint(struct limits *l, const char *name, int64_t now_us);

#endif
