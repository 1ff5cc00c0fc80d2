/*
 * install.h - which Postgres versions this machine has
 *
 * Looks under /usr/lib/postgresql (Debian's layout).  Versions below 14 are left out: their statistics cannot
 * tell whether a database is in use (pg_stat_database.sessions came with 14).
 */
#ifndef MERE_PG_INSTALL_H
#define MERE_PG_INSTALL_H

#include "base/arena.h"
#include "base/err.h"

#define PG_OLDEST_MAJOR 14

struct pg_install {
    int64_t major;
    const char *bindir; /* /usr/lib/postgresql/15/bin */
};

/* All usable versions, ascending.  None is ERR_PRECONDITION with what to install. */
int pg_install_scan(struct arena *a, struct pg_install **ret, size_t *ret_n, struct err *err) MUST_CHECK;

#endif
