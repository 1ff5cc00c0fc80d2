/*
 * migrate.h - brings the schema of an open metadata file up to this version (PRAGMA user_version counts)
 *
 * Called once, by db_open, before anybody else has the file.
 */
#ifndef MERE_META_MIGRATE_H
#define MERE_META_MIGRATE_H

#include "base/err.h"

#include <sqlite3.h>

/* Applies what is missing, each migration in a transaction of its own.  ERR_PRECONDITION when the file is
 * newer than we are. */
int migrate(sqlite3 *h, struct err *err) MUST_CHECK;
/* The same with another list: list[0] makes schema 1 of an empty file. */
int migrate_with(sqlite3 *h, const char *const *list, size_t n, struct err *err) MUST_CHECK;

#endif
