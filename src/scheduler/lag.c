/*
 * lag.c - asks a follower what it shows, and its branch what there is
 */
#include "scheduler/lag.h"

#include "base/clock.h"
#include "pg/admin.h"
#include "scheduler/internal.h"

#include <string.h>

#define ADMIN_OPEN_MS 2000

static bool runs(const struct endpoint *e)
{
    return strcmp(e->observed, compute_state_name(COMPUTE_RUNNING)) == 0;
}

static int read_rows(struct sched *s, struct arena *a, const struct endpoint *e, struct branch *ret_branch,
                     struct endpoint *ret_writer, bool *ret_awake, struct err *err)
{
    auto_dbc *c = NULL;
    bool found;
    if (db_read(s->env.db, &c, err) < 0 || branch_get_id(c, a, e->branch_id, ret_branch, err) < 0 ||
        endpoint_find_writer(c, a, e->branch_id, ret_writer, &found, err) < 0)
        return -1;
    *ret_awake = found && runs(ret_writer);
    return 0;
}

static int ask_writer(struct sched *s, struct arena *a, const char *endpoint_id, uint64_t *ret,
                      struct err *err)
{
    struct pg_admin *admin = NULL;
    int rc = pg_admin_open(env_socket_dir(&s->env, a, endpoint_id), ADMIN_OPEN_MS, &admin, err);
    if (rc == 0)
        rc = pg_admin_flushed(admin, ret, err);
    pg_admin_close(admin);
    return rc;
}

static int ask_follower(struct sched *s, struct arena *a, const char *endpoint_id, uint64_t *ret_lsn,
                        int64_t *ret_commit_us, struct err *err)
{
    struct pg_admin *admin = NULL;
    int rc = pg_admin_open(env_socket_dir(&s->env, a, endpoint_id), ADMIN_OPEN_MS, &admin, err);
    if (rc == 0)
        rc = pg_admin_replayed(admin, ret_lsn, ret_commit_us, err);
    pg_admin_close(admin);
    return rc;
}

void lag_measure(struct sched *s, struct arena *a, const struct endpoint *e, struct lag *ret)
{
    struct err ignored = ERR_INIT;
    struct branch b;
    struct endpoint writer;
    bool awake;
    int64_t commit_us;
    uint64_t head;
    *ret = (struct lag){ 0 };
    if (strcmp(e->type, "read_only") != 0 || !runs(e) ||
        read_rows(s, a, e, &b, &writer, &awake, &ignored) < 0)
        return;
    /* The head first: what is written meanwhile is no lag. */
    head = b.head_lsn;
    if ((awake && ask_writer(s, a, writer.id, &head, &ignored) < 0) ||
        ask_follower(s, a, e->id, &ret->replay_lsn, &commit_us, &ignored) < 0)
        return;
    ret->known = true;
    ret->bytes = head > ret->replay_lsn ? (int64_t)(head - ret->replay_lsn) : 0;
    ret->us = ret->bytes > 0 && commit_us > 0 ? clock_wall_us() - commit_us : 0;
}
