/*
 * conf.h - how a compute is configured: its argv, postgresql.conf, hba and ident files
 *
 * What safety depends on goes on the command line: argv beats postgresql.auto.conf, which is copied with the
 * data and can be written by whoever owns the compute.  The files live outside the data directory and belong
 * to us.
 */
#ifndef MERE_PG_CONF_H
#define MERE_PG_CONF_H

#include "base/arena.h"
#include "base/err.h"
#include "pg/control.h"

#include <jansson.h>

/* Our own superuser in every cluster.  Clients may not log in as it; it comes in by peer authentication only.
 */
#define PG_ADMIN_ROLE "mere_admin"
/* Replication is all it may do; its password is known to followers of the branch. */
#define PG_REPLICA_ROLE "mere_replica"
#define PG_PORT         5432 /* names the socket file only; no compute listens on TCP */

struct pg_conf {
    const char *bindir;      /* of the version */
    const char *data_dir;    /* as the compute sees it */
    const char *archive_dir; /* as the compute sees it */
    const char *wal_tool;    /* mere-wal, as the compute sees it */
    const char *socket_dir;
    const char *conf_dir;  /* where our files lie; readable by the compute */
    const char *os_user;   /* the name mered runs under, for peer */
    bool first_start;      /* of a clone: it recovers, and is not to be read meanwhile */
    bool promoted;         /* with first_start: as a standby, until it is told that it has enough */
    uint32_t fork_tli;     /* with first_start: the timeline it recovers along */
    bool standby;          /* it replays the WAL it has along fork_tli, and serves readers at its end */
    const char *followed;  /* with standby: the WAL directory, as the compute sees it, that it follows on and
                              on  along the newest timeline; NULL = it stays where its WAL ends */
    struct pg_needs needs; /* with standby: what it must have at least */
    bool relaxed;          /* fsync off */
    bool private_shm;      /* /dev/shm is its own and goes with it; else shared memory is kept in the data
                              directory */
    const char *preload;   /* shared_preload_libraries, or "" */
    json_t *settings;      /* checked pg_settings, or NULL */
};

/* Writes postgresql.conf, pg_hba.conf and pg_ident.conf into conf_dir (0644). */
int pg_conf_write(const struct pg_conf *conf, struct err *err) MUST_CHECK;
/* The NULL-terminated argv of postgres, in the arena. */
const char *const *pg_conf_argv(struct arena *a, const struct pg_conf *conf);
/*
 * May this path stand in a compute's configuration as it is?  Its commands pass through a shell and
 * Postgres's own placeholders, its socket directory is one of a list: ERR_INVALID, in one sentence, for a
 * path with a character that means something there.  For every path of struct pg_conf, where the compute sees
 * the machine's own paths.
 */
int pg_conf_check_path(const char *path, struct err *err) MUST_CHECK;
/*
 * Whom a standby that follows receives WAL from: the socket directory of the compute that writes the branch,
 * or NULL while nobody does; it reads this at SIGHUP.  passfile: of PG_REPLICA_ROLE, as the compute sees it.
 */
int pg_conf_write_primary(const char *conf_dir, const char *socket_dir, const char *passfile,
                          struct err *err) MUST_CHECK;
/* As many connections as it will have. */
int64_t pg_conf_max_connections(const struct pg_conf *conf);
/* The path of the socket file. */
const char *pg_conf_socket(struct arena *a, const char *socket_dir);

#endif
