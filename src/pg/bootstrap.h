/*
 * bootstrap.h - what the template cluster holds: the default database and its owner
 *
 * Run in single-user mode right after initdb.  The owner has no password yet, so nobody can log in as it.
 */
#ifndef MERE_PG_BOOTSTRAP_H
#define MERE_PG_BOOTSTRAP_H

#define PG_TEMPLATE_DATABASE "neondb"
#define PG_TEMPLATE_ROLE     "neondb_owner"

/* One statement a line: single-user mode takes a line as a command. */
extern const char PG_BOOTSTRAP_SQL[];

#endif
