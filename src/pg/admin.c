#include "pg/admin.h"

#include "base/clock.h"
#include "base/text.h"
#include "pg/conf.h"
#include "pg/extension.h"
#include "pg/scram.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL_TIMEOUT_MS   15000
#define BACKUP_TIMEOUT_MS 600000
#define DDL_TIMEOUT_MS    60000

/*
 * What users may set in postgresql.conf does not reach this session: no time limit of theirs ends its work,
 * and nothing of what it says is logged, sent back or shown (a crash, too, would log the statement that is
 * shown), because passwords' verifiers are part of it.
 */
static const char SESSION[] =
    "-c search_path=pg_catalog -c default_transaction_read_only=off -c synchronous_commit=on "
    "-c default_transaction_isolation=read\\ committed -c lock_timeout=10s -c statement_timeout=0 "
    "-c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c log_statement=none -c log_duration=off -c log_min_duration_statement=-1 "
    "-c log_min_duration_sample=-1 -c log_transaction_sample_rate=0 -c log_min_messages=warning "
    "-c log_min_error_statement=panic -c client_min_messages=warning -c track_activities=off "
    "-c pg_stat_statements.track=none -c local_preload_libraries= -c role=none";

struct pg_admin {
    pthread_mutex_t mutex;
    PGconn *conn;
    int version;
};

static void result_clear(PGresult **r)
{
    PQclear(*r);
}
#define auto_result CLEANUP(result_clear) PGresult

/* Waits until the socket is ready for what libpq wants; 0, or -1 when the time is up. */
static int wait_socket(PGconn *conn, short events, int64_t deadline_ms)
{
    struct pollfd p = { .fd = PQsocket(conn), .events = events };
    int64_t left = deadline_ms - clock_mono_ms();
    return left > 0 && poll(&p, 1, (int)left) > 0 ? 0 : -1;
}

static int connect_wait(PGconn *conn, int timeout_ms)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    PostgresPollingStatusType st = PGRES_POLLING_WRITING;
    while (st != PGRES_POLLING_OK) {
        if (st == PGRES_POLLING_FAILED ||
            wait_socket(conn, st == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline) < 0)
            return -1;
        st = PQconnectPoll(conn);
    }
    return 0;
}

static int failed(struct pg_admin *p, const PGresult *r, struct err *err)
{
    const char *message = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    enum err_code code = ERR_INTERNAL;
    if (!state)
        code = ERR_UNAVAILABLE;
    else if (strncmp(state, "53", 2) == 0)
        code = strcmp(state, "53100") == 0 ? ERR_DISK_FULL : ERR_UNAVAILABLE;
    else if (strcmp(state, "2BP01") == 0 || strcmp(state, "55006") == 0 || strcmp(state, "42710") == 0 ||
             strcmp(state, "42P04") == 0)
        code = ERR_CONFLICT; /* dependent objects, object in use, duplicate role or database */
    else if (strcmp(state, "42704") == 0 || strcmp(state, "3D000") == 0)
        code = ERR_NOT_FOUND;
    else if (strcmp(state, "57014") == 0)
        code = ERR_TIMEOUT; /* of the statement: the session goes on */
    err_set(err, code, "Postgres refused: %s", message ? message : "the connection broke");
    const char *more = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL) : NULL;
    return err_detail(err, "%s %s", state ? state : "-", more ? more : PQerrorMessage(p->conn));
}

/* The session is of no use any more: its answer would be taken for the next one's. */
static int drop_session(struct pg_admin *p, enum err_code code, const char *why, struct err *err)
{
    PQfinish(p->conn);
    p->conn = NULL;
    return err_set(err, code, "%s", why);
}

/* Waits for the next result, NULL when there is none left.  -1: the session is lost. */
static int next_result(struct pg_admin *p, int64_t deadline_ms, PGresult **ret, struct err *err)
{
    while (PQisBusy(p->conn)) {
        if (wait_socket(p->conn, POLLIN, deadline_ms) < 0)
            return drop_session(p, ERR_TIMEOUT, "the compute did not answer in time", err);
        if (!PQconsumeInput(p->conn))
            return failed(p, NULL, err);
    }
    PGresult *r = PQgetResult(p->conn);
    ExecStatusType st = PQresultStatus(r);
    if (st == PGRES_COPY_IN || st == PGRES_COPY_OUT || st == PGRES_COPY_BOTH) {
        /* Nothing of ours copies, and libpq would give this result for ever. */
        PQclear(r);
        return drop_session(p, ERR_UNAVAILABLE, "the compute answered something else than was asked", err);
    }
    *ret = r;
    return 0;
}

static bool is_good(const PGresult *r)
{
    ExecStatusType st = PQresultStatus(r);
    return st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK;
}

/*
 * One statement, result in *ret (cleared by the caller).  The mutex is held by the caller.  The commit comes
 * behind the statement's own result, so that an error may still follow a good one: then nothing was done.
 */
static int run(struct pg_admin *p, const char *sql, int n, const char *const *params, int timeout_ms,
               PGresult **ret, struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    auto_result *kept = NULL;
    if (!PQsendQueryParams(p->conn, sql, n, NULL, params, NULL, NULL, 0))
        return failed(p, NULL, err);
    for (;;) {
        PGresult *r = NULL;
        if (next_result(p, deadline, &r, err) < 0)
            return -1;
        if (!r)
            break;
        if (!kept || !is_good(r)) {
            PQclear(kept);
            kept = r;
        } else {
            PQclear(r);
        }
    }
    if (!is_good(kept))
        return failed(p, kept, err);
    *ret = kept;
    kept = NULL;
    return 0;
}

static int query(struct pg_admin *p, const char *sql, int n, const char *const *params, int timeout_ms,
                 PGresult **ret, struct err *err)
{
    pthread_mutex_lock(&p->mutex);
    int rc = p->conn ? run(p, sql, n, params, timeout_ms, ret, err)
                     : err_set(err, ERR_UNAVAILABLE, "the session with the compute was lost");
    pthread_mutex_unlock(&p->mutex);
    return rc;
}

/* What else a server says is for its own log. */
static void ignore_notice(void *arg, const PGresult *r)
{
    (void)arg;
    (void)r;
}

/* Not among the options of the connection, because an older server would refuse them for it. */
static int lift_transaction_timeout(struct pg_admin *p, int timeout_ms, struct err *err)
{
    auto_result *r = NULL;
    return query(p, "SET transaction_timeout = 0", 0, NULL, timeout_ms, &r, err);
}

static int open_session(const char *socket_dir, const char *database, const char *options, int timeout_ms,
                        struct pg_admin **ret, struct err *err)
{
    auto_free char *port = xasprintf("%d", PG_PORT);
    const char *const keys[] = {
        "host", "port", "user", "dbname", "application_name", "options", "client_encoding", NULL
    };
    const char *const values[] = {
        socket_dir, port, PG_ADMIN_ROLE, database, "mered", options, "UTF8", NULL
    };
    int64_t deadline = clock_mono_ms() + timeout_ms;
    struct pg_admin *p = xcalloc(1, sizeof(*p));
    pthread_mutex_init(&p->mutex, NULL);
    p->conn = PQconnectStartParams(keys, values, 0);
    if (!p->conn || PQstatus(p->conn) == CONNECTION_BAD || connect_wait(p->conn, timeout_ms) < 0) {
        err_set(err, ERR_UNAVAILABLE, "the compute does not answer");
        err_detail(err, "admin session: %s", p->conn ? PQerrorMessage(p->conn) : "out of memory");
        pg_admin_close(p);
        return -1;
    }
    PQsetNoticeReceiver(p->conn, ignore_notice, NULL);
    (void)PQsetErrorVerbosity(p->conn, PQERRORS_TERSE); /* a line of the statement is none for the log */
    p->version = PQserverVersion(p->conn);
    int64_t left = deadline - clock_mono_ms();
    if (p->version >= 170000 && lift_transaction_timeout(p, left > 0 ? (int)left : 0, err) < 0) {
        pg_admin_close(p);
        return -1;
    }
    *ret = p;
    return 0;
}

int pg_admin_open(const char *socket_dir, int timeout_ms, struct pg_admin **ret, struct err *err)
{
    return open_session(socket_dir, "postgres", SESSION, timeout_ms, ret, err);
}

int pg_admin_open_database(const char *socket_dir, const char *database, int timeout_ms,
                           struct pg_admin **ret, struct err *err)
{
    auto_free char *options = xasprintf("%s %s", SESSION, PG_FOREIGN_DATABASE_OPTIONS);
    return open_session(socket_dir, database, options, timeout_ms, ret, err);
}

void pg_admin_close(struct pg_admin *p)
{
    if (!p)
        return;
    PQfinish(p->conn);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

static int query_lsn(struct pg_admin *p, const char *sql, int n, const char *const *params, int timeout_ms,
                     uint64_t *ret, struct err *err)
{
    auto_result *r = NULL;
    if (query(p, sql, n, params, timeout_ms, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1 || !text_to_lsn(PQgetvalue(r, 0, 0), ret))
        return err_set(err, ERR_INTERNAL, "Postgres answered no LSN");
    return 0;
}

int pg_admin_text(struct pg_admin *p, const char *sql, size_t max_bytes, struct buf *ret, struct err *err)
{
    auto_result *r = NULL;
    if (query(p, sql, 0, NULL, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1 || PQgetisnull(r, 0, 0))
        return err_set(err, ERR_INTERNAL, "Postgres answered nothing");
    if ((size_t)PQgetlength(r, 0, 0) > max_bytes)
        return err_set(err, ERR_TOO_LARGE, "the answer is larger than %zu MB", max_bytes >> 20);
    buf_add(ret, PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0));
    return 0;
}

int pg_admin_do(struct pg_admin *p, const char *sql, int timeout_ms, struct err *err)
{
    auto_result *r = NULL;
    return query(p, sql, 0, NULL, timeout_ms, &r, err);
}

int pg_admin_redo_lsn(struct pg_admin *p, uint64_t *ret, struct err *err)
{
    return query_lsn(p, "SELECT redo_lsn FROM pg_control_checkpoint()", 0, NULL, CALL_TIMEOUT_MS, ret, err);
}

static int set_statement_timeout(struct pg_admin *p, int ms, struct err *err)
{
    auto_result *r = NULL;
    char text[16];
    const char *params[] = { text };
    snprintf(text, sizeof(text), "%d", ms);
    return query(p, "SELECT set_config('statement_timeout', $1, false)", 1, params, CALL_TIMEOUT_MS, &r, err);
}

int pg_admin_checkpoint(struct pg_admin *p, int timeout_ms, struct err *err)
{
    auto_result *r = NULL;
    struct err back = ERR_INIT;
    if (set_statement_timeout(p, timeout_ms, err) < 0)
        return -1;
    int rc = query(p, "CHECKPOINT", 0, NULL, timeout_ms + CALL_TIMEOUT_MS, &r, err);
    return set_statement_timeout(p, 0, rc < 0 ? &back : err) < 0 ? -1 : rc;
}

int pg_admin_flush_lsn(struct pg_admin *p, uint64_t *ret, struct err *err)
{
    return query_lsn(p, "SELECT pg_current_wal_flush_lsn()", 0, NULL, CALL_TIMEOUT_MS, ret, err);
}

int pg_admin_mark(struct pg_admin *p, const char *label, uint64_t *ret, struct err *err)
{
    /* Transactional: the commit behind it flushes the WAL past the marker's end. */
    return query_lsn(p, "SELECT pg_logical_emit_message(true, 'mere', $1)", 1, &label, CALL_TIMEOUT_MS, ret,
                     err);
}

int pg_admin_flushed(struct pg_admin *p, uint64_t *ret, struct err *err)
{
    return query_lsn(p, "SELECT pg_current_wal_flush_lsn()", 0, NULL, CALL_TIMEOUT_MS, ret, err);
}

int pg_admin_replayed(struct pg_admin *p, uint64_t *ret, int64_t *ret_commit_us, struct err *err)
{
    static const char SQL[] =
        "SELECT pg_last_wal_replay_lsn(), coalesce((extract(epoch FROM pg_last_xact_replay_timestamp()) * "
        "1000000)::bigint, 0)";
    auto_result *r = NULL;
    if (query(p, SQL, 0, NULL, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1 || !text_to_lsn(PQgetvalue(r, 0, 0), ret))
        return err_set(err, ERR_INTERNAL, "Postgres answered no LSN");
    *ret_commit_us = strtoll(PQgetvalue(r, 0, 1), NULL, 10);
    return 0;
}

/* The startup process announces nothing; but it is asked from inside, so that each question costs no more
 * than the pause.  Only one that waits for more WAL has come to the end of what there is. */
static int look_replayed(struct pg_admin *p, int64_t deadline_ms, uint64_t *ret, bool *ret_waiting,
                         struct err *err)
{
    static const char SQL[] =
        "SELECT pg_last_wal_replay_lsn(), pg_sleep(0.005), EXISTS (SELECT FROM pg_stat_activity WHERE "
        "backend_type = 'startup' AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream'))";
    auto_result *r = NULL;
    int64_t left = deadline_ms - clock_mono_ms();
    if (query(p, SQL, 0, NULL, left > 1000 ? CALL_TIMEOUT_MS : 1000, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1 || !text_to_lsn(PQgetvalue(r, 0, 0), ret))
        return err_set(err, ERR_INTERNAL, "Postgres answered no LSN");
    *ret_waiting = strcmp(PQgetvalue(r, 0, 2), "t") == 0;
    return left > 0 ? 0 : err_set(err, ERR_TIMEOUT, "the compute did not replay its history in time");
}

int pg_admin_wait_replayed(struct pg_admin *p, uint64_t until, int timeout_ms, uint64_t *ret, struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    bool waiting = false;
    do {
        if (look_replayed(p, deadline, ret, &waiting, err) < 0)
            return -1;
    } while (*ret < until && !waiting);
    return 0;
}

int pg_admin_backup_start(struct pg_admin *p, const char *label, uint64_t *ret_redo, struct err *err)
{
    const char *sql =
        p->version >= 150000 ? "SELECT pg_backup_start($1, true)" : "SELECT pg_start_backup($1, true, false)";
    return query_lsn(p, sql, 1, &label, BACKUP_TIMEOUT_MS, ret_redo, err);
}

int pg_admin_backup_stop(struct pg_admin *p, struct arena *a, const char **ret_label, struct err *err)
{
    const char *sql = p->version >= 150000 ? "SELECT labelfile, spcmapfile FROM pg_backup_stop(false)"
                                           : "SELECT labelfile, spcmapfile FROM pg_stop_backup(false, false)";
    auto_result *r = NULL;
    if (query(p, sql, 0, NULL, BACKUP_TIMEOUT_MS, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1 || PQgetlength(r, 0, 0) == 0)
        return err_set(err, ERR_INTERNAL, "Postgres gave no backup label");
    if (PQgetlength(r, 0, 1) > 0)
        return err_set(err, ERR_NOT_SUPPORTED,
                       "this branch has tablespaces, which a branch cannot share; nothing was copied");
    *ret_label = arena_strdup(a, PQgetvalue(r, 0, 0));
    return 0;
}

/*
 * An update leaves another xmin, and what vacuum writes in place does not.  The two catalogues are shared by
 * all databases and small, so this costs next to nothing.
 */
#define CATALOG_MARK                                                                                         \
    "(SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE sum(hashtextextended(what || oid || '.' || xmin, "   \
    "0))::text END FROM (SELECT 'r' AS what, oid, xmin FROM pg_authid UNION ALL SELECT 'd', oid, xmin FROM " \
    "pg_database) AS shared)"

static void read_mark(const PGresult *r, int row, int column, char mark[PG_CATALOG_MARK_SIZE])
{
    snprintf(mark, PG_CATALOG_MARK_SIZE, "%s", PQgetvalue(r, row, column));
}

int pg_admin_activity(struct pg_admin *p, struct pg_activity *ret, struct err *err)
{
    static const char SQL[] =
        "SELECT (SELECT coalesce(sum(sessions), 0) FROM pg_stat_database WHERE datname NOT IN ('postgres', "
        "'template0', 'template1')),"
        " (SELECT coalesce(sum(active_time), 0) FROM pg_stat_database WHERE datname NOT IN ('postgres', "
        "'template0', 'template1')),"
        " count(*) FILTER (WHERE backend_type = 'client backend' AND state IS DISTINCT FROM 'idle'),"
        " (SELECT count(*) FROM pg_stat_replication WHERE usename <> '" PG_REPLICA_ROLE
        "') + (SELECT count(*) FROM pg_stat_subscription WHERE pid "
        "IS NOT NULL),"
        " count(*) FILTER (WHERE backend_type = 'autovacuum worker'),"
        " coalesce((extract(epoch FROM max(state_change) FILTER (WHERE backend_type = 'client backend')) * "
        "1000000)::bigint, 0), " CATALOG_MARK
        ", CASE WHEN pg_is_in_recovery() THEN '0/0' ELSE pg_current_wal_flush_lsn() END"
        " FROM pg_stat_activity WHERE usename IS DISTINCT FROM '" PG_ADMIN_ROLE "'";
    auto_result *r = NULL;
    if (query(p, SQL, 0, NULL, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1)
        return err_set(err, ERR_INTERNAL, "Postgres answered no activity");
    *ret = (struct pg_activity){
        .sessions = strtoll(PQgetvalue(r, 0, 0), NULL, 10),
        .active_time = strtod(PQgetvalue(r, 0, 1), NULL),
        .busy_backends = strtoll(PQgetvalue(r, 0, 2), NULL, 10),
        .replication = strtoll(PQgetvalue(r, 0, 3), NULL, 10),
        .autovacuum = strtoll(PQgetvalue(r, 0, 4), NULL, 10),
        .last_change_us = strtoll(PQgetvalue(r, 0, 5), NULL, 10),
    };
    read_mark(r, 0, 6, ret->catalog_mark);
    if (!text_to_lsn(PQgetvalue(r, 0, 7), &ret->flush_lsn))
        return err_set(err, ERR_INTERNAL, "Postgres answered no LSN");
    return 0;
}

int pg_admin_archiver(struct pg_admin *p, struct pg_archiver *ret, struct err *err)
{
    static const char SQL[] =
        "SELECT last_failed_time > coalesce(last_archived_time, '-infinity'), last_failed_wal,"
        " (extract(epoch FROM last_failed_time) * 1000000)::bigint, failed_count FROM pg_stat_archiver";
    auto_result *r = NULL;
    if (query(p, SQL, 0, NULL, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1)
        return err_set(err, ERR_INTERNAL, "Postgres answered nothing about its archiver");
    *ret = (struct pg_archiver){ .failing = PQgetvalue(r, 0, 0)[0] == 't',
                                 .failed_at_us = strtoll(PQgetvalue(r, 0, 2), NULL, 10),
                                 .failed_count = strtoll(PQgetvalue(r, 0, 3), NULL, 10) };
    snprintf(ret->failed_wal, sizeof(ret->failed_wal), "%s", PQgetvalue(r, 0, 1));
    return 0;
}

int pg_admin_disable_subscriptions(struct pg_admin *p, int64_t *ret_n, struct err *err)
{
    /* The catalog itself: ALTER SUBSCRIPTION would need a session in each database of a user. */
    auto_result *r = NULL;
    if (query(p, "UPDATE pg_subscription SET subenabled = false WHERE subenabled", 0, NULL, CALL_TIMEOUT_MS,
              &r, err) < 0)
        return -1;
    *ret_n = strtoll(PQcmdTuples(r), NULL, 10);
    return 0;
}

/* ---- roles and databases ---- */

bool pg_role_name_reserved(const char *name)
{
    return text_starts_with(name, "pg_") || strcmp(name, PG_ADMIN_ROLE) == 0 ||
           strcmp(name, PG_REPLICA_ROLE) == 0 || strcmp(name, "public") == 0 || strcmp(name, "none") == 0;
}

bool pg_database_name_reserved(const char *name)
{
    return strcmp(name, "postgres") == 0 || strcmp(name, "template0") == 0 || strcmp(name, "template1") == 0;
}

static const char *usable(const char *verifier)
{
    struct scram_verifier parsed;
    struct err ignored = ERR_INIT;
    bool ok = scram_verifier_parse(verifier, &parsed, &ignored) == 0;
    explicit_bzero(&parsed, sizeof(parsed));
    return ok ? verifier : NULL;
}

static void read_catalog_row(const PGresult *r, int i, struct arena *a, struct pg_catalog *cat)
{
    const char *kind = PQgetvalue(r, i, 0), *name = arena_strdup(a, PQgetvalue(r, i, 1));
    if (kind[0] == 'm')
        read_mark(r, i, 1, cat->mark);
    else if (kind[0] == 'r' && !pg_role_name_reserved(name))
        cat->roles[cat->n_roles++] =
            (struct pg_catalog_role){ .name = name,
                                      .no_login = PQgetvalue(r, i, 3)[0] == 'f',
                                      .verifier = usable(arena_strdup(a, PQgetvalue(r, i, 4))),
                                      .valid_until = strtoll(PQgetvalue(r, i, 5), NULL, 10) };
    else if (kind[0] == 'd' && !pg_database_name_reserved(name))
        cat->databases[cat->n_databases++] =
            (struct pg_catalog_database){ .name = name, .owner_name = arena_strdup(a, PQgetvalue(r, i, 2)) };
}

int pg_admin_catalog(struct pg_admin *p, struct arena *a, struct pg_catalog *ret, struct err *err)
{
    static const char SQL[] =
        "SELECT 'm', " CATALOG_MARK ", NULL, NULL, NULL, NULL"
        " UNION ALL SELECT 'r', rolname, NULL, rolcanlogin, rolpassword,"
        /* What lies outside of these years would not fit, and is as good as never and long ago. */
        " CASE WHEN rolvaliduntil IS NULL OR rolvaliduntil > '9999-12-31' THEN 0"
        " WHEN rolvaliduntil < '1970-01-02' THEN 1"
        " ELSE (extract(epoch FROM rolvaliduntil) * 1000000)::bigint END FROM pg_authid"
        " UNION ALL SELECT 'd', datname, rolname, NULL, NULL, NULL FROM pg_database JOIN pg_authid ON datdba "
        "= "
        "pg_authid.oid";
    auto_result *r = NULL;
    *ret = (struct pg_catalog){ 0 };
    if (query(p, SQL, 0, NULL, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    int n = PQntuples(r);
    if (n > PG_CATALOG_MAX)
        return err_set(err, ERR_NOT_SUPPORTED, "the branch has more than %d roles and databases",
                       PG_CATALOG_MAX);
    ret->roles = arena_alloc(a, (size_t)n * sizeof(*ret->roles));
    ret->databases = arena_alloc(a, (size_t)n * sizeof(*ret->databases));
    for (int i = 0; i < n; i++)
        read_catalog_row(r, i, a, ret);
    return 0;
}

static int exists(struct pg_admin *p, const char *sql, const char *what, bool *ret, struct err *err)
{
    auto_result *r = NULL;
    if (query(p, sql, 1, &what, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    *ret = PQntuples(r) > 0;
    return 0;
}

static int role_exists(struct pg_admin *p, const char *name, bool *ret, struct err *err)
{
    return exists(p, "SELECT 1 FROM pg_roles WHERE rolname = $1", name, ret, err);
}

int pg_admin_database_exists(struct pg_admin *p, const char *name, bool *ret, struct err *err)
{
    return exists(p, "SELECT 1 FROM pg_database WHERE datname = $1", name, ret, err);
}

static void pq_free(void *p)
{
    PQfreemem(*(void **)p);
}
#define auto_pq CLEANUP(pq_free) char

/* Identifiers cannot be parameters of DDL: prefix "ident" middle "ident2" suffix 'literal', each quoted by
 * libpq. */
static int ddl(struct pg_admin *p, const char *prefix, const char *ident, const char *middle,
               const char *ident2, const char *suffix, const char *literal, struct err *err)
{
    auto_pq *a = NULL, *b = NULL, *lit = NULL;
    auto_result *r = NULL;
    pthread_mutex_lock(&p->mutex);
    if (p->conn) {
        a = PQescapeIdentifier(p->conn, ident, strlen(ident));
        b = ident2 ? PQescapeIdentifier(p->conn, ident2, strlen(ident2)) : NULL;
        lit = literal ? PQescapeLiteral(p->conn, literal, strlen(literal)) : NULL;
    }
    pthread_mutex_unlock(&p->mutex);
    if (!a || (ident2 && !b) || (literal && !lit))
        return err_set(err, ERR_UNAVAILABLE, "the session with the compute was lost");
    auto_free char *sql =
        xasprintf("%s %s%s%s%s%s%s", prefix, a, middle, b ? b : "", suffix, lit ? " " : "", lit ? lit : "");
    return query(p, sql, 0, NULL, DDL_TIMEOUT_MS, &r, err);
}

int pg_admin_role_ensure(struct pg_admin *p, const char *name, const char *verifier, bool no_login,
                         struct err *err)
{
    bool there;
    if (role_exists(p, name, &there, err) < 0)
        return -1;
    if (!there && ddl(p, "CREATE ROLE", name, "", NULL,
                      " CREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOSUPERUSER", NULL, err) < 0)
        return -1;
    if (no_login)
        return ddl(p, "ALTER ROLE", name, " NOLOGIN PASSWORD NULL", NULL, "", NULL, err);
    if (verifier)
        return ddl(p, "ALTER ROLE", name, " LOGIN PASSWORD", NULL, "", verifier, err);
    return 0;
}

/* Several followers may come at once, each with a session of its own: one of them does it. */
int pg_admin_replica_ensure(struct pg_admin *p, const char *verifier, struct err *err)
{
    bool there, same, locked;
    if (exists(p, "SELECT pg_advisory_lock(hashtext($1))", PG_REPLICA_ROLE, &locked, err) < 0 ||
        exists(p,
               "SELECT 1 FROM pg_authid WHERE rolname = '" PG_REPLICA_ROLE
               "' AND rolpassword = $1 AND rolcanlogin AND rolreplication",
               verifier, &same, err) < 0)
        return -1;
    if (same)
        return 0;
    if (role_exists(p, PG_REPLICA_ROLE, &there, err) < 0 ||
        (!there && ddl(p, "CREATE ROLE", PG_REPLICA_ROLE, "", NULL, "", NULL, err) < 0))
        return -1;
    return ddl(p, "ALTER ROLE", PG_REPLICA_ROLE, " LOGIN REPLICATION PASSWORD", NULL, "", verifier, err);
}

int pg_admin_role_drop(struct pg_admin *p, const char *name, struct err *err)
{
    bool there;
    if (role_exists(p, name, &there, err) < 0)
        return -1;
    return there ? ddl(p, "DROP ROLE", name, "", NULL, "", NULL, err) : 0;
}

static int end_sessions(struct pg_admin *p, const char *database, struct err *err)
{
    bool any;
    return exists(p, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1",
                  database, &any, err);
}

int pg_admin_database_ensure(struct pg_admin *p, const char *made_name, const char *name, const char *owner,
                             struct err *err)
{
    bool there, renamed = false;
    if (made_name && pg_admin_database_exists(p, made_name, &renamed, err) < 0)
        return -1;
    /* Sessions in it would stand in the way, as they would of a drop. */
    if (renamed && (end_sessions(p, made_name, err) < 0 ||
                    ddl(p, "ALTER DATABASE", made_name, " RENAME TO ", name, "", NULL, err) < 0))
        return -1;
    if (pg_admin_database_exists(p, name, &there, err) < 0)
        return -1;
    /* template0: nobody can be connected to it, which would stand in the way. */
    return there ? ddl(p, "ALTER DATABASE", name, " OWNER TO ", owner, "", NULL, err)
                 : ddl(p, "CREATE DATABASE", name, " TEMPLATE template0 OWNER ", owner, "", NULL, err);
}

int pg_admin_database_drop(struct pg_admin *p, const char *name, struct err *err)
{
    bool there;
    if (pg_admin_database_exists(p, name, &there, err) < 0)
        return -1;
    return there ? ddl(p, "DROP DATABASE", name, " WITH (FORCE)", NULL, "", NULL, err) : 0;
}

/* ---- extensions ---- */

int pg_admin_extensions(struct pg_admin *p, struct arena *a, struct pg_installed **ret, size_t *ret_n,
                        struct err *err)
{
    auto_result *r = NULL;
    if (query(p,
              "SELECT extname, extversion, nspname FROM pg_extension JOIN pg_namespace ON extnamespace = "
              "pg_namespace.oid",
              0, NULL, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    int n = PQntuples(r);
    *ret = arena_alloc(a, (size_t)(n + 1) * sizeof(**ret));
    *ret_n = (size_t)n;
    for (int i = 0; i < n; i++)
        (*ret)[i] = (struct pg_installed){ .name = arena_strdup(a, PQgetvalue(r, i, 0)),
                                           .version = arena_strdup(a, PQgetvalue(r, i, 1)),
                                           .schema = arena_strdup(a, PQgetvalue(r, i, 2)) };
    return 0;
}

/* Of a row of pg_namespace n: it is ours, and nobody else may create in it. */
#define IS_SAFE                                                                                              \
    "(n.nspowner = (SELECT oid FROM pg_authid WHERE rolname = '" PG_ADMIN_ROLE "') AND NOT EXISTS (SELECT "  \
    "1 FROM aclexplode(n.nspacl) AS g WHERE g.privilege_type = 'CREATE' AND g.grantee <> n.nspowner))"

static int unsafe(const char *schema, struct err *err)
{
    return err_set(err, ERR_CONFLICT,
                   "in schema \"%s\" others may create objects, which a superuser would run; choose another "
                   "schema that does not exist yet, or do it by SQL where that is allowed",
                   schema);
}

/* An extension and all that it requires: none may be one we would not install, or lie where others create. */
static int check_required(struct pg_admin *p, const char *name, struct err *err)
{
    static const char SQL[] =
        "WITH RECURSIVE needs (name) AS (SELECT $1::name UNION SELECT r.name FROM needs"
        " JOIN pg_available_extensions AS a ON a.name = needs.name"
        " JOIN pg_available_extension_versions AS v ON v.name = a.name AND v.version = a.default_version,"
        " unnest(v.requires) AS r (name))"
        " SELECT needs.name, n.nspname, " IS_SAFE " FROM needs LEFT JOIN pg_extension AS e"
        " ON e.extname = needs.name LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace";
    auto_result *r = NULL;
    if (query(p, SQL, 1, &name, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    for (int i = 0; i < PQntuples(r); i++) {
        const char *needed = PQgetvalue(r, i, 0);
        if (!pg_extension_is_allowed(needed) && strcmp(needed, "plpgsql") != 0)
            return err_set(err, ERR_INVALID, "it requires extension \"%s\", which may not be installed here",
                           needed);
        if (!PQgetisnull(r, i, 1) && PQgetvalue(r, i, 2)[0] != 't')
            return unsafe(PQgetvalue(r, i, 1), err);
    }
    return 0;
}

/* Where it goes: its control file may dictate that. NULL: into pg_catalog. */
static int target_schema(struct pg_admin *p, struct arena *a, const char *name, const char *version,
                         const char *schema, const char **ret, struct err *err)
{
    static const char SQL[] =
        "SELECT v.schema FROM pg_available_extension_versions AS v JOIN pg_available_extensions AS a"
        " ON a.name = v.name WHERE v.name = $1 AND v.version = coalesce($2, a.default_version)";
    const char *const params[] = { name, version };
    auto_result *r = NULL;
    if (query(p, SQL, 2, params, CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    if (PQntuples(r) != 1)
        return err_set(err, ERR_INVALID, "Postgres has no extension \"%s\" of this version", name);
    const char *fixed = PQgetisnull(r, 0, 0) ? NULL : PQgetvalue(r, 0, 0);
    if (fixed && schema && strcmp(fixed, schema) != 0)
        return err_set(err, ERR_CONFLICT, "it can be installed only into schema \"%s\"", fixed);
    *ret = arena_strdup(a, schema ? schema : fixed ? fixed : PG_EXTENSION_SCHEMA);
    if (strcmp(*ret, "pg_catalog") == 0)
        *ret = NULL;
    return 0;
}

static int ensure_schema(struct pg_admin *p, const char *schema, struct err *err)
{
    auto_result *r = NULL;
    if (query(p, "SELECT " IS_SAFE " FROM pg_namespace AS n WHERE n.nspname = $1", 1, &schema,
              CALL_TIMEOUT_MS, &r, err) < 0)
        return -1;
    if (PQntuples(r) > 0 && PQgetvalue(r, 0, 0)[0] != 't')
        return unsafe(schema, err);
    if (PQntuples(r) == 0 &&
        ddl(p, "CREATE SCHEMA", schema, " AUTHORIZATION ", PG_ADMIN_ROLE, "", NULL, err) < 0)
        return -1;
    return ddl(p, "GRANT USAGE ON SCHEMA", schema, " TO PUBLIC", NULL, "", NULL, err);
}

static int install_extension(struct pg_admin *p, struct arena *a, const char *name, const char *version,
                             const char *schema, struct err *err)
{
    const char *target = NULL;
    if (target_schema(p, a, name, version, schema, &target, err) < 0 ||
        (target && ensure_schema(p, target, err) < 0))
        return -1;
    return ddl(p, "CREATE EXTENSION IF NOT EXISTS", name, target ? " SCHEMA " : "", target,
               version ? " CASCADE VERSION" : " CASCADE", version, err);
}

int pg_admin_extension_ensure(struct pg_admin *p, struct arena *a, const char *name, const char *version,
                              const char *schema, struct err *err)
{
    struct pg_installed *list, *is = NULL;
    size_t n;
    if (pg_admin_extensions(p, a, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            is = &list[i];
    if (is && schema && strcmp(is->schema, schema) != 0)
        return err_set(err, ERR_CONFLICT, "it is in schema \"%s\" already", is->schema);
    if (is && (!version || strcmp(is->version, version) == 0))
        return 0;
    if (check_required(p, name, err) < 0)
        return -1;
    return is ? ddl(p, "ALTER EXTENSION", name, " UPDATE TO", NULL, "", version, err)
              : install_extension(p, a, name, version, schema, err);
}

int pg_admin_extension_drop(struct pg_admin *p, const char *name, struct err *err)
{
    return ddl(p, "DROP EXTENSION IF EXISTS", name, "", NULL, "", NULL, err);
}
