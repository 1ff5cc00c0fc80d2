/*
 * endpoint.h - endpoints: what is wanted, what is observed, who the process is
 */
#ifndef MERE_META_ENDPOINT_H
#define MERE_META_ENDPOINT_H

#include "base/proc.h"
#include "meta/db.h"

struct endpoint {
    const char *id;
    const char *project_id;
    const char *branch_id;
    const char *type; /* read_write, read_only */
    const char *name;
    const char *desired;  /* stopped, running, deleted */
    const char *observed; /* a compute state */
    bool disabled;
    int64_t suspend_timeout_seconds; /* 0 = default, -1 = never */
    bool park_sessions;              /* idle sessions outlive a suspend */
    double min_cu, max_cu;
    const char *pg_settings;       /* JSON object of strings */
    const char *preload_libraries; /* JSON object with enabled_libraries; NULL = the project's */
    const char *spec;              /* JSON object: what a client has set, as it set it; NULL = nothing */
    int64_t generation;
    struct proc_identity process;
    const char *last_error;
    const char *archive_failed_wal; /* what its archiver cannot keep; NULL = it works */
    int64_t archive_failed_at, archive_failed_count, archive_backlog;
    int64_t last_active, started_at, suspended_at;
    int64_t metered_until; /* usage.h; 0 = nothing is metered */
    int64_t created_at, updated_at;
};

/* ref: an id, or a name inside the project; an id wins.  ERR_NOT_FOUND; ERR_CONFLICT when several have the
 * name. */
int endpoint_get(struct dbc *c, struct arena *a, const char *project_id, const char *ref,
                 struct endpoint *ret, struct err *err) MUST_CHECK;
int endpoint_get_id(struct dbc *c, struct arena *a, const char *id, struct endpoint *ret,
                    struct err *err) MUST_CHECK; /* any desired */
/* The read_write endpoint of a branch; *ret_found false when it has none. */
int endpoint_find_writer(struct dbc *c, struct arena *a, const char *branch_id, struct endpoint *ret,
                         bool *ret_found, struct err *err) MUST_CHECK;
/* project_id or branch_id (the other NULL), or both NULL for all; not those with desired=deleted unless
 * with_deleted.  By created_at. */
int endpoint_list(struct dbc *c, struct arena *a, const char *project_id, const char *branch_id,
                  bool with_deleted, struct endpoint **ret, size_t *ret_n, struct err *err) MUST_CHECK;
/* ERR_CONFLICT "read-write endpoint already exists; branch_id:..." */
int endpoint_insert(struct dbc *c, const struct endpoint *e, struct err *err) MUST_CHECK;
/* What users set: name, disabled, suspend_timeout_seconds, park_sessions, min_cu, max_cu, pg_settings,
 * preload_libraries, spec, updated_at. */
int endpoint_update(struct dbc *c, const struct endpoint *e, struct err *err) MUST_CHECK;
/* deleted is final: a later wish changes nothing, and that is no error. */
int endpoint_set_desired(struct dbc *c, const char *id, const char *desired, int64_t now_us,
                         struct err *err) MUST_CHECK;
/* What the scheduler sets: observed, generation, process, last_error, last_active, started_at, suspended_at.
 */
int endpoint_set_observed(struct dbc *c, const struct endpoint *e, struct err *err) MUST_CHECK;
/* The archive_ members. */
int endpoint_set_archiver(struct dbc *c, const struct endpoint *e, struct err *err) MUST_CHECK;
int endpoint_delete(struct dbc *c, const char *id, struct err *err) MUST_CHECK;

/* All of one branch to another. */
int endpoint_move_all(struct dbc *c, const char *from_branch, const char *to_branch, int64_t now_us,
                      struct err *err) MUST_CHECK;

#endif
