/*
 * lag.h - how far a read-only endpoint lies behind its branch
 *
 * Called from requests: asks the two computes, so never inside a transaction.
 */
#ifndef MERE_LAG_H
#define MERE_LAG_H

#include "meta/endpoint.h"

struct sched;

struct lag {
    bool known;          /* it follows a branch, and runs */
    uint64_t replay_lsn; /* what it shows */
    int64_t bytes;       /* of WAL that the branch has beyond that */
    int64_t us;          /* with bytes: since the last commit it shows; else 0 */
};

/* An endpoint whose lag cannot be told right now, because one of the two is about to stop, has none that is
 * known. */
void lag_measure(struct sched *s, struct arena *a, const struct endpoint *e, struct lag *ret);

#endif
