/*
 * rate.h - how often something may happen: a second, a minute and ten minutes looked at together
 *
 * Pure: the caller gives the time and owns the buckets.  A zeroed bucket is a full one.
 */
#ifndef MERE_RATE_H
#define MERE_RATE_H

#include "base/base.h"

#define RATE_WINDOWS 3 /* 1 s, 60 s, 600 s */

/* How many a second, on average over each window; all 0 = any number. */
struct rate_limit {
    int64_t per_second[RATE_WINDOWS];
};

struct rate_bucket {
    int64_t full_at_us[RATE_WINDOWS]; /* when nothing is missing any more, on the monotonic clock */
};

/* "500,300,200", each from 1 to 1000000; or "off". */
bool rate_parse(const char *text, struct rate_limit *ret);
/* Takes one of each window; false, and nothing taken, when one of them is empty. */
bool rate_take(struct rate_bucket *b, const struct rate_limit *limit, int64_t now_us);
/* Nothing is missing: it need not be remembered. */
bool rate_is_full(const struct rate_bucket *b, int64_t now_us);

#endif
