/*
 * meter.c - keeps the record of what is used up to date, in a worker
 *
 * A compute is noted when it ends (start.c), and here now and then while it runs, so that little is lost when
 * the machine goes down.  Space is noted when it is measured, and here for the hours in which it was not.
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "meta/usage.h"

#define NOTE_AGAIN_US 60000000

static int note_time(struct sched *s, struct arena *a, int64_t now, bool *ret_more, struct err *err)
{
    const char *id;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || usage_find_due(c, a, now - NOTE_AGAIN_US, &id, err) < 0)
        return -1;
    db_end(&c);
    *ret_more = id != NULL;
    if (!id)
        return 0;
    if (db_write(s->env.db, &c, err) < 0 || usage_note(c, id, now, false, err) < 0)
        return -1;
    return db_commit(c, err);
}

static int note_space(struct sched *s, int64_t now, struct err *err)
{
    bool due;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || usage_space_is_due(c, now, &due, err) < 0)
        return -1;
    db_end(&c);
    if (!due)
        return 0;
    if (db_write(s->env.db, &c, err) < 0 || usage_note_space(c, NULL, now, err) < 0 ||
        usage_fold(c, now, err) < 0)
        return -1;
    return db_commit(c, err);
}

int meter_sweep(struct sched *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    int64_t now = clock_wall_us();
    for (bool more = true; more;)
        if (note_time(s, a, now, &more, err) < 0)
            return -1;
    return note_space(s, now, err);
}
