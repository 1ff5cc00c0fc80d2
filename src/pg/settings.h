/*
 * settings.h - the Postgres settings a user may choose: an allow-list of names and ranges
 *
 * Everything else is ours (safety, paths, sockets) or needs a superuser on purpose.  One table; adding a
 * setting is a line.
 */
#ifndef MERE_PG_SETTINGS_H
#define MERE_PG_SETTINGS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>

/* obj: {name: "value"} as Neon's pg_settings, for a cluster of version pg_major.  ERR_INVALID with pointer
 * (prefix + "/name") for a name that is not on the list or that the version does not have, and for a value
 * that is malformed, out of range, or not to be had on this machine (a time zone, a locale). */
int pg_settings_check(json_t *obj, int64_t pg_major, const char *pointer_prefix, struct err *err) MUST_CHECK;
/* Appends "name = 'value'" lines; obj has been checked.  NULL is fine. */
void pg_settings_render(json_t *obj, struct buf *out);
/* The value of a checked setting that is a plain number, or the fallback where obj has none. */
int64_t pg_settings_integer(json_t *obj, const char *name, int64_t fallback);
/* The value of max_connections in obj, or the default. */
int64_t pg_settings_max_connections(json_t *obj);

#define PG_MAX_CONNECTIONS_DEFAULT 100
/* superuser_reserved_connections: our own sessions must always get in. */
#define PG_RESERVED_CONNECTIONS 3
/* One of ours may be open beside them: a client is only let in while this many slots stay free. */
#define PG_SLOTS_KEPT (PG_RESERVED_CONNECTIONS + 1)

#endif
