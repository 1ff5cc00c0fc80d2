/*
 * schema.h - the schema of a database at a moment of a branch, and how two of them differ
 *
 * Each is read from a compute of its own on a hidden branch, which is gone soon after the answer: the
 * branch's own compute is neither woken nor asked.  Called from requests; bounded: a minute to get that
 * compute, another to read from it, and only a few at once (ERR_UNAVAILABLE).  stopping (may be NULL)
 * becoming true ends the wait.
 */
#ifndef MERE_SCHEMA_H
#define MERE_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"
#include "meta/branch.h"

#include <jansson.h>
#include <stdatomic.h>

struct sched;

struct schema_place {
    const struct branch *branch;
    uint64_t lsn;                           /* 0 = not given */
    int64_t time_us;                        /* 0 = not given; neither: the head */
    const char *lsn_pointer, *time_pointer; /* of the error about a moment that cannot be reached */
};

/* ERR_NOT_FOUND when the database was not there at that moment. */
int schema_sql(struct sched *s, struct arena *a, const struct schema_place *at, const char *database,
               const atomic_bool *stopping, struct buf *ret, struct err *err) MUST_CHECK;
/* The caller owns *ret. */
int schema_json(struct sched *s, struct arena *a, const struct schema_place *at, const char *database,
                const atomic_bool *stopping, json_t **ret, struct err *err) MUST_CHECK;
/* A unified diff of what schema_sql says of both: nothing when they are equal. */
int schema_compare(struct sched *s, struct arena *a, const struct schema_place *base,
                   const struct schema_place *at, const char *database, const atomic_bool *stopping,
                   struct buf *ret, struct err *err) MUST_CHECK;

#endif
