/*
 * sched.h - public face of the scheduler: makes observed equal desired
 *
 * Owns the loop thread (computes, timers, wake socket), the job workers, and mere-proxy.  The API writes what
 * is wanted through intent.h, which kicks; nothing in the API starts, stops or copies anything itself.
 */
#ifndef MERE_SCHED_H
#define MERE_SCHED_H

#include "base/arena.h"
#include "base/err.h"
#include "meta/db.h"

struct sched;
struct pg_pooler_program;

/* What the daemon decided at start and everybody may read; constant while it runs.  Strings live as long as
 * the scheduler. */
struct sched_info {
    const char *version;     /* of mered */
    const char *pg_host;     /* where mere-proxy listens, as clients should dial it: "127.0.0.1" */
    int pg_port;             /* 7433 */
    const char *host_suffix; /* "localhost": endpoint.host is <id>.<suffix>[:port] */
    bool has_domain; /* the user configured a suffix: URIs name the host instead of 127.0.0.1 + options */
    const char *region_id;      /* "local" */
    const int64_t *pg_versions; /* installed majors, ascending */
    size_t n_pg_versions;
    const char *store_driver;
    const char *cgroups; /* "v2", "v1", "none" */
    double default_min_cu, default_max_cu;
    struct pg_pooler_program *pooler; /* pg/pooler.h */
};

const struct sched_info *sched_info(const struct sched *s);
struct db *sched_db(const struct sched *s);
/*
 * Text that only this server can read again, for storing what may hold secrets; `where` ties it to its place.
 * In the arena.  ERR_INTERNAL when it was changed or belongs elsewhere.
 */
int sched_seal(struct sched *s, struct arena *a, const char *where, const char *plain, const char **ret,
               struct err *err) MUST_CHECK;
int sched_unseal(struct sched *s, struct arena *a, const char *where, const char *sealed, const char **ret,
                 struct err *err) MUST_CHECK;

/* Any thread: rows changed, look again. */
void sched_kick(struct sched *s);

/*
 * Any thread: waits until the operation is finished, failed, cancelled or skipped (1), or the time is up (0);
 * -1 on error. Bounded by the caller; woken by a condition variable.
 */
int sched_wait_operation(struct sched *s, const char *operation_id, int timeout_ms,
                         struct err *err) MUST_CHECK;

/* For /readyz: 0 when work can be accepted, else the sentence why not (store or metadata not writable, space
 * below reserve). */
int sched_ready(struct sched *s, struct err *err) MUST_CHECK;

#endif
