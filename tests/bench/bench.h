/*
 * bench.h - what the measuring program is made of
 *
 * One process: REST client, libpq client and the baseline's Postgres are all started here, so that nothing
 * but the thing measured differs between a row and its baseline.  Anything unexpected ends the program: a
 * figure from a broken run is no figure.
 */
#ifndef MERE_BENCH_H
#define MERE_BENCH_H

#include "base/base.h"

#include <jansson.h>

struct options {
    const char *host; /* of the API */
    int port;
    const char *pg_host;
    const char *pg_port;
    const char *key;
    const char *data;    /* the server's data directory */
    const char *store;   /* its driver */
    const char *scratch; /* ours */
    const char *bindir;  /* of Postgres */
    const char *out;
    pid_t mered, proxy;
    int repeats;
};
extern struct options opt;

NORETURN void die(const char *fmt, ...) PRINTF_LIKE(1, 2);
double now_ms(void);
void pause_ms(double ms);

/* Figures of one kind, in the order they came. */
struct series {
    double *v;
    size_t n, cap;
};
void series_add(struct series *s, double v);
double series_quantile(const struct series *s, double q);
static inline double series_p50(const struct series *s)
{
    return series_quantile(s, 0.5);
}

/* A row of the table.  limit < 0: for information only. */
void report_row(const char *measure, double value, const char *unit, double limit);
void report_series(const char *measure, const struct series *s, const char *unit, double limit);
/* Prints the table, writes the file; how many rows are not ok. */
int report_end(void);

/* --- http.c: one request, one connection, as curl does it
 * ------------------------------------------------------------- */
/* The parsed body (owned by the caller; NULL when empty).  Any status but 2xx ends the program. */
json_t *rest(const char *method, const char *body, const char *path_fmt, ...) PRINTF_LIKE(3, 4);
const char *
at(const json_t *j,
   const char *path); /* "branch.id", "endpoints.0.id": a string inside; the program ends without it */
void wait_operations(const char *project, json_t *answer);

/* --- target.c: projects and branches of the server
 * ---------------------------------------------------------------------- */
struct project {
    char *id, *branch, *endpoint, *role, *password, *database;
};
struct child {
    char *id, *endpoint, *parent_lsn;
};
void project_make(struct project *p);
/* POST …/branches with an endpoint; the answer only. */
struct child child_make(const struct project *p);
void child_drop(const struct project *p, struct child *c); /* DELETE, and waits until it is done */
void child_free(struct child *c);
void endpoint_suspend(const struct project *p, const char *endpoint); /* and waits until it is idle */
/* Connects through the proxy, runs sql, returns the first value (owned by the caller). */
char *query(const struct project *p, const char *endpoint, const char *sql);

/* --- baseline.c: stock Postgres on an equal clone
 * ------------------------------------------------------------------------ */
/* source: a cleanly suspended branch whose data is cloned for every run. */
void baseline_open(const struct project *p, const char *source);
/* Before each timed run: the machine is idle, as far as we are concerned. */
void settle(void);
double baseline_fresh(void); /* ms from fork to the answer, on a clone that never ran */
double baseline_again(void); /* the same on a clone that has run before */
void baseline_close(void);
int run(const char *const *argv); /* a program to its end; its status */

/* --- rows.c
 * --------------------------------------------------------------------------------------------------------------
 */
void measure_cold(const struct project *p);
void measure_crowds(const struct project *p);
void measure_running(const struct project *p);
void measure_many(const struct project *p);

#endif
