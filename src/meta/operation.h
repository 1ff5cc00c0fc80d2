/*
 * operation.h - operations: the job queue and the history users see
 */
#ifndef MERE_META_OPERATION_H
#define MERE_META_OPERATION_H

#include "meta/db.h"

struct operation {
    int64_t seq;
    const char *id;
    const char *project_id;
    const char *branch_id;
    const char *endpoint_id;
    const char *action; /* create_timeline, create_branch, start_compute, suspend_compute, apply_config,
                           delete_timeline, ... */
    const char *status; /* scheduling, running, finished, failed, cancelled, skipped */
    const char *args;   /* of its action, ours: the hidden branch it works with; never shown */
    const char *error;
    int64_t failures_count;
    int64_t retry_at;
    int64_t total_duration_ms;
    const char *phases; /* of a start that has ended: {"wait_ms": …, …}, as the API tells it; NULL = none */
    int64_t created_at, updated_at;
};

int operation_get(struct dbc *c, struct arena *a, const char *project_id, const char *id,
                  struct operation *ret, struct err *err) MUST_CHECK;
int operation_get_id(struct dbc *c, struct arena *a, const char *id, struct operation *ret,
                     struct err *err) MUST_CHECK;
/* Newest first; the cursor is the RFC 3339 microsecond time of the last item, as Neon's. */
int operation_list(struct dbc *c, struct arena *a, const char *project_id, struct page *page,
                   struct operation **ret, size_t *ret_n, struct err *err) MUST_CHECK;
/* Those scheduling or running, oldest first. */
int operation_list_open(struct dbc *c, struct arena *a, struct operation **ret, size_t *ret_n,
                        struct err *err) MUST_CHECK;
/* o->seq is set, and created_at moved to be later than that of every earlier one of the project.  status may
 * be finished at once. */
int operation_insert(struct dbc *c, struct operation *o, struct err *err) MUST_CHECK;
/* status, error, failures_count, retry_at, phases; updates total_duration_ms and updated_at from now_us. */
int operation_update(struct dbc *c, struct operation *o, int64_t now_us, struct err *err) MUST_CHECK;
/* Removes finished ones older than before_us; at most limit rows. */
int operation_prune(struct dbc *c, int64_t before_us, int64_t limit, struct err *err) MUST_CHECK;

#endif
