/*
 * route.h - which compute a client named, and the startup packet that compute will see
 *
 * Pure: startup parameters and TLS server name in, a name and a rewritten packet out.  Any thread.  Never
 * guesses and never falls back: what is missing, malformed, ambiguous or contradictory is an error that says
 * how to name an endpoint.
 *
 * Ways to name, which may be combined but must agree:
 *   host name (SNI)    ep-ID.anything or br-ID.anything; another host, an address or none names nothing
 *   -pooler            behind an endpoint id, in any of these ways: the same endpoint, through its pooler
 *   options word       endpoint=ID, project=ID (older clients), branch=NAME-OR-ID; not after -c
 *                      neon_lsn:LSN or neon_timestamp:RFC-3339, beside a name: the branch as it was then
 *   database           DATABASE@ep-ID, split at the last '@', only when what follows has the shape of an
 * endpoint id. A database whose real name ends so cannot be reached under that name. The words are taken out
 * of options and database; all else reaches Postgres byte for byte.
 *
 * What a refused client gets:
 *   08004  no endpoint named; malformed id; the ways disagree
 *   0A000  replication, writing in the past; pooled: options, other settings than PgBouncer keeps apart, a
 *          moment, the database "pgbouncer" (its console): not available
 *   22023  what should be a moment is none, or there are two
 *   28000  a user name that is kept for the control plane
 *   3D000  nothing in front of '@'
 */
#ifndef MERE_ROUTE_H
#define MERE_ROUTE_H

#include "pg/wire.h"

/* Branch names are at most 256 bytes; ids are shorter. */
#define ROUTE_NAME_MAX   256
#define ROUTE_MOMENT_MAX 63

enum route_kind { ROUTE_NONE, ROUTE_ENDPOINT, ROUTE_BRANCH };

struct route {
    enum route_kind kind;
    char name[ROUTE_NAME_MAX + 1];
    char moment[ROUTE_MOMENT_MAX + 1]; /* "lsn:0/16B3748", "time:2026-01-01T00:00:00Z"; empty = now */
    bool wants_reader;                 /* said so, in words */
    bool pooled;                       /* through the endpoint's pooler; name is the endpoint's id */
    char user[WIRE_NAME_MAX + 1];
    char database[WIRE_NAME_MAX +
                  1];  /* empty when it does not fit: Postgres will cut it, we need not know it */
    struct buf packet; /* the startup packet for Postgres */
};

/* sni may be NULL.  reserved: n user names that are refused.  -1 with *e; *ret needs route_fini either way.
 */
int route_find(const struct wire_startup *s, const char *sni, const char *const *reserved, size_t n,
               struct route *ret, struct wire_error *e) MUST_CHECK;
void route_fini(struct route *r);

#endif
