/*
 * usage.h - what was used: time of computes and space, by branch and hour
 */
#ifndef MERE_META_USAGE_H
#define MERE_META_USAGE_H

#include "base/fields.h"
#include "meta/db.h"

#define USAGE_HOUR_US ((int64_t)3600 * 1000000)
#define USAGE_DAY_US  (24 * USAGE_HOUR_US)

/* A compute serves from now on; nothing when it is metered already. */
int usage_begin(struct dbc *c, const char *endpoint_id, int64_t now_us, struct err *err) MUST_CHECK;
/* What it ran since it was last noted is noted.  ended: nothing more will come. */
int usage_note(struct dbc *c, const char *endpoint_id, int64_t now_us, bool ended,
               struct err *err) MUST_CHECK;
/* It ended while nobody looked: what is not noted yet is not known. */
int usage_forget(struct dbc *c, const char *endpoint_id, struct err *err) MUST_CHECK;
/* One that has not been noted since before_us; *ret NULL = there is none. */
int usage_find_due(struct dbc *c, struct arena *a, int64_t before_us, const char **ret,
                   struct err *err) MUST_CHECK;

/* The space of a branch, as it was just measured, counts for this hour.  branch_id NULL: of every branch that
 * has none for it yet, as last measured. */
int usage_note_space(struct dbc *c, const char *branch_id, int64_t now_us, struct err *err) MUST_CHECK;
/* Is there no space in any row of this hour yet, though there is some? */
int usage_space_is_due(struct dbc *c, int64_t now_us, bool *ret, struct err *err) MUST_CHECK;
/* Hours that nobody can ask for by the hour any more become days; what is older than a year goes. */
int usage_fold(struct dbc *c, int64_t now_us, struct err *err) MUST_CHECK;

struct usage {
    const char *project_id;
    const char *branch_id; /* of all branches together: NULL */
    int64_t begins_at;     /* of the hour, day or month */
    int64_t active_us, cu_us;
    int64_t root_bytes, child_bytes, history_bytes; /* byte-hours */
};

struct usage_query {
    int64_t from_us, to_us;
    const char *granularity; /* hourly, daily, monthly */
    const char *project_ids; /* a JSON array; NULL = all */
    bool by_branch;
    const char *after; /* the last project, or branch, of the page before; NULL = from the start */
    int64_t limit;     /* projects, or branches */
};

/* By project, or branch, and time.  *ret_last: the last project or branch of the page, or NULL. */
int usage_list(struct dbc *c, struct arena *a, const struct usage_query *q, struct usage **ret, size_t *ret_n,
               const char **ret_last, struct err *err) MUST_CHECK;

#endif
