/*
 * dump.h - the schema of one database of a running compute, as SQL and as JSON
 *
 * The database is a user's, so nothing in it is run and nothing that is set for it counts.  Meant for a
 * compute that nobody else is let into: pg_dump reads a catalogue that must not be changed under it.
 */
#ifndef MERE_PG_DUMP_H
#define MERE_PG_DUMP_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdatomic.h>

#define PG_SCHEMA_MAX_BYTES (16 << 20)

/* ERR_NOT_FOUND for a database that is not there or is not a user's. */
int pg_schema_find(const char *socket_dir, const char *database, struct err *err) MUST_CHECK;

/*
 * What pg_dump --schema-only says, in UTF-8, without what differs from one run to the next; into *ret, which
 * is empty before.  ERR_PRECONDITION when there is no pg_dump in bindir, ERR_TOO_LARGE beyond
 * PG_SCHEMA_MAX_BYTES, ERR_INVALID with pg_dump's sentence when it cannot.  give_up: see proc_output.
 */
int pg_schema_sql(struct arena *a, const char *bindir, const char *socket_dir, const char *database,
                  int timeout_ms, const atomic_bool *give_up, struct buf *ret, struct err *err) MUST_CHECK;
/* Takes out of a dump: the versions it names, and the random key of its \restrict and \unrestrict. */
void pg_schema_settle(struct buf *dump);

/* Tables with columns, constraints and indexes; views; functions; sorted.  The caller owns *ret. */
int pg_schema_json(const char *socket_dir, const char *database, json_t **ret, struct err *err) MUST_CHECK;

#endif
