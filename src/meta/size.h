/*
 * size.h - how much space a branch takes, as it was last measured
 */
#ifndef MERE_META_SIZE_H
#define MERE_META_SIZE_H

#include "meta/branch.h"

struct branch_size {
    const char *branch_id;
    int64_t logical_bytes; /* of its data files, shared or not */
    int64_t own_bytes;     /* of these, what no other volume shares */
    int64_t history_bytes; /* of its WAL archive, and of its images what nothing else shares */
    int64_t n_images;
    uint64_t history_from; /* of the branch at that time */
    int64_t measured_at;
};

int size_get(struct dbc *c, struct arena *a, const char *branch_id, struct branch_size *ret, bool *ret_found,
             struct err *err) MUST_CHECK;
int size_put(struct dbc *c, const struct branch_size *size, struct err *err) MUST_CHECK;
/*
 * The id of one that has a volume of its own and was not measured since it changed: never, not since it was
 * suspended or part of its history went; or it runs and was not measured since before_us.
 */
int size_find_due(struct dbc *c, struct arena *a, int64_t before_us, struct branch_size *ret, bool *ret_found,
                  struct err *err) MUST_CHECK;

#endif
