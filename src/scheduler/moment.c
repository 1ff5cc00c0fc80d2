/*
 * moment.c - from "branch at LSN" or "branch at time" to a place in its history and an image before it
 */
#include "scheduler/moment.h"

#include "base/clock.h"
#include "base/text.h"
#include "branch/history.h"
#include "meta/bookmark.h"
#include "meta/endpoint.h"
#include "pg/admin.h"
#include "scheduler/internal.h"

#include <string.h>

#define ADMIN_OPEN_MS 5000
#define HEAD_TRIES    3

struct sched *moment_hold(struct sched *s)
{
    pthread_rwlock_rdlock(&s->history_lock);
    return s;
}

void moment_releasep(struct sched **s)
{
    if (*s)
        pthread_rwlock_unlock(&(*s)->history_lock);
}

/* ---- the head ---- */

static int read_branch(struct sched *s, struct arena *a, const char *id, struct branch *ret,
                       struct endpoint *ret_writer, bool *ret_running, struct err *err)
{
    auto_dbc *c = NULL;
    bool found;
    if (db_read(s->env.db, &c, err) < 0 || branch_get_id(c, a, id, ret, err) < 0 ||
        endpoint_find_writer(c, a, id, ret_writer, &found, err) < 0)
        return -1;
    *ret_running = found && strcmp(ret_writer->observed, compute_state_name(COMPUTE_RUNNING)) == 0;
    return 0;
}

/* A place that is on disk; the end of a record when a marker may be written. */
static int ask_compute(struct sched *s, struct arena *a, const char *endpoint_id, bool mark, uint64_t *ret,
                       struct err *err)
{
    struct pg_admin *admin = NULL;
    int rc = pg_admin_open(env_socket_dir(&s->env, a, endpoint_id), ADMIN_OPEN_MS, &admin, err);
    if (rc == 0)
        rc = mark ? pg_admin_mark(admin, "moment", ret, err) : pg_admin_flush_lsn(admin, ret, err);
    pg_admin_close(admin);
    return rc;
}

/* A question leaves no mark, so that it has to find the last whole record itself. */
static int find_running_head(struct sched *s, struct arena *a, const struct branch *b,
                             const char *endpoint_id, bool mark, uint64_t *ret, struct err *err)
{
    struct history h;
    if (ask_compute(s, a, endpoint_id, mark, ret, err) < 0)
        return -1;
    if (mark)
        return 0;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || history_find(&s->env, c, a, b, *ret, NULL, &h, err) < 0)
            return -1;
    }
    return history_floor(&h, ret, err);
}

/* Started but neither running nor cleanly stopped: what is valid on disk is what the next start will find. */
static int scan_for_head(struct sched *s, struct arena *a, const struct branch *b, uint64_t *ret,
                         struct err *err)
{
    struct history h;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || history_find(&s->env, c, a, b, INT64_MAX, NULL, &h, err) < 0)
            return -1;
    }
    return history_end(&h, ret, err);
}

/* The branch may be stopped, or have been started, while we look: *b is what it is at the answer. */
static int find_head(struct sched *s, struct arena *a, struct branch *b, bool mark, uint64_t *ret,
                     struct err *err)
{
    struct endpoint writer;
    struct image image;
    bool running;
    if (strcmp(b->state, "init") == 0)
        return err_set(err, ERR_UNAVAILABLE, "branch \"%s\" is still being made; try again in a moment",
                       b->name);
    if (read_branch(s, a, b->id, b, &writer, &running, err) < 0)
        return -1;
    /* It may stop meanwhile, and where a segment ends inside a record that is being written, that looks like
     * damage for a moment. */
    struct err why = ERR_INIT;
    for (int i = 0; i < HEAD_TRIES && strcmp(b->volume, "ready") == 0 && running; i++) {
        why = (struct err)ERR_INIT;
        if (find_running_head(s, a, b, writer.id, mark, ret, &why) == 0)
            return 0;
        if (read_branch(s, a, b->id, b, &writer, &running, err) < 0)
            return -1;
        if (why.code == ERR_UNAVAILABLE || why.code == ERR_TIMEOUT)
            break;
    }
    if (strcmp(b->volume, "ready") == 0 && running) {
        *err = why;
        return -1;
    }
    if (strcmp(b->volume, "ready") == 0) {
        *ret = b->head_lsn;
        return b->head_lsn != 0 ? 0 : scan_for_head(s, a, b, ret, err);
    }
    *ret = b->parent_lsn;
    if (b->parent_id)
        return 0;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || image_get(c, a, b->image_id, &image, err) < 0)
        return -1;
    *ret = image.lsn;
    return 0;
}

/* ---- the window ---- */

static int out_of_window(const struct moment_window *w, const char *pointer, const char *what,
                         struct err *err)
{
    char from[LSN_TEXT_SIZE], to[LSN_TEXT_SIZE], since[TIME_TEXT_SIZE], until[TIME_TEXT_SIZE];
    text_lsn(w->earliest_lsn, from);
    text_lsn(w->latest_lsn, to);
    text_time_us(w->earliest_us, since);
    text_time_us(w->latest_us, until);
    err_field(err, ERR_INVALID, pointer,
              "%s; what can be reached is %s to %s (%s to %s); nothing was changed", what, from, to, since,
              until);
    return err_members(err,
                       "\"earliest_lsn\": \"%s\", \"latest_lsn\": \"%s\", \"earliest_timestamp\": \"%s\", "
                       "\"latest_timestamp\": \"%s\"",
                       from, to, since, until);
}

static int read_window(struct sched *s, struct arena *a, const struct branch *b, uint64_t head,
                       struct moment_window *ret, struct err *err)
{
    auto_dbc *c = NULL;
    *ret = (struct moment_window){ .latest_lsn = head, .latest_us = clock_wall_us() };
    if (db_read(s->env.db, &c, err) < 0)
        return -1;
    return history_earliest(c, a, b, &ret->earliest_lsn, &ret->earliest_us, err);
}

/* ---- resolving ---- */

/* timed: from where it can be read what t_us means. */
static int find_history(struct sched *s, struct arena *a, const struct branch *b, uint64_t lsn, bool timed,
                        int64_t t_us, struct history *ret, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0)
        return -1;
    return timed ? history_find_time(&s->env, c, a, b, lsn, t_us, ret, err)
                 : history_find(&s->env, c, a, b, lsn, NULL, ret, err);
}

const char *moment_kind_name(enum moment_kind k)
{
    static const char *const NAMES[] = { [MOMENT_PRESENT] = "present",
                                         [MOMENT_PAST] = "past",
                                         [MOMENT_FUTURE] = "future",
                                         [MOMENT_NO_DATA] = "no_data" };
    return NAMES[k];
}

static int resolve_time(struct sched *s, struct arena *a, const struct branch *b, int64_t time_us,
                        uint64_t head, struct moment *ret, struct err *err)
{
    struct history h;
    struct history_place place;
    if (find_history(s, a, b, head, true, time_us, &h, err) < 0 ||
        history_locate_time(&h, time_us, &place, err) < 0)
        return -1;
    bool after = place.lsn < head, before = place.stamp_us != 0;
    ret->lsn = place.lsn;
    ret->kind = after && before ? MOMENT_PRESENT
                : after         ? MOMENT_PAST
                : before        ? MOMENT_FUTURE
                                : MOMENT_NO_DATA;
    return 0;
}

/* When the place was: of the newest commit in it, or of its image when there is none. */
static int find_time(struct sched *s, struct arena *a, const struct branch *b, const struct history *h,
                     const struct history_place *place, int64_t *ret_us, struct err *err)
{
    struct history whole = *h;
    struct history_place at = *place;
    if (h->image.stamp_us < 0 && (find_history(s, a, b, h->lsn, true, INT64_MAX, &whole, err) < 0 ||
                                  history_locate(&whole, &at, err) < 0))
        return -1;
    *ret_us = at.stamp_us != 0 ? at.stamp_us : whole.image.created_at;
    return 0;
}

static int check_time(const struct moment_window *w, int64_t time_us, const char *pointer, struct err *err)
{
    if (pointer && time_us > w->latest_us)
        return out_of_window(w, pointer, "this time lies in the future", err);
    if (pointer && time_us < w->earliest_us)
        return out_of_window(w, pointer, "this time lies before the history that is kept", err);
    return 0;
}

static int check_lsn(const struct moment_window *w, uint64_t lsn, const char *pointer, struct err *err)
{
    pointer = pointer ? pointer : "/lsn";
    if (lsn > w->latest_lsn)
        return out_of_window(w, pointer, "this LSN lies beyond the head of the branch", err);
    if (lsn < w->earliest_lsn)
        return out_of_window(w, pointer, "this LSN lies before the history that is kept", err);
    return 0;
}

int moment_resolve(struct sched *s, struct arena *a, const struct branch *b, uint64_t lsn, int64_t time_us,
                   const char *pointer, struct moment *ret, struct err *err)
{
    struct branch now = *b;
    struct moment_window window;
    struct history h;
    struct history_place place;
    uint64_t head;
    auto_moment *hold UNUSED = moment_hold(s);
    *ret = (struct moment){ .lsn = lsn, .time_us = time_us, .branch_id = b->id };
    if (find_head(s, a, &now, pointer != NULL, &head, err) < 0 ||
        read_window(s, a, &now, head, &window, err) < 0)
        return -1;
    if (time_us != 0 && (check_time(&window, time_us, pointer, err) < 0 ||
                         resolve_time(s, a, &now, time_us, head, ret, err) < 0))
        return -1;
    if (check_lsn(&window, ret->lsn, pointer, err) < 0 ||
        find_history(s, a, &now, ret->lsn, false, 0, &h, err) < 0 || history_locate(&h, &place, err) < 0)
        return -1;
    ret->image_id = h.image.id;
    return time_us == 0 ? find_time(s, a, &now, &h, &place, &ret->time_us, err) : 0;
}

int moment_head(struct sched *s, struct arena *a, const struct branch *b, struct moment *ret, struct err *err)
{
    struct branch now = *b;
    uint64_t head;
    int64_t time_us = clock_wall_us();
    auto_moment *hold UNUSED = moment_hold(s);
    if (find_head(s, a, &now, true, &head, err) < 0 || moment_resolve(s, a, b, head, 0, NULL, ret, err) < 0)
        return -1;
    ret->time_us = time_us;
    return 0;
}

int moment_of_bookmark(struct sched *s, struct arena *a, const struct branch *b, const char *name,
                       const char *pointer, struct moment *ret, struct err *err)
{
    struct bookmark bookmark;
    struct branch hold = { 0 };
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0)
            return -1;
        if (bookmark_get(c, a, b->id, name, &bookmark, err) < 0)
            return err->code != ERR_NOT_FOUND
                       ? -1
                       : err_field(err, ERR_NOT_FOUND, pointer ? pointer : "",
                                   "bookmark not found: branch \"%s\" has no \"%.63s\"", b->name, name);
        if (bookmark.hold_id && branch_get_id(c, a, bookmark.hold_id, &hold, err) < 0)
            return -1;
    }
    if (!bookmark.hold_id && moment_resolve(s, a, b, bookmark.lsn, 0, pointer, ret, err) < 0)
        return -1;
    if (bookmark.hold_id)
        *ret = (struct moment){ .lsn = bookmark.lsn, .branch_id = b->id, .image_id = hold.image_id };
    ret->time_us = bookmark.timestamp;
    return 0;
}
