/*
 * migrate.h - brings the schema of an open metadata file up to this version (PRAGMA user_version counts)
 */
#ifndef MERE_META_MIGRATE_H
#define MERE_META_MIGRATE_H

#include "base/err.h"

#include <sqlite3.h>

/* Applies what is missing, each migration in a transaction of its own.  ERR_PRECONDITION when the file is
 * newer than we are. */
int migrate(sqlite3 *h, struct err *err) MUST_CHECK;

#endif
