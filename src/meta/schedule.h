/*
 * schedule.h - backup schedules: when snapshots of a branch are taken by themselves
 */
#ifndef MERE_META_SCHEDULE_H
#define MERE_META_SCHEDULE_H

#include "base/fields.h"
#include "meta/db.h"

#define SCHEDULE_UNSET INT64_MIN /* a member that was not given */

struct schedule_entry {
    const char *frequency; /* hourly, daily, weekly, monthly, yearly */
    int64_t hour;          /* 0 to 23, of UTC; not of hourly */
    int64_t day;           /* of the week, 1 = Monday, or of the month; a shorter month means its last day */
    int64_t month;         /* 1 to 12, of yearly */
    int64_t retention_seconds;
};

struct schedule {
    const char *branch_id;
    const char *entries; /* a JSON array, as it was set */
    int64_t done_until;  /* nothing is due at or before this time any more */
};

/* Checks and reads an array of entries; ERR_INVALID with a pointer ("/schedule/0/hour"). */
int schedule_parse(struct arena *a, json_t *entries, const char *pointer, struct schedule_entry **ret,
                   size_t *ret_n, struct err *err) MUST_CHECK;

int schedule_find(struct dbc *c, struct arena *a, const char *branch_id, struct schedule *ret,
                  bool *ret_found, struct err *err) MUST_CHECK;
/* Of branches that users see, and that are made. */
int schedule_list(struct dbc *c, struct arena *a, struct schedule **ret, size_t *ret_n,
                  struct err *err) MUST_CHECK;
int schedule_put(struct dbc *c, const struct schedule *s, struct err *err) MUST_CHECK;
int schedule_set_done(struct dbc *c, const char *branch_id, int64_t done_until, struct err *err) MUST_CHECK;
int schedule_delete(struct dbc *c, const char *branch_id, struct err *err) MUST_CHECK;
/* To another branch, which has none. */
int schedule_move(struct dbc *c, const char *from_branch, const char *to_branch, struct err *err) MUST_CHECK;

#endif
