/*
 * rate.c - token buckets, each kept as the time when it will be full
 *
 * One taken moves that time by the time one takes to come back; a window is empty when the time is further
 * away than the window is long.  So a bucket is three numbers, and nothing has to be done while time passes.
 */
#include "base/rate.h"

#include "base/text.h"

#define SECOND_US 1000000
#define RATE_MAX  1000000

static const int64_t WINDOW_US[RATE_WINDOWS] = { SECOND_US, 60 * (int64_t)SECOND_US,
                                                 600 * (int64_t)SECOND_US };

bool rate_parse(const char *text, struct rate_limit *ret)
{
    auto_free char *copy = xstrdup(text);
    char *rest = copy;
    struct rate_limit limit = { { 0 } };

    if (strcmp(text, "off") == 0) {
        *ret = limit;
        return true;
    }
    for (size_t i = 0; i < RATE_WINDOWS; i++) {
        const char *word = strsep(&rest, ",");

        if (word == NULL || !text_to_i64(word, 1, RATE_MAX, &limit.per_second[i]))
            return false;
    }
    if (rest != NULL)
        return false;
    *ret = limit;
    return true;
}

static int64_t after_one(const struct rate_bucket *b, const struct rate_limit *limit, size_t i,
                         int64_t now_us)
{
    int64_t from = b->full_at_us[i] > now_us ? b->full_at_us[i] : now_us;

    return from + SECOND_US / limit->per_second[i];
}

bool rate_take(struct rate_bucket *b, const struct rate_limit *limit, int64_t now_us)
{
    for (size_t i = 0; i < RATE_WINDOWS; i++)
        if (limit->per_second[i] > 0 && after_one(b, limit, i, now_us) > now_us + WINDOW_US[i])
            return false;
    for (size_t i = 0; i < RATE_WINDOWS; i++)
        if (limit->per_second[i] > 0)
            b->full_at_us[i] = after_one(b, limit, i, now_us);
    return true;
}

bool rate_is_full(const struct rate_bucket *b, int64_t now_us)
{
    for (size_t i = 0; i < RATE_WINDOWS; i++)
        if (b->full_at_us[i] > now_us)
            return false;
    return true;
}
