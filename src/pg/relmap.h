/*
 * relmap.h - what can be known of the shared catalogs without asking a server
 *
 * Plain file reading, no libpq, any thread.  The files belong to whoever runs the compute.
 */
#ifndef MERE_PG_RELMAP_H
#define MERE_PG_RELMAP_H

#include "base/base.h"

/* May this cluster, which has no recovery before it, hold a logical subscription?  False only when the
 * catalog never had one, or was emptied and truncated since: a false alarm costs a session, a miss would let
 * a branch take what its parent was sent. */
bool pg_may_have_subscriptions(const char *pgdata);

#endif
