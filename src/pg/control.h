/*
 * control.h - reading a cluster's own account of itself: pg_control, timeline history, postmaster.pid
 *
 * Plain file reading, no libpq, any thread.  The files belong to whoever runs the compute: links, fifos and
 * the like in their place are refused, and nothing here waits.  Of pg_control the head is used (up to the
 * settings that a standby needs), which has had one layout in versions 14 to 18; the unit test compares it
 * with what pg_controldata says.
 */
#ifndef MERE_PG_CONTROL_H
#define MERE_PG_CONTROL_H

#include "base/arena.h"
#include "base/err.h"

enum pg_state { /* DBState of catalog/pg_control.h */
                PG_STATE_STARTUP,
                PG_STATE_SHUT_DOWN,
                PG_STATE_SHUT_DOWN_IN_RECOVERY,
                PG_STATE_SHUTTING_DOWN,
                PG_STATE_CRASH_RECOVERY,
                PG_STATE_ARCHIVE_RECOVERY,
                PG_STATE_PRODUCTION,
};

/* What a standby must have at least as much of as the server whose WAL it replays had. */
struct pg_needs {
    uint32_t max_connections, max_worker_processes, max_wal_senders, max_prepared_transactions,
        max_locks_per_transaction;
};
/* Each becomes the larger of the two. */
void pg_needs_raise(struct pg_needs *needs, const struct pg_needs *more);

struct pg_control {
    uint64_t system_id;
    enum pg_state state;
    uint64_t checkpoint; /* where the last checkpoint record starts */
    uint64_t redo;       /* its redo point */
    uint32_t tli;        /* its timeline */
    /* A recovery has to get onto this timeline; 0 = no matter.  It is the server's own, and tli the one it
     * came from, between a promotion and the next checkpoint. */
    uint32_t min_recovery_tli;
    struct pg_needs needs;
};

/* ERR_UNAVAILABLE: it is just being written (its checksum does not fit, again and again); read it later. */
int pg_control_read(const char *pgdata, struct pg_control *ret, struct err *err) MUST_CHECK;

/* The last line of 0000000N.history: where timeline tli left its parent.  ERR_NOT_FOUND when there is no such
 * file. */
int pg_history_read(const char *pg_wal, uint32_t tli, uint32_t *ret_parent_tli, uint64_t *ret_switch_lsn,
                    struct err *err) MUST_CHECK;

/* In the data directory, before a SIGUSR1 to the postmaster: a standby becomes a primary once it has replayed
 * all it has. */
#define PG_PROMOTE_FILE "promote"

enum pg_status { PG_STATUS_NONE, PG_STATUS_STARTING, PG_STATUS_STOPPING, PG_STATUS_STANDBY, PG_STATUS_READY };
/* The status line (8th) of postmaster.pid; *ret_pid from the first line.  PG_STATUS_NONE when absent or still
 * incomplete. */
enum pg_status pg_status_read(const char *pgdata, int64_t *ret_pid);

#endif
