/*
 * once.c - keys that run now, and answers that are kept
 *
 * On the threads of the connections.  Answers may hold passwords and tokens, so they are sealed.
 */
#include "api/once.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/text.h"
#include "meta/replay.h"

#include <inttypes.h>
#include <string.h>

#define KEY_MAX       255
#define WAIT_MS       30000 /* for the first request; longer than any but one with ?wait= takes */
#define WAIT_SLICE_MS 500

struct once_run {
    struct once_run *next;
    const char *account, *key;
};

void once_init(struct once *all)
{
    pthread_condattr_t attr;

    *all = (struct once){ 0 };
    pthread_mutex_init(&all->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&all->freed, &attr);
    pthread_condattr_destroy(&attr);
}

void once_fini(struct once *all)
{
    pthread_cond_destroy(&all->freed);
    pthread_mutex_destroy(&all->mutex);
}

/* --- one at a time --- */

static bool is_running(const struct once *all, const struct once_run *run)
{
    for (const struct once_run *r = all->running; r != NULL; r = r->next)
        if (strcmp(r->key, run->key) == 0 && strcmp(r->account, run->account) == 0)
            return true;
    return false;
}

static void wait_a_slice(struct once *all)
{
    int64_t until_ms = clock_mono_ms() + WAIT_SLICE_MS;
    struct timespec until = { .tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000 };

    (void)pthread_cond_timedwait(&all->freed, &all->mutex, &until);
}

static int enter(struct once *all, const struct http_req *req, struct once_run *run, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    bool mine;

    pthread_mutex_lock(&all->mutex);
    while (is_running(all, run) && clock_mono_ms() < deadline_ms && !http_stopping(req))
        wait_a_slice(all);
    mine = !is_running(all, run);
    if (mine) {
        run->next = all->running;
        all->running = run;
    }
    pthread_mutex_unlock(&all->mutex);
    return mine ? 0
                : err_set(err, ERR_UNAVAILABLE,
                          "the first request with this Idempotency-Key is still being carried out; this one "
                          "did nothing");
}

static void leave(struct once *all, struct once_run *run)
{
    struct once_run **at = &all->running;

    pthread_mutex_lock(&all->mutex);
    while (*at != run)
        at = &(*at)->next;
    *at = run->next;
    pthread_cond_broadcast(&all->freed);
    pthread_mutex_unlock(&all->mutex);
}

/* --- what is kept --- */

static int check_key(const char *key, struct err *err)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < len; i++)
        if (key[i] <= ' ' || key[i] > '~')
            len = 0;
    return len >= 1 && len <= KEY_MAX
               ? 0
               : err_set(err, ERR_BAD_REQUEST,
                         "an Idempotency-Key is 1 to %d visible ASCII characters; nothing was changed",
                         KEY_MAX);
}

static const char *digest_of(const struct http_req *req, const char *body, size_t len)
{
    uint8_t parts[2][CRYPT_SHA256_SIZE], all[CRYPT_SHA256_SIZE];
    const char *target = arena_printf(req->arena, "%s %s", req->method, req->target);

    crypt_sha256(target, strlen(target), parts[0]);
    crypt_sha256(body, len, parts[1]);
    crypt_sha256(parts, sizeof(parts), all);
    return crypt_hex(req->arena, all, sizeof(all));
}

static const char *place(const struct http_req *req)
{
    return arena_printf(req->arena, "replay/%s/%s", req->account, req->idempotency_key);
}

static int answer_again(struct http_req *req, const struct replay *r, struct http_res *res, struct err *err)
{
    const char *text;
    json_t *body;

    if (r->answer == NULL)
        return err_set(err, ERR_CONFLICT,
                       "the first request with this Idempotency-Key was carried out, but its answer was lost "
                       "when the server ended; look at what it made");
    if (sched_unseal(req->sched, req->arena, place(req), r->answer, &text, err) < 0)
        return -1;
    body = json_loads(text, JSON_DECODE_ANY, NULL);
    if (body == NULL)
        return err_set(err, ERR_INTERNAL, "a kept answer cannot be read");
    res_header(res, "Idempotency-Replayed", "true");
    return res_json(res, (int)r->status, body);
}

static int find(struct http_req *req, const char *digest, struct http_res *res, bool *ret_found,
                struct err *err)
{
    struct replay r;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 ||
        replay_find(c, req->arena, req->account, req->idempotency_key, &r, ret_found, err) < 0)
        return -1;
    db_end(&c);
    if (*ret_found && r.created_at < clock_wall_us() - (int64_t)REPLAY_KEEP_S * 1000000)
        *ret_found = false; /* about to be pruned */
    if (!*ret_found)
        return 0;
    if (strcmp(r.digest, digest) != 0)
        return err_set(err, ERR_INVALID,
                       "this Idempotency-Key came before with another request; nothing was changed");
    return answer_again(req, &r, res, err);
}

/* --- the first time --- */

struct first {
    struct http_req *req;
    struct replay row;
    bool kept;
};

/* In the transaction that makes the change. */
static int keep(struct dbc *c, void *arg, struct err *err)
{
    struct first *f = arg;

    if (replay_delete(c, f->row.account, f->row.key, err) < 0 || replay_insert(c, &f->row, err) < 0)
        return -1;
    f->kept = true;
    return 0;
}

static int seal(struct first *f, const struct http_res *res, struct err *err)
{
    auto_free char *text = json_dumps(res->body, JSON_COMPACT | JSON_REAL_PRECISION(15) | JSON_ENCODE_ANY);

    f->row.status = res->status;
    return sched_seal(f->req->sched, f->req->arena, place(f->req), text, &f->row.answer, err);
}

/* Behind the change.  A handler that had nothing to change committed nothing. */
static int keep_answer(struct first *f, const struct http_res *res, struct err *err)
{
    auto_dbc *c = NULL;

    if (seal(f, res, err) < 0 || db_write(sched_db(f->req->sched), &c, err) < 0 ||
        (f->kept ? replay_update(c, &f->row, err) : keep(c, f, err)) < 0)
        return -1;
    return db_commit(c, err);
}

/* What failed behind its commit was undone, or says itself what is left. */
static void forget(struct first *f)
{
    struct err ignored = ERR_INIT;
    auto_dbc *c = NULL;

    if (f->kept && db_write(sched_db(f->req->sched), &c, &ignored) == 0 &&
        replay_delete(c, f->row.account, f->row.key, &ignored) == 0)
        (void)!db_commit(c, &ignored);
}

static int run_first(struct http_req *req, http_handler handler, const char *digest, struct http_res *res,
                     struct err *err)
{
    struct first f = { .req = req,
                       .row = { .account = req->account,
                                .key = req->idempotency_key,
                                .digest = digest,
                                .created_at = clock_wall_us() } };
    int rc;

    db_when_ending(keep, &f);
    rc = handler(req, res, err);
    db_when_ending(NULL, NULL);
    if (rc < 0) {
        forget(&f);
        return -1;
    }
    CRASH_POINT("once.made");
    if (keep_answer(&f, res, err) == 0)
        return 0;
    json_decref(TAKE(res->body));
    return err_set(
        err, ERR_INTERNAL,
        "the request was carried out, but its answer could not be kept for its Idempotency-Key; look "
        "at what it made");
}

int once_handle(struct once *all, struct http_req *req, http_handler handler, const char *body, size_t len,
                struct http_res *res, struct err *err)
{
    struct once_run run = { .account = req->account, .key = req->idempotency_key };
    const char *digest = digest_of(req, body, len);
    bool found = false;
    int rc;

    if (check_key(run.key, err) < 0 || enter(all, req, &run, err) < 0)
        return -1;
    rc = find(req, digest, res, &found, err);
    if (rc == 0 && !found)
        rc = run_first(req, handler, digest, res, err);
    leave(all, &run);
    return rc;
}
