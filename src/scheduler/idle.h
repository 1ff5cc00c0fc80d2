/*
 * idle.h - when is a compute idle?  A pure function of what Postgres says, the clock and the endpoint's
 * timeout
 *
 * Activity, not open connections (the rules Neon documents): the sums of sessions or active_time of users'
 * databases changed, a client backend is in any state but idle, an idle one was busy since, a replication
 * connection or a subscription worker, an autovacuum worker.
 */
#ifndef MERE_IDLE_H
#define MERE_IDLE_H

#include "pg/admin.h"

struct idle {
    bool seen; /* `last` holds an earlier look */
    struct pg_activity last;
    int64_t active_us; /* wall time of the last activity known */
};

void idle_begin(struct idle *i, int64_t now_us);
/* Takes in a look; returns whether it shows something going on right now or since the last look. */
bool idle_update(struct idle *i, const struct pg_activity *look, int64_t now_us);
/* Milliseconds until it has been idle for the timeout; 0 = it has. timeout_ms < 0 = never: INT64_MAX. */
int64_t idle_due_ms(const struct idle *i, int64_t timeout_ms, int64_t now_us);
/* How long until the next look is worth while: often enough for the timeout, rarely enough to cost nothing.
 */
int64_t idle_look_ms(int64_t timeout_ms, int64_t due_ms);

#endif
