/*
 * connect.h - what a client needs to connect, in the forms that tools read
 */
#ifndef MERE_CONNECT_H
#define MERE_CONNECT_H

#include "api/view.h"

/*
 * url     postgresql://…, one line
 * env     DATABASE_URL and libpq's PG… variables, as shells and .env readers take them
 * pgpass  a line of ~/.pgpass
 * jdbc    jdbc:postgresql://…, one line
 * prisma  the url with what Prisma wants to be told
 * They work as they are on the machine of the server, and hold the password.  In the arena; every line ends
 * with a newline.  ERR_BAD_REQUEST names the formats there are.
 */
int connect_text(const struct sched_info *info, const struct view_connection *c, const char *format,
                 struct arena *a, const char **ret, struct err *err) MUST_CHECK;

#endif
