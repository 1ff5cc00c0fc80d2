/*
 * pooler.h - PgBouncer: what is installed, and what it is told
 *
 * One for each compute whose clients want it, beside Postgres in its socket directory, in transaction mode.
 * It knows the roles by their SCRAM verifiers, learns a client's key when the client proves itself, and logs
 * in to Postgres with it; so no password lies anywhere.
 */
#ifndef MERE_PG_POOLER_H
#define MERE_PG_POOLER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define PG_POOLER_PACKAGE     "pgbouncer"
#define PG_POOLER_PORT        6432 /* names the socket file only */
#define PG_POOLER_CLIENTS_MAX 10000
/* From here on it knows the prepared statements of clients in transaction mode. */
#define PG_POOLER_PREPARES 12100

/* The program, which may come and go while we run. */
struct pg_pooler_program;
struct pg_pooler_program *pg_pooler_program_new(const char *path);
void pg_pooler_program_free(struct pg_pooler_program *p); /* accepts NULL */
const char *pg_pooler_program_path(const struct pg_pooler_program *p);
/* There is such a program; p may be NULL: no. */
bool pg_pooler_is_there(const struct pg_pooler_program *p);
/* Any thread: 11802 for 1.18.2; 0 = not installed, or not usable.  Runs it only when its file has changed
 * since the last call.  p may be NULL: 0. */
int64_t pg_pooler_version(struct pg_pooler_program *p);

struct pg_pooler_conf {
    const char *socket_dir;  /* of the compute: where it listens, and where Postgres does */
    const char *conf_dir;    /* where its own files lie, as it sees them */
    int64_t max_connections; /* that clients may have at Postgres */
    int64_t version;         /* of PgBouncer */
};

#define PG_POOLER_CONF_FILE  "pgbouncer.ini"
#define PG_POOLER_USERS_FILE "users.txt"

/* The text of PG_POOLER_CONF_FILE. */
void pg_pooler_conf_text(const struct pg_pooler_conf *conf, struct buf *ret);
/* Appends a role to the text of PG_POOLER_USERS_FILE. */
void pg_pooler_user_add(struct buf *users, const char *name, const char *verifier);
const char *const *pg_pooler_argv(struct arena *a, const char *program, const char *conf_dir);
/* The path of the socket file. */
const char *pg_pooler_socket(struct arena *a, const char *socket_dir);

#endif
