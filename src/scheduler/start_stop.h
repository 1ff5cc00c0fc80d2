/*
 * start_stop.h - the life of the scheduler, for cmd/mered.c alone
 */
#ifndef MERE_START_STOP_H
#define MERE_START_STOP_H

#include "branch/env.h"
#include "scheduler/certs.h"
#include "scheduler/sched.h"

/* What may be another while it runs. */
struct sched_live {
    int64_t suspend_default_seconds, suspend_min_seconds;
    uint64_t reserve_bytes;         /* 0 = min(1 GiB, 5 % of the file system) */
    int max_starting;               /* 0 = 2 a core */
    int64_t drain_ms;               /* for mere-proxy, from when it is told to end */
    const char *const *proxy_flags; /* more words for the command line of mere-proxy, ended by NULL */
};

struct sched_config {
    struct env env;
    const uint8_t *secret; /* 32 bytes */
    const char *version;
    const char *pg_host; /* mere-proxy listens here */
    int pg_port;
    int pg_fd;               /* a socket that listens there already; -1 = there is none */
    const char *host_suffix; /* NULL = none configured: "localhost" */
    struct certs certs;      /* opened */
    bool hangup_ends;        /* SIGHUP ends it when the terminal is gone */
    const char *pgbouncer;   /* the program; it need not be there */
    uid_t proxy_uid;
    gid_t proxy_gid;
    struct sched_live live;
    /* SIGHUP, on the loop's thread: true = what is in *ret is to hold from now on; it lies in the arena,
     * which lives until that is so. */
    bool (*reload)(void *arg, struct arena *a, struct sched_live *ret);
    void *reload_arg;
};

/*
 * Templates, recovery of what an earlier life left half-done, adoption, workers, wake socket, proxy, loop
 * thread; returns when mere-proxy has said where it listens.
 */
int sched_start(const struct sched_config *cfg, struct sched **ret, struct err *err) MUST_CHECK;
/* Blocks until SIGTERM, SIGINT, or the terminal is gone (SIGHUP); which of them. */
int sched_wait_signal(struct sched *s);
/* Stops computes and proxy (unless keep), joins all threads, frees.  Accepts NULL. */
void sched_stop(struct sched *s, bool keep);
/* After a start that failed later on: takes along what this start spawned, leaves what it adopted.  Accepts
 * NULL. */
void sched_abandon(struct sched *s);

#endif
