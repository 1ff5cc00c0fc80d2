/*
 * pg_bed.h - a real Postgres for tests that need one
 */
#ifndef MERE_PG_BED_H
#define MERE_PG_BED_H

#include "base/arena.h"
#include "base/err.h"

/* Runs a program of Postgres, which refuses to run as root: then as the user its package brought. */
int pg_bed_run(struct arena *a, const char *const *argv, const char **ret_out, struct err *err) MUST_CHECK;

/* A cluster that listens on <dir>/.s.PGSQL.5432 only: its superuser "boss" comes in freely, everybody else by
 * SCRAM. */
struct pg_bed {
    char dir[64];
    const char *bindir; /* NULL: this machine has no Postgres, nothing was started */
    struct arena *arena;
};

void pg_bed_start(struct pg_bed *bed);
void pg_bed_stop(struct pg_bed *bed);
/* As boss; the rows, unaligned. */
const char *pg_bed_sql(struct pg_bed *bed, const char *sql);

#endif
