/*
 * claim.h - who is busy with which volume (for store.c only)
 *
 * A claim is shared (reading: many at once) or exclusive.  All claims of one call are taken together, so
 * calls that need two volumes cannot wait for each other in a circle.  Any thread; never held across anything
 * but one call of store.h.
 */
#ifndef MERE_CLAIM_H
#define MERE_CLAIM_H

#include <pthread.h>

#include "base/base.h"

struct claim {
    const char *id;
    bool exclusive;
    struct claim *next; /* private */
};

struct claims {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct claim *held;
};

void claims_init(struct claims *all);
void claims_fini(struct claims *all); /* none is held any more */

/* Waits until all n can be had at once.  The array stays where it is until claims_drop. */
void claims_take(struct claims *all, struct claim *c, size_t n);
void claims_drop(struct claims *all, struct claim *c, size_t n);

#endif
