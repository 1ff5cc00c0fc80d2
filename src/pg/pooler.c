#include "pg/pooler.h"

#include "base/proc.h"
#include "pg/conf.h"
#include "pg/settings.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASK_TIMEOUT_MS 5000

struct pg_pooler_program {
    pthread_mutex_t mutex;
    char *path;
    struct stat seen; /* st_ino 0: never looked at */
    int64_t version;
};

struct pg_pooler_program *pg_pooler_program_new(const char *path)
{
    struct pg_pooler_program *p = xcalloc(1, sizeof(*p));
    pthread_mutex_init(&p->mutex, NULL);
    p->path = xstrdup(path);
    return p;
}

void pg_pooler_program_free(struct pg_pooler_program *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->mutex);
    free(p->path);
    free(p);
}

const char *pg_pooler_program_path(const struct pg_pooler_program *p)
{
    return p->path;
}

bool pg_pooler_is_there(const struct pg_pooler_program *p)
{
    return p && access(p->path, X_OK) == 0;
}

/* "PgBouncer 1.18.0" is its first line. */
static int64_t ask_version(const char *path)
{
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    const char *const argv[] = { path, "--version", NULL };
    const char *out;
    unsigned major, minor, patch = 0;
    if (proc_run(a, argv, ASK_TIMEOUT_MS, &out, &ignored) < 0 ||
        sscanf(out, "PgBouncer %3u.%2u.%2u", &major, &minor, &patch) < 2)
        return 0;
    return (int64_t)major * 10000 + minor * 100 + patch;
}

static bool is_same_file(const struct stat *x, const struct stat *y)
{
    return x->st_dev == y->st_dev && x->st_ino == y->st_ino && x->st_size == y->st_size &&
           x->st_mtim.tv_sec == y->st_mtim.tv_sec && x->st_mtim.tv_nsec == y->st_mtim.tv_nsec;
}

int64_t pg_pooler_version(struct pg_pooler_program *p)
{
    struct stat now;
    if (!pg_pooler_is_there(p) || stat(p->path, &now) < 0)
        return 0;
    pthread_mutex_lock(&p->mutex);
    if (!is_same_file(&now, &p->seen)) {
        p->version = ask_version(p->path);
        p->seen = now;
    }
    int64_t version = p->version;
    pthread_mutex_unlock(&p->mutex);
    return version;
}

/* In quotes, as the line of a database reads it. */
static void add_quoted(struct buf *b, char quote, const char *value)
{
    buf_addf(b, "%c", quote);
    for (const char *p = value; *p; p++)
        buf_addf(b, *p == quote ? "%c%c" : "%c", *p, *p);
    buf_addf(b, "%c", quote);
}

/*
 * server_login_retry: after a login that failed, as one with a password that was changed meanwhile does, no
 * other is tried for so long.  server_idle_timeout: each role of each database has sessions of its own, which
 * nobody else can use.  ignore_startup_parameters: drivers send them by themselves; the proxy refuses
 * the rest with better words.
 */
static const char FIXED[] = "unix_socket_mode = 0777\n" /* the directory decides who comes near */
                            "auth_type = scram-sha-256\n"
                            "pool_mode = transaction\n"
                            "query_wait_timeout = 120\n"
                            "server_login_retry = 1\n"
                            "server_idle_timeout = 60\n"
                            "server_tls_sslmode = disable\n"
                            "ignore_startup_parameters = extra_float_digits, replication\n"
                            "log_connections = 0\n"
                            "log_disconnections = 0\n"
                            "log_stats = 0\n";

void pg_pooler_conf_text(const struct pg_pooler_conf *conf, struct buf *ret)
{
    int64_t share = (conf->max_connections + PG_SLOTS_KEPT) * 9 / 10;
    int64_t most =
        conf->max_connections - 1; /* mere-proxy asks Postgres about clients before they are let in */
    buf_adds(ret, ";; Made by mered at each start.\n[databases]\n* = host=");
    add_quoted(ret, '\'', conf->socket_dir);
    buf_addf(ret, " port=%d\n[pgbouncer]\n", PG_PORT);
    buf_addf(ret, "listen_port = %d\nunix_socket_dir = %s\n", PG_POOLER_PORT, conf->socket_dir);
    buf_addf(ret, "auth_file = %s/" PG_POOLER_USERS_FILE "\n", conf->conf_dir);
    buf_addf(ret, "max_client_conn = %d\n", PG_POOLER_CLIENTS_MAX);
    buf_addf(ret, "default_pool_size = %" PRId64 "\n", share < most ? share : most > 1 ? most : (int64_t)1);
    if (conf->version >= PG_POOLER_PREPARES)
        buf_adds(ret, "max_prepared_statements = 1000\n");
    buf_adds(ret, FIXED);
}

void pg_pooler_user_add(struct buf *users, const char *name, const char *verifier)
{
    add_quoted(users, '"', name);
    buf_adds(users, " ");
    add_quoted(users, '"', verifier);
    buf_adds(users, "\n");
}

const char *const *pg_pooler_argv(struct arena *a, const char *program, const char *conf_dir)
{
    const char **argv = arena_alloc(a, 3 * sizeof(*argv));
    argv[0] = program;
    argv[1] = arena_printf(a, "%s/" PG_POOLER_CONF_FILE, conf_dir);
    argv[2] = NULL;
    return argv;
}

const char *pg_pooler_socket(struct arena *a, const char *socket_dir)
{
    return arena_printf(a, "%s/.s.PGSQL.%d", socket_dir, PG_POOLER_PORT);
}
