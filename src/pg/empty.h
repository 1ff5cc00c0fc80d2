/*
 * empty.h - takes all rows out of a cluster that nobody is let into yet, and leaves the schema
 *
 * What remains is what pg_dump --schema-only would have made anew: tables without rows, sequences at their
 * start, no large objects, materialized views unpopulated, no statistics of what the rows were.  Rows that
 * belong to extensions stay.  Nothing that users made is run: no trigger fires, and indexes are rebuilt,
 * empty, with the rights of their owners.
 */
#ifndef MERE_PG_EMPTY_H
#define MERE_PG_EMPTY_H

#include "base/err.h"

/* Every database of the compute.  It commits as it goes: what it leaves undone is of no use. */
int pg_empty(const char *socket_dir, int timeout_ms, struct err *err) MUST_CHECK;

#endif
