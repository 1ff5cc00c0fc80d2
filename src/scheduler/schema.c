/*
 * schema.c - schemas, read from ephemeral computes
 *
 * Runs on the thread of the request.  What it leaves when the process dies is a temporary branch with an idle
 * compute: that suspends, and housekeeping discards the branch.
 */
#include "scheduler/schema.h"

#include "base/clock.h"
#include "base/diff.h"
#include "base/log.h"
#include "pg/dump.h"
#include "scheduler/intent_internal.h"

#include <inttypes.h>
#include <string.h>

#define READERS_MAX 4     /* requests at once */
#define OPEN_MS     60000 /* for a turn, the branch and its compute */
#define READ_MS     60000
#define SLICE_MS    500 /* how long a server that wants to stop may have to wait */
/* Our own session counts as no activity: the compute must outlive the reading. */
#define SUSPEND_S (READ_MS / 1000 + 30)

/* ---- turns ---- */

static int give_up(const atomic_bool *stopping, int64_t deadline_ms, const char *what, struct err *err)
{
    if (stopping && atomic_load(stopping))
        return err_set(err, ERR_UNAVAILABLE, "the server is about to stop; try again");
    if (clock_mono_ms() >= deadline_ms)
        return err_set(err, ERR_UNAVAILABLE, "%s; try again in a moment", what);
    return 0;
}

static int64_t slice_end(int64_t deadline_ms)
{
    int64_t end = clock_mono_ms() + SLICE_MS;
    return end < deadline_ms ? end : deadline_ms;
}

static int take_turn(struct sched *s, const atomic_bool *stopping, int64_t deadline_ms, struct err *err)
{
    for (;;) {
        uint64_t seen = sched_seen(s);
        pthread_mutex_lock(&s->change_mutex);
        bool taken = s->schema_readers < READERS_MAX;
        s->schema_readers += taken;
        pthread_mutex_unlock(&s->change_mutex);
        if (taken)
            return 0;
        if (give_up(stopping, deadline_ms, "too many schemas are being read", err) < 0)
            return -1;
        (void)sched_wait_change(s, seen, slice_end(deadline_ms));
    }
}

static void end_turn(struct sched *s)
{
    pthread_mutex_lock(&s->change_mutex);
    s->schema_readers--;
    pthread_mutex_unlock(&s->change_mutex);
    sched_changed(s);
}

/* ---- the compute to read from ---- */

struct reader {
    struct sched *s;
    struct arena *a;
    const atomic_bool *stopping;
    const char *branch_id; /* of the hidden branch, once there may be one; or NULL */
    const char *operation_id;
    const char *socket_dir;
    int64_t pg_version;
};

static void reader_close(struct reader *r)
{
    struct err err = ERR_INIT;
    if (r->branch_id && intent_branch_discard(r->s, r->a, r->branch_id, &err) < 0)
        log_event(LOG_WARN, "schema", "a temporary branch is left to the housekeeping", "br", r->branch_id,
                  "error", err.msg, "detail", err.detail, NULL);
}
#define auto_reader CLEANUP(reader_close) struct reader

/* It stands still and nobody has noted where: a fork of its head would start it, to recover it first. */
static int stands_unclean(struct sched *s, struct arena *a, const struct branch *b, bool *ret,
                          struct err *err)
{
    struct branch now;
    struct endpoint writer;
    bool found;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || branch_get_id(c, a, b->id, &now, err) < 0 ||
        endpoint_find_writer(c, a, b->id, &writer, &found, err) < 0)
        return -1;
    bool still = !found || strcmp(writer.observed, compute_state_name(COMPUTE_STOPPED)) == 0 ||
                 strcmp(writer.observed, compute_state_name(COMPUTE_FAILED)) == 0;
    *ret = still && strcmp(now.state, "init") != 0 && strcmp(now.volume, "ready") == 0 && now.head_lsn == 0;
    return 0;
}

/* Makes the branch; its compute is on its way. */
static int reader_open(struct reader *r, const struct schema_place *at, struct err *err)
{
    int64_t least = r->s->suspend_min_seconds;
    struct endpoint_spec endpoint = { .suspend_timeout_seconds = SUSPEND_S > least ? SUSPEND_S : least,
                                      .disabled = -1,
                                      .park_sessions = -1 };
    struct branch_spec spec = { .kind = "temporary",
                                .parent = at->branch->id,
                                .hidden_parent = !branch_is_seen(at->branch),
                                .parent_lsn = at->lsn,
                                .parent_timestamp = at->time_us,
                                .durability = "relaxed",
                                .is_protected = -1,
                                .endpoints = &endpoint,
                                .n_endpoints = 1,
                                .start = true };
    struct outcome out = { 0 };
    bool unclean = false;
    if (at->lsn == 0 && at->time_us == 0 && stands_unclean(r->s, r->a, at->branch, &unclean, err) < 0)
        return -1;
    if (unclean)
        spec.parent_timestamp = clock_wall_us();
    int rc = intent_branch_create(r->s, r->a, at->branch->project_id, &spec, &out, err);
    r->branch_id = out.branch.id;
    if (rc < 0) {
        const struct intent_pointer here[] = { { "/branch/parent_lsn", at->lsn_pointer },
                                               { "/branch/parent_timestamp", at->time_pointer } };
        if (err->code == ERR_CONFLICT)
            err->code =
                ERR_UNAVAILABLE; /* whoever reads stands against nothing: it may go well the next time */
        return intent_point_here(err, "/branch", here, N_ELEMENTS(here));
    }
    r->operation_id = out.operations[out.n_operations - 1].id;
    r->socket_dir = env_socket_dir(&r->s->env, r->a, out.endpoints[0].id);
    r->pg_version = out.project.pg_version;
    CRASH_POINT("schema.opened");
    return 0;
}

static int reader_wait(struct reader *r, int64_t deadline_ms, struct err *err)
{
    struct operation o;
    int done = 0;
    while (done == 0) {
        if (give_up(r->stopping, deadline_ms, "the compute that reads the schema has not started yet", err) <
            0)
            return -1;
        done =
            sched_wait_operation(r->s, r->operation_id, (int)(slice_end(deadline_ms) - clock_mono_ms()), err);
    }
    auto_dbc *c = NULL;
    if (done < 0 || db_read(r->s->env.db, &c, err) < 0 ||
        operation_get_id(c, r->a, r->operation_id, &o, err) < 0)
        return -1;
    if (strcmp(o.status, "finished") != 0)
        return err_set(err, ERR_UNAVAILABLE, "the compute that reads the schema did not start: %s",
                       o.error ? o.error : o.status);
    CRASH_POINT("schema.started");
    return 0;
}

static int reader_sql(struct reader *r, const char *database, struct buf *ret, struct err *err)
{
    const struct pg_install *install = env_install(&r->s->env, r->pg_version);
    if (!install)
        return err_set(err, ERR_PRECONDITION, "Postgres %" PRId64 " is not installed here any more",
                       r->pg_version);
    if (pg_schema_find(r->socket_dir, database, err) < 0)
        return -1;
    return pg_schema_sql(r->a, install->bindir, r->socket_dir, database, READ_MS, r->stopping, ret, err);
}

/* ---- entry points ---- */

static int read_sql(struct sched *s, struct arena *a, const struct schema_place *at, const char *database,
                    const atomic_bool *stopping, int64_t deadline_ms, struct buf *ret, struct err *err)
{
    auto_reader r = { .s = s, .a = a, .stopping = stopping };
    if (reader_open(&r, at, err) < 0 || reader_wait(&r, deadline_ms, err) < 0)
        return -1;
    return reader_sql(&r, database, ret, err);
}

int schema_sql(struct sched *s, struct arena *a, const struct schema_place *at, const char *database,
               const atomic_bool *stopping, struct buf *ret, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + OPEN_MS;
    if (take_turn(s, stopping, deadline_ms, err) < 0)
        return -1;
    int rc = read_sql(s, a, at, database, stopping, deadline_ms, ret, err);
    end_turn(s);
    return rc;
}

static int read_json(struct sched *s, struct arena *a, const struct schema_place *at, const char *database,
                     const atomic_bool *stopping, int64_t deadline_ms, json_t **ret, struct err *err)
{
    auto_reader r = { .s = s, .a = a, .stopping = stopping };
    if (reader_open(&r, at, err) < 0 || reader_wait(&r, deadline_ms, err) < 0 ||
        pg_schema_find(r.socket_dir, database, err) < 0)
        return -1;
    return pg_schema_json(r.socket_dir, database, ret, err);
}

int schema_json(struct sched *s, struct arena *a, const struct schema_place *at, const char *database,
                const atomic_bool *stopping, json_t **ret, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + OPEN_MS;
    if (take_turn(s, stopping, deadline_ms, err) < 0)
        return -1;
    int rc = read_json(s, a, at, database, stopping, deadline_ms, ret, err);
    end_turn(s);
    return rc;
}

/* Both computes start beside each other. */
static int read_both(struct sched *s, struct arena *a, const struct schema_place *base,
                     const struct schema_place *at, const char *database, const atomic_bool *stopping,
                     int64_t deadline_ms, struct buf *old, struct buf *new, struct err *err)
{
    auto_reader of_base = { .s = s, .a = a, .stopping = stopping }, of_at = of_base;
    if (reader_open(&of_base, base, err) < 0 || reader_open(&of_at, at, err) < 0 ||
        reader_wait(&of_base, deadline_ms, err) < 0 || reader_sql(&of_base, database, old, err) < 0 ||
        reader_wait(&of_at, deadline_ms, err) < 0)
        return -1;
    return reader_sql(&of_at, database, new, err);
}

int schema_compare(struct sched *s, struct arena *a, const struct schema_place *base,
                   const struct schema_place *at, const char *database, const atomic_bool *stopping,
                   struct buf *ret, struct err *err)
{
    auto_buf old = { 0 }, new = { 0 };
    int64_t deadline_ms = clock_mono_ms() + OPEN_MS;
    if (take_turn(s, stopping, deadline_ms, err) < 0)
        return -1;
    int rc = read_both(s, a, base, at, database, stopping, deadline_ms, &old, &new, err);
    if (rc == 0)
        rc = diff_unified(&old, arena_printf(a, "a/%s", database), &new, arena_printf(a, "b/%s", database),
                          ret, err);
    end_turn(s);
    return rc;
}
