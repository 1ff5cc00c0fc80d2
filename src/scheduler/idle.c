#include "scheduler/idle.h"

void idle_begin(struct idle *i, int64_t now_us)
{
    *i = (struct idle){ .active_us = now_us };
}

bool idle_update(struct idle *i, const struct pg_activity *look, int64_t now_us)
{
    bool going_on = look->busy_backends > 0 || look->replication > 0 || look->autovacuum > 0;
    bool changed =
        i->seen && (look->sessions != i->last.sessions || look->active_time != i->last.active_time);
    bool newer = look->last_change_us > i->active_us;
    if (going_on || changed)
        i->active_us = now_us;
    else if (newer)
        i->active_us = look->last_change_us < now_us ? look->last_change_us : now_us;
    i->last = *look;
    i->seen = true;
    return going_on || changed || newer;
}

int64_t idle_due_ms(const struct idle *i, int64_t timeout_ms, int64_t now_us)
{
    if (timeout_ms < 0)
        return INT64_MAX;
    int64_t left = timeout_ms - (now_us - i->active_us) / 1000;
    return left > 0 ? left : 0;
}

int64_t idle_look_ms(int64_t timeout_ms, int64_t due_ms)
{
    const int64_t at_least = 200, at_most = 5000;
    int64_t wait = timeout_ms < 0 ? at_most : timeout_ms / 5;
    if (due_ms < wait)
        wait = due_ms;
    return wait < at_least ? at_least : wait > at_most ? at_most : wait;
}
