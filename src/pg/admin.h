/*
 * admin.h - our own superuser session in a compute (libpq, with deadlines)
 *
 * A session belongs to one compute; its calls are serialised inside, from any worker thread, and each has a
 * deadline, so a hung server cannot hold a worker for ever.  We connect to the database "postgres", which no
 * user owns, with search_path=pg_catalog, and never run anything a user made.  The one exception reads the
 * catalogue of a user's database, and what its owner has set for it does not count there.
 */
#ifndef MERE_PG_ADMIN_H
#define MERE_PG_ADMIN_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "pg/conf.h"

struct pg_admin;

int pg_admin_open(const char *socket_dir, int timeout_ms, struct pg_admin **ret, struct err *err) MUST_CHECK;
/*
 * In a database of a user, to read its catalogue or for what can be done nowhere else.  What is set for all
 * who come there may be nobody's name but ours and nothing that changes how things are written; the options
 * beat it.
 */
#define PG_FOREIGN_DATABASE_OPTIONS                                                                          \
    "-c session_authorization=" PG_ADMIN_ROLE " -c role=none -c quote_all_identifiers=off -c timezone=UTC"
int pg_admin_open_database(const char *socket_dir, const char *database, int timeout_ms,
                           struct pg_admin **ret, struct err *err) MUST_CHECK;
void pg_admin_close(struct pg_admin *p); /* accepts NULL */

/* The one value of a statement that reads; ERR_TOO_LARGE when it is longer. */
int pg_admin_text(struct pg_admin *p, const char *sql, size_t max_bytes, struct buf *ret,
                  struct err *err) MUST_CHECK;

/* A statement of which nothing is to be read. */
int pg_admin_do(struct pg_admin *p, const char *sql, int timeout_ms, struct err *err) MUST_CHECK;

/* The redo point of the last checkpoint. */
int pg_admin_redo_lsn(struct pg_admin *p, uint64_t *ret, struct err *err) MUST_CHECK;
/* As fast as the disk lets it.  ERR_TIMEOUT: it goes on, and nobody waits for it any more. */
int pg_admin_checkpoint(struct pg_admin *p, int timeout_ms, struct err *err) MUST_CHECK;
/* How far the WAL is on disk: anywhere, also inside a record.  Writes nothing. */
int pg_admin_flush_lsn(struct pg_admin *p, uint64_t *ret, struct err *err) MUST_CHECK;
/*
 * Writes a marker record and commits it: when this returns, everything acknowledged before the call is
 * durable in the WAL below *ret, and *ret is the end of a record, so a recovery that has the WAL up to it
 * reaches exactly it.
 */
int pg_admin_mark(struct pg_admin *p, const char *label, uint64_t *ret, struct err *err) MUST_CHECK;

/* Where the WAL that is on disk ends. */
int pg_admin_flushed(struct pg_admin *p, uint64_t *ret, struct err *err) MUST_CHECK;
/* A standby: up to where it has replayed, and the time of the last commit there (0 = it has seen none). */
int pg_admin_replayed(struct pg_admin *p, uint64_t *ret, int64_t *ret_commit_us, struct err *err) MUST_CHECK;
/*
 * A standby: waits until it has replayed up to `until` or has nothing left to replay, and says where it is.
 * ERR_TIMEOUT when it is still busy with what lies before.
 */
int pg_admin_wait_replayed(struct pg_admin *p, uint64_t until, int timeout_ms, uint64_t *ret,
                           struct err *err) MUST_CHECK;

/* Backup mode, on this very session. The label text is in the arena. */
int pg_admin_backup_start(struct pg_admin *p, const char *label, uint64_t *ret_redo,
                          struct err *err) MUST_CHECK;
int pg_admin_backup_stop(struct pg_admin *p, struct arena *a, const char **ret_label,
                         struct err *err) MUST_CHECK;

/* Changes whenever a role or a database was made, altered or dropped; empty while the server recovers. */
#define PG_CATALOG_MARK_SIZE 48

/* What says that somebody uses the compute. */
struct pg_activity {
    int64_t sessions;       /* sum over users' databases: any change is activity */
    double active_time;     /* ms, likewise */
    int64_t busy_backends;  /* client backends in any state but idle, ours excluded */
    int64_t replication;    /* walsenders and subscription workers */
    int64_t autovacuum;     /* workers running */
    int64_t last_change_us; /* newest state_change among idle backends; 0 = none */
    char catalog_mark[PG_CATALOG_MARK_SIZE];
    uint64_t flush_lsn; /* how far its WAL is on disk; 0 = it writes none */
};
int pg_admin_activity(struct pg_admin *p, struct pg_activity *ret, struct err *err) MUST_CHECK;

/* The roles and databases that users have, all at one moment; not those with reserved names. */
struct pg_catalog_role {
    const char *name;
    bool no_login;
    const char *verifier; /* NULL: no password, or one that SCRAM knows nothing of */
    int64_t valid_until;  /* of the password, us since 1970, at least 1; 0 = for ever */
};
struct pg_catalog_database {
    const char *name, *owner_name;
};
struct pg_catalog {
    char mark[PG_CATALOG_MARK_SIZE];
    struct pg_catalog_role *roles;
    struct pg_catalog_database *databases;
    size_t n_roles, n_databases;
};
#define PG_CATALOG_MAX 5000 /* of both; more is ERR_NOT_SUPPORTED */
int pg_admin_catalog(struct pg_admin *p, struct arena *a, struct pg_catalog *ret, struct err *err) MUST_CHECK;
/* Is the WAL that it finishes kept? */
struct pg_archiver {
    bool failing; /* the last try failed: */
    char failed_wal[64];
    int64_t failed_at_us, failed_count;
};
int pg_admin_archiver(struct pg_admin *p, struct pg_archiver *ret, struct err *err) MUST_CHECK;
/* Of all databases; they stay, and whoever made them may enable them again. */
int pg_admin_disable_subscriptions(struct pg_admin *p, int64_t *ret_n, struct err *err) MUST_CHECK;

/* Roles and databases.  Each is check-then-do: running it twice is harmless. */
/* verifier NULL leaves the password alone; no_login also takes the password away. */
int pg_admin_role_ensure(struct pg_admin *p, const char *name, const char *verifier, bool no_login,
                         struct err *err) MUST_CHECK;
/* PG_REPLICA_ROLE, with this verifier. Writes nothing where it is so already.  Takes a lock for the session.
 */
int pg_admin_replica_ensure(struct pg_admin *p, const char *verifier, struct err *err) MUST_CHECK;
/* ERR_CONFLICT with Postgres's sentence when objects depend on it. */
int pg_admin_role_drop(struct pg_admin *p, const char *name, struct err *err) MUST_CHECK;
/* made_name: what it may be called until now, or NULL. */
int pg_admin_database_ensure(struct pg_admin *p, const char *made_name, const char *name, const char *owner,
                             struct err *err) MUST_CHECK;
int pg_admin_database_exists(struct pg_admin *p, const char *name, bool *ret, struct err *err) MUST_CHECK;
int pg_admin_database_drop(struct pg_admin *p, const char *name, struct err *err) MUST_CHECK;

/* Extensions of the database that the session is in. */
struct pg_installed {
    const char *name, *version, *schema;
};
int pg_admin_extensions(struct pg_admin *p, struct arena *a, struct pg_installed **ret, size_t *ret_n,
                        struct err *err) MUST_CHECK;
/*
 * Installs it, with those it requires, or updates it; version and schema NULL: the default, or as it is.  Its
 * script is run by a superuser and finds by name what lies in its schema and in those of what it requires, so
 * these must be ours alone: made here, or nobody else may create in them.  Else ERR_CONFLICT.
 */
int pg_admin_extension_ensure(struct pg_admin *p, struct arena *a, const char *name, const char *version,
                              const char *schema, struct err *err) MUST_CHECK;
int pg_admin_extension_drop(struct pg_admin *p, const char *name, struct err *err) MUST_CHECK;
#define PG_EXTENSION_SCHEMA "extensions" /* where they go; on the search_path of every compute */

/* Names nobody may use: pg_*, ours, template and postgres databases. */
bool pg_role_name_reserved(const char *name);
bool pg_database_name_reserved(const char *name);

#endif
